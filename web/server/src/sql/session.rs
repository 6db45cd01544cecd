//! One client, listened to from its arrival on. Its statements are translated, the rest is passed on.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use ballpoint_metrics::sql_api::{Asked, Basis, SqlError, Translated};
use ballpoint_metrics::{SecurityContext, Service};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::SqlDoor;
use super::arrival::{self, failure, greet, log_in, open};
use super::ledger::Ledger;
use super::prepared::{Prepared, Statements};
use super::upstream::Socket;
use super::wire::{self, MESSAGE_BYTES_MAX};
use crate::doors::Identity;

/// The setting that names the proof of the latest result over cubes.
const PROOF: &str = "ballpoint.proof";

/// Serves a client from its first byte to its last.
pub(super) async fn serve(mut client: TcpStream, door: &SqlDoor) -> io::Result<()> {
    let Some(hello) = greet(&mut client, door).await? else {
        return Ok(());
    };
    let Ok(_place) = door.clients.try_acquire() else {
        let full = failure("53300", "too many clients of the SQL API: try again later");
        return wire::write(&mut client, &wire::error("FATAL", &full)).await;
    };
    let ready = match log_in(&mut client, door).await? {
        Ok(identity) => open(door, &hello).await.map(|opened| (identity, opened)),
        Err(refused) => Err(refused),
    };
    let (identity, (warehouse, greeting)) = match ready {
        Ok(ready) => ready,
        Err(error) => return wire::write(&mut client, &wire::error("FATAL", &error)).await,
    };
    let mut ledger = Ledger::default();
    let (mut said, mut key) = (&greeting[..], Bytes::new());
    while let Some(frame) = wire::read(&mut said, MESSAGE_BYTES_MAX).await? {
        ledger.heard(frame.kind, &frame.body)?;
        if frame.kind == b'K' {
            key = frame.body;
        }
    }
    // Logged in; then what the warehouse said.
    let mut welcome = BytesMut::from(&wire::frame(b'R', &0_u32.to_be_bytes())[..]);
    welcome.extend_from_slice(&greeting);
    wire::write(&mut client, &welcome).await?;
    let notes = Notes {
        ledger: Arc::new(ledger.into()),
        ..Notes::default()
    };
    let ended = relay(client, warehouse, door, identity, notes.clone()).await;
    if notes.statements().is_busy() {
        // Nobody is left to read what the warehouse is at work on.
        arrival::cancel(door, &key).await;
    }
    ended
}

/// Who translated a text, and what the translation depends on.
type By = (Service, Basis);
type ToClient = Arc<Mutex<WriteHalf<TcpStream>>>;

/// What both sides of a conversation know of it.
#[derive(Clone, Default)]
struct Notes {
    ledger: Arc<std::sync::Mutex<Ledger>>,
    statements: Arc<std::sync::Mutex<Statements>>,
}

impl Notes {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statements(&self) -> MutexGuard<'_, Statements> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes messages both ways until either side ends.
async fn relay(
    client: TcpStream,
    warehouse: Box<dyn Socket>,
    door: &SqlDoor,
    identity: Identity,
    notes: Notes,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_warehouse, to_warehouse) = tokio::io::split(warehouse);
    let to_client: ToClient = Arc::new(Mutex::new(to_client));
    // Idle, as the warehouse says when it is ready.
    let state = Arc::new(AtomicU8::new(b'I'));
    let mut speaker = Speaker {
        door,
        context: identity.security_context(),
        identity,
        to_client: Arc::clone(&to_client),
        to_warehouse,
        state: Arc::clone(&state),
        skips: false,
        notes: notes.clone(),
    };
    let (back, forth) = (
        answers(from_warehouse, to_client, state, notes),
        speaker.run(from_client),
    );
    tokio::select! {
        ended = back => ended,
        ended = forth => ended,
    }
}

