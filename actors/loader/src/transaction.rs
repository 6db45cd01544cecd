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
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl WarehouseTransaction {
    /// Begins, and waits until no other loader is at work on `raw`: what the checkpoint says then
    /// holds until the end of this transaction, even if a predecessor's connection outlives it.
    pub(crate) async fn begin(pool: &PgPool, raw: &TableName) -> Result<Self, LoadError> {
        let failed = LoadError::warehouse("beginning a load");
        let connection = match pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return Err(failed(error)),
        };
        let mut transaction = Self {
            connection,
            ended: false,
        };
        transaction
            .execute(AssertSqlSafe(format!(
                "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
                 SET LOCAL idle_in_transaction_session_timeout = 0",
            )))
            .await
            .map_err(LoadError::warehouse("beginning a load"))?;
        sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
            .bind(TABLE_LOCKS)
            .bind(raw.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(LoadError::warehouse(
                "waiting for another load of the same table",
            ))?;
        Ok(transaction)
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

impl Deref for WarehouseTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for WarehouseTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for WarehouseTransaction {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
