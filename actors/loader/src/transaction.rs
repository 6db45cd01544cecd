//! The warehouse transaction that rows and checkpoint share.

use std::ops::{Deref, DerefMut};

use ballpoint_runtime::segment::TableName;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres};

use crate::error::LoadError;

/// Namespace of the per-table advisory locks.
const TABLE_LOCKS: i32 = 0x6270_6c64;

/// How long a load waits for a lock on a table, whose holder may be a person's open session.
pub(crate) const LOCK_TIMEOUT: &str = "30s";

/// A transaction whose connection is closed, not reused, unless it ends well: dropped in the middle of
/// a COPY it would otherwise go back to the pool in a state that it cannot describe.
pub(crate) struct WarehouseTransaction {
    /// `None` only once it has been handed back.
    connection: Option<PoolConnection<Postgres>>,
    ended: bool,
}

const HELD: &str = "held until the transaction has ended";

impl WarehouseTransaction {
    /// Begins, and waits until no other loader is at work on `raw`: what the checkpoint says then
    /// holds until the end of this transaction, even if a predecessor's connection outlives it.
    pub(crate) async fn begin(pool: &PgPool, raw: &TableName) -> Result<Self, LoadError> {
        Self::begin_on(acquire(pool).await?, raw).await
    }

    /// Begins a transaction of a load whose own one keeps other loaders away.
    pub(crate) async fn begin_unlocked(pool: &PgPool) -> Result<Self, LoadError> {
        Self::start(acquire(pool).await?).await
    }

    /// The same on a connection that holds temporary tables.
    pub(crate) async fn begin_on(
        connection: PoolConnection<Postgres>,
        raw: &TableName,
    ) -> Result<Self, LoadError> {
        let mut transaction = Self::start(connection).await?;
        transaction.keep_others_from(raw).await?;
        Ok(transaction)
    }

    async fn start(connection: PoolConnection<Postgres>) -> Result<Self, LoadError> {
        let mut transaction = Self {
            connection: Some(connection),
            ended: false,
        };
        transaction
            .execute(AssertSqlSafe(format!(
                "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
                 SET LOCAL idle_in_transaction_session_timeout = 0",
            )))
            .await
            .map_err(LoadError::warehouse("beginning a load"))?;
        Ok(transaction)
    }

    /// Waits until no other loader is at work on `raw`, and keeps them away.
    pub(crate) async fn keep_others_from(&mut self, raw: &TableName) -> Result<(), LoadError> {
        sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
            .bind(TABLE_LOCKS)
            .bind(raw.to_string())
            .execute(&mut **self)
            .await
            .map_err(LoadError::warehouse(
                "waiting for another load of the same table",
            ))?;
        Ok(())
    }

    /// Commits, and hands the connection back with its temporary tables.
    pub(crate) async fn commit_and_keep(mut self) -> Result<PoolConnection<Postgres>, LoadError> {
        self.end("COMMIT")
            .await
            .map_err(LoadError::warehouse("committing the rows"))?;
        Ok(self.connection.take().expect(HELD))
    }

    pub(crate) async fn commit(mut self) -> Result<(), LoadError> {
        self.end("COMMIT")
            .await
            .map_err(LoadError::warehouse("committing the rows"))
    }

    pub(crate) async fn rollback(mut self) -> Result<(), LoadError> {
        self.end("ROLLBACK")
            .await
            .map_err(LoadError::warehouse("ending a load"))
    }

    async fn end(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.execute(statement).await?;
        self.ended = true;
        Ok(())
    }

    /// Runs a generated statement.
    pub(crate) async fn run(&mut self, sql: String) -> Result<u64, sqlx::Error> {
        Ok(self.execute(AssertSqlSafe(sql)).await?.rows_affected())
    }
}

async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, LoadError> {
    let connection = pool.acquire().await;
    connection.map_err(LoadError::warehouse("beginning a load"))
}

impl Deref for WarehouseTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(HELD)
    }
}

impl DerefMut for WarehouseTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(HELD)
    }
}

impl Drop for WarehouseTransaction {
    fn drop(&mut self) {
        if !self.ended
            && let Some(connection) = &mut self.connection
        {
            connection.close_on_drop();
        }
    }
}
