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

/// Runs a proof's query again; `None` for a proof without one. The rows are read from the tables, also
/// where the answer came from a rollup: one that nobody touched would vouch for tables that somebody
/// did.
///
/// # Errors
/// As answering a question.
pub async fn replay(service: &Service, proof: &Value) -> Result<Option<Replay>, AnswerError> {
    let ran = match seen(&service.from_source(), proof).await? {
        Seen::Nothing => return Ok(None),
        Seen::Refused(error) => return Ok(Some(refused(&error))),
        Seen::Rows(rows) => rows,
    };
    let then: Vec<Evidence> = serde_json::from_value(proof["evidence"].clone()).unwrap_or_default();
    let rolled_up = then.iter().any(|it| it.rollup.is_some());
    // How it would be answered now: from the rollup again, where that still stands.
    let answered = match rolled_up {
        true => seen(service, proof).await?.rows(),
        false => None,
    };
    let (rows, checksum) = (ran.rows, ran.checksum.clone());
    let same = proof["checksum"].as_str() == Some(checksum.as_str())
        || evidence::same_rows(&then, &ran.evidence) == Some(true);
    let mut changed = definitions_that_differ(service, proof);
    let asked = answered.as_ref().unwrap_or(&ran);
    if proof["sql"].as_str().unwrap_or_default() != asked.sql {
        changed.push("the SQL is another".to_owned());
    }
    if let Some(answered) = &answered
        && evidence::same_rows(&answered.evidence, &ran.evidence) == Some(false)
    {
        let mut names: Vec<String> = then.iter().filter_map(|it| it.rollup.clone()).collect();
        names.dedup();
        changed.push(format!("rollup {} and its source differ", names.join(", ")));
    }
    if !then.is_empty() {
        let mut now = asked.evidence.clone();
        for (now, source) in now.iter_mut().zip(&ran.evidence) {
            now.rows.clone_from(&source.rows);
        }
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

/// What a proof's query gives.
struct Found {
    rows: usize,
    checksum: String,
    sql: String,
    evidence: Vec<Evidence>,
}

enum Seen {
    Rows(Found),
    /// The caller of the load does not get it any more.
    Refused(String),
    /// There is no query.
    Nothing,
}

impl Seen {
    fn rows(self) -> Option<Found> {
        match self {
            Self::Rows(found) => Some(found),
            _ => None,
        }
    }
}

/// Runs a proof's query, a load's under the caller's own claims.
async fn seen(service: &Service, proof: &Value) -> Result<Seen, AnswerError> {
    let proved = if proof["request"].is_object() {
        Some(service.prove_load(proof).await)
    } else if proof["statement"].is_string() {
        Some(service.prove_sql(proof).await)
    } else {
        None
    };
    if let Some(proved) = proved {
        return Ok(match proved {
            Err(error) => Seen::Refused(error),
            Ok(now) => Seen::Rows(Found {
                rows: usize::try_from(now["rows"].as_u64().unwrap_or_default()).unwrap_or_default(),
                checksum: now["checksum"].as_str().unwrap_or_default().to_owned(),
                sql: now["sql"].as_str().unwrap_or_default().to_owned(),
                evidence: serde_json::from_value(now["evidence"].clone()).unwrap_or_default(),
            }),
        });
    }
    let Ok(query) = serde_json::from_value::<Query>(proof["query"].clone()) else {
        return Ok(Seen::Nothing);
    };
    let ran = run(service, &query).await?;
    Ok(Seen::Rows(Found {
        rows: ran.rows.len(),
        checksum: checksum(&ran.rows),
        sql: ran.sql().unwrap_or_default(),
        evidence: ran.evidence(),
    }))
}

fn refused(error: &str) -> Replay {
    Replay {
        same: false,
        rows: 0,
        checksum: String::new(),
        changed: vec![format!("it is not answered any more: {error}")],
    }
}

fn definitions_that_differ(service: &Service, proof: &Value) -> Vec<String> {
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
    changed
}
