//! Commands (`ballpoint.work`): durable, coalescing, one running for each kind and scope (R2, R6).
//!
//! A row is `queued` → `running` → `done`. A failure queues it again after a backoff, and after
//! as many attempts as its [`RetryPolicy`] allows it is `dead`: visible, and out of the way. When newer work of the same
//! kind and scope is already queued, a failed row's payload moves into it and the row stays `failed`.

mod attempt;

use std::time::Duration;

use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use attempt::{Ending, end_attempt_in, from_json, lock, merge_into_queued, millis, to_json};

use super::wake::{Wake, WakeHub};
use super::{StoreError, timestamp};
use crate::retry::{Directive, FailureClass, RetryPolicy};
use crate::trace::TraceContext;
use crate::work::{Trigger, WorkKind};

/// Finished rows older than this, and beyond this many, are pruned.
const KEEP_DAYS: i32 = 7;
const KEEP_ROWS: i64 = 50_000;

/// The queue of commands. Cheap to clone; clones share the wake-ups.
#[derive(Clone, Debug)]
pub struct WorkQueue {
    pool: PgPool,
    hub: WakeHub,
    retries: RetryPolicy,
}

/// A command that the caller now carries out, until `complete`, `fail` or `abandon`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedWork {
    pub id: i64,
    pub work: WorkKind,
    /// The trace of what caused it.
    pub trace: TraceContext,
    pub trigger: Trigger,
    /// Counts from 1.
    pub attempt: u32,
    /// Which claim of the row this is: what a worker says of a row that was taken from it, and may
    /// be another's by now, changes nothing.
    pub claim: i64,
}

/// Why an actor takes back the row that its own work left running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The actor was restarted; the attempt is given back.
    Restart,
    /// How the work ended could not be recorded. The attempt counts: the work itself may be what
    /// makes the warehouse fail.
    Unrecorded,
}

/// A row as it is shown to people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkRow {
    pub id: i64,
    pub kind: String,
    pub scope: String,
    /// `queued`, `running`, `done`, `failed` or `dead`.
    pub state: String,
    pub attempt: i32,
    pub last_error: Option<String>,
    pub updated_at: jiff::Timestamp,
}

