//! A benchmark file: one case a line, each a conversation and the outcomes that are right.

use std::collections::BTreeMap;

use ballpoint_metrics::query::{Filter, Order, Query};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of a questions file.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub id: String,
    /// Asked one after the other in one conversation; the last one is scored.
    pub turns: Vec<String>,
    /// The case passes when the outcome matches any of these.
    pub expected: Vec<Expected>,
    #[serde(default)]
    pub tags: Vec<String>,
}

/// One acceptable outcome.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Expected {
    pub behaviour: String,
    pub query: Option<ExpectedQuery>,
    pub plus_query: Option<ExpectedQuery>,
    pub answer_type: Option<String>,
    pub member: Option<String>,
    pub reason: Option<String>,
    pub about: Vec<String>,
    pub offer: Vec<String>,
}

/// A query whose windows may be given as several acceptable ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExpectedQuery {
    pub measures: Vec<String>,
    pub dimensions: Vec<String>,
    pub filters: Vec<Filter>,
    pub time_dimensions: Vec<ExpectedTime>,
    pub order: Option<BTreeMap<String, String>>,
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExpectedTime {
    pub dimension: String,
    pub date_range: Option<Value>,
    pub compare_date_range: Option<Value>,
    pub granularity: Option<String>,
}

impl ExpectedTime {
    /// The acceptable windows; empty when any is.
    pub fn windows(&self) -> Vec<[String; 2]> {
        let Some(range) = &self.date_range else {
            return Vec::new();
        };
        let lists = range.get("anyOf").and_then(Value::as_array);
        let one = [range.clone()];
        lists
            .map_or(&one[..], Vec::as_slice)
            .iter()
            .filter_map(pair)
            .collect()
    }

    /// The windows compared, in order.
    pub fn compared(&self) -> Vec<[String; 2]> {
        let ranges = self.compare_date_range.as_ref().and_then(Value::as_array);
        ranges.into_iter().flatten().filter_map(pair).collect()
    }
}

fn pair(value: &Value) -> Option<[String; 2]> {
    serde_json::from_value(value.clone()).ok()
}

impl ExpectedQuery {
    /// As Cube queries, one for each acceptable window.
    pub fn queries(&self) -> Vec<Query> {
        let windows = self
            .time_dimensions
            .first()
            .map(ExpectedTime::windows)
            .unwrap_or_default();
        let window_or_none: Vec<Option<[String; 2]>> = if windows.is_empty() {
            vec![None]
        } else {
            windows.into_iter().map(Some).collect()
        };
        window_or_none
            .into_iter()
            .map(|window| self.with_window(window))
            .collect()
    }

    fn with_window(&self, window: Option<[String; 2]>) -> Query {
        use ballpoint_metrics::query::{DateRange, TimeDimension};
        let time = self.time_dimensions.iter().map(|time| {
            let compared = time.compared();
            TimeDimension {
                dimension: time.dimension.clone(),
                granularity: time.granularity.clone(),
                date_range: window
                    .clone()
                    .map(|bounds| DateRange::Bounds(bounds.to_vec())),
                compare_date_range: (!compared.is_empty()).then(|| {
                    compared
                        .into_iter()
                        .map(|it| DateRange::Bounds(it.to_vec()))
                        .collect()
                }),
            }
        });
        let order = self.order.as_ref().map(|entries| {
            Order::Map(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), Value::from(v.clone())))
                    .collect(),
            )
        });
        Query {
            measures: self.measures.clone(),
            dimensions: self.dimensions.clone(),
            filters: self.filters.clone(),
            time_dimensions: time.collect(),
            order,
            limit: self.limit,
            ..Query::default()
        }
    }
}

/// How a case came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// An expected answer.
    Correct,
    /// An answer that is not expected, or whose figures do not hold: the number that matters.
    Wrong,
    /// A question back where one is expected.
    Clarified,
    /// A refusal where one is expected.
    Refused,
    /// A question back or a refusal where an answer was expected.
    Needless,
}

impl Score {
    /// +1, 0 or -1.
    pub fn points(self) -> i32 {
        match self {
            Self::Correct | Self::Clarified | Self::Refused => 1,
            Self::Needless => 0,
            Self::Wrong => -1,
        }
    }
}
