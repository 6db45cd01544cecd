//! What a sync did, and how far it is.

use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::segment::TableName;
use serde::Serialize;

/// What a sync of one source did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SyncReport {
    pub source: String,
    pub tables: Vec<TableReport>,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

/// What a sync did to one table. Its rows are committed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableReport {
    /// In the source.
    pub table: TableName,
    /// In the warehouse.
    pub raw: TableName,
    /// Rows that the source sent. Always inserted + updated + unchanged.
    pub read: u64,
    pub inserted: u64,
    pub updated: u64,
    /// Sent again by the source and equal to what was there.
    pub unchanged: u64,
    /// Whether the table was replaced as a whole.
    pub replaced: bool,
    pub bytes: u64,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

impl TableReport {
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
    /// Known once the last byte has arrived: rows are not decoded on their way.
    pub rows: Option<u64>,
}

/// Takes progress; called once a chunk of about 64 KiB, so it must be quick.
pub type ProgressSink = Arc<dyn Fn(&Progress) + Send + Sync>;

fn as_millis<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(elapsed.as_secs_f64() * 1000.0)
}
