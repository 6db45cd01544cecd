//! A table whose changes are followed, as the warehouse stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{Change, Field, Lsn, Relation, StreamPosition, Tuple};
use ballpoint_runtime::segment::{Column, Position, TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::columns::Fit;
use super::net;
use super::statements::Statements;

/// Version of the checkpoint's form; another one means that the table is copied again.
const FORMAT: u32 = 1;
/// A build is asked for this often while changes keep coming.
/// Of a value that is too long, at most.
const SHOWN_BYTES: usize = 800;
pub(super) const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);

/// A table's state, in its checkpoint; written with its snapshot's rows. The stream's position says
/// how far its changes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableState {
    format: u32,
    state: State,
    slot: String,
    system: String,
    /// Changes of transactions that committed before it are in the table: they came with the snapshot,
    /// or it ran ahead of the stream's position while others were copied.
    pub(super) snapshot_lsn: Lsn,
    /// The rows are of several snapshots, of which this is the last: the changes before it bring them to
    /// one state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) converges_at: Option<Lsn>,
    columns: Vec<Column>,
    primary_key: Vec<String>,
    /// What held its rows in the source when that was looked at.
    #[serde(default)]
    file: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Its snapshot is in the warehouse; the round of copies that it belongs to goes on.
    Copied,
    /// The stream has its changes.
    Streaming,
    /// The same, but those from the stream's position on are postponed, and those of others are not.
    Postponed,
}

impl TableState {
    /// The state of a table whose snapshot has landed.
    pub(super) fn copied(spec: &TableSpec, stream: &StreamPosition, snapshot_lsn: Lsn) -> Self {
        Self {
            format: FORMAT,
            state: State::Copied,
            slot: stream.slot.clone(),
            system: stream.system.clone(),
            snapshot_lsn,
            converges_at: None,
            columns: spec.columns.clone(),
            primary_key: spec.primary_key.clone(),
            file: spec.origin.file,
        }
    }

    /// The same, with ranges of earlier snapshots, none from before `from`.
    pub(super) fn replayed_from(self, from: Lsn) -> Self {
        Self {
            converges_at: Some(self.snapshot_lsn),
            snapshot_lsn: from,
            ..self
        }
    }

    pub(super) fn to_position(&self) -> Position {
        Position(serde_json::to_value(self).expect("a struct of strings and numbers is JSON"))
    }

    /// Reads a checkpoint; `None` when it is not of a table that is followed.
    pub(crate) fn parse(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone())
            .ok()
            .filter(|state: &Self| state.format == FORMAT)
    }

    /// The state of a table whose columns became those of `spec` with nothing in the new ones.
    fn reshaped(self, spec: &TableSpec) -> Self {
        Self {
            columns: spec.columns.clone(),
            file: spec.origin.file,
            ..self
        }
    }

    /// Whether the source has not written all rows anew since, of which its log says nothing.
    pub(crate) fn has_rows_of(&self, spec: &TableSpec) -> bool {
        self.file != 0 && self.file == spec.origin.file
    }

    /// Keeps the state, if there is one, of a table that goes on with the columns of `spec`: the log
    /// tells of whatever comes to stand in them.
    pub(crate) async fn reshape_in(
        connection: &mut PgConnection,
        source: &str,
        spec: &TableSpec,
    ) -> Result<(), StoreError> {
        // Whoever follows the source may postpone its changes at this moment.
        Checkpoints::lock_in(connection, source, &spec.table).await?;
        let position = Checkpoints::get_in(connection, source, &spec.table).await?;
        let Some(state) = position.as_ref().and_then(Self::parse) else {
            return Ok(());
        };
        let position = state.reshaped(spec).to_position();
        Checkpoints::put_in(connection, source, &spec.table, &position).await
    }

    /// Whether it is a state in that stream.
    pub(super) fn is_of(&self, stream: &StreamPosition) -> bool {
        self.slot == stream.slot && self.system == stream.system
    }

    /// Whether the stream goes on from it for a table of this shape.
    pub(super) fn continues(&self, spec: &TableSpec, stream: &StreamPosition) -> bool {
        self.is_streaming()
            && self.is_of(stream)
            && self.columns == spec.columns
            && self.primary_key == spec.primary_key
    }

    /// Whether the stream has its changes.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming | State::Postponed)
    }

    /// Whether its rows are of one state once the stream is at `end`.
    pub(super) fn has_converged(&self, end: Lsn) -> bool {
        self.converges_at.is_none_or(|at| at <= end)
    }
}

