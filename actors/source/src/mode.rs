//! Which mode a table is kept up to date in, and why.

use ballpoint_runtime::segment::{Column, SyncMode, TableName, TableSpec};
use serde::Serialize;

use crate::catalog::SourceTable;
use crate::config::{Mode, TableConfig};

/// Columns that applications conventionally set at every change, best first.
const CURSOR_NAMES: &[&str] = &[
    "updated_at",
    "modified_at",
    "last_modified_at",
    "last_updated_at",
    "changed_at",
    "updated",
    "modified",
    "last_modified",
    "last_updated",
    "updated_on",
    "modified_on",
    "updatedat",
    "modifiedat",
];

/// A table's mode with its reason, as `check` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableChoice {
    pub table: TableName,
    #[serde(flatten)]
    pub mode: SyncMode,
    pub reason: String,
}

/// Chooses the mode of one table: what is configured, else the best that the table allows.
///
/// # Errors
/// What the configuration names and the table does not have.
pub(crate) fn choose(
    table: &SourceTable,
    config: &TableConfig,
    source_mode: Option<Mode>,
) -> Result<(TableSpec, String), String> {
    let primary_key = primary_key(table, config)?;
    let (mode, reason) = match (config.mode.or(source_mode), &config.cursor) {
        (Some(Mode::FullRefresh), _) => (SyncMode::FullRefresh, "configured".to_owned()),
        (_, Some(cursor)) => (configured_cursor(table, cursor)?, "configured".to_owned()),
        (Some(Mode::Incremental), None) => detected(table, &primary_key).map_err(|lacks| {
            format!(
                "table {} is configured as incremental but {lacks}; name one as `cursor` \
                 or set `mode = \"full_refresh\"`",
                table.table
            )
        })?,
        (None, None) => detected(table, &primary_key)
            .unwrap_or_else(|lacks| (SyncMode::FullRefresh, format!("the table {lacks}"))),
    };
    let columns: Vec<Column> = table.columns.iter().map(|c| c.column.clone()).collect();
    Ok((
        TableSpec {
            table: table.table.clone(),
            columns,
            primary_key,
            mode,
        },
        reason,
    ))
}

fn primary_key(table: &SourceTable, config: &TableConfig) -> Result<Vec<String>, String> {
    if config.primary_key.is_empty() {
        return Ok(table.primary_key.clone());
    }
    for column in &config.primary_key {
        if table.column(column).is_none() {
            return Err(missing(table, "primary key", column));
        }
    }
    Ok(config.primary_key.clone())
}

fn configured_cursor(table: &SourceTable, cursor: &str) -> Result<SyncMode, String> {
    match table.column(cursor) {
        Some(_) => Ok(SyncMode::Incremental {
            cursor: cursor.to_owned(),
        }),
        None => Err(missing(table, "cursor", cursor)),
    }
}

fn missing(table: &SourceTable, role: &str, column: &str) -> String {
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|c| c.column.name.as_str())
        .collect();
    format!(
        "the {role} column {column:?} of {} does not exist; its columns are {}",
        table.table,
        names.join(", ")
    )
}

/// Incremental when the table has a usable cursor, else what it lacks.
fn detected(table: &SourceTable, primary_key: &[String]) -> Result<(SyncMode, String), String> {
    if primary_key.is_empty() {
        return Err("has no primary key to merge changed rows by".to_owned());
    }
    let named = |name: &&str| {
        table
            .columns
            .iter()
            .find(|column| column.column.name.eq_ignore_ascii_case(name))
    };
    let is_time = |sql_type: &str| sql_type.starts_with("timestamp");
    let mut lacks = "has no timestamp column such as updated_at".to_owned();
    for column in CURSOR_NAMES
        .iter()
        .filter_map(named)
        .map(|column| &column.column)
    {
        if !is_time(&column.sql_type) {
            continue;
        }
        if !column.not_null {
            lacks = format!("allows null in {:?}", column.name);
        } else if !table.is_index_lead(&column.name) {
            lacks = format!("has no index that starts with {:?}", column.name);
        } else {
            let reason = format!("{:?} is a timestamp, not null and indexed", column.name);
            return Ok((
                SyncMode::Incremental {
                    cursor: column.name.clone(),
                },
                reason,
            ));
        }
    }
    Err(lacks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::catalog::SourceColumn;

    fn table(not_null: bool, indexed: bool, keyed: bool) -> SourceTable {
        let column = |name: &str, sql_type: &str, not_null| SourceColumn {
            column: Column {
                name: name.to_owned(),
                sql_type: sql_type.to_owned(),
                not_null,
            },
            portable: true,
            fills_old_rows: false,
        };
        SourceTable {
            oid: 1,
            table: TableName::new("public", "orders"),
            columns: vec![
                column("id", "bigint", true),
                column("updated_at", "timestamp with time zone", not_null),
            ],
            primary_key: if keyed {
                vec!["id".to_owned()]
            } else {
                Vec::new()
            },
            index_leads: if indexed {
                vec!["updated_at".to_owned()]
            } else {
                Vec::new()
            },
            readable: true,
        }
    }

    fn reason(table: &SourceTable) -> (SyncMode, String) {
        let (spec, reason) = choose(table, &TableConfig::default(), None).unwrap();
        (spec.mode, reason)
    }

    #[test]
    fn an_indexed_not_null_timestamp_and_a_key_make_a_table_incremental() {
        let (mode, _) = reason(&table(true, true, true));
        assert_eq!(
            mode,
            SyncMode::Incremental {
                cursor: "updated_at".to_owned()
            }
        );
    }

    #[test]
    fn what_a_table_lacks_is_the_reason_of_its_full_refresh() {
        for (lacking, words) in [
            (table(false, true, true), "allows null"),
            (table(true, false, true), "no index"),
            (table(true, true, false), "no primary key"),
        ] {
            let (mode, reason) = reason(&lacking);
            assert_eq!(mode, SyncMode::FullRefresh);
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_cursor_that_does_not_exist_is_an_error_that_lists_the_columns() {
        let config = TableConfig {
            cursor: Some("changed".to_owned()),
            ..Default::default()
        };
        let error = choose(&table(true, true, true), &config, None).unwrap_err();
        assert!(
            error.contains("\"changed\"") && error.contains("id, updated_at"),
            "{error}"
        );
    }
}