impl WorkQueue {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            hub: WakeHub::default(),
            retries: RetryPolicy::default(),
        }
    }

    pub(super) fn set_retries(&mut self, retries: RetryPolicy) {
        self.retries = retries;
    }

    /// Writes a command that a person asked for, or merges it into the queued one of its kind and scope, and wakes whoever
    /// does it. A merge keeps the older row's trace and does not shorten its backoff.
    ///
    /// # Errors
    /// As every query; nothing is enqueued then.
    pub async fn enqueue(&self, work: &WorkKind, trace: &TraceContext) -> Result<i64, StoreError> {
        self.enqueue_as(Trigger::Manual, work, trace).await
    }

    /// [`WorkQueue::enqueue`] for whatever caused it. A merge keeps the older row's trigger.
    ///
    /// # Errors
    /// As [`WorkQueue::enqueue`].
    pub async fn enqueue_as(
        &self,
        trigger: Trigger,
        work: &WorkKind,
        trace: &TraceContext,
    ) -> Result<i64, StoreError> {
        let mut transaction = self.begin("enqueueing work").await?;
        let id = Self::enqueue_in(&mut transaction, trigger, work, trace).await?;
        transaction
            .commit()
            .await
            .map_err(StoreError::query("enqueueing work"))?;
        self.wake(work.name());
        Ok(id)
    }

    /// [`WorkQueue::enqueue_as`] in the caller's transaction. The caller calls [`WorkQueue::wake`]
    /// after its commit; forgetting it costs one poll interval.
    ///
    /// # Errors
    /// As every query.
    pub async fn enqueue_in(
        connection: &mut PgConnection,
        trigger: Trigger,
        work: &WorkKind,
        trace: &TraceContext,
    ) -> Result<i64, StoreError> {
        lock(connection, work.name(), work.scope()).await?;
        if let Some(id) = merge_into_queued(connection, work, 0).await? {
            return Ok(id);
        }
        let (id,): (i64,) = sqlx::query_as(
            "insert into ballpoint.work (kind, scope, payload, traceparent, trigger)
             values ($1, $2, $3::text::jsonb, $4, $5) returning id",
        )
        .bind(work.name())
        .bind(work.scope())
        .bind(to_json(work)?)
        .bind(&trace.0)
        .bind(trigger.as_str())
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("enqueueing work"))?;
        Ok(id)
    }

    /// Takes the queued command of this kind and scope if it is due and none is running. The lease
    /// says until when nobody else may take it over; renew it with [`WorkQueue::extend`].
    ///
    /// # Errors
    /// As every query.
    pub async fn claim(
        &self,
        kind: &str,
        scope: &str,
        lease: Duration,
    ) -> Result<Option<ClaimedWork>, StoreError> {
        type Row = (i64, String, String, i32, i64, String);
        let claimed: Result<Option<Row>, sqlx::Error> = sqlx::query_as(
            "with due as (
                 select id from ballpoint.work
                 where kind = $1 and scope = $2 and state = 'queued'
                   and run_after <= clock_timestamp()
                   and not exists (select 1 from ballpoint.work
                                   where kind = $1 and scope = $2 and state = 'running')
                 for update skip locked
             )
             update ballpoint.work w
             set state = 'running', attempt = attempt + 1, claim = claim + 1,
                 updated_at = clock_timestamp(),
                 lease_until = clock_timestamp() + $3 * interval '1 millisecond'
             from due where w.id = due.id
             returning w.id, w.payload::text, w.traceparent, w.attempt, w.claim, w.trigger",
        )
        .bind(kind)
        .bind(scope)
        .bind(millis(lease))
        .fetch_optional(&self.pool)
        .await;
        let row = match claimed {
            Ok(row) => row,
            // Somebody else claimed between the check and the update: one running is enough.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => None,
            Err(error) => return Err(StoreError::query("claiming work")(error)),
        };
        row.map(|(id, payload, trace, attempt, claim, trigger)| {
            Ok(ClaimedWork {
                id,
                work: from_json(id, &payload)?,
                trace: TraceContext(trace),
                trigger: Trigger::of(&trigger),
                attempt: attempt.unsigned_abs(),
                claim,
            })
        })
        .transpose()
    }

    /// Renews the lease of running work that is still the caller's.
    ///
    /// # Errors
    /// As every query.
    pub async fn extend(&self, claimed: &ClaimedWork, lease: Duration) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.work
             set lease_until = clock_timestamp() + $3 * interval '1 millisecond'
             where id = $1 and claim = $2 and state = 'running'",
        )
        .bind(claimed.id)
        .bind(claimed.claim)
        .bind(millis(lease))
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("renewing a lease"))?;
        Ok(())
    }

    /// The work is done. Nothing happens when it is not the caller's any more.
    ///
    /// # Errors
    /// As every query; the work is then carried out again, which must change nothing.
    pub async fn complete(&self, claimed: &ClaimedWork) -> Result<(), StoreError> {
        let row: Option<(String,)> = sqlx::query_as(
            "update ballpoint.work
             set state = 'done', lease_until = null, updated_at = clock_timestamp()
             where id = $1 and claim = $2 and state = 'running' returning kind",
        )
        .bind(claimed.id)
        .bind(claimed.claim)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::query("completing work"))?;
        if let Some((kind,)) = row {
            // Work that was queued meanwhile may start now.
            self.wake(&kind);
        }
        Ok(())
    }

    /// The attempt failed for a reason of this class, which says whether it is tried again.
    ///
    /// # Errors
    /// As every query.
    pub async fn failed(
        &self,
        claimed: &ClaimedWork,
        error: &str,
        class: FailureClass,
    ) -> Result<(), StoreError> {
        match class.directive() {
            Directive::Retry => self.fail(claimed, error, None).await,
            Directive::WaitForChange | Directive::WaitForPerson => {
                self.abandon(claimed, error).await
            }
        }
    }

    /// The attempt failed: again after `retry_in`, or by the policy's backoff when it is `None`. The
    /// last attempt that the policy allows makes it dead. Its run waits, or has failed.
    ///
    /// # Errors
    /// As every query.
    pub async fn fail(
        &self,
        claimed: &ClaimedWork,
        error: &str,
        retry_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        let claim = (claimed.id, claimed.claim);
        self.end_attempt(claim, error, Ending::Failed { retry_in })
            .await
    }

    /// The work failed and trying again cannot help (a configuration error): dead at once.
    ///
    /// # Errors
    /// As every query.
    pub async fn abandon(&self, claimed: &ClaimedWork, error: &str) -> Result<(), StoreError> {
        self.end_attempt((claimed.id, claimed.claim), error, Ending::Abandoned)
            .await
    }

    /// Somebody ended the attempt and does not want it tried again; its run is interrupted.
    ///
    /// # Errors
    /// As every query.
    pub async fn cancel(&self, claimed: &ClaimedWork, why: &str) -> Result<(), StoreError> {
        self.end_attempt((claimed.id, claimed.claim), why, Ending::Cancelled)
            .await
    }

    /// Queues running work again whose lease has run out: its worker is gone. Returns how many.
    ///
    /// # Errors
    /// As every query.
    pub async fn release_expired(&self) -> Result<u64, StoreError> {
        let claims = self.running(None, true).await?;
        self.release(claims, "its lease ran out", true).await
    }

    /// Queues the running work of one kind and scope again, at once. For the one actor that does
    /// this work, when it starts and when it could not record how its own work ended: whatever runs
    /// then is done by nobody.
    ///
    /// # Errors
    /// As every query.
    pub async fn reclaim(
        &self,
        kind: &str,
        scope: &str,
        why: Interruption,
    ) -> Result<u64, StoreError> {
        let (why, counts) = match why {
            Interruption::Restart => ("its worker was restarted", false),
            Interruption::Unrecorded => ("its end could not be recorded", true),
        };
        let claims = self.running(Some((kind, scope)), false).await?;
        self.release(claims, why, counts).await
    }

    /// Queues all running work again. One process owns a data dir, so that at its start every lease
    /// belongs to a process that is gone. An interruption is not counted as an attempt. Queued work
    /// that waits for its next attempt is due at once.
    ///
    /// # Errors
    /// As every query.
    pub async fn release_all_at_start(&self) -> Result<u64, StoreError> {
        let claims = self.running(None, false).await?;
        let released = self
            .release(claims, "the program ended while it ran", false)
            .await?;
        // A start is a good moment to try again: what was waited for may be there now.
        sqlx::query(
            "update ballpoint.work set run_after = clock_timestamp() where state = 'queued'",
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("hurrying queued work"))?;
        Ok(released)
    }

    /// Wakes whoever waits for work of this kind.
    pub fn wake(&self, kind: &str) {
        self.hub.wake(kind);
    }

    /// A waiter for work of this kind. Subscribe first, then look at the table.
    pub fn subscribe(&self, kind: &str) -> Wake {
        self.hub.subscribe(kind)
    }

    /// The latest rows, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(&self, limit: u32) -> Result<Vec<WorkRow>, StoreError> {
        type Row = (i64, String, String, String, i32, Option<String>, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "select id, kind, scope, state, attempt, last_error,
                    (extract(epoch from updated_at) * 1000000)::bigint
             from ballpoint.work order by id desc limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing work"))?;
        let shown = |(id, kind, scope, state, attempt, last_error, micros): Row| WorkRow {
            id,
            kind,
            scope,
            state,
            attempt,
            last_error,
            updated_at: timestamp(micros),
        };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Whether a command runs or is about to. One that waits for a later attempt is not.
    ///
    /// # Errors
    /// As every query.
    pub async fn is_under_way(&self, id: i64) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select exists (select from ballpoint.work
                            where id = $1
                              and (state = 'running'
                                   or state = 'queued'
                                      and (attempt = 0 or run_after <= clock_timestamp())))",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("following work"))
    }

    /// How many rows are queued or running, and events not yet looked at, which may become such
    /// rows: zero when the pipeline has settled.
    ///
    /// # Errors
    /// As every query.
    pub async fn open_count(&self) -> Result<i64, StoreError> {
        let (count,): (i64,) = sqlx::query_as(
            // One count for each partial index: the table itself holds days of history.
            "select (select count(*) from ballpoint.work where state = 'queued')
                  + (select count(*) from ballpoint.work where state = 'running')
                  + (select count(*) from ballpoint.events where handled_at is null)",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("counting open work"))?;
        Ok(count)
    }

    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.work
             where state in ('done', 'failed', 'dead')
               and (updated_at < clock_timestamp() - $1 * interval '1 day'
                    or id <= (select max(id) from ballpoint.work) - $2)",
        )
        .bind(KEEP_DAYS)
        .bind(KEEP_ROWS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning finished work"))?;
        Ok(())
    }

    async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StoreError> {
        self.pool.begin().await.map_err(StoreError::query(doing))
    }

    /// The ids and claims of running rows: of one kind and scope or of all, and only those whose lease has
    /// run out or all.
    async fn running(
        &self,
        of: Option<(&str, &str)>,
        expired_only: bool,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        sqlx::query_as(
            "select id, claim from ballpoint.work
             where state = 'running'
               and ($1::text is null or (kind = $1 and scope = $2))
               and (not $3 or lease_until < clock_timestamp())
             order by id",
        )
        .bind(of.map(|(kind, _)| kind))
        .bind(of.map(|(_, scope)| scope))
        .bind(expired_only)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("looking for running work"))
    }

    async fn release(
        &self,
        claims: Vec<(i64, i64)>,
        why: &str,
        counts: bool,
    ) -> Result<u64, StoreError> {
        let released = claims.len() as u64;
        for claim in claims {
            self.end_attempt(claim, why, Ending::Interrupted { counts })
                .await?;
        }
        Ok(released)
    }

    async fn end_attempt(
        &self,
        claim: (i64, i64),
        error: &str,
        ending: Ending,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin("ending work").await?;
        let ended = end_attempt_in(&mut transaction, claim, error, ending, self.retries).await?;
        if let Some(kind) = ended {
            transaction
                .commit()
                .await
                .map_err(StoreError::query("ending work"))?;
            self.wake(&kind);
        }
        Ok(())
    }
}
