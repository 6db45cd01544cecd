//! A supervision tree as it is declared.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};

use super::restart::{Backoff, RestartBudget, RestartPolicy};

/// How long a child may take to finish what is queued before it is stopped, and stopped before it
/// is killed.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Spawns one incarnation under a registered name, linked to its supervisor.
pub(super) type Spawn =
    Arc<dyn Fn(String, ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// Which children are restarted with a child that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The one that failed.
    #[default]
    OneForOne,
    /// It and those declared after it, which depend on it.
    RestForOne,
    /// All.
    OneForAll,
}

/// One actor and how it is kept alive.
#[derive(Clone)]
pub struct ActorSpec {
    pub(super) name: String,
    pub(super) keeping: Keeping,
    pub(super) spawn: Spawn,
}

/// How a child is kept alive and brought to an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    pub(super) policy: RestartPolicy,
    pub(super) budget: RestartBudget,
    pub(super) backoff: Backoff,
    pub(super) drain_max: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::default(),
            budget: RestartBudget::default(),
            backoff: Backoff::default(),
            drain_max: DRAIN_MAX,
        }
    }
}

impl ActorSpec {
    /// An actor that is restarted whenever it ends. `args` is called for each incarnation. Its
    /// `pre_start` must return soon: the network is first touched in `post_start`.
    pub fn new<A: Actor + Clone>(
        name: impl Into<String>,
        actor: A,
        args: impl Fn() -> A::Arguments + Send + Sync + 'static,
    ) -> Self {
        let spawn = move |registered, supervisor| {
            let spawned = A::spawn_linked(Some(registered), actor.clone(), args(), supervisor);
            let future = async move { spawned.await.map(|(actor, _)| actor.get_cell()) };
            Box::pin(future) as BoxFuture<'static, _>
        };
        Self {
            name: name.into(),
            keeping: Keeping::default(),
            spawn: Arc::new(spawn),
        }
    }

    /// Which endings are followed by a restart.
    #[must_use]
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.keeping.policy = policy;
        self
    }

    /// How many restarts within `window` until it is parked.
    #[must_use]
    pub fn budget(mut self, restarts_max: usize, window: Duration) -> Self {
        self.keeping.budget = RestartBudget {
            restarts_max,
            window,
        };
        self
    }

    /// How long restarts after the first wait.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.keeping.backoff = Backoff { initial, max };
        self
    }

    /// How long it may take to finish what is queued when it is stopped.
    #[must_use]
    pub fn drain(mut self, drain_max: Duration) -> Self {
        self.keeping.drain_max = drain_max;
        self
    }
}

/// A supervisor and its children, in the order in which they start.
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    pub(super) name: String,
    pub(super) strategy: Strategy,
    pub(super) children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children yet.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        Self {
            name: name.into(),
            strategy,
            children: Vec::new(),
        }
    }

    /// Adds an actor or a supervisor. Children start in order and stop in the reverse order.
    #[must_use]
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.children.push(child.into());
        self
    }

    /// Adds several.
    #[must_use]
    pub fn children<C: Into<ChildSpec>>(mut self, children: impl IntoIterator<Item = C>) -> Self {
        self.children.extend(children.into_iter().map(Into::into));
        self
    }
}

/// A child of a supervisor.
#[derive(Clone, Debug)]
pub enum ChildSpec {
    Actor(ActorSpec),
    Supervisor(SupervisorSpec),
}

impl ChildSpec {
    /// The child's name, without its scope.
    pub fn name(&self) -> &str {
        match self {
            Self::Actor(spec) => &spec.name,
            Self::Supervisor(spec) => &spec.name,
        }
    }
}

impl From<ActorSpec> for ChildSpec {
    fn from(spec: ActorSpec) -> Self {
        Self::Actor(spec)
    }
}

impl From<SupervisorSpec> for ChildSpec {
    fn from(spec: SupervisorSpec) -> Self {
        Self::Supervisor(spec)
    }
}

impl fmt::Debug for ActorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSpec")
            .field("name", &self.name)
            .field("keeping", &self.keeping)
            .finish_non_exhaustive()
    }
}
