//! What became of a transaction that a kill, or a lost connection, came between.
//!
//! The target itself says so: the id of its transaction was written down before it could commit, and
//! PostgreSQL keeps how each transaction ended. Nothing is installed in the target for it. Where it
//! keeps that no longer, or is another cluster by now, its rows are held against the plan.

use std::time::Duration;

use ballpoint_runtime::store::{Intent, PlanRequest};
use sqlx::PgConnection;

use crate::error::WriteBackError;
use crate::library::WriteBacks;
use crate::warehouse;
use crate::writing::{self, Writing};

/// A server notices within moments that its client is gone; a transaction that is still running then
/// is in a statement.
const LOOKS: u32 = 50;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    /// The target is as planned.
    Committed,
    /// The target is as before.
    Nothing,
}

impl WriteBacks {
    /// Finds out how the intended transaction ended.
    ///
    /// # Errors
    /// When the target cannot be asked, or nobody can tell.
    pub(crate) async fn what_became(
        &self,
        writing: &Writing<'_>,
        intent: &Intent,
    ) -> Result<Became, WriteBackError> {
        let target = writing.target;
        let doing = "asking what became of a write-back";
        for _ in 0..LOOKS {
            let mut asking = target.pool.begin().await.map_err(target.failed(doing))?;
            let system = target.system(&mut asking).await?;
            let status = if system == intent.system {
                let asked = status(&mut asking, intent.xid).await;
                asked.map_err(target.failed(doing))?
            } else {
                None
            };
            match status.as_deref() {
                Some("committed") => return Ok(Became::Committed),
                Some("aborted") => return Ok(Became::Nothing),
                Some(_) => {}
                None => {
                    drop(asking);
                    return self.by_its_rows(writing).await;
                }
            }
            drop(asking);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(WriteBackError::UnderWay {
            id: writing.plan.id,
            source_name: target.name.clone(),
        })
    }

    /// Compares the target with the plan: as it leaves the rows, or as it found them.
    async fn by_its_rows(&self, writing: &Writing<'_>) -> Result<Became, WriteBackError> {
        let (target, sync) = (writing.target, writing.sync);
        let doing = "comparing rows";
        let mut looking = target.pool.begin().await.map_err(target.failed(doing))?;
        if !writing::table_exists(&mut looking, target, sync).await? {
            return Ok(match writing.request {
                PlanRequest::Undo => Became::Committed,
                _ => Became::Nothing,
            });
        }
        sqlx::raw_sql(warehouse::SESSION)
            .execute(&mut *looking)
            .await
            .map_err(target.failed(doing))?;
        self.load(&mut looking, writing).await?;
        let (different, _) = writing::differences(&mut looking, target, sync).await?;
        if different == 0 {
            return Ok(Became::Committed);
        }
        let (conflicting, _) = writing::conflicts(&mut looking, target, sync).await?;
        if conflicting == 0 {
            return Ok(Became::Nothing);
        }
        Err(WriteBackError::Unknown {
            id: writing.plan.id,
            source_name: target.name.clone(),
        })
    }
}

/// `None` when the server keeps it no longer, or never had such a transaction. Any other error says
/// nothing about it: it may still be running.
async fn status(connection: &mut PgConnection, xid: i64) -> Result<Option<String>, sqlx::Error> {
    let asked = sqlx::query_scalar("select txid_status($1)")
        .bind(xid)
        .fetch_one(connection)
        .await;
    match asked {
        // 22023: an id that this server has not given out yet.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "22023") => {
            Ok(None)
        }
        asked => asked,
    }
}
