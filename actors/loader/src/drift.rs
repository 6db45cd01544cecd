//! How a source's columns differ from those of its raw table.

use ballpoint_runtime::segment::Column;

/// What has to happen before rows of the source's shape fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Nothing.
    None,
    /// Columns to add, and columns whose NOT NULL the source has given up.
    Widened {
        added: Vec<Column>,
        nullable: Vec<String>,
    },
    /// What no widening mends, in words that name the column.
    Incompatible(String),
}

/// Compares by name; the order of columns does not matter.
pub(crate) fn compare(raw: &[Column], source: &[Column]) -> Drift {
    let in_raw = |name: &str| raw.iter().find(|column| column.name == name);
    let mut added = Vec::new();
    let mut nullable = Vec::new();
    for column in source {
        match in_raw(&column.name) {
            None => added.push(Column {
                not_null: false,
                ..column.clone()
            }),
            Some(known) if known.sql_type != column.sql_type => {
                return Drift::Incompatible(format!(
                    "column {:?} is {} there and now {} in the source",
                    column.name, known.sql_type, column.sql_type
                ));
            }
            Some(known) if known.not_null && !column.not_null => nullable.push(column.name.clone()),
            Some(_) => {}
        }
    }
    if let Some(gone) = raw
        .iter()
        .find(|known| source.iter().all(|c| c.name != known.name))
    {
        return Drift::Incompatible(format!("column {:?} is gone from the source", gone.name));
    }
    if added.is_empty() && nullable.is_empty() {
        Drift::None
    } else {
        Drift::Widened { added, nullable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, sql_type: &str, not_null: bool) -> Column {
        Column {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            not_null,
        }
    }

    #[test]
    fn new_columns_and_given_up_not_nulls_widen_the_table() {
        let raw = [column("a", "integer", true)];
        let source = [column("b", "text", true), column("a", "integer", false)];
        assert_eq!(compare(&raw, &raw), Drift::None);
        assert_eq!(
            compare(&raw, &source),
            Drift::Widened {
                added: vec![column("b", "text", false)],
                nullable: vec!["a".to_owned()]
            }
        );
    }

    #[test]
    fn a_retyped_or_dropped_column_is_named() {
        let raw = [column("a", "integer", true)];
        for source in [
            [column("a", "bigint", true)],
            [column("z", "integer", true)],
        ] {
            let drift = compare(&raw, &source);
            assert!(
                matches!(&drift, Drift::Incompatible(why) if why.contains("\"a\"")),
                "{drift:?}"
            );
        }
    }
}
