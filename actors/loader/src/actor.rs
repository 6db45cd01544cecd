//! The actor `loader.<source>`.
//!
//! **In** rows of `ballpoint.work` of kind `sync` for its source: it is woken when one is written and
//! polls besides. **Out** [`Event::SyncFinished`] or [`Event::SyncFailed`], then the end of the work
//! row; [`Event::TableLoaded`] comes from the transaction of the rows themselves. One sync at a time.
//! Whatever ends an incarnation cancels its sync, which loses only the table at work, as a whole; the
//! next incarnation takes the row up again. It neither schedules nor watches.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::SourceReader;
use ballpoint_runtime::store::{
    ClaimedWork, Interruption, RunRecorder, RunStatus, Store, StoreError,
};
use ballpoint_runtime::supervision::{Address, AddressError, Looks, Scope};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use ballpoint_runtime::work::WorkKind;
use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tracing::Instrument;

use crate::error::SyncError;
use crate::report::{Progress, SyncReport};
use crate::sync::Loader as Library;

/// Of [`WorkKind::Sync`].
const WORK: &str = "sync";
/// A claimed row is given to others after this, unless its worker renews it.
const LEASE: Duration = Duration::from_secs(60);
const LEASE_RENEWAL: Duration = Duration::from_secs(20);

/// What the actor works with.
#[derive(Clone)]
pub struct LoaderArgs {
    pub loader: Library,
    pub reader: Arc<dyn SourceReader>,
}

/// What the actor is told.
#[derive(Debug)]
pub enum LoaderMsg {
    /// Look for a sync to do.
    Look,
    /// The claimed sync, or the look for one, ended.
    Worked(Worked),
    /// What it does and has done since it started.
    Describe { reply: RpcReplyPort<LoaderStatus> },
}

/// How a look for work ended.
#[derive(Debug)]
pub enum Worked {
    /// There was none.
    Idle,
    /// A sync ended, and its work row with it.
    Synced {
        report: SyncReport,
        error: Option<String>,
    },
    /// The warehouse could not be asked; the poll tries again.
    Unreachable(StoreError),
    /// The task panicked: a bug, and the supervisor's affair.
    Panicked,
}

/// What a loader does and has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoaderStatus {
    pub source: String,
    /// The table at work; `None` when idle.
    pub progress: Option<Progress>,
    pub syncs: u64,
    /// New or different rows.
    pub rows: u64,
    /// The latest sync that brought rows.
    pub last: Option<SyncReport>,
    /// Why the latest sync failed, if it did.
    pub last_error: Option<String>,
}

/// The only way in.
#[derive(Clone, Debug)]
pub struct LoaderHandle {
    address: Address<LoaderMsg>,
}

impl LoaderHandle {
    /// The loader of `source` in that scope.
    pub fn new(scope: &Scope, source: &str) -> Self {
        Self {
            address: Address::new(scope, &Loader::name(source)),
        }
    }

    /// What it does and has done since it started.
    ///
    /// # Errors
    /// When it is not running, or does not answer, within `timeout`.
    pub async fn describe(&self, timeout: Duration) -> Result<LoaderStatus, AddressError> {
        self.address
            .call(|reply| LoaderMsg::Describe { reply }, timeout)
            .await
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct Loader;

impl Loader {
    /// Its name in the supervision tree.
    pub fn name(source: &str) -> String {
        format!("loader.{source}")
    }
}

/// One incarnation's state; dropping it ends its listener and cancels its sync.
pub struct LoaderState {
    myself: ActorRef<LoaderMsg>,
    loader: Library,
    reader: Arc<dyn SourceReader>,
    progress: Arc<Mutex<Option<Progress>>>,
    status: LoaderStatus,
    looks: Looks,
    /// Why a row may be running that nobody works on: it is taken back first.
    reclaim: Option<Interruption>,
}

impl Actor for Loader {
    type Msg = LoaderMsg;
    type State = LoaderState;
    type Arguments = LoaderArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        LoaderArgs { loader, reader }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let looks = Looks::default();
        let wake = loader.store().work().subscribe(WORK);
        looks.ask_when(wake, myself.clone(), || LoaderMsg::Look);
        let progress = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&progress);
        let loader = loader.with_progress(Arc::new(move |now: &Progress| {
            *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
        }));
        let status = LoaderStatus {
            source: reader.name().to_owned(),
            ..Default::default()
        };
        Ok(LoaderState {
            myself,
            loader,
            reader,
            progress,
            status,
            looks,
            reclaim: Some(Interruption::Restart),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LoaderMsg::Look => state.on_look(),
            LoaderMsg::Worked(outcome) => state.on_worked(outcome)?,
            LoaderMsg::Describe { reply } => state.on_describe(reply),
        }
        Ok(())
    }
}

impl LoaderState {
    fn on_look(&mut self) {
        let (loader, reader) = (self.loader.clone(), Arc::clone(&self.reader));
        let reclaim = self.reclaim;
        let look = async move {
            let worked = work(&loader, reader.as_ref(), reclaim).await;
            worked.unwrap_or_else(Worked::Unreachable)
        };
        self.looks.start(&self.myself, look, |worked| {
            LoaderMsg::Worked(worked.unwrap_or(Worked::Panicked))
        });
    }

