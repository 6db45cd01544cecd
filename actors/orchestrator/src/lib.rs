//! The orchestrator: turns what happened, and the time, into what is to be done next.
//!
//! It only enqueues. Which event asks for which command is [`work_for`], a pure function; that each
//! event asks exactly once is [`enqueue_pending`], one transaction; that each time of a schedule
//! fires exactly once is [`fire_due`], another. What does not work is an incident, which a webhook
//! may be told of. [`Orchestrator`] is the thin actor that looks whenever something happens.

mod actor;
mod alerts;
mod decide;
mod fires;
mod freshness;
mod pending;
mod timing;
mod trouble;

pub use actor::{
    Duties, Orchestrator, OrchestratorArgs, OrchestratorHandle, OrchestratorMsg, OrchestratorStatus,
};
pub use alerts::AlertConfig;
pub use decide::{Stages, work_for};
pub use fires::{RUN_KIND, ScheduleSpec, advance, declare, fire_due};
pub use freshness::FreshnessLimits;
pub use pending::{Enqueued, enqueue_pending};
pub use timing::{Timing, TimingError, cron, zone};
