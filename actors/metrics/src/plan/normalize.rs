//! A request as a client wrote it, made explicit: defaults, resolved dates, one order form.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::dates::{Range, iso, local_text, parse_pair, parse_phrase};
use super::error::QueryError;
use super::reading::read;
use crate::query::{DateRange, Filter, FilterValue, Order, Query, TimeDimension};

pub const DEFAULT_LIMIT: u32 = 10_000;
pub const MAX_LIMIT: u32 = 50_000;
/// Far enough that no date phrase means the same then.
pub(crate) const ANOTHER_TIME: SignedDuration = SignedDuration::from_hours(24 * 401 + 5);

/// One query with nothing left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalized {
    /// Date ranges are pairs of local times; the order is a list; limit and time zone are set.
    pub query: Query,
    /// As Cube echoes it.
    pub json: Value,
    /// Absent when the client left the order to us.
    pub order: Option<Vec<(String, bool)>>,
    pub zone: TimeZone,
    pub zone_name: String,
    /// The moment that phrases such as "last month" are read at.
    pub(crate) now: Timestamp,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryType {
    Regular,
    CompareDateRange,
    Blending,
}

impl QueryType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "regularQuery",
            Self::CompareDateRange => "compareDateRangeQuery",
            Self::Blending => "blendingQuery",
        }
    }
}

/// Normalizes the `query` of a request: one query or an array of them.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn normalize(
    query: &Value,
    now: Timestamp,
) -> Result<(QueryType, Vec<Normalized>), QueryError> {
    match query {
        Value::Array(queries) => {
            if queries.is_empty() {
                return Err(QueryError::invalid("Query array is empty"));
            }
            let mut all = Vec::new();
            for query in queries {
                all.extend(normalize_one(query, now)?.1);
            }
            check_blending(&all)?;
            Ok((QueryType::Blending, all))
        }
        query => normalize_one(query, now),
    }
}

fn check_blending(queries: &[Normalized]) -> Result<(), QueryError> {
    let granularity = |query: &Normalized| {
        query
            .query
            .time_dimensions
            .iter()
            .find_map(|time| time.granularity.clone())
    };
    let Some(first) = queries.first().and_then(granularity) else {
        return Err(QueryError::invalid(
            "Data blending query without granularity is not supported",
        ));
    };
    if queries
        .iter()
        .any(|query| granularity(query).as_ref() != Some(&first))
    {
        return Err(QueryError::invalid(
            "Data blending query granularities must match",
        ));
    }
    Ok(())
}

fn normalize_one(
    value: &Value,
    now: Timestamp,
) -> Result<(QueryType, Vec<Normalized>), QueryError> {
    let Value::Object(raw) = value else {
        return Err(QueryError::invalid(
            "Invalid query format: \"value\" must be of type object",
        ));
    };
    let query = read(raw)?;
    let compared: Vec<usize> = (0..query.time_dimensions.len())
        .filter(|&at| query.time_dimensions[at].compare_date_range.is_some())
        .collect();
    match compared.as_slice() {
        [] => Ok((QueryType::Regular, vec![finish(raw, query, now)?])),
        [at] => {
            let ranges = query.time_dimensions[*at]
                .compare_date_range
                .clone()
                .unwrap_or_default();
            let mut all = Vec::new();
            for range in ranges {
                let mut query = query.clone();
                query.time_dimensions[*at].compare_date_range = None;
                query.time_dimensions[*at].date_range = Some(range);
                all.push(finish(raw, query, now)?);
            }
            Ok((QueryType::CompareDateRange, all))
        }
        _ => Err(QueryError::invalid(
            "compareDateRange can only exist for one timeDimension",
        )),
    }
}

fn finish(
    raw: &Map<String, Value>,
    mut query: Query,
    now: Timestamp,
) -> Result<Normalized, QueryError> {
    let zone_name = query.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
    let zone = TimeZone::get(&zone_name).map_err(|_| {
        QueryError::Invalid(format!(
            "Invalid query format: unknown time zone \"{zone_name}\""
        ))
    })?;
    // A name from the database of zones, never the caller's spelling: it goes into the SQL text.
    let zone_name = zone.iana_name().unwrap_or("UTC").to_owned();
    read_dotted_granularities(&mut query);
    for time in &mut query.time_dimensions {
        resolve_time(time, now, &zone)?;
    }
    for filter in &mut query.filters {
        resolve_filter(filter, now, &zone)?;
    }
    let grained = query
        .time_dimensions
        .iter()
        .any(|time| time.granularity.is_some());
    if query.measures.is_empty() && query.dimensions.is_empty() && !grained {
        return Err(QueryError::invalid(
            "Query should contain either measures, dimensions or timeDimensions with granularities in order to be valid",
        ));
    }
    let order = query.order.as_ref().map(read_order).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    query.limit = Some(limit);
    query.timezone = Some(zone_name.clone());
    let json = echo(raw, &query, order.as_deref());
    Ok(Normalized {
        query,
        json,
        order,
        zone,
        zone_name,
        now,
    })
}

/// `Cube.time.month` among the dimensions is a time dimension with a granularity.
fn read_dotted_granularities(query: &mut Query) {
    let dotted: Vec<String> = query
        .dimensions
        .iter()
        .filter(|name| name.matches('.').count() == 2)
        .cloned()
        .collect();
    query.dimensions.retain(|name| !dotted.contains(name));
    for name in dotted {
        if let Some((dimension, granularity)) = name.rsplit_once('.') {
            query.time_dimensions.push(TimeDimension {
                dimension: dimension.to_owned(),
                granularity: Some(granularity.to_owned()),
                ..TimeDimension::default()
            });
        }
    }
}

