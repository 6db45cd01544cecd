//! What a batch of changes comes to, row by row.
//!
//! Only the last state of each row has to be written: changes are folded by the row's key, in order.
//! A value that the log does not repeat (an unchanged TOAST value) is taken from an earlier change of
//! the batch where one has it, and left to the warehouse's row otherwise.

use std::collections::HashMap;

use ballpoint_runtime::changes::{Change, Field, Lsn, OldRow, Operation, Tuple};
use bytes::{BufMut, Bytes, BytesMut};

/// What becomes of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is this, whatever was there.
    Put(Tuple),
    /// It is there and gets these values, but for those that are unchanged.
    Patch(Tuple),
    /// The row with this key is gone.
    Delete(Tuple),
    /// The same, and the row that is there instead is rejected for the length of the value at this place.
    Reject(Tuple, usize),
}

/// A row's effect and the transaction that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowEffect {
    pub(super) effect: Effect,
    pub(super) lsn: Lsn,
}

/// Effects that can be written in any order; each key once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Net {
    /// Every row that was there before is gone.
    pub(super) emptied: Option<Lsn>,
    pub(super) rows: Vec<RowEffect>,
}

/// What is to be written, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Net(Net),
    /// The row with the old key gets a new one, and keeps values that the log does not repeat.
    Move {
        old: Tuple,
        new: Tuple,
        lsn: Lsn,
    },
}

/// Where a row has a value of more than `limit` bytes, as it travels.
pub(super) fn too_long(tuple: &Tuple, limit: usize) -> Option<usize> {
    if tuple.size() <= limit {
        return None;
    }
    tuple.fields().position(|field| match field {
        Field::Text(value) | Field::Binary(value) => value.len() > limit,
        Field::Null | Field::Unchanged => false,
    })
}

/// Folds the changes of one table. `key` are the positions of its key's columns; rows with a longer value than
/// `limit` are rejected.
pub(super) fn by_key<'a>(
    changes: impl IntoIterator<Item = &'a Change>,
    key: &[usize],
    limit: usize,
) -> Vec<Step> {
    let mut fold = Fold {
        key,
        limit,
        steps: Vec::new(),
        net: Net::default(),
        found: HashMap::new(),
    };
    for change in changes {
        fold.add(change);
    }
    fold.flush();
    fold.steps
}

struct Fold<'a> {
    key: &'a [usize],
    limit: usize,
    steps: Vec<Step>,
    net: Net,
    found: HashMap<Vec<u8>, usize>,
}

impl Fold<'_> {
    fn add(&mut self, change: &Change) {
        let lsn = change.commit_lsn;
        match &change.operation {
            Operation::Insert { new } => self.put(new.clone(), lsn),
            Operation::Delete { old } => self.delete(old.tuple.clone(), lsn),
            Operation::Update { old, new } => self.update(old.as_ref(), new, lsn),
            Operation::Truncate => {
                self.net = Net {
                    emptied: Some(lsn),
                    rows: Vec::new(),
                };
                self.found.clear();
            }
        }
    }

    fn update(&mut self, old: Option<&OldRow>, new: &Tuple, lsn: Lsn) {
        // The log repeats what names the row if it cannot be read from the new one.
        let mut new = match old {
            Some(old) if old.is_whole => completed(new, &old.tuple),
            Some(old) => with_key(new, &old.tuple, self.key),
            None => new.clone(),
        };
        let before = old.map(|old| key_of(&old.tuple, self.key));
        let after = key_of(&new, self.key);
        let moved = before.as_ref().filter(|before| **before != after);
        let base = self.found.get(moved.unwrap_or(&after)).copied();
        let base = base.map(|at| self.net.rows[at].effect.clone());
        if let Some(Effect::Put(base) | Effect::Patch(base) | Effect::Reject(base, _)) = &base {
            new = completed(&new, base);
        }
        let is_whole = !new.fields().any(|field| field == Field::Unchanged);
        match (moved.is_some(), old) {
            (has_moved, old) if too_long(&new, self.limit).is_some() => {
                if let Some(old) = old.filter(|_| has_moved) {
                    self.delete(old.tuple.clone(), lsn);
                }
                self.put(new, lsn);
            }
            (true, Some(old)) if is_whole => {
                self.delete(old.tuple.clone(), lsn);
                self.put(new, lsn);
            }
            (true, Some(old)) => {
                self.flush();
                let old = old.tuple.clone();
                self.steps.push(Step::Move { old, new, lsn });
            }
            _ if is_whole => self.put(new, lsn),
            _ => self.set(after, Effect::Patch(new), lsn),
        }
    }

    fn put(&mut self, new: Tuple, lsn: Lsn) {
        let key = key_of(&new, self.key);
        let effect = match too_long(&new, self.limit) {
            Some(at) => Effect::Reject(new, at),
            None => Effect::Put(new),
        };
        self.set(key, effect, lsn);
    }

    fn delete(&mut self, old: Tuple, lsn: Lsn) {
        self.set(key_of(&old, self.key), Effect::Delete(old), lsn);
    }

    fn set(&mut self, key: Vec<u8>, effect: Effect, lsn: Lsn) {
        let row = RowEffect { effect, lsn };
        match self.found.get(&key) {
            Some(at) => self.net.rows[*at] = row,
            None => {
                self.found.insert(key, self.net.rows.len());
                self.net.rows.push(row);
            }
        }
    }

    fn flush(&mut self) {
        self.found.clear();
        let net = std::mem::take(&mut self.net);
        if net != Net::default() {
            self.steps.push(Step::Net(net));
        }
    }
}

