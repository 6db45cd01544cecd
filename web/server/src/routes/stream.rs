//! `POST /api/chat/stream`: a turn as it runs, in the AI SDK's UI message stream, version 1.
//!
//! Every piece that is not the SDK's own stands inside a `data-…` part or the message's metadata,
//! because some versions of the SDK refuse keys that they do not know. The client's going away drops
//! the stream, and with it the turn.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use ballpoint_analyst::progress::TurnPart;
use ballpoint_analyst::{Answer, Behaviour};
use ballpoint_chat::{ChatError, ChatHandle};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use utoipa::ToSchema;

use super::ask::checked;
use crate::app::App;
use crate::error::{ApiError, STARTING};
use crate::table::{Route, VIEWER, post};

/// Pieces on their way to the client; the turn waits for one that reads slowly.
pub(super) const PIECES_MAX: usize = 32;

/// A comment while a slow step runs.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the SDK knows the protocol and its version by.
const PROTOCOL: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-vercel-ai-ui-message-stream"),
    HeaderValue::from_static("v1"),
);

pub(super) fn routes() -> Vec<Route> {
    vec![post("/api/chat/stream", VIEWER, stream)]
}

/// A question, or what the AI SDK's `useChat` sends: the chat's id and its messages, of which the
/// last one of the user is the question.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Asked {
    Question {
        question: String,
        conversation_id: Option<String>,
    },
    Messages {
        id: Option<String>,
        messages: Vec<UiMessage>,
    },
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct UiMessage {
    role: String,
    #[serde(default)]
    parts: Vec<UiPart>,
    /// What older versions of the SDK send in place of parts.
    content: Option<String>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct UiPart {
    r#type: String,
    #[serde(default)]
    text: String,
}

impl Asked {
    /// The question and its conversation.
    fn question(self) -> Result<(String, Option<String>), ApiError> {
        let (question, conversation) = match self {
            Self::Question {
                question,
                conversation_id,
            } => (question, conversation_id),
            Self::Messages { id, messages } => {
                let last = messages.into_iter().rfind(|it| it.role == "user");
                let last = last.ok_or_else(|| {
                    ApiError::bad_request("there is no message of the user among `messages`")
                })?;
                let texts = last.parts.into_iter().filter(|it| it.r#type == "text");
                let text: String = texts.map(|part| part.text).collect();
                let text = if text.is_empty() {
                    last.content.unwrap_or_default()
                } else {
                    text
                };
                (text, id)
            }
        };
        Ok((checked(question)?, conversation))
    }
}

#[utoipa::path(post, path = "/api/chat/stream", tag = "ask", request_body = Asked,
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "AI SDK UI message stream v1: start, data-step, data-notice, text-start, \
                       text-delta, text-end, data-clarify, data-answer, data-followups, finish, \
                       error, [DONE]")))]
pub(crate) async fn stream(
    State(app): State<App>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<impl IntoResponse, ApiError> {
    app.needs_metrics()?;
    let (question, conversation) = asked?.0.question()?;
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let turn = Turn {
        pieces,
        app: app.clone(),
        text_id: None,
    };
    // Dropped with the stream: the turn ends with the client.
    let gone = CancellationToken::new();
    let run = turn.run(app.chat, question, conversation);
    tokio::spawn(
        gone.clone()
            .run_until_cancelled_owned(run.in_current_span()),
    );
    let state = (received, gone.drop_guard());
    let events = stream::unfold(state, |(mut received, guard)| async move {
        let piece: Event = received.recv().await?;
        Some((Ok::<_, Infallible>(piece), (received, guard)))
    });
    let done = stream::iter([Ok(Event::default().data("[DONE]"))]);
    let feed = Sse::new(events.chain(done))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("working"));
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(([PROTOCOL, unbuffered], feed))
}

/// A turn that is told to a client.
struct Turn {
    pieces: mpsc::Sender<Event>,
    app: App,
    /// The text part that is open.
    text_id: Option<String>,
}

impl Turn {
    async fn run(mut self, chat: ChatHandle, question: String, conversation: Option<String>) {
        let (sender, mut parts) = mpsc::channel(PIECES_MAX);
        let answered = {
            let asking = chat.ask_with_progress(question, conversation, sender);
            let mut asking = std::pin::pin!(asking);
            loop {
                tokio::select! {
                    biased;
                    Some(part) = parts.recv() => self.tell(part).await,
                    answered = &mut asking => break answered,
                }
            }
        };
        while let Ok(part) = parts.try_recv() {
            self.tell(part).await;
        }
        self.end(answered).await;
    }

