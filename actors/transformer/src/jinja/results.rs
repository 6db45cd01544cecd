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
        let rows = rows
            .iter()
            .map(|row| Named::value(&names, row.iter().map(mutable).collect()));
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
            Some("columns") => Some(Named::value(&self.names, self.columns.clone())),
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

/// Values by index and by name: the cells of a row, the columns of a table.
#[derive(Debug)]
struct Named {
    names: Arc<Vec<String>>,
    values: Vec<Value>,
}

impl Named {
    fn value(names: &Arc<Vec<String>>, values: Vec<Value>) -> Value {
        let names = names.clone();
        Value::from_object(Self { names, values })
    }

    fn names(&self) -> impl Iterator<Item = Value> {
        self.names.iter().map(|name| Value::from(name.as_str()))
    }
}

impl Object for Named {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = match key.as_str() {
            Some(wanted) => self.names.iter().position(|name| name == wanted)?,
            None => key.as_usize()?,
        };
        self.values.get(index).cloned()
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
        args: &[Value],
    ) -> Result<Value, Error> {
        let pairs = || self.names().zip(self.values.iter().cloned()).collect();
        match method {
            "get" => {
                let found = args.first().and_then(|key| self.get_value(key));
                let default = || args.get(1).cloned().unwrap_or_else(|| Value::from(()));
                Ok(found.unwrap_or_else(default))
            }
            "items" => MutableDict::items(pairs()),
            "dict" => Ok(MutableDict::value(pairs())),
            "values" => Ok(MutableList::value(self.values.clone())),
            "keys" => Ok(MutableList::value(self.names().collect())),
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
