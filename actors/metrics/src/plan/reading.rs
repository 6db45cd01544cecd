//! The shape of a query as a client sent it, checked and read. The words are Cube's where it has
//! some.

use serde_json::{Map, Value, json};

use super::error::QueryError;
use super::normalize::MAX_LIMIT;
use crate::model::nearest;
use crate::query::{Computed, OPERATORS, Query};

const QUERY_KEYS: [&str; 20] = [
    "measures",
    "computedMeasures",
    "dimensions",
    "segments",
    "timeDimensions",
    "filters",
    "order",
    "limit",
    "offset",
    "total",
    "totalQuery",
    "ungrouped",
    "timezone",
    "responseFormat",
    "renewQuery",
    "cache",
    "rowLimit",
    "queryType",
    "cacheMode",
    "requestId",
];

fn invalid(detail: String) -> QueryError {
    QueryError::Invalid(format!("Invalid query format: {detail}"))
}

/// Checks the shape and reads it. Joi's words where it has some.
pub(super) fn read(raw: &Map<String, Value>) -> Result<Query, QueryError> {
    for key in raw.keys() {
        if !QUERY_KEYS.contains(&key.as_str()) {
            let near = nearest(key, QUERY_KEYS, 1);
            let hint = near
                .first()
                .map_or_else(String::new, |n| format!(", did you mean \"{n}\"?"));
            return Err(invalid(format!("\"{key}\" is not allowed{hint}")));
        }
    }
    let mut raw = raw.clone();
    let own = take_computed(&mut raw)?;
    for key in ["measures", "dimensions", "segments"] {
        let Some(Value::Array(names)) = raw.get(key) else {
            continue;
        };
        for (index, name) in names.iter().enumerate() {
            if name
                .as_str()
                .is_some_and(|name| own.contains(&name.to_owned()))
            {
                continue;
            }
            let Some(text) = name.as_str() else {
                return Err(invalid(format!("\"{key}[{index}]\" must be a string")));
            };
            let most = if key == "dimensions" { 3 } else { 2 };
            if !is_member_path(text, most) {
                let pattern = match most {
                    2 => r"/^[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+$/",
                    _ => r"/^[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)?$/",
                };
                return Err(invalid(format!(
                    "\"{key}[{index}]\" with value \"{text}\" fails to match the required pattern: {pattern}"
                )));
            }
        }
    }
    let mut cleaned = raw;
    for key in [
        "rowLimit",
        "queryType",
        "cacheMode",
        "requestId",
        "totalQuery",
    ] {
        cleaned.remove(key);
    }
    cleaned.retain(|_, value| !value.is_null());
    rewrite_order(&mut cleaned);
    check_filters(&cleaned)?;
    for key in ["limit", "offset"] {
        if let Some(value) = cleaned.get(key) {
            let count = count(key, value)?;
            if key == "limit" && count > u64::from(MAX_LIMIT) {
                return Err(QueryError::invalid(
                    "Error: The query limit has been exceeded.",
                ));
            }
            cleaned.insert(key.to_owned(), json!(count));
        }
    }
    serde_json::from_value(Value::Object(cleaned)).map_err(|error| invalid(error.to_string()))
}

/// Moves the measures that the query brings along to `computedMeasures`, leaving their names;
/// returns all such names.
fn take_computed(raw: &mut Map<String, Value>) -> Result<Vec<String>, QueryError> {
    let mut computed = match raw.remove("computedMeasures") {
        Some(Value::Array(items)) => items,
        Some(other) if !other.is_null() => vec![other],
        _ => Vec::new(),
    };
    if let Some(Value::Array(measures)) = raw.get_mut("measures") {
        for measure in measures.iter_mut().filter(|measure| measure.is_object()) {
            let name = measure.get("name").cloned().unwrap_or(Value::Null);
            computed.push(std::mem::replace(measure, name));
        }
    }
    let mut names = Vec::with_capacity(computed.len());
    for measure in &computed {
        let read: Computed = serde_json::from_value(measure.clone()).map_err(|error| {
            QueryError::Invalid(format!(
                "Invalid query format: a measure of the query is {{\"name\", \"sql\"}}: {error}"
            ))
        })?;
        let is_name = |name: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.len() < 64 && !name.is_empty() && name.chars().all(legal)
        };
        if !is_name(&read.name) && !is_member_path(&read.name, 2) {
            return Err(QueryError::Invalid(format!(
                "Invalid query format: \"{}\" is not a name: letters, digits and _ only",
                read.name
            )));
        }
        names.push(read.name);
    }
    if !computed.is_empty() {
        raw.insert("computedMeasures".to_owned(), Value::Array(computed));
    }
    Ok(names)
}

