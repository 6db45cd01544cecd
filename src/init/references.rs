//! How tables refer to each other: the foreign keys of the source, and columns whose name says it
//! (`customer_id` beside a table `customers`) where none is declared.

use std::collections::HashMap;

use super::layout::{Column, Layout, Reference, Table};
use super::names::{self, Taken};
use super::roles::plain_type;

/// Endings that say "this is a reference".
const ENDINGS: &[&str] = &[
    "id", "uuid", "key", "fk", "code", "no", "nr", "ref", "number",
];

/// Fills in [`Table::references`]; `at` finds a table by database and object id.
pub(super) fn resolve(layout: &mut Layout, at: &HashMap<(usize, i64), usize>, cubes: &mut Taken) {
    let mut found: Vec<Vec<Reference>> = Vec::new();
    for (own, table) in layout.tables.iter().enumerate() {
        let database = layout.sources[table.source].database;
        let mut references = declared(layout, table, |oid| at.get(&(database, oid)).copied());
        references.extend(implied(layout, own, &references));
        found.push(references);
    }
    for (own, mut references) in found.into_iter().enumerate() {
        name_stems(&mut references, &layout.tables);
        let mut joined = vec![own];
        for reference in &mut references {
            let target = &layout.tables[reference.target];
            if joined.contains(&reference.target) {
                let copy = format!(
                    "{}{}",
                    layout.tables[own].cube,
                    names::pascal(&reference.stem)
                );
                reference.cube = cubes.give(&copy);
            } else {
                joined.push(reference.target);
                reference.cube.clone_from(&target.cube);
            }
        }
        layout.tables[own].references = references;
    }
}

fn declared(layout: &Layout, table: &Table, find: impl Fn(i64) -> Option<usize>) -> Vec<Reference> {
    let mut out = Vec::new();
    for key in &table.profile.foreign_keys {
        let Some(target) = find(key.target) else {
            continue;
        };
        let there = &layout.tables[target];
        let staged = |table: &Table, columns: &[String]| -> Option<Vec<String>> {
            columns
                .iter()
                .map(|name| table.column_of(name).map(|column| column.name.clone()))
                .collect()
        };
        let both = staged(table, &key.columns).zip(staged(there, &key.target_columns));
        if let Some((columns, target_columns)) = both {
            out.push(Reference {
                columns,
                target,
                target_columns,
                stem: Vec::new(),
                cube: String::new(),
            });
        }
    }
    out
}

/// `customer_id` refers to the one table of its source that is called so and has a key of one column
/// of the same type.
fn implied(layout: &Layout, own: usize, known: &[Reference]) -> Vec<Reference> {
    let table = &layout.tables[own];
    let mut out = Vec::new();
    for column in &table.columns {
        let taken = known.iter().any(|it| it.columns.contains(&column.name));
        let is_own_key = table.profile.primary_key == [column.profile.name.clone()];
        let Some((ending, stem)) = column
            .words
            .split_last()
            .filter(|(_, stem)| !stem.is_empty())
        else {
            continue;
        };
        if taken || is_own_key || !matches!(ending.as_str(), "id" | "uuid" | "fk") {
            continue;
        }
        let fits = |there: &Table| {
            let key = match there.profile.primary_key.as_slice() {
                [only] => there.column_of(only),
                _ => None,
            };
            there.source == table.source
                && there.noun == stem
                && key.is_some_and(|key| same_type(key, column))
        };
        let mut targets =
            (0..layout.tables.len()).filter(|at| *at != own && fits(&layout.tables[*at]));
        if let (Some(target), None) = (targets.next(), targets.next()) {
            out.push(Reference {
                columns: vec![column.name.clone()],
                target,
                target_columns: layout.tables[target].key(),
                stem: Vec::new(),
                cube: String::new(),
            });
        }
    }
    out
}

fn same_type(a: &Column, b: &Column) -> bool {
    let family = |column: &Column| match plain_type(&column.profile.base_type) {
        "smallint" | "integer" | "bigint" => "integer".to_owned(),
        "text" | "character varying" | "character" => "text".to_owned(),
        other => other.to_owned(),
    };
    family(a) == family(b)
}

/// What the other row is to this one: the column's name without its ending, or the other table's
/// noun; no two alike.
fn name_stems(references: &mut [Reference], tables: &[Table]) {
    let mut given = Taken::default();
    for reference in references {
        let own = match reference.columns.as_slice() {
            [only] => names::words(only),
            _ => Vec::new(),
        };
        let cut = match own.split_last() {
            Some((last, rest)) if ENDINGS.contains(&last.as_str()) => rest.to_vec(),
            _ => own,
        };
        let stem = if cut.is_empty() {
            tables[reference.target].noun.clone()
        } else {
            names::singular(&cut)
        };
        let name = given.give(&stem.join("_"));
        reference.stem = names::words(&name);
    }
}
