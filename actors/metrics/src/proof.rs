//! The evidence behind a result: what was read in which version, by which definitions and policies,
//! from which rollup, and what stands behind the tables; and what differs when it is asked again.

use std::collections::BTreeMap;

use ballpoint_runtime::segment::TableName;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::query::Filter;
use crate::service::Service;

/// Rows that are told apart in a proof; of a longer result only the whole is compared.
pub(crate) const ROWS_MAX: usize = 2000;
/// Rows that a replay names.
const NAMED_MAX: usize = 5;

/// Tells what stands behind tables of the warehouse: models and tests with their last verdicts,
/// sources with their positions. The composition root knows; the metrics do not.
pub trait Lineage: Send + Sync {
    /// As JSON: `{"models": [{id, table, tests: [{id, status}]}], "sources": [{source, table,
    /// position}]}`.
    fn behind<'a>(&'a self, tables: &'a [TableName]) -> BoxFuture<'a, Result<Value, String>>;
}

/// What a result was made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Row filters that access policies added.
    pub policy: Vec<Filter>,
    /// The rollup that was read instead of the source.
    pub rollup: Option<String>,
    /// The tables, and the event that last wrote each.
    pub tables: Vec<TableVersion>,
    /// SHA-256 of each row.
    pub rows: Vec<RowProof>,
}

/// A table and the id of the event that last wrote it; `None` where none tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    pub table: String,
    pub version: Option<i64>,
}

/// A row by what names it (its dimensions) and the checksum of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProof {
    pub row: String,
    pub checksum: String,
}

impl TableVersion {
    pub(crate) fn of(table: &TableName, version: Option<i64>) -> Self {
        let table = format!("{}.{}", table.schema, table.name);
        Self { table, version }
    }

    pub(crate) fn name(&self) -> Option<TableName> {
        let (schema, name) = self.table.split_once('.')?;
        Some(TableName::new(schema, name))
    }
}

impl Service {
    /// What relations stand in the warehouse, each in its version.
    pub(crate) fn table_versions(&self, relations: &[TableName]) -> Vec<TableVersion> {
        let known = self.results.versions.at_present();
        let version = |it: &TableName| TableVersion::of(it, known.of(it));
        relations.iter().map(version).collect()
    }
}

/// The rows' checksums, each under the row's dimensions.
pub(crate) fn row_proofs(rows: &[Map<String, Value>], measures: &[String]) -> Vec<RowProof> {
    if rows.len() > ROWS_MAX {
        return Vec::new();
    }
    let proof = |row: &Map<String, Value>| {
        let shown = row.iter().filter(|(key, _)| !measures.contains(key));
        let texts: Vec<String> = shown
            .map(|(key, value)| format!("{key} = {}", plain(value)))
            .collect();
        RowProof {
            row: if texts.is_empty() {
                "the only row".to_owned()
            } else {
                texts.join(", ")
            },
            checksum: hex(&Sha256::digest(json_of(row))[..16]),
        }
    };
    rows.iter().map(proof).collect()
}

fn json_of(row: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(row).unwrap_or_default()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether both show the same rows; their order counts only where the query says it, and rows that
/// it leaves equal may come in any. `None` where there are too many to be told apart.
pub fn same_rows(then: &[Evidence], now: &[Evidence]) -> Option<bool> {
    let rows = |all: &[Evidence]| -> Option<Vec<Vec<(String, String)>>> {
        let of = |it: &Evidence| {
            let mut rows: Vec<(String, String)> = it
                .rows
                .iter()
                .map(|row| (row.row.clone(), row.checksum.clone()))
                .collect();
            rows.sort_unstable();
            (!rows.is_empty()).then_some(rows)
        };
        all.iter().map(of).collect()
    };
    Some(rows(then)? == rows(now)?)
}

/// What is another in the evidence than it was, in words, and why the rows may differ.
pub fn compare(
    then: &[Evidence],
    now: &[Evidence],
    behind_then: &Value,
    behind_now: &Value,
) -> Vec<String> {
    let mut changed = Vec::new();
    for (then, now) in then.iter().zip(now) {
        if then.policy != now.policy {
            changed.push("another row policy applies".to_owned());
        }
        if then.rollup != now.rollup {
            let name = |it: &Option<String>| {
                it.as_deref()
                    .map_or("the source".to_owned(), |it| format!("rollup {it}"))
            };
            changed.push(format!(
                "it is read from {} instead of {}",
                name(&now.rollup),
                name(&then.rollup)
            ));
        }
    }
    let written = written_since(then, now);
    changed.extend(written.iter().cloned());
    changed.extend(moved(behind_then, behind_now));
    let rows = rows_that_differ(then, now);
    let tables = unwritten(then, now);
    if !rows.is_empty() && written.is_empty() && !tables.is_empty() {
        changed.push(format!(
            "rows of {} were changed by something other than a load or a build",
            tables.join(" or ")
        ));
    }
    changed.extend(rows);
    changed
}

fn versions(all: &[Evidence]) -> BTreeMap<&str, Option<i64>> {
    let tables = all.iter().flat_map(|it| &it.tables);
    tables.map(|it| (it.table.as_str(), it.version)).collect()
}

fn written_since(then: &[Evidence], now: &[Evidence]) -> Vec<String> {
    let (then, now) = (versions(then), versions(now));
    let mut changed = Vec::new();
    for (table, version) in &now {
        match then.get(table) {
            None => changed.push(format!("{table} is read too")),
            Some(before) if before != version => {
                let event = version.map_or("unknown".to_owned(), |it| it.to_string());
                changed.push(format!("{table} was written since (event {event})"));
            }
            Some(_) => {}
        }
    }
    let gone = then.keys().filter(|table| !now.contains_key(*table));
    changed.extend(gone.map(|table| format!("{table} is not read any more")));
    changed
}

/// Tables that are read now as then, and that no event has written in between.
fn unwritten<'e>(then: &'e [Evidence], now: &[Evidence]) -> Vec<&'e str> {
    let now = versions(now);
    let same = versions(then)
        .into_iter()
        .filter(|(table, version)| now.get(table) == Some(version));
    same.map(|(table, _)| table).collect()
}

