//! Sync definitions: `warehouse/syncs/*.yml`. Which rows go to which table of which source, and what
//! may be written there at most. The files are the allow-list: neither the database nor an agent can
//! widen it.

mod check;
mod column_type;
mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use column_type::ColumnType;
pub(crate) use file::Syncs;
pub use file::{DefinitionError, Problem};

/// One sync, as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// The warehouse relation that holds the desired rows, `schema.name`. Either this or a query.
    #[serde(default)]
    pub model: Option<String>,
    /// A SELECT on the warehouse that gives the desired rows.
    #[serde(default)]
    pub query: Option<String>,
    /// A condition over the relation's columns, in SQL.
    #[serde(default)]
    pub r#where: Option<String>,
    /// A configured source.
    pub source: String,
    /// `schema.table` in it; `public` when no schema is named.
    pub table: String,
    /// Whether a plan may create the table when it is missing.
    #[serde(default)]
    pub create_table: bool,
    pub mode: Mode,
    /// What a row is found by. Never null, unique in the target.
    pub key: Vec<Field>,
    /// The columns that may be written; no other one ever is.
    pub columns: Vec<Field>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub approval: Approval,
    /// What choosing rows by metrics is narrowed to for this sync: member → value.
    #[serde(default)]
    pub metric_filters: BTreeMap<String, String>,
    /// What may be asked for in words: each sets fixed values in the rows that are chosen.
    #[serde(default)]
    pub actions: Vec<Action>,
}

/// What happens to rows that one side lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Missing rows are added, different ones changed, none removed.
    Upsert,
    /// Different rows are changed, none added or removed.
    Update,
    /// As upsert, and rows that this sync added are removed when they are no longer desired.
    Mirror,
}

impl Mode {
    /// The word in files and plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::Mirror => "mirror",
        }
    }
}

/// A column of the target and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub column: String,
    /// The column of the warehouse relation; of the same name when absent.
    #[serde(default)]
    pub from: Option<String>,
    pub r#type: ColumnType,
    /// The metric member that holds the same values: how rows chosen by metrics are found here.
    #[serde(default)]
    pub member: Option<String>,
    /// Becomes the column's comment where a plan creates the table.
    #[serde(default)]
    pub description: Option<String>,
}

impl Field {
    /// The column of the warehouse relation.
    pub fn from(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.column)
    }
}

/// Beyond these a plan is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Rows written at most.
    pub max_rows: i64,
    /// Rows changed or removed at most, percent of the rows that the table has.
    pub max_changed_percent: f64,
    /// Rows removed at most.
    pub max_removed: i64,
}

impl Default for Limits {
    /// Enough for a table of operational size; a plan beyond it is worth a second look.
    fn default() -> Self {
        Self {
            max_rows: 100_000,
            max_changed_percent: 50.0,
            max_removed: 1_000,
        }
    }
}

/// Who lets a plan through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Somebody must.
    #[default]
    Required,
    /// The policy does, within the limits. Proposals need somebody all the same.
    Automatic,
}

/// Something that may be asked for in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    pub name: String,
    /// The words that ask for it, `name` included or not.
    #[serde(default)]
    pub words: Vec<String>,
    /// Column → value.
    pub set: BTreeMap<String, Scalar>,
}

/// A value as YAML writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl Scalar {
    /// PostgreSQL's text of it.
    pub fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

impl Sync {
    /// Reads every sync of a folder and checks it against the names of the configured sources; no
    /// database is asked. A folder that is not there holds none.
    ///
    /// # Errors
    /// Every problem, with file and line.
    pub fn load<'a>(
        folder: &std::path::Path,
        sources: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Self>, DefinitionError> {
        Ok(Syncs::load(folder, sources)?.syncs)
    }

    /// Schema and name of the target.
    pub fn target(&self) -> (&str, &str) {
        self.table
            .split_once('.')
            .unwrap_or(("public", &self.table))
    }

    /// The target's name, schema included.
    pub fn target_name(&self) -> String {
        let (schema, name) = self.target();
        format!("{schema}.{name}")
    }

    /// Key and writable columns.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().chain(&self.columns)
    }

    /// A writable column.
    pub fn column(&self, name: &str) -> Option<&Field> {
        self.columns.iter().find(|field| field.column == name)
    }
}
