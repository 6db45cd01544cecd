//! The figures behind a proposal: which queries are asked, and which keys their rows single out.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_metrics::query::{DateRange, Filter, Query, TimeDimension};
use ballpoint_metrics::{QueryError, QueryResult, Service};
use ballpoint_planner::frame::{Condition, cube_of};
use serde_json::{Map, Value, json};

use crate::condition::{Choice, Figure};

/// What one query may return; a choice beyond it is no operational decision.
pub(crate) const ROWS_MAX: u32 = 10_000;

/// Rows that a proposal keeps for whoever looks at it.
const SHOWN: usize = 20;

/// The keys that meet a choice, and why.
pub(crate) struct Evidence {
    /// One entry a thing that was judged and meets the condition.
    pub(crate) judged: usize,
    /// Whole keys, by member.
    pub(crate) keys: Vec<BTreeMap<String, String>>,
    /// What is kept with the plan.
    pub(crate) shown: Value,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error(transparent)]
    Query(#[from] QueryError),
    /// More rows than a query returns.
    #[error("more than {ROWS_MAX} rows match")]
    TooMany,
}

/// Asks the registry which keys meet the choice.
pub(crate) async fn collect(
    service: &Service,
    choice: &Choice,
    key: &[String],
) -> Result<Evidence, EvidenceError> {
    let mut queries = Vec::new();
    let judged = match &choice.figure {
        None => all(service, choice, &mut queries).await?,
        Some(figure) => meeting(service, choice, figure, &mut queries).await?,
    };
    let expanded: BTreeSet<BTreeMap<String, String>> = if choice.level.len() == key.len() {
        judged.iter().map(|(thing, _)| thing.clone()).collect()
    } else {
        let things: BTreeSet<&BTreeMap<String, String>> = judged.iter().map(|(it, _)| it).collect();
        let rows = Choice {
            filters: choice.rows.clone(),
            window: None,
            ..choice.clone()
        };
        let query = base(&rows, key, &count_of(&choice.level), None);
        let rows = ask(service, query, &mut queries).await?;
        let whole = rows.rows.iter().filter_map(|row| key_of(row, key));
        whole
            .filter(|it| {
                let part = it
                    .iter()
                    .filter(|(member, _)| choice.level.contains(member));
                let part: BTreeMap<String, String> =
                    part.map(|(m, v)| (m.clone(), v.clone())).collect();
                things.contains(&part)
            })
            .collect()
    };
    let top: Vec<Value> = judged
        .iter()
        .take(SHOWN)
        .map(|(thing, figure)| json!({ "key": thing, "figure": figure }))
        .collect();
    Ok(Evidence {
        judged: judged.len(),
        keys: expanded.into_iter().collect(),
        shown: json!({ "queries": queries, "matched": judged.len(), "rows": top }),
    })
}

/// Things by their key members, the clearest case first.
type Judged = Vec<(BTreeMap<String, String>, f64)>;

/// Everything that has a unit under the filters.
async fn all(
    service: &Service,
    choice: &Choice,
    queries: &mut Vec<Value>,
) -> Result<Judged, EvidenceError> {
    let count = count_of(&choice.level);
    let query = base(choice, &choice.level, &count, None);
    let rows = ask(service, query, queries).await?;
    Ok(figures(&rows, &choice.level, &count).into_iter().collect())
}

async fn meeting(
    service: &Service,
    choice: &Choice,
    figure: &Figure,
    queries: &mut Vec<Value>,
) -> Result<Judged, EvidenceError> {
    let query = base(choice, &choice.level, &figure.measure, figure.part.as_ref());
    let rows = ask(service, query, queries).await?;
    let (bound, number) = (figure.bound.comparison, figure.number);
    let mut parts = figures(&rows, &choice.level, &figure.measure);
    if let Some(whole) = &figure.whole {
        let query = base(choice, &choice.level, whole, None);
        let rows = ask(service, query, queries).await?;
        let wholes = figures(&rows, &choice.level, whole);
        // What has no part at all has a share of 0.
        parts = wholes
            .into_iter()
            .filter(|(_, whole)| *whole > 0.0)
            .map(|(thing, whole)| {
                let part = parts.get(&thing).copied().unwrap_or(0.0);
                (thing, 100.0 * part / whole)
            })
            .collect();
    } else if figure.part.is_some() && bound.holds(0.0, number) {
        // What has no part at all has no row either, and a count of 0.
        let query = base(choice, &choice.level, &figure.measure, None);
        let rows = ask(service, query, queries).await?;
        for thing in figures(&rows, &choice.level, &figure.measure).into_keys() {
            parts.entry(thing).or_insert(0.0);
        }
    }
    let mut judged: Judged = parts
        .into_iter()
        .filter(|(_, value)| bound.holds(*value, number))
        .collect();
    judged.sort_by(|a, b| (b.1 - number).abs().total_cmp(&(a.1 - number).abs()));
    Ok(judged)
}

fn count_of(members: &[String]) -> String {
    let cube = members.first().map_or("", |it| cube_of(it));
    format!("{cube}.count")
}

fn base(choice: &Choice, level: &[String], measure: &str, part: Option<&Condition>) -> Query {
    let filters = choice.filters.iter().chain(part);
    let window = choice.window.as_ref().zip(choice.time.as_ref());
    let time = window.map(|(window, time)| TimeDimension {
        dimension: time.clone(),
        granularity: None,
        date_range: Some(DateRange::Bounds(window.bounds().to_vec())),
        compare_date_range: None,
    });
    Query {
        measures: vec![measure.to_owned()],
        dimensions: level.to_vec(),
        filters: filters
            .map(|it| Filter::member(&it.member, &it.operator, &it.values))
            .collect(),
        time_dimensions: time.into_iter().collect(),
        limit: Some(ROWS_MAX),
        ..Query::default()
    }
}

async fn ask(
    service: &Service,
    query: Query,
    queries: &mut Vec<Value>,
) -> Result<QueryResult, EvidenceError> {
    let result = service.query(&query).await?;
    queries.push(json!({
        "query": result.query, "sql": result.sql, "data_version": result.data_version,
        "checksum": result.checksum, "definitions": result.definitions,
    }));
    if result.rows.len() >= ROWS_MAX as usize {
        return Err(EvidenceError::TooMany);
    }
    Ok(result)
}

/// Figures by key; rows without a whole key are nobody's.
fn figures(
    result: &QueryResult,
    level: &[String],
    measure: &str,
) -> BTreeMap<BTreeMap<String, String>, f64> {
    let rows = result.rows.iter();
    rows.filter_map(|row| Some((key_of(row, level)?, number(row.get(measure)?)?)))
        .collect()
}

fn key_of(row: &Map<String, Value>, members: &[String]) -> Option<BTreeMap<String, String>> {
    let each = members.iter();
    each.map(|member| Some((member.clone(), key_text(row.get(member)?)?)))
        .collect()
}

/// A key's value as text: PostgreSQL's numbers come as JSON's.
fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whole_whatever_its_type() {
        let members = ["t.id", "t.line"].map(str::to_owned);
        let row = json!({ "t.id": 17, "t.line": "a", "t.count": 3 });
        let key = key_of(row.as_object().unwrap(), &members).unwrap();
        assert_eq!(key["t.id"], "17");
        assert_eq!(key["t.line"], "a");
        let partial = json!({ "t.id": null, "t.line": "a" });
        assert_eq!(key_of(partial.as_object().unwrap(), &members), None);
    }
}
