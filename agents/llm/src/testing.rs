//! A model server for tests: speaks the chat completions protocol, streamed and not, and can be told
//! to fail in every way in which servers do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A completion: streamed when the request asks for it, else in one piece.
    Complete(Value),
    /// A completion in one piece, whatever the request asks for.
    Whole(Value),
    /// An event stream, as it goes over the wire.
    Stream(Vec<Piece>),
    /// A status with its headers and body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Nothing for so long, then the act.
    After(Duration, Box<Act>),
}

/// A piece of a stream.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Nothing comes any more, and the connection stays.
    Stall,
    /// The connection breaks.
    Reset,
}

impl Piece {
    /// An event with JSON data.
    pub fn event(data: &Value) -> Self {
        Self::text(&format!("data: {data}\n\n"))
    }

    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub authorization: Option<String>,
    pub body: Value,
}

impl Request {
    /// The question in the first message of the user.
    pub fn question(&self) -> String {
        let messages = self.body["messages"].as_array();
        let first = messages
            .into_iter()
            .flatten()
            .find(|it| it["role"] == "user");
        let text = first
            .and_then(|it| it["content"].as_str())
            .unwrap_or_default();
        let question = text.split_once("Question: ").map_or(text, |(_, rest)| rest);
        let end = question
            .find("\n\nRead for certain")
            .unwrap_or(question.len());
        question[..end].to_owned()
    }

    /// How often the model's replies to this question were sent back.
    pub fn repairs(&self) -> usize {
        let messages = self.body["messages"].as_array();
        let said = |it: &&Value| it["role"] == "assistant";
        messages.into_iter().flatten().filter(said).count()
    }
}

type Script = dyn Fn(&Request) -> Act + Send + Sync;

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
}

/// A running server; ends when dropped.
pub struct StubModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl StubModel {
    /// Starts on a port of its own; every request is answered by the script.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
        });
        let app = Router::new()
            .route("/v1/chat/completions", post(serve))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, app).await;
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// The same acts for every question, one after the other; the last one again and again.
    pub async fn acting(acts: Vec<Act>) -> Self {
        let left = Mutex::new(VecDeque::from(acts));
        Self::start(move |_| {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            match left.len() {
                0 => Act::Status(500, Vec::new(), String::new()),
                1 => left[0].clone(),
                _ => left.pop_front().expect("there are several"),
            }
        })
        .await
    }

    /// What goes into `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for StubModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let request = Request {
        authorization: headers
            .get("authorization")
            .and_then(|it| it.to_str().ok().map(str::to_owned)),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let act = (shared.script)(&request);
    let streamed = request.body["stream"] == true;
    shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    perform(act, streamed).await
}

async fn perform(act: Act, streamed: bool) -> Response<Body> {
    match act {
        Act::Complete(completion) if streamed => events(chunks(&completion)),
        Act::Complete(completion) | Act::Whole(completion) => {
            axum::Json(completion).into_response()
        }
        Act::Stream(pieces) => events(pieces),
        Act::Status(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).expect("a valid response")
        }
        Act::After(wait, act) => {
            tokio::time::sleep(wait).await;
            Box::pin(perform(*act, streamed)).await
        }
    }
}

fn events(pieces: Vec<Piece>) -> Response<Body> {
    let stream = stream::unfold(pieces.into_iter(), |mut left| async move {
        match left.next()? {
            Piece::Bytes(bytes) => {
                // Each piece is a write of its own.
                tokio::task::yield_now().await;
                Some((Ok(Bytes::from(bytes)), left))
            }
            Piece::Stall => std::future::pending::<Option<_>>().await,
            Piece::Reset => Some((Err(std::io::Error::other("reset")), left)),
        }
    });
    let headers = [("content-type", "text/event-stream")];
    (headers, Body::from_stream(stream)).into_response()
}

/// A completion as a server streams it: the role, the pieces of the message, the end, the usage.
pub fn chunks(completion: &Value) -> Vec<Piece> {
    let message = &completion["choices"][0]["message"];
    let chunk = |delta: Value, finish: Value| {
        Piece::event(&json!({
            "id": completion["id"], "object": "chat.completion.chunk", "model": completion["model"],
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        }))
    };
    let mut out = vec![chunk(
        json!({ "role": "assistant", "content": null }),
        Value::Null,
    )];
    if let Some(text) = message["content"].as_str() {
        for piece in split(text) {
            out.push(chunk(json!({ "content": piece }), Value::Null));
        }
    }
    if let Some(text) = message["refusal"].as_str() {
        out.push(chunk(json!({ "refusal": text }), Value::Null));
    }
    let calls = message["tool_calls"].as_array();
    for (index, call) in calls.into_iter().flatten().enumerate() {
        let function = &call["function"];
        out.push(chunk(
            json!({ "tool_calls": [{ "index": index, "id": call["id"], "type": "function",
                "function": { "name": function["name"], "arguments": "" } }] }),
            Value::Null,
        ));
        for piece in split(function["arguments"].as_str().unwrap_or_default()) {
            out.push(chunk(
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }),
                Value::Null,
            ));
        }
    }
    out.push(chunk(
        json!({}),
        completion["choices"][0]["finish_reason"].clone(),
    ));
    if !completion["usage"].is_null() {
        out.push(Piece::event(
            &json!({ "id": completion["id"], "choices": [], "usage": completion["usage"] }),
        ));
    }
    out.push(Piece::text("data: [DONE]\n\n"));
    out
}

fn split(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(7).map(|it| it.iter().collect()).collect()
}

/// A completion that calls a tool.
pub fn call(tool: &str, arguments: &Value) -> Value {
    call_text(tool, &arguments.to_string())
}

/// The same with arguments as the model wrote them.
pub fn call_text(tool: &str, arguments: &str) -> Value {
    completion(
        json!({
            "role": "assistant", "content": null,
            "tool_calls": [{ "id": "call_1", "type": "function", "function": { "name": tool, "arguments": arguments } }],
        }),
        "tool_calls",
    )
}

/// A completion of a message.
pub fn completion(message: Value, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_774_951_200, "model": "stub-1",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason }],
        "usage": { "prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940 },
    })
}
