//! The actor `orchestrator`.
//!
//! **In** every announced event, a poll for those whose announcement was missed, and the business
//! clock. **Out** rows of `ballpoint.work`, incidents, and messages to a webhook. Each event is
//! handled once, whatever restarts: the event's mark and its command are one transaction, and the
//! actor's own state is only what it shows. At each poll it also fires the schedules that are due,
//! holds the sources against their freshness limits and announces incidents. Once an hour it prunes
//! history. It runs no stage and retries none: a command's retries are the queue's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::{Configured, RecordedEvent, Store, StoreError};
use ballpoint_runtime::supervision::{Address, AddressError, Looks, Scope};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::alerts::{self, AlertConfig};
use crate::decide::Stages;
use crate::fires::{self, ScheduleSpec};
use crate::freshness::{self, FreshnessLimits};
use crate::pending::{Enqueued, enqueue_pending};

/// How long an event whose announcement was missed can wait.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often leases that ran out are looked for. An actor takes back its own work; this is for one
/// that cannot.
const LEASES_INTERVAL: Duration = Duration::from_secs(10);

/// How often history that is kept no longer is pruned; the program does so at its start too.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct OrchestratorArgs {
    pub store: Store,
    pub clock: Clock,
    pub duties: Duties,
}

/// What the configuration asks of the orchestrator.
#[derive(Clone, Debug, Default)]
pub struct Duties {
    pub stages: Stages,
    /// Every source: what a schedule syncs.
    pub sources: Vec<String>,
    pub schedules: Vec<ScheduleSpec>,
    /// By source.
    pub freshness: BTreeMap<String, FreshnessLimits>,
    /// Absent: incidents are kept and shown, and nobody is told.
    pub alerts: Option<AlertConfig>,
}

/// What the actor is told.
#[derive(Debug)]
pub enum OrchestratorMsg {
    /// Look for events that nobody has handled.
    Look,
    /// The same, and see to what time brings.
    Tick,
    /// A look ended; `None` when it panicked. Whether the configuration stands in the tables now.
    Looked(Option<Result<(Enqueued, bool), StoreError>>),
    /// What it has done since it started.
    Describe {
        reply: RpcReplyPort<OrchestratorStatus>,
    },
}

/// What the orchestrator has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrchestratorStatus {
    pub events_handled: u64,
    pub commands_enqueued: u64,
    /// Why the latest look failed, if it did. It is tried again within a second.
    pub last_error: Option<String>,
}

/// The only way in.
#[derive(Clone, Debug)]
pub struct OrchestratorHandle {
    address: Address<OrchestratorMsg>,
}

