//! Changes of tables that have other columns than when their source was looked at. They wait in memory for the
//! next look, which goes on beside the stream, so that the other tables' changes do not.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_runtime::changes::Change;

/// More than this is not kept in memory: it is read again from the stream's position after the look.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The changes that wait, by the number of their table.
#[derive(Default)]
pub(super) struct Postponed {
    changes: BTreeMap<usize, Vec<Change>>,
    bytes: usize,
    /// The tables of which the warehouse knows that they wait.
    noted: BTreeSet<usize>,
}

impl Postponed {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Whether changes of that table wait: later ones then wait behind them.
    pub(super) fn has(&self, table: usize) -> bool {
        self.changes.contains_key(&table)
    }

    pub(super) fn push(&mut self, table: usize, change: Change) {
        self.bytes += change.size();
        self.changes.entry(table).or_default().push(change);
    }

    /// Everything, each table's in its order.
    pub(super) fn take(&mut self) -> Vec<Change> {
        self.bytes = 0;
        std::mem::take(&mut self.changes)
            .into_values()
            .flatten()
            .collect()
    }

    /// The tables of which the warehouse is to know that they wait, and those that they do no longer.
    pub(super) fn to_note(&self) -> Vec<(usize, bool)> {
        let waiting = self.changes.keys().copied();
        let begun = waiting.filter(|table| !self.noted.contains(table));
        let noted = self.noted.iter().copied();
        let ended = noted.filter(|table| !self.has(*table));
        begun
            .map(|table| (table, true))
            .chain(ended.map(|table| (table, false)))
            .collect()
    }

    /// That has been committed.
    pub(super) fn are_noted(&mut self) {
        self.noted = self.changes.keys().copied().collect();
    }
}
