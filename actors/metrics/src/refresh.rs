//! What the registry does in tasks of its own: reading the model, looking at its data.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::files::{self, FileStamps};
use ballpoint_runtime::retry::FailureClass;
use ballpoint_runtime::store::{ClaimedWork, Interruption, RunStatus, Store, StoreError};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use ballpoint_runtime::work::WorkKind;
use ractor::ActorRef;
use tokio::sync::{Notify, oneshot};
use tracing::Instrument;

use crate::execute::Runner;
use crate::model::{CustomGranularities, Model};
use crate::registry::MetricRegistryMsg;
use crate::results::Results;
use crate::rollups::{Builder, Rollups};
use crate::service::Service;
use crate::survey::survey;

/// A refresh of a large warehouse looks at every dimension once.
const LEASE: Duration = Duration::from_secs(600);

/// Reads the model under `path`, unless its files are those that `known` describes. A panic rejects
/// the model as any other error does: the last good one stays.
pub(crate) fn read_model(
    path: &Path,
    granularities: CustomGranularities,
    known: Option<&FileStamps>,
) -> (Option<Result<Arc<Model>, String>>, FileStamps) {
    let stamps = FileStamps::take([path]);
    if known == Some(&stamps) {
        return (None, stamps);
    }
    files::read_whole(
        || {
            let stamps = FileStamps::take([path]);
            (Some(load(path, granularities)), stamps)
        },
        |(_, stamps)| *stamps == FileStamps::take([path]),
    )
}

fn load(path: &Path, granularities: CustomGranularities) -> Result<Arc<Model>, String> {
    match std::panic::catch_unwind(|| Model::load(path)) {
        Ok(Ok(model)) => Ok(Arc::new(model.counting(granularities))),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("reading the data model panicked, which is a bug".to_owned()),
    }
}

/// How a task that looked at the data ended.
#[derive(Debug)]
pub enum Ended {
    /// Nothing is left behind, whether there was work or not.
    Well,
    /// There was work, and no model to do it with.
    Refused,
    /// The store failed: a work row may be left running.
    Unrecorded,
    /// The task panicked: a bug, and the supervisor's affair.
    Panicked,
}

/// What a look at the data needs.
pub(crate) struct Refresh {
    pub(crate) myself: ActorRef<MetricRegistryMsg>,
    pub(crate) model: Arc<Model>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) results: Arc<Results>,
    pub(crate) rollups: Arc<Rollups>,
    pub(crate) clock: Clock,
    /// Where rollups are written; `None` keeps none.
    pub(crate) owner: Option<Store>,
    /// Whose cubes the catalogue shows; `None` shows none.
    pub(crate) tables: Option<Service>,
    pub(crate) crowded: HashSet<String>,
}

/// How `task` ended, its store's failure included.
pub(crate) async fn recorded(task: impl Future<Output = Result<Ended, StoreError>>) -> Ended {
    task.await.unwrap_or_else(|error| {
        tracing::warn!(error = %in_one_line(&error), "a refresh of the metrics was not recorded");
        Ended::Unrecorded
    })
}

/// Claims a waiting `refresh_metrics` row; `reclaim` takes back what nobody works on any more.
pub(crate) async fn claim(
    store: &Store,
    reclaim: Option<Interruption>,
) -> Result<Option<ClaimedWork>, StoreError> {
    let kind = WorkKind::RefreshMetrics.name();
    if let Some(why) = reclaim {
        store.work().reclaim(kind, "", why).await?;
    }
    store.work().claim(kind, "", LEASE).await
}

/// Has the data looked at whenever a query found that it changed without an event.
pub(crate) async fn tell_of_old_rollups(old: Arc<Notify>, registry: ActorRef<MetricRegistryMsg>) {
    loop {
        old.notified().await;
        if registry.cast(MetricRegistryMsg::RollupsOld).is_err() {
            return;
        }
    }
}

impl Refresh {
    /// Carries out a work row, in the trace of what caused it.
    pub(crate) async fn carry_out(
        &self,
        store: &Store,
        work: &ClaimedWork,
    ) -> Result<(), StoreError> {
        let span = tracing::info_span!("refresh_metrics", work = work.id, attempt = work.attempt);
        set_parent(&span, &work.trace);
        async {
            let trace = TraceContext::current();
            let run = store.runs().of_work(work, &trace).await?;
            match self.look(Some(store)).await? {
                Ok(()) => {
                    run.finish(RunStatus::Success, None).await?;
                    store.work().complete(work).await
                }
                Err(error) => {
                    let class = FailureClass::WarehouseDown;
                    store.work().failed(work, &error, class).await
                }
            }
        }
        .instrument(span)
        .await
    }

    /// Surveys the data and has it served; only then `announce` hears of it.
    pub(crate) async fn look(
        &self,
        announce: Option<&Store>,
    ) -> Result<Result<(), String>, StoreError> {
        self.runner.forget();
        let outcome = survey(&self.model, &self.runner, &self.crowded)
            .await
            .map(Box::new)
            .map_err(|error| error.to_string());
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the data was not surveyed");
        }
        let ended = match &outcome {
            Ok(found) => Ok(found.catalog.cubes.len() as u64),
            Err(error) => Err(error.clone()),
        };
        let (served, serving) = oneshot::channel();
        let _ = self.myself.cast(MetricRegistryMsg::Surveyed {
            model: self.model.hash.clone(),
            outcome,
            served,
        });
        // An error means that the registry ended, and this task with it.
        let _ = serving.await;
        if let (Some(store), Ok(cubes)) = (announce, &ended) {
            let event = Event::MetricsRefreshed { cubes: *cubes };
            let trace = TraceContext::current();
            store.events().publish(event, trace).await?;
        }
        if let (Some(service), Some(store)) = (&self.tables, &self.owner)
            && let Err(error) = service.publish_tables(store.pool()).await
        {
            tracing::warn!(%error, "the catalogue does not show the cubes");
        }
        // Queries read the source until theirs is built.
        self.build_rollups().await?;
        Ok(ended.map(|_| ()))
    }
}

impl Refresh {
    async fn build_rollups(&self) -> Result<(), StoreError> {
        let Some(store) = &self.owner else {
            return Ok(());
        };
        let mut cubes = self.model.cubes.iter();
        if cubes.all(|cube| cube.pre_aggregations.is_empty()) {
            return Ok(());
        }
        // The event that this look is for may not have arrived here yet.
        self.results.versions.read(store).await?;
        let builder = Builder {
            model: &self.model,
            owner: store.pool(),
            runner: &self.runner,
            results: &self.results,
            now: self.clock.real_now(),
        };
        self.rollups.refresh(&builder).await;
        Ok(())
    }
}

/// Ends a waiting refresh as impossible and says why: there is no model to look with.
pub(crate) async fn refuse(
    store: &Store,
    reclaim: Option<Interruption>,
    error: &str,
) -> Result<Ended, StoreError> {
    let Some(work) = claim(store, reclaim).await? else {
        return Ok(Ended::Well);
    };
    let reason = format!("there is no data model to look with: {error}");
    let event = Event::MetricsRejected {
        error: error.to_owned(),
    };
    store.events().publish(event, work.trace.clone()).await?;
    store.runs().of_work(&work, &work.trace).await?;
    let class = FailureClass::DataModelBroken;
    store.work().failed(&work, &reason, class).await?;
    Ok(Ended::Refused)
}
