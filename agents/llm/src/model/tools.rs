//! The tools that the model replies with; their schemas name the members that exist.

use ballpoint_metrics::catalog::CubeInfo;
use ballpoint_metrics::query::Query;
use serde_json::{Map, Value, json};

use super::reply::Call;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    Query(Box<Query>),
    Clarify(Vec<Query>),
    Refuse,
}

/// The tools over some cubes.
pub(crate) fn schema(cubes: &[&CubeInfo]) -> Value {
    let query = query(cubes);
    let tool = |name: &str, description: &str, parameters: Value| json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } });
    json!([
        tool(
            "query_metrics",
            "Run one query of the metrics layer, in Cube's form.",
            query.clone(),
        ),
        tool(
            "clarify",
            "Ask back which of several queries is meant.",
            json!({
                "type": "object", "additionalProperties": false, "required": ["options"],
                "properties": { "options": { "type": "array", "minItems": 2, "maxItems": 4, "items": query } },
            }),
        ),
        tool(
            "refuse",
            "Say that the metrics layer cannot answer this.",
            json!({
                "type": "object", "additionalProperties": false, "required": ["reason"],
                "properties": { "reason": { "type": "string" } },
            }),
        ),
    ])
}

fn query(cubes: &[&CubeInfo]) -> Value {
    let measures: Vec<&str> = cubes
        .iter()
        .flat_map(|cube| &cube.measures)
        .map(|it| it.name.as_str())
        .collect();
    let of_kind = |time: bool| -> Vec<&str> {
        cubes
            .iter()
            .flat_map(|cube| &cube.dimensions)
            .filter(|it| !it.primary_key && (it.member_type == "time") == time)
            .map(|it| it.name.as_str())
            .collect()
    };
    let (dimensions, times) = (of_kind(false), of_kind(true));
    let members: Vec<&str> = measures.iter().chain(&dimensions).copied().collect();
    let range =
        json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 });
    json!({
        "type": "object", "additionalProperties": false, "required": ["measures"],
        "properties": {
            "measures": { "type": "array", "minItems": 1, "items": { "type": "string", "enum": measures } },
            "dimensions": { "type": "array", "items": { "type": "string", "enum": dimensions } },
            "timeDimensions": { "type": "array", "maxItems": 1, "items": {
                "type": "object", "additionalProperties": false, "required": ["dimension"],
                "properties": {
                    "dimension": { "type": "string", "enum": times },
                    "dateRange": range,
                    "compareDateRange": { "type": "array", "items": range, "minItems": 2, "maxItems": 2 },
                    "granularity": { "type": "string", "enum": ["hour", "day", "week", "month", "quarter", "year"] },
                },
            } },
            "filters": { "type": "array", "items": {
                "type": "object", "additionalProperties": false, "required": ["member", "operator"],
                "properties": {
                    "member": { "type": "string", "enum": members },
                    "operator": { "type": "string", "enum": ["equals", "notEquals", "gt", "gte", "lt", "lte", "set", "notSet"] },
                    "values": { "type": "array", "items": { "type": "string" } },
                },
            } },
            "order": { "type": "object", "additionalProperties": { "type": "string", "enum": ["asc", "desc"] } },
            "limit": { "type": "integer", "minimum": 1 },
        },
    })
}

/// Reads a call.
///
/// # Errors
/// What is wrong with it, for the model to mend.
pub(crate) fn read(call: &Call) -> Result<Asked, String> {
    let arguments: Value = serde_json::from_str(&call.arguments).map_err(|error| {
        format!(
            "the arguments of {} are not valid JSON ({error})",
            call.name
        )
    })?;
    match call.name.as_str() {
        "query_metrics" => {
            let inner = &arguments["query"];
            let query = if inner.is_object() { inner } else { &arguments };
            Ok(Asked::Query(Box::new(one(query)?)))
        }
        "clarify" => {
            let options = arguments["options"].as_array();
            let options = options.ok_or("clarify needs `options`, a list of queries")?;
            Ok(Asked::Clarify(
                options.iter().map(one).collect::<Result<_, _>>()?,
            ))
        }
        "refuse" => Ok(Asked::Refuse),
        other => Err(format!(
            "there is no tool {other:?}; the tools are query_metrics, clarify and refuse"
        )),
    }
}

fn one(value: &Value) -> Result<Query, String> {
    serde_json::from_value(level(value)).map_err(|error| format!("this is no query: {error}"))
}

/// What models write for "nothing" and for a list of one is put right; anything else stays.
fn level(value: &Value) -> Value {
    let Value::Object(fields) = value else {
        return value.clone();
    };
    let mut out = Map::new();
    for (key, value) in fields {
        let value = match (key.as_str(), value) {
            (_, Value::Null) => continue,
            (
                "measures" | "dimensions" | "values",
                Value::String(_) | Value::Number(_) | Value::Bool(_),
            ) => {
                json!([value])
            }
            ("timeDimensions" | "filters", Value::Object(_)) => json!([level(value)]),
            ("timeDimensions" | "filters", Value::Array(items)) => {
                items.iter().map(level).collect()
            }
            ("limit", Value::String(text)) => text
                .parse::<u32>()
                .map_or_else(|_| value.clone(), Value::from),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> Call {
        Call {
            name: name.into(),
            arguments: arguments.into(),
            ..Call::default()
        }
    }

    #[test]
    fn nothing_and_lists_of_one_are_put_right() {
        let text = r#"{"query":{"measures":"A.b","filters":null,"limit":"3","timeDimensions":{"dimension":"A.t","granularity":"day","dateRange":null}}}"#;
        let Ok(Asked::Query(query)) = read(&call("query_metrics", text)) else {
            panic!("must be read")
        };
        assert_eq!((query.measures.len(), query.limit), (1, Some(3)));
        assert_eq!(query.time_dimensions[0].date_range, None);
    }

    #[test]
    fn what_is_no_call_is_named() {
        for (name, arguments, said) in [
            ("query_metrics", "{\"measures\": [", "not valid JSON"),
            ("query_metrics", "{\"measure\": \"A.b\"}", "unknown field"),
            ("query_metrics", "{\"measures\": 5.5}", "no query"),
            ("run_sql", "{}", "no tool"),
            ("clarify", "{}", "options"),
        ] {
            let error = read(&call(name, arguments)).expect_err(name);
            assert!(error.contains(said), "{error}");
        }
    }
}
