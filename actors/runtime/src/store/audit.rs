//! Who did what when (`ballpoint.audit`): rows are only ever added.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{StoreError, timestamp};

/// One deed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub who: String,
    /// `plan`, `approve`, `reject`, `apply`, `undo`, and what became of them.
    pub action: String,
    pub sync: String,
    pub plan_id: Option<Uuid>,
    pub detail: Value,
}

/// Reads the audit; its rows are written in the transaction of what they tell.
#[derive(Clone, Debug)]
pub struct Audit {
    pool: PgPool,
}

impl Audit {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Notes a deed in the caller's transaction.
    ///
    /// # Errors
    /// As every query.
    pub async fn note_in(
        connection: &mut PgConnection,
        who: &str,
        action: &str,
        (sync, plan): (&str, Option<Uuid>),
        detail: &Value,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.audit (who, action, sync, plan_id, detail)
             values ($1, $2, $3, $4, $5::text::jsonb)",
        )
        .bind(who)
        .bind(action)
        .bind(sync)
        .bind(plan)
        .bind(detail.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("noting a deed"))?;
        Ok(())
    }

    /// The latest deeds, newest first: of one sync or of all.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(
        &self,
        sync: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        type Row = (i64, String, String, String, Option<Uuid>, String);
        let rows: Vec<Row> = sqlx::query_as(
            "select (extract(epoch from at) * 1000000)::bigint, who, action, sync, plan_id,
                    detail::text
             from ballpoint.audit where $1::text is null or sync = $1
             order by id desc limit $2",
        )
        .bind(sync)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading the audit"))?;
        rows.into_iter()
            .map(|(at, who, action, sync, plan_id, detail)| {
                Ok(AuditEntry {
                    at: timestamp(at),
                    who,
                    action,
                    sync,
                    plan_id,
                    detail: serde_json::from_str(&detail)
                        .map_err(StoreError::malformed("an audit row"))?,
                })
            })
            .collect()
    }
}