/// A table in the stream.
pub(super) struct Table {
    pub(super) spec: TableSpec,
    pub(super) raw: TableName,
    pub(super) generation: i64,
    pub(super) snapshot_lsn: Lsn,
    converges_at: Option<Lsn>,
    /// Positions of its key's columns.
    pub(super) key: Vec<usize>,
    /// Tells its staging table from those of the session's other tables.
    number: usize,
    pub(super) statements: Statements,
    /// Whether the session has its staging table.
    pub(super) is_staged: bool,
    /// Whether that holds rows of this transaction.
    pub(super) stage_in_use: bool,
    /// Whether it is followed no longer: it waits for somebody, or for being copied again.
    pub(super) is_left: bool,
    /// Of the latest description, and whether it was an older one.
    fit: Option<(Arc<Relation>, bool, Fit)>,
    /// Rows that the transaction at work has made different.
    pub(super) written: u64,
    /// Rows that it has rejected.
    pub(super) rejected: u64,
    /// Whether there may be rejected rows of it; `None` before that was looked for.
    pub(super) has_rejected: Option<bool>,
    /// Rows that are committed and that no event has told of yet.
    pub(super) untold: u64,
    told_at: Option<Instant>,
}

impl Table {
    pub(super) fn new(
        spec: TableSpec,
        raw: TableName,
        generation: i64,
        state: &TableState,
        number: usize,
    ) -> Self {
        Self {
            key: key_of(&spec),
            statements: Statements::new(&spec, &raw, generation, number),
            spec,
            raw,
            generation,
            snapshot_lsn: state.snapshot_lsn,
            converges_at: state.converges_at,
            number,
            is_staged: false,
            stage_in_use: false,
            is_left: false,
            fit: None,
            written: 0,
            rejected: 0,
            has_rejected: None,
            untold: 0,
            told_at: None,
        }
    }

    /// The same table with the columns of `spec`, which the raw one has by now. Its staging table is the
    /// caller's to drop.
    pub(super) fn reshape(&mut self, spec: TableSpec) {
        self.key = key_of(&spec);
        self.statements = Statements::new(&spec, &self.raw, self.generation, self.number);
        self.is_staged = false;
        self.fit = None;
        self.spec = spec;
    }

    /// How a change fits the table. While changes are replayed over rows of several snapshots, one of
    /// other columns cannot be: rows that a later snapshot brought have what it does not tell of.
    pub(super) fn fit_of(&mut self, change: &Change, is_older: bool) -> Fit {
        match self.fit(&change.relation, is_older) {
            Fit::By(_) if !self.has_converged(change.commit_lsn) => Fit::Unlike,
            fit => fit,
        }
    }

    /// How changes described by `relation` fit; looked at once for each description.
    fn fit(&mut self, relation: &Arc<Relation>, is_older: bool) -> Fit {
        if let Some((known, was_older, fit)) = &self.fit
            && Arc::ptr_eq(known, relation)
            && *was_older == is_older
        {
            return fit.clone();
        }
        let fit = Fit::of(relation, &self.spec, is_older);
        self.fit = Some((Arc::clone(relation), is_older, fit.clone()));
        fit
    }

    /// Whether its rows are of one state once the stream is at `end`.
    pub(super) fn has_converged(&self, end: Lsn) -> bool {
        self.converges_at.is_none_or(|at| at <= end)
    }

    /// Whether some of `changes` bring rows of several snapshots to one state.
    pub(super) fn replays(&self, changes: &[Change]) -> bool {
        changes
            .iter()
            .any(|change| !self.has_converged(change.commit_lsn))
    }

    /// Nothing of the transaction at work is kept.
    pub(super) fn undo(&mut self) {
        self.is_staged = false;
        self.stage_in_use = false;
        self.written = 0;
        self.rejected = 0;
    }

    /// Longer values are rejected.
    pub(super) fn limit(&self) -> usize {
        let limit = self.spec.options.max_value_bytes;
        limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
    }

    /// A row that is rejected as it can be staged: its long values cut, or left out where that would leave no
    /// value of their type.
    pub(super) fn shortened(&self, tuple: &Tuple) -> Tuple {
        let limit = self.limit();
        let columns = self.spec.columns.iter();
        let fields = tuple.fields().zip(columns).map(|(field, column)| {
            let (Field::Text(value) | Field::Binary(value)) = field else {
                return field;
            };
            if value.len() <= limit {
                return field;
            }
            let is_text = ["text", "character"]
                .iter()
                .any(|it| column.sql_type.starts_with(it) && !column.sql_type.ends_with("[]"));
            match std::str::from_utf8(value) {
                Ok(text) if is_text => {
                    let shown = text.floor_char_boundary(SHOWN_BYTES.min(limit));
                    match field {
                        Field::Text(_) => Field::Text(&value[..shown]),
                        _ => Field::Binary(&value[..shown]),
                    }
                }
                _ => Field::Null,
            }
        });
        net::tuple(fields)
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

/// Positions of the key's columns.
fn key_of(spec: &TableSpec) -> Vec<usize> {
    let position = |name: &String| spec.columns.iter().position(|column| column.name == *name);
    spec.primary_key.iter().filter_map(position).collect()
}
