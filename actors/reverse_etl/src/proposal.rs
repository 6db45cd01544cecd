//! A proposal: fixed values for chosen rows, with the reason and what it rests on. It comes from
//! outside (an agent, a person), so everything in it is held against the sync's file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::Sync;
use crate::error::WriteBackError;

/// More rows than this are no operational decision.
const ROWS_MAX: usize = 10_000;

/// Values to set in rows of one sync's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    pub sync: String,
    /// In words, for whoever approves.
    pub reason: String,
    /// What the reason rests on: the queries, their figures, the threshold.
    pub evidence: Value,
    pub rows: Vec<ProposedRow>,
}

/// A row by its whole key, and the writable columns to set in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedRow {
    pub key: BTreeMap<String, String>,
    pub set: BTreeMap<String, String>,
}

impl Proposal {
    /// Refuses what the sync does not declare.
    pub(crate) fn check(&self, sync: &Sync) -> Result<(), WriteBackError> {
        let refuse = |why: String| Err(WriteBackError::Proposal(why));
        if self.rows.is_empty() {
            return refuse("it names no rows".to_owned());
        }
        if self.rows.len() > ROWS_MAX {
            return refuse(format!(
                "it names {} rows, {ROWS_MAX} are allowed",
                self.rows.len()
            ));
        }
        let mut seen = BTreeSet::new();
        for row in &self.rows {
            let columns: BTreeSet<&str> = sync.key.iter().map(|f| f.column.as_str()).collect();
            if row.key.keys().map(String::as_str).collect::<BTreeSet<_>>() != columns {
                return refuse(format!(
                    "a key must be ({}), not ({})",
                    join(columns),
                    join(row.key.keys().map(String::as_str))
                ));
            }
            if !seen.insert(&row.key) {
                return refuse(format!("key ({}) is named twice", values(&row.key)));
            }
            if row.set.is_empty() {
                return refuse(format!("nothing is set for key ({})", values(&row.key)));
            }
            for field in &sync.key {
                let value = &row.key[&field.column];
                if !field.r#type.is_literal(value) {
                    return refuse(format!("{value:?} is no {}", field.r#type));
                }
            }
            for (column, value) in &row.set {
                match sync.column(column) {
                    None => {
                        return refuse(format!(
                            "{column} is not a writable column of sync {}; there are {}",
                            sync.name,
                            join(sync.columns.iter().map(|f| f.column.as_str()))
                        ));
                    }
                    Some(field) if !field.r#type.is_literal(value) => {
                        return refuse(format!("{column}: {value:?} is no {}", field.r#type));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn join<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn values(key: &BTreeMap<String, String>) -> String {
    join(key.values().map(String::as_str))
}
