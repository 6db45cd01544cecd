//! A Cube query as clients send it. Shapes: Cube REST API, "Query format".
//!
//! Unknown keys are refused by name. What a client may write in several forms (an order as an
//! object or an array, a date range as text or a pair) keeps that form here; normalising is the
//! planner's job.

use serde::{Deserialize, Serialize};

/// What to measure, by what, over which time, for which rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<String>,
    /// Measures that the query brings along; `measures` names those that it shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub computed_measures: Vec<Computed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_dimensions: Vec<TimeDimension>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ungrouped: Option<bool>,
    /// IANA name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_query: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

/// A time dimension with the window and the step asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeDimension {
    pub dimension: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_range: Option<DateRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare_date_range: Option<Vec<DateRange>>,
}

/// `"last week"`, `["2026-01-01"]` or `["2026-01-01", "2026-01-31"]`; both ends inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DateRange {
    Phrase(String),
    Bounds(Vec<String>),
}

/// A condition on one member, or a tree of conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Filter {
    Or {
        or: Vec<Filter>,
    },
    And {
        and: Vec<Filter>,
    },
    Member {
        /// Older clients write `dimension`.
        #[serde(alias = "dimension")]
        member: String,
        operator: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<FilterValue>>,
    },
}

/// What a filter may ask of a member.
pub(crate) const OPERATORS: [&str; 25] = [
    "equals",
    "notEquals",
    "in",
    "notIn",
    "contains",
    "notContains",
    "startsWith",
    "notStartsWith",
    "endsWith",
    "notEndsWith",
    "gt",
    "gte",
    "lt",
    "lte",
    "set",
    "notSet",
    "inDateRange",
    "notInDateRange",
    "onTheDate",
    "notOnTheDate",
    "beforeDate",
    "beforeOrOnDate",
    "afterDate",
    "afterOrOnDate",
    "measureFilter",
];

/// A measure of the query's own: an expression over members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Computed {
    pub name: String,
    pub sql: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

impl Filter {
    /// Gives members without a cube this one; `CUBE` too.
    pub(crate) fn qualify(&mut self, cube: &str) {
        match self {
            Self::Or { or: inner } | Self::And { and: inner } => {
                inner.iter_mut().for_each(|filter| filter.qualify(cube));
            }
            Self::Member { member, .. } => {
                let bare = member.trim().trim_matches(['{', '}']).to_owned();
                let bare = bare.strip_prefix("CUBE.").unwrap_or(&bare);
                *member = match bare.contains('.') {
                    true => bare.to_owned(),
                    false => format!("{cube}.{bare}"),
                };
            }
        }
    }

    /// Calls `with` for the name of each member that is asked something.
    pub(crate) fn each_member(&self, with: &mut impl FnMut(&str)) {
        match self {
            Self::Or { or: inner } | Self::And { and: inner } => {
                inner.iter().for_each(|filter| filter.each_member(with));
            }
            Self::Member { member, .. } => with(member),
        }
    }

    /// `member operator values`, the values as text.
    pub fn member(
        member: impl Into<String>,
        operator: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values: Vec<_> = values
            .into_iter()
            .map(|v| FilterValue::Text(v.into()))
            .collect();
        Self::Member {
            member: member.into(),
            operator: operator.into(),
            values: (!values.is_empty()).then_some(values),
        }
    }
}

/// Cube's clients send text; numbers, booleans and nulls are tolerated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
    Null,
}

/// `{"Cube.member": "desc"}` or `[["Cube.member", "desc"]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Order {
    Map(serde_json::Map<String, serde_json::Value>),
    List(Vec<(String, String)>),
}
