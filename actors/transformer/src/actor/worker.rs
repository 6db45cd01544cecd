//! One look: refresh the project, claim a queued build, carry it out, say how it ended.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::retry::FailureClass;
use ballpoint_runtime::store::{
    ClaimedWork, EndedStep, Interruption, RunRecorder, RunStatus, StepStatus, StoreError,
};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use ballpoint_runtime::work::WorkKind;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::TransformerArgs;
use super::resident::{Refreshed, Resident};
use crate::project::Project;
use crate::publish::{BuildOutcome, BuildStatus, Changed, PublishError, PublishOptions, publish};
use crate::run::{NodeResult, Status};

/// The kind of work rows that the transformer carries out.
pub(super) const KIND: &str = "build";

/// How long a claimed row stays ours without a renewal.
const LEASE: Duration = Duration::from_secs(60);

/// How often a running build renews its lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(20);

/// Does the actor's work in tasks of its own.
#[derive(Debug)]
pub(super) struct Worker {
    args: TransformerArgs,
    resident: Arc<Resident>,
    ended: CancellationToken,
    building: AtomicBool,
    /// The latest event of a build is a failure.
    troubled: AtomicBool,
    /// Why a row may be running that nobody works on: it is taken back first.
    reclaim: Mutex<Option<Interruption>>,
}

/// What a look came to.
#[derive(Debug, Default)]
pub struct Worked {
    pub(super) project: Option<ProjectFacts>,
    pub(super) build: Option<BuildFacts>,
    pub(super) error: Option<String>,
}

/// The project after a look.
#[derive(Debug)]
pub(super) struct ProjectFacts {
    pub(super) models: usize,
    pub(super) tests: usize,
    pub(super) error: Option<String>,
}

/// A build that ended.
#[derive(Debug)]
pub(super) struct BuildFacts {
    pub(super) published: bool,
    pub(super) unchanged: bool,
    pub(super) elapsed_ms: u64,
    pub(super) failing: Vec<String>,
}

/// How a look ended, when the store did not fail.
enum Looked {
    Well,
    Panicked,
}

impl Worker {
    pub(super) fn new(args: TransformerArgs, resident: Resident, ended: CancellationToken) -> Self {
        Self {
            args,
            resident: Arc::new(resident),
            ended,
            building: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            reclaim: Mutex::new(Some(Interruption::Restart)),
        }
    }

    pub(super) fn is_building(&self) -> bool {
        self.building.load(Ordering::Relaxed)
    }

    /// Looks once. Every failure is part of the result; `None` is a panic.
    pub(super) async fn look(&self) -> Option<Worked> {
        let mut worked = Worked::default();
        match self.look_into(&mut worked).await {
            Ok(Looked::Well) => {}
            Ok(Looked::Panicked) => return None,
            Err(error) => {
                tracing::warn!(error = %in_one_line(&error), "the transformer could not look for work");
                worked.error = Some(in_one_line(&error));
                // How a build ended may not have been recorded. A predecessor's row is still that.
                self.reclaim().get_or_insert(Interruption::Unrecorded);
            }
        }
        Some(worked)
    }

    fn reclaim(&self) -> MutexGuard<'_, Option<Interruption>> {
        self.reclaim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_into(&self, worked: &mut Worked) -> Result<Looked, StoreError> {
        let work = self.args.store.work();
        let reclaim = *self.reclaim();
        if let Some(why) = reclaim {
            work.reclaim(KIND, "", why).await?;
            *self.reclaim() = None;
        }
        let refreshed = self.refresh().await;
        worked.project = Some(facts(&refreshed));
        if refreshed.edited {
            let everything = WorkKind::Build {
                changed: Vec::new(),
            };
            work.enqueue(&everything, &TraceContext::current()).await?;
        }
        let Some(claimed) = work.claim(KIND, "", LEASE).await? else {
            return Ok(Looked::Well);
        };
        let Some(project) = refreshed.project else {
            let reason = refreshed
                .error
                .map(|error| error.to_string())
                .unwrap_or_default();
            self.refuse(&claimed, &reason).await?;
            return Ok(Looked::Well);
        };
        self.building.store(true, Ordering::Relaxed);
        let span = tracing::info_span!("build", work_id = claimed.id, attempt = claimed.attempt);
        set_parent(&span, &claimed.trace);
        let building = self.build(&claimed, &project).instrument(span);
        let built = AssertUnwindSafe(building).catch_unwind().await;
        self.building.store(false, Ordering::Relaxed);
        let Ok(built) = built else {
            // Counted here: the restart that follows gives its attempt back.
            work.fail(&claimed, "the build panicked", None).await?;
            return Ok(Looked::Panicked);
        };
        worked.build = built?;
        Ok(Looked::Well)
    }

