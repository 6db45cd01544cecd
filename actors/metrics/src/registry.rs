//! The metric registry: which model is served, and what its data looks like.
//!
//! **In**: work rows `refresh_metrics`, changes of the model's files, queries for the present state.
//! **Out**: [`Event::MetricsRefreshed`], [`Event::MetricsRejected`]; a [`Service`] for each caller.
//! A broken model file keeps the last good model. Queries themselves run in the caller's task with
//! the state they got, so a restart of this actor fails none of them: the state is made of files
//! and tables and is there again within milliseconds. It enqueues nothing and writes no data.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use crate::execute::Runner;
use crate::model::Model;
use crate::refresh::Refresh;
use crate::service::{STATEMENT_TIMEOUT, Service, Snapshot};
use crate::survey::{Survey, catalog};

/// The actor's name in its scope.
pub const NAME: &str = "metric_registry";

/// A refresh of a large warehouse looks at every dimension once.
const LEASE: Duration = Duration::from_secs(600);

/// What the registry works with.
#[derive(Clone)]
pub struct MetricRegistryArgs {
    /// The folder (or file) of the data model.
    pub path: PathBuf,
    /// The warehouse.
    pub pool: PgPool,
    /// Work rows and events; without it only files are watched.
    pub store: Option<Store>,
    pub clock: Clock,
    pub statement_timeout: Duration,
    /// How often the model's files are looked at.
    pub files_every: Duration,
}

impl MetricRegistryArgs {
    /// The usual time-outs.
    pub fn new(path: impl Into<PathBuf>, pool: PgPool, store: Option<Store>, clock: Clock) -> Self {
        Self {
            path: path.into(),
            pool,
            store,
            clock,
            statement_timeout: STATEMENT_TIMEOUT,
            files_every: Duration::from_secs(1),
        }
    }
}

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
        outcome: Result<Arc<Model>, String>,
        fingerprint: Fingerprint,
    },
    /// A task surveyed the data, and carried out `work` with that.
    Surveyed {
        model: String,
        outcome: Result<Box<Survey>, String>,
    },
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

/// Names, sizes and times of the model's files.
pub type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct MetricRegistry;

/// What one incarnation knows.
pub struct MetricRegistryState {
    args: MetricRegistryArgs,
    runner: Arc<Runner>,
    snapshot: Option<Arc<Snapshot>>,
    rejected: Option<String>,
    fingerprint: Fingerprint,
    crowded: HashSet<String>,
    reading: bool,
    refreshing: bool,
    /// Callers that came before the first model was read.
    waiting: Vec<RpcReplyPort<Result<Service, String>>>,
    stopped: CancellationToken,
    _stop: DropGuard,
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
        let stopped = CancellationToken::new();
        Ok(MetricRegistryState {
            runner: Arc::new(Runner::new(args.pool.clone(), args.statement_timeout)),
            args,
            snapshot: None,
            rejected: None,
            fingerprint: Fingerprint::new(),
            crowded: HashSet::new(),
            reading: false,
            refreshing: false,
            waiting: Vec::new(),
            _stop: stopped.clone().drop_guard(),
            stopped,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.on_check_files(&myself);
        state.watch(&myself);
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
            MetricRegistryMsg::ModelRead {
                outcome,
                fingerprint,
            } => {
                state.on_model_read(&myself, outcome, fingerprint);
            }
            MetricRegistryMsg::Surveyed { model, outcome } => {
                state.on_surveyed(&myself, &model, outcome);
            }
        }
        Ok(())
    }
}

impl MetricRegistryState {
    /// Wakes the actor for work and for its files, as long as it lives.
    fn watch(&self, myself: &ActorRef<MetricRegistryMsg>) {
        if let Some(store) = self.args.store.clone() {
            let (myself, stopped) = (myself.clone(), self.stopped.clone());
            let mut wake = store.work().subscribe(WorkKind::RefreshMetrics.name());
            tokio::spawn(stopped.run_until_cancelled_owned(async move {
                // What runs at this moment belongs to a predecessor.
                let kind = WorkKind::RefreshMetrics.name();
                if let Err(error) = store.work().reclaim(kind, "").await {
                    tracing::warn!(%error, "work of a former incarnation waits for its lease");
                }
                while myself.cast(MetricRegistryMsg::ClaimWork).is_ok() {
                    wake.wait().await;
                }
            }));
        }
        let (myself, every) = (myself.clone(), self.args.files_every);
        tokio::spawn(self.stopped.clone().run_until_cancelled_owned(async move {
            while myself.cast(MetricRegistryMsg::CheckFiles).is_ok() {
                tokio::time::sleep(every).await;
            }
        }));
    }

    /// Reads the model's files when they are not those that were read last.
    fn on_check_files(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        if self.reading {
            return;
        }
        self.reading = true;
        let (path, known) = (self.args.path.clone(), self.fingerprint.clone());
        let (myself, served) = (myself.clone(), self.snapshot.clone());
        tokio::task::spawn_blocking(move || {
            let fingerprint = fingerprint(&path);
            let outcome = match served {
                Some(snapshot) if fingerprint == known => Ok(Arc::clone(&snapshot.model)),
                _ => Model::load(&path)
                    .map(Arc::new)
                    .map_err(|error| error.to_string()),
            };
            let _ = myself.cast(MetricRegistryMsg::ModelRead {
                outcome,
                fingerprint,
            });
        });
    }