/// Sources that stand elsewhere.
fn moved(then: &Value, now: &Value) -> Vec<String> {
    let positions = |of: &Value| -> BTreeMap<String, String> {
        let sources = of["sources"].as_array().into_iter().flatten();
        sources
            .map(|it| {
                (
                    format!("{}: {}", plain(&it["source"]), plain(&it["table"])),
                    it["position"].to_string(),
                )
            })
            .collect()
    };
    let (then, now) = (positions(then), positions(now));
    let moved = now
        .iter()
        .filter(|(table, position)| then.get(*table).is_some_and(|it| it != *position));
    moved
        .map(|(table, position)| {
            format!("{table} stood at {} and stands at {position}", then[table])
        })
        .collect()
}

fn rows_that_differ(then: &[Evidence], now: &[Evidence]) -> Vec<String> {
    let rows = |all: &[Evidence]| -> BTreeMap<String, String> {
        let rows = all
            .iter()
            .enumerate()
            .flat_map(|(at, it)| it.rows.iter().map(move |row| (at, row)));
        rows.map(|(at, it)| (format!("{at}\0{}", it.row), it.checksum.clone()))
            .collect()
    };
    let (then, now) = (rows(then), rows(now));
    let shown = |key: &String| key.split('\0').nth(1).unwrap_or_default().to_owned();
    let mut changed = Vec::new();
    for (row, checksum) in &then {
        match now.get(row) {
            Some(found) if found != checksum => {
                changed.push(format!("the row of {} differs", shown(row)))
            }
            None => changed.push(format!("the row of {} is gone", shown(row))),
            Some(_) => {}
        }
    }
    let new = now.keys().filter(|row| !then.contains_key(*row));
    changed.extend(new.map(|row| format!("the row of {} is new", shown(row))));
    let more = changed.len().saturating_sub(NAMED_MAX);
    changed.truncate(NAMED_MAX);
    if more > 0 {
        changed.push(format!("and {more} rows more"));
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evidence(version: i64, checksum: &str) -> Vec<Evidence> {
        vec![Evidence {
            tables: vec![TableVersion {
                table: "marts.orders".to_owned(),
                version: Some(version),
            }],
            rows: vec![RowProof {
                row: "city = Pune".to_owned(),
                checksum: checksum.to_owned(),
            }],
            ..Evidence::default()
        }]
    }

    #[test]
    fn a_row_that_changed_without_a_load_or_build_is_named_with_its_table() {
        let none = Value::Null;
        assert!(compare(&evidence(1, "a"), &evidence(1, "a"), &none, &none).is_empty());
        let tampered = compare(&evidence(1, "a"), &evidence(1, "b"), &none, &none).join("; ");
        assert!(
            tampered.contains("marts.orders were changed by something other"),
            "{tampered}"
        );
        assert!(
            tampered.contains("the row of city = Pune differs"),
            "{tampered}"
        );
        let built = compare(&evidence(1, "a"), &evidence(2, "b"), &none, &none).join("; ");
        assert!(
            built.contains("written since (event 2)") && !built.contains("something other"),
            "{built}"
        );
    }

    #[test]
    fn a_source_that_moved_says_from_where_to_where() {
        let at = |lsn: &str| json!({ "sources": [{ "source": "shop", "table": "public.orders", "position": lsn }] });
        let moved = compare(&[], &[], &at("0/1"), &at("0/2")).join("; ");
        assert!(
            moved.contains("shop: public.orders stood at \"0/1\" and stands at \"0/2\""),
            "{moved}"
        );
    }
}
