//! The whole project as values, before a line of it is written: which source lands where, which
//! model and cube a table becomes, and how tables refer to each other.

use std::collections::HashMap;

use ballpoint_runtime::segment::TableName;
use ballpoint_source::profile::{ColumnProfile, DatabaseProfile, TableProfile};

use super::names::{self, Taken};
use super::roles::{self, Role};

/// A database with what was found in it.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) profile: DatabaseProfile,
    /// Tables that are not to be loaded.
    pub(crate) left_out: Vec<TableName>,
}

/// Everything that the files are written from.
pub(crate) struct Layout {
    pub(crate) project: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) tables: Vec<Table>,
}

/// One schema of one database.
pub(crate) struct Source {
    pub(crate) name: String,
    /// Index into the databases.
    pub(crate) database: usize,
    /// The environment variable that holds its URL.
    pub(crate) variable: String,
    /// Where it lands.
    pub(crate) schema: String,
    pub(crate) patterns: Vec<String>,
}

/// A table on its way to a model and a cube.
pub(crate) struct Table {
    pub(crate) source: usize,
    pub(crate) profile: TableProfile,
    /// Its name in words, in the singular: `order item`.
    pub(crate) noun: Vec<String>,
    pub(crate) model: String,
    pub(crate) cube: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) references: Vec<Reference>,
}

/// A column of a staging model.
pub(crate) struct Column {
    pub(crate) profile: ColumnProfile,
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
    pub(crate) role: Role,
}

/// Many rows here to one row there.
pub(crate) struct Reference {
    /// Names in the staging model, here and there.
    pub(crate) columns: Vec<String>,
    pub(crate) target: usize,
    pub(crate) target_columns: Vec<String>,
    /// What the row there is to the row here: `customer`, `billing address`.
    pub(crate) stem: Vec<String>,
    /// The cube to join: the target's own for its first reference, a copy for each further one.
    pub(crate) cube: String,
}

impl Reference {
    pub(crate) fn is_copy(&self, tables: &[Table]) -> bool {
        self.cube != tables[self.target].cube
    }
}

impl Table {
    /// The column of the source's own `name`.
    pub(crate) fn column_of(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.profile.name == name)
    }

    /// The staged names of the primary key.
    pub(crate) fn key(&self) -> Vec<String> {
        let staged = |name: &String| self.column_of(name).map(|column| column.name.clone());
        self.profile.primary_key.iter().filter_map(staged).collect()
    }

    /// The time at which a row happened.
    pub(crate) fn time(&self) -> Option<&Column> {
        let mut best: Option<(u8, &Column)> = None;
        for column in self.columns.iter().filter(|it| it.role == Role::Time) {
            let score =
                2 * roles::happening(&column.words, &self.noun) + u8::from(column.profile.not_null);
            let empty = self.profile.sampled_rows > 0 && column.profile.filled == Some(0);
            if !empty && best.is_none_or(|(old, _)| score > old) {
                best = Some((score, column));
            }
        }
        best.map(|(_, column)| column)
    }
}

/// Lays the project out.
pub(crate) fn lay_out(
    project: &str,
    databases: &[Database],
    taken_variable: &dyn Fn(&str, &str) -> bool,
) -> Layout {
    let mut layout = Layout {
        project: project.to_owned(),
        sources: sources(databases, taken_variable),
        tables: Vec::new(),
    };
    let (mut models, mut cubes) = (Taken::default(), Taken::default());
    let mut at: HashMap<(usize, i64), usize> = HashMap::new();
    for source in 0..layout.sources.len() {
        let database = layout.sources[source].database;
        let schema = schema_of(&layout.sources[source]).to_owned();
        let own = databases[database].profile.tables.iter();
        for profile in own.filter(|table| table.table.schema == schema) {
            at.insert((database, profile.oid), layout.tables.len());
            let table = table(
                source,
                &layout.sources[source].name,
                profile,
                &mut models,
                &mut cubes,
            );
            layout.tables.push(table);
        }
    }
    super::references::resolve(&mut layout, &at, &mut cubes);
    layout
}