/// What the warehouse says, as it says it.
async fn answers(
    mut from: ReadHalf<Box<dyn Socket>>,
    to: ToClient,
    state: Arc<AtomicU8>,
    notes: Notes,
) -> io::Result<()> {
    let mut from = tokio::io::BufReader::with_capacity(64 * 1024, &mut from);
    let mut out = BytesMut::new();
    while let Some(frame) = wire::read(&mut from, usize::MAX >> 1).await? {
        if frame.kind == b'Z' {
            state.store(
                frame.body.first().copied().unwrap_or(b'I'),
                Ordering::Release,
            );
        }
        if notes.statements().hears(frame.kind) {
            continue;
        }
        if let Some(proof) = notes.ledger().heard(frame.kind, &frame.body)? {
            let body = [PROOF.as_bytes(), b"\0", proof.as_bytes(), b"\0"].concat();
            out.extend_from_slice(&wire::frame(b'S', &body));
        }
        out.extend_from_slice(&wire::frame(frame.kind, &frame.body));
        if from.buffer().is_empty() || out.len() > 64 * 1024 {
            wire::write(&mut *to.lock().await, &out).await?;
            out.clear();
        }
    }
    Ok(())
}

/// The client's side of the conversation.
struct Speaker<'a, W> {
    door: &'a SqlDoor,
    identity: Identity,
    context: SecurityContext,
    to_client: ToClient,
    to_warehouse: W,
    /// The state of the transaction: idle, open, failed.
    state: Arc<AtomicU8>,
    /// After an error everything up to the next Sync is passed over, as PostgreSQL does.
    skips: bool,
    notes: Notes,
}

