//! The analyst: a question becomes a plan, the plan a query, the rows a chart and a text whose
//! every figure can be traced to them.

pub mod actor;
pub mod analyst;
pub mod answer;
pub mod eval;

mod chart;
mod derive;
mod figures;
mod meta;
mod narrate;
mod wording;

pub use actor::{AnalystActor, AnalystArgs, AnalystHandle, AnalystMsg, AskError};
pub use analyst::{Analyst, AnalystError};
pub use answer::{Answer, Behaviour};
