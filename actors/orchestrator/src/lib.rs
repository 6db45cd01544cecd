//! The orchestrator: turns what happened into what is to be done next.
//!
//! It only enqueues. Which event asks for which command is [`work_for`], a pure function; that each
//! event asks exactly once is [`enqueue_pending`], one transaction; [`Orchestrator`] is the thin
//! actor that looks whenever something happens.

mod actor;
mod decide;
mod pending;

pub use actor::{
    Orchestrator, OrchestratorArgs, OrchestratorHandle, OrchestratorMsg, OrchestratorStatus,
};
pub use decide::{Stages, work_for};
pub use pending::{Enqueued, enqueue_pending};
