//! The raw table, made to hold a stream's columns.
//!
//! What a connector or a file declares of its types is an estimate, and changes. So a column is never
//! narrowed, and what the two types have in common is what it becomes: at worst text, which holds the
//! text of any value. A column that the stream no longer has stays, and is null in new rows.

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::{Column, TableName};

use crate::dependents;
use crate::error::LoadError;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;

/// The raw table with room for `columns`, created if it is missing.
pub(super) async fn fitting(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    columns: &[Column],
    key: &[String],
) -> Result<Target, LoadError> {
    let failed = || LoadError::warehouse("looking at the raw table");
    let Some(mut found) = Target::find(transaction, raw).await.map_err(failed())? else {
        create(transaction, raw, columns, key).await?;
        let made = Target::find(transaction, raw).await.map_err(failed())?;
        return made.ok_or(LoadError::Warehouse {
            doing: "creating the raw table",
            source: sqlx::Error::RowNotFound,
        });
    };
    let changes = changes(&found.columns, columns, key);
    if changes.is_empty() {
        return Ok(found);
    }
    let failed = || LoadError::warehouse("widening the table");
    let sql = format!("alter table {} {}", target::quoted(raw), changes.join(", "));
    tracing::info!(table = %raw, changes = changes.join(", "), "the source's columns changed");
    // A view stands in the way of a column's new type.
    let views = dependents::collect(transaction, found.oid)
        .await
        .map_err(failed())?;
    dependents::drop_all(transaction, &views)
        .await
        .map_err(failed())?;
    transaction.run(sql).await.map_err(failed())?;
    dependents::create_all(transaction, raw, &views).await?;
    if let Some(now) = Target::find(transaction, raw).await.map_err(failed())? {
        found = now;
    }
    Ok(found)
}

async fn create(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    columns: &[Column],
    key: &[String],
) -> Result<(), LoadError> {
    let quoted = target::quoted(raw);
    let mut sql = format!(
        "create table {quoted} ({}); {}",
        target::definitions(columns),
        target::add_metadata(&quoted, "clock_timestamp()", 1)
    );
    if !key.is_empty() {
        let key = target::quote_all(key);
        sql = format!("{sql}; alter table {quoted} add primary key ({key})");
    }
    transaction
        .run(sql)
        .await
        .map_err(LoadError::warehouse("creating the table"))?;
    Ok(())
}

/// The parts of an ALTER TABLE that make `raw` hold rows of `stream`.
fn changes(raw: &[Column], stream: &[Column], key: &[String]) -> Vec<String> {
    let mut changes = Vec::new();
    for column in stream {
        let name = quote(&column.name);
        match raw.iter().find(|known| known.name == column.name) {
            None => changes.push(format!("add column {name} {}", column.sql_type)),
            Some(known) => {
                let both = common(&known.sql_type, &column.sql_type);
                if both != known.sql_type {
                    changes.push(format!(
                        "alter column {name} type {both} using {name}::{both}"
                    ));
                }
            }
        }
    }
    let no_longer_sent = |known: &&Column| {
        let sent = stream.iter().any(|column| column.name == known.name);
        known.not_null && !key.contains(&known.name) && !sent
    };
    for known in raw.iter().filter(no_longer_sent) {
        changes.push(format!("alter column {} drop not null", quote(&known.name)));
    }
    changes
}

/// The narrowest type that holds the values of both.
fn common<'a>(one: &'a str, other: &'a str) -> &'a str {
    const WIDER: [(&str, &str); 4] = [
        ("integer", "bigint"),
        ("integer", "numeric"),
        ("bigint", "numeric"),
        ("date", "timestamp without time zone"),
    ];
    if one == other || WIDER.contains(&(other, one)) {
        one
    } else if WIDER.contains(&(one, other)) {
        other
    } else {
        "text"
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
    fn a_column_is_widened_and_never_narrowed() {
        for (raw, stream, becomes) in [
            ("bigint", "bigint", None),
            ("bigint", "numeric", Some("numeric")),
            ("numeric", "bigint", None),
            ("bigint", "jsonb", Some("text")),
            ("text", "boolean", None),
            (
                "date",
                "timestamp without time zone",
                Some("timestamp without time zone"),
            ),
        ] {
            let changes = changes(
                &[column("a", raw, true)],
                &[column("a", stream, false)],
                &[],
            );
            let expected =
                becomes.map(|it| format!("alter column \"a\" type {it} using \"a\"::{it}"));
            assert_eq!(
                changes,
                expected.into_iter().collect::<Vec<_>>(),
                "{raw} {stream}"
            );
        }
    }

    #[test]
    fn new_columns_are_added_and_those_no_longer_sent_may_be_null() {
        let raw = [column("id", "bigint", true), column("old", "text", true)];
        let stream = [column("id", "bigint", false), column("new", "jsonb", false)];
        assert_eq!(
            changes(&raw, &stream, &["id".to_owned()]),
            [
                "add column \"new\" jsonb",
                "alter column \"old\" drop not null"
            ]
        );
    }
}
