//! Starting, describing and operating a supervision tree.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::board::{Board, Change, Topology};
use super::status::{ActorState, ActorStatus};
use super::supervisor::{Operation, Supervisor, SupervisorArgs, SupervisorMsg};
use super::{Address, AddressError, Scope, SupervisorSpec};
use crate::store::EventBus;

/// A restart ends the child first, which is limited, and waits for its `pre_start`, which is too.
const OPERATION_MAX: Duration = Duration::from_secs(30);

/// The root supervisor has ended its children by then and has nothing left to finish.
const ROOT_STOP_MAX: Duration = Duration::from_millis(500);

/// How many names are offered in place of an unknown one.
const NEAREST_MAX: usize = 3;

/// Why a tree could not be started or operated.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("`{name}` is no actor name: use a-z, 0-9, `_`, `-` and `.`")]
    InvalidName { name: String },
    #[error("two actors are named `{name}`")]
    DuplicateName { name: String },
    #[error("the supervision tree did not start: {reason}")]
    Start { reason: String },
    #[error("there is no actor `{name}`; nearest: {}", nearest.join(", "))]
    UnknownActor { name: String, nearest: Vec<String> },
    #[error("`{name}` is the whole tree: stop the program instead")]
    Root { name: String },
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// A tree of supervised actors.
#[derive(Debug)]
pub struct Tree;

impl Tree {
    /// Starts the tree's actors in their order; returns when each has had its first attempt. One
    /// that fails it is retried like any other failure. Changes of state are published on `events`.
    ///
    /// # Errors
    /// Names that are invalid or used twice, and a scope that is in use.
    pub async fn start(
        scope: Scope,
        root: SupervisorSpec,
        events: Option<EventBus>,
    ) -> Result<TreeHandle, TreeError> {
        let topology = Topology::of(&root);
        check_names(&topology)?;
        let (changes, received) = mpsc::unbounded_channel();
        tokio::spawn(publish(received, events));
        let board = Arc::new(Board::new(scope, changes));
        let registered = board.scope.qualify(&root.name);
        let args = SupervisorArgs {
            spec: root,
            board: Arc::clone(&board),
        };
        let (supervisor, _) = Supervisor::spawn(Some(registered), Supervisor, args)
            .await
            .map_err(|error| TreeError::Start {
                reason: error.to_string(),
            })?;
        board.running(&topology.name);
        Ok(TreeHandle {
            board,
            topology: Arc::new(topology),
            root: supervisor.get_cell(),
        })
    }
}

/// Describes and operates a running tree. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TreeHandle {
    board: Arc<Board>,
    topology: Arc<Topology>,
    root: ActorCell,
}

impl TreeHandle {
    /// The scope in which its actors are addressed.
    pub fn scope(&self) -> &Scope {
        &self.board.scope
    }

    /// The tree as it is: the root, with what it supervises.
    pub fn describe(&self) -> Vec<ActorStatus> {
        vec![self.board.describe(&self.topology)]
    }

    /// Whether an actor is parked: the rest goes on without it.
    pub fn is_degraded(&self) -> bool {
        let root = self.board.describe(&self.topology);
        root.all()
            .iter()
            .any(|actor| actor.state == ActorState::Parked)
    }

    /// Restarts the actor of that name, or all of that role: `loader` means each `loader.…`. Works
    /// on a parked or paused one, which then has its whole restart budget again. Returns, with the
    /// names, when they are up again or their first attempt has failed.
    ///
    /// # Errors
    /// [`TreeError::UnknownActor`] with the nearest names.
    pub async fn restart(&self, name_or_role: &str) -> Result<Vec<String>, TreeError> {
        self.operate(name_or_role, Operation::Restart).await
    }

    /// Stops an actor, or all of a role, until it is resumed.
    ///
    /// # Errors
    /// As [`TreeHandle::restart`].
    pub async fn pause(&self, name_or_role: &str) -> Result<Vec<String>, TreeError> {
        self.operate(name_or_role, Operation::Pause).await
    }

    /// Starts a paused or parked actor, or all of a role, again.
    ///
    /// # Errors
    /// As [`TreeHandle::restart`].
    pub async fn resume(&self, name_or_role: &str) -> Result<Vec<String>, TreeError> {
        self.operate(name_or_role, Operation::Resume).await
    }

    /// Stops all actors in the reverse order of their start, within about `timeout`: each finishes
    /// what is queued, then is stopped, then killed.
    pub async fn stop(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let shutdown = |reply| SupervisorMsg::Shutdown { deadline, reply };
        let _ = ractor::rpc::call(&self.root, shutdown, Some(timeout + ROOT_STOP_MAX)).await;
        if self
            .root
            .stop_and_wait(None, Some(ROOT_STOP_MAX))
            .await
            .is_err()
        {
            let _ = self.root.kill_and_wait(Some(ROOT_STOP_MAX)).await;
        }
        self.board.ended(&self.topology.name);
    }

    async fn operate(
        &self,
        name_or_role: &str,
        operation: Operation,
    ) -> Result<Vec<String>, TreeError> {
        let mut done = Vec::new();
        for (child, supervisor) in self.resolve(name_or_role)? {
            let address = Address::<SupervisorMsg>::new(&self.board.scope, supervisor);
            let operate = |reply| SupervisorMsg::Operate {
                child: child.to_owned(),
                operation,
                reply,
            };
            address.call_once(operate, OPERATION_MAX).await?;
            done.push(child.to_owned());
        }
        Ok(done)
    }

    /// The actors that a name or a role means, each with its supervisor.
    fn resolve(&self, name_or_role: &str) -> Result<Vec<(&str, &str)>, TreeError> {
        if name_or_role == self.topology.name {
            return Err(TreeError::Root {
                name: name_or_role.to_owned(),
            });
        }
        let names: Vec<(&str, &str)> = self
            .topology
            .names()
            .into_iter()
            .filter_map(|(name, supervisor)| Some((name, supervisor?)))
            .collect();
        if let Some(&exact) = names.iter().find(|(name, _)| *name == name_or_role) {
            return Ok(vec![exact]);
        }
        let is_member = |name: &str| {
            name.strip_prefix(name_or_role)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let members: Vec<(&str, &str)> = names
            .iter()
            .copied()
            .filter(|(name, _)| is_member(name))
            .collect();
        if members.is_empty() {
            let known = names.iter().map(|(name, _)| *name);
            return Err(TreeError::UnknownActor {
                name: name_or_role.to_owned(),
                nearest: nearest(name_or_role, known),
            });
        }
        Ok(members)
    }
}

/// The known names most like `name`, best first.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored
        .into_iter()
        .take(NEAREST_MAX)
        .map(|(_, known)| known.to_owned())
        .collect()
}

fn check_names(topology: &Topology) -> Result<(), TreeError> {
    let mut seen = HashSet::new();
    for (name, _) in topology.names() {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
        if name.is_empty() || !name.chars().all(valid) {
            return Err(TreeError::InvalidName {
                name: name.to_owned(),
            });
        }
        if !seen.insert(name) {
            return Err(TreeError::DuplicateName {
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

/// Writes changes of state as events, in their order, off the supervisors' path: a warehouse that is
/// down holds up no restart.
async fn publish(mut changes: mpsc::UnboundedReceiver<Change>, events: Option<EventBus>) {
    while let Some((event, trace)) = changes.recv().await {
        let Some(events) = &events else { continue };
        if let Err(error) = events.publish(event, trace).await {
            tracing::debug!(%error, "a change of an actor's state could not be recorded");
        }
    }
}
