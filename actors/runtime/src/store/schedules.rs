//! When the pipeline runs by itself (`ballpoint.schedules`), and each time that it did
//! (`ballpoint.schedule_fires`).
//!
//! A fire is a row, unique by schedule and time, written in one transaction with the commands of its
//! first stage; a later stage's commands are written with the move to that stage. So a kill at any
//! moment neither loses nor doubles one. Due times are business time.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{StoreError, micros, timestamp};
use crate::trace::TraceContext;

/// Fires that are through are pruned after this.
const KEEP_DAYS: i32 = 30;

/// What the configuration says of a schedule, and when it is due next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    pub name: String,
    /// Minute, hour, day of month, month, day of week.
    pub cron: String,
    /// By IANA's name.
    pub timezone: String,
    pub full_refresh: bool,
    /// Business time.
    pub next_at: Timestamp,
    /// The latest time for which it fired; business time.
    pub last_at: Option<Timestamp>,
    /// The run of that fire.
    pub last_run: Option<Uuid>,
    /// How that run stands.
    pub last_state: Option<String>,
}

/// What a fire is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FireStage {
    Sync,
    Build,
    RefreshMetrics,
    /// What is approved is written, every sync is planned.
    WriteBacks,
    Done,
}

impl FireStage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Build => "build",
            Self::RefreshMetrics => "refresh_metrics",
            Self::WriteBacks => "write_backs",
            Self::Done => "done",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "sync" => Self::Sync,
            "build" => Self::Build,
            "refresh_metrics" => Self::RefreshMetrics,
            "write_backs" => Self::WriteBacks,
            _ => Self::Done,
        }
    }
}

/// One time that a schedule was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    pub schedule: String,
    pub due_at: Timestamp,
    pub run_id: Uuid,
    pub full_refresh: bool,
    /// Earlier times that it makes up for.
    pub missed: u32,
    pub stage: FireStage,
    /// The commands of that stage.
    pub work_ids: Vec<i64>,
}

/// The commands of a fire as `last`: one that was merged into a later row stands as that does.
const FOLLOWED: &str = "with recursive followed as (
         select id, kind, scope, state, last_error, updated_at, moved_to from ballpoint.work
         where id = any($1)
         union
         select w.id, w.kind, w.scope, w.state, w.last_error, w.updated_at, w.moved_to
         from ballpoint.work w join followed f on w.id = f.moved_to
     ), last as (
         select f.* from followed f
         where not exists (select from ballpoint.work w where w.id = f.moved_to)
     )";

/// Declares, fires and lists schedules.
#[derive(Clone, Debug)]
pub struct Schedules {
    pool: PgPool,
}