/// The schema that a source's first pattern names: it covers one schema.
fn schema_of(source: &Source) -> &str {
    source.patterns[0].strip_suffix(".*").unwrap_or_default()
}

/// A source a schema: two schemas may have tables of one name, and a source lands in one place.
fn sources(databases: &[Database], taken_variable: &dyn Fn(&str, &str) -> bool) -> Vec<Source> {
    let (mut names_given, mut variables) = (Taken::default(), Taken::default());
    for reserved in ["warehouse", "postgres", "template0", "template1"] {
        names_given.give(reserved);
    }
    let mut out = Vec::new();
    for (database, found) in databases.iter().enumerate() {
        let base =
            names::snake(&names::words(&found.profile.database)).unwrap_or_else(|| "source".into());
        let mut variable = variables.give(&format!("{base}_url").to_uppercase());
        while taken_variable(&variable, &found.url) {
            variable = variables.give(&format!("ballpoint_{variable}").to_uppercase());
        }
        let mut schemas: Vec<&str> = Vec::new();
        for table in &found.profile.tables {
            if !schemas.contains(&table.table.schema.as_str()) {
                schemas.push(&table.table.schema);
            }
        }
        let single = schemas.len() == 1;
        for schema in schemas {
            let wanted = match names::snake(&names::words(schema)) {
                Some(schema) if !single && schema != "public" => format!("{base}_{schema}"),
                _ => base.clone(),
            };
            // Room for `raw_` and `stg_` before it and a table's name behind it.
            let name = names_given.give(&wanted[..wanted.len().min(40)]);
            let hidden = found.left_out.iter().filter(|table| table.schema == schema);
            let patterns = std::iter::once(format!("{}.*", escaped(schema)))
                .chain(hidden.map(|table| format!("!{}", pattern(table))));
            out.push(Source {
                schema: format!("raw_{name}"),
                patterns: patterns.collect(),
                variable: variable.clone(),
                name,
                database,
            });
        }
    }
    out
}

fn pattern(table: &TableName) -> String {
    format!("{}.{}", escaped(&table.schema), escaped(&table.name))
}

/// Characters that mean something in a pattern stand for any one character.
fn escaped(name: &str) -> String {
    name.replace(['*', '?', '[', ']', '{', '}', '!', '\\', ','], "?")
}

fn table(
    source: usize,
    source_name: &str,
    profile: &TableProfile,
    models: &mut Taken,
    cubes: &mut Taken,
) -> Table {
    let words = names::words(&profile.table.name);
    let noun = names::singular(&words);
    let base = names::snake(&words).unwrap_or_else(|| "table".to_owned());
    let model = models.give(&format!("stg_{source_name}__{base}"));
    let wanted = names::pascal(&names::words(&base));
    let prefixed = names::pascal(&names::words(&format!("{source_name}_{base}")));
    let cube = cubes.give(if cubes.has(&wanted) {
        &prefixed
    } else {
        &wanted
    });
    let mut given = Taken::default();
    let keys: Vec<&String> = profile
        .primary_key
        .iter()
        .chain(profile.foreign_keys.iter().flat_map(|key| &key.columns))
        .collect();
    let columns = profile.columns.iter().enumerate().map(|(at, column)| {
        let words = names::words(&column.name);
        let plain = names::snake(&words).unwrap_or_else(|| format!("column_{}", at + 1));
        let wanted = if names::is_reserved(&plain) {
            let noun = names::snake(&noun).unwrap_or_else(|| "the".to_owned());
            format!("{noun}_{plain}")
        } else {
            plain
        };
        let words = if words.is_empty() {
            names::words(&wanted)
        } else {
            words
        };
        Column {
            role: roles::judge(column, &words, keys.contains(&&column.name)),
            profile: column.clone(),
            name: given.give(&wanted),
            words,
        }
    });
    Table {
        source,
        columns: columns.collect(),
        profile: profile.clone(),
        noun: if noun.is_empty() {
            vec!["row".to_owned()]
        } else {
            noun
        },
        model,
        cube,
        references: Vec::new(),
    }
}
