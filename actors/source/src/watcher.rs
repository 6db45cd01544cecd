//! The actor `source_watcher.<source>`.
//!
//! **In** its own timer. **Out** [`Event::SourceChanged`] when tables moved past their checkpoints,
//! with the trace that begins there; [`Event::SourceUnavailable`] once when the source stops answering
//! and [`Event::SourceRecovered`] once when it answers again. A change is announced again only when its
//! sync has not moved the checkpoint in good time, so a lost event costs seconds. It keeps nothing that
//! a restart needs: where the tables stand is in the loader's checkpoints. It neither reads tables nor
//! schedules.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::SourceReader;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::TraceContext;
use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::reader::PostgresSource;
use crate::watch::{Seen, Watch, WatchError};

/// The first retry of a source that does not answer; each later one waits twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How far back the last word of a predecessor about the source is looked for.
const PREDECESSOR_EVENTS: u32 = 1000;

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct WatcherArgs {
    pub source: Arc<PostgresSource>,
    pub store: Store,
    /// Between two looks; [`SourceWatcher::INTERVAL`] notices a row well within a second.
    pub interval: Duration,
}

/// What the actor is told.
#[derive(Debug)]
pub enum WatcherMsg {
    /// Look at the source.
    Look,
    /// A look ended; the watch comes back, or is lost to a panic.
    Looked {
        watch: Option<Box<Watch>>,
        outcome: Result<Seen, WatchError>,
    },
    /// What it has seen since it started.
    Describe { reply: RpcReplyPort<WatcherStatus> },
}

/// What a watcher has seen since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatcherStatus {
    pub source: String,
    pub available: bool,
    pub tables: usize,
    pub looks: u64,
    pub changes: u64,
    /// Why the latest look failed, if it did.
    pub last_error: Option<String>,
}

/// The only way in.
#[derive(Clone, Debug)]
pub struct WatcherHandle {
    address: Address<WatcherMsg>,
}

impl WatcherHandle {
    /// The watcher of `source` in that scope.
    pub fn new(scope: &Scope, source: &str) -> Self {
        Self {
            address: Address::new(scope, &SourceWatcher::name(source)),
        }
    }

    /// What it has seen since it started.
    ///
    /// # Errors
    /// When it is not running, or does not answer, within `timeout`.
    pub async fn describe(&self, timeout: Duration) -> Result<WatcherStatus, AddressError> {
        self.address
            .call(|reply| WatcherMsg::Describe { reply }, timeout)
            .await
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct SourceWatcher;

impl SourceWatcher {
    /// Between two looks, unless told otherwise.
    pub const INTERVAL: Duration = Duration::from_millis(200);

    /// Its name in the supervision tree.
    pub fn name(source: &str) -> String {
        format!("source_watcher.{source}")
    }
}

/// One incarnation's state; dropping it ends the look that runs.
#[derive(Debug)]
pub struct WatcherState {
    myself: ActorRef<WatcherMsg>,
    store: Store,
    interval: Duration,
    /// Away while a look runs.
    watch: Option<Box<Watch>>,
    /// Looks in a row that the source did not answer.
    failures: u32,
    /// What was told of the source last; `None` while nobody knows what a predecessor told.
    told: Option<bool>,
    status: WatcherStatus,
    ended: CancellationToken,
    _guard: DropGuard,
}

impl Actor for SourceWatcher {
    type Msg = WatcherMsg;
    type State = WatcherState;
    type Arguments = WatcherArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        WatcherArgs {
            source,
            store,
            interval,
        }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ended = CancellationToken::new();
        let status = WatcherStatus {
            source: source.name().to_owned(),
            ..Default::default()
        };
        Ok(WatcherState {
            myself,
            watch: Some(Box::new(Watch::new(source, store.clone()))),
            store,
            interval,
            failures: 0,
            told: None,
            status,
            _guard: ended.clone().drop_guard(),
            ended,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        myself.cast(WatcherMsg::Look)?;
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WatcherMsg::Look => state.on_look(),
            WatcherMsg::Looked { watch, outcome } => state.on_looked(watch, outcome)?,
            WatcherMsg::Describe { reply } => state.on_describe(reply),
        }
        Ok(())
    }
}

impl WatcherState {
    fn on_look(&mut self) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        let myself = self.myself.clone();
        let look = async move {
            let looking = AssertUnwindSafe(watch.look()).catch_unwind().await;
            let looked = match looking {
                Ok(outcome) => WatcherMsg::Looked {
                    watch: Some(watch),
                    outcome,
                },
                Err(_) => WatcherMsg::Looked {
                    watch: None,
                    outcome: Ok(Seen::default()),
                },
            };
            // Its actor may have ended in the same moment.
            let _ = myself.cast(looked);
        };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(look));
    }

