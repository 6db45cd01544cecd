//! Executions of stages (`ballpoint.runs`) and their steps (`ballpoint.run_steps`): begun and shown.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{ClaimedWork, StoreError, timestamp};
use crate::trace::TraceContext;

mod cancel;
mod recorder;

pub use cancel::Cancellation;
pub(super) use cancel::Cancellations;
pub use recorder::{EndedStep, RunRecorder, RunStatus, StepRecorder, StepStatus};

/// Runs older than this are pruned, with their steps.
const KEEP_DAYS: i32 = 30;

/// A run as it is shown to people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    pub id: Uuid,
    pub kind: String,
    /// What it was for: a source, a schedule; empty where the kind says it.
    pub scope: String,
    pub trigger: String,
    /// `running`, `retrying` (between two attempts), `success`, `nothing_new`, `failed` or
    /// `interrupted`.
    pub status: String,
    /// The latest attempt, from 1.
    pub attempt: i32,
    /// New or different rows.
    pub row_count: Option<i64>,
    pub error: Option<String>,
    pub trace: TraceContext,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunStep {
    pub name: String,
    /// Of the run's attempts, from 1.
    pub attempt: i32,
    /// `running`, `success`, `skipped`, `failed` or `interrupted`.
    pub status: String,
    pub row_count: Option<i64>,
    pub error: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// Starts and lists runs.
#[derive(Clone, Debug)]
pub struct Runs {
    pool: PgPool,
    cancellations: Cancellations,
}

impl Runs {
    pub(super) fn new(pool: PgPool, cancellations: Cancellations) -> Self {
        Self {
            pool,
            cancellations,
        }
    }

    /// Ends a run of this process at once; what it has committed stays, and its next run goes on from
    /// there. False when it does not run, or is of a kind that cannot be stopped in between.
    pub fn cancel(&self, run: Uuid, why: &str) -> bool {
        self.cancellations.cancel(run, why)
    }

    /// Lets a run be cancelled from now until what this returns is dropped.
    pub fn cancellable(&self, run: Uuid) -> Cancellation {
        self.cancellations.listen(run)
    }

    /// Records that a run begins. `kind` is the stage (`sync`, `build`), `trigger` what caused it.
    ///
    /// # Errors
    /// As every query.
    pub async fn start(
        &self,
        kind: &str,
        trigger: &str,
        trace: &TraceContext,
    ) -> Result<RunRecorder, StoreError> {
        self.start_for(kind, "", trigger, trace).await
    }

    /// [`Runs::start`] for a source, schedule or other `scope`.
    ///
    /// # Errors
    /// As every query.
    pub async fn start_for(
        &self,
        kind: &str,
        scope: &str,
        trigger: &str,
        trace: &TraceContext,
    ) -> Result<RunRecorder, StoreError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(StoreError::query("recording a run"))?;
        let id = Self::start_in(&mut connection, kind, scope, trigger, trace).await?;
        Ok(self.recorder(id, 1, 0))
    }

    /// [`Runs::start_for`] in the caller's transaction.
    ///
    /// # Errors
    /// As every query.
    pub async fn start_in(
        connection: &mut PgConnection,
        kind: &str,
        scope: &str,
        trigger: &str,
        trace: &TraceContext,
    ) -> Result<Uuid, StoreError> {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into ballpoint.runs (id, kind, scope, trigger, traceparent)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(kind)
        .bind(scope)
        .bind(trigger)
        .bind(&trace.0)
        .execute(connection)
        .await
        .map_err(StoreError::query("recording a run"))?;
        Ok(id)
    }

    /// Records that an attempt at a command begins: its first makes the run, each later one goes on
    /// with it. When the attempt fails, the queue ends it ([`WorkQueue::failed`] and its like); the
    /// recorder ends a run that went well.
    ///
    /// [`WorkQueue::failed`]: super::WorkQueue::failed
    ///
    /// # Errors
    /// As every query.
    pub async fn of_work(
        &self,
        claimed: &ClaimedWork,
        trace: &TraceContext,
    ) -> Result<RunRecorder, StoreError> {
        let attempt = i32::try_from(claimed.attempt).unwrap_or(i32::MAX);
        let (id, steps): (Uuid, i32) = sqlx::query_as(
            "with run as (
                 insert into ballpoint.runs as r
                     (id, kind, scope, trigger, traceparent, work_id, attempt)
                 values ($1, $2, $3, $4, $5, $6, $7)
                 on conflict (work_id) do update
                 set status = 'running', attempt = excluded.attempt, finished_at = null
                 returning id
             )
             select run.id, coalesce(max(s.step), 0)
             from run left join ballpoint.run_steps s on s.run_id = run.id group by run.id",
        )
        .bind(Uuid::now_v7())
        .bind(claimed.work.name())
        .bind(claimed.work.scope())
        .bind(claimed.trigger.as_str())
        .bind(&trace.0)
        .bind(claimed.id)
        .bind(attempt)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("recording a run"))?;
        Ok(self.recorder(id, attempt, steps))
    }

    /// Goes on recording a run that was begun before.
    pub fn resume(&self, id: Uuid) -> RunRecorder {
        self.recorder(id, 1, 0)
    }

    fn recorder(&self, id: Uuid, attempt: i32, steps: i32) -> RunRecorder {
        RunRecorder::new(self.pool.clone(), id, attempt, steps)
    }

    /// The latest runs, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(&self, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        self.shown(None, None, limit).await
    }

    /// The latest runs of one kind, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent_of(&self, kind: &str, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        self.shown(None, Some(kind), limit).await
    }

    /// How each step of the latest runs of a kind ended last, by the step's name.
    ///
    /// # Errors
    /// As every query.
    pub async fn last_steps(
        &self,
        kind: &str,
        runs: u32,
    ) -> Result<HashMap<String, String>, StoreError> {
        let steps: Vec<(String, String)> = sqlx::query_as(
            "select distinct on (name) name, run_steps.status
             from (select id, started_at from ballpoint.runs where kind = $1
                   order by started_at desc limit $2) as latest
             join ballpoint.run_steps on run_id = latest.id
             order by name, latest.started_at desc, step desc",
        )
        .bind(kind)
        .bind(i64::from(runs))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading the latest steps"))?;
        Ok(steps.into_iter().collect())
    }

    /// One run; `None` when there is none of that id.
    ///
    /// # Errors
    /// As every query.
    pub async fn get(&self, id: Uuid) -> Result<Option<RunSummary>, StoreError> {
        Ok(self.shown(Some(id), None, 1).await?.pop())
    }

    async fn shown(
        &self,
        id: Option<Uuid>,
        kind: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunSummary>, StoreError> {
        let rows: Vec<PgRow> = sqlx::query(
            "select id, kind, scope, trigger, status, attempt, row_count, error, traceparent,
                    (extract(epoch from started_at) * 1000000)::bigint as started,
                    (extract(epoch from finished_at) * 1000000)::bigint as finished
             from ballpoint.runs
             where ($1::uuid is null or id = $1) and ($2::text is null or kind = $2)
             order by started_at desc limit $3",
        )
        .bind(id)
        .bind(kind)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing runs"))?;
        let shown = |row: &PgRow| {
            Ok(RunSummary {
                id: row.try_get("id")?,
                kind: row.try_get("kind")?,
                scope: row.try_get("scope")?,
                trigger: row.try_get("trigger")?,
                status: row.try_get("status")?,
                attempt: row.try_get("attempt")?,
                row_count: row.try_get("row_count")?,
                error: row.try_get("error")?,
                trace: TraceContext(row.try_get("traceparent")?),
                started_at: timestamp(row.try_get("started")?),
                finished_at: row.try_get::<Option<i64>, _>("finished")?.map(timestamp),
            })
        };
        let runs: Result<_, sqlx::Error> = rows.iter().map(shown).collect();
        runs.map_err(StoreError::query("listing runs"))
    }

    /// The steps of a run, in their order.
    ///
    /// # Errors
    /// As every query.
    pub async fn steps(&self, run: Uuid) -> Result<Vec<RunStep>, StoreError> {
        type Row = (
            String,
            i32,
            String,
            Option<i64>,
            Option<String>,
            i64,
            Option<i64>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "select name, attempt, status, row_count, error,
                    (extract(epoch from started_at) * 1000000)::bigint,
                    (extract(epoch from finished_at) * 1000000)::bigint
             from ballpoint.run_steps where run_id = $1 order by step",
        )
        .bind(run)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing a run's steps"))?;
        let shown = |(name, attempt, status, row_count, error, started, finished): Row| RunStep {
            name,
            attempt,
            status,
            row_count,
            error,
            started_at: timestamp(started),
            finished_at: finished.map(timestamp),
        };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Marks what was running when the process ended.
    pub(super) async fn interrupt_all(&self) -> Result<(), StoreError> {
        for statement in [
            "update ballpoint.runs set status = 'interrupted', finished_at = clock_timestamp()
             where status = 'running'",
            "update ballpoint.run_steps set status = 'interrupted', finished_at = clock_timestamp()
             where status = 'running'",
        ] {
            sqlx::query(statement)
                .execute(&self.pool)
                .await
                .map_err(StoreError::query("marking interrupted runs"))?;
        }
        Ok(())
    }

    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.runs where started_at < clock_timestamp() - $1 * interval '1 day'",
        )
        .bind(KEEP_DAYS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning runs"))?;
        Ok(())
    }
}
