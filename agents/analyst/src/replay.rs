//! A proof, run again: whether the same query gives the same rows, and what changed if not.

use ballpoint_metrics::Service;
use ballpoint_metrics::proof::{self as evidence, Evidence};
use ballpoint_metrics::query::Query;
use ballpoint_metrics::service::checksum;
use serde::Serialize;
use serde_json::Value;

use crate::answerer::{AnswerError, run};

/// What running a proof's query again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Whether the rows are those of the proof, to the last digit.
    pub same: bool,
    /// Rows found now.
    pub rows: usize,
    /// Their SHA-256.
    pub checksum: String,
    /// What is another than when the question was asked, in words; the definition, the SQL and the
    /// data may change and the rows be the same.
    pub changed: Vec<String>,
}

/// Runs a proof's query again; `None` for a proof without one.
///
/// # Errors
/// As answering a question.
pub async fn replay(service: &Service, proof: &Value) -> Result<Option<Replay>, AnswerError> {
    let Ok(query) = serde_json::from_value::<Query>(proof["query"].clone()) else {
        return Ok(None);
    };
    let ran = run(service, &query).await?;
    let (rows, checksum) = (ran.rows.len(), checksum(&ran.rows));
    let same = proof["checksum"].as_str() == Some(checksum.as_str());
    let mut changed = Vec::new();
    for then in proof["definition"].as_array().into_iter().flatten() {
        let member = then["member"].as_str().unwrap_or_default();
        match service.definition(member) {
            None => changed.push(format!("{member} is not defined any more")),
            Some(now) if now["hash"] != then["hash"] => {
                changed.push(format!("{member} is defined otherwise"));
            }
            Some(_) => {}
        }
    }
    let statements = |sql: Option<String>| sql.unwrap_or_default();
    if proof["sql"].as_str().unwrap_or_default() != statements(ran.sql()) {
        changed.push("the SQL is another".to_owned());
    }
    let then = serde_json::from_value::<Vec<Evidence>>(proof["evidence"].clone());
    if let Ok(then) = then {
        let now = ran.evidence();
        let behind = service.behind(&now).await;
        changed.extend(evidence::compare(&then, &now, &proof["behind"], &behind));
    }
    if proof["data_version"].as_u64() != Some(service.snapshot.data_version) {
        changed.push("the data was refreshed since".to_owned());
    }
    match proof["rows"].as_u64() {
        Some(then) if then != rows as u64 => changed.push(format!("{then} rows became {rows}")),
        _ if !same => changed.push("figures in the rows differ".to_owned()),
        _ => {}
    }
    Ok(Some(Replay {
        same,
        rows,
        checksum,
        changed,
    }))
}