    async fn tell(&mut self, part: TurnPart) {
        match part {
            TurnPart::Started {
                conversation_id,
                message_id,
                trace_id,
            } => {
                let metadata = json!({
                    "conversation_id": conversation_id,
                    "trace_id": trace_id,
                    "backend": self.app.system.backend.name,
                });
                self.send(json!({
                    "type": "start", "messageId": message_id, "messageMetadata": metadata,
                }))
                .await;
            }
            TurnPart::Step {
                id,
                agent,
                label,
                state,
                ms,
                attempt,
            } => {
                let data = json!({
                    "agent": agent, "label": label, "status": state, "ms": ms, "attempt": attempt,
                });
                self.send(json!({ "type": "data-step", "id": id, "data": data }))
                    .await;
            }
            TurnPart::Notice(notice) => {
                self.send(json!({ "type": "data-notice", "data": notice }))
                    .await;
            }
            TurnPart::Text(text) => self.text(&text).await,
        }
    }

    async fn text(&mut self, text: &str) {
        let id = match &self.text_id {
            Some(id) => id.clone(),
            None => {
                let id = "text-1".to_owned();
                self.send(json!({ "type": "text-start", "id": id })).await;
                self.text_id.insert(id).clone()
            }
        };
        self.send(json!({ "type": "text-delta", "id": id, "delta": text }))
            .await;
    }

    async fn end(mut self, answered: Result<Answer, ChatError>) {
        if let Some(id) = self.text_id.take() {
            self.send(json!({ "type": "text-end", "id": id })).await;
        }
        let answer = match answered {
            Ok(answer) => answer,
            Err(ChatError::Stopped) => {
                return self.send(json!({ "type": "abort" })).await;
            }
            Err(error) => {
                let said = error.to_string();
                let said = match self.app.is_early(&said) {
                    true => STARTING.to_owned(),
                    false => said,
                };
                return self
                    .send(json!({ "type": "error", "errorText": said }))
                    .await;
            }
        };
        if answer.behaviour == Behaviour::Clarify {
            self.send(json!({ "type": "data-clarify", "data": clarification(&answer) }))
                .await;
        }
        self.send(json!({ "type": "data-answer", "id": "answer", "data": answer }))
            .await;
        if !answer.follow_ups.is_empty() {
            self.send(json!({ "type": "data-followups", "data": answer.follow_ups }))
                .await;
        }
        self.send(json!({ "type": "finish", "finishReason": "stop" }))
            .await;
    }

    async fn send(&self, piece: Value) {
        // A client that has gone ends the turn elsewhere.
        let _ = self
            .pieces
            .send(Event::default().data(piece.to_string()))
            .await;
    }
}

/// The question back, and what to ask for each choice.
fn clarification(answer: &Answer) -> Value {
    let options: Vec<Value> = answer
        .options
        .iter()
        .map(|it| {
            // Answers of an older version have labels alone.
            let asked = if it.question.is_empty() {
                &it.label
            } else {
                &it.question
            };
            json!({ "label": it.label, "query": it.query, "question": asked })
        })
        .collect();
    // The text repeats the labels for who has no buttons.
    let question = answer
        .options
        .first()
        .and_then(|first| answer.answer.split_once(first.label.as_str()))
        .map_or(answer.answer.as_str(), |(question, _)| question.trim());
    json!({ "question": question, "options": options })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(body: Value) -> Result<(String, Option<String>), ApiError> {
        serde_json::from_value::<Asked>(body).unwrap().question()
    }

    #[test]
    fn a_question_is_read_in_both_forms() {
        let plain = json!({ "question": "pass rate", "conversation_id": "c" });
        let expected = ("pass rate".to_owned(), Some("c".to_owned()));
        assert_eq!(question(plain).unwrap(), expected);
        let sdk = json!({ "id": "c", "trigger": "submit-message", "messages": [
            { "id": "1", "role": "user", "parts": [{ "type": "text", "text": "oee" }] },
            { "id": "2", "role": "assistant", "parts": [{ "type": "data-answer", "data": {} }] },
            { "id": "3", "role": "user", "parts": [
                { "type": "text", "text": "pass " }, { "type": "text", "text": "rate" }] },
        ]});
        assert_eq!(question(sdk).unwrap(), expected);
    }

    #[test]
    fn a_chat_without_a_question_is_refused() {
        assert!(question(json!({ "messages": [] })).is_err());
        assert!(question(json!({ "question": "  " })).is_err());
    }
}
