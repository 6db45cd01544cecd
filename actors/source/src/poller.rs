//! The actor `source_watcher.<source>` of sources that are no databases.
//!
//! **In** its own timer. **Out** [`Event::SourceChanged`]: of a connector once an interval, because
//! nobody can tell whether its source has changed without reading it; of files when they are other than
//! those that the checkpoint stands for, and have been the same for a whole interval, so that a file is
//! not read while it is written. It keeps nothing that a restart needs.

use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{SourceReader, TableName};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::airbyte::AirbyteSource;
use crate::file::{FileSource, FileStamp};
use crate::watcher::{SourceWatcher, WatcherStatus};

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Polled {
    /// Read anew at each look.
    Connector(Arc<AirbyteSource>),
    /// Read when they are others.
    Files(Arc<FileSource>),
}

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct PollerArgs {
    pub source: Polled,
    pub store: Store,
    /// Between two looks; [`SourcePoller::CONNECTOR_INTERVAL`] and [`SourcePoller::FILE_INTERVAL`]
    /// where nothing is configured.
    pub interval: Duration,
}

/// What the actor is told.
#[derive(Debug)]
pub enum PollerMsg {
    /// Look at the source.
    Look,
    /// A look ended: the files that it saw, and whether they were announced.
    Looked {
        files: Vec<FileStamp>,
        outcome: Result<bool, String>,
    },
    /// What it has seen since it started.
    Describe { reply: RpcReplyPort<WatcherStatus> },
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct SourcePoller;

impl SourcePoller {
    /// A read of a connector is dear, and most of what it brings is known.
    pub const CONNECTOR_INTERVAL: Duration = Duration::from_secs(3600);
    /// Asking a folder for its files costs next to nothing.
    pub const FILE_INTERVAL: Duration = Duration::from_secs(1);

    /// Its name in the supervision tree.
    pub fn name(source: &str) -> String {
        SourceWatcher::name(source)
    }
}

/// One incarnation's state; dropping it ends the look that runs.
#[derive(Debug)]
pub struct PollerState {
    myself: ActorRef<PollerMsg>,
    source: Polled,
    store: Store,
    interval: Duration,
    /// As the last look saw them.
    seen: Vec<FileStamp>,
    /// As they were announced last: what fails is retried by whoever does it, not announced again.
    announced: Vec<FileStamp>,
    status: WatcherStatus,
    ended: CancellationToken,
    _guard: DropGuard,
}

impl Actor for SourcePoller {
    type Msg = PollerMsg;
    type State = PollerState;
    type Arguments = PollerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        PollerArgs {
            source,
            store,
            interval,
        }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ended = CancellationToken::new();
        let status = WatcherStatus {
            source: source.name().to_owned(),
            available: true,
            ..WatcherStatus::default()
        };
        Ok(PollerState {
            myself,
            source,
            store,
            interval,
            seen: Vec::new(),
            announced: Vec::new(),
            status,
            _guard: ended.clone().drop_guard(),
            ended,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // The first pass of the program reads everything; the first look comes after it.
        myself.send_after(state.interval, || PollerMsg::Look);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PollerMsg::Look => state.on_look(),
            PollerMsg::Looked { files, outcome } => state.on_looked(files, outcome),
            PollerMsg::Describe { reply } => {
                // Who asked may have given up.
                let _ = reply.send(state.status.clone());
            }
        }
        Ok(())
    }
}

impl PollerState {
    fn on_look(&mut self) {
        let (myself, source, store) =
            (self.myself.clone(), self.source.clone(), self.store.clone());
        let (seen, announced) = (self.seen.clone(), self.announced.clone());
        let look = async move {
            let (files, outcome) = source.look(&store, &seen, &announced).await;
            // Its actor may have ended in the same moment.
            let _ = myself.cast(PollerMsg::Looked { files, outcome });
        };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(look));
    }

    fn on_looked(&mut self, files: Vec<FileStamp>, outcome: Result<bool, String>) {
        self.status.looks += 1;
        self.status.tables = 1;
        match outcome {
            Ok(announced) => {
                if announced {
                    self.status.changes += 1;
                    self.announced.clone_from(&files);
                }
                self.status.available = true;
                self.status.last_error = None;
            }
            Err(error) => {
                if self.status.last_error.as_ref() != Some(&error) {
                    tracing::warn!(source = %self.status.source, %error, "the source cannot be looked at");
                }
                self.status.available = false;
                self.status.last_error = Some(error);
            }
        }
        self.seen = files;
        self.myself.send_after(self.interval, || PollerMsg::Look);
    }
}

impl Polled {
    fn name(&self) -> &str {
        match self {
            Self::Connector(source) => source.name(),
            Self::Files(source) => source.name(),
        }
    }

    /// The files now, and whether a change was announced.
    async fn look(
        &self,
        store: &Store,
        seen: &[FileStamp],
        announced: &[FileStamp],
    ) -> (Vec<FileStamp>, Result<bool, String>) {
        let source = match self {
            Self::Connector(_) => {
                return (Vec::new(), self.announce(store, Vec::new()).await);
            }
            Self::Files(source) => source,
        };
        let files = match source.stamps().await {
            Ok(files) => files,
            Err(error) => return (Vec::new(), Err(error.to_string())),
        };
        if files != seen || files == announced {
            return (files, Ok(false));
        }
        let table = source.table();
        let position = match store.checkpoints().get(source.name(), &table).await {
            Ok(position) => position,
            Err(error) => return (files, Err(error.to_string())),
        };
        if !source.has_news(&files, position.as_ref()) {
            return (files, Ok(false));
        }
        let told = self.announce(store, vec![table]).await;
        (files, told)
    }

    /// The trace of everything that follows from this change begins here. No table: all of them.
    async fn announce(&self, store: &Store, tables: Vec<TableName>) -> Result<bool, String> {
        let source = self.name().to_owned();
        let span = tracing::info_span!(parent: None, "source.changed", %source);
        let trace = span.in_scope(TraceContext::current);
        let event = Event::SourceChanged { source, tables };
        match store.events().publish(event, trace).await {
            Ok(_) => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    }
}
