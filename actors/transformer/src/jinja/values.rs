//! Lists and dicts as Python has them: mutable, shared by reference.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn argument(method: &str, args: &[Value], index: usize) -> Result<Value, Error> {
    args.get(index).cloned().ok_or_else(|| {
        Error::new(
            ErrorKind::MissingArgument,
            format!("{method}() takes {} arguments", index + 1),
        )
    })
}

/// A list that `append` and its kin change in place.
#[derive(Debug, Default)]
pub(crate) struct MutableList(Mutex<Vec<Value>>);

impl MutableList {
    pub(crate) fn value(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items)))
    }

    fn index(&self, position: i64) -> Option<usize> {
        let len = held(&self.0).len() as i64;
        let index = if position < 0 {
            position + len
        } else {
            position
        };
        (0..len).contains(&index).then_some(index as usize)
    }
}

impl Object for MutableList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = self.index(key.as_i64()?)?;
        held(&self.0).get(index).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let items = held(&self.0).clone();
        Enumerator::Iter(Box::new(items.into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(held(&self.0).len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "append" => held(&self.0).push(argument(method, args, 0)?),
            "extend" => {
                let more: Vec<Value> = argument(method, args, 0)?.try_iter()?.collect();
                held(&self.0).extend(more);
            }
            "insert" => {
                let at = argument(method, args, 0)?.as_i64().unwrap_or(0);
                let mut items = held(&self.0);
                let len = items.len() as i64;
                let at = if at < 0 {
                    (at + len).max(0)
                } else {
                    at.min(len)
                };
                items.insert(at as usize, argument(method, args, 1)?);
            }
            "remove" => {
                let wanted = argument(method, args, 0)?;
                let mut items = held(&self.0);
                let at = items
                    .iter()
                    .position(|item| *item == wanted)
                    .ok_or_else(|| {
                        Error::new(ErrorKind::InvalidOperation, "list.remove(x): x not in list")
                    })?;
                items.remove(at);
            }
            "pop" => {
                let at = args.first().and_then(Value::as_i64).unwrap_or(-1);
                let at = self.index(at).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, "pop index out of range")
                })?;
                return Ok(held(&self.0).remove(at));
            }
            "index" | "count" => return found(method, &held(&self.0), args),
            "clear" => held(&self.0).clear(),
            "reverse" => held(&self.0).reverse(),
            "sort" => held(&self.0).sort(),
            "copy" => return Ok(Self::value(held(&self.0).clone())),
            // Sets are lists without repetition here.
            "add" => {
                let item = argument(method, args, 0)?;
                let mut items = held(&self.0);
                if !items.contains(&item) {
                    items.push(item);
                    items.sort();
                }
            }
            "union" | "intersection" | "difference" => {
                let other: Vec<Value> = argument(method, args, 0)?.try_iter()?.collect();
                let mine = held(&self.0).clone();
                return Ok(Self::value(combined(method, mine, other)));
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(Value::from(()))
    }
}

/// Python's `index` and `count` of a sequence.
pub(crate) fn found(method: &str, items: &[Value], args: &[Value]) -> Result<Value, Error> {
    let wanted = argument(method, args, 0)?;
    if method == "count" {
        let count = items.iter().filter(|item| **item == wanted).count();
        return Ok(Value::from(count));
    }
    let at = items.iter().position(|item| *item == wanted);
    at.map(Value::from).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("{wanted} is not in list"),
        )
    })
}

fn combined(method: &str, mut mine: Vec<Value>, other: Vec<Value>) -> Vec<Value> {
    match method {
        "union" => {
            for item in other {
                if !mine.contains(&item) {
                    mine.push(item);
                }
            }
        }
        "intersection" => mine.retain(|item| other.contains(item)),
        _ => mine.retain(|item| !other.contains(item)),
    }
    mine
}

/// A dict that `update` and its kin change in place; keeps insertion order.
#[derive(Debug, Default)]
pub(crate) struct MutableDict(Mutex<IndexMap<Value, Value>>);

impl MutableDict {
    pub(crate) fn value(pairs: Vec<(Value, Value)>) -> Value {
        let dict = Self::default();
        for (key, value) in pairs {
            dict.set(key, value);
        }
        Value::from_object(dict)
    }

    /// A dict of a mapping or of pairs, as Python's `dict(x)`.
    pub(crate) fn of(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
        let mut pairs = Vec::new();
        for item in value.try_iter()? {
            if value.kind() == ValueKind::Map {
                pairs.push((item.clone(), value.get_item(&item)?));
            } else {
                pairs.push((item.get_item_by_index(0)?, item.get_item_by_index(1)?));
            }
        }
        Ok(pairs)
    }

    /// Pairs as Python's `dict.items()` gives them.
    pub(crate) fn items(pairs: Vec<(Value, Value)>) -> Result<Value, Error> {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| Value::from(minijinja::value::Tuple::new(vec![key, value])));
        Ok(MutableList::value(pairs.collect()))
    }

    fn get(&self, key: &Value) -> Option<Value> {
        held(&self.0).get(key).cloned()
    }

    fn set(&self, key: Value, value: Value) {
        held(&self.0).insert(key, value);
    }
}

impl Object for MutableDict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys: Vec<Value> = held(&self.0).keys().cloned().collect();
        Enumerator::Iter(Box::new(keys.into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(held(&self.0).len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "update" => {
                let (given, keywords) = super::macros::split_keywords(args)?;
                for given in given {
                    for (key, value) in Self::of(&given)? {
                        self.set(key, value);
                    }
                }
                for (name, value) in keywords {
                    self.set(Value::from(name), value);
                }
            }
            "pop" => {
                let key = argument(method, args, 0)?;
                return match held(&self.0).shift_remove(&key) {
                    Some(value) => Ok(value),
                    None => args.get(1).cloned().ok_or_else(|| {
                        Error::new(ErrorKind::InvalidOperation, format!("no key {key}"))
                    }),
                };
            }
            "setdefault" => {
                let key = argument(method, args, 0)?;
                if let Some(value) = self.get(&key) {
                    return Ok(value);
                }
                let value = args.get(1).cloned().unwrap_or_else(|| Value::from(()));
                self.set(key, value.clone());
                return Ok(value);
            }
            "clear" => held(&self.0).clear(),
            "copy" => return Ok(Value::from_object(Self(Mutex::new(held(&self.0).clone())))),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(Value::from(()))
    }
}
