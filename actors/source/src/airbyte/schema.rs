//! JSON Schema as PostgreSQL's types: as Airbyte's own destination has them, but without its losses
//! (`number` is `numeric`, not a float or `numeric(38,9)`).

use std::collections::BTreeSet;

use ballpoint_postgres::ident::IDENT_BYTES_MAX;
use serde_json::Value;

/// What a property may be; a union has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Text,
    Integer,
    Number,
    Boolean,
    Document,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    TimeTz,
}

/// The type, as PostgreSQL spells it, of a column for this property.
pub(crate) fn sql_type(schema: &Value) -> &'static str {
    let shapes = shapes(schema);
    let mut each = shapes.iter();
    match (each.next(), each.next()) {
        (Some(only), None) => spelled(*only),
        _ if shapes
            .iter()
            .all(|it| matches!(it, Shape::Integer | Shape::Number)) =>
        {
            // Nothing is known of a property without shapes: a document holds whatever it is.
            if shapes.is_empty() {
                "jsonb"
            } else {
                "numeric"
            }
        }
        _ if shapes.contains(&Shape::Document) => "jsonb",
        _ => "text",
    }
}

fn spelled(shape: Shape) -> &'static str {
    match shape {
        Shape::Text => "text",
        Shape::Integer => "bigint",
        Shape::Number => "numeric",
        Shape::Boolean => "boolean",
        Shape::Document => "jsonb",
        Shape::Date => "date",
        Shape::Timestamp => "timestamp without time zone",
        Shape::TimestampTz => "timestamp with time zone",
        Shape::Time => "time without time zone",
        Shape::TimeTz => "time with time zone",
    }
}

fn shapes(schema: &Value) -> BTreeSet<Shape> {
    let mut found = BTreeSet::new();
    for union in ["oneOf", "anyOf", "allOf"] {
        for option in schema[union].as_array().into_iter().flatten() {
            found.extend(shapes(option));
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for name in types {
        let shape = match name {
            "null" => continue,
            "string" => of_string(schema),
            "integer" if is_big(schema) => Shape::Number,
            "integer" => Shape::Integer,
            "number" if schema["airbyte_type"] == "integer" => Shape::Integer,
            "number" => Shape::Number,
            "boolean" => Shape::Boolean,
            _ => Shape::Document,
        };
        found.insert(shape);
    }
    found
}

fn is_big(schema: &Value) -> bool {
    schema["airbyte_type"] == "big_integer"
}

fn of_string(schema: &Value) -> Shape {
    let said = schema["airbyte_type"].as_str().unwrap_or_default();
    match (schema["format"].as_str().unwrap_or_default(), said) {
        (_, "timestamp_without_timezone") => Shape::Timestamp,
        (_, "timestamp_with_timezone") | ("date-time", _) => Shape::TimestampTz,
        (_, "time_with_timezone") => Shape::TimeTz,
        (_, "time_without_timezone") | ("time", _) => Shape::Time,
        (_, "big_integer" | "big_number") => Shape::Number,
        ("date", _) => Shape::Date,
        _ => Shape::Text,
    }
}

/// Names for columns: those given, made to be identifiers that PostgreSQL keeps, and no two alike.
/// None of `taken`, which are the loader's own.
pub(crate) fn column_names(names: &[String], taken: &[&str]) -> Vec<String> {
    let mut used: BTreeSet<String> = taken.iter().map(|it| (*it).to_owned()).collect();
    names
        .iter()
        .map(|name| {
            let plain = name.replace('\0', "");
            let plain = if plain.is_empty() { "_" } else { &plain };
            let mut made = cut(plain, IDENT_BYTES_MAX).to_owned();
            let mut number = 2;
            while !used.insert(made.clone()) {
                let suffix = format!("_{number}");
                made = format!("{}{suffix}", cut(plain, IDENT_BYTES_MAX - suffix.len()));
                number += 1;
            }
            made
        })
        .collect()
}

/// At most so many bytes of `text`, whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_type_of_the_protocol_has_one_of_postgresql() {
        for (schema, expected) in [
            (json!({"type": "string"}), "text"),
            (json!({"type": ["null", "integer"]}), "bigint"),
            (json!({"type": "number"}), "numeric"),
            (
                json!({"type": "number", "airbyte_type": "integer"}),
                "bigint",
            ),
            (
                json!({"type": "string", "airbyte_type": "big_number"}),
                "numeric",
            ),
            (json!({"type": ["boolean", "null"]}), "boolean"),
            (json!({"type": "object", "properties": {}}), "jsonb"),
            (json!({"type": ["null", "array"]}), "jsonb"),
            (json!({"type": "string", "format": "date"}), "date"),
            (
                json!({"type": "string", "format": "date-time"}),
                "timestamp with time zone",
            ),
            (
                json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}),
                "timestamp without time zone",
            ),
            (
                json!({"type": "string", "format": "time"}),
                "time without time zone",
            ),
            (json!({"type": ["integer", "number"]}), "numeric"),
            (json!({"type": ["string", "integer", "null"]}), "text"),
            (json!({"type": ["string", "object"]}), "jsonb"),
            (
                json!({"oneOf": [{"type": "null"}, {"type": "integer"}]}),
                "bigint",
            ),
            (json!({}), "jsonb"),
            (json!({"$ref": "#/definitions/x"}), "jsonb"),
        ] {
            assert_eq!(sql_type(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn names_are_kept_where_they_can_be_and_never_collide() {
        let long = "ü".repeat(40);
        let names = ["id", "id", "", "taken", &long, &long].map(str::to_owned);
        let made = column_names(&names, &["taken"]);
        assert_eq!(made[..4], ["id", "id_2", "_", "taken_2"]);
        assert!(made.iter().all(|name| name.len() <= 63), "{made:?}");
        assert_ne!(made[4], made[5]);
    }
}
