//! The JSON contract of the original Python backend: `POST /chat`, `GET /agents`, `/session/{id}`,
//! so that its Next.js front end works unchanged. A session is a conversation.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ballpoint_analyst::{Answer, AskError, Behaviour};
use ballpoint_chat::ChatError;
use ballpoint_runtime::store::StoreError;
use ballpoint_runtime::supervision::{ActorState, ActorStatus};
use serde::Serialize;
use serde_json::{Value, json};

use self::chart::ChartData;
use crate::app::App;
use crate::error::{RETRY_SOON, STARTING};
use crate::extract::Path;
use crate::table::{OPERATOR, Route, VIEWER, delete, get, post};

mod chart;

/// The original's limits, in characters.
const MESSAGE_MIN: usize = 1;
const MESSAGE_MAX: usize = 500;

const SUGGESTED_MAX: usize = 3;

/// Messages counted of a session.
const MESSAGES_MAX: u32 = 10_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/chat", VIEWER, chat),
        get("/agents", VIEWER, agents),
        get("/session/{id}", VIEWER, session),
        delete("/session/{id}", OPERATOR, forget),
    ]
}

#[derive(Serialize)]
struct ChatResponse {
    message: String,
    session_id: String,
    chart: Option<ChartData>,
    insights: Option<Vec<String>>,
    suggested_questions: Vec<String>,
    /// Ours: what the answer rests on. The original's front end passes over it.
    proof_id: Option<String>,
    query: Option<Value>,
}

impl From<Answer> for ChatResponse {
    fn from(answer: Answer) -> Self {
        let choices = || answer.options.iter().map(|it| it.label.clone());
        let suggested: Vec<String> = match answer.behaviour {
            Behaviour::Clarify => choices().collect(),
            _ => answer
                .follow_ups
                .iter()
                .take(SUGGESTED_MAX)
                .cloned()
                .collect(),
        };
        let insights = insights(&answer.answer);
        Self {
            chart: chart::draw(&answer),
            insights: (!insights.is_empty()).then_some(insights),
            suggested_questions: suggested,
            message: answer.answer,
            session_id: answer.conversation_id,
            proof_id: answer.proof_id,
            query: answer.query.map(|query| json!(query)),
        }
    }
}

/// What stands in the text beside its first sentence.
fn insights(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut rest = text.trim();
    // A full stop within a figure is followed by a digit, one within a name by no space.
    while let Some(at) = rest.match_indices(". ").find_map(|(at, _)| {
        let next = rest[at + 2..].chars().next()?;
        next.is_uppercase().then_some(at + 1)
    }) {
        sentences.push(rest[..at].trim().to_owned());
        rest = rest[at..].trim_start();
    }
    sentences.push(rest.to_owned());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.split_off(sentences.len().min(1))
}

async fn chat(State(app): State<App>, body: Bytes) -> Response {
    let (message, session) = match read(&body) {
        Ok(request) => request,
        Err(problem) => return unprocessable(problem),
    };
    if !app.system.has_metrics {
        return detail(
            StatusCode::NOT_FOUND,
            "The project has no metrics to ask about",
        );
    }
    match app.chat.ask(message, session.clone()).await {
        Ok(answer) => Json(ChatResponse::from(answer)).into_response(),
        Err(ChatError::Ask(AskError::Busy)) => {
            detail(StatusCode::TOO_MANY_REQUESTS, "Too many questions at once")
        }
        Err(error @ ChatError::Id) => unprocessable(json!({
            "type": "value_error", "loc": ["body", "session_id"],
            "msg": format!("Value error, {error}"), "input": session,
        })),
        Err(error) if app.is_early(&error.to_string()) => {
            let early = detail(StatusCode::SERVICE_UNAVAILABLE, STARTING);
            ([RETRY_SOON], early).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "a question got no answer");
            detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
    }
}

/// The message and its session, or what FastAPI says of the body.
fn read(body: &[u8]) -> Result<(String, Option<String>), Value> {
    let problem = |kind: &str, at: Value, said: &str, input: &Value, context: Value| {
        let mut problem = json!({ "type": kind, "loc": at, "msg": said, "input": input });
        if !context.is_null() {
            problem["ctx"] = context;
        }
        problem
    };
    if body.is_empty() {
        let missing = problem(
            "missing",
            json!(["body"]),
            "Field required",
            &Value::Null,
            Value::Null,
        );
        return Err(missing);
    }
    let request: Value = serde_json::from_slice(body).map_err(|error| {
        let context = json!({ "error": error.to_string() });
        let at = json!(["body", error.column()]);
        problem("json_invalid", at, "JSON decode error", &json!({}), context)
    })?;
    if !request.is_object() {
        let said = "Input should be a valid dictionary or object to extract fields from";
        let at = json!(["body"]);
        return Err(problem(
            "model_attributes_type",
            at,
            said,
            &request,
            Value::Null,
        ));
    }
    let at = json!(["body", "message"]);
    let message = match &request["message"] {
        Value::String(message) => message,
        Value::Null if request.get("message").is_none() => {
            return Err(problem(
                "missing",
                at,
                "Field required",
                &request,
                Value::Null,
            ));
        }
        other => {
            let said = "Input should be a valid string";
            return Err(problem("string_type", at, said, other, Value::Null));
        }
    };
    let (input, length) = (&request["message"], message.chars().count());
    if length < MESSAGE_MIN {
        let context = json!({ "min_length": MESSAGE_MIN });
        let said = "String should have at least 1 character";
        return Err(problem("string_too_short", at, said, input, context));
    }
    if length > MESSAGE_MAX {
        let context = json!({ "max_length": MESSAGE_MAX });
        let said = "String should have at most 500 characters";
        return Err(problem("string_too_long", at, said, input, context));
    }
    let session = match &request["session_id"] {
        Value::Null => None,
        // The original replaces a session that it does not know; an empty one is none.
        Value::String(session) => Some(session.clone()).filter(|it| !it.is_empty()),
        other => {
            let at = json!(["body", "session_id"]);
            let said = "Input should be a valid string";
            return Err(problem("string_type", at, said, other, Value::Null));
        }
    };
    // PostgreSQL keeps no NUL.
    Ok((message.replace('\0', " "), session))
}

