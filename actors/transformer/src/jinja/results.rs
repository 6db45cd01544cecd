//! The result of a query as templates see it: agate's tables, columns and rows.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::builtins::mutable;
use super::values::{MutableDict, MutableList};

/// A table: its rows when it is iterated, its columns by name and by index.
#[derive(Debug)]
pub(super) struct ResultTable {
    names: Arc<Vec<String>>,
    rows: Vec<Value>,
    columns: Vec<Value>,
}

impl ResultTable {
    pub(super) fn value(names: Vec<String>, rows: &[Vec<Json>]) -> Value {
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
        Value::from_object(Self {
            names,
            rows,
            columns,
        })
    }

    fn names(&self) -> Value {
        let names = self.names.iter().map(|name| Value::from(name.as_str()));
        MutableList::value(names.collect())
    }
}

impl Object for ResultTable {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("rows") => Some(MutableList::value(self.rows.clone())),
            Some("columns") => Some(Value::from_object(Columns {
                names: self.names.clone(),
                columns: self.columns.clone(),
            })),
            Some("column_names") => Some(self.names()),
            Some(_) => None,
            None => self.rows.get(key.as_usize()?).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(self.rows.clone().into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.rows.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "print_table" | "print_csv" | "print_json" => Ok(Value::from("")),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The columns of a table, by index and by name.
#[derive(Debug)]
struct Columns {
    names: Arc<Vec<String>>,
    columns: Vec<Value>,
}

impl Object for Columns {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = match key.as_str() {
            Some(wanted) => self.names.iter().position(|name| name == wanted)?,
            None => key.as_usize()?,
        };
        self.columns.get(index).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(self.columns.clone().into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.columns.len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let names = || self.names.iter().map(|name| Value::from(name.as_str()));
        match method {
            "keys" => Ok(MutableList::value(names().collect())),
            "values" => Ok(MutableList::value(self.columns.clone())),
            "items" => {
                let pairs = names().zip(self.columns.iter().cloned()).collect();
                MutableDict::items(pairs)
            }
            "get" => {
                let found = args.first().and_then(|key| self.get_value(key));
                Ok(found.unwrap_or_else(|| Value::from(())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
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

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.values.len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "values" | "values_without_nulls" => {
                let all = method == "values";
                let values = self.values.iter().filter(|value| all || !value.is_none());
                Ok(MutableList::value(values.cloned().collect()))
            }
            "values_distinct" => {
                let mut seen = std::collections::HashSet::new();
                let values = self
                    .values
                    .iter()
                    .filter(|value| seen.insert((*value).clone()));
                Ok(MutableList::value(values.cloned().collect()))
            }
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

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.cells.len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "get" => {
                let found = args.first().and_then(|key| self.get_value(key));
                Ok(found.unwrap_or_else(|| args.get(1).cloned().unwrap_or(Value::from(()))))
            }
            "items" | "dict" => {
                let names = self.names.iter().map(|name| Value::from(name.as_str()));
                let pairs = names.zip(self.cells.iter().cloned()).collect();
                match method {
                    "items" => MutableDict::items(pairs),
                    _ => Ok(MutableDict::value(pairs)),
                }
            }
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