impl<W: AsyncWrite + Unpin> Speaker<'_, W> {
    async fn run(&mut self, from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut from = tokio::io::BufReader::with_capacity(64 * 1024, from);
        while let Some(frame) = wire::read(&mut from, MESSAGE_BYTES_MAX).await? {
            match frame.kind {
                b'X' => return Ok(()),
                _ if !self.door.doors.is_current(&self.identity) => {
                    let ended = failure("28000", "the token has expired: log in with another");
                    let ended = wire::error("FATAL", &ended);
                    return wire::write(&mut *self.to_client.lock().await, &ended).await;
                }
                b'S' => self.skips = false,
                _ if self.skips => continue,
                _ => {}
            }
            let passed = match frame.kind {
                b'Q' => self.query(&frame.body).await?,
                b'P' => self.parse(&frame.body).await?,
                b'B' => self.bind(&frame.body).await?,
                b'F' => {
                    self.refuse(&failure(
                        "0A000",
                        "function calls of the old kind are not passed on",
                    ))
                    .await?;
                    self.ready().await?;
                    None
                }
                kind => {
                    self.note(kind, &frame.body);
                    Some(wire::frame(kind, &frame.body))
                }
            };
            if let Some(passed) = passed {
                self.to_warehouse.write_all(&passed).await?;
            }
            if from.buffer().is_empty() {
                self.to_warehouse.flush().await?;
            }
        }
        Ok(())
    }

    /// A statement of the simple protocol.
    async fn query(&mut self, body: &[u8]) -> io::Result<Option<Bytes>> {
        let (sql, _) = wire::text(body)?;
        match self.translate(sql).await {
            Ok((Translated { sql, asked }, by)) => {
                let service = by.map(|(service, _)| service);
                self.notes.statements().ends();
                let mut ledger = self.notes.ledger();
                ledger.query(service.as_ref(), &asked);
                Ok(Some(wire::frame(b'Q', &[sql.as_bytes(), b"\0"].concat())))
            }
            Err(error) => {
                self.refuse(&error).await?;
                self.ready().await?;
                Ok(None)
            }
        }
    }

    /// A statement to prepare: its name, its text, the types of its values.
    async fn parse(&mut self, body: &[u8]) -> io::Result<Option<Bytes>> {
        let (name, rest) = wire::text(body)?;
        let (sql, types) = wire::text(rest)?;
        match self.translate(sql).await {
            Ok((translated, by)) => {
                let (sent, asked) = alone(translated);
                // What reads no cube is sent as it is.
                let by = by.filter(|_| sent != sql);
                let prepared = by.map(|(_, basis)| Prepared {
                    sql: sql.to_owned(),
                    sent: sent.clone(),
                    types: Bytes::copy_from_slice(types),
                    basis,
                });
                self.notes.statements().parse(name, prepared);
                // What cannot be read here PostgreSQL refuses.
                let _ = self.notes.ledger().parse(name, types, asked);
                let parts = [name.as_bytes(), b"\0", sent.as_bytes(), b"\0", types];
                Ok(Some(wire::frame(b'P', &parts.concat())))
            }
            Err(error) => {
                self.refuse(&error).await?;
                self.skips = true;
                Ok(None)
            }
        }
    }

    /// The values of a statement, which is made anew before where it has come to mean something else.
    async fn bind(&mut self, body: &[u8]) -> io::Result<Option<Bytes>> {
        let bound = self.notes.statements().bound(body)?;
        let service = self.door.metrics.service().await;
        let renewed = match (bound, &service) {
            (None, _) => Ok(BytesMut::new()),
            (Some((name, prepared)), Ok(service)) => self.renew(name, prepared, service).await,
            (Some(_), Err(error)) => Err(failure("57P03", error.to_string())),
        };
        match renewed {
            Ok(mut out) => {
                // What cannot be read here PostgreSQL refuses.
                let _ = self.notes.ledger().bind(service.as_ref().ok(), body);
                out.extend_from_slice(&wire::frame(b'B', body));
                Ok(Some(out.freeze()))
            }
            Err(error) => {
                self.refuse(&error).await?;
                self.skips = true;
                Ok(None)
            }
        }
    }

    /// What the warehouse is sent so that a statement means what it means now.
    async fn renew(
        &self,
        name: String,
        prepared: Prepared,
        service: &Service,
    ) -> Result<BytesMut, SqlError> {
        let basis = service.basis();
        if prepared.basis == basis {
            return Ok(BytesMut::new());
        }
        let (sent, asked) = alone(service.translate(&prepared.sql, &self.context).await?);
        self.notes.ledger().renewed(&name, asked);
        let is_same = sent == prepared.sent;
        let now = Prepared {
            sent,
            basis,
            ..prepared
        };
        if is_same {
            self.notes.statements().stands(name, now);
            return Ok(BytesMut::new());
        }
        let out = now.instead(&name);
        self.notes.statements().renew(name, now);
        Ok(out)
    }

    /// Remembers what the warehouse will answer to a message.
    fn note(&self, kind: u8, body: &[u8]) {
        let (mut ledger, mut statements) = (self.notes.ledger(), self.notes.statements());
        // What cannot be read here PostgreSQL refuses.
        let _ = match kind {
            b'D' => ledger.describe(body),
            b'E' => {
                statements.execute();
                ledger.execute(body)
            }
            b'C' => statements.close(body).and_then(|()| ledger.close(body)),
            b'S' => {
                statements.ends();
                ledger.sync();
                Ok(())
            }
            _ => Ok(()),
        };
    }

    /// What to send, and who translated it; nobody where nothing is asked.
    async fn translate(&self, sql: &str) -> Result<(Translated, Option<By>), SqlError> {
        if sql.trim().is_empty() {
            return Ok((Translated::plain(sql), None));
        }
        if shows_proof(sql) {
            let proof = self.notes.ledger().latest.clone();
            let sql = format!("SELECT '{proof}'::text AS \"{PROOF}\"");
            return Ok((Translated::plain(&sql), None));
        }
        let service = self.door.metrics.service().await?;
        // Looked at before: what changes meanwhile is found at the next look.
        let basis = service.basis();
        let translated = service.translate(sql, &self.context).await?;
        Ok((translated, Some((service, basis))))
    }

    async fn refuse(&self, error: &SqlError) -> io::Result<()> {
        wire::write(
            &mut *self.to_client.lock().await,
            &wire::error("ERROR", error),
        )
        .await
    }

    async fn ready(&self) -> io::Result<()> {
        let state = [self.state.load(Ordering::Acquire)];
        wire::write(
            &mut *self.to_client.lock().await,
            &wire::frame(b'Z', &state),
        )
        .await
    }
}

/// The text of the one statement that a message can hold, and what its rows are proved with.
fn alone(translated: Translated) -> (String, Option<Arc<Asked>>) {
    let Translated { sql, mut asked } = translated;
    (sql, asked.pop().flatten())
}

/// `SHOW ballpoint.proof`, which the warehouse knows nothing of.
fn shows_proof(sql: &str) -> bool {
    let mut words = sql.trim().trim_end_matches(';').split_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|it| it.eq_ignore_ascii_case(word));
    is("show") && is(PROOF) && words.next().is_none()
}
