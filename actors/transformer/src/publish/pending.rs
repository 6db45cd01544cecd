//! Raw tables whose news no published build has covered yet. A build that fails leaves its tables
//! here, so that a later build for other tables does not let untested rows through.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::materialize::execute;
use crate::project::Project;

const CREATE: &str = "create schema if not exists ballpoint;
     create table if not exists ballpoint.build_pending (source_id text primary key);";

/// Sources, by unique id, that an earlier build was for and did not publish.
pub(super) async fn read(conn: &mut PgConnection) -> Result<HashSet<String>, sqlx::Error> {
    execute(conn, CREATE).await?;
    let rows = sqlx::query("select source_id from ballpoint.build_pending")
        .persistent(false)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Forgets them all, in the transaction of the build that covers them.
pub(super) async fn clear(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    execute(conn, "delete from ballpoint.build_pending").await?;
    Ok(())
}

/// Remembers sources after a build for them was rolled back.
pub(super) async fn remember(
    pool: &PgPool,
    project: &Project,
    touched: &HashSet<String>,
) -> Result<(), sqlx::Error> {
    let sources: Vec<String> = touched
        .iter()
        .filter(|id| project.sources.contains_key(*id))
        .cloned()
        .collect();
    if sources.is_empty() {
        return Ok(());
    }
    let mut conn = pool.acquire().await?;
    execute(&mut conn, CREATE).await?;
    let sql =
        "insert into ballpoint.build_pending select unnest($1::text[]) on conflict do nothing";
    sqlx::query(AssertSqlSafe(sql))
        .bind(sources)
        .execute(&mut *conn)
        .await?;
    Ok(())
}
