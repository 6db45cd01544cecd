//! Supervision trees on ractor: restart policies, budgets and backoff, ordered shutdown, and
//! addresses that outlive a restart.
//!
//! ractor gives spawning, links, calls and a process-global registry. This module adds what it
//! leaves out. A tree is declared as a [`SupervisorSpec`] and started with [`Tree::start`]; the
//! [`TreeHandle`] describes and operates it; an [`Address`] reaches an actor by name. A child that
//! uses up its restart budget is parked, and its siblings go on.
//!
//! A restarted actor has lost its mailbox: commands are rows of `ballpoint.work` (R2), and calls
//! are repeated by their [`Address`] until their time is up.

mod address;
mod board;
mod child;
mod looks;
mod restart;
mod scope;
mod spec;
mod status;
mod supervisor;
mod tree;

pub use address::{Address, AddressError};
pub use looks::Looks;
pub use restart::{Backoff, RestartBudget, RestartPolicy};
pub use scope::Scope;
pub use spec::{ActorSpec, ChildSpec, Strategy, SupervisorSpec};
pub use status::{ActorState, ActorStatus};
pub use tree::{Tree, TreeError, TreeHandle};

#[cfg(test)]
mod tests;
