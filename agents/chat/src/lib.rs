//! The chat agent: conversations by id, each question answered by the analyst in the light of what
//! was said before.

pub mod actor;
pub mod history;

mod turn;

pub use actor::{Chat, ChatArgs, ChatError, ChatHandle, ChatMsg};
pub use ballpoint_analyst::answer::Notice;
pub use ballpoint_analyst::progress::{Progress, StepState, Turn, TurnPart};
pub use history::{Conversation, Message};