    async fn refresh(&self) -> Refreshed {
        let resident = self.resident.clone();
        match tokio::task::spawn_blocking(move || resident.refresh()).await {
            Ok(refreshed) => refreshed,
            // A panic while parsing is a bug in this crate: it ends the task that asked.
            Err(error) => resume_unwind(error.into_panic()),
        }
    }

    /// There is no project that could be built: the edit that mends its files makes a row of its own.
    async fn refuse(&self, claimed: &ClaimedWork, reason: &str) -> Result<(), StoreError> {
        let (trace, class) = (&claimed.trace, FailureClass::ProjectBroken);
        self.args.store.runs().of_work(claimed, trace).await?;
        self.args
            .store
            .work()
            .failed(claimed, reason, class)
            .await?;
        let event = Event::BuildFailed {
            run_id: String::new(),
            failed: vec![reason.to_owned()],
            skipped: Vec::new(),
            reason: reason.to_owned(),
        };
        self.say(event, claimed.trace.clone()).await
    }

    async fn build(
        &self,
        claimed: &ClaimedWork,
        project: &Arc<Project>,
    ) -> Result<Option<BuildFacts>, StoreError> {
        let trace = TraceContext::current();
        let run = self.args.store.runs().of_work(claimed, &trace).await?;
        let run_id = run.id().to_string();
        let built = self.publish_with_lease(claimed, project).await;
        let work = self.args.store.work();
        let outcome = match built {
            Ok(outcome) => outcome,
            Err(PublishError::Cancelled) => {
                work.fail(claimed, "cancelled", Some(Duration::ZERO))
                    .await?;
                return Ok(None);
            }
            Err(error) => {
                let reason = in_one_line(&error);
                let failed = Event::BuildFailed {
                    run_id,
                    failed: vec![reason.clone()],
                    skipped: Vec::new(),
                    reason: reason.clone(),
                };
                self.say(failed, trace).await?;
                work.failed(claimed, &reason, class_of(&error)).await?;
                return Ok(None);
            }
        };
        let failing: Vec<String> = outcome
            .failed
            .iter()
            .map(|failed| failed.name.clone())
            .collect();
        self.settle(claimed, run, &outcome, &failing).await?;
        Ok(Some(BuildFacts {
            published: outcome.status == BuildStatus::Published,
            unchanged: outcome.status == BuildStatus::Unchanged,
            elapsed_ms: u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
            failing,
        }))
    }

    /// Publishes how a build ended.
    async fn say(&self, event: Event, trace: TraceContext) -> Result<(), StoreError> {
        let failed = matches!(event, Event::BuildFailed { .. });
        self.args.store.events().publish(event, trace).await?;
        self.troubled.store(failed, Ordering::Relaxed);
        Ok(())
    }

    /// Says how a build ended: as an event, in its run, and to the queue.
    async fn settle(
        &self,
        claimed: &ClaimedWork,
        run: RunRecorder,
        outcome: &BuildOutcome,
        failing: &[String],
    ) -> Result<(), StoreError> {
        let (work, trace) = (self.args.store.work(), TraceContext::current());
        let run_id = run.id().to_string();
        match outcome.status {
            BuildStatus::Unchanged => {
                // What failed is gone: without a publish nothing else would say so.
                if self.troubled.load(Ordering::Relaxed) {
                    self.say(published(run_id, outcome), trace).await?;
                }
                run.finish(RunStatus::NothingNew, None).await?;
                work.complete(claimed).await?;
            }
            BuildStatus::Published => {
                self.say(published(run_id, outcome), trace).await?;
                run.record(&steps(outcome)).await?;
                run.finish(RunStatus::Success, None).await?;
                work.complete(claimed).await?;
            }
            BuildStatus::Failed => {
                let reason = failure_of(outcome);
                run.record(&steps(outcome)).await?;
                let event = Event::BuildFailed {
                    run_id,
                    failed: failing.to_vec(),
                    skipped: outcome.skipped.clone(),
                    reason: outcome.reason(),
                };
                self.say(event, trace).await?;
                // Wrong data stays wrong until a source or a model changes, and that makes a new
                // row; what this one was for is remembered by `publish`.
                let class = match outcome.transient {
                    true => FailureClass::WarehouseDown,
                    false => FailureClass::ModelWrong,
                };
                work.failed(claimed, &reason, class).await?;
            }
        }
        Ok(())
    }

