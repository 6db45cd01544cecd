//! Cube's WebSocket protocol at `/`: the first message brings the token, each later one asks under
//! its own number, and a subscription sends its result again whenever the data under it gives
//! another one.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use ballpoint_metrics::{SecurityContext, Served};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::cube::{self, Method};
use crate::app::App;
use crate::doors::Identity;
use crate::waiting;

/// A query is small; nothing larger is read.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages of one connection that may be at work at a time.
const RUNNING_MAX: usize = 100;
/// Clients say something every minute; one that was silent for longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(240);
/// Replies that wait for a slow reader.
const REPLIES_MAX: usize = 64;
/// What who came in with claims hears once they have ended.
const ENDED: &str = "Invalid token: it has expired";

/// Takes the connection over.
pub(crate) fn accept(app: App, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| serve(app, socket))
}

/// One connection.
struct Connection {
    app: App,
    replies: mpsc::Sender<String>,
    identity: Option<Identity>,
    /// What is being answered, by the messages' numbers; ended with the connection.
    running: HashMap<String, AbortHandle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

async fn serve(app: App, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let (replies, mut waiting) = mpsc::channel::<String>(REPLIES_MAX);
    let mut connection = Connection {
        app,
        replies,
        identity: None,
        running: HashMap::new(),
    };
    let mut close = None;
    loop {
        tokio::select! {
            reply = waiting.recv() => {
                let Some(reply) = reply else { break };
                if sink.send(Message::Text(reply.into())).await.is_err() {
                    break;
                }
            }
            message = tokio::time::timeout(SILENCE_MAX, stream.next()) => match message {
                Ok(Some(Ok(Message::Text(text)))) => connection.on_message(&text),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Binary(_)))) => {
                    close = Some((close_code::UNSUPPORTED, "messages are JSON texts"));
                    break;
                }
                Ok(Some(Err(error))) if error.to_string().contains("too long") => {
                    close = Some((close_code::SIZE, "the message is too large"));
                    break;
                }
                _ => break,
            },
        }
    }
    if let Some((code, reason)) = close {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // The other side may be gone already.
        let _ = sink.send(Message::Close(Some(frame))).await;
    }
}

impl Connection {
    fn say(&self, reply: &Value) {
        // Without a reader the connection is at its end.
        let _ = self.replies.try_send(reply.to_string());
    }

    fn on_message(&mut self, text: &str) {
        self.running.retain(|_, task| !task.is_finished());
        let message: Value = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => {
                let error = format!("the message is not valid JSON: {error}");
                return self.say(&json!({ "status": 400, "message": { "error": error } }));
            }
        };
        if let Some(token) = message["authorization"].as_str() {
            return self.on_token(token);
        }
        if let Some(number) = number(&message["unsubscribe"]) {
            if let Some(task) = self.running.remove(&number) {
                task.abort();
            }
            return;
        }
        let Some(number) = number(&message["messageId"]) else {
            let error = json!({ "error": "messageId is required" });
            return self.say(&json!({ "status": 400, "message": error }));
        };
        let refused = match self.admit() {
            Err((status, error)) => Some((status, error)),
            Ok(()) if self.running.len() >= RUNNING_MAX => {
                Some((429, "too many messages at a time on one connection"))
            }
            Ok(()) => None,
        };
        if let Some((status, error)) = refused {
            let error = json!({ "error": error });
            return self.say(&json!({ "messageId": number, "message": error, "status": status }));
        }
        self.start(number, &message);
    }

    fn on_token(&mut self, token: &str) {
        match self.app.doors.identify_cube_client(token) {
            Ok(identity) => {
                self.identity = Some(identity);
                self.say(&json!({ "handshake": true }));
            }
            Err(error) => {
                self.identity = None;
                let error = json!({ "error": error });
                self.say(&json!({ "message": error, "status": 403 }));
            }
        }
    }

    /// Whether the caller is known and does not ask too often.
    fn admit(&mut self) -> Result<(), (u16, &'static str)> {
        if self.identity.is_none() {
            // Where no token is needed none is sent.
            self.identity = self.app.doors.identify_cube_client("").ok();
        }
        let identity = self.identity.as_ref().ok_or((403, "Not authorized"))?;
        if !self.app.doors.is_current(identity) {
            return Err((403, ENDED));
        }
        match self.app.doors.admit(identity) {
            true => Ok(()),
            false => Err((429, "too many requests with this token")),
        }
    }

    /// Answers a message in a task of its own. Clients send what is unanswered again each minute: a
    /// subscription goes on, anything else begins anew.
    fn start(&mut self, number: String, message: &Value) {
        if message["method"] == "subscribe" && self.running.contains_key(&number) {
            return;
        }
        let Some(identity) = self.identity.clone() else {
            return;
        };
        let answer = Answer {
            app: self.app.clone(),
            replies: self.replies.clone(),
            number: number.clone(),
            context: identity.security_context(),
            identity,
        };
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let params = match &message["params"] {
            Value::Null => json!({}),
            params => params.clone(),
        };
        let task = tokio::spawn(async move {
            let answered = AssertUnwindSafe(answer.run(&method, params));
            if answered.catch_unwind().await.is_err() {
                // The panic itself is logged.
                answer.send(&waiting::broken_off()).await;
                answer.processed().await;
            }
        });
        if let Some(former) = self.running.insert(number, task.abort_handle()) {
            former.abort();
        }
    }
}

