//! The warehouse session of one sync: it holds the temporary tables, and keeps a second sync of the
//! same source away.

use ballpoint_postgres::ident::quote_literal;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres};

use crate::error::LoadError;

/// Namespace of the per-source advisory locks.
const SOURCE_LOCKS: i32 = 0x6270_7263;

const HELD: &str = "handed back by whoever took it, or gone with the sync";

/// Closed at the end, never reused: its tables and its lock end with it.
pub(super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
}

impl Session {
    /// Opens one, and waits for a predecessor's end: its last commit may still be under way, and what
    /// the checkpoints say counts only after it.
    pub(super) async fn open(pool: &PgPool, source: &str) -> Result<Self, LoadError> {
        let failed = LoadError::warehouse("opening a session for the load");
        let mut connection = pool.acquire().await.map_err(failed)?;
        connection.close_on_drop();
        let mut session = Self {
            connection: Some(connection),
        };
        // Times without a zone are UTC, whatever the server's zone is.
        session
            .run(format!(
                "set statement_timeout = 0; set lock_timeout = 0; set timezone = 'UTC';
                 set datestyle = 'ISO, YMD'; set client_min_messages = warning;
                 select pg_advisory_lock({SOURCE_LOCKS}, hashtext({}))",
                quote_literal(source)
            ))
            .await
            .map_err(LoadError::warehouse("opening a session for the load"))?;
        Ok(session)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(HELD)
    }

    /// For a transaction, which hands it back with [`Session::give_back`] when it has committed.
    pub(super) fn take(&mut self) -> PoolConnection<Postgres> {
        self.connection.take().expect(HELD)
    }

    pub(super) fn give_back(&mut self, connection: PoolConnection<Postgres>) {
        self.connection = Some(connection);
    }

    /// Whether a failed transaction has taken the session, and all that was staged, with it.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_none()
    }

    /// Runs generated statements.
    pub(super) async fn run(&mut self, sql: String) -> Result<u64, sqlx::Error> {
        Ok(self
            .connection()
            .execute(AssertSqlSafe(sql))
            .await?
            .rows_affected())
    }
}