    fn on_model_read(
        &mut self,
        myself: &ActorRef<MetricRegistryMsg>,
        outcome: Result<Arc<Model>, String>,
        fingerprint: Fingerprint,
    ) {
        self.reading = false;
        let changed = self.fingerprint != fingerprint;
        self.fingerprint = fingerprint;
        match outcome {
            Ok(model) => {
                self.rejected = None;
                let same = self
                    .snapshot
                    .as_ref()
                    .is_some_and(|s| s.model.hash == model.hash);
                if !same {
                    self.serve(model);
                    self.start_refresh(myself);
                }
            }
            Err(error) if changed || self.rejected.is_none() => self.reject(&error),
            Err(_) => {}
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
        self.snapshot = Some(Arc::new(Snapshot {
            model,
            catalog: Arc::new(catalog),
            coverage: before.coverage.clone(),
            data_version: before.data_version,
            refreshed: before.refreshed,
        }));
    }

    fn reject(&mut self, error: &str) {
        let first = error.lines().next().unwrap_or_default().to_owned();
        tracing::warn!(error = %error, "the data model was not read; the last good one stays");
        self.rejected = Some(first.clone());
        if let Some(store) = self.args.store.clone() {
            let trace = TraceContext::current();
            tokio::spawn(async move {
                let event = Event::MetricsRejected { error: first };
                if let Err(error) = store.events().publish(event, trace).await {
                    tracing::warn!(%error, "the rejected model was not recorded");
                }
            });
        }
    }

    fn on_get_service(&mut self, reply: RpcReplyPort<Result<Service, String>>) {
        if self.snapshot.is_none() && self.rejected.is_none() {
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
        })
    }

    /// Carries out a waiting `refresh_metrics` row, one at a time.
    fn on_claim_work(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        let (Some(store), Some(snapshot)) = (self.args.store.clone(), self.snapshot.clone()) else {
            return;
        };
        if self.refreshing {
            return;
        }
        self.refreshing = true;
        let refresh = Refresh {
            model: Arc::clone(&snapshot.model),
            runner: Arc::clone(&self.runner),
            crowded: self.crowded.clone(),
            store: Some(store.clone()),
        };
        let myself = myself.clone();
        tokio::spawn(self.stopped.clone().run_until_cancelled_owned(async move {
            let kind = WorkKind::RefreshMetrics.name();
            let outcome = match store.work().claim(kind, "", LEASE).await {
                Ok(Some(work)) => refresh.carry_out(&work).await,
                Ok(None) => Err(String::new()),
                Err(error) => Err(error.to_string()),
            };
            let model = refresh.model.hash.clone();
            let _ = myself.cast(MetricRegistryMsg::Surveyed { model, outcome });
        }));
    }

    /// Looks at the data without a work row: the model is new.
    fn start_refresh(&mut self, myself: &ActorRef<MetricRegistryMsg>) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        self.refreshing = true;
        let refresh = Refresh {
            model: Arc::clone(&snapshot.model),
            runner: Arc::clone(&self.runner),
            crowded: self.crowded.clone(),
            store: self.args.store.clone(),
        };
        let myself = myself.clone();
        // The first look after a start is no news; a changed definition is.
        let announce = snapshot.data_version > 0;
        let span = tracing::info_span!("refresh_metrics", reason = "model");
        let task = async move {
            let outcome = refresh.look(announce).await;
            let model = refresh.model.hash.clone();
            let _ = myself.cast(MetricRegistryMsg::Surveyed { model, outcome });
        };
        tokio::spawn(
            self.stopped
                .clone()
                .run_until_cancelled_owned(task.instrument(span)),
        );
    }

    fn on_surveyed(
        &mut self,
        myself: &ActorRef<MetricRegistryMsg>,
        model: &str,
        outcome: Result<Box<Survey>, String>,
    ) {
        self.refreshing = false;
        let Some(before) = &self.snapshot else { return };
        match outcome {
            Ok(survey) if before.model.hash == model => {
                self.crowded.clone_from(&survey.crowded);
                self.runner.forget();
                let refreshed = self.args.clock.real_now();
                let model = Arc::clone(&before.model);
                self.snapshot = Some(Arc::new(Snapshot::surveyed(model, *survey, refreshed)));
            }
            // The model changed meanwhile: look again with the new one.
            Ok(_) => self.start_refresh(myself),
            Err(error) if error.is_empty() => {}
            Err(error) => tracing::warn!(%error, "the data was not surveyed"),
        }
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
            refreshing: self.refreshing,
        }
    }
}

fn fingerprint(path: &Path) -> Fingerprint {
    let mut found = Fingerprint::new();
    let mut pending = vec![path.to_path_buf()];
    while let Some(next) = pending.pop() {
        let Ok(metadata) = std::fs::metadata(&next) else {
            continue;
        };
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&next).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        } else {
            found.push((next, metadata.len(), metadata.modified().ok()));
        }
    }
    found.sort();
    found
}
