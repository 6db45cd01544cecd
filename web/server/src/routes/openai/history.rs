//! Which conversation a request's messages belong to.

use std::fmt::Write;

use axum::http::HeaderMap;
use ballpoint_chat::history::{self, Message};
use ballpoint_chat::{ChatError, Conversation};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::App;

/// Headers by which clients name their chat: ours, and Open WebUI's.
const NAMED_BY: [&str; 2] = ["x-conversation-id", "x-openwebui-chat-id"];

/// Earlier questions that are told again: what a follow-up can point back to.
const RETOLD_MAX: usize = 8;

/// The conversation that the client names.
pub(super) fn named(headers: &HeaderMap) -> Option<String> {
    let mut names = NAMED_BY.iter().filter_map(|name| headers.get(*name));
    names.next()?.to_str().ok().map(str::to_owned)
}

/// The conversation in which exactly `earlier` was asked before `question`. Chats that begin with the
/// same words share one as long as they say the same; where they part, the earlier questions are
/// told again, which costs their queries and loses nothing.
pub(super) async fn find(
    app: &App,
    by: &str,
    earlier: &[String],
    question: &str,
) -> Result<String, ChatError> {
    let shared = shared_id(by, earlier.first().map_or(question, String::as_str));
    let kept = history::read(&app.store, &shared).await?;
    if kept.as_ref().map(asked).unwrap_or_default() == earlier {
        return Ok(shared);
    }
    let id = Uuid::now_v7().to_string();
    let told_from = earlier.len().saturating_sub(RETOLD_MAX);
    for question in &earlier[told_from..] {
        let told = app.chat.ask_locally(question.clone(), Some(id.clone()));
        match told.await {
            // What could not be answered then cannot be now: the rest still makes sense.
            Ok(_) | Err(ChatError::Ask(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(id)
}

fn shared_id(by: &str, first: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(by);
    hash.update([0]);
    hash.update(first);
    let name = &hash.finalize()[..16];
    name.iter().fold("v1-".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

fn asked(conversation: &Conversation) -> Vec<String> {
    let messages = conversation.messages.iter();
    messages
        .filter_map(|message| match message {
            Message::User { text, .. } => Some(text.clone()),
            Message::Assistant { .. } => None,
        })
        .collect()
}
