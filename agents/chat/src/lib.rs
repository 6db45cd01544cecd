//! The chat agent: conversations by id, each question answered by the analyst in the light of what
//! was said before.

pub mod actor;

pub use actor::{Chat, ChatArgs, ChatError, ChatHandle, ChatMsg};
