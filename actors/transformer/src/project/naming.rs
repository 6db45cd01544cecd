//! dbt's names of generic tests: the readable name, the short alias, the hash of the unique id.

use md5::{Digest, Md5};
use serde_json::{Map, Value as Json};

/// Names longer than this are cut and hashed: PostgreSQL keeps 63 bytes.
const NAME_LENGTH_MAX: usize = 64;

/// Length of the hash at the end of a test's unique id.
const HASH_LENGTH: usize = 10;

pub(crate) fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The short and the full name that dbt makes of a test and its arguments.
pub(crate) fn generic_test_names(
    test_type: &str,
    target: &str,
    arguments: &Map<String, Json>,
) -> (String, String) {
    let mut keys: Vec<&String> = arguments.keys().filter(|key| *key != "model").collect();
    keys.sort();
    let mut parts = Vec::new();
    for key in keys {
        match &arguments[key] {
            Json::Object(map) => parts.extend(map.values().map(python_str)),
            Json::Array(items) => parts.extend(items.iter().map(python_str)),
            scalar => parts.push(python_str(scalar)),
        }
    }
    let clean: Vec<String> = parts.iter().map(|part| clean(part)).collect();
    let identifier = format!("{test_type}_{target}");
    let full = format!("{identifier}_{}", clean.join("__"));
    if full.chars().count() < NAME_LENGTH_MAX {
        return (full.clone(), full);
    }
    let cut: String = identifier.chars().take(30).collect();
    (format!("{cut}_{}", md5_hex(&full)), full)
}

/// Runs of anything but letters, digits and underscores become one underscore.
fn clean(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    let mut replaced = false;
    for letter in part.chars() {
        if letter.is_ascii_alphanumeric() || letter == '_' {
            out.push(letter);
            replaced = false;
        } else if !replaced {
            out.push('_');
            replaced = true;
        }
    }
    out
}

/// The hash at the end of a generic test's unique id.
pub(crate) fn test_hash(
    name: &str,
    test: &str,
    namespace: Option<&str>,
    arguments: &Map<String, Json>,
) -> String {
    let mut metadata = Map::new();
    metadata.insert("namespace".into(), namespace.map_or(Json::Null, Json::from));
    metadata.insert("name".into(), test.into());
    metadata.insert("kwargs".into(), Json::Object(arguments.clone()));
    let hashable = hashable_repr(&Json::Object(metadata));
    let digest = md5_hex(&format!("{name}{hashable}"));
    digest[digest.len() - HASH_LENGTH..].to_owned()
}

/// Python's `repr` of dbt's hashable form: keys sorted, every scalar a string.
fn hashable_repr(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let items: Vec<String> = keys
                .into_iter()
                .map(|key| format!("{}: {}", python_repr(key), hashable_repr(&map[key])))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(hashable_repr).collect();
            format!("[{}]", items.join(", "))
        }
        scalar => python_repr(&python_str(scalar)),
    }
}

/// Python's `str` of a value that came from YAML.
fn python_str(value: &Json) -> String {
    match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Array(_) | Json::Object(_) => nested_repr(value),
    }
}

fn nested_repr(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(nested_repr).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, item)| format!("{}: {}", python_repr(key), nested_repr(item)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Json::String(text) => python_repr(text),
        scalar => python_str(scalar),
    }
}

/// Python's `repr` of a string: single quotes unless only single quotes are inside.
fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter == quote => {
                out.push('\\');
                out.push(letter);
            }
            letter => out.push(letter),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn arguments(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_jaffle_shop_test_has_the_id_that_dbt_gives_it() {
        // From dbt's own documentation of manifest.json for jaffle_shop.
        let given = arguments(json!({"column_name": "customer_id",
            "model": "{{ get_where_subquery(ref('customers')) }}"}));
        let (short, full) = generic_test_names("unique", "customers", &given);
        assert_eq!(short, "unique_customers_customer_id");
        assert_eq!(test_hash(&full, "unique", None, &given), "c5af1ff4b1");
    }

    #[test]
    fn a_long_name_is_cut_and_hashed() {
        let values: Vec<&str> = vec!["a_rather_long_value"; 4];
        let given = arguments(json!({"column_name": "status", "values": values, "model": "m"}));
        let (short, full) = generic_test_names("accepted_values", "orders", &given);
        assert!(full.len() > 64);
        assert_eq!(short.len(), 30.min("accepted_values_orders".len()) + 33);
    }
}
