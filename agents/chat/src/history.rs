//! Conversations read back, as people see them.

use ballpoint_analyst::Answer;
use ballpoint_runtime::store::{Store, StoreError};
use jiff::Timestamp;
use serde::Serialize;

use crate::turn::Said;

/// Messages of a conversation that are read back: more than anybody scrolls through.
const MESSAGES_MAX: u32 = 500;

/// A conversation with its messages, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    pub id: String,
    /// Its first question.
    pub title: String,
    pub messages: Vec<Message>,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    User { text: String, at: Timestamp },
    Assistant { answer: Box<Answer>, at: Timestamp },
}

/// The conversation of that id; `None` when there is none. A message that another version wrote and
/// this one cannot read is left out.
///
/// # Errors
/// As every query.
pub async fn read(store: &Store, id: &str) -> Result<Option<Conversation>, StoreError> {
    let conversations = store.conversations();
    let stored = conversations.messages(id, MESSAGES_MAX).await?;
    if stored.is_empty() {
        return Ok(None);
    }
    let messages: Vec<Message> = stored
        .into_iter()
        .filter_map(|it| match it.role.as_str() {
            "user" => Some(Message::User {
                text: it.content.get("text")?.as_str()?.to_owned(),
                at: it.at,
            }),
            _ => {
                let said: Said = serde_json::from_value(it.content).ok()?;
                Some(Message::Assistant {
                    answer: Box::new(said.answer),
                    at: it.at,
                })
            }
        })
        .collect();
    Ok(Some(Conversation {
        id: id.to_owned(),
        // The first of all, which need not be among those that are read back.
        title: conversations.title(id).await?.unwrap_or_default(),
        messages,
    }))
}
