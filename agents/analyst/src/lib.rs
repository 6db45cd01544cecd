//! The analyst: a question becomes a plan, the plan a query, the rows a chart and a text whose
//! every figure can be traced to them.

// An answer's future holds those of the metrics and of the driver, each in the other.
#![recursion_limit = "256"]

pub mod actor;
pub mod answer;
pub mod answerer;
pub mod eval;
pub mod progress;
pub mod replay;
pub mod stats;
pub mod verified;

mod asides;
mod chart;
mod derive;
mod figures;
mod follow_up;
mod meta;
mod narrate;
mod wording;

pub use actor::{Analyst, AnalystArgs, AnalystHandle, AnalystMsg, AskError};
pub use answer::{Answer, Behaviour, Notice};
pub use answerer::{AnswerError, Answerer};
pub use ballpoint_llm::{ModelSettings, Secret};
pub use progress::{Progress, StepState, Turn, TurnPart};
pub use verified::VerifiedQuestions;