impl Schedules {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Every schedule by name, with its next time and its latest fire.
    ///
    /// # Errors
    /// As every query.
    pub async fn all(&self) -> Result<Vec<Schedule>, StoreError> {
        type Row = (
            String,
            String,
            String,
            bool,
            i64,
            Option<i64>,
            Option<Uuid>,
            Option<String>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "select s.name, s.cron, s.timezone, s.full_refresh,
                    (extract(epoch from s.next_at) * 1000000)::bigint,
                    (extract(epoch from f.due_at) * 1000000)::bigint, f.run_id, r.status
             from ballpoint.schedules s
             left join lateral (select due_at, run_id from ballpoint.schedule_fires
                                where schedule = s.name order by fired_at desc limit 1) f on true
             left join ballpoint.runs r on r.id = f.run_id
             order by s.name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing schedules"))?;
        let shown = |(name, cron, timezone, full_refresh, next, last, run, state): Row| Schedule {
            name,
            cron,
            timezone,
            full_refresh,
            next_at: timestamp(next),
            last_at: last.map(timestamp),
            last_run: run,
            last_state: state,
        };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Keeps what the configuration says now. A schedule that stayed as it was keeps its next time,
    /// so that one that passed while nothing ran is still due.
    ///
    /// # Errors
    /// As every query.
    pub async fn declare(&self, schedules: &[Schedule]) -> Result<(), StoreError> {
        let failed = || StoreError::query("declaring the schedules");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        let names: Vec<&str> = schedules.iter().map(|it| it.name.as_str()).collect();
        sqlx::query("delete from ballpoint.schedules where name <> all($1)")
            .bind(&names)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        // The start has marked them as interrupted; they go on.
        sqlx::query(
            "update ballpoint.runs set status = 'running', finished_at = null
             where id in (select run_id from ballpoint.schedule_fires where stage <> 'done')",
        )
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        for schedule in schedules {
            sqlx::query(
                "insert into ballpoint.schedules as s (name, cron, timezone, full_refresh, next_at)
                 values ($1, $2, $3, $4, 'epoch'::timestamptz + $5 * interval '1 microsecond')
                 on conflict (name) do update
                 set cron = excluded.cron, timezone = excluded.timezone,
                     full_refresh = excluded.full_refresh,
                     next_at = case when (s.cron, s.timezone) = (excluded.cron, excluded.timezone)
                                    then least(s.next_at, excluded.next_at)
                                    else excluded.next_at end",
            )
            .bind(&schedule.name)
            .bind(&schedule.cron)
            .bind(&schedule.timezone)
            .bind(schedule.full_refresh)
            .bind(micros(schedule.next_at))
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// The schedules that are due at that business time, locked for the caller's transaction: name
    /// and the time that was due first.
    ///
    /// # Errors
    /// As every query.
    pub async fn due_in(
        connection: &mut PgConnection,
        now: Timestamp,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select name, (extract(epoch from next_at) * 1000000)::bigint from ballpoint.schedules
             where next_at <= 'epoch'::timestamptz + $1 * interval '1 microsecond'
             order by name for update skip locked",
        )
        .bind(micros(now))
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("looking for due schedules"))?;
        let shown = |(name, due): (String, i64)| (name, timestamp(due));
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Whether that time was fired before.
    ///
    /// # Errors
    /// As every query.
    pub async fn has_fired_in(
        connection: &mut PgConnection,
        schedule: &str,
        due_at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select exists (select from ballpoint.schedule_fires where schedule = $1
                 and due_at = 'epoch'::timestamptz + $2 * interval '1 microsecond')",
        )
        .bind(schedule)
        .bind(micros(due_at))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("looking for a schedule's fire"))
    }

    /// Writes a fire and when its schedule is due next.
    ///
    /// # Errors
    /// As every query; and when that time has fired already.
    pub async fn fire_in(connection: &mut PgConnection, fire: &Fire) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.schedule_fires
                 (schedule, due_at, run_id, full_refresh, missed, stage, work_ids)
             values ($1, 'epoch'::timestamptz + $2 * interval '1 microsecond', $3, $4, $5, $6, $7)",
        )
        .bind(&fire.schedule)
        .bind(micros(fire.due_at))
        .bind(fire.run_id)
        .bind(fire.full_refresh)
        .bind(i32::try_from(fire.missed).unwrap_or(i32::MAX))
        .bind(fire.stage.as_str())
        .bind(&fire.work_ids)
        .execute(connection)
        .await
        .map_err(StoreError::query("firing a schedule"))?;
        Ok(())
    }

    /// When a schedule is due next.
    ///
    /// # Errors
    /// As every query.
    pub async fn set_next_in(
        connection: &mut PgConnection,
        schedule: &str,
        next_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.schedules
             set next_at = 'epoch'::timestamptz + $2 * interval '1 microsecond' where name = $1",
        )
        .bind(schedule)
        .bind(micros(next_at))
        .execute(connection)
        .await
        .map_err(StoreError::query("moving a schedule on"))?;
        Ok(())
    }

    /// Fires that are not through, oldest first, locked for the caller's transaction.
    ///
    /// # Errors
    /// As every query.
    pub async fn open_in(connection: &mut PgConnection) -> Result<Vec<Fire>, StoreError> {
        type Row = (String, i64, Uuid, bool, i32, String, Vec<i64>);
        let rows: Vec<Row> = sqlx::query_as(
            "select schedule, (extract(epoch from due_at) * 1000000)::bigint, run_id, full_refresh,
                    missed, stage, work_ids
             from ballpoint.schedule_fires where stage <> 'done'
             order by due_at for update skip locked",
        )
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("looking for open fires"))?;
        let shown = |(schedule, due, run_id, full_refresh, missed, stage, work_ids): Row| Fire {
            schedule,
            due_at: timestamp(due),
            run_id,
            full_refresh,
            missed: missed.unsigned_abs(),
            stage: FireStage::of(&stage),
            work_ids,
        };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Moves a fire to a stage with its commands.
    ///
    /// # Errors
    /// As every query.
    pub async fn advance_in(
        connection: &mut PgConnection,
        fire: &Fire,
        stage: FireStage,
        work_ids: &[i64],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.schedule_fires set stage = $3, work_ids = $4
             where schedule = $1 and due_at = 'epoch'::timestamptz + $2 * interval '1 microsecond'",
        )
        .bind(&fire.schedule)
        .bind(micros(fire.due_at))
        .bind(stage.as_str())
        .bind(work_ids)
        .execute(connection)
        .await
        .map_err(StoreError::query("moving a schedule's run on"))?;
        Ok(())
    }

    /// Writes the commands of a fire's stage, which have ended, as steps of its run. Whatever is not
    /// done has failed.
    ///
    /// # Errors
    /// As every query.
    pub async fn record_steps_in(
        connection: &mut PgConnection,
        fire: &Fire,
    ) -> Result<(), StoreError> {
        let statement = format!(
            "{FOLLOWED}
             insert into ballpoint.run_steps
                 (run_id, step, name, status, row_count, error, started_at, finished_at)
             select $2, (select coalesce(max(step), 0) from ballpoint.run_steps where run_id = $2)
                        + row_number() over (order by w.id),
                    trim(w.kind || ' ' || w.scope),
                    case when w.state = 'done' then 'success' else 'failed' end, r.row_count,
                    case when w.state <> 'done' then coalesce(w.last_error, 'it was given up') end,
                    coalesce(r.started_at, w.updated_at), w.updated_at
             from last w left join ballpoint.runs r on r.work_id = w.id"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(&fire.work_ids)
            .bind(fire.run_id)
            .execute(connection)
            .await
            .map_err(StoreError::query("recording a schedule's steps"))?;
        Ok(())
    }

    /// Whether a step of that run has failed so far.
    ///
    /// # Errors
    /// As every query.
    pub async fn has_failed_in(
        connection: &mut PgConnection,
        run: Uuid,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select exists (select from ballpoint.run_steps
                            where run_id = $1 and status = 'failed')",
        )
        .bind(run)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("reading a schedule's steps"))
    }

    /// Ends the run of a fire as its steps did.
    ///
    /// # Errors
    /// As every query.
    pub async fn finish_run_in(connection: &mut PgConnection, run: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "update ballpoint.runs r
             set status = case when steps.failed then 'failed' else 'success' end,
                 error = steps.errors, row_count = steps.row_count,
                 finished_at = clock_timestamp()
             from (select coalesce(bool_or(status = 'failed'), false) as failed,
                          string_agg(name || ': ' || error, '; ' order by step) as errors,
                          sum(row_count)::bigint as row_count
                   from ballpoint.run_steps where run_id = $1) steps
             where r.id = $1",
        )
        .bind(run)
        .execute(connection)
        .await
        .map_err(StoreError::query("ending a schedule's run"))?;
        Ok(())
    }

    /// The trace of a run, for the commands that it goes on with.
    ///
    /// # Errors
    /// As every query.
    pub async fn trace_in(
        connection: &mut PgConnection,
        run: Uuid,
    ) -> Result<TraceContext, StoreError> {
        let trace: Option<String> =
            sqlx::query_scalar("select traceparent from ballpoint.runs where id = $1")
                .bind(run)
                .fetch_optional(connection)
                .await
                .map_err(StoreError::query("reading a run's trace"))?;
        Ok(TraceContext(trace.unwrap_or_default()))
    }

    /// Whether every one of these commands has ended. One that history has forgotten has.
    ///
    /// # Errors
    /// As every query.
    pub async fn have_ended_in(
        connection: &mut PgConnection,
        work_ids: &[i64],
    ) -> Result<bool, StoreError> {
        let statement = format!(
            "{FOLLOWED}
             select not exists (select from last where state in ('queued', 'running'))"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(work_ids)
            .fetch_one(connection)
            .await
            .map_err(StoreError::query("following a schedule's commands"))
    }

    pub(super) async fn prune(&self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from ballpoint.schedule_fires
             where stage = 'done' and fired_at < clock_timestamp() - $1 * interval '1 day'",
        )
        .bind(KEEP_DAYS)
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("pruning schedules' fires"))?;
        Ok(())
    }
}
