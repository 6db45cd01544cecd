//! The metric registry: which model is served, and what its data looks like.
//!
//! **In**: work rows `refresh_metrics`, changes of the model's files, queries for the present state.
//! **Out**: [`Event::MetricsRefreshed`], [`Event::MetricsRejected`]; a [`Service`] for each caller.
//! A broken model file keeps the last good model. Queries themselves run in the caller's task with
//! the state they got, so a restart of this actor fails none of them: the state is made of files
//! and tables, and who asks before both were looked at waits for it, so that a restart changes no
//! answer. It enqueues nothing and writes no data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::files::FileStamps;
use ballpoint_runtime::store::Interruption;
use ballpoint_runtime::supervision::Looks;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::args::MetricRegistryArgs;
use crate::execute::Runner;
use crate::model::Model;
use crate::refresh::{self, Ended, Refresh};
use crate::results::Results;
use crate::rollups::Rollups;
use crate::served::Collected;
use crate::service::{Service, Snapshot};
use crate::standing::Stand;
use crate::survey::{Survey, catalog};

/// The actor's name in its scope.
pub const NAME: &str = "metric_registry";

/// How long callers wait for the first look at the data. A warehouse that is slower than this, or
/// away, leaves them with what the model alone says.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);

/// Messages of the registry.
pub enum MetricRegistryMsg {
    /// Work may be waiting.
    ClaimWork,
    /// The model's files may have changed.
    CheckFiles,
    /// What to answer queries with; an error while no model could be read yet.
    GetService {
        reply: RpcReplyPort<Result<Service, String>>,
    },
    /// What the registry is doing.
    Describe {
        reply: RpcReplyPort<MetricRegistryStatus>,
    },
    /// A task read the model.
    ModelRead {
        /// `None` when the files are those that were read last.
        outcome: Option<Result<Arc<Model>, String>>,
        stamps: FileStamps,
    },
    /// A task surveyed the data; it goes on once that is served.
    Surveyed {
        model: String,
        outcome: Result<Box<Survey>, String>,
        served: oneshot::Sender<()>,
    },
    /// The same task, or one that found no work, ended.
    RefreshEnded { ended: Ended },
    /// The first look at the data takes too long for those who wait for it.
    AnswerWaiting,
    /// Rows changed of which no event told.
    RollupsOld,
}

/// The registry's state as it is shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetricRegistryStatus {
    pub cubes: usize,
    pub members: usize,
    pub model_hash: Option<String>,
    pub data_version: u64,
    /// Why the files on disk are not what is served.
    pub rejected: Option<String>,
    pub refreshing: bool,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct MetricRegistry;

/// What one incarnation knows.
pub struct MetricRegistryState {
    /// Dropped first: what was handed out does not outlive those who follow the tables' versions.
    stand: Stand,
    args: MetricRegistryArgs,
    runner: Arc<Runner>,
    results: Arc<Results>,
    rollups: Arc<Rollups>,
    snapshot: Option<Arc<Snapshot>>,
    rejected: Option<String>,
    stamps: Option<FileStamps>,
    crowded: HashSet<String>,
    reading: bool,
    looks: Looks,
    /// Work may be running that nobody works on: a predecessor's, or one whose end was not recorded.
    reclaim: Option<Interruption>,
    /// A refresh was refused, or the files were rejected: the next look is news.
    refused: bool,
    /// The hash of the model whose data was looked at last, in vain or not.
    looked_with: Option<String>,
    /// Whether callers wait for the first look.
    patient: bool,
    /// Callers that came before the model was read and its data looked at.
    waiting: Vec<RpcReplyPort<Result<Service, String>>>,
}

