//! What every template can call and that depends on no node: Python's builtins that dbt exposes,
//! `return`, `exceptions`, `modules`, and the cross-database macros in `builtin.sql`.

use std::collections::HashSet;
use std::fmt;

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::macros::{Arguments, ReturnSignal};
use super::values::{MutableDict, MutableList};

/// Built-in generic tests and cross-database macros, in dbt's own language.
pub(crate) const LIBRARY: [(&str, &str); 6] = [
    (
        "dbt/generic_tests.sql",
        include_str!("library/generic_tests.sql"),
    ),
    ("dbt/naming.sql", include_str!("library/naming.sql")),
    ("dbt/types.sql", include_str!("library/types.sql")),
    (
        "dbt/expressions.sql",
        include_str!("library/expressions.sql"),
    ),
    ("dbt/dates.sql", include_str!("library/dates.sql")),
    ("dbt/relations.sql", include_str!("library/relations.sql")),
];

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
    env.add_function("set_strict", |items: Value| set(Some(items)));
    env.add_function("zip_strict", |lists: Rest<Value>| zip(&lists));
    env.add_function("tojson", |value: Value, _: Arguments| tojson(&value));
    env.add_filter("tojson", |value: Value, _: Arguments| tojson(&value));
    env.add_function("fromjson", |text: String, default: Option<Value>| {
        or_default(fromjson(&text), default)
    });
    env.add_function("fromyaml", |text: String, default: Option<Value>| {
        or_default(fromyaml(&text), default)
    });
    env.add_function(
        "toyaml",
        |value: Value, _: Arguments| -> Result<String, Error> {
            serde_norway::to_string(&to_json(&value)?)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        },
    );
    env.add_function("local_md5", |text: Value| {
        crate::project::md5_hex(&text.to_string())
    });
    env.add_function("diff_of_two_dicts", |left: Value, right: Value| {
        diff_of_two_dicts(&left, &right)
    });
    env.add_function("try_or_compiler_error", try_or_compiler_error);
    env.add_filter("as_bool", |value: Value| value.is_true());
    env.add_filter("as_native", |value: Value| value);
    env.add_filter("as_text", |value: Value| value.to_string());
    env.add_filter("as_number", |value: Value| number(&value));
    env.add_filter(
        "attr",
        |value: Value, name: String| -> Result<Value, Error> { value.get_attr(&name) },
    );
}

fn or_default(parsed: Result<Value, Error>, default: Option<Value>) -> Result<Value, Error> {
    match (parsed, default) {
        (Err(_), Some(default)) => Ok(default),
        (Err(error), None) => {
            // dbt's functions give None for text that does not parse.
            tracing::debug!(%error, "text in a template does not parse");
            Ok(Value::from(()))
        }
        (parsed, _) => parsed,
    }
}

fn fromyaml(text: &str) -> Result<Value, Error> {
    let json: serde_json::Value = serde_norway::from_str(text)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(mutable(&json))
}

fn try_or_compiler_error(
    state: &mut minijinja::State<'_, '_>,
    message: String,
    function: Value,
    args: Arguments,
) -> Result<Value, Error> {
    function.call(state, &args.into_values()).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, message.clone())
            .with_source(RaisedByTemplate(message.clone()))
    })
}

/// What the left dict of lists has and the right one has not, keys in lower case: of grants.
fn diff_of_two_dicts(left: &Value, right: &Value) -> Result<Value, Error> {
    let lower = |value: &Value| value.to_string().to_lowercase();
    let mut known: Vec<(String, Vec<String>)> = Vec::new();
    for (key, items) in MutableDict::of(right)? {
        known.push((
            lower(&key),
            items.try_iter()?.map(|item| lower(&item)).collect(),
        ));
    }
    let mut diff = Vec::new();
    for (key, items) in MutableDict::of(left)? {
        let has = known.iter().find(|(name, _)| *name == lower(&key));
        let missing: Vec<Value> = items
            .try_iter()?
            .filter(|item| has.is_none_or(|(_, has)| !has.contains(&lower(item))))
            .collect();
        if !missing.is_empty() {
            diff.push((key, MutableList::value(missing)));
        }
    }
    Ok(MutableDict::value(diff))
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
    if let (ValueKind::Seq, "index" | "count") = (value.kind(), method) {
        let items: Vec<Value> = value.try_iter()?.collect();
        return super::values::found(method, &items, args);
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
    // Sets that hold the same are the same: their order is one.
    unique.sort();
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
    if super::relation::relation_of(value).is_some() {
        return Ok(value.to_string().into());
    }
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