impl OrchestratorHandle {
    /// The orchestrator of that scope.
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, Orchestrator::NAME),
        }
    }

    /// What it has done since it started.
    ///
    /// # Errors
    /// When it is not running, or does not answer, within `timeout`.
    pub async fn describe(&self, timeout: Duration) -> Result<OrchestratorStatus, AddressError> {
        self.address
            .call(|reply| OrchestratorMsg::Describe { reply }, timeout)
            .await
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct Orchestrator;

impl Orchestrator {
    /// Its name in the supervision tree.
    pub const NAME: &'static str = "orchestrator";
}

/// One incarnation's state; dropping it ends its tasks.
#[derive(Debug)]
pub struct OrchestratorState {
    myself: ActorRef<OrchestratorMsg>,
    store: Store,
    clock: Clock,
    duties: Arc<Duties>,
    /// The next look also sees to what time brings.
    ticked: bool,
    /// What the configuration says was written to the tables.
    declared: bool,
    status: OrchestratorStatus,
    looks: Looks,
}

impl Actor for Orchestrator {
    type Msg = OrchestratorMsg;
    type State = OrchestratorState;
    type Arguments = OrchestratorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        OrchestratorArgs {
            store,
            clock,
            duties,
        }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let looks = Looks::default();
        // Subscribed before the first look: nothing falls between the two.
        let events = store.events().subscribe();
        looks.spawn(prune(store.clone()));
        looks.spawn(release_expired(store.clone()));
        looks.spawn(listen(events, myself.clone()));
        if let Some(alerts) = &duties.alerts {
            looks.spawn(alerts::deliver(store.clone(), alerts.clone()));
        }
        Ok(OrchestratorState {
            myself,
            store,
            clock,
            duties: Arc::new(duties),
            ticked: false,
            declared: false,
            status: OrchestratorStatus::default(),
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
            OrchestratorMsg::Look => state.on_look(),
            OrchestratorMsg::Tick => {
                state.ticked = true;
                state.on_look();
            }
            OrchestratorMsg::Looked(outcome) => state.on_looked(outcome)?,
            OrchestratorMsg::Describe { reply } => state.on_describe(reply),
        }
        Ok(())
    }
}

impl OrchestratorState {
    fn on_look(&mut self) {
        if self.looks.is_running() {
            self.looks.want();
            return;
        }
        let tick = std::mem::take(&mut self.ticked).then_some(!self.declared);
        let (store, clock, duties) = (
            self.store.clone(),
            self.clock.clone(),
            Arc::clone(&self.duties),
        );
        let look = async move { look(&store, &clock, &duties, tick).await };
        self.looks
            .start(&self.myself, look, OrchestratorMsg::Looked);
    }

    fn on_looked(
        &mut self,
        outcome: Option<Result<(Enqueued, bool), StoreError>>,
    ) -> Result<(), ActorProcessingErr> {
        let again = self.looks.ended();
        match outcome.ok_or("a look for events panicked")? {
            Ok((enqueued, declared)) => {
                self.declared |= declared;
                self.status.events_handled += enqueued.events;
                self.status.commands_enqueued += enqueued.commands;
                self.status.last_error = None;
            }
            Err(error) => {
                let error = in_one_line(&error);
                // Once for each new reason: the poll tries every second.
                if self.status.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "events cannot be handled for now");
                }
                self.status.last_error = Some(error);
            }
        }
        if again {
            self.on_look();
        }
        Ok(())
    }

    fn on_describe(&self, reply: RpcReplyPort<OrchestratorStatus>) {
        // Who asked may have given up.
        let _ = reply.send(self.status.clone());
    }
}

/// One look. With a `tick` it also sees to what time brings; the first one declares to the tables what
/// the configuration says.
async fn look(
    store: &Store,
    clock: &Clock,
    duties: &Duties,
    tick: Option<bool>,
) -> Result<(Enqueued, bool), StoreError> {
    let done = enqueue_pending(store, duties.stages, clock).await?;
    let Some(first) = tick else {
        return Ok((done, false));
    };
    let now = clock.business_now();
    if first {
        store.freshness().declare(&duties.sources, now).await?;
        let limited: Vec<String> = duties.freshness.keys().cloned().collect();
        let configured = Configured {
            sources: &duties.sources,
            limited: &limited,
            write_backs: duties.stages.write_backs,
        };
        store.incidents().end_of_what_is_gone(configured).await?;
        fires::declare(store, &duties.schedules, now).await?;
    }
    fires::fire_due(store, &duties.schedules, &duties.sources, now).await?;
    fires::advance(store, duties.stages).await?;
    freshness::check(store, &duties.freshness, now).await?;
    store.incidents().end_by_quiet_build().await?;
    if let Some(alerts) = &duties.alerts {
        alerts::announce(store, alerts).await?;
    }
    Ok((done, true))
}

/// Asks for a look at each event, also at one that asks for nothing: it is open until it is marked.
/// Looks coalesce. Asks at each poll too.
async fn listen(
    mut events: broadcast::Receiver<RecordedEvent>,
    orchestrator: ActorRef<OrchestratorMsg>,
) {
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    loop {
        let message = tokio::select! {
            _ = poll.tick() => OrchestratorMsg::Tick,
            received = events.recv() => {
                if matches!(received, Err(broadcast::error::RecvError::Closed)) {
                    return;
                }
                OrchestratorMsg::Look
            }
        };
        if orchestrator.cast(message).is_err() {
            return;
        }
    }
}

/// Queues work again whose worker let its lease run out, for as long as the actor lives.
async fn release_expired(store: Store) {
    loop {
        tokio::time::sleep(LEASES_INTERVAL).await;
        if let Err(error) = store.work().release_expired().await {
            tracing::warn!(error = %in_one_line(&error), "expired leases could not be looked at");
        }
    }
}

