//! The reverse-ETL agent: a request in words becomes a proposal for a write-back, with its reason
//! and the figures it rests on. Never a write: what it proposes becomes a plan, and somebody
//! approves that or not.
//!
//! Everything a proposal can say is declared: the syncs, their actions and writable columns in the
//! project's files, the members in the data model. A word that nothing explains refuses the request,
//! because a plan made without one of its words is a wrong plan. No data value is ever read as an
//! instruction: words come from the request alone.

pub mod actor;
mod condition;
mod evidence;
mod proposer;
mod request;
mod wording;

pub use actor::{
    Activation, ActivationArgs, ActivationError, ActivationHandle, ReverseEtlAgentMsg,
};
pub use proposer::{Outcome, Proposer, Refusal};