/// What one message is answered with.
struct Answer {
    app: App,
    replies: mpsc::Sender<String>,
    number: String,
    identity: Identity,
    context: SecurityContext,
}

impl Answer {
    async fn run(&self, method: &str, params: Value) {
        let (app, context) = (&self.app, &self.context);
        if method == "subscribe" {
            return self.follow(params).await;
        }
        let served = match method {
            "meta" => cube::allowed(context, "meta").map(|()| None),
            "load" => cube::allowed(context, "data").map(|()| Some(Method::Load)),
            "dry-run" => cube::allowed(context, "data").map(|()| Some(Method::DryRun)),
            "sql" => cube::allowed(context, "sql").map(|()| Some(Method::Sql)),
            "" => Err((400, "method is required".to_owned())),
            other => Err((400, format!("Unsupported method: {other}"))),
        };
        let served = match served {
            Err((status, error)) => refused(status, &error),
            Ok(None) => app.metrics.meta(&params, context).await.into(),
            Ok(Some(method)) => cube::serve(app, context, method, &params).await,
        };
        self.send(&served).await;
        self.processed().await;
    }

    /// Sends the result now and after each change of its data.
    async fn follow(&self, params: Value) {
        if let Err((status, error)) = cube::allowed(&self.context, "data") {
            self.send(&refused(status, &error)).await;
            return self.processed().await;
        }
        let results = self.app.metrics.watch(params, self.context.clone());
        let mut results = std::pin::pin!(results);
        let mut first = true;
        while let Some(served) = results.next().await {
            if !self.app.doors.is_current(&self.identity) {
                self.send(&refused(403, ENDED)).await;
                return;
            }
            if !self.send(&served).await {
                return;
            }
            if std::mem::take(&mut first) {
                self.processed().await;
            }
        }
    }

    /// Whether the client is still there.
    async fn send(&self, served: &Served) -> bool {
        let body = match std::str::from_utf8(&served.body) {
            Ok(body) if !body.is_empty() => body,
            _ => "{}",
        };
        let proof = match &served.proof {
            Some(id) => format!(",\"proof\":\"{}\"", String::from_utf8_lossy(id)),
            None => String::new(),
        };
        // The body is JSON already, and may be large.
        let text = format!(
            "{{\"messageId\":{},\"status\":{}{proof},\"message\":{body}}}",
            Value::from(self.number.as_str()),
            served.status
        );
        self.replies.send(text).await.is_ok()
    }

    async fn processed(&self) {
        let text = json!({ "messageProcessedId": self.number }).to_string();
        // Nobody is left to be told.
        let _ = self.replies.send(text).await;
    }
}

fn refused(status: u16, error: &str) -> Served {
    let body = json!({ "error": error });
    ballpoint_metrics::ApiReply { status, body }.into()
}

/// A message's number as text; clients send numbers and texts.
fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}
