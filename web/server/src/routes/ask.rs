//! Questions and their proofs: `POST /api/ask`, `GET /api/proofs/{id}`.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use ballpoint_analyst::{Answer, AskError};
use ballpoint_chat::ChatError;
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;

/// In characters; what a person types.
const QUESTION_MAX: usize = 2000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/ask", post(ask))
        .route("/api/proofs/{id}", get(proof))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    question: String,
    conversation_id: Option<String>,
}

async fn ask(
    State(app): State<App>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    if !app.system.has_metrics {
        return Err(ApiError::not_found(
            "the project has no [metrics]: there is nothing to ask",
        ));
    }
    let Json(Asked {
        question,
        conversation_id,
    }) = asked.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    if question.trim().is_empty() || question.chars().count() > QUESTION_MAX {
        return Err(ApiError::bad_request(format!(
            "a question has 1 to {QUESTION_MAX} characters"
        )));
    }
    let answer = app.chat.ask(question, conversation_id).await;
    answer.map(Json).map_err(|error| match error {
        ChatError::Ask(AskError::Busy) => ApiError::busy(error.to_string()),
        ChatError::Id => ApiError::bad_request(error.to_string()),
        error => ApiError::unavailable(error.to_string()),
    })
}

async fn proof(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let proof = app.store.proofs().get(&id).await?;
    proof
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("no proof {id}")))
}
