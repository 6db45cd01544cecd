//! Questions and their proofs: `POST /api/ask`, `GET /api/proofs/{id}`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use ballpoint_analyst::{Answer, AskError};
use ballpoint_chat::ChatError;
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::table::{Route, VIEWER, get, post};

/// In characters; what a person types.
const QUESTION_MAX: usize = 2000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/ask", VIEWER, ask),
        get("/api/proofs/{id}", VIEWER, proof),
    ]
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
    app.needs_metrics()?;
    let Json(Asked {
        question,
        conversation_id,
    }) = asked?;
    let answer = app.chat.ask(checked(question)?, conversation_id).await;
    Ok(Json(answer.map_err(refused)?))
}

/// A question that may be asked.
pub(super) fn checked(question: String) -> Result<String, ApiError> {
    if question.trim().is_empty()
        || question.contains('\0')
        || question.chars().count() > QUESTION_MAX
    {
        return Err(ApiError::bad_request(format!(
            "a question has 1 to {QUESTION_MAX} characters"
        )));
    }
    Ok(question)
}

pub(super) fn refused(error: ChatError) -> ApiError {
    match error {
        ChatError::Ask(AskError::Busy) => ApiError::busy(error.to_string()),
        ChatError::Id => ApiError::bad_request(error.to_string()),
        error => ApiError::unavailable(error.to_string()),
    }
}

async fn proof(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let proof = app.store.proofs().get(&id).await?;
    proof
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("no proof {id}")))
}
