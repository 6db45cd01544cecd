//! One child of a supervisor: starting an incarnation and bringing it to an end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorId};
use tokio::time::Instant;

use super::board::Board;
use super::restart::RestartTracker;
use super::spec::{ChildSpec, Keeping, Spawn};
use super::supervisor::{Supervisor, SupervisorArgs, SupervisorMsg};

/// `pre_start` touches no network, so that more than this is a hang.
const START_MAX: Duration = Duration::from_secs(10);

/// How long an actor may take to leave the handler it is in, and to notice that it was killed.
const STOP_MAX: Duration = Duration::from_millis(500);

pub(super) struct Child {
    pub(super) name: String,
    pub(super) keeping: Keeping,
    pub(super) tracker: RestartTracker,
    /// A scheduled restart is void once this has moved on.
    pub(super) timer: u64,
    cell: Option<ActorCell>,
    spawn: Spawn,
    is_supervisor: bool,
}

impl Child {
    pub(super) fn new(spec: &ChildSpec, board: &Arc<Board>) -> Self {
        let (keeping, spawn, is_supervisor) = match spec {
            ChildSpec::Actor(actor) => (actor.keeping, Arc::clone(&actor.spawn), false),
            ChildSpec::Supervisor(supervisor) => {
                let args = SupervisorArgs {
                    spec: supervisor.clone(),
                    board: Arc::clone(board),
                };
                (Keeping::default(), spawn_supervisor(args), true)
            }
        };
        Self {
            name: spec.name().to_owned(),
            keeping,
            tracker: RestartTracker::default(),
            timer: 0,
            cell: None,
            spawn,
            is_supervisor,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.cell.is_some()
    }

    pub(super) fn is(&self, id: ActorId) -> bool {
        self.cell.as_ref().is_some_and(|cell| cell.get_id() == id)
    }

    /// Forgets an incarnation that has ended by itself.
    pub(super) fn forget(&mut self) {
        self.cell = None;
        self.timer += 1;
    }

    /// Starts an incarnation; returns when its `pre_start` is done.
    pub(super) async fn start(
        &mut self,
        board: &Board,
        supervisor: ActorCell,
    ) -> Result<(), String> {
        self.timer += 1;
        let registered = board.scope.qualify(&self.name);
        if let Some(old) = ractor::registry::where_is(&registered) {
            // Left by a supervisor that was killed; its end is on the way, its name is not free.
            let _ = old.kill_and_wait(Some(STOP_MAX)).await;
        }
        let spawning = (self.spawn)(registered, supervisor);
        let spawned = if self.is_supervisor {
            // Starts its own children, each of which is limited.
            spawning.await
        } else {
            tokio::time::timeout(START_MAX, spawning)
                .await
                .map_err(|_| format!("it did not start within {} s", START_MAX.as_secs()))?
        };
        self.cell = Some(spawned.map_err(|error| error.to_string())?);
        board.running(&self.name);
        Ok(())
    }

    /// Ends the running incarnation: what is queued is finished, then it is stopped, then killed.
    pub(super) async fn end(&mut self, deadline: Instant) {
        let Some(cell) = self.cell.take() else { return };
        self.timer += 1;
        let left = deadline.saturating_duration_since(Instant::now());
        if self.is_supervisor {
            let shutdown = |reply| SupervisorMsg::Shutdown { deadline, reply };
            let _ = ractor::rpc::call(&cell, shutdown, Some(left)).await;
        } else if cell
            .drain_and_wait(Some(left.min(self.keeping.drain_max)))
            .await
            .is_ok()
        {
            return;
        }
        if cell.stop_and_wait(None, Some(STOP_MAX)).await.is_err() {
            let _ = cell.kill_and_wait(Some(STOP_MAX)).await;
        }
    }
}

fn spawn_supervisor(args: SupervisorArgs) -> Spawn {
    Arc::new(move |registered, parent| {
        let args = args.clone();
        Box::pin(async move {
            let spawned = Supervisor::spawn_linked(Some(registered), Supervisor, args, parent);
            spawned.await.map(|(supervisor, _)| supervisor.get_cell())
        }) as BoxFuture<'static, _>
    })
}
