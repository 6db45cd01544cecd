//! The stream of a slot: a task decodes it ahead of the loader, within bounds.
//!
//! What has been decoded waits in one buffer that the loader takes as a whole. So batches are as
//! small as the source is slow, a single row when it is idle, and grow while the loader is busy:
//! that spares commits under load, and costs no latency without it. A transaction larger than the
//! buffer is handed over in parts, each only after the one before was taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ballpoint_runtime::changes::{
    Change, ChangeBatch, ChangeStream, Lsn, Operation, Relation, RelationColumn,
};
use ballpoint_runtime::segment::{SourceError, TableName, TableSpec};
use bytes::Bytes;
use pgwire_replication::{Lsn as WireLsn, PgWireError, ReplicationClient, ReplicationEvent};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::log::ChangeLog;
use super::pgoutput::{self, Message, RelationMessage};
use super::slot;

/// What waits decoded, at most, but for one transaction's last part.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// After a batch of this many changes there is a backlog: the next is waited for a little, so that
/// it grows and the warehouse commits less often.
const BACKLOG_CHANGES: usize = 64;
const LINGER: Duration = Duration::from_millis(3);
/// Opening the stream: the slot may have to skip what was sent before.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between PostgreSQL's epoch and 1970, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// See [`ballpoint_runtime::changes::ChangeSource::stream`].
pub(super) async fn open(
    log: &ChangeLog,
    name: &str,
    from: Lsn,
    specs: &[TableSpec],
) -> Result<Box<dyn ChangeStream>, SourceError> {
    let binary = are_portable(specs);
    slot::until_free(log, name).await?;
    let mut config = log.endpoint().session(log.name_of_source(), name);
    config.start_lsn = WireLsn(from.0);
    config.binary = binary;
    let starting = async {
        let mut client = ReplicationClient::connect(config).await?;
        client.wait_started().await?;
        Ok::<_, PgWireError>(client)
    };
    let client = match tokio::time::timeout(START_TIMEOUT, starting).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            note_if_broken(log, &error);
            return Err(log.wire_failure(&error));
        }
        Err(_) => return Err(log.unavailable("the stream did not start in time")),
    };
    let shared = Arc::new(Shared::default());
    let (confirmed, confirmations) = watch::channel(from);
    let ended = CancellationToken::new();
    let decoder = Decoder {
        shared: Arc::clone(&shared),
        relations: HashMap::new(),
        commit_lsn: None,
        changes: Vec::new(),
        bytes: 0,
    };
    let (broken, filling) = (Arc::clone(log.broken()), Arc::clone(&shared));
    let run = async move {
        let error = decoder.run(client, confirmations).await;
        if let Some(reason) = unreadable(&error) {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
        filling.lock().failure = Some(error.to_string());
        filling.filled.notify_one();
    };
    tokio::spawn(ended.clone().run_until_cancelled_owned(run));
    Ok(Box::new(Stream {
        source: log.name_of_source().to_owned(),
        shared,
        confirmed,
        has_backlog: false,
        binary,
        _guard: ended.drop_guard(),
    }))
}

