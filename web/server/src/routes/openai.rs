//! `/v1/models` and `/v1/chat/completions`: the chat agent as an OpenAI-compatible model.
//!
//! The protocol has no conversation: each request brings all of its messages. [`history`] finds the
//! conversation that they belong to, or tells it anew. What the client asks of a model and an agent
//! does not have (`temperature`, `tools`, …) is read over; what would change the answer's form (`n`)
//! is refused. Errors have OpenAI's shape, because its clients read nothing else.

mod history;
mod text;

use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use ballpoint_analyst::progress::TurnPart;
use ballpoint_analyst::{Answer, AskError};
use ballpoint_chat::ChatError;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::ask::checked;
use super::stream::{HEARTBEAT, PIECES_MAX};
use crate::app::App;
use crate::doors::Identity;
use crate::error::{ApiError, STARTING};
use crate::extract::Path;
use crate::table::{Route, VIEWER, get, post};

/// The one model there is.
const MODEL: &str = "ballpoint";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/v1/models", VIEWER, models),
        get("/v1/models/{id}", VIEWER, model),
        post("/v1/chat/completions", VIEWER, completions),
    ]
}

/// What is read of a request; everything else is left alone.
#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata {
    conversation_id: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
    #[default]
    None,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
            Self::None => String::new(),
        }
    }
}

/// An error as OpenAI's clients read it.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
}

impl Refusal {
    fn request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            message: message.into(),
        }
    }

    fn no_model(name: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::request(format!(
                "The model `{name}` does not exist; there is `{MODEL}`"
            ))
        }
    }

    fn of(app: &App, error: &ChatError) -> Self {
        let said = error.to_string();
        let early = app.is_early(&said);
        let (status, kind) = match error {
            ChatError::Ask(AskError::Busy) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
            ChatError::Id => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "server_error"),
        };
        let message = if early { STARTING.to_owned() } else { said };
        Self {
            status,
            kind,
            code: None,
            message,
        }
    }

    fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": null, "code": self.code,
        } })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::request(rejection.body_text())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self {
            status: error.status(),
            ..Self::request(error.message())
        }
    }
}

async fn models(State(app): State<App>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [described(&app)] }))
}

async fn model(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    match id == MODEL {
        true => Ok(Json(described(&app))),
        false => Err(Refusal::no_model(&id)),
    }
}

fn described(app: &App) -> Value {
    let created = app.clock.real_now().as_second();
    json!({ "id": MODEL, "object": "model", "created": created, "owned_by": app.system.project })
}

async fn completions(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, Refusal> {
    app.needs_metrics()?;
    let Json(asked) = asked?;
    let name = asked.model.as_deref().unwrap_or(MODEL);
    if name != MODEL {
        return Err(Refusal::no_model(name));
    }
    if asked.n.is_some_and(|n| n != 1) {
        return Err(Refusal::request("`n` can only be 1: there is one answer"));
    }
    let mut questions: Vec<String> = asked
        .messages
        .into_iter()
        .filter(|message| message.role == "user")
        .map(|message| message.content.into_text())
        .collect();
    let question = questions
        .pop()
        .ok_or_else(|| Refusal::request("there is no message of the user among `messages`"))?;
    let question = checked(question)?;
    let named = asked.metadata.and_then(|metadata| metadata.conversation_id);
    let conversation = match named.or_else(|| history::named(&headers)) {
        Some(conversation) => conversation,
        None => history::find(&app, identity.name(), &questions, &question)
            .await
            .map_err(|error| Refusal::of(&app, &error))?,
    };
    let completion = Completion::new(&app);
    if asked.stream.unwrap_or_default() {
        let with_usage = asked
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or_default();
        return Ok(completion.streamed(app, question, conversation, with_usage));
    }
    let answer = app.chat.ask(question, Some(conversation)).await;
    let answer = answer.map_err(|error| Refusal::of(&app, &error))?;
    Ok(Json(completion.whole(&answer)).into_response())
}

/// One answer's frame.
#[derive(Clone)]
struct Completion {
    id: String,
    created: i64,
}

impl Completion {
    fn new(app: &App) -> Self {
        Self {
            id: format!("chatcmpl-{}", Uuid::now_v7().simple()),
            created: app.clock.real_now().as_second(),
        }
    }

    fn whole(&self, answer: &Answer) -> Value {
        let said = format!("{}{}", answer.answer, text::beside(answer));
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": MODEL,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": said, "refusal": null },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage(),
        })
    }

    fn piece(&self, choices: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": MODEL, "choices": choices, "usage": usage,
        })
    }

    fn delta(&self, delta: Value, finish: Option<&str>) -> Value {
        let choice =
            json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        self.piece(json!([choice]), Value::Null)
    }

    /// The text as it comes, then what stands beside it. The client's going away ends the turn.
    fn streamed(self, app: App, question: String, conversation: String, usage: bool) -> Response {
        let (pieces, received) = mpsc::channel(PIECES_MAX);
        let gone = CancellationToken::new();
        let run = self.run(app, question, conversation, usage, pieces);
        tokio::spawn(
            gone.clone()
                .run_until_cancelled_owned(run.in_current_span()),
        );
        let state = (received, gone.drop_guard());
        let events = stream::unfold(state, |(mut received, guard)| async move {
            let piece: Value = received.recv().await?;
            let event = Event::default().data(piece.to_string());
            Some((Ok::<_, Infallible>(event), (received, guard)))
        });
        let done = stream::iter([Ok(Event::default().data("[DONE]"))]);
        Sse::new(events.chain(done))
            .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("working"))
            .into_response()
    }

    async fn run(
        self,
        app: App,
        question: String,
        conversation: String,
        with_usage: bool,
        pieces: mpsc::Sender<Value>,
    ) {
        let first = self.delta(json!({ "role": "assistant", "content": "" }), None);
        // A client that has gone ends the turn elsewhere: no send has to be looked at.
        let _ = pieces.send(first).await;
        let (sender, mut parts) = mpsc::channel(PIECES_MAX);
        let telling = async {
            while let Some(part) = parts.recv().await {
                if let TurnPart::Text(said) = part {
                    let _ = pieces
                        .send(self.delta(json!({ "content": said }), None))
                        .await;
                }
            }
        };
        let asking = app
            .chat
            .ask_with_progress(question, Some(conversation), sender);
        let (answered, ()) = tokio::join!(asking, telling);
        match answered {
            Ok(answer) => {
                let beside = text::beside(&answer);
                if !beside.is_empty() {
                    let _ = pieces
                        .send(self.delta(json!({ "content": beside }), None))
                        .await;
                }
                let _ = pieces.send(self.delta(json!({}), Some("stop"))).await;
                if with_usage {
                    let _ = pieces.send(self.piece(json!([]), usage())).await;
                }
            }
            Err(error) => {
                let _ = pieces.send(Refusal::of(&app, &error).body()).await;
            }
        }
    }
}

/// The planner reads no tokens, and what a model behind it read is not the client's to pay.
fn usage() -> Value {
    json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 })
}