impl Actor for MetricRegistry {
    type Msg = MetricRegistryMsg;
    type State = MetricRegistryState;
    type Arguments = MetricRegistryArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(MetricRegistryState {
            stand: Stand::default(),
            runner: Arc::new(Runner::new(args.pool.clone(), args.statement_timeout)),
            results: Arc::default(),
            rollups: Arc::default(),
            args,
            snapshot: None,
            rejected: None,
            stamps: None,
            crowded: HashSet::new(),
            reading: false,
            looks: Looks::default(),
            reclaim: Some(Interruption::Restart),
            refused: false,
            looked_with: None,
            patient: true,
            waiting: Vec::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.on_check_files(&myself);
        state.watch(&myself);
        myself.send_after(FIRST_LOOK_MAX, || MetricRegistryMsg::AnswerWaiting);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MetricRegistryMsg::ClaimWork => state.on_claim_work(&myself),
            MetricRegistryMsg::CheckFiles => state.on_check_files(&myself),
            MetricRegistryMsg::GetService { reply } => state.on_get_service(reply),
            MetricRegistryMsg::Describe { reply } => drop(reply.send(state.describe())),
            MetricRegistryMsg::ModelRead { outcome, stamps } => {
                state.on_model_read(&myself, outcome, stamps);
            }
            MetricRegistryMsg::Surveyed {
                model,
                outcome,
                served,
            } => {
                state.on_surveyed(model, outcome);
                // The task may have ended with its predecessor.
                let _ = served.send(());
            }
            MetricRegistryMsg::RefreshEnded { ended } => state.on_refresh_ended(&myself, &ended)?,
            MetricRegistryMsg::AnswerWaiting => {
                state.patient = false;
                state.answer_waiting();
            }
            MetricRegistryMsg::RollupsOld => state.start_refresh(&myself),
        }
        Ok(())
    }
}

impl MetricRegistryState {
    /// Wakes the actor for work and for its files, as long as it lives.
    fn watch(&self, myself: &ActorRef<MetricRegistryMsg>) {
        if let Some(store) = &self.args.store {
            let wake = store.work().subscribe(WorkKind::RefreshMetrics.name());
            let ask = || MetricRegistryMsg::ClaimWork;
            self.looks.ask_when(wake, myself.clone(), ask);
            let versions = Arc::clone(&self.results.versions);
            self.looks.spawn(versions.follow(store.clone()));
        }
        let old = self.rollups.found_old();
        self.looks
            .spawn(refresh::tell_of_old_rollups(old, myself.clone()));
        let (myself, every) = (myself.clone(), self.args.files_every);
        self.looks.spawn(async move {
            while myself.cast(MetricRegistryMsg::CheckFiles).is_ok() {
                tokio::time::sleep(every).await;
            }
        });
    }

    /// Reads the model's files when they are not those that were read last.
    fn on_check_files(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        if self.reading {
            return;
        }
        self.reading = true;
        // Without a model every look tries again: what failed may have been the disk.
        let known = self.stamps.clone().filter(|_| self.snapshot.is_some());
        let (path, myself) = (self.args.path.clone(), myself.clone());
        let granularities = self.args.custom_granularities;
        tokio::task::spawn_blocking(move || {
            let (outcome, stamps) = refresh::read_model(&path, granularities, known.as_ref());
            let _ = myself.cast(MetricRegistryMsg::ModelRead { outcome, stamps });
        });
    }

    fn on_model_read(
        &mut self,
        myself: &ActorRef<MetricRegistryMsg>,
        outcome: Option<Result<Arc<Model>, String>>,
        stamps: FileStamps,
    ) {
        self.reading = false;
        let changed = self.stamps.as_ref() != Some(&stamps);
        self.stamps = Some(stamps);
        match outcome {
            Some(Ok(model)) => {
                let mended = self.rejected.take().is_some();
                let hash = Some(&model.hash);
                let served = self.snapshot.as_ref();
                if served.map(|s| &s.model.hash) != hash {
                    self.refused |= mended;
                    self.serve(model);
                } else if mended {
                    // The last good text is back: no look follows that would say so.
                    let cubes = model.cubes.len() as u64;
                    self.publish(Event::MetricsRefreshed { cubes });
                }
            }
            Some(Err(error)) if changed || self.rejected.is_none() => self.reject(&error),
            Some(Err(_)) | None => {}
        }
        // A look that failed is tried again with each look at the files.
        let seen = |snapshot: &Arc<Snapshot>| {
            snapshot.data_version > 0 && self.looked_with.as_ref() == Some(&snapshot.model.hash)
        };
        if !self.looks.is_running() && !self.snapshot.as_ref().is_none_or(seen) {
            self.start_refresh(myself);
        }
        self.answer_waiting();
    }

