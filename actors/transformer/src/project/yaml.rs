//! YAML as JSON values, with the line of what does not parse and Jinja in the values.

use std::path::Path;

use minijinja::value::Value;
use serde_json::Value as Json;

use crate::error::{Place, ProjectError};
use crate::jinja::engine::Engine;

/// Parses a file's text.
///
/// # Errors
/// With the line that does not parse.
pub(crate) fn parse(text: &str, file: &Path) -> Result<Json, ProjectError> {
    serde_norway::from_str(text).map_err(|error| ProjectError::Yaml {
        place: Place {
            file: file.to_owned(),
            line: error.location().map(|location| location.line()),
        },
        message: error.to_string(),
    })
}

/// The value with every text that holds Jinja rendered; a text that is one expression keeps the
/// type of its value.
pub(crate) fn rendered(
    value: &Json,
    engine: &Engine,
    place: &Place,
    scope: &Value,
) -> Result<Json, ProjectError> {
    Ok(match value {
        Json::String(text) if text.contains("{{") || text.contains("{%") => {
            let text = engine.render_text(text, place, scope.clone())?;
            natural(text)
        }
        Json::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| rendered(item, engine, place, scope))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, item)| {
                    let item = match is_hook(key) {
                        true => item.clone(),
                        false => rendered(item, engine, place, scope)?,
                    };
                    Ok((key.clone(), item))
                })
                .collect::<Result<_, ProjectError>>()?,
        ),
        other => other.clone(),
    })
}

/// Whether a key holds hooks: they are rendered when they run, in the context of their node.
pub(crate) fn is_hook(key: &str) -> bool {
    matches!(
        key.trim_start_matches('+'),
        "pre-hook" | "post-hook" | "pre_hook" | "post_hook"
    )
}

/// Rendered text read as YAML would read it: numbers and booleans come back as such.
fn natural(text: String) -> Json {
    match text.as_str() {
        "True" | "true" => Json::Bool(true),
        "False" | "false" => Json::Bool(false),
        "None" => Json::Null,
        digits => match digits.parse::<i64>() {
            Ok(number) if number.to_string() == digits => Json::from(number),
            _ => Json::String(text),
        },
    }
}
