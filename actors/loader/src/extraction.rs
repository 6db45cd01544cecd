//! The warehouse's extraction clock: `_airbyte_extracted_at`, strictly increasing in commit order.
//!
//! Models are incremental on `_airbyte_extracted_at > max(what I have)`, often over a union of several
//! raw tables. That loses no row only if no commit ever brings a value at or below one that somebody
//! could already have seen in *any* raw table. So every load takes its value under one advisory lock of
//! the warehouse, which it holds until its commit is visible (PostgreSQL releases transaction locks
//! after that): values come in the order of commits, and what a snapshot shows is always a prefix. The
//! last value is kept in a sequence, because a clock may step back and a sequence never does, not even
//! on rollback.
//!
//! The lock is taken after COPY, when only the merge or the swap is left, and before any lock on a table
//! that others read, so that loads of several sources, and builds, wait for each other but never in a
//! circle. A build holds it to its commit, and may take longer than any lock elsewhere is waited for:
//! this one is waited for as long as it takes, because giving up would only copy the rows again.

use ballpoint_runtime::store::RAW_LOCK;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::shadow;
use crate::transaction::LOCK_TIMEOUT;

const NEXT: &str = "
select setval('ballpoint.extraction_time',
              greatest(last_value + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint))
from ballpoint.extraction_time";

/// Creates what the clock keeps its last value in, and what ranges are noted in.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Two loaders may start at once, and IF NOT EXISTS is not atomic.
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({RAW_LOCK});
         CREATE SCHEMA IF NOT EXISTS ballpoint;
         CREATE SEQUENCE IF NOT EXISTS ballpoint.extraction_time AS bigint;
         {};
         COMMIT",
        shadow::PREPARE
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// Waits for its turn and returns the extraction time of the enclosing transaction, as an SQL
/// expression of type timestamptz.
pub(crate) async fn assign(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let wait = format!(
        "set local lock_timeout = 0; select pg_advisory_xact_lock({RAW_LOCK});
         set local lock_timeout = '{LOCK_TIMEOUT}'"
    );
    sqlx::raw_sql(AssertSqlSafe(wait))
        .execute(&mut *connection)
        .await?;
    let micros = next(connection).await?;
    Ok(format!(
        "timestamptz 'epoch' + {micros} * interval '1 microsecond'"
    ))
}

/// The next extraction time, in microseconds since 1970, for who holds the lock already.
pub(crate) async fn next(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(NEXT).fetch_one(connection).await
}
