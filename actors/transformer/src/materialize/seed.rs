//! CSV files as tables: types inferred as dbt infers them, loaded by COPY.

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use std::path::Path;

use super::{Built, Sender, create_indexes, drop_if_exists};
use crate::catalog::RelationKind;
use crate::jinja::relation::Relation;
use crate::project::config;
use crate::project::node::Node;
use crate::run::Failure;

/// A seed file in memory.
pub(crate) struct SeedFile {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// `--empty`: the rows tell the types of the columns, and none is loaded.
    pub(crate) is_left_out: bool,
}

/// Reads a seed's file.
///
/// # Errors
/// With the line that is no CSV.
pub(crate) fn read(root: &Path, node: &Node) -> Result<SeedFile, String> {
    let delimiter = node
        .config
        .get("delimiter")
        .and_then(Json::as_str)
        .unwrap_or(",");
    let delimiter = delimiter.bytes().next().unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_path(root.join(&node.original_file_path))
        .map_err(|error| format!("{}: {error}", node.original_file_path))?;
    let wrong = |error: csv::Error| format!("{}: {error}", node.original_file_path);
    let headers = reader.headers().map_err(wrong)?;
    // Spreadsheets write a mark of byte order before the first name.
    let columns = headers
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(record.map_err(wrong)?.iter().map(str::to_owned).collect());
    }
    Ok(SeedFile {
        columns,
        rows,
        is_left_out: false,
    })
}

impl SeedFile {
    /// The rows as COPY reads them: every value quoted, a null as nothing.
    fn as_csv(&self) -> String {
        let mut text = String::new();
        for row in self.rows.iter().filter(|_| !self.is_left_out) {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| match is_null(cell) {
                    true => String::new(),
                    false => format!("\"{}\"", cell.replace('"', "\"\"")),
                })
                .collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }

    /// The type of a column: configured, or the narrowest that holds every value.
    fn column_type(&self, node: &Node, index: usize) -> String {
        let configured = node
            .config
            .get("column_types")
            .and_then(|types| types.get(&self.columns[index]).and_then(Json::as_str));
        if let Some(name) = configured {
            return name.to_owned();
        }
        let values = || {
            self.rows
                .iter()
                .map(|row| row[index].trim())
                .filter(|v| !is_null(v))
        };
        let all = |test: fn(&str) -> bool| values().all(test);
        // Nothing but nulls is a number to dbt.
        let name = if all(|value| value.parse::<i32>().is_ok()) {
            "integer"
        } else if all(|value| value.parse::<i64>().is_ok()) {
            "bigint"
        } else if all(|value| value.parse::<f64>().is_ok() && !value.contains(['n', 'N'])) {
            "float8"
        } else if all(|value| value.parse::<jiff::civil::Date>().is_ok() && value.len() == 10) {
            "date"
        } else if all(is_moment) {
            "timestamp without time zone"
        } else if all(|value| matches!(value.to_lowercase().as_str(), "true" | "false")) {
            "boolean"
        } else {
            "text"
        };
        name.to_owned()
    }
}

/// A day and a time of day, with or without a zone (which dbt drops).
fn is_moment(value: &str) -> bool {
    value.len() > 10
        && (value.parse::<jiff::civil::DateTime>().is_ok()
            || value.parse::<jiff::Timestamp>().is_ok())
}

/// Values that dbt reads as null.
fn is_null(value: &str) -> bool {
    let value = value.trim();
    value.is_empty() || value.eq_ignore_ascii_case("null")
}

/// A column's name as `quote_columns` asks for it.
fn column_name(node: &Node, name: &str) -> String {
    match config::flag(&node.config, "quote_columns") {
        Some(false) => name.to_owned(),
        _ => ident::quote(name),
    }
}

/// Loads a seed into `relation`. Keeps a table that exists, as dbt does, unless it is to be made
/// anew.
///
/// # Errors
/// Those of PostgreSQL; the caller holds the transaction.
pub(crate) async fn load(
    sender: &mut Sender<'_>,
    node: &Node,
    file: &SeedFile,
    relation: &Relation,
    existing: Option<RelationKind>,
    full_refresh: bool,
) -> Result<Built, Failure> {
    let full_refresh = config::flag(&node.config, "full_refresh").unwrap_or(full_refresh);
    let keep = existing.is_some_and(RelationKind::is_table) && !full_refresh;
    let names: Vec<String> = file
        .columns
        .iter()
        .map(|name| column_name(node, name))
        .collect();
    let setup = if keep {
        format!("truncate table {relation};")
    } else {
        let columns: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(index, name)| format!("{name} {}", file.column_type(node, index)))
            .collect();
        let drop = existing
            .map(|kind| drop_if_exists(kind, relation))
            .unwrap_or_default();
        format!(
            "{drop}create table {relation} ({});\n{}",
            columns.join(", "),
            create_indexes(node, relation)
        )
    };
    sender.run(&setup).await?;
    let copy = format!(
        "copy {relation} ({}) from stdin with (format csv)",
        names.join(", ")
    );
    sender.sent.push_str(&copy);
    let mut stream = sender.conn.copy_in_raw(&copy).await?;
    if let Err(error) = stream.send(file.as_csv().into_bytes()).await {
        return Err(error.into());
    }
    let rows = stream.finish().await?;
    Ok(Built::rows("INSERT", rows))
}