/// Rows without a key: how many copies of each row come, or go (negative).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    pub(super) emptied: Option<Lsn>,
    pub(super) rows: Vec<(Tuple, i64, Lsn)>,
    /// Those that are rejected for the length of the value at this place.
    pub(super) rejected: Vec<(Tuple, usize, Lsn)>,
}

/// Folds the changes of a table whose rows are named by all their values; rows with a longer value than
/// `limit` are rejected.
pub(super) fn by_row<'a>(changes: impl IntoIterator<Item = &'a Change>, limit: usize) -> Copies {
    let mut copies = Copies::default();
    let mut found: HashMap<Bytes, usize> = HashMap::new();
    for change in changes {
        let lsn = change.commit_lsn;
        let mut add = |tuple: Tuple, count: i64| {
            if let Some(at) = too_long(&tuple, limit) {
                // One that goes was rejected when it came.
                if count > 0 {
                    copies.rejected.push((tuple, at, lsn));
                }
                return;
            }
            let at = *found.entry(tuple.bytes().clone()).or_insert_with(|| {
                copies.rows.push((tuple, 0, lsn));
                copies.rows.len() - 1
            });
            copies.rows[at].1 += count;
            copies.rows[at].2 = lsn;
        };
        match &change.operation {
            Operation::Insert { new } => add(new.clone(), 1),
            Operation::Delete { old } => add(old.tuple.clone(), -1),
            Operation::Update { old, new } => {
                if let Some(old) = old {
                    add(old.tuple.clone(), -1);
                    add(completed(new, &old.tuple), 1);
                }
            }
            Operation::Truncate => {
                copies = Copies {
                    emptied: Some(lsn),
                    ..Copies::default()
                };
                found.clear();
            }
        }
    }
    copies.rows.retain(|(_, count, _)| *count != 0);
    copies
}

/// The key's values, so that two are equal only if all of them are.
fn key_of(tuple: &Tuple, key: &[usize]) -> Vec<u8> {
    let fields: Vec<Field<'_>> = tuple.fields().collect();
    let mut bytes = Vec::with_capacity(key.len() * 12);
    for at in key {
        match fields.get(*at) {
            Some(Field::Text(value) | Field::Binary(value)) => {
                bytes.extend_from_slice(&value.len().to_be_bytes());
                bytes.extend_from_slice(value);
            }
            _ => bytes.extend_from_slice(&usize::MAX.to_be_bytes()),
        }
    }
    bytes
}

/// `new` with the unchanged values that `base` has.
fn completed(new: &Tuple, base: &Tuple) -> Tuple {
    if !new.fields().any(|field| field == Field::Unchanged) {
        return new.clone();
    }
    let merged = new.fields().zip(base.fields()).map(|pair| match pair {
        (Field::Unchanged, base) => base,
        (new, _) => new,
    });
    tuple(merged)
}

/// `new` with the unchanged values of its key.
fn with_key(new: &Tuple, old: &Tuple, key: &[usize]) -> Tuple {
    let unchanged =
        |(at, field): (usize, Field<'_>)| field == Field::Unchanged && key.contains(&at);
    if !new.fields().enumerate().any(unchanged) {
        return new.clone();
    }
    let merged = new.fields().zip(old.fields()).enumerate();
    tuple(merged.map(|(at, pair)| match pair {
        (Field::Unchanged, old) if key.contains(&at) => old,
        (new, _) => new,
    }))
}

/// A row of these values.
pub(super) fn tuple<'a>(fields: impl Iterator<Item = Field<'a>>) -> Tuple {
    let (mut data, mut count) = (BytesMut::new(), 0);
    for field in fields {
        count += 1;
        let (kind, value) = match field {
            Field::Null => (b'n', None),
            Field::Unchanged => (b'u', None),
            Field::Text(value) => (b't', Some(value)),
            Field::Binary(value) => (b'b', Some(value)),
        };
        data.put_u8(kind);
        if let Some(value) = value {
            data.put_i32(i32::try_from(value.len()).expect("it came with such a length"));
            data.put_slice(value);
        }
    }
    let parsed = Tuple::parse(&data.freeze(), count);
    parsed.expect("written in the form that is read").0
}

#[cfg(test)]
mod tests;
