//! How far a load is: bytes as they pass, rows as the source counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ballpoint_runtime::segment::{RowStream, Segment, SourceError, TableName};
use futures_util::StreamExt;

use crate::error::crash_point;
use crate::report::{Progress, ProgressSink, TableReport};

/// Counts one table's rows on their way and tells of them.
#[derive(Clone)]
pub(crate) struct Counter {
    sink: Option<ProgressSink>,
    source: String,
    table: TableName,
    bytes: Arc<AtomicU64>,
    sent: Option<Arc<AtomicU64>>,
    expected: Option<u64>,
    begun: Instant,
}

impl Counter {
    pub(crate) fn begin(sink: Option<ProgressSink>, segment: &Segment, source: &str) -> Self {
        Self {
            sink,
            source: source.to_owned(),
            table: segment.spec.table.clone(),
            bytes: Arc::default(),
            sent: segment.sent.clone(),
            expected: segment.expected,
            begun: Instant::now(),
        }
    }

    /// `rows`, counting their bytes and telling of them.
    pub(crate) fn count(&self, rows: RowStream) -> RowStream {
        let this = self.clone();
        rows.map(move |chunk| {
            let chunk = chunk?;
            let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            this.bytes.fetch_add(size, Ordering::Relaxed);
            this.tell(None);
            crash_point("loader.mid_copy").map_err(|error| SourceError::Read {
                source_name: this.source.clone(),
                table: this.table.clone(),
                reason: error.to_string(),
            })?;
            Ok(chunk)
        })
        .boxed()
    }

    /// All rows have landed.
    pub(crate) fn ended(&self, report: &mut TableReport) {
        report.bytes = self.bytes.load(Ordering::Relaxed);
        self.tell(Some(report.read));
    }

    fn tell(&self, rows: Option<u64>) {
        let Some(sink) = &self.sink else { return };
        let sent = self.sent.as_ref().map(|sent| sent.load(Ordering::Relaxed));
        sink(&Progress {
            source: self.source.clone(),
            table: self.table.clone(),
            bytes: self.bytes.load(Ordering::Relaxed),
            rows,
            sent: rows.or(sent),
            expected: self.expected,
            elapsed: self.begun.elapsed(),
        });
    }
}
