//! COPY TO STDOUT as a bounded stream of chunks, and the end of its transaction.
//!
//! A task owns the connection, so that reading the source and writing the warehouse overlap, and
//! the source's snapshot ends with the last byte, not with the next use of the connection.

use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::segment::{SourceError, TableName};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::connection::Connections;

/// PostgreSQL sends a frame a row; passing rows on one by one costs 60 % of the throughput.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks in flight between source and warehouse: 512 KiB a table, whatever the table's size.
const CHUNKS_MAX: usize = 8;
/// A source that sends nothing for this long while rows are owed is taken for dead.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A COPY BINARY file without rows: signature, flags, header extension, trailer.
const EMPTY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff";

/// The stream of a segment that moves the position only.
pub(crate) fn empty() -> BoxStream<'static, Result<Bytes, SourceError>> {
    stream::iter([Ok(Bytes::from_static(EMPTY))]).boxed()
}

/// Runs `copy` in the transaction that `connection` is in, and commits it after the last byte.
/// Dropping the stream closes the connection.
pub(crate) fn rows(
    connections: Arc<Connections>,
    connection: PgConnection,
    table: TableName,
    copy: String,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let reading = table.clone();
    let at = Arc::clone(&connections);
    let pump = async move {
        let last = tokio::select! {
            ended = pump(&connections, connection, &table, &copy, &sender) => ended,
            // The consumer may leave while the source is silent.
            () = sender.closed() => return,
        };
        // The receiver may be gone: then nobody is left to tell.
        let _ = sender.send(last.map(|()| None)).await;
    };
    tokio::spawn(pump.in_current_span());
    stream::unfold(Some(receiver), move |receiver| {
        let crashed = at.read_failure(&reading, &sqlx::Error::WorkerCrashed);
        async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(Some(chunk))) => Some((Ok(chunk), Some(receiver))),
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
    table: &TableName,
    copy: &str,
    sender: &mpsc::Sender<Result<Option<Bytes>, SourceError>>,
) -> Result<(), SourceError> {
    let broken = |error: sqlx::Error| connections.read_failure(table, &error);
    {
        let mut frames = connection.copy_out_raw(copy).await.map_err(broken)?;
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        loop {
            let next = tokio::time::timeout(STALL_TIMEOUT, frames.try_next()).await;
            let frame = next
                .map_err(|_| stalled(connections, table))?
                .map_err(broken)?;
            let ended = frame.is_none();
            if let Some(frame) = frame {
                chunk.extend_from_slice(&frame);
            }
            if chunk.len() >= CHUNK_BYTES || (ended && !chunk.is_empty()) {
                let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK_BYTES));
                if sender.send(Ok(Some(full.freeze()))).await.is_err() {
                    return Ok(());
                }
            }
            if ended {
                break;
            }
        }
    }
    connection.execute("COMMIT").await.map_err(broken)?;
    connections.give_back(connection);
    Ok(())
}

fn stalled(connections: &Connections, table: &TableName) -> SourceError {
    let reason = format!("the source sent nothing for {} s", STALL_TIMEOUT.as_secs());
    connections.read_failure(table, &sqlx::Error::Protocol(reason))
}
