//! Values as the text of a file.

use serde_json::Value;

/// YAML in block style, keys in the order given.
pub(super) fn yaml(value: &Value) -> String {
    serde_norway::to_string(value).expect("JSON values are YAML values")
}

/// Text without what Jinja or Cube would take for a template.
pub(super) fn plain(text: &str) -> String {
    text.replace('{', "(").replace('}', ")")
}
