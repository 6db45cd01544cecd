//! CSV files as tables: types inferred as dbt infers them, loaded by COPY.

use ballpoint_postgres::ident;
use jiff::fmt::strtime;
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
        .flexible(true)
        .from_path(root.join(&node.original_file_path))
        .map_err(|error| format!("{}: {error}", node.original_file_path))?;
    let wrong = |error: csv::Error| format!("{}: {error}", node.original_file_path);
    let headers = reader.headers().map_err(wrong)?;
    // Spreadsheets write a mark of byte order before the first name.
    let columns: Vec<String> = headers
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let mut row: Vec<String> = record.iter().map(str::to_owned).collect();
        if row.len() > columns.len() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(format!(
                "{}:{line}: a row has {} values, and the file {} columns",
                node.original_file_path,
                row.len(),
                columns.len()
            ));
        }
        // What a row lacks at its end is null.
        row.resize(columns.len(), String::new());
        rows.push(row);
    }
    Ok(SeedFile {
        columns,
        rows,
        is_left_out: false,
    })
}

impl SeedFile {
    /// The rows as COPY reads them: every value quoted, a null as nothing, a number as its digits.
    fn as_csv(&self, node: &Node) -> String {
        let numbers: Vec<bool> = (0..self.columns.len())
            .map(|index| self.configured_type(node, index).is_none() && self.all(index, is_number))
            .collect();
        let mut text = String::new();
        for row in self.rows.iter().filter(|_| !self.is_left_out) {
            let cells: Vec<String> = row
                .iter()
                .zip(&numbers)
                .map(|(cell, is_number)| match (is_null(cell), is_number) {
                    (true, _) => String::new(),
                    (false, true) => number(cell).unwrap_or_default(),
                    (false, false) => format!("\"{}\"", cell.replace('"', "\"\"")),
                })
                .collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }

    fn configured_type<'n>(&self, node: &'n Node, index: usize) -> Option<&'n str> {
        let types = node.config.get("column_types")?;
        types.get(&self.columns[index])?.as_str()
    }

    /// Whether every value of a column that is there is of a kind; nulls are of any.
    fn all(&self, index: usize, test: fn(&str) -> bool) -> bool {
        let values = self.rows.iter().map(|row| row[index].trim());
        values.filter(|value| !is_null(value)).all(test)
    }

    /// The type of a column: configured, or the first of dbt's that holds every value.
    fn column_type(&self, node: &Node, index: usize) -> String {
        if let Some(name) = self.configured_type(node, index) {
            return name.to_owned();
        }
        let all = |test: fn(&str) -> bool| self.all(index, test);
        // Nothing but nulls is a number to dbt.
        let name = if all(|value| number(value).is_some_and(|it| it.parse::<i32>().is_ok())) {
            "integer"
        } else if all(|value| number(value).is_some_and(|it| it.parse::<i64>().is_ok())) {
            "bigint"
        } else if all(is_number) {
            "float8"
        } else if all(is_date) {
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

/// Signs that may stand around a number.
const CURRENCIES: &[char] = &[
    '؋', '$', 'ƒ', '៛', '¥', '₡', '₱', '£', '€', '¢', '﷼', '₪', '₩', '₭', '₮', '₦', '฿', '₤', '₫',
];

/// The number that dbt reads in a text such as `-$1,000.00` or `5%`; one without a fraction has none.
fn number(value: &str) -> Option<String> {
    let value = value.trim().trim_matches('%');
    let (sign, digits) = match value.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", value),
    };
    let digits = digits.trim_matches(CURRENCIES).replace(',', "");
    let is_plain = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    if !digits.chars().all(is_plain) || digits.parse::<f64>().is_err() {
        return None;
    }
    let whole = match digits.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => &digits,
    };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(format!("{sign}{}", whole.trim_start_matches('+')))
}

fn is_number(value: &str) -> bool {
    number(value).is_some()
}

/// A day, its parts with or without zeros before them.
fn is_date(value: &str) -> bool {
    strtime::parse("%Y-%m-%d", value).is_ok_and(|parsed| parsed.to_date().is_ok())
}

/// A day and a time of day; of the form with a `T`, with or without a zone (which dbt drops).
fn is_moment(value: &str) -> bool {
    let plain = strtime::parse("%Y-%m-%d %H:%M:%S", value);
    plain.is_ok_and(|parsed| parsed.to_datetime().is_ok())
        || value.contains('T')
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
    if let Err(error) = stream.send(file.as_csv(node).into_bytes()).await {
        return Err(error.into());
    }
    let rows = stream.finish().await?;
    Ok(Built::rows("INSERT", rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read_as_dbt_reads_them() {
        let numbers = ["5%", "-$1,000.00", "+3", "1.50", "1e3", ".5"].map(number);
        let read = ["5", "-1000", "3", "1.50", "1e3", ".5"].map(|text| Some(text.to_owned()));
        assert_eq!(numbers, read);
        assert!(
            ["a", "1a", "nan", "-", "$"]
                .iter()
                .all(|text| !is_number(text))
        );
        assert!(is_date("2020-1-5") && is_date("2020-01-05") && !is_date("20200105"));
        assert!(is_moment("2020-02-04 4:30:21") && is_moment("2020-02-04T04:30:21Z"));
        assert!(!is_moment("2020-02-04") && !is_moment("noon"));
    }
}
