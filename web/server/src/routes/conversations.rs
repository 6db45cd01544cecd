//! Conversations as the page lists and reopens them.

use axum::Json;
use axum::extract::{Path, Query, State};
use ballpoint_runtime::store::StoredMessage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::ApiError;
use crate::table::{Route, VIEWER, delete, get};

/// Conversations in a list.
const LIST_MAX: u32 = 200;

/// Messages of one conversation that are shown; the latest.
const MESSAGES_MAX: u32 = 500;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/conversations", VIEWER, list),
        get("/api/conversations/{id}", VIEWER, one),
        delete("/api/conversations/{id}", VIEWER, forget),
    ]
}

#[derive(Deserialize, IntoParams)]
pub(crate) struct Search {
    /// Only conversations in which a question holds this text.
    search: Option<String>,
}

/// A conversation in the list.
#[derive(Serialize, ToSchema)]
struct ConversationHead {
    id: String,
    /// The first question.
    title: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationList {
    items: Vec<ConversationHead>,
}

/// A conversation with its messages, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Conversation {
    id: String,
    title: String,
    messages: Vec<Message>,
}

/// What was asked, or what was answered.
#[derive(Serialize, ToSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Message {
    User {
        text: String,
        #[schema(value_type = String, format = DateTime)]
        at: jiff::Timestamp,
    },
    Assistant {
        #[schema(value_type = crate::shapes::Answer)]
        answer: Value,
        #[schema(value_type = String, format = DateTime)]
        at: jiff::Timestamp,
    },
}

#[utoipa::path(get, path = "/api/conversations", tag = "ask", params(Search),
    responses((status = 200, body = ConversationList)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(Search { search }): Query<Search>,
) -> Result<Json<ConversationList>, ApiError> {
    let search = search.unwrap_or_default();
    let found = app
        .store
        .conversations()
        .search(search.trim(), LIST_MAX)
        .await?;
    let items = found
        .into_iter()
        .map(|it| ConversationHead {
            id: it.id,
            title: it.title,
            updated_at: it.updated_at,
        })
        .collect();
    Ok(Json(ConversationList { items }))
}

#[utoipa::path(get, path = "/api/conversations/{id}", tag = "ask", params(("id" = String, Path)),
    responses((status = 200, body = Conversation), (status = 404, body = crate::shapes::Problem)))]
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, ApiError> {
    let conversations = app.store.conversations();
    let messages = conversations.messages(&id, MESSAGES_MAX).await?;
    if messages.is_empty() {
        return Err(unknown(&id));
    }
    let messages: Vec<Message> = messages.into_iter().filter_map(message).collect();
    let title = messages.iter().find_map(|message| match message {
        Message::User { text, .. } => Some(text.clone()),
        Message::Assistant { .. } => None,
    });
    Ok(Json(Conversation {
        id,
        title: title.unwrap_or_default(),
        messages,
    }))
}

#[utoipa::path(delete, path = "/api/conversations/{id}", tag = "ask", params(("id" = String, Path)),
    responses((status = 200, body = crate::shapes::Done), (status = 404, body = crate::shapes::Problem)))]
pub(crate) async fn forget(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<crate::shapes::Done>, ApiError> {
    match app.store.conversations().delete(&id).await? {
        true => Ok(Json(crate::shapes::Done::new())),
        false => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no conversation {id}"))
}

/// As the agent kept it; what an older version kept otherwise is left out rather than guessed at.
fn message(stored: StoredMessage) -> Option<Message> {
    let StoredMessage {
        role,
        mut content,
        at,
        ..
    } = stored;
    match role.as_str() {
        "user" => Some(Message::User {
            text: content["text"].as_str()?.to_owned(),
            at,
        }),
        "assistant" => Some(Message::Assistant {
            answer: content.get_mut("answer").map(Value::take)?,
            at,
        }),
        _ => None,
    }
}
