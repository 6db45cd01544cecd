//! Plans of write-backs (`ballpoint.plans`, `ballpoint.plan_rows`).
//!
//! A plan goes `planning` → `planned` → `approved` → `applied` → `undone`; `rejected` and `failed`
//! end it. What a plan is asked for stands in it (`request`) until it is done, so that a restart
//! goes on with it; which transaction of the target does it stands in it before that one commits.
//!
//! Rows of rejected, failed and undone plans are kept for 30 days; a plan's counts, and the audit,
//! for good.

mod read;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use read::{Plan, PlanCounts, PlanRow};

use super::StoreError;
use crate::trace::TraceContext;

/// Plans that ended longer ago than this lose their rows.
const KEEP_ROWS_DAYS: i32 = 30;

/// What a plan can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanRequest {
    Plan,
    Apply,
    Undo,
}

impl PlanRequest {
    /// The word in the column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Undo => "undo",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Plan, Self::Apply, Self::Undo]
            .into_iter()
            .find(|request| request.name() == word)
    }
}

/// Where a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// The differences are being looked for.
    Planning,
    /// Waits for approval.
    Planned,
    /// May be applied.
    Approved,
    /// Will not be.
    Rejected,
    /// Stands in the target.
    Applied,
    /// Stood in the target and was taken back.
    Undone,
    /// Could not be made, or must not be applied any more; the error says why.
    Failed,
}

impl PlanState {
    const ALL: [(Self, &str); 7] = [
        (Self::Planning, "planning"),
        (Self::Planned, "planned"),
        (Self::Approved, "approved"),
        (Self::Rejected, "rejected"),
        (Self::Applied, "applied"),
        (Self::Undone, "undone"),
        (Self::Failed, "failed"),
    ];

    /// The word in the column.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("failed", |(_, name)| name)
    }

    fn of(word: &str) -> Self {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == word)
            .map_or(Self::Failed, |(state, _)| *state)
    }
}

/// A plan that is to be made.
#[derive(Clone, Debug)]
pub struct NewPlan<'a> {
    pub id: Uuid,
    pub sync: &'a str,
    pub source: &'a str,
    pub target: &'a str,
    pub mode: &'a str,
    pub requested_by: &'a str,
    pub reason: &'a str,
    pub evidence: &'a Value,
    /// Columns to set by key; `None` plans the whole sync.
    pub proposal: Option<&'a Value>,
    pub trace: &'a TraceContext,
}

/// The transaction in the target that carries out a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub request: PlanRequest,
    /// PostgreSQL's 64-bit transaction id.
    pub xid: i64,
    /// The target's system identifier: an id means nothing on another cluster.
    pub system: Option<String>,
}

/// Keeps plans.
#[derive(Clone, Debug)]
pub struct Plans {
    pool: PgPool,
}

