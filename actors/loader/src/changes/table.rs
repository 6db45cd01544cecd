//! A table whose changes are followed, as the warehouse stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{Lsn, Relation, StreamPosition};
use ballpoint_runtime::segment::{Column, Position, TableName, TableSpec};
use serde::{Deserialize, Serialize};

use super::statements::Statements;

/// Version of the checkpoint's form; another one means that the table is copied again.
const FORMAT: u32 = 1;
/// A build is asked for this often while changes keep coming.
pub(super) const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);

/// A table's state, in its checkpoint; written with its snapshot's rows. The stream's position says
/// how far its changes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableState {
    format: u32,
    /// `streaming` as soon as its snapshot is in the warehouse.
    state: State,
    slot: String,
    system: String,
    /// Changes of transactions that committed before it came with the snapshot.
    pub(super) snapshot_lsn: Lsn,
    columns: Vec<Column>,
    primary_key: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Streaming,
}

impl TableState {
    pub(super) fn new(spec: &TableSpec, stream: &StreamPosition, snapshot_lsn: Lsn) -> Self {
        Self {
            format: FORMAT,
            state: State::Streaming,
            slot: stream.slot.clone(),
            system: stream.system.clone(),
            snapshot_lsn,
            columns: spec.columns.clone(),
            primary_key: spec.primary_key.clone(),
        }
    }

    pub(super) fn to_position(&self) -> Position {
        Position(serde_json::to_value(self).expect("a struct of strings and numbers is JSON"))
    }

    /// Reads a checkpoint; `None` when it is not of a table that is followed.
    pub(super) fn parse(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone())
            .ok()
            .filter(|state: &Self| state.format == FORMAT)
    }

    /// Whether the stream goes on from it for a table of this shape.
    pub(super) fn continues(&self, spec: &TableSpec, stream: &StreamPosition) -> bool {
        let now = Self::new(spec, stream, self.snapshot_lsn);
        *self == now
    }
}

/// A table in the stream.
pub(super) struct Table {
    pub(super) spec: TableSpec,
    pub(super) raw: TableName,
    pub(super) generation: i64,
    pub(super) snapshot_lsn: Lsn,
    /// Positions of its key's columns.
    pub(super) key: Vec<usize>,
    pub(super) statements: Statements,
    /// Whether the session has its staging table.
    pub(super) is_staged: bool,
    /// Whether that holds rows of this transaction.
    pub(super) stage_in_use: bool,
    /// Whether its changes are left out until it has been copied again.
    pub(super) is_held: bool,
    relation: Option<Arc<Relation>>,
    /// Rows that are committed and that no event has told of yet.
    pub(super) untold: u64,
    told_at: Option<Instant>,
}

impl Table {
    pub(super) fn new(
        spec: TableSpec,
        raw: TableName,
        generation: i64,
        snapshot_lsn: Lsn,
        number: usize,
    ) -> Self {
        let position = |name: &String| spec.columns.iter().position(|column| column.name == *name);
        let key = spec.primary_key.iter().filter_map(position).collect();
        let statements = Statements::new(&spec, &raw, generation, number);
        Self {
            spec,
            raw,
            generation,
            snapshot_lsn,
            key,
            statements,
            is_staged: false,
            stage_in_use: false,
            is_held: false,
            relation: None,
            untold: 0,
            told_at: None,
        }
    }

    /// Whether changes described by `relation` fit the table; looked at once for each description.
    pub(super) fn fits(&mut self, relation: &Arc<Relation>) -> bool {
        if self
            .relation
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, relation))
        {
            return true;
        }
        let names = relation.columns.iter().map(|column| &column.name);
        let fits = relation.is_as_followed
            && names.eq(self.spec.columns.iter().map(|column| &column.name));
        if fits {
            self.relation = Some(Arc::clone(relation));
        }
        fits
    }

    /// Whether to tell of its rows now.
    pub(super) fn is_due(&self) -> bool {
        self.untold > 0
            && self
                .told_at
                .is_none_or(|at| at.elapsed() >= ANNOUNCE_INTERVAL)
    }

    pub(super) fn told(&mut self) -> u64 {
        self.told_at = Some(Instant::now());
        std::mem::take(&mut self.untold)
    }
}