    async fn publish_with_lease(
        &self,
        claimed: &ClaimedWork,
        project: &Arc<Project>,
    ) -> Result<BuildOutcome, PublishError> {
        let changed = match &claimed.work {
            WorkKind::Build { changed } if !changed.is_empty() => Changed::Tables(changed.clone()),
            _ => Changed::Everything,
        };
        let mut options = PublishOptions::new(changed);
        options.cancel = self.ended.child_token();
        options.vars.insert(
            "business_now".to_owned(),
            self.args.clock.business_now().to_string().into(),
        );
        // In a task of its own: a build that is only dropped goes on in the server, and this one
        // ends there too when its actor ends.
        let (project, pool) = (Arc::clone(project), self.args.store.pool().clone());
        let build = async move { publish(&project, &pool, &options).await };
        let mut build = tokio::spawn(build.in_current_span());
        loop {
            tokio::select! {
                built = &mut build => {
                    return built.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
                }
                () = tokio::time::sleep(RENEW_INTERVAL) => {
                    if let Err(error) = self.args.store.work().extend(claimed, LEASE).await {
                        tracing::warn!(error = %in_one_line(&error), "the lease of a build was not renewed");
                    }
                }
            }
        }
    }
}

fn published(run_id: String, outcome: &BuildOutcome) -> Event {
    Event::BuildPublished {
        run_id,
        relations: outcome.relations.clone(),
        tests_passed: outcome.tests_passed,
        absent: outcome.absent.clone(),
    }
}

/// What failed, in one line.
fn failure_of(outcome: &BuildOutcome) -> String {
    for failed in &outcome.failed {
        tracing::warn!(node = %failed.unique_id, message = %failed.message, "a build failed");
    }
    format!("failed: {}", outcome.reason())
}

/// The nodes that ran or were skipped, as the run's steps.
fn steps(outcome: &BuildOutcome) -> Vec<EndedStep> {
    let step = |result: &NodeResult| {
        let (status, error) = match result.status {
            Status::Success | Status::Pass => (StepStatus::Success, None),
            Status::Warn => (StepStatus::Success, Some(result.message.clone())),
            Status::Fail | Status::Error => (StepStatus::Failed, Some(result.message.clone())),
            Status::Skipped | Status::NoOp => (StepStatus::Skipped, None),
        };
        let failing = result.failures.and_then(|rows| u64::try_from(rows).ok());
        EndedStep {
            name: result.unique_id.clone(),
            status,
            rows: result.rows.or(failing),
            error,
            elapsed: Duration::from_secs_f64(result.seconds.max(0.0)),
        }
    };
    outcome.results.iter().map(step).collect()
}

fn class_of(error: &PublishError) -> FailureClass {
    match error {
        PublishError::Project(_) => FailureClass::ProjectBroken,
        PublishError::Cancelled => FailureClass::Unexpected,
        PublishError::Database(_) if error.is_transient() => FailureClass::WarehouseDown,
        PublishError::Database(_) => FailureClass::ModelWrong,
    }
}

fn facts(refreshed: &Refreshed) -> ProjectFacts {
    let count = |tests: bool| {
        refreshed.project.as_ref().map_or(0, |project| {
            project
                .nodes
                .values()
                .filter(|node| node.is_test() == tests)
                .count()
        })
    };
    ProjectFacts {
        models: count(false),
        tests: count(true),
        error: refreshed.error.as_ref().map(ToString::to_string),
    }
}
