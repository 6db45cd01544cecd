//! Executions of stages (`ballpoint.runs`) and their steps (`ballpoint.run_steps`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::{StoreError, timestamp};
use crate::trace::TraceContext;

/// Runs older than this are pruned, with their steps.
const KEEP_DAYS: i32 = 30;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    Success,
    /// There was nothing to do; reported apart from success.
    NothingNew,
    Failed,
}

impl RunStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::NothingNew => "nothing_new",
            Self::Failed => "failed",
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    Success,
    /// Not executed because of an earlier failure.
    Skipped,
    Failed,
}

impl StepStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// A run as it is shown to people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    pub id: Uuid,
    pub kind: String,
    pub trigger: String,
    /// `running`, `success`, `nothing_new`, `failed` or `interrupted`.
    pub status: String,
    pub error: Option<String>,
    pub trace: TraceContext,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunStep {
    pub name: String,
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
}

impl Runs {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
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
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into ballpoint.runs (id, kind, trigger, traceparent) values ($1, $2, $3, $4)",
        )
        .bind(id)
        .bind(kind)
        .bind(trigger)
        .bind(&trace.0)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording a run"))?;
        Ok(RunRecorder {
            pool: self.pool.clone(),
            id,
            steps: Arc::default(),
        })
    }

    /// The latest runs, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(&self, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        type Row = (
            Uuid,
            String,
            String,
            String,
            Option<String>,
            String,
            i64,
            Option<i64>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "select id, kind, trigger, status, error, traceparent,
                    (extract(epoch from started_at) * 1000000)::bigint,
                    (extract(epoch from finished_at) * 1000000)::bigint
             from ballpoint.runs order by started_at desc limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing runs"))?;
        let shown =
            |(id, kind, trigger, status, error, trace, started, finished): Row| RunSummary {
                id,
                kind,
                trigger,
                status,
                error,
                trace: TraceContext(trace),
                started_at: timestamp(started),
                finished_at: finished.map(timestamp),
            };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// The steps of a run, in their order.
    ///
    /// # Errors
    /// As every query.
    pub async fn steps(&self, run: Uuid) -> Result<Vec<RunStep>, StoreError> {
        type Row = (
            String,
            String,
            Option<i64>,
            Option<String>,
            i64,
            Option<i64>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "select name, status, row_count, error,
                    (extract(epoch from started_at) * 1000000)::bigint,
                    (extract(epoch from finished_at) * 1000000)::bigint
             from ballpoint.run_steps where run_id = $1 order by step",
        )
        .bind(run)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing a run's steps"))?;
        let shown = |(name, status, row_count, error, started, finished): Row| RunStep {
            name,
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

/// Records one run. Clones record the same run; its steps may overlap.
#[derive(Clone, Debug)]
pub struct RunRecorder {
    pool: PgPool,
    id: Uuid,
    steps: Arc<AtomicI32>,
}

impl RunRecorder {
    /// The run's id, as events and answers name it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Records that a step begins.
    ///
    /// # Errors
    /// As every query.
    pub async fn step(&self, name: &str) -> Result<StepRecorder, StoreError> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        sqlx::query("insert into ballpoint.run_steps (run_id, step, name) values ($1, $2, $3)")
            .bind(self.id)
            .bind(step)
            .bind(name)
            .execute(&self.pool)
            .await
            .map_err(StoreError::query("recording a step"))?;
        Ok(StepRecorder {
            pool: self.pool.clone(),
            run: self.id,
            step,
        })
    }

    /// Records how the run ended.
    ///
    /// # Errors
    /// As every query.
    pub async fn finish(self, status: RunStatus, error: Option<&str>) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.runs
             set status = $2, error = $3, finished_at = clock_timestamp() where id = $1",
        )
        .bind(self.id)
        .bind(status.as_str())
        .bind(error)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording the end of a run"))?;
        Ok(())
    }
}

/// Records one step of a run.
#[derive(Debug)]
pub struct StepRecorder {
    pool: PgPool,
    run: Uuid,
    step: i32,
}

impl StepRecorder {
    /// Records how the step ended; `rows` where rows were written or, for a test, found failing.
    ///
    /// # Errors
    /// As every query.
    pub async fn finish(
        self,
        status: StepStatus,
        rows: Option<u64>,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.run_steps
             set status = $3, row_count = $4, error = $5, finished_at = clock_timestamp()
             where run_id = $1 and step = $2",
        )
        .bind(self.run)
        .bind(self.step)
        .bind(status.as_str())
        .bind(rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)))
        .bind(error)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording the end of a step"))?;
        Ok(())
    }
}