fn resolve_time(
    time: &mut TimeDimension,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(), QueryError> {
    if let Some(range) = &time.date_range {
        time.date_range = Some(DateRange::Bounds(
            resolve_range(range, now, zone)?.texts().into(),
        ));
    }
    Ok(())
}

/// The local times that a range covers.
pub fn resolve_range(
    range: &DateRange,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Range, QueryError> {
    let unreadable = |text: &str| QueryError::Invalid(format!("Can't parse date: '{text}'"));
    match range {
        DateRange::Phrase(text) => parse_phrase(text, now, zone).ok_or_else(|| unreadable(text)),
        DateRange::Bounds(bounds) => match bounds.as_slice() {
            [text] => parse_phrase(text, now, zone).ok_or_else(|| unreadable(text)),
            [from, to] => parse_pair(from, to, now, zone).map_err(|text| unreadable(&text)),
            _ => Err(QueryError::invalid(
                "Invalid query format: \"dateRange\" must hold one or two dates",
            )),
        },
    }
}

/// Makes a filter's values texts, and its phrases dates.
pub(super) fn resolve_filter(
    filter: &mut Filter,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(), QueryError> {
    match filter {
        Filter::Or { or: inner } | Filter::And { and: inner } => inner
            .iter_mut()
            .try_for_each(|filter| resolve_filter(filter, now, zone)),
        Filter::Member {
            member,
            operator,
            values,
        } => {
            if let Some(values) = values {
                for value in values.iter_mut() {
                    match value {
                        FilterValue::Number(number) => {
                            *value = FilterValue::Text(number.to_string())
                        }
                        FilterValue::Bool(flag) => *value = FilterValue::Text(flag.to_string()),
                        FilterValue::Text(_) | FilterValue::Null => {}
                    }
                }
            }
            let unary = matches!(operator.as_str(), "set" | "notSet" | "measureFilter");
            if !unary && values.as_ref().is_none_or(Vec::is_empty) {
                let shown = json!({ "member": member, "operator": operator });
                return Err(QueryError::Invalid(format!(
                    "Values required for filter: {shown}"
                )));
            }
            resolve_filter_dates(
                operator,
                values.as_deref_mut().map(|_| ()),
                values,
                now,
                zone,
            )
        }
    }
}

fn resolve_filter_dates(
    operator: &str,
    present: Option<()>,
    values: &mut Option<Vec<FilterValue>>,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(), QueryError> {
    let (Some(()), Some(list)) = (present, values.as_mut()) else {
        return Ok(());
    };
    let unreadable = |text: &str| QueryError::Invalid(format!("Can't parse date: '{text}'"));
    match (operator, list.as_slice()) {
        (
            "inDateRange" | "notInDateRange" | "onTheDate" | "notOnTheDate",
            [FilterValue::Text(text)],
        ) => {
            let range = parse_phrase(text, now, zone).ok_or_else(|| unreadable(text))?;
            *list = range.texts().map(FilterValue::Text).into();
        }
        (
            "beforeDate" | "beforeOrOnDate" | "afterDate" | "afterOrOnDate",
            [FilterValue::Text(text), ..],
        ) if iso(text, zone).is_none() => {
            let range = parse_phrase(text, now, zone).ok_or_else(|| unreadable(text))?;
            *list = vec![FilterValue::Text(local_text(range.from))];
        }
        _ => {}
    }
    Ok(())
}

fn read_order(order: &Order) -> Result<Vec<(String, bool)>, QueryError> {
    let direction = |text: &str| match text {
        "asc" | "ASC" => Ok(false),
        "desc" | "DESC" => Ok(true),
        other => Err(QueryError::Invalid(format!(
            "Invalid query format: order must be \"asc\" or \"desc\", not \"{other}\""
        ))),
    };
    match order {
        Order::Map(map) => map
            .iter()
            .map(|(member, value)| Ok((member.clone(), direction(value.as_str().unwrap_or(""))?)))
            .collect(),
        Order::List(list) => list
            .iter()
            .map(|(member, text)| Ok((member.clone(), direction(text)?)))
            .collect(),
    }
}

/// The normalized query as Cube sends it back.
fn echo(raw: &Map<String, Value>, query: &Query, order: Option<&[(String, bool)]>) -> Value {
    let mut out = Map::new();
    let passed = |key: &str| raw.get(key).filter(|value| !value.is_null()).cloned();
    if passed("measures").is_some() {
        out.insert("measures".to_owned(), json!(query.measures));
    }
    if !query.computed_measures.is_empty() {
        out.insert(
            "computedMeasures".to_owned(),
            json!(query.computed_measures),
        );
    }
    out.insert("dimensions".to_owned(), json!(query.dimensions));
    out.insert("timeDimensions".to_owned(), json!(query.time_dimensions));
    if let Some(segments) = passed("segments") {
        out.insert("segments".to_owned(), segments);
    }
    out.insert("limit".to_owned(), json!(query.limit));
    for key in ["offset", "total"] {
        out.extend(passed(key).map(|value| (key.to_owned(), value)));
    }
    let zone = passed("timezone").unwrap_or_else(|| json!("UTC"));
    out.insert("timezone".to_owned(), zone);
    for key in ["ungrouped", "responseFormat", "renewQuery"] {
        out.extend(passed(key).map(|value| (key.to_owned(), value)));
    }
    out.insert("filters".to_owned(), json!(query.filters));
    out.insert("rowLimit".to_owned(), json!(query.limit));
    if let Some(order) = order {
        let items: Vec<Value> = order
            .iter()
            .map(|(id, desc)| json!({ "id": id, "desc": desc }))
            .collect();
        out.insert("order".to_owned(), Value::Array(items));
    }
    Value::Object(out)
}
