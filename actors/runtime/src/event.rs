//! What happened, in past tense. Events are rows of `ballpoint.events` first and a broadcast
//! second: a subscriber that missed the broadcast reads the rows.

use serde::{Deserialize, Serialize};

use crate::retry::FailureClass;
use crate::segment::TableName;

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
