//! CSV files as tables: types inferred as dbt infers them, loaded by COPY.

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use sqlx::PgConnection;
use std::path::Path;

use super::{Built, execute};
use crate::catalog::RelationKind;
use crate::jinja::relation::Relation;
use crate::project::node::Node;

/// A seed file in memory.
pub(crate) struct SeedFile {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
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
    let columns = reader
        .headers()
        .map_err(wrong)?
        .iter()
        .map(str::to_owned)
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(record.map_err(wrong)?.iter().map(str::to_owned).collect());
    }
    Ok(SeedFile { columns, rows })
}

impl SeedFile {
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
        let all = |test: fn(&str) -> bool| values().next().is_some() && values().all(test);
        let name = if all(|value| matches!(value.to_lowercase().as_str(), "true" | "false")) {
            "boolean"
        } else if all(|value| value.parse::<i32>().is_ok()) {
            "integer"
        } else if all(|value| value.parse::<i64>().is_ok()) {
            "bigint"
        } else if all(|value| value.parse::<f64>().is_ok() && !value.contains(['n', 'N'])) {
            "float8"
        } else if all(|value| value.parse::<jiff::civil::Date>().is_ok() && value.len() == 10) {
            "date"
        } else if all(|value| value.parse::<jiff::civil::DateTime>().is_ok()) {
            "timestamp without time zone"
        } else {
            "text"
        };
        name.to_owned()
    }
}

/// Values that dbt reads as null.
fn is_null(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("null")
}

/// Loads a seed into `relation`. Keeps a table that exists, as dbt does, unless it is to be made
/// anew.
///
/// # Errors
/// Those of PostgreSQL; the caller holds the transaction.
pub(crate) async fn load(
    conn: &mut PgConnection,
    node: &Node,
    file: &SeedFile,
    relation: &Relation,
    existing: Option<RelationKind>,
    full_refresh: bool,
) -> Result<Built, sqlx::Error> {
    let keep = existing.is_some_and(RelationKind::is_table) && !full_refresh;
    let setup = if keep {
        format!("truncate table {relation};")
    } else {
        let columns: Vec<String> = file
            .columns
            .iter()
            .enumerate()
            .map(|(index, name)| {
                format!("{} {}", ident::quote(name), file.column_type(node, index))
            })
            .collect();
        let drop = existing
            .map(|kind| format!("drop {} if exists {relation} cascade;\n", kind.name()))
            .unwrap_or_default();
        format!("{drop}create table {relation} ({});", columns.join(", "))
    };
    execute(conn, &setup).await?;
    let columns: Vec<String> = file.columns.iter().map(|name| ident::quote(name)).collect();
    let copy = format!(
        "copy {relation} ({}) from stdin with (format csv)",
        columns.join(", ")
    );
    let mut stream = conn.copy_in_raw(&copy).await?;
    let mut text = String::new();
    for row in &file.rows {
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
    stream.send(text.into_bytes()).await?;
    let rows = stream.finish().await?;
    Ok(Built {
        message: format!("INSERT {rows}"),
        rows: Some(rows),
    })
}
