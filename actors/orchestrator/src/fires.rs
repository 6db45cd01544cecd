//! Fires schedules, and takes each fire through its stages: a sync of every source, then a build of
//! everything, then a refresh of the metrics, then the write-backs, as `ballpoint run` does.
//!
//! A fire and the commands of its stage are one transaction. What happens to the commands is read
//! from their rows, so a restart goes on where the process ended. A source that fails keeps the
//! others' rows from nobody: the build follows all the same, and the run has failed. After a failure
//! nothing is written back.

use std::collections::BTreeSet;

use ballpoint_runtime::store::{
    Fire, FireStage, Runs, Schedule, Schedules, Store, StoreError, WorkQueue,
};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::{Trigger, WorkKind};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::decide::Stages;
use crate::timing::Timing;

/// What a run by a schedule is called.
pub const RUN_KIND: &str = "schedule";

/// A schedule, as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    pub name: String,
    pub timing: Timing,
    /// Replace every table instead of adding what is new.
    pub full_refresh: bool,
}

/// Keeps what the configuration says. Of times that passed while nothing ran, the next look makes up
/// for the latest, once; a schedule that is new, or was changed, begins now.
///
/// # Errors
/// As every query.
pub async fn declare(
    store: &Store,
    specs: &[ScheduleSpec],
    now: Timestamp,
) -> Result<(), StoreError> {
    let schedules: Vec<Schedule> = specs
        .iter()
        .filter_map(|spec| {
            Some(Schedule {
                name: spec.name.clone(),
                cron: spec.timing.expression().to_owned(),
                timezone: spec.timing.zone_name().to_owned(),
                full_refresh: spec.full_refresh,
                next_at: spec.timing.after(now)?,
                last_at: None,
                last_run: None,
                last_state: None,
            })
        })
        .collect();
    store.schedules().declare(&schedules).await
}

/// Fires every schedule that is due at that business time; how many did.
///
/// # Errors
/// As every query; nothing has fired then.
pub async fn fire_due(
    store: &Store,
    specs: &[ScheduleSpec],
    sources: &[String],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let failed = || query("firing schedules");
    let mut transaction = store.pool().begin().await.map_err(failed())?;
    let mut fired = 0;
    for (name, first) in Schedules::due_in(&mut transaction, now).await? {
        // One that another process declared is that one's to keep.
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            continue;
        };
        let (due_at, missed) = spec.timing.latest(first, now);
        if !Schedules::has_fired_in(&mut transaction, &name, due_at).await? {
            fire(&mut transaction, spec, due_at, missed, sources).await?;
            fired += 1;
        }
        if let Some(next) = spec.timing.after(now) {
            Schedules::set_next_in(&mut transaction, &name, next).await?;
        }
    }
    fail::fail_point!("orchestrator::before_fire_commit");
    transaction.commit().await.map_err(failed())?;
    fail::fail_point!("orchestrator::after_fire_commit");
    if fired > 0 {
        store.work().wake("sync");
    }
    Ok(fired)
}

async fn fire(
    connection: &mut PgConnection,
    spec: &ScheduleSpec,
    due_at: Timestamp,
    missed: u32,
    sources: &[String],
) -> Result<(), StoreError> {
    let span = tracing::info_span!(parent: None, "schedule", otel.name = %format!("schedule {}", spec.name));
    let trace = TraceContext::of(&span);
    let trigger = Trigger::Schedule.as_str();
    let run_id = Runs::start_in(connection, RUN_KIND, &spec.name, trigger, &trace).await?;
    fail::fail_point!("orchestrator::after_fire_row");
    let mut work_ids = Vec::new();
    for source in sources {
        let sync = WorkKind::Sync {
            source: source.clone(),
            tables: Vec::new(),
            full_refresh: spec.full_refresh,
        };
        work_ids.push(WorkQueue::enqueue_in(connection, Trigger::Schedule, &sync, &trace).await?);
    }
    let fire = Fire {
        schedule: spec.name.clone(),
        due_at,
        run_id,
        full_refresh: spec.full_refresh,
        missed,
        stage: FireStage::Sync,
        work_ids,
    };
    tracing::info!(schedule = %spec.name, due = %due_at, missed, "a schedule fires");
    Schedules::fire_in(connection, &fire).await
}

/// Moves on each fire whose stage has ended.
///
/// # Errors
/// As every query; what was not moved on then is looked at again.
pub async fn advance(store: &Store, stages: Stages) -> Result<(), StoreError> {
    let failed = || query("moving schedules' runs on");
    let mut transaction = store.pool().begin().await.map_err(failed())?;
    let mut kinds = BTreeSet::new();
    for fire in Schedules::open_in(&mut transaction).await? {
        if Schedules::have_ended_in(&mut transaction, &fire.work_ids).await? {
            kinds.extend(advance_one(&mut transaction, &fire, stages).await?);
        }
    }
    transaction.commit().await.map_err(failed())?;
    for kind in kinds {
        store.work().wake(kind);
    }
    Ok(())
}

/// The kind of the command that follows, if one does.
async fn advance_one(
    connection: &mut PgConnection,
    fire: &Fire,
    stages: Stages,
) -> Result<Option<&'static str>, StoreError> {
    Schedules::record_steps_in(connection, fire).await?;
    let (stage, mut command) = next(fire.stage, stages);
    if stage == FireStage::WriteBacks && Schedules::has_failed_in(connection, fire.run_id).await? {
        // Nothing is written back from data that is not whole.
        command = None;
    }
    let Some(command) = command else {
        Schedules::advance_in(connection, fire, FireStage::Done, &[]).await?;
        Schedules::finish_run_in(connection, fire.run_id).await?;
        return Ok(None);
    };
    let trace = Schedules::trace_in(connection, fire.run_id).await?;
    let id = WorkQueue::enqueue_in(connection, Trigger::Schedule, &command, &trace).await?;
    Schedules::advance_in(connection, fire, stage, &[id]).await?;
    Ok(Some(command.name()))
}

/// What follows a stage in this project.
fn next(stage: FireStage, stages: Stages) -> (FireStage, Option<WorkKind>) {
    match stage {
        FireStage::Sync if stages.transform => {
            let everything = WorkKind::Build {
                changed: Vec::new(),
            };
            (FireStage::Build, Some(everything))
        }
        FireStage::Sync | FireStage::Build if stages.metrics => {
            (FireStage::RefreshMetrics, Some(WorkKind::RefreshMetrics))
        }
        FireStage::Sync | FireStage::Build | FireStage::RefreshMetrics if stages.write_backs => {
            let pass = WorkKind::WriteBack { pass: true };
            (FireStage::WriteBacks, Some(pass))
        }
        _ => (FireStage::Done, None),
    }
}

fn query(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { doing, source }
}
