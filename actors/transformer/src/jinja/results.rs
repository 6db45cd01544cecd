//! The result of a query as templates see it: agate's tables, columns and rows.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::builtins::mutable;
use super::macros::{split_keywords, take};
use super::values::{MutableDict, MutableList};

/// A table: its rows when it is iterated, its columns by name and by index.
#[derive(Debug)]
pub(super) struct ResultTable {
    names: Arc<Vec<String>>,
    cells: Vec<Vec<Value>>,
    rows: Vec<Value>,
    columns: Vec<Value>,
}

impl ResultTable {
    pub(super) fn value(names: Vec<String>, rows: &[Vec<Json>]) -> Value {
        let cells = rows.iter().map(|row| row.iter().map(mutable).collect());
        Self::of(names, cells.collect())
    }

    fn of(names: Vec<String>, cells: Vec<Vec<Value>>) -> Value {
        let columns = names.iter().enumerate().map(|(index, name)| {
            let values = cells.iter().map(|row| row[index].clone()).collect();
            Value::from_object(ResultColumn {
                name: name.clone(),
                values,
            })
        });
        let columns = columns.collect();
        let names: Arc<Vec<String>> = Arc::new(names);
        let rows = cells.iter().map(|row| Named::value(&names, row.clone()));
        let rows = rows.collect();
        Value::from_object(Self {
            names,
            cells,
            rows,
            columns,
        })
    }

    /// The table under other names of its columns: all of them in order, or old to new.
    fn renamed(&self, given: &Value) -> Result<Value, Error> {
        let mut names = self.names.to_vec();
        if given.kind() == ValueKind::Map {
            for name in &mut names {
                let new = given.get_item(&Value::from(name.as_str()))?;
                if !new.is_undefined() {
                    *name = new.to_string();
                }
            }
        } else {
            for (name, new) in names.iter_mut().zip(given.try_iter()?) {
                *name = new.to_string();
            }
        }
        Ok(Self::of(names, self.cells.clone()))
    }

    /// The table with some of its columns only.
    fn with(&self, is_kept: impl Fn(&str) -> bool) -> Value {
        let kept = (0..self.names.len()).filter(|index| is_kept(&self.names[*index]));
        let kept: Vec<usize> = kept.collect();
        let names = kept.iter().map(|index| self.names[*index].clone());
        let cells = self.cells.iter();
        let cells = cells.map(|row| kept.iter().map(|index| row[*index].clone()).collect());
        Self::of(names.collect(), cells.collect())
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
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let mut given = |name: &str| {
            let value = positional.first().cloned();
            value
                .or_else(|| take(&mut keywords, name))
                .unwrap_or_default()
        };
        match method {
            "print_table" | "print_csv" | "print_json" => Ok(Value::from("")),
            "rename" => self.renamed(&given("column_names")),
            "select" | "exclude" => {
                let named = given("key");
                let names: Vec<String> = match named.as_str() {
                    Some(name) => vec![name.to_owned()],
                    None => named.try_iter()?.map(|name| name.to_string()).collect(),
                };
                let is_named = |name: &str| names.iter().any(|named| named == name);
                Ok(self.with(|name| is_named(name) == (method == "select")))
            }
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

/// The type of a column: it only tells how a value of it is written as JSON.
#[derive(Debug)]
struct ColumnType;

impl Object for ColumnType {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match (method, args) {
            ("jsonify", [value]) => Ok(value.clone()),
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
            Some("data_type") => Some(Value::from_object(ColumnType)),
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