impl Plans {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Writes a plan that is to be made; again with the same id changes nothing.
    ///
    /// # Errors
    /// As every query.
    pub async fn begin(&self, plan: &NewPlan<'_>) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.plans
                 (id, sync, source, target, mode, origin, request, requested_by, reason, evidence,
                  proposal, traceparent)
             values ($1, $2, $3, $4, $5, $6, 'plan', $7, $8, $9::text::jsonb, $10::text::jsonb, $11)
             on conflict (id) do nothing",
        )
        .bind(plan.id)
        .bind(plan.sync)
        .bind(plan.source)
        .bind(plan.target)
        .bind(plan.mode)
        .bind(if plan.proposal.is_some() {
            "proposal"
        } else {
            "sync"
        })
        .bind(plan.requested_by)
        .bind(plan.reason)
        .bind(plan.evidence.to_string())
        .bind(plan.proposal.map(Value::to_string))
        .bind(&plan.trace.0)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("writing a plan"))?;
        Ok(())
    }

    /// Asks for something in a plan that is in `from`; false when it is in another state by now.
    ///
    /// # Errors
    /// As every query.
    pub async fn ask(
        &self,
        id: Uuid,
        from: PlanState,
        request: PlanRequest,
        by: &str,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update ballpoint.plans set request = $3, requested_by = $4, error = null
             where id = $1 and state = $2 and (request is null or request = $3)",
        )
        .bind(id)
        .bind(from.name())
        .bind(request.name())
        .bind(by)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("asking for a plan's next step"))?;
        Ok(done.rows_affected() == 1)
    }

    /// The oldest plan that is asked for something, leaving out these plans and all of these sources.
    ///
    /// # Errors
    /// As every query.
    pub async fn next_requested(
        &self,
        but: &[Uuid],
        but_of: &[String],
    ) -> Result<Option<(Uuid, PlanRequest)>, StoreError> {
        let row: Option<(Uuid, String)> = sqlx::query_as(
            "select id, request from ballpoint.plans
             where request is not null and id <> all($1) and source <> all($2)
             order by created_at limit 1",
        )
        .bind(but)
        .bind(but_of)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::query("looking for a plan to carry out"))?;
        Ok(row.and_then(|(id, word)| Some((id, PlanRequest::of(&word)?))))
    }

    /// Writes which transaction of the target is about to carry out the plan. To be committed before
    /// that one is.
    ///
    /// # Errors
    /// As every query.
    pub async fn intend(&self, id: Uuid, intent: &Intent) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.plans set intent = $2, intent_xid = $3, intent_system = $4
             where id = $1",
        )
        .bind(id)
        .bind(intent.request.name())
        .bind(intent.xid)
        .bind(&intent.system)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("writing what is about to be done"))?;
        Ok(())
    }

    /// The transaction that was about to carry out the plan, when it is not known what became of it.
    ///
    /// # Errors
    /// As every query.
    pub async fn intent(&self, id: Uuid) -> Result<Option<Intent>, StoreError> {
        let row: Option<(String, i64, Option<String>)> = sqlx::query_as(
            "select intent, intent_xid, intent_system from ballpoint.plans
             where id = $1 and intent is not null",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::query("reading what was about to be done"))?;
        Ok(row.and_then(|(word, xid, system)| {
            Some(Intent {
                request: PlanRequest::of(&word)?,
                xid,
                system,
            })
        }))
    }

    /// Forgets the intent: its transaction left nothing behind.
    ///
    /// # Errors
    /// As every query.
    pub async fn forget_intent(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.plans set intent = null, intent_xid = null, intent_system = null
             where id = $1",
        )
        .bind(id)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("forgetting what was about to be done"))?;
        Ok(())
    }

    /// Moves a plan on, in the caller's transaction: its state, and the end of its request and its
    /// intent. False when it was not in `from` any more.
    ///
    /// # Errors
    /// As every query.
    pub async fn settle_in(
        connection: &mut PgConnection,
        id: Uuid,
        from: PlanState,
        to: PlanState,
        error: Option<&str>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update ballpoint.plans
             set state = $3, error = $4, request = null,
                 intent = null, intent_xid = null, intent_system = null,
                 applied_at = case when $3 = 'applied' and $2 <> 'applied'
                                   then clock_timestamp() else applied_at end,
                 undone_at = case when $3 = 'undone' then clock_timestamp() else undone_at end
             where id = $1 and state = $2",
        )
        .bind(id)
        .bind(from.name())
        .bind(to.name())
        .bind(error)
        .execute(connection)
        .await
        .map_err(StoreError::query("moving a plan on"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Approves or rejects, in the caller's transaction; the hash must be the plan's. False when the
    /// plan is in another state, has another hash, or is asked for something by now: what is being
    /// carried out is decided already.
    ///
    /// # Errors
    /// As every query.
    pub async fn decide_in(
        connection: &mut PgConnection,
        id: Uuid,
        (from, to): (&[PlanState], PlanState),
        hash: Option<&str>,
        by: &str,
        comment: Option<&str>,
    ) -> Result<bool, StoreError> {
        let from: Vec<&str> = from.iter().map(|state| state.name()).collect();
        let done = sqlx::query(
            "update ballpoint.plans
             set state = $3, approved_by = case when $3 = 'approved' then $5 end,
                 approved_at = case when $3 = 'approved' then clock_timestamp() end,
                 comment = coalesce($6, comment)
             where id = $1 and state = any($2) and ($4::text is null or hash = $4)
               and request is null",
        )
        .bind(id)
        .bind(from)
        .bind(to.name())
        .bind(hash)
        .bind(by)
        .bind(comment)
        .execute(connection)
        .await
        .map_err(StoreError::query("deciding on a plan"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets the rows of plans that ended long ago. An applied plan keeps its rows: they are what
    /// an undo needs, and tell a mirror which rows are its own.
    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.plan_rows r using ballpoint.plans p
             where p.id = r.plan_id and p.request is null
               and p.state in ('rejected', 'failed', 'undone')
               and greatest(p.created_at, p.approved_at, p.applied_at, p.undone_at)
                   < clock_timestamp() - $1 * interval '1 day'",
        )
        .bind(KEEP_ROWS_DAYS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning plans"))?;
        Ok(())
    }
}
