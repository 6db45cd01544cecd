//! The connections of one run: one a thread, kept from node to node, their server processes known
//! so that what they do can be stopped there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ballpoint_postgres::pool::open;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::failure::{Failure, describe};
use crate::materialize::execute;

/// How long a server that takes a connection may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What a session starts with. Its commits do not wait for the disk one by one: [`Connections::close`]
/// waits for all of them. The driver asks for UTC; models get the time zone that any other client of
/// this server gets: of the role, of the database, or of the server, whose log has the same.
const SET_UP: &str = "select pg_backend_pid(), \
     set_config('synchronous_commit', 'off', false), \
     set_config('client_min_messages', 'warning', false), \
     set_config('TimeZone', coalesce((select split_part(option, '=', 2) \
         from pg_db_role_setting s, unnest(s.setconfig) as option \
         where option ilike 'timezone=%' \
           and s.setdatabase in (0, (select oid from pg_database where datname = current_database())) \
           and s.setrole in (0, (select oid from pg_roles where rolname = session_user)) \
         order by s.setrole <> 0 desc, s.setdatabase <> 0 desc limit 1), \
         current_setting('log_timezone')), false)";

/// The end of a run: a commit that waits for the disk takes every earlier one with it.
const FLUSH: &str = "begin; set local synchronous_commit to default; select txid_current(); commit";

/// A connection and the server process behind it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) conn: PgConnection,
    backend: i32,
}

/// Connections that are opened as they are needed and used again.
#[derive(Debug)]
pub(crate) struct Connections {
    options: PgConnectOptions,
    idle: Mutex<Vec<Held>>,
    busy: Mutex<BTreeSet<i32>>,
    /// Nothing more may begin.
    is_cancelled: AtomicBool,
}

impl Connections {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            idle: Mutex::default(),
            busy: Mutex::default(),
            is_cancelled: AtomicBool::new(false),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Held>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that nobody uses.
    pub(crate) async fn acquire(&self) -> Result<Held, Failure> {
        if self.is_cancelled.load(Ordering::Acquire) {
            return Err(Failure::lasting("the run was cancelled".to_owned()));
        }
        let idle = self.idle().pop();
        let held = match idle {
            Some(held) => held,
            None => self.open().await?,
        };
        self.busy().insert(held.backend);
        Ok(held)
    }

    async fn open(&self) -> Result<Held, Failure> {
        let opening = async {
            let mut conn = open(&self.options).await?;
            let row = sqlx::raw_sql(AssertSqlSafe(SET_UP))
                .fetch_one(&mut conn)
                .await?;
            let backend = row.try_get(0)?;
            Ok::<_, sqlx::Error>(Held { conn, backend })
        };
        match tokio::time::timeout(CONNECT_MAX, opening).await {
            Ok(Ok(held)) => Ok(held),
            // Whatever the server says to a newcomer, the run has no connection.
            Ok(Err(error)) => Err(Failure::gone(&describe(&error))),
            Err(_) => Err(Failure::gone(&format!(
                "no answer within {} s",
                CONNECT_MAX.as_secs()
            ))),
        }
    }

    /// Gives a connection back; one that is in the middle of something is closed instead.
    pub(crate) fn release(&self, held: Held, usable: bool) {
        self.busy().remove(&held.backend);
        if usable {
            self.idle().push(held);
        }
    }

    /// Closes what nobody uses: after a lost connection the others are most likely lost too.
    pub(crate) fn forget_idle(&self) {
        self.idle().clear();
    }

    /// Stops on the server what the nodes under way run there, and lets nothing more begin. Who is
    /// between two statements is not met: to be called again until the run has ended.
    pub(crate) async fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        let backends: Vec<i32> = self.busy().iter().copied().collect();
        if backends.is_empty() {
            return;
        }
        let cancelling = async {
            let mut conn = open(&self.options).await?;
            sqlx::query("select pg_cancel_backend(b) from unnest($1::int[]) as b")
                .persistent(false)
                .bind(backends)
                .execute(&mut conn)
                .await?;
            conn.close().await
        };
        if let Err(error) = cancelling.await {
            tracing::warn!(error = %describe(&error), "what runs on the server could not be cancelled");
        }
    }

    /// Waits until everything that was committed is on disk, and closes what is open.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let mut idle = std::mem::take(&mut *self.idle());
        if let Some(held) = idle.first_mut() {
            execute(&mut held.conn, FLUSH).await?;
        }
        for held in idle {
            // A goodbye that fails changes nothing.
            let _ = held.conn.close().await;
        }
        Ok(())
    }
}