/// Why the session ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{0}")]
    Wire(#[from] PgWireError),
    #[error(transparent)]
    Decode(#[from] pgoutput::DecodeError),
    #[error("the log names relation {0} before it describes it")]
    UnknownRelation(u32),
    #[error("the server ended the stream")]
    Ended,
}

/// Why the log can never be read on from where the slot stands, if it cannot: what the decoding needs
/// was removed from the history itself.
fn unreadable(error: &StreamError) -> Option<String> {
    let StreamError::Wire(PgWireError::Server(text)) = error else {
        return None;
    };
    let says = |words: &str| text.contains(words);
    let gone = says("42704") && says("publication") || says("invalidated") || says("55000");
    gone.then(|| text.clone())
}

fn note_if_broken(log: &ChangeLog, error: &PgWireError) {
    if let Some(reason) = unreadable(&StreamError::Wire(error.clone())) {
        *log.broken().lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// Whether the binary form of each value is that of the column it lands in.
fn are_portable(specs: &[TableSpec]) -> bool {
    let types = specs.iter().flat_map(|spec| &spec.origin.types);
    types.into_iter().all(|it| it.is_portable)
}

#[derive(Debug, Default)]
struct Shared {
    filling: Mutex<Filling>,
    filled: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Filling {
    batch: ChangeBatch,
    bytes: usize,
    /// The latest position that the server has reached with nothing to send.
    idle_at: Option<Lsn>,
    failure: Option<String>,
}

impl Filling {
    /// The changes, if there are any.
    fn take(&mut self) -> Option<ChangeBatch> {
        if self.batch.changes.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(std::mem::take(&mut self.batch))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a message is of rows, by its tag.
fn is_row(message: &Bytes) -> bool {
    matches!(message.first(), Some(b'I' | b'U' | b'D' | b'T'))
}

struct Decoder {
    shared: Arc<Shared>,
    relations: HashMap<u32, Arc<Relation>>,
    /// Of the transaction that is being read.
    commit_lsn: Option<Lsn>,
    /// Of that transaction, not handed over yet.
    changes: Vec<Change>,
    bytes: usize,
}

impl Decoder {
    /// Reads until the stream ends, and says why it did.
    async fn run(
        mut self,
        mut client: ReplicationClient,
        mut confirmations: watch::Receiver<Lsn>,
    ) -> StreamError {
        loop {
            let event = tokio::select! {
                biased;
                event = client.recv() => event,
                Ok(()) = confirmations.changed() => {
                    client.update_applied_lsn(WireLsn(confirmations.borrow_and_update().0));
                    continue;
                }
            };
            let handled = match event {
                Ok(Some(event)) => self.on_event(event).await,
                Ok(None) => Err(StreamError::Ended),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = handled {
                return error;
            }
            // While rows flow, the other branch is never looked at.
            if confirmations.has_changed().unwrap_or(false) {
                client.update_applied_lsn(WireLsn(confirmations.borrow_and_update().0));
            }
        }
    }

    async fn on_event(&mut self, event: ReplicationEvent) -> Result<(), StreamError> {
        match event {
            ReplicationEvent::Begin { final_lsn, .. } => self.commit_lsn = Some(Lsn(final_lsn.0)),
            ReplicationEvent::XLogData { data, .. } => {
                // Before the next row, so that one is left for the commit: what ends a transaction is
                // never empty.
                if self.bytes >= BYTES_MAX && is_row(&data) {
                    self.hand_over_part().await;
                }
                self.on_message(data)?;
            }
            ReplicationEvent::Commit {
                end_lsn,
                commit_time_micros,
                ..
            } => {
                self.commit_lsn = None;
                let committed_at = commit_time_micros.saturating_add(EPOCH_MICROS);
                self.hand_over(Lsn(end_lsn.0), committed_at).await;
            }
            ReplicationEvent::KeepAlive { wal_end, .. } if self.commit_lsn.is_none() => {
                let mut filling = self.shared.lock();
                filling.idle_at = filling.idle_at.max(Some(Lsn(wal_end.0)));
            }
            ReplicationEvent::KeepAlive { .. }
            | ReplicationEvent::Message { .. }
            | ReplicationEvent::StoppedAt { .. } => {}
        }
        Ok(())
    }

    fn on_message(&mut self, data: Bytes) -> Result<(), StreamError> {
        match pgoutput::decode(data)? {
            Message::Relation(message) => {
                let relation = Arc::new(described(&message));
                self.relations.insert(message.oid, relation);
            }
            Message::Insert { relation, new } => {
                self.push(relation, Operation::Insert { new })?;
            }
            Message::Update { relation, old, new } => {
                self.push(relation, Operation::Update { old, new })?;
            }
            Message::Delete { relation, old } => {
                self.push(relation, Operation::Delete { old })?;
            }
            Message::Truncate { relations } => {
                for relation in relations {
                    self.push(relation, Operation::Truncate)?;
                }
            }
            Message::Begin { .. }
            | Message::Commit { .. }
            | Message::Type { .. }
            | Message::Origin { .. }
            | Message::Logical { .. } => {}
        }
        Ok(())
    }

    fn push(&mut self, relation: u32, operation: Operation) -> Result<(), StreamError> {
        let relation = self
            .relations
            .get(&relation)
            .ok_or(StreamError::UnknownRelation(relation))?;
        let change = Change {
            relation: Arc::clone(relation),
            commit_lsn: self.commit_lsn.unwrap_or_default(),
            operation,
        };
        self.bytes += change.size();
        self.changes.push(change);
        Ok(())
    }

    /// Adds a whole transaction, or the last part of one, once there is room.
    async fn hand_over(&mut self, end: Lsn, committed_at: i64) {
        loop {
            {
                let mut filling = self.shared.lock();
                if filling.bytes < BYTES_MAX {
                    filling.batch.changes.append(&mut self.changes);
                    filling.batch.end = Some(end);
                    filling.batch.committed_at = Some(committed_at);
                    filling.bytes += std::mem::take(&mut self.bytes);
                    break;
                }
            }
            self.shared.taken.notified().await;
        }
        self.shared.filled.notify_one();
    }

    /// Adds a part of a transaction once everything before it was taken.
    async fn hand_over_part(&mut self) {
        loop {
            {
                let mut filling = self.shared.lock();
                if filling.batch.changes.is_empty() {
                    filling.batch.changes.append(&mut self.changes);
                    filling.batch.end = None;
                    filling.bytes = std::mem::take(&mut self.bytes);
                    break;
                }
            }
            self.shared.taken.notified().await;
        }
        self.shared.filled.notify_one();
    }
}

fn described(message: &RelationMessage) -> Relation {
    let columns = message.columns.iter().map(|column| RelationColumn {
        name: column.name.clone(),
        is_key: column.is_key,
        type_id: column.type_oid,
        type_modifier: column.type_mod,
    });
    Relation {
        table: TableName::new(&message.schema, &message.name),
        columns: columns.collect(),
    }
}

/// The loader's end.
struct Stream {
    source: String,
    shared: Arc<Shared>,
    confirmed: watch::Sender<Lsn>,
    has_backlog: bool,
    binary: bool,
    _guard: DropGuard,
}

impl Stream {
    /// What there is; `None` when that is nothing. A failure comes after what was read before it.
    fn take(&self) -> Option<Result<ChangeBatch, SourceError>> {
        let mut filling = self.shared.lock();
        if let Some(batch) = filling.take() {
            drop(filling);
            self.shared.taken.notify_one();
            return Some(Ok(batch));
        }
        let reason = filling.failure.clone()?;
        Some(Err(SourceError::Unavailable {
            source_name: self.source.clone(),
            reason,
        }))
    }

    /// How far the stream is when nothing has changed; or what has come in this very moment.
    fn idle(&self) -> ChangeBatch {
        let mut filling = self.shared.lock();
        if let Some(batch) = filling.take() {
            drop(filling);
            self.shared.taken.notify_one();
            return batch;
        }
        let mut batch = std::mem::take(&mut filling.batch);
        batch.end = batch.end.max(filling.idle_at);
        batch
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self, patience: Duration) -> Result<ChangeBatch, SourceError> {
        if self.has_backlog {
            self.has_backlog = false;
            tokio::time::sleep(LINGER).await;
        }
        let waiting = async {
            loop {
                if let Some(taken) = self.take() {
                    return taken;
                }
                self.shared.filled.notified().await;
            }
        };
        let batch = match tokio::time::timeout(patience, waiting).await {
            Ok(taken) => taken?,
            Err(_) => self.idle(),
        };
        self.has_backlog = batch.changes.len() >= BACKLOG_CHANGES;
        Ok(batch)
    }

    fn confirm(&self, end: Lsn) {
        self.confirmed.send_replace(end);
    }

    fn carries(&self, specs: &[TableSpec]) -> bool {
        !self.binary || are_portable(specs)
    }
}
