//! How a run and its steps are recorded while they go on, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::store::StoreError;

/// The sum of a run whose rows nobody counted.
const UNCOUNTED: i64 = -1;

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

/// A step that has ended, for [`RunRecorder::record`].
#[derive(Clone, Debug, PartialEq)]
pub struct EndedStep {
    pub name: String,
    pub status: StepStatus,
    pub rows: Option<u64>,
    pub error: Option<String>,
    pub elapsed: Duration,
}

/// Records one run. Clones record the same run; its steps may overlap.
#[derive(Clone, Debug)]
pub struct RunRecorder {
    pool: PgPool,
    id: Uuid,
    attempt: i32,
    /// Below zero: nobody counted.
    rows: Arc<AtomicI64>,
    steps: Arc<AtomicI32>,
}

impl RunRecorder {
    /// Goes on after `steps` steps.
    pub(super) fn new(pool: PgPool, id: Uuid, attempt: i32, steps: i32) -> Self {
        Self {
            pool,
            id,
            attempt,
            rows: Arc::new(AtomicI64::new(UNCOUNTED)),
            steps: Arc::new(AtomicI32::new(steps)),
        }
    }

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
        sqlx::query(
            "insert into ballpoint.run_steps (run_id, step, name, attempt) values ($1, $2, $3, $4)",
        )
        .bind(self.id)
        .bind(step)
        .bind(name)
        .bind(self.attempt)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording a step"))?;
        Ok(StepRecorder {
            pool: self.pool.clone(),
            run: self.id,
            step,
        })
    }

    /// Records steps that have ended, in their order, at once.
    ///
    /// # Errors
    /// As every query.
    pub async fn record(&self, steps: &[EndedStep]) -> Result<(), StoreError> {
        let count = i32::try_from(steps.len()).unwrap_or(i32::MAX);
        let before = self.steps.fetch_add(count, Ordering::Relaxed);
        sqlx::query(
            "insert into ballpoint.run_steps
                 (run_id, step, attempt, name, status, row_count, error, started_at, finished_at)
             select $1, $2 + s.ordinal, $3, s.name, s.status, s.row_count, s.error,
                    clock_timestamp() - s.millis * interval '1 millisecond', clock_timestamp()
             from unnest($4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[])
                  with ordinality as s (name, status, row_count, error, millis, ordinal)",
        )
        .bind(self.id)
        .bind(before)
        .bind(self.attempt)
        .bind(steps.iter().map(|it| it.name.as_str()).collect::<Vec<_>>())
        .bind(
            steps
                .iter()
                .map(|it| it.status.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            steps
                .iter()
                .map(|it| it.rows.map(at_most))
                .collect::<Vec<_>>(),
        )
        .bind(steps.iter().map(|it| it.error.clone()).collect::<Vec<_>>())
        .bind(
            steps
                .iter()
                .map(|it| at_most_millis(it.elapsed))
                .collect::<Vec<_>>(),
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording steps"))?;
        Ok(())
    }

    /// The run brought so many new or different rows; its end records their sum.
    pub fn add_rows(&self, rows: u64) {
        let more = at_most(rows);
        let add = |sum: i64| Some(sum.max(0).saturating_add(more));
        // The closure always gives a sum.
        let _ = self
            .rows
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Records that the run, and whatever step it was at, ended half-way; a later run goes on.
    ///
    /// # Errors
    /// As every query.
    pub async fn interrupt(self, why: &str) -> Result<(), StoreError> {
        for statement in [
            "update ballpoint.run_steps
             set status = 'interrupted', error = $2, finished_at = clock_timestamp()
             where run_id = $1 and status = 'running'",
            "update ballpoint.runs
             set status = 'interrupted', error = $2, finished_at = clock_timestamp()
             where id = $1",
        ] {
            sqlx::query(statement)
                .bind(self.id)
                .bind(why)
                .execute(&self.pool)
                .await
                .map_err(StoreError::query("recording that a run was interrupted"))?;
        }
        Ok(())
    }

    /// Records how the run ended.
    ///
    /// # Errors
    /// As every query.
    pub async fn finish(self, status: RunStatus, error: Option<&str>) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.runs
             set status = $2, error = $3, row_count = $4,
                 finished_at = clock_timestamp() where id = $1",
        )
        .bind(self.id)
        .bind(status.as_str())
        .bind(error)
        .bind(Some(self.rows.load(Ordering::Relaxed)).filter(|rows| *rows >= 0))
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
    /// Records how many rows there are so far.
    ///
    /// # Errors
    /// As every query.
    pub async fn so_far(&self, rows: u64) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.run_steps set row_count = $3
             where run_id = $1 and step = $2 and status = 'running'",
        )
        .bind(self.run)
        .bind(self.step)
        .bind(at_most(rows))
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording how far a step is"))?;
        Ok(())
    }

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
        .bind(rows.map(at_most))
        .bind(error)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("recording the end of a step"))?;
        Ok(())
    }
}

fn at_most(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn at_most_millis(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
