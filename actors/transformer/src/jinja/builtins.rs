//! What every template can call and that depends on no node: Python's builtins that dbt exposes,
//! `return`, `exceptions`, `modules`, and the cross-database macros in `builtin.sql`.

use std::collections::HashSet;
use std::fmt;

use minijinja::value::{Kwargs, Rest, Tuple, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::macros::ReturnSignal;
use super::values::{MutableDict, MutableList};

/// Built-in generic tests and cross-database macros, in dbt's own language.
pub(crate) const LIBRARY: &str = include_str!("builtin.sql");

/// What `exceptions.raise_compiler_error` throws.
#[derive(Debug)]
pub(crate) struct RaisedByTemplate(pub(crate) String);

impl fmt::Display for RaisedByTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RaisedByTemplate {}

/// Registers the functions, filters and modules of this file.
pub(crate) fn install(env: &mut Environment<'static>) {
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(unknown_method);
    env.add_function("__list", |items: Value| -> Result<Value, Error> {
        Ok(MutableList::value(items.try_iter()?.collect()))
    });
    env.add_function("__dict", |map: Value| -> Result<Value, Error> {
        Ok(MutableDict::value(MutableDict::of(&map)?))
    });
    env.add_function("return", |value: Option<Value>| -> Result<Value, Error> {
        let signal = ReturnSignal(value.unwrap_or_default());
        Err(Error::new(ErrorKind::InvalidOperation, "return()").with_source(signal))
    });
    env.add_function("dict", dict);
    env.add_function("set", |items: Option<Value>| set(items));
    env.add_function("zip", |lists: Rest<Value>| zip(&lists));
    env.add_function("tojson", |value: Value| tojson(&value));
    env.add_filter("tojson", |value: Value| tojson(&value));
    env.add_function("fromjson", |text: String| fromjson(&text));
    env.add_filter("as_bool", |value: Value| value.is_true());
    env.add_filter("as_native", |value: Value| value);
    env.add_filter("as_text", |value: Value| value.to_string());
    env.add_filter("as_number", |value: Value| number(&value));
    env.add_function("print", |text: Value| {
        tracing::info!(target: "dbt", "{text}");
        String::new()
    });
    env.add_global("exceptions", exceptions());
    env.add_global("modules", modules());
}

fn unknown_method(
    state: &mut minijinja::State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let (Some(text), "title") = (value.as_str(), method) {
        return Ok(Value::from(title(text)));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Python's `str.title`: a letter after anything that is no letter is upper.
fn title(text: &str) -> String {
    let mut after_letter = false;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if after_letter {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
        after_letter = letter.is_alphabetic();
    }
    out
}

fn dict(given: Option<Value>, keywords: Kwargs) -> Result<Value, Error> {
    let mut pairs = match given {
        Some(given) => MutableDict::of(&given)?,
        None => Vec::new(),
    };
    for name in keywords.args() {
        pairs.push((Value::from(name), keywords.get(name)?));
    }
    Ok(MutableDict::value(pairs))
}

fn set(items: Option<Value>) -> Result<Value, Error> {
    let mut seen = HashSet::new();
    let mut unique = Vec::new();
    if let Some(items) = items {
        for item in items.try_iter()? {
            if seen.insert(item.clone()) {
                unique.push(item);
            }
        }
    }
    Ok(MutableList::value(unique))
}

fn zip(lists: &[Value]) -> Result<Value, Error> {
    let lists: Vec<Vec<Value>> = lists
        .iter()
        .map(|list| Ok(list.try_iter()?.collect()))
        .collect::<Result<_, Error>>()?;
    let shortest = lists.iter().map(Vec::len).min().unwrap_or(0);
    let rows = (0..shortest).map(|index| {
        let row: Vec<Value> = lists.iter().map(|list| list[index].clone()).collect();
        Value::from(Tuple::new(row))
    });
    Ok(MutableList::value(rows.collect()))
}

/// Python's `json.dumps`: a space after `,` and `:`.
fn tojson(value: &Value) -> Result<String, Error> {
    let json = to_json(value)?;
    let mut out = String::new();
    python_json(&json, &mut out);
    Ok(out)
}

/// A template value as JSON: lists, dicts and plain data; anything else is its text.
pub(crate) fn to_json(value: &Value) -> Result<serde_json::Value, Error> {
    use minijinja::value::ValueKind;
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => serde_json::Value::Null,
        ValueKind::Bool => serde_json::Value::Bool(value.is_true()),
        ValueKind::Number => match value.as_i64().filter(|_| value.is_integer()) {
            Some(integer) => integer.into(),
            None => value
                .to_string()
                .parse::<f64>()
                .map_or(serde_json::Value::Null, Into::into),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?;
            serde_json::Value::Array(items.map(|item| to_json(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut map = serde_json::Map::new();
            for key in value.try_iter()? {
                map.insert(key.to_string(), to_json(&value.get_item(&key)?)?);
            }
            serde_json::Value::Object(map)
        }
        _ => value.to_string().into(),
    })
}

fn python_json(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                python_json(item, out);
            }
            out.push(']');
        }
        serde_json::Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push_str(": ");
                python_json(item, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn fromjson(text: &str) -> Result<Value, Error> {
    let json: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(mutable(&json))
}

/// JSON as a template value whose lists and dicts can be changed.
pub(crate) fn mutable(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Array(items) => MutableList::value(items.iter().map(mutable).collect()),
        serde_json::Value::Object(map) => MutableDict::value(
            map.iter()
                .map(|(key, item)| (Value::from(key.as_str()), mutable(item)))
                .collect(),
        ),
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
    }
}

fn number(value: &Value) -> Value {
    let text = value.to_string();
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(integer), _) => Value::from(integer),
        (_, Ok(float)) => Value::from(float),
        _ => value.clone(),
    }
}

fn namespace(entries: Vec<(&'static str, Value)>) -> Value {
    Value::from_pairs(entries)
}

fn exceptions() -> Value {
    let raise = Value::from_function(|message: Value, _: Rest<Value>| -> Result<Value, Error> {
        let raised = RaisedByTemplate(message.to_string());
        Err(Error::new(ErrorKind::InvalidOperation, message.to_string()).with_source(raised))
    });
    let warn = Value::from_function(|message: Value, _: Rest<Value>| {
        tracing::warn!(target: "dbt", "{message}");
        String::new()
    });
    namespace(vec![
        ("raise_compiler_error", raise.clone()),
        ("raise_database_error", raise.clone()),
        ("raise_not_implemented", raise),
        ("warn", warn),
    ])
}

fn modules() -> Value {
    let re_match = |anchor: &'static str, tail: &'static str| {
        Value::from_function(move |pattern: String, text: String, _: Kwargs| {
            let pattern = format!("{anchor}(?:{pattern}){tail}");
            let regex = regex::Regex::new(&pattern)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
            Ok::<_, Error>(
                regex
                    .find(&text)
                    .map_or_else(|| Value::from(()), |found| Value::from(found.as_str())),
            )
        })
    };
    let sub = Value::from_function(|pattern: String, with: String, text: String| {
        let regex = regex::Regex::new(&pattern)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
        Ok::<_, Error>(regex.replace_all(&text, with.as_str()).into_owned())
    });
    let re = namespace(vec![
        ("match", re_match("^", "")),
        ("fullmatch", re_match("^", "$")),
        ("search", re_match("", "")),
        ("sub", sub),
    ]);
    namespace(vec![("re", re)])
}
