//! What happened, in past tense. Events are rows of `ballpoint.events` first and a broadcast
//! second: a subscriber that missed the broadcast reads the rows.

use serde::{Deserialize, Serialize};

use crate::retry::FailureClass;
use crate::segment::TableName;
use crate::shape::{Hold, SchemaChange};

/// Something that happened. Ids, counts and names only: never rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A watcher saw that tables of a source moved past their checkpoint.
    SourceChanged {
        source: String,
        tables: Vec<TableName>,
    },
    /// A source could not be reached or read; `retry_in_ms` until the next attempt.
    SourceUnavailable {
        source: String,
        error: String,
        retry_in_ms: u64,
    },
    /// A source answers again.
    SourceRecovered { source: String },
    /// Rows and checkpoint of one table were committed to the warehouse.
    TableLoaded {
        source: String,
        table: TableName,
        raw: TableName,
        rows: u64,
    },
    /// A source's columns or tables changed. `held`: what was decided to wait for it, if anything.
    SchemaChanged {
        source: String,
        table: TableName,
        changes: Vec<SchemaChange>,
        #[serde(default)]
        held: Option<Hold>,
    },
    /// A table keeps its last good rows and waits; the source's others go on.
    TableHeld {
        source: String,
        table: TableName,
        hold: Hold,
        reason: String,
    },
    /// A source's log cannot be followed from where the warehouse stands: changes may be missing, so
    /// `tables` are copied again, unless that is `refused`.
    LogGap {
        source: String,
        slot: String,
        reason: String,
        tables: Vec<TableName>,
        refused: bool,
    },
    /// After a [`Event::LogGap`]: every table was copied again, and the log is followed.
    GapClosed { source: String },
    /// A table that was held is followed again.
    TableReleased { source: String, table: TableName },
    /// Rows could not be loaded and stand in `<schema>._rejected`; the others are loaded.
    RowsRejected {
        source: String,
        table: TableName,
        rows: u64,
        reason: String,
    },
    /// How far the load of a table is. Broadcast a few times a second and never a row of
    /// `ballpoint.events`: who missed it waits for the next.
    SyncProgress {
        /// The run that it is a step of, where it is recorded.
        run: Option<String>,
        source: String,
        table: TableName,
        /// Sent by the source so far.
        rows: Option<u64>,
        bytes: u64,
        /// About how many rows there will be.
        rows_expected: Option<u64>,
        rows_per_second: Option<u64>,
        remaining_ms: Option<u64>,
    },
    /// A sync of one source ended; `rows` over all its tables.
    SyncFinished { source: String, rows: u64 },
    /// A sync failed; nothing of the failing table was committed.
    SyncFailed {
        source: String,
        error: String,
        #[serde(default)]
        class: FailureClass,
    },
    /// A build was published: these relations hold new data or a new definition.
    BuildPublished {
        run_id: String,
        relations: Vec<TableName>,
        tests_passed: u64,
        /// Declared sources whose table has not landed; what reads them is not published.
        #[serde(default)]
        absent: Vec<TableName>,
    },
    /// A build failed and published nothing of what it blocked.
    BuildFailed {
        run_id: String,
        failed: Vec<String>,
        skipped: Vec<String>,
        /// The file of each and what is wrong with it, in one line; empty in older rows.
        #[serde(default)]
        reason: String,
    },
    /// The metric registry serves the data (and definitions) of this build.
    MetricsRefreshed { cubes: u64 },
    /// A data model file could not be read; the last good model stays.
    MetricsRejected { error: String },
    /// A plan of a write-back moved on: `rows` that it writes, or has written.
    PlanChanged {
        plan: String,
        sync: String,
        state: String,
        rows: u64,
        error: Option<String>,
        /// Somebody approved it: an error is then of writing it, or of taking it back.
        #[serde(default)]
        approved: bool,
    },
    /// A supervised actor changed its state.
    ActorChanged {
        actor: String,
        state: String,
        incarnation: u64,
        error: Option<String>,
    },
}

impl Event {
    /// The relations of the warehouse whose rows or definition are other ones since this event.
    pub fn written(&self) -> Vec<&TableName> {
        match self {
            Self::TableLoaded { raw, .. } => vec![raw],
            Self::BuildPublished { relations, .. } => relations.iter().collect(),
            _ => Vec::new(),
        }
    }
}
