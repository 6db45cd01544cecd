//! The chat agent as an OpenAI-compatible model.

use axum::body::to_bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::support::{Stack, VIEWER, text};

const PATH: &str = "/v1/chat/completions";

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

async fn completed(stack: &Stack, body: &Value) -> (StatusCode, Value) {
    let reply = stack.send(Stack::with_body(PATH, VIEWER, body)).await;
    let status = reply.status();
    let bytes = to_bytes(reply.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn said(reply: &Value) -> &str {
    reply["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn a_question_is_completed_with_its_rows_and_its_proof() {
    let stack = Stack::start().await;
    let (_, models) = stack.get("/v1/models").await;
    let model = models["data"][0]["id"].as_str().unwrap();
    let parts = json!([{ "type": "text", "text": "pass rate " }, { "type": "text", "text": "by component" }]);
    let body = json!({ "model": model, "temperature": 0, "messages": [
        { "role": "system", "content": "be brief" }, { "role": "user", "content": parts },
    ] });
    let (status, reply) = completed(&stack, &body).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let text = said(&reply);
    assert_eq!(
        text.lines().filter(|line| line.starts_with("| ")).count(),
        5,
        "{text}"
    );
    let proof = text
        .split("/api/proofs/")
        .nth(1)
        .unwrap()
        .trim_end_matches('`');
    let (status, _) = stack.get(&format!("/api/proofs/{proof}")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn messages_carry_the_conversation_even_where_two_chats_part() {
    let stack = Stack::start().await;
    let first = user("pass rate of refills yesterday");
    let (_, one) = completed(&stack, &json!({ "messages": [first] })).await;
    let reply = json!({ "role": "assistant", "content": said(&one) });
    let follow = |question: &str| json!({ "messages": [first, reply, user(question)] });
    let (_, bodies) = completed(&stack, &follow("bodies?")).await;
    // Another chat with the same beginning: it knows nothing of the bodies.
    let (_, springs) = completed(&stack, &follow("springs?")).await;
    // And one that nobody here has seen.
    let unseen = json!({ "messages": [
        user("scrap rate of springs yesterday"), reply, user("bodies?"),
    ] });
    let (_, unseen) = completed(&stack, &unseen).await;
    for (reply, word) in [
        (&bodies, "bodies"),
        (&springs, "springs"),
        (&unseen, "bodies"),
    ] {
        assert!(said(reply).to_lowercase().contains(word), "{reply}");
        assert!(said(reply).contains("/api/proofs/"), "{reply}");
    }
}

#[tokio::test]
async fn a_streamed_completion_says_the_same_in_pieces() {
    let stack = Stack::start().await;
    let messages = json!([user("pass rate by component")]);
    let (_, whole) = completed(&stack, &json!({ "messages": messages })).await;
    let body = json!({ "messages": messages, "stream": true, "stream_options": { "include_usage": true } });
    let reply = stack.send(Stack::with_body(PATH, VIEWER, &body)).await;
    assert!(text(reply.headers(), "content-type").starts_with("text/event-stream"));
    let bytes = to_bytes(reply.into_body(), usize::MAX).await.unwrap();
    let events = String::from_utf8(bytes.to_vec()).unwrap();
    let mut data: Vec<&str> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{events}");
    let pieces: Vec<Value> = data
        .iter()
        .map(|piece| serde_json::from_str(piece).unwrap())
        .collect();
    assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
    let spoken: String = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
        .collect();
    let shown = |text: &str| text.split("\n\nProof").next().unwrap().to_owned();
    assert_eq!(shown(&spoken), shown(said(&whole)));
    let last = &pieces[pieces.len() - 2..];
    assert_eq!(last[0]["choices"][0]["finish_reason"], "stop");
    assert!(last[1]["usage"].is_object(), "{events}");
}

#[tokio::test]
async fn what_cannot_be_completed_is_refused_in_openais_words() {
    let stack = Stack::start().await;
    let cases = [
        (
            json!({ "model": "gpt-9", "messages": [user("x")] }),
            StatusCode::NOT_FOUND,
            "gpt-9",
        ),
        (
            json!({ "messages": [] }),
            StatusCode::BAD_REQUEST,
            "no message of the user",
        ),
        (
            json!({ "messages": [user(" ")] }),
            StatusCode::BAD_REQUEST,
            "characters",
        ),
        (
            json!({ "messages": [user("oee")], "n": 2 }),
            StatusCode::BAD_REQUEST,
            "`n`",
        ),
        (
            json!({ "messages": "oee" }),
            StatusCode::BAD_REQUEST,
            "messages",
        ),
    ];
    for (body, status, words) in cases {
        let (found, reply) = completed(&stack, &body).await;
        assert_eq!(found, status, "{reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{reply}");
        assert!(reply["error"]["type"].is_string(), "{reply}");
    }
}
