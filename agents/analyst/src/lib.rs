//! The analyst: a question becomes a plan, the plan a query, the rows a chart and a text whose
//! every figure can be traced to them.

pub mod actor;
pub mod answer;
pub mod answerer;
pub mod eval;

mod chart;
mod derive;
mod figures;
mod meta;
mod narrate;
mod wording;

pub use actor::{Analyst, AnalystArgs, AnalystHandle, AnalystMsg, AskError};
pub use answer::{Answer, Behaviour};
pub use answerer::{AnswerError, Answerer};