fn unprocessable(problem: Value) -> Response {
    let body = json!({ "detail": [problem] });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

fn detail(status: StatusCode, said: &str) -> Response {
    (status, Json(json!({ "detail": said }))).into_response()
}

#[derive(Serialize)]
struct AgentInfo {
    name: String,
    status: &'static str,
    description: &'static str,
    provider: &'static str,
    tools: Vec<&'static str>,
    memory_enabled: bool,
}

/// What is supervised as an agent.
async fn agents(State(app): State<App>) -> Json<Value> {
    let tree = app.actors();
    let supervisor = tree.iter().flat_map(ActorStatus::all);
    let agents: Vec<AgentInfo> = supervisor
        .filter(|it| it.name == "agents")
        .flat_map(|it| &it.children)
        .map(|it| agent(it, app.system.backend.name))
        .collect();
    Json(json!({ "total_count": agents.len(), "agents": agents }))
}

fn agent(actor: &ActorStatus, backend: &'static str) -> AgentInfo {
    let (description, tools): (_, &[&'static str]) = match actor.name.as_str() {
        "chat" => (
            "Conversations: context, clarifying questions, follow-ups",
            &[],
        ),
        "analyst" => (
            "Turns questions into metric queries, their rows into charts and proved answers",
            &["query_metrics"],
        ),
        "reverse_etl_agent" => (
            "Turns requests into plans that write back, for a person to approve",
            &["query_metrics", "plan_write_back"],
        ),
        _ => ("An agent", &[]),
    };
    AgentInfo {
        name: actor.name.clone(),
        status: if actor.state == ActorState::Running {
            "active"
        } else {
            "inactive"
        },
        description,
        provider: backend,
        tools: tools.to_vec(),
        memory_enabled: actor.name == "chat",
    }
}

async fn session(State(app): State<App>, Path(id): Path<String>) -> Response {
    let messages = app.store.conversations().messages(&id, MESSAGES_MAX).await;
    match messages.as_deref() {
        Err(error) => unavailable(error),
        Ok([]) => detail(StatusCode::NOT_FOUND, "Session not found"),
        Ok(all @ [first, ..]) => Json(json!({
            "session_id": id,
            "message_count": all.len(),
            "created_at": first.at,
            "last_activity": all.last().unwrap_or(first).at,
        }))
        .into_response(),
    }
}

async fn forget(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.store.conversations().delete(&id).await {
        Err(error) => unavailable(&error),
        Ok(false) => detail(StatusCode::NOT_FOUND, "Session not found"),
        Ok(true) => Json(json!({ "message": "Session deleted" })).into_response(),
    }
}

fn unavailable(error: &StoreError) -> Response {
    tracing::warn!(%error, "a session could not be read");
    detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_wrong_is_refused_as_fastapi_refuses_it() {
        let missing = json!({ "type": "missing", "loc": ["body", "message"],
            "msg": "Field required", "input": {} });
        assert_eq!(read(b"{}").unwrap_err(), missing);
        let long = "x".repeat(501);
        let body = json!({ "message": long }).to_string();
        let too_long = json!({ "type": "string_too_long", "loc": ["body", "message"],
            "msg": "String should have at most 500 characters", "input": long,
            "ctx": { "max_length": 500 } });
        assert_eq!(read(body.as_bytes()).unwrap_err(), too_long);
        let kind = |body: &str| read(body.as_bytes()).unwrap_err()["type"].clone();
        assert_eq!(kind(r#"{"message": ""}"#), "string_too_short");
        assert_eq!(kind(r#"{"message": 5}"#), "string_type");
        assert_eq!(kind(r#"{"message": "a", "session_id": 5}"#), "string_type");
        assert_eq!(kind("[1]"), "model_attributes_type");
        assert_eq!(kind("{"), "json_invalid");
        assert_eq!(kind(""), "missing");
        let body = json!({ "message": "é".repeat(500), "session_id": "s" }).to_string();
        assert_eq!(read(body.as_bytes()).unwrap().1.as_deref(), Some("s"));
    }

    #[test]
    fn insights_are_the_sentences_after_the_first() {
        let text = "Pass rate is 93.2 %. The lowest is 91.05 % (north). 3 of 9 are below it.";
        let beside = ["The lowest is 91.05 % (north). 3 of 9 are below it."];
        assert_eq!(insights(text), beside);
        assert!(insights("One sentence.").is_empty());
        assert!(insights("").is_empty());
    }
}
