//! What a look at the catalog says against what is followed: tables whose schema changed, and tables
//! that wait and need no sync before they change again.

use std::collections::HashSet;

use ballpoint_runtime::segment::{SyncMode, TableName, TableSpec};
use ballpoint_runtime::shape::Shape;
use ballpoint_runtime::store::KnownTable;

/// The outcome of one comparison.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// To be announced, whether or not rows of theirs moved.
    pub(super) changed: Vec<TableName>,
    /// They wait for a change of the table, or for somebody.
    pub(super) waiting: HashSet<TableName>,
}

/// Compares the tables that are there with those that are known.
pub(super) fn compare(there: &[TableSpec], known: &[KnownTable]) -> Schema {
    let mut schema = Schema::default();
    for known in known {
        let table = || known.table.clone();
        match there.iter().find(|spec| spec.table == known.table) {
            // Change data capture hears of it in the log.
            Some(spec) if spec.mode == SyncMode::Cdc => {}
            Some(spec) => {
                let shape = Some(Shape::from(spec));
                let settled = match known.hold {
                    Some(_) => known.seen == shape,
                    None => shape.as_ref() == Some(&known.shape) || known.seen == shape,
                };
                match (settled, known.hold) {
                    (false, _) => schema.changed.push(table()),
                    (true, Some(_)) => drop(schema.waiting.insert(table())),
                    (true, None) => {}
                }
            }
            None if known.hold.is_some() => drop(schema.waiting.insert(table())),
            None => schema.changed.push(table()),
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use ballpoint_runtime::segment::{Column, Origin, TableOptions};
    use ballpoint_runtime::shape::Hold;

    use super::*;

    fn spec(name: &str, sql_type: &str) -> TableSpec {
        TableSpec {
            table: TableName::new("public", name),
            columns: vec![Column {
                name: "a".to_owned(),
                sql_type: sql_type.to_owned(),
                not_null: false,
            }],
            primary_key: vec![],
            mode: SyncMode::FullRefresh,
            options: TableOptions::default(),
            origin: Origin::default(),
        }
    }

    fn known(name: &str, hold: Option<Hold>, seen: Option<&str>) -> KnownTable {
        KnownTable {
            source: "shop".to_owned(),
            table: TableName::new("public", name),
            shape: (&spec(name, "integer")).into(),
            hold,
            reason: String::new(),
            seen: seen.map(|sql_type| (&spec(name, sql_type)).into()),
            since: "2026-01-01T00:00:00Z".parse().expect("a moment"),
        }
    }

    fn names(schema: &Schema) -> (Vec<&str>, Vec<&str>) {
        let changed = schema.changed.iter().map(|it| it.name.as_str()).collect();
        let waiting = schema.waiting.iter().map(|it| it.name.as_str()).collect();
        (changed, waiting)
    }

    #[test]
    fn a_change_is_announced_and_what_waits_for_one_is_left_alone() {
        let held = Some(Hold::Quarantined);
        for (there, known, changed, waits) in [
            (Some("integer"), known("t", None, None), false, false),
            (Some("bigint"), known("t", None, None), true, false),
            (
                Some("bigint"),
                known("t", None, Some("bigint")),
                false,
                false,
            ),
            (Some("text"), known("t", held, Some("text")), false, true),
            (Some("integer"), known("t", held, Some("text")), true, false),
            (None, known("t", None, None), true, false),
            (None, known("t", Some(Hold::Gone), None), false, true),
            (
                Some("integer"),
                known("t", Some(Hold::Gone), None),
                true,
                false,
            ),
        ] {
            let there: Vec<TableSpec> = there.iter().map(|it| spec("t", it)).collect();
            let schema = compare(&there, std::slice::from_ref(&known));
            let expect = |is: bool| if is { vec!["t"] } else { vec![] };
            assert_eq!(
                names(&schema),
                (expect(changed), expect(waits)),
                "{known:?}"
            );
        }
    }
}
