//! Questions and their proofs: `POST /api/ask`, `GET /api/proofs/{id}`.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use ballpoint_analyst::replay::{self, Replay};
use ballpoint_analyst::{Answer, AskError};
use ballpoint_chat::ChatError;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Path;
use crate::shapes::{self, Problem};
use crate::table::{Route, VIEWER, get, post};

/// In characters; what a person types.
const QUESTION_MAX: usize = 2000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/ask", VIEWER, ask),
        get("/api/proofs/{id}", VIEWER, proof),
        post("/api/proofs/{id}/replay", VIEWER, replay),
    ]
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    question: String,
    conversation_id: Option<String>,
    /// Absent: as the project configures.
    backend: Option<Backend>,
}

/// Whoever reads a question.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    /// The local planner alone.
    Planner,
    /// The local planner with the configured model beside it.
    Llm,
}

#[utoipa::path(post, path = "/api/ask", tag = "ask", request_body = Question,
    responses((status = 200, body = shapes::Answer), (status = 429, body = Problem)))]
pub(crate) async fn ask(
    State(app): State<App>,
    asked: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    app.needs_metrics()?;
    let Json(Question {
        question,
        conversation_id,
        backend,
    }) = asked?;
    let question = checked(question)?;
    let answer = match backend {
        Some(Backend::Planner) => app.chat.ask_locally(question, conversation_id).await,
        Some(Backend::Llm) if app.system.backend.model.is_none() => {
            return Err(ApiError::bad_request(
                "no language model is configured: see [llm] in ballpoint.toml".to_owned(),
            ));
        }
        _ => app.chat.ask(question, conversation_id).await,
    };
    Ok(Json(answer.map_err(|error| refused(&app, error))?))
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

fn refused(app: &App, error: ChatError) -> ApiError {
    match error {
        error if app.is_early(&error.to_string()) => ApiError::starting(),
        ChatError::Ask(AskError::Busy) => ApiError::busy(error.to_string()),
        ChatError::Id => ApiError::bad_request(error.to_string()),
        error => ApiError::unavailable(error.to_string()),
    }
}

#[utoipa::path(get, path = "/api/proofs/{id}", tag = "ask", params(("id" = String, Path)),
    responses((status = 200, body = Value), (status = 404, body = Problem)))]
pub(crate) async fn proof(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(kept(&app, &id).await?))
}

async fn kept(app: &App, id: &str) -> Result<Value, ApiError> {
    if let Some(proof) = app.store.proofs().get(id).await? {
        return Ok(proof);
    }
    let none = || ApiError::not_found(format!("no proof {id}"));
    let service = app.metrics.service().await.map_err(|_| none())?;
    // A load's or a statement's, asked for the first time: from now on it is kept.
    let proof = service.proof_of(id).await.ok_or_else(none)?;
    app.store.proofs().put(id, &proof).await?;
    Ok(proof)
}

/// Runs the proof's query again and says what changed.
#[utoipa::path(post, path = "/api/proofs/{id}/replay", tag = "ask", params(("id" = String, Path)),
    responses((status = 200, body = shapes::Replay), (status = 404, body = Problem)))]
pub(crate) async fn replay(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Replay>, ApiError> {
    let proof = kept(&app, &id).await?;
    app.needs_metrics()?;
    let away = |error: &dyn std::fmt::Display| ApiError::unavailable(error.to_string());
    let service = app.metrics.service().await.map_err(|error| away(&error))?;
    let replayed = replay::replay(&service, &proof).await;
    let replayed = replayed.map_err(|error| away(&error))?;
    replayed
        .map(Json)
        .ok_or_else(|| ApiError::conflict(format!("proof {id} has no query to run again")))
}
