//! What extended `/meta` shows as the files write it.

use serde_json::{Map, Value, json};

use super::source::{Node, Problems, to_json};

/// `pre_aggregations` under the names that Cube's compiler gives their keys.
pub(super) fn pre_aggregations(node: &Node<'_>) -> Value {
    // What is wrong with them is said where they are compiled.
    let nodes = node.nodes("pre_aggregations", &mut Problems::default());
    let items = nodes.iter().map(|node| {
        let mut item = Map::new();
        let defaults = [
            ("type", json!("rollup")),
            ("external", json!(true)),
            ("allowNonStrictDateRangeMatch", json!(true)),
            ("scheduledRefresh", json!(true)),
        ];
        item.extend(defaults.map(|(key, value)| (key.to_owned(), value)));
        for (key, value) in node.entries() {
            let (key, value) = match key {
                "time_dimension" => ("timeDimensionReference".to_owned(), to_json(value)),
                "measures" | "dimensions" | "segments" | "rollups" => {
                    let names = node.texts(key, &mut Problems::default());
                    let singular = key.trim_end_matches('s');
                    let list = json!(format!("[{}]", names.join(", ")));
                    (format!("{singular}References"), list)
                }
                "type" => {
                    let kind = node.text(key, &mut Problems::default()).unwrap_or_default();
                    ("type".to_owned(), json!(camel(&kind)))
                }
                other => (camel(other), camel_keys(&to_json(value))),
            };
            item.insert(key, value);
        }
        Value::Object(item)
    });
    items.collect()
}

fn camel_keys(value: &Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (camel(key), camel_keys(value)))
            .collect(),
        Value::Array(items) => items.iter().map(camel_keys).collect(),
        other => other.clone(),
    }
}

fn camel(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut raise = false;
    for c in key.chars() {
        if c == '_' {
            raise = true;
        } else if std::mem::take(&mut raise) {
            out.push(c.to_ascii_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}