/// Prunes history for as long as the actor lives. A prune that fails is made up for by the next.
async fn prune(store: Store) {
    loop {
        tokio::time::sleep(PRUNE_INTERVAL).await;
        if let Err(error) = store.prune().await {
            tracing::warn!(error = %in_one_line(&error), "history could not be pruned");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ballpoint_postgres::testing::TestDatabase;
    use ballpoint_runtime::event::Event;
    use ballpoint_runtime::store::ClaimedWork;
    use ballpoint_runtime::supervision::{ActorSpec, Strategy, SupervisorSpec, Tree, TreeHandle};
    use ballpoint_runtime::trace::TraceContext;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    async fn start(store: &Store) -> TreeHandle {
        let args = OrchestratorArgs {
            store: store.clone(),
            clock: Clock::system(),
            duties: Duties {
                stages: Stages {
                    transform: true,
                    metrics: true,
                    write_backs: true,
                },
                ..Duties::default()
            },
        };
        let spec = ActorSpec::new(Orchestrator::NAME, Orchestrator, move || args.clone());
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
        Tree::start(Scope::unique(), root, None).await.unwrap()
    }

    async fn publish_build(store: &Store) {
        let event = Event::BuildPublished {
            run_id: "1".into(),
            relations: vec![],
            tests_passed: 1,
            absent: vec![],
        };
        store
            .events()
            .publish(event, TraceContext::default())
            .await
            .unwrap();
    }

    /// Waits for the refresh that a published build asks for, and says how long it took.
    async fn claimed(store: &Store) -> (ClaimedWork, Duration) {
        let mut wake = store.work().subscribe("refresh_metrics");
        let begun = std::time::Instant::now();
        let claiming = async {
            loop {
                if let Some(work) = store
                    .work()
                    .claim("refresh_metrics", "", SOON)
                    .await
                    .unwrap()
                {
                    return (work, begun.elapsed());
                }
                wake.wait().await;
            }
        };
        tokio::time::timeout(SOON, claiming)
            .await
            .expect("work in time")
    }

    #[tokio::test]
    async fn an_announced_event_becomes_work_at_once() {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let tree = start(&store).await;
        // A round begins right after a look: the poll alone would need its whole interval. A busy
        // machine may be late in one round, not in each.
        let mut waits = Vec::new();
        for _ in 0..8 {
            publish_build(&store).await;
            let (work, waited) = claimed(&store).await;
            store.work().complete(&work).await.unwrap();
            waits.push(waited);
        }
        let best = waits.iter().skip(1).min().unwrap();
        assert!(*best < POLL_INTERVAL / 2, "{waits:?}");
        let handle = OrchestratorHandle::new(tree.scope());
        let counted = async {
            loop {
                let status = handle.describe(SOON).await.unwrap();
                if status.commands_enqueued == 8 {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let status = tokio::time::timeout(SOON, counted).await.unwrap();
        assert_eq!(status.last_error, None);
    }

    #[tokio::test]
    async fn what_happened_while_it_was_down_is_handled_when_it_is_back() {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let tree = start(&store).await;
        tree.pause(Orchestrator::NAME).await.unwrap();
        publish_build(&store).await;
        tree.resume(Orchestrator::NAME).await.unwrap();
        claimed(&store).await;
    }

    #[tokio::test]
    async fn an_event_that_was_written_without_an_announcement_is_found_by_the_poll() {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let _tree = start(&store).await;
        // Another clone of the store would announce it; another program's cannot.
        publish_build(&Store::open(database.pool().clone()).await.unwrap()).await;
        claimed(&store).await;
    }

    #[tokio::test]
    async fn a_warehouse_that_is_down_is_an_error_it_shows_not_one_it_dies_of() {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let tree = start(&store).await;
        store.pool().close().await;
        let handle = OrchestratorHandle::new(tree.scope());
        let shown = async {
            while handle.describe(SOON).await.unwrap().last_error.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, shown).await.unwrap();
        assert_eq!(tree.describe()[0].children[0].incarnation, 1);
    }
}
