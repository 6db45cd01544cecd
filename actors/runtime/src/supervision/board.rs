//! What is known of each actor of a tree: written by supervisors, read without asking them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::status::{ActorState, ActorStatus};
use super::{ChildSpec, Scope, SupervisorSpec};
use crate::event::Event;
use crate::trace::TraceContext;

/// A change of state on its way to `ballpoint.events`.
pub(super) type Change = (Event, TraceContext);

/// The names of a tree, as it was declared.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    pub(super) name: String,
    pub(super) children: Vec<Topology>,
}

impl Topology {
    pub(super) fn of(spec: &SupervisorSpec) -> Self {
        let children = spec.children.iter().map(|child| match child {
            ChildSpec::Actor(actor) => Self {
                name: actor.name.clone(),
                children: Vec::new(),
            },
            ChildSpec::Supervisor(supervisor) => Self::of(supervisor),
        });
        Self {
            name: spec.name.clone(),
            children: children.collect(),
        }
    }

    /// Every name with its supervisor's, top down; the root's supervisor is `None`.
    pub(super) fn names(&self) -> Vec<(&str, Option<&str>)> {
        let mut names = vec![(self.name.as_str(), None)];
        for child in &self.children {
            names.extend(
                child
                    .names()
                    .into_iter()
                    .map(|(name, parent)| (name, parent.or(Some(self.name.as_str())))),
            );
        }
        names
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    state: ActorState,
    incarnation: u64,
    /// When this incarnation started, while it runs.
    since: Option<Instant>,
    last_error: Option<String>,
}

/// Shared by the supervisors and the handles of one tree.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) scope: Scope,
    nodes: Mutex<HashMap<String, Node>>,
    changes: mpsc::UnboundedSender<Change>,
}

impl Board {
    pub(super) fn new(scope: Scope, changes: mpsc::UnboundedSender<Change>) -> Self {
        Self {
            scope,
            nodes: Mutex::default(),
            changes,
        }
    }

    /// A new incarnation is up.
    pub(super) fn running(&self, name: &str) {
        let node = self.update(name, |node| {
            node.state = ActorState::Running;
            node.incarnation += 1;
            node.since = Some(Instant::now());
        });
        tracing::debug!(
            actor = name,
            incarnation = node.incarnation,
            "actor started"
        );
        self.announce(name, &node, None);
    }

    /// The actor is not running any more, and why if that is a failure.
    pub(super) fn down(&self, name: &str, state: ActorState, error: Option<String>) {
        let node = self.update(name, |node| {
            node.state = state;
            node.since = None;
            if error.is_some() {
                node.last_error.clone_from(&error);
            }
        });
        match (&error, state) {
            (Some(error), ActorState::Parked) => {
                tracing::error!(actor = name, %error, "actor parked: it used up its restarts");
            }
            (Some(error), _) => tracing::warn!(actor = name, %error, %state, "actor failed"),
            (None, _) => tracing::debug!(actor = name, %state, "actor down"),
        }
        self.announce(name, &node, error);
    }

    /// The whole tree is going down: nobody is told about each part.
    pub(super) fn ended(&self, name: &str) {
        self.update(name, |node| {
            node.state = ActorState::Stopped;
            node.since = None;
        });
    }

    pub(super) fn describe(&self, topology: &Topology) -> ActorStatus {
        let node = self.update(&topology.name, |_| ());
        ActorStatus {
            name: topology.name.clone(),
            state: node.state,
            incarnation: node.incarnation,
            restarts: node.incarnation.saturating_sub(1),
            uptime_ms: node
                .since
                .map(|since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            queue: self.scope.waiting(&topology.name).load(Ordering::Relaxed),
            last_error: node.last_error,
            children: topology
                .children
                .iter()
                .map(|child| self.describe(child))
                .collect(),
        }
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut Node)) -> Node {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.entry(name.to_owned()).or_default();
        change(node);
        node.clone()
    }

    fn announce(&self, name: &str, node: &Node, error: Option<String>) {
        let event = Event::ActorChanged {
            actor: name.to_owned(),
            state: node.state.to_string(),
            incarnation: node.incarnation,
            error,
        };
        // A tree without an event bus has nobody to tell.
        let _ = self.changes.send((event, TraceContext::current()));
    }
}
