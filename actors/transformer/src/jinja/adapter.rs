//! Templates that look into the database: `run_query`, `statement`, `adapter`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::builtins::mutable;
use super::context::{QueryPort, failed};
use super::macros::{split_keywords, take};
use super::relation::{Relation, RelationValue};
use super::values::MutableList;

pub(super) type Results = Arc<Mutex<HashMap<String, Value>>>;

/// The result of a query: `columns`, `rows` and `column_names`, as agate's tables have them.
fn table_value(names: Vec<String>, rows: Vec<Vec<Json>>) -> Value {
    let columns = names.iter().enumerate().map(|(index, name)| {
        let values = rows.iter().map(|row| mutable(&row[index])).collect();
        Value::from_object(ResultColumn {
            name: name.clone(),
            values,
        })
    });
    let columns = columns.collect();
    let names: Arc<Vec<String>> = Arc::new(names);
    let rows = rows.iter().map(|row| {
        let cells = row.iter().map(mutable).collect();
        Value::from_object(ResultRow {
            names: names.clone(),
            cells,
        })
    });
    let rows = rows.collect();
    let names = names
        .iter()
        .map(|name| Value::from(name.as_str()))
        .collect();
    Value::from_pairs([
        ("columns", MutableList::value(columns)),
        ("rows", MutableList::value(rows)),
        ("column_names", MutableList::value(names)),
    ])
}

#[derive(Debug)]
struct ResultColumn {
    name: String,
    values: Vec<Value>,
}

impl Object for ResultColumn {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("name") => Some(Value::from(self.name.as_str())),
            Some(_) => None,
            None => self.values.get(key.as_usize()?).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(self.values.clone().into_iter()))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "values" => Ok(MutableList::value(self.values.clone())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A row: its cells by index and by name.
#[derive(Debug)]
struct ResultRow {
    names: Arc<Vec<String>>,
    cells: Vec<Value>,
}

impl Object for ResultRow {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = match key.as_str() {
            Some(wanted) => self.names.iter().position(|name| name == wanted)?,
            None => key.as_usize()?,
        };
        self.cells.get(index).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(self.cells.clone().into_iter()))
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "values" => Ok(MutableList::value(self.cells.clone())),
            "keys" => Ok(MutableList::value(
                self.names
                    .iter()
                    .map(|name| Value::from(name.as_str()))
                    .collect(),
            )),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn queried(queries: Option<&Arc<dyn QueryPort>>, sql: &str) -> Result<Value, Error> {
    match queries {
        Some(port) => {
            let (columns, rows) = port.query(sql).map_err(failed)?;
            Ok(table_value(columns, rows))
        }
        None => Ok(Value::from(())),
    }
}

pub(super) fn run_query(queries: Option<Arc<dyn QueryPort>>) -> Value {
    Value::from_function(move |sql: Value| queried(queries.as_ref(), &sql.to_string()))
}

/// `{% call statement('name', fetch_result=True) %}`.
pub(super) fn statement(queries: Option<Arc<dyn QueryPort>>, results: Results) -> Value {
    Value::from_dyn_object(DynObject::new(Arc::new(Statement { queries, results })))
}

struct Statement {
    queries: Option<Arc<dyn QueryPort>>,
    results: Results,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statement")
    }
}

impl Object for Statement {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .cloned()
            .or_else(|| take(&mut keywords, "name"));
        let Some(caller) = take(&mut keywords, "caller") else {
            return Ok(Value::from(""));
        };
        let sql = caller.call(state, &[])?.to_string();
        let table = queried(self.queries.as_ref(), &sql)?;
        let data = match table.get_attr("rows") {
            Ok(rows) if !rows.is_undefined() => rows,
            _ => MutableList::value(Vec::new()),
        };
        let result = Value::from_pairs([("table", table), ("data", data)]);
        if let Some(name) = name {
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(name.to_string(), result);
        }
        Ok(Value::from(""))
    }
}

/// `adapter`: dispatch, quoting and introspection.
pub(super) struct Adapter {
    pub(super) queries: Option<Arc<dyn QueryPort>>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("adapter")
    }
}

impl Object for Adapter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let first = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        match method {
            "dispatch" => {
                let package = positional
                    .get(1)
                    .cloned()
                    .or_else(|| take(&mut keywords, "macro_namespace"));
                dispatch(state, &first, package.map(|name| name.to_string()))
            }
            "quote" => Ok(Value::from(ballpoint_postgres::ident::quote(&first))),
            "type" => Ok(Value::from("postgres")),
            "get_columns_in_relation" => columns_in(self.queries.as_ref(), positional.first()),
            _ => Err(failed(format!("adapter.{method}() is not supported"))),
        }
    }
}

/// The implementation of a dispatched macro: for PostgreSQL, then the default one.
fn dispatch(state: &State<'_, '_>, name: &str, package: Option<String>) -> Result<Value, Error> {
    for prefix in ["postgres", "default"] {
        let wanted = format!("{prefix}__{name}");
        if let Some(found) = state.lookup(&wanted) {
            return Ok(found);
        }
        let within = package.as_deref().and_then(|package| state.lookup(package));
        if let Some(found) = within.and_then(|macros| macros.get_attr(&wanted).ok())
            && !found.is_undefined()
        {
            return Ok(found);
        }
    }
    state
        .lookup(name)
        .filter(|_| package.as_deref() == Some("dbt"))
        .ok_or_else(|| {
            failed(format!(
                "adapter.dispatch found no postgres__{name} or default__{name}"
            ))
        })
}

fn columns_in(
    queries: Option<&Arc<dyn QueryPort>>,
    relation: Option<&Value>,
) -> Result<Value, Error> {
    let relation: Option<&RelationValue> =
        relation.and_then(|value| value.downcast_object_ref::<RelationValue>());
    let (Some(port), Some(relation)) = (queries, relation) else {
        return Ok(MutableList::value(Vec::new()));
    };
    let Relation {
        schema, identifier, ..
    } = &relation.relation;
    let literal = ballpoint_postgres::ident::quote_literal;
    let sql = format!(
        "select column_name, data_type from information_schema.columns \
         where table_schema = {} and table_name = {} order by ordinal_position",
        literal(schema),
        literal(identifier),
    );
    let (_, rows) = port.query(&sql).map_err(failed)?;
    let columns = rows.iter().map(|row| {
        let name = row[0].as_str().unwrap_or_default();
        Value::from_pairs([
            ("name", Value::from(name)),
            ("column", Value::from(name)),
            (
                "quoted",
                Value::from(ballpoint_postgres::ident::quote(name)),
            ),
            ("dtype", mutable(&row[1])),
            ("data_type", mutable(&row[1])),
        ])
    });
    Ok(MutableList::value(columns.collect()))
}
