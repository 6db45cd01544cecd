//! Rows as COPY bytes: out of one connection as a stream of chunks, into another with a row count.
//!
//! Nothing is decoded. Memory is bounded: a few chunks of about 64 KiB are in flight, and the reader
//! waits for whoever consumes them. A copy that fails or is dropped half-way never leaves a connection
//! behind that looks usable and is not.

use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use sqlx::{PgConnection, Postgres, pool::PoolConnection};
use tokio::sync::mpsc;
use tracing::Instrument;

/// Frames (one a row) are gathered until a chunk has this many bytes. Larger ones gain nothing on
/// loopback; smaller ones cost a system call each.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that may wait for the consumer.
const CHUNKS_IN_FLIGHT_MAX: usize = 4;

/// Why rows did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E: std::error::Error + 'static> {
    /// The rows' own stream failed; the copy was aborted and nothing of it is visible.
    #[error("reading the rows failed, nothing of this copy was kept")]
    Source(#[source] E),
    /// The database that takes the rows refused them or was lost.
    #[error("writing the rows failed")]
    Database(#[source] sqlx::Error),
}

/// Runs `sql` (a `COPY … TO STDOUT`) on `connection` and streams its bytes, coalesced to about 64 KiB.
///
/// The stream reads ahead in a task of its own. At a clean end the connection goes back to its pool;
/// after an error, or when the stream is dropped early, it is closed, which also stops the server.
#[must_use]
pub fn copy_out(
    connection: PoolConnection<Postgres>,
    sql: String,
) -> BoxStream<'static, Result<Bytes, sqlx::Error>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT_MAX);
    let pump = async move {
        tokio::select! {
            // The consumer may leave while the server is silent.
            () = sender.closed() => {}
            () = pump_out(Unfinished(Some(connection)), &sql, &sender) => {}
        }
    };
    tokio::spawn(pump.in_current_span());
    stream::unfold(Some(receiver), next_chunk).boxed()
}

/// What the reading task tells the stream.
enum Progress {
    Chunk(Bytes),
    Failed(sqlx::Error),
    Done,
}

async fn next_chunk(
    receiver: Option<mpsc::Receiver<Progress>>,
) -> Option<(Result<Bytes, sqlx::Error>, Option<mpsc::Receiver<Progress>>)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Some(Progress::Chunk(chunk)) => Some((Ok(chunk), Some(receiver))),
        Some(Progress::Failed(error)) => Some((Err(error), None)),
        Some(Progress::Done) => None,
        // An end without `Done` must never look like the end of the rows.
        None => Some((Err(sqlx::Error::WorkerCrashed), None)),
    }
}

async fn pump_out(mut connection: Unfinished, sql: &str, sender: &mpsc::Sender<Progress>) {
    let last = match connection.read_all(sql, sender).await {
        Ok(true) => {
            connection.finished();
            Progress::Done
        }
        Ok(false) => return,
        Err(error) => Progress::Failed(error),
    };
    // Who no longer listens needs no answer.
    let _ = sender.send(last).await;
}

/// A connection in the middle of a COPY: closed when dropped, unless the COPY ended well. sqlx would
/// put it back and read (or misread) the rest of the rows as the answer to the next query.
struct Unfinished(Option<PoolConnection<Postgres>>);

impl Unfinished {
    /// Sends every chunk; false when the consumer left.
    async fn read_all(
        &mut self,
        sql: &str,
        sender: &mpsc::Sender<Progress>,
    ) -> Result<bool, sqlx::Error> {
        let connection = self
            .0
            .as_mut()
            .expect("taken only when the copy has finished");
        let mut frames = connection.copy_out_raw(sql).await?;
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        while let Some(frame) = frames.next().await {
            chunk.extend_from_slice(&frame?);
            if chunk.len() >= CHUNK_BYTES {
                let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK_BYTES));
                if sender.send(Progress::Chunk(full.freeze())).await.is_err() {
                    return Ok(false);
                }
            }
        }
        if chunk.is_empty() {
            return Ok(true);
        }
        Ok(sender.send(Progress::Chunk(chunk.freeze())).await.is_ok())
    }

    fn finished(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}

/// Runs `sql` (a `COPY … FROM STDIN`) with `rows` and returns the number of rows that the server took.
///
/// When `rows` fails the copy is aborted: the server keeps nothing, and the enclosing transaction, if
/// any, is in its failed state. Dropped half-way, it leaves a connection that answers its next use with an
/// error, which a pool discards.
///
/// # Errors
/// [`CopyError::Source`] with the stream's error; [`CopyError::Database`] otherwise.
pub async fn copy_in<E: std::error::Error + 'static>(
    connection: &mut PgConnection,
    sql: &str,
    mut rows: BoxStream<'_, Result<Bytes, E>>,
) -> Result<u64, CopyError<E>> {
    let mut copy = connection
        .copy_in_raw(sql)
        .await
        .map_err(CopyError::Database)?;
    while let Some(chunk) = rows.next().await {
        match chunk {
            Ok(chunk) => {
                copy.send(chunk).await.map_err(CopyError::Database)?;
            }
            Err(error) => {
                if let Err(abort_error) = copy.abort("the rows' source failed").await {
                    tracing::debug!(error = %abort_error, "a copy ended before it was aborted");
                    end_session(connection).await;
                }
                return Err(CopyError::Source(error));
            }
        }
    }
    copy.finish().await.map_err(CopyError::Database)
}

/// Makes the server end this session. After an abort that crossed a server error, sqlx has one answer
/// too many in its buffer, and each later query would read the answer to the one before.
async fn end_session(connection: &mut PgConnection) {
    let end = "SELECT pg_terminate_backend(pg_backend_pid())";
    if let Err(error) = sqlx::raw_sql(end).execute(connection).await {
        tracing::debug!(%error, "session ended");
    }
}

#[cfg(test)]
mod tests;