    /// Whether callers have to wait: what they would get is not what a moment later they would.
    fn is_starting(&self) -> bool {
        let unseen = self.looked_with.is_none() && self.patient;
        match self.snapshot {
            None => self.rejected.is_none(),
            Some(_) => unseen,
        }
    }

    fn answer_waiting(&mut self) {
        if self.is_starting() {
            return;
        }
        let answer = self.service();
        for reply in self.waiting.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }

    /// Serves a model at once, with the values of the former one where they still belong.
    fn serve(&mut self, model: Arc<Model>) {
        let before = self.snapshot.take().unwrap_or_default();
        let mut catalog = catalog(&model);
        for dimension in catalog
            .cubes
            .iter_mut()
            .flat_map(|cube| &mut cube.dimensions)
        {
            if let Some(known) = before.catalog.member(&dimension.name) {
                dimension.values.clone_from(&known.values);
            }
        }
        self.crowded.clear();
        self.runner.forget();
        self.results.versions.moved();
        self.show(Snapshot {
            model,
            catalog: Arc::new(catalog),
            coverage: before.coverage.clone(),
            data_version: before.data_version,
            refreshed: before.refreshed,
        });
    }

    fn reject(&mut self, error: &str) {
        let first = error.lines().next().unwrap_or_default().to_owned();
        tracing::warn!(error = %error, "the data model was not read; the last good one stays");
        self.rejected = Some(first.clone());
        self.publish(Event::MetricsRejected { error: first });
    }

    /// Says what became of the model's files.
    fn publish(&self, event: Event) {
        let Some(store) = self.args.store.clone() else {
            return;
        };
        let trace = TraceContext::current();
        tokio::spawn(async move {
            if let Err(error) = store.events().publish(event, trace).await {
                tracing::warn!(%error, "what became of the data model was not recorded");
            }
        });
    }

    fn on_get_service(&mut self, reply: RpcReplyPort<Result<Service, String>>) {
        if self.is_starting() {
            self.waiting.push(reply);
            return;
        }
        let _ = reply.send(self.service());
    }

