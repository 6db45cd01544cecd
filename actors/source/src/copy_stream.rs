//! COPY TO STDOUT as a bounded stream of chunks, and the end of its transaction.
//!
//! A task owns the connection, so that reading the source and writing the warehouse overlap, and
//! the source's snapshot ends with the last byte, not with the next use of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballpoint_runtime::segment::{RowStream, SourceError, TableName};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::Instrument;

use crate::connection::Connections;

/// PostgreSQL sends a frame a row; passing rows on one by one costs 60 % of the throughput.
const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk ends with the row that fills it: room for that, so that the buffer is not moved.
const CHUNK_ROOM: usize = CHUNK_BYTES + 8 * 1024;
/// What waits between a source and the warehouse, at most, in bytes and whatever the table's size; a
/// source that is ahead by this much waits. A chunk that is larger than it, a very long value, goes alone.
const BYTES_IN_FLIGHT_MAX: usize = 512 * 1024;
/// A source that sends nothing for this long while rows are owed is taken for dead.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A COPY BINARY file without rows: signature, flags, header extension, trailer.
const EMPTY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff";

/// The stream of a segment that moves the position only.
pub(crate) fn empty() -> RowStream {
    stream::iter([Ok(Bytes::from_static(EMPTY))]).boxed()
}

/// What becomes of the connection, and of the transaction that it is in, after the last byte.
pub(crate) enum After {
    Commit,
    /// It goes back to who reads the next range.
    Return(oneshot::Sender<PgConnection>),
}

/// A COPY to be run.
pub(crate) struct Copy {
    pub(crate) table: TableName,
    pub(crate) sql: String,
    /// Counts the rows that were sent on.
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) after: After,
}

type Sent = Result<Option<(Bytes, OwnedSemaphorePermit)>, SourceError>;

/// Runs `copy` in the transaction that `connection` is in. Dropping the stream closes the connection.
pub(crate) fn rows(
    connections: Arc<Connections>,
    connection: PgConnection,
    copy: Copy,
) -> RowStream {
    // Bounded by the permits, which are counted in bytes.
    let (sender, receiver) = mpsc::unbounded_channel();
    let reading = copy.table.clone();
    let at = Arc::clone(&connections);
    let pump = async move {
        let last = tokio::select! {
            ended = pump(&connections, connection, copy, &sender) => ended,
            // The consumer may leave while the source is silent.
            () = sender.closed() => return,
        };
        // The receiver may be gone: then nobody is left to tell.
        let _ = sender.send(last.map(|()| None));
    };
    tokio::spawn(pump.in_current_span());
    stream::unfold(Some(receiver), move |receiver| {
        let crashed = at.read_failure(&reading, &sqlx::Error::WorkerCrashed);
        async move {
            let mut receiver: mpsc::UnboundedReceiver<Sent> = receiver?;
            match receiver.recv().await {
                // Whoever takes a chunk frees its room: it holds one at a time.
                Some(Ok(Some((chunk, _room)))) => Some((Ok(chunk), Some(receiver))),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some((Err(error), None)),
                // An end that was not announced must never look like the end of the rows:
                // PostgreSQL takes COPY BINARY without its trailer.
                None => Some((Err(crashed), None)),
            }
        }
    })
    .boxed()
}

async fn pump(
    connections: &Connections,
    mut connection: PgConnection,
    copy: Copy,
    sender: &mpsc::UnboundedSender<Sent>,
) -> Result<(), SourceError> {
    let broken = |error: sqlx::Error| connections.read_failure(&copy.table, &error);
    let room = Arc::new(Semaphore::new(BYTES_IN_FLIGHT_MAX));
    {
        let mut frames = connection.copy_out_raw(&copy.sql).await.map_err(broken)?;
        let mut chunk = BytesMut::with_capacity(CHUNK_ROOM);
        // PostgreSQL sends a frame for each row, the header with the first, and one for the trailer:
        // a row is known for one when the next frame has come.
        let (mut rows, mut first) = (0, true);
        loop {
            let frame = match frames.try_next().now_or_never() {
                Some(ready) => ready,
                None => tokio::time::timeout(STALL_TIMEOUT, frames.try_next())
                    .await
                    .map_err(|_| stalled(connections, &copy.table))?,
            };
            let frame = frame.map_err(broken)?;
            let ended = frame.is_none();
            if let Some(frame) = frame {
                rows += u64::from(!std::mem::take(&mut first));
                chunk.extend_from_slice(&frame);
            }
            if chunk.len() >= CHUNK_BYTES || (ended && !chunk.is_empty()) {
                let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK_ROOM));
                let permits = u32::try_from(full.len().min(BYTES_IN_FLIGHT_MAX)).unwrap_or(1);
                let permit = Arc::clone(&room).acquire_many_owned(permits).await;
                let permit = permit.expect("nobody closes the semaphore");
                copy.sent
                    .fetch_add(std::mem::take(&mut rows), Ordering::Relaxed);
                if sender.send(Ok(Some((full.freeze(), permit)))).is_err() {
                    return Ok(());
                }
            }
            if ended {
                break;
            }
        }
    }
    match copy.after {
        After::Commit => {
            connection.execute("COMMIT").await.map_err(broken)?;
            connections.give_back(connection);
        }
        // The reader may be gone: its transaction goes with the connection.
        After::Return(reader) => drop(reader.send(connection)),
    }
    Ok(())
}

fn stalled(connections: &Connections, table: &TableName) -> SourceError {
    let reason = format!("the source sent nothing for {} s", STALL_TIMEOUT.as_secs());
    connections.read_failure(table, &sqlx::Error::Protocol(reason))
}