/// `{id, desc}`, as normalized queries write an order, becomes a pair.
fn rewrite_order(cleaned: &mut Map<String, Value>) {
    if let Some(Value::Array(items)) = cleaned.get_mut("order") {
        for item in items {
            if let (Some(id), Some(desc)) = (
                item.get("id").and_then(Value::as_str),
                item.get("desc").and_then(Value::as_bool),
            ) {
                *item = json!([id, if desc { "desc" } else { "asc" }]);
            }
        }
    }
}

fn is_member_path(text: &str, most: usize) -> bool {
    let segments: Vec<&str> = text.split('.').collect();
    (2..=most).contains(&segments.len())
        && segments
            .iter()
            .all(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// A number of rows; clients send numbers and texts.
fn count(key: &str, value: &Value) -> Result<u64, QueryError> {
    let number = match value {
        Value::String(text) => text.parse::<f64>().ok(),
        other => other.as_f64(),
    };
    let wrong = match number {
        None => "must be a number",
        Some(number) if number.fract() != 0.0 => "must be an integer",
        Some(number) if number < 0.0 => "must be greater than or equal to 0",
        Some(number) if number > f64::from(u32::MAX) => "must be a safe number",
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, positive and small"
        )]
        Some(number) => return Ok(number as u64),
    };
    Err(invalid(format!("\"{key}\" {wrong}")))
}

/// Filters of the shapes that there are; what is wrong is said after Cube's own words.
fn check_filters(query: &Map<String, Value>) -> Result<(), QueryError> {
    let filters = query.get("filters").and_then(Value::as_array);
    for (index, filter) in filters.into_iter().flatten().enumerate() {
        if let Err(why) = check_filter(filter, 0) {
            return Err(invalid(format!(
                "\"filters[{index}]\" does not match any of the allowed types: {why}"
            )));
        }
    }
    Ok(())
}

fn check_filter(filter: &Value, depth: usize) -> Result<(), String> {
    const DEPTH_MAX: usize = 64;
    let Value::Object(entries) = filter else {
        return Err("a filter is an object".to_owned());
    };
    if depth > DEPTH_MAX {
        return Err("it is nested too deep".to_owned());
    }
    if let Some((key, inner)) = entries
        .iter()
        .find(|(key, _)| *key == "or" || *key == "and")
    {
        let Some(inner) = inner.as_array().filter(|_| entries.len() == 1) else {
            return Err(format!("\"{key}\" alone is a list of filters"));
        };
        return inner
            .iter()
            .try_for_each(|filter| check_filter(filter, depth + 1));
    }
    if let Some(key) = entries
        .keys()
        .find(|key| !["member", "dimension", "operator", "values"].contains(&key.as_str()))
    {
        return Err(format!("\"{key}\" is not allowed"));
    }
    let named = ["member", "dimension"]
        .iter()
        .filter_map(|key| entries.get(*key));
    let named: Vec<&Value> = named.collect();
    match named.as_slice() {
        [Value::String(_)] => {}
        [_] => return Err("\"member\" must be a string".to_owned()),
        _ => return Err("one \"member\" is needed".to_owned()),
    }
    let operator = entries.get("operator").and_then(Value::as_str);
    let Some(operator) = operator else {
        return Err("\"operator\" is required".to_owned());
    };
    if !OPERATORS.contains(&operator) {
        let near = nearest(operator, OPERATORS, 1);
        let hint = near.first();
        let hint = hint.map_or_else(String::new, |n| format!(", did you mean \"{n}\"?"));
        return Err(format!("unknown operator \"{operator}\"{hint}"));
    }
    match entries.get("values") {
        None | Some(Value::Null | Value::Array(_)) => Ok(()),
        Some(_) => Err("\"values\" must be an array".to_owned()),
    }
}
