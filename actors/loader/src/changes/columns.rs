//! Rows as the log wrote them, brought into the columns that are followed.
//!
//! The log describes a table as it was when a row was written. The catalog, and with it the columns that
//! are followed, may be further by then: what was added since had no value yet, what was given up since
//! is left out. What the log knows and the catalog did not is for a new look at the catalog.

use std::sync::Arc;

use ballpoint_runtime::changes::{Field, OldRow, Operation, Relation, Tuple};
use ballpoint_runtime::segment::{SchemaPolicy, TableSpec};

use super::net;

/// How rows of one description stand to the columns that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Value for value.
    Same,
    /// Each column's value by its position in the row; `None`: it was added later.
    By(Arc<[Option<usize>]>),
    /// The description is younger than the look at the catalog.
    Younger,
    /// It is older, and its values are of other types.
    Unlike,
}

impl Fit {
    /// `is_older`: what is described was committed before the catalog was looked at.
    pub(super) fn of(relation: &Relation, spec: &TableSpec, is_older: bool) -> Self {
        let find = |name: &str| relation.columns.iter().position(|it| it.name == name);
        let columns = spec.columns.iter();
        let found: Arc<[Option<usize>]> = columns.map(|column| find(&column.name)).collect();
        let types = spec.origin.types.iter().map(|it| (it.id, it.modifier));
        let types = types.map(Some).chain(std::iter::repeat(None));
        let is_typed = found.iter().zip(types).all(|(at, followed)| {
            let in_log = at.map(|at| &relation.columns[at]);
            in_log.is_none_or(|it| followed == Some((it.type_id, it.type_modifier)))
        });
        let has_all = found.iter().all(Option::is_some);
        let has_more = relation.columns.len() > found.iter().flatten().count();
        let leaves_out = spec.options.on_schema_change == SchemaPolicy::Ignore;
        let has_key = spec.primary_key.iter().all(|name| find(name).is_some());
        if is_typed && has_all && !has_more && found.is_sorted() {
            Self::Same
        } else if is_typed && has_all && (!has_more || leaves_out) {
            Self::By(found)
        } else if !is_older {
            Self::Younger
        } else if is_typed && has_key {
            Self::By(found)
        } else {
            Self::Unlike
        }
    }

    /// `operation` with its rows in the columns that are followed.
    pub(super) fn apply(&self, operation: Operation) -> Operation {
        let Self::By(positions) = self else {
            return operation;
        };
        let of = |tuple: &Tuple| {
            let fields: Vec<Field<'_>> = tuple.fields().collect();
            let placed = positions.iter().map(|at| {
                let field = at.and_then(|at| fields.get(at).copied());
                field.unwrap_or(Field::Null)
            });
            net::tuple(placed)
        };
        let old_of = |old: OldRow| OldRow {
            tuple: of(&old.tuple),
            is_whole: old.is_whole,
        };
        match operation {
            Operation::Insert { new } => Operation::Insert { new: of(&new) },
            Operation::Update { old, new } => Operation::Update {
                old: old.map(old_of),
                new: of(&new),
            },
            Operation::Delete { old } => Operation::Delete { old: old_of(old) },
            Operation::Truncate => Operation::Truncate,
        }
    }
}

#[cfg(test)]
mod tests {
    use ballpoint_runtime::changes::RelationColumn;
    use ballpoint_runtime::segment::{
        Column, ColumnType, Origin, SyncMode, TableName, TableOptions,
    };

    use super::*;

    fn spec(columns: &str) -> TableSpec {
        let columns = columns.split(' ').map(|name| Column {
            name: name.to_owned(),
            sql_type: "text".to_owned(),
            not_null: false,
        });
        let columns: Vec<Column> = columns.collect();
        let types = columns.iter().map(|_| ColumnType {
            id: 25,
            modifier: -1,
            is_portable: true,
        });
        TableSpec {
            table: TableName::new("public", "t"),
            origin: Origin {
                types: types.collect(),
                ..Origin::default()
            },
            columns,
            primary_key: vec!["id".to_owned()],
            mode: SyncMode::Cdc,
            options: TableOptions::default(),
        }
    }

    /// `!` before a column: it has another type.
    fn relation(columns: &str) -> Relation {
        let columns = columns.split(' ').map(|name| RelationColumn {
            name: name.trim_start_matches('!').to_owned(),
            is_key: false,
            type_id: if name.starts_with('!') { 20 } else { 25 },
            type_modifier: -1,
        });
        Relation {
            table: TableName::new("public", "t"),
            columns: columns.collect(),
        }
    }

    fn by(positions: &[Option<usize>]) -> Fit {
        Fit::By(positions.into())
    }

    #[test]
    fn older_rows_are_brought_into_the_columns_and_younger_ones_ask_for_a_look() {
        let placed = by(&[Some(1), Some(0)]);
        for (log, followed, older, younger) in [
            ("id a", "id a", Fit::Same, Fit::Same),
            ("a id", "id a", placed.clone(), placed),
            ("id", "id a", by(&[Some(0), None]), Fit::Younger),
            ("id x a", "id a", by(&[Some(0), Some(2)]), Fit::Younger),
            ("id !a", "id a", Fit::Unlike, Fit::Younger),
            ("a", "id a", Fit::Unlike, Fit::Younger),
        ] {
            let (relation, spec) = (relation(log), spec(followed));
            assert_eq!(
                Fit::of(&relation, &spec, true),
                older,
                "{log} -> {followed}"
            );
            assert_eq!(
                Fit::of(&relation, &spec, false),
                younger,
                "{log} -> {followed}"
            );
        }
    }

    #[test]
    fn columns_that_are_to_be_ignored_are_left_out_of_younger_rows_too() {
        let mut spec = spec("id a");
        spec.options.on_schema_change = SchemaPolicy::Ignore;
        let fit = Fit::of(&relation("id new a"), &spec, false);
        assert_eq!(fit, by(&[Some(0), Some(2)]));
        let row = |values: &[&'static [u8]]| net::tuple(values.iter().map(|it| Field::Text(it)));
        let inserted = fit.apply(Operation::Insert {
            new: row(&[b"1", b"n", b"x"]),
        });
        assert_eq!(
            inserted,
            Operation::Insert {
                new: row(&[b"1", b"x"])
            }
        );
    }
}