    fn on_worked(&mut self, outcome: Worked) -> Result<(), ActorProcessingErr> {
        let mut again = self.looks.ended();
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match outcome {
            Worked::Idle => self.reclaim = None,
            Worked::Synced { report, error } => {
                self.reclaim = None;
                again = true;
                self.status.syncs += 1;
                self.status.rows += report.changed();
                self.status.last_error = error;
                if report.changed() > 0 {
                    self.status.last = Some(report);
                }
            }
            Worked::Unreachable(error) => {
                let error = in_one_line(&error);
                // Once for each new reason: the poll tries every second.
                if self.status.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, source = %self.status.source, "work cannot be claimed for now");
                }
                self.status.last_error = Some(error);
                // How a sync ended may not have been recorded. A predecessor's row is still that.
                self.reclaim.get_or_insert(Interruption::Unrecorded);
                again = false;
            }
            Worked::Panicked => return Err("the sync panicked".into()),
        }
        if again {
            self.on_look();
        }
        Ok(())
    }

    fn on_describe(&self, reply: RpcReplyPort<LoaderStatus>) {
        let progress = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Who asked may have given up.
        let _ = reply.send(LoaderStatus {
            progress,
            ..self.status.clone()
        });
    }
}

/// Claims one sync, carries it out and ends its row.
async fn work(
    loader: &Library,
    reader: &dyn SourceReader,
    reclaim: Option<Interruption>,
) -> Result<Worked, StoreError> {
    let queue = loader.store().work();
    if let Some(why) = reclaim {
        queue.reclaim(WORK, reader.name(), why).await?;
    }
    let Some(claimed) = queue.claim(WORK, reader.name(), LEASE).await? else {
        return Ok(Worked::Idle);
    };
    let span = tracing::info_span!("sync", otel.name = %format!("sync {}", reader.name()),
        source = reader.name(), attempt = claimed.attempt);
    set_parent(&span, &claimed.trace);
    async {
        let trace = TraceContext::current();
        let run = loader.store().runs().of_work(&claimed, &trace).await?;
        let cancellation = loader.store().runs().cancellable(run.id());
        let loader = &loader.clone().recording(run.clone());
        let outcome = tokio::select! {
            outcome = AssertUnwindSafe(sync(loader, reader, &claimed, &trace)).catch_unwind() => {
                match outcome {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        // Counted here: the restart that follows gives its attempt back.
                        let queue = loader.store().work();
                        queue.fail(&claimed, "the sync panicked", None).await?;
                        return Ok(Worked::Panicked);
                    }
                }
            }
            error = keep_claimed(loader.store(), &claimed) => return Err(error),
            why = cancellation.cancelled() => return cancel(loader.store(), &claimed, why).await,
        };
        finish(loader.store(), run, &claimed, &trace, outcome).await
    }
    .instrument(span)
    .await
}

async fn sync(
    loader: &Library,
    reader: &dyn SourceReader,
    claimed: &ClaimedWork,
    trace: &TraceContext,
) -> Result<SyncReport, SyncError> {
    match &claimed.work {
        WorkKind::Sync {
            tables,
            full_refresh,
            ..
        } => loader.sync(reader, tables, *full_refresh, trace).await,
        // The claim asked for syncs only.
        WorkKind::Build { .. } | WorkKind::RefreshMetrics | WorkKind::WriteBack { .. } => {
            Ok(SyncReport::default())
        }
    }
}

/// Renews the lease until it cannot: then the sync must not go on.
async fn keep_claimed(store: &Store, claimed: &ClaimedWork) -> StoreError {
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        if let Err(error) = store.work().extend(claimed, LEASE).await {
            return error;
        }
    }
}

/// The sync's future is dropped: the table at work loses what is not committed. The next sync, at a
/// change, by a schedule or asked for, goes on from there.
async fn cancel(store: &Store, claimed: &ClaimedWork, why: String) -> Result<Worked, StoreError> {
    tracing::info!(source = claimed.work.scope(), why, "the sync was cancelled");
    store.work().cancel(claimed, &why).await?;
    Ok(Worked::Synced {
        report: SyncReport::default(),
        error: Some(why),
    })
}

/// Tells how the sync ended, then ends its row: a kill in between tells twice, never not at all.
async fn finish(
    store: &Store,
    run: RunRecorder,
    claimed: &ClaimedWork,
    trace: &TraceContext,
    outcome: Result<SyncReport, SyncError>,
) -> Result<Worked, StoreError> {
    let source = claimed.work.scope().to_owned();
    let error = match outcome {
        Ok(report) => {
            let event = Event::SyncFinished {
                source,
                rows: report.changed(),
            };
            store.events().publish(event, trace.clone()).await?;
            let status = match report.has_news() {
                true => RunStatus::Success,
                false => RunStatus::NothingNew,
            };
            run.finish(status, None).await?;
            store.work().complete(claimed).await?;
            return Ok(Worked::Synced {
                report,
                error: None,
            });
        }
        Err(error) => error,
    };
    let text = in_one_line(&error);
    tracing::warn!(%source, error = %text, attempt = claimed.attempt, "the sync failed");
    let class = error.class();
    let event = Event::SyncFailed {
        source,
        error: text.clone(),
        class,
    };
    store.events().publish(event, trace.clone()).await?;
    store.work().failed(claimed, &text, class).await?;
    let report = match error {
        SyncError::Tables { report, .. } => report,
        _ => SyncReport::default(),
    };
    Ok(Worked::Synced {
        report,
        error: Some(text),
    })
}

#[cfg(test)]
mod tests;
