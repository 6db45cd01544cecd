//! Which mode a table is kept up to date in, and why.

use ballpoint_runtime::segment::{ColumnType, Origin, SyncMode, TableName, TableSpec};
use serde::Serialize;

use crate::catalog::{SourceColumn, SourceTable};
use crate::config::{Mode, PostgresSourceConfig, TableConfig};

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

/// What the source says of its log: by which columns it names a table's rows (none: by all), or why
/// the table cannot be followed there, and what to do about that. By the table's object id.
pub(crate) type LogKey<'a> = &'a (dyn Fn(i64) -> Result<Vec<String>, String> + Send + Sync);

/// A table's mode with its reason, as `check` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableChoice {
    pub table: TableName,
    #[serde(flatten)]
    pub mode: SyncMode,
    /// Whether rows are only ever added.
    pub append: bool,
    pub reason: String,
    /// What stands in the way of a better mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// A better mode than the chosen one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Better {
    pub mode: &'static str,
    /// What it would take, as SQL where that is what it takes.
    pub lacks: String,
}

/// What was chosen for a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) spec: TableSpec,
    pub(crate) reason: String,
    pub(crate) better: Option<Better>,
}

/// Chooses the mode of one table: what is configured, else the best that the table and its server
/// allow.
///
/// # Errors
/// What the configuration names and the table does not have.
pub(crate) fn choose(
    table: &SourceTable,
    source: &PostgresSourceConfig,
    log: LogKey<'_>,
) -> Result<Chosen, String> {
    let config = &source.of(&table.table);
    let primary_key = primary_key(table, config)?;
    let lacks_log = no_log(table, &primary_key, log);
    let asked = config.mode.or(source.mode);
    let (mode, reason) = match (asked, &config.cursor) {
        (Some(Mode::FullRefresh | Mode::FullRefreshAppend), _) => {
            (SyncMode::FullRefresh, "configured".to_owned())
        }
        (Some(Mode::Cdc), _) => match &lacks_log {
            None => (SyncMode::Cdc, "configured".to_owned()),
            Some(lack) => {
                let table = &table.table;
                return Err(format!(
                    "table {table} is configured as cdc but {lack}; or choose another mode"
                ));
            }
        },
        (_, Some(cursor)) => (configured_cursor(table, cursor)?, "configured".to_owned()),
        (Some(Mode::Incremental | Mode::IncrementalAppend), None) => detected(table, &primary_key)
            .map_err(|lacks| {
                format!(
                    "table {} is configured as incremental but {lacks}; name one as `cursor` \
                     or set `mode = \"full_refresh\"`",
                    table.table
                )
            })?,
        (None, None) if source.follow_log && lacks_log.is_none() => (
            SyncMode::Cdc,
            "the source's log can be read and names each changed row".to_owned(),
        ),
        (None, None) => detected(table, &primary_key)
            .unwrap_or_else(|lacks| (SyncMode::FullRefresh, format!("the table {lacks}"))),
    };
    let better = match (&mode, asked) {
        (SyncMode::Cdc, _) | (_, Some(_)) => None,
        _ => Some(Better {
            mode: "cdc",
            lacks: lacks_log
                .unwrap_or_else(|| "nothing but follow_log = true in the configuration".to_owned()),
        }),
    };
    // Without a primary key the log names rows by the unique index that was chosen for it.
    let named_by_index = || log(table.oid).unwrap_or_default();
    let primary_key = match (&mode, primary_key.is_empty()) {
        (SyncMode::Cdc, true) => named_by_index(),
        _ => primary_key,
    };
    Ok(Chosen {
        spec: spec(table, source, config, primary_key, mode),
        reason,
        better,
    })
}

fn spec(
    table: &SourceTable,
    source: &PostgresSourceConfig,
    config: &TableConfig,
    primary_key: Vec<String>,
    mode: SyncMode,
) -> TableSpec {
    let columns = || table.columns.iter();
    TableSpec {
        table: table.table.clone(),
        columns: columns().map(|c| c.column.clone()).collect(),
        primary_key,
        mode,
        options: source.options_of(config),
        origin: Origin {
            oid: table.oid,
            file: table.file,
            columns: columns().map(|c| c.origin.clone()).collect(),
            types: columns().map(log_type).collect(),
        },
    }
}

fn log_type(column: &SourceColumn) -> ColumnType {
    ColumnType {
        id: column.type_id,
        modifier: column.type_modifier,
        is_portable: column.portable,
    }
}

/// What is missing for `cdc`; `None`: nothing.
fn no_log(table: &SourceTable, primary_key: &[String], log: LogKey<'_>) -> Option<String> {
    match log(table.oid) {
        Err(lack) => Some(lack),
        Ok(named) if !named.is_empty() && primary_key.iter().any(|key| !named.contains(key)) => {
            Some(format!(
                "the log does not name its rows by its primary_key: ALTER TABLE {} REPLICA IDENTITY FULL",
                table.quoted()
            ))
        }
        Ok(_) => None,
    }
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
mod tests;