    fn service(&self) -> Result<Service, String> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Err(self
                .rejected
                .clone()
                .unwrap_or_else(|| "no model is loaded".to_owned()));
        };
        let (runner, clock) = (Arc::clone(&self.runner), self.args.clock.clone());
        Ok(Service {
            snapshot,
            runner,
            clock,
            results: Arc::clone(&self.results),
            rollups: Arc::clone(&self.rollups),
            lineage: self.args.lineage.clone(),
            collected: Collected::default(),
            standing: self.stand.standing(),
            source_only: false,
        })
    }

    /// From now on callers get this one.
    fn show(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(Arc::new(snapshot));
        self.stand = Stand::default();
    }

    /// Carries out a waiting `refresh_metrics` row, one at a time. Without a model it is refused:
    /// kept, it would look as if somebody were about to do it.
    fn on_claim_work(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        let Some(store) = self.args.store.clone() else {
            return;
        };
        let (refresh, rejected) = (self.refresh(myself), self.rejected.clone());
        if self.looks.is_running() || (refresh.is_none() && rejected.is_none()) {
            return;
        }
        let reclaim = self.reclaim.take();
        let task = async move {
            let Some(refresh) = refresh else {
                return refresh::refuse(&store, reclaim, &rejected.unwrap_or_default()).await;
            };
            if let Some(work) = refresh::claim(&store, reclaim).await? {
                refresh.carry_out(&store, &work).await?;
            }
            Ok(Ended::Well)
        };
        self.look(myself, refresh::recorded(task));
    }

    /// Looks at the data without a work row: the model is new.
    fn start_refresh(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        let Some(refresh) = self.refresh(myself) else {
            return;
        };
        // The first look after a start is no news; a changed definition is.
        let served = self.snapshot.as_ref().is_some_and(|s| s.data_version > 0);
        let news = served || std::mem::take(&mut self.refused);
        let store = self.args.store.clone().filter(|_| news);
        let span = tracing::info_span!("refresh_metrics", reason = "model");
        let task = async move {
            // Why it failed is logged; the next look at the files tries again.
            let _ = refresh.look(store.as_ref()).await?;
            Ok(Ended::Well)
        };
        self.look(myself, refresh::recorded(task).instrument(span));
    }

    fn refresh(&self, myself: &ActorRef<MetricRegistryMsg>) -> Option<Refresh> {
        let snapshot = self.snapshot.as_ref()?;
        Some(Refresh {
            myself: myself.clone(),
            model: Arc::clone(&snapshot.model),
            runner: Arc::clone(&self.runner),
            results: Arc::clone(&self.results),
            rollups: Arc::clone(&self.rollups),
            clock: self.args.clock.clone(),
            owner: self.args.store.clone(),
            tables: self.args.tables.then(|| self.service().ok()).flatten(),
            crowded: self.crowded.clone(),
        })
    }

    fn look(
        &mut self,
        myself: &ActorRef<MetricRegistryMsg>,
        look: impl Future<Output = Ended> + Send + 'static,
    ) {
        self.looks
            .start(myself, look, |ended| MetricRegistryMsg::RefreshEnded {
                ended: ended.unwrap_or(Ended::Panicked),
            });
    }

    /// Serves what a look found, unless the model changed meanwhile.
    fn on_surveyed(&mut self, model: String, outcome: Result<Box<Survey>, String>) {
        let before = self.snapshot.as_ref();
        if let (Ok(survey), Some(before)) = (outcome, before.filter(|s| s.model.hash == model)) {
            self.crowded.clone_from(&survey.crowded);
            self.runner.forget();
            let refreshed = self.args.clock.real_now();
            let model = Arc::clone(&before.model);
            self.show(Snapshot::surveyed(model, *survey, refreshed));
        }
        self.looked_with = Some(model);
        self.answer_waiting();
    }

    fn on_refresh_ended(
        &mut self,
        myself: &ActorRef<MetricRegistryMsg>,
        ended: &Ended,
    ) -> Result<(), ActorProcessingErr> {
        self.looks.ended();
        match ended {
            Ended::Well => {}
            Ended::Refused => self.refused = true,
            Ended::Unrecorded => self.reclaim = Some(Interruption::Unrecorded),
            Ended::Panicked => return Err("the look at the data panicked".into()),
        }
        let served = self.snapshot.as_ref().map(|s| &s.model.hash);
        if served.is_some() && served != self.looked_with.as_ref() {
            self.start_refresh(myself);
        }
        Ok(())
    }

    fn describe(&self) -> MetricRegistryStatus {
        let model = self.snapshot.as_ref().map(|snapshot| &snapshot.model);
        MetricRegistryStatus {
            cubes: model.map_or(0, |model| model.cubes.len()),
            members: model.map_or(0, |m| m.cubes.iter().map(|cube| cube.members.len()).sum()),
            model_hash: model.map(|model| model.hash.clone()),
            data_version: self
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.data_version),
            rejected: self.rejected.clone(),
            refreshing: self.looks.is_running(),
        }
    }
}
