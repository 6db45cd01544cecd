//! What a sync did, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::shape::Hold;
use serde::Serialize;

use crate::error::LoadError;
use crate::proof::Proof;

/// What a sync of one source did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SyncReport {
    pub source: String,
    pub tables: Vec<TableReport>,
    /// Tables that keep their last good rows and wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldTable>,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

/// A table that keeps its last good rows and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldTable {
    pub table: TableName,
    #[serde(rename = "state")]
    pub hold: Hold,
    pub reason: String,
}

impl HeldTable {
    pub(crate) fn new(table: &TableName, hold: Hold, reason: &str) -> Self {
        Self {
            table: table.clone(),
            hold,
            reason: reason.to_owned(),
        }
    }
}

/// What a sync did to one table. Its rows are committed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableReport {
    /// The source's name.
    #[serde(skip)]
    pub(crate) source: String,
    /// In the source.
    pub table: TableName,
    /// In the warehouse.
    pub raw: TableName,
    /// Rows that the source sent. Always inserted + updated + unchanged + rejected.
    pub read: u64,
    pub inserted: u64,
    pub updated: u64,
    /// Sent again by the source and equal to what was there.
    pub unchanged: u64,
    /// Not loaded; they stand in `<schema>._rejected`.
    pub rejected: u64,
    /// Of those read, the rows that an interrupted load had landed.
    pub kept: u64,
    /// Whether ranges of an interrupted load were kept, be they without rows.
    #[serde(skip)]
    pub(crate) resumed: bool,
    /// Whether the table was replaced as a whole.
    pub replaced: bool,
    pub bytes: u64,
    /// The comparison with the source, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    #[serde(skip)]
    pub(crate) begun: Instant,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

impl TableReport {
    /// A load that begins.
    pub(crate) fn begun(source: &str, table: TableName, raw: TableName) -> Self {
        Self {
            table,
            raw,
            source: source.to_owned(),
            read: 0,
            inserted: 0,
            updated: 0,
            unchanged: 0,
            rejected: 0,
            kept: 0,
            resumed: false,
            replaced: false,
            bytes: 0,
            proof: None,
            begun: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// Rows that changes of the source's log made different, and that were rejected.
    pub(crate) fn add_changes(&mut self, rows: u64, rejected: u64) {
        self.read += rows + rejected;
        self.updated += rows;
        self.rejected += rejected;
    }

    /// The load has ended. A proof that does not hold is an error, though the rows are committed.
    pub(crate) fn ended(mut self, proof: Option<Proof>) -> Result<Self, LoadError> {
        self.unchanged = self.read - self.inserted - self.updated - self.rejected;
        self.elapsed = self.begun.elapsed();
        match proof {
            Some(proof) if !proof.holds() => Err(LoadError::Differs {
                table: self.table,
                raw: self.raw,
                proof: Box::new(proof),
            }),
            proof => {
                self.proof = proof;
                Ok(self)
            }
        }
    }

    /// What the source has sent, by its own count, must have landed or been rejected, to the row.
    pub(crate) fn check_counts(&self, sent: Option<&AtomicU64>) -> Result<(), LoadError> {
        let Some(sent) = sent else { return Ok(()) };
        let sent = sent.load(Ordering::Relaxed) + self.kept;
        if sent == self.read {
            return Ok(());
        }
        Err(LoadError::Counts {
            table: self.table.clone(),
            sent,
            landed: self.read - self.rejected,
            rejected: self.rejected,
        })
    }

    /// Rows that are new or different now.
    pub fn changed(&self) -> u64 {
        self.inserted + self.updated
    }
}

impl SyncReport {
    /// Whether any table is different now: one may have been replaced by an empty one.
    pub fn has_news(&self) -> bool {
        self.tables
            .iter()
            .any(|table| table.replaced || table.changed() > 0)
    }

    /// Rows that are new or different now, over all tables.
    pub fn changed(&self) -> u64 {
        self.tables.iter().map(TableReport::changed).sum()
    }
}

/// How far a table's load is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub source: String,
    pub table: TableName,
    /// Of COPY data received from the source so far.
    pub bytes: u64,
    /// Known once the last byte has arrived.
    pub rows: Option<u64>,
    /// Rows that the source has sent so far, where it counts them.
    pub sent: Option<u64>,
    /// About how many there will be; the source's estimate.
    pub expected: Option<u64>,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

impl Progress {
    /// Per second, since the load of the table began.
    pub fn rows_per_second(&self) -> Option<f64> {
        let seconds = self.elapsed.as_secs_f64();
        let rows = self.sent.filter(|_| seconds > 0.0)?;
        // Rows are far fewer than 2^52.
        Some(rows as f64 / seconds)
    }

    /// How long the rest will take at the rate so far; `None` where it cannot be told.
    pub fn remaining(&self) -> Option<Duration> {
        let rate = self.rows_per_second().filter(|rate| *rate > 0.0)?;
        let left = self.expected?.saturating_sub(self.sent?);
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }
}

/// Takes progress; called once a chunk of about 64 KiB, so it must be quick.
pub type ProgressSink = Arc<dyn Fn(&Progress) + Send + Sync>;

fn as_millis<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(elapsed.as_secs_f64() * 1000.0)
}
