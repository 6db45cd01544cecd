//! Conversations as the page lists and reopens them.

use axum::Json;
use axum::extract::State;
use ballpoint_chat::{Conversation, history};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::shapes::{self, Problem};
use crate::table::{OPERATOR, Route, VIEWER, delete, get};

/// Conversations in a list.
const LIST_MAX: u32 = 200;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/conversations", VIEWER, list),
        get("/api/conversations/{id}", VIEWER, one),
        delete("/api/conversations/{id}", OPERATOR, forget),
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
    responses((status = 200, body = shapes::Conversation), (status = 404, body = Problem)))]
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, ApiError> {
    let read = history::read(&app.store, &id).await?;
    read.map(Json).ok_or_else(|| unknown(&id))
}

#[utoipa::path(delete, path = "/api/conversations/{id}", tag = "ask", params(("id" = String, Path)),
    responses((status = 200, body = shapes::Done), (status = 404, body = Problem)))]
pub(crate) async fn forget(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<shapes::Done>, ApiError> {
    match app.store.conversations().delete(&id).await? {
        true => Ok(Json(shapes::Done::new())),
        false => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no conversation {id}"))
}
