//! `modules` and `exceptions`: what dbt lends to templates of Python's library.

mod datetime;
mod re;

use minijinja::value::{Rest, Tuple, Value};
use minijinja::{Error, ErrorKind};

use super::builtins::RaisedByTemplate;
use super::context::LogSink;
use super::macros::{Arguments, split_keywords, take};
use super::values::MutableList;
use datetime::{datetime, parse_time, pytz};
use re::re;

pub(super) use datetime::started_at;

fn failed(message: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}

fn raised(message: String) -> Error {
    failed(&message).with_source(RaisedByTemplate(message))
}

/// `exceptions`: each raises what it is told, `warn` only says it.
pub(super) fn exceptions(log: LogSink) -> Value {
    let raise = Value::from_function(|message: Value, _: Arguments| -> Result<Value, Error> {
        Err(raised(message.to_string()))
    });
    let missing_types = Value::from_function(|args: Arguments| -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(&args.into_values())?;
        let names = take(&mut keywords, "column_names").or_else(|| positional.first().cloned());
        Err(raised(format!(
            "Contracted models require data_type to be defined for each column.  Please ensure \
             that the column name and data_type are defined within the YAML configuration for the \
             {} column(s).",
            names.unwrap_or_default()
        )))
    });
    let warn = Value::from_function(move |message: Value, _: Arguments| {
        log.warn(&message.to_string());
        String::new()
    });
    let mut entries = vec![("warn", warn), ("column_type_missing", missing_types)];
    for name in [
        "raise_compiler_error",
        "raise_database_error",
        "raise_not_implemented",
        "raise_contract_error",
        "raise_fail_fast_error",
        "raise_dependency_error",
        "raise_duplicate_resource_name",
        "raise_invalid_property_yml_version",
        "raise_ambiguous_alias",
        "missing_config",
        "missing_materialization",
        "missing_relation",
        "relation_wrong_type",
        "warn_snapshot_timestamp_data_types",
    ] {
        entries.push((name, raise.clone()));
    }
    Value::from_pairs(entries)
}

/// `modules`. `now` is the time that the command began: renders read no clock.
pub(super) fn modules(now: &str) -> Value {
    let now = parse_time(now).unwrap_or_default();
    Value::from_pairs([
        ("re", re()),
        ("datetime", datetime(now)),
        ("pytz", pytz()),
        ("itertools", itertools()),
    ])
}

fn itertools() -> Value {
    let chain = Value::from_function(|lists: Rest<Value>| {
        let mut all = Vec::new();
        for list in lists.iter() {
            all.extend(list.try_iter()?);
        }
        Ok::<_, Error>(MutableList::value(all))
    });
    let product = Value::from_function(|lists: Rest<Value>| {
        let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
        for list in lists.iter() {
            let items: Vec<Value> = list.try_iter()?.collect();
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    items.iter().map(move |item| {
                        let mut row = row.clone();
                        row.push(item.clone());
                        row
                    })
                })
                .collect();
        }
        let rows = rows.into_iter().map(|row| Value::from(Tuple::new(row)));
        Ok::<_, Error>(MutableList::value(rows.collect()))
    });
    let combinations = Value::from_function(|list: Value, size: usize| {
        let items: Vec<Value> = list.try_iter()?.collect();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in 0..size {
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    let from = row.last().map_or(0, |last| last + 1);
                    (from..items.len()).map(move |next| {
                        let mut row = row.clone();
                        row.push(next);
                        row
                    })
                })
                .collect();
        }
        let rows = rows.into_iter().map(|row| {
            let row = row.into_iter().map(|index| items[index].clone());
            Value::from(Tuple::new(row.collect::<Vec<_>>()))
        });
        Ok::<_, Error>(MutableList::value(rows.collect()))
    });
    Value::from_pairs([
        ("chain", chain),
        ("product", product),
        ("combinations", combinations),
    ])
}
