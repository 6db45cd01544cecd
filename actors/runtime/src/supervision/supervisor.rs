//! The supervisor: an actor that keeps others alive.
//!
//! **In** the ends of its children, and what a person asks for through the tree's handle.
//! **Out** new incarnations, and each change of state on the tree's board.
//! It never ends because of a child: one that uses up its budget is parked and its siblings go on.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::Instant;

use super::board::Board;
use super::child::Child;
use super::restart::{Decision, Ending};
use super::spec::{Strategy, SupervisorSpec};
use super::status::ActorState;

/// How long siblings or an operated child may take to end, all together.
const END_MAX: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct SupervisorArgs {
    pub(super) spec: SupervisorSpec,
    pub(super) board: Arc<Board>,
}

/// What a person may do with a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Restart,
    Pause,
    Resume,
}

#[derive(Debug)]
pub(super) enum SupervisorMsg {
    /// A child's backoff is over, unless its timer has moved on.
    Retry { child: String, timer: u64 },
    /// Replied to when it is done.
    Operate {
        child: String,
        operation: Operation,
        reply: RpcReplyPort<()>,
    },
    /// End all children in the reverse order, by the deadline. Replied to when they have ended.
    Shutdown {
        deadline: Instant,
        reply: RpcReplyPort<()>,
    },
}

pub(super) struct Supervisor;

pub(super) struct SupervisorState {
    myself: ActorRef<SupervisorMsg>,
    board: Arc<Board>,
    strategy: Strategy,
    children: Vec<Child>,
    shutting_down: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        SupervisorArgs { spec, board }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let children: Vec<Child> = spec
            .children
            .iter()
            .map(|child| Child::new(child, &board))
            .collect();
        let mut state = SupervisorState {
            myself,
            board,
            strategy: spec.strategy,
            children,
            shutting_down: false,
        };
        for index in 0..state.children.len() {
            state.start(index).await;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Retry { child, timer } => state.on_retry(&child, timer).await,
            SupervisorMsg::Operate {
                child,
                operation,
                reply,
            } => {
                state.on_operate(&child, operation, reply).await;
            }
            SupervisorMsg::Shutdown { deadline, reply } => state.on_shutdown(deadline, reply).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(id) = event.actor_id() else {
            return Ok(());
        };
        if let Some(ending) = ending(&event) {
            // An end that was asked for has been forgotten already.
            if let Some(index) = state.children.iter().position(|child| child.is(id)) {
                state.on_child_ended(index, ending).await;
            }
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn on_child_ended(&mut self, index: usize, ending: Ending) {
        self.children[index].forget();
        if !self.shutting_down && self.settle(index, ending) {
            self.restart(index).await;
        }
    }

    async fn on_retry(&mut self, child: &str, timer: u64) {
        let Some(index) = self.position(child) else {
            return;
        };
        if self.children[index].timer == timer && !self.shutting_down {
            self.restart(index).await;
        }
    }

    async fn on_operate(&mut self, child: &str, operation: Operation, reply: RpcReplyPort<()>) {
        if let Some(index) = self.position(child).filter(|_| !self.shutting_down) {
            let resumes_running = operation == Operation::Resume && self.children[index].is_alive();
            if !resumes_running {
                self.children[index].end(Instant::now() + END_MAX).await;
                self.children[index].tracker.reset();
                if operation == Operation::Pause {
                    self.children[index].forget();
                    self.board.down(child, ActorState::Paused, None);
                } else {
                    self.board.down(child, ActorState::Starting, None);
                    self.start(index).await;
                }
            }
        }
        // Who asked may have given up.
        let _ = reply.send(());
    }

    async fn on_shutdown(&mut self, deadline: Instant, reply: RpcReplyPort<()>) {
        self.shutting_down = true;
        for child in self.children.iter_mut().rev() {
            child.end(deadline).await;
            self.board.ended(&child.name);
        }
        let _ = reply.send(());
    }

    /// Starts a child that is down and, by the strategy, its siblings that run anew.
    async fn restart(&mut self, index: usize) {
        let affected = |sibling: usize| match self.strategy {
            Strategy::OneForOne => false,
            Strategy::RestForOne => sibling > index,
            Strategy::OneForAll => sibling != index,
        };
        let siblings: Vec<usize> = (0..self.children.len())
            .filter(|&sibling| affected(sibling) && self.children[sibling].is_alive())
            .collect();
        let deadline = Instant::now() + END_MAX;
        for &sibling in siblings.iter().rev() {
            self.children[sibling].end(deadline).await;
            self.board
                .down(&self.children[sibling].name, ActorState::Starting, None);
        }
        let mut group = siblings;
        group.push(index);
        group.sort_unstable();
        for member in group {
            self.start(member).await;
        }
    }

    /// Starts one child, at once again for as long as its restarts do not have to wait.
    async fn start(&mut self, index: usize) {
        loop {
            let child = &mut self.children[index];
            let Err(error) = child.start(&self.board, self.myself.get_cell()).await else {
                return;
            };
            if !self.settle(index, Ending::Failed(error)) {
                return;
            }
        }
    }

    /// Decides what follows a child's end, records it, and says whether to restart it now.
    fn settle(&mut self, index: usize, ending: Ending) -> bool {
        let child = &mut self.children[index];
        let keeping = (
            child.keeping.policy,
            child.keeping.budget,
            child.keeping.backoff,
        );
        let decision = child
            .tracker
            .decide(keeping, &ending, Instant::now(), rand::random());
        let state = match decision {
            Decision::RestartNow => ActorState::Starting,
            Decision::RestartAfter(_) => ActorState::Backoff,
            Decision::Park => ActorState::Parked,
            Decision::LeaveStopped => ActorState::Stopped,
        };
        if let Decision::RestartAfter(delay) = decision {
            let (name, timer) = (child.name.clone(), child.timer);
            self.myself
                .send_after(delay, move || SupervisorMsg::Retry { child: name, timer });
        }
        let error = match ending {
            Ending::Failed(error) => Some(error),
            Ending::Stopped => None,
        };
        self.board.down(&child.name, state, error);
        decision == Decision::RestartNow
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.children.iter().position(|child| child.name == name)
    }
}

/// How a child ended, if the event says that it did. ractor reports a kill, and a task cancelled by
/// its runtime, as a termination.
fn ending(event: &SupervisionEvent) -> Option<Ending> {
    match event {
        SupervisionEvent::ActorFailed(_, error) => Some(Ending::Failed(error.to_string())),
        SupervisionEvent::ActorTerminated(_, _, Some(reason))
            if reason == "killed" || reason == "actor_task_cancelled" =>
        {
            Some(Ending::Failed(reason.clone()))
        }
        SupervisionEvent::ActorTerminated(..) => Some(Ending::Stopped),
        SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => None,
    }
}