    fn on_looked(
        &mut self,
        watch: Option<Box<Watch>>,
        outcome: Result<Seen, WatchError>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(watch) = watch else {
            return Err("the look at the source panicked".into());
        };
        self.watch = Some(watch);
        self.status.looks += 1;
        let pause = match outcome {
            Ok(seen) => self.answered(&seen),
            Err(WatchError::Source(error)) => self.unanswered(error.to_string()),
            Err(WatchError::Store(error)) => {
                self.note("the warehouse cannot be asked for now", error.to_string());
                BACKOFF_MIN
            }
        };
        self.myself.send_after(pause, || WatcherMsg::Look);
        Ok(())
    }

    fn answered(&mut self, seen: &Seen) -> Duration {
        self.failures = 0;
        self.status.tables = seen.tables;
        self.status.changes += u64::from(seen.changed);
        self.status.last_error = None;
        self.status.available = true;
        let recovered = Event::SourceRecovered {
            source: self.status.source.clone(),
        };
        match self.told.replace(true) {
            Some(true) => {}
            Some(false) => self.publish(recovered),
            None => self.mend_predecessor(recovered),
        }
        self.interval
    }

    /// Backs off, with jitter so that watchers of one server do not return all at once.
    fn unanswered(&mut self, error: String) -> Duration {
        let doubled = BACKOFF_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_MAX);
        let pause = doubled.mul_f64(rand::random_range(0.8..1.2));
        self.failures += 1;
        self.note("the source does not answer", error.clone());
        self.status.available = false;
        if self.told.replace(false) != Some(false) {
            self.publish(Event::SourceUnavailable {
                source: self.status.source.clone(),
                error,
                retry_in_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            });
        }
        pause
    }

    /// Logs a reason once, until it changes.
    fn note(&mut self, what: &str, error: String) {
        if self.status.last_error.as_ref() != Some(&error) {
            tracing::warn!(source = %self.status.source, %error, "{what}");
        }
        self.status.last_error = Some(error);
    }

    /// Takes back what a predecessor told last, if that was that the source is away.
    fn mend_predecessor(&self, recovered: Event) {
        let (store, name) = (self.store.clone(), self.status.source.clone());
        tokio::spawn(async move {
            let told = match store.events().recent(PREDECESSOR_EVENTS, 0).await {
                Ok(events) => events.into_iter().rev().find_map(|told| match told.event {
                    Event::SourceUnavailable { source, .. } if source == name => Some(false),
                    Event::SourceRecovered { source } if source == name => Some(true),
                    _ => None,
                }),
                // Telling once too often costs nothing.
                Err(_) => Some(false),
            };
            if told == Some(false) {
                publish(&store, recovered).await;
            }
        });
    }

    fn publish(&self, event: Event) {
        let store = self.store.clone();
        tokio::spawn(async move { publish(&store, event).await });
    }

    fn on_describe(&self, reply: RpcReplyPort<WatcherStatus>) {
        // Who asked may have given up.
        let _ = reply.send(self.status.clone());
    }
}

async fn publish(store: &Store, event: Event) {
    if let Err(error) = store.events().publish(event, TraceContext::default()).await {
        tracing::warn!(%error, "an event about a source could not be written");
    }
}

#[cfg(test)]
mod tests;
