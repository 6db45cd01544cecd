//! The actor `transformer`.
//!
//! **In** rows of `ballpoint.work` of kind `build`, and edits of the project's files. **Out** one
//! transactional publish a row, and `BuildPublished` or `BuildFailed`. A row is completed after its
//! build is committed and its event written, so a crash repeats a build, which changes nothing.
//! A project whose edit does not parse keeps building as it was last good, and says where it is
//! wrong. It loads nothing and schedules nothing.

mod resident;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{Address, AddressError, Looks, Scope};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;

use crate::project::LoadOptions;
use resident::Resident;
use worker::{Worked, Worker};

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct TransformerArgs {
    pub store: Store,
    /// How the project is read; an edit is read the same way.
    pub project: LoadOptions,
    /// Its business time is given to each build as the variable `business_now`.
    pub clock: Clock,
}

/// What the actor is told.
#[derive(Debug)]
pub enum TransformerMsg {
    /// Look for a queued build, and for edits of the project.
    Look,
    /// A look ended, with or without a build; `None` when it panicked.
    Looked(Option<Box<Worked>>),
    /// What it serves and has done.
    Describe {
        reply: RpcReplyPort<TransformerStatus>,
    },
}

/// What the transformer has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransformerStatus {
    pub project_dir: PathBuf,
    pub models: usize,
    pub tests: usize,
    pub building: bool,
    pub published: u64,
    pub unchanged: u64,
    pub failed: u64,
    /// How long the latest build took.
    pub build_ms: Option<u64>,
    /// dbt's names of what the latest build failed at; empty once one is published.
    pub failing: Vec<String>,
    /// File, line and reason why the project as it stands on disk is not the one that is built.
    pub project_error: Option<String>,
    /// Why the latest look could not be carried out.
    pub last_error: Option<String>,
}

/// The only way in.
#[derive(Clone, Debug)]
pub struct TransformerHandle {
    address: Address<TransformerMsg>,
}

impl TransformerHandle {
    /// The transformer of that scope.
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, Transformer::NAME),
        }
    }

    /// What it serves and has done.
    ///
    /// # Errors
    /// When it is not running, or does not answer, within `timeout`.
    pub async fn describe(&self, timeout: Duration) -> Result<TransformerStatus, AddressError> {
        self.address
            .call(|reply| TransformerMsg::Describe { reply }, timeout)
            .await
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct Transformer;

impl Transformer {
    /// Its name in the supervision tree.
    pub const NAME: &'static str = "transformer";
}

/// One incarnation's state; dropping it ends its listener and rolls back its build.
#[derive(Debug)]
pub struct TransformerState {
    myself: ActorRef<TransformerMsg>,
    worker: Arc<Worker>,
    status: TransformerStatus,
    looks: Looks,
}

impl Actor for Transformer {
    type Msg = TransformerMsg;
    type State = TransformerState;
    type Arguments = TransformerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let looks = Looks::default();
        let wake = args.store.work().subscribe(worker::KIND);
        looks.ask_when(wake, myself.clone(), || TransformerMsg::Look);
        let project_dir = args.project.project_dir.clone();
        let resident = Resident::new(args.project.clone());
        Ok(TransformerState {
            myself,
            worker: Arc::new(Worker::new(args, resident, looks.incarnation_ends())),
            status: TransformerStatus {
                project_dir,
                ..TransformerStatus::default()
            },
            looks,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TransformerMsg::Look => state.on_look(),
            TransformerMsg::Looked(worked) => state.on_looked(*worked.ok_or("a look panicked")?),
            TransformerMsg::Describe { reply } => state.on_describe(reply),
        }
        Ok(())
    }
}

impl TransformerState {
    fn on_look(&mut self) {
        let worker = self.worker.clone();
        let look = async move { worker.look().await };
        self.looks.start(&self.myself, look, |worked| {
            TransformerMsg::Looked(worked.flatten().map(Box::new))
        });
    }

    fn on_looked(&mut self, worked: Worked) {
        let mut again = self.looks.ended();
        self.status.last_error = worked.error;
        if let Some(project) = worked.project {
            self.status.models = project.models;
            self.status.tests = project.tests;
            self.status.project_error = project.error;
        }
        if let Some(build) = worked.build {
            self.status.published += u64::from(build.published);
            self.status.unchanged += u64::from(build.unchanged);
            self.status.failed += u64::from(!build.published && !build.unchanged);
            self.status.build_ms = Some(build.elapsed_ms);
            self.status.failing = build.failing;
            again = true;
        }
        if again {
            self.on_look();
        }
    }

    fn on_describe(&self, reply: RpcReplyPort<TransformerStatus>) {
        let status = TransformerStatus {
            building: self.worker.is_building(),
            ..self.status.clone()
        };
        // A caller that no longer waits needs no answer.
        let _ = reply.send(status);
    }
}
