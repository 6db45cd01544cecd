//! Questions over HTTP: streamed, in the original's contract, and run again.

use std::time::Duration;

use axum::body::to_bytes;
use axum::http::StatusCode;
use ballpoint_runtime::supervision::ActorState;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::support::{OPERATOR, PATIENCE, Stack, VIEWER, read, text};

/// The pieces of a streamed turn, `[DONE]` checked and left out.
async fn turn(stack: &Stack, body: &Value) -> Vec<Value> {
    let reply = stack
        .send(Stack::with_body("/api/chat/stream", VIEWER, body))
        .await;
    assert_eq!(reply.status(), StatusCode::OK);
    let headers = reply.headers();
    assert_eq!(text(headers, "x-vercel-ai-ui-message-stream"), "v1");
    assert_eq!(text(headers, "x-accel-buffering"), "no");
    assert!(text(headers, "content-type").starts_with("text/event-stream"));
    let bytes = to_bytes(reply.into_body(), usize::MAX).await.unwrap();
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    let mut data: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{body}");
    let parsed = data.iter().map(|piece| serde_json::from_str(piece));
    parsed.collect::<Result<_, _>>().unwrap()
}

fn kinds(pieces: &[Value]) -> Vec<&str> {
    pieces
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect()
}

fn piece<'a>(pieces: &'a [Value], kind: &str) -> &'a Value {
    pieces
        .iter()
        .find(|it| it["type"] == kind)
        .unwrap_or_else(|| panic!("no {kind} among {:?}", kinds(pieces)))
}

#[tokio::test]
async fn a_turn_is_streamed_as_the_ai_sdk_reads_it() {
    let stack = Stack::start().await;
    let asked = json!({ "question": "pass rate by component", "conversation_id": "c1" });
    let pieces = turn(&stack, &asked).await;
    let order = kinds(&pieces);
    assert_eq!(order.first(), Some(&"start"), "{order:?}");
    assert_eq!(order.last(), Some(&"finish"), "{order:?}");
    let start = &pieces[0];
    assert!(start["messageId"].is_string());
    assert_eq!(start["messageMetadata"]["conversation_id"], "c1");
    assert_eq!(start["messageMetadata"]["backend"], "planner");
    let step = piece(&pieces, "data-step");
    assert!(step["id"].is_string() && step["data"]["label"].is_string());
    let place = |kind: &str| order.iter().position(|it| *it == kind).unwrap();
    assert!(place("text-start") < place("text-delta"));
    assert!(place("text-delta") < place("text-end"));
    let answer = &piece(&pieces, "data-answer")["data"];
    let deltas = pieces.iter().filter(|it| it["type"] == "text-delta");
    let said: String = deltas.map(|it| it["delta"].as_str().unwrap()).collect();
    assert_eq!(said, answer["answer"]);
    assert_eq!(answer["rows"].as_array().unwrap().len(), 3);
    // Keys beside the SDK's own stand inside `data` or `messageMetadata`.
    for piece in &pieces {
        let known = [
            "type",
            "id",
            "data",
            "delta",
            "messageId",
            "messageMetadata",
            "finishReason",
        ];
        for key in piece.as_object().unwrap().keys() {
            assert!(known.contains(&key.as_str()), "{piece}");
        }
    }
}

#[tokio::test]
async fn a_chat_of_the_sdk_goes_on_where_it_was_and_is_listed() {
    let stack = Stack::start().await;
    let message =
        |text: &str| json!({ "role": "user", "parts": [{ "type": "text", "text": text }] });
    let first = json!({ "id": "sdk", "messages": [message("pass rate of refills yesterday")] });
    turn(&stack, &first).await;
    let second = json!({ "id": "sdk", "messages": [message("x"), message("bodies?")] });
    let pieces = turn(&stack, &second).await;
    let answer = &piece(&pieces, "data-answer")["data"];
    assert_eq!(answer["conversation_id"], "sdk");
    assert!(answer["query"].to_string().contains("bodies"), "{answer}");

    let (_, list) = stack.get("/api/conversations?search=REFILLS").await;
    assert_eq!(list["items"][0]["id"], "sdk");
    assert_eq!(list["items"][0]["title"], "pass rate of refills yesterday");
    let (_, none) = stack
        .get("/api/conversations?search=nothing%20like%20it")
        .await;
    assert_eq!(none["items"], json!([]));
    let (_, one) = stack.get("/api/conversations/sdk").await;
    let roles = one["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["role"].clone());
    let roles: Vec<Value> = roles.collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!(one["messages"][3]["answer"], *answer);
    let forget = || Stack::request("DELETE", "/api/conversations/sdk", Some(OPERATOR));
    assert_eq!(stack.send(forget()).await.status(), StatusCode::OK);
    assert_eq!(stack.send(forget()).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_question_back_comes_with_its_choices() {
    let stack = Stack::start().await;
    let pieces = turn(&stack, &json!({ "question": "show me quality" })).await;
    let answer = &piece(&pieces, "data-answer")["data"];
    assert_eq!(answer["behaviour"], "clarify", "{answer}");
    let clarify = &piece(&pieces, "data-clarify")["data"];
    let options = clarify["options"].as_array().unwrap();
    assert!(!options.is_empty() && clarify["question"].is_string());
    for option in options {
        assert!(option["label"].is_string() && option["question"].is_string());
        assert!(option["query"].is_object());
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_asked_is_an_error_before_the_stream_or_in_it() {
    let stack = Stack::start().await;
    for body in [
        json!({}),
        json!({ "question": "" }),
        json!({ "messages": [] }),
    ] {
        let reply = stack
            .send(Stack::with_body("/api/chat/stream", VIEWER, &body))
            .await;
        let (status, said) = read(reply).await;
        assert!(status.is_client_error(), "{body}: {status}");
        assert!(said["error"].is_string(), "{body}: {said}");
    }
    let id = "x".repeat(300);
    let pieces = turn(&stack, &json!({ "question": "oee", "conversation_id": id })).await;
    assert!(piece(&pieces, "error")["errorText"].is_string());
}

#[tokio::test]
async fn a_question_before_the_first_build_is_asked_to_come_again() {
    let said = "the first pass is still running; nothing is built yet";
    let stack = Stack::before_the_first_build().await;
    let question = "pass rate by component";
    for (path, body) in [
        ("/api/ask", json!({ "question": question })),
        ("/chat", json!({ "message": question })),
    ] {
        let reply = stack.send(Stack::with_body(path, VIEWER, &body)).await;
        assert!(text(reply.headers(), "retry-after").parse::<u32>().is_ok());
        let (status, body) = read(reply).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {body}");
        let expected = match path {
            "/chat" => json!({ "detail": said }),
            _ => json!({ "error": said, "code": "starting" }),
        };
        assert_eq!(body, expected);
    }
    let pieces = turn(&stack, &json!({ "question": question })).await;
    assert_eq!(piece(&pieces, "error")["errorText"], said);
    let service = stack.app.metrics.service().await.unwrap();
    let measure = &service.snapshot.catalog.cubes[0].measures[0].name;
    let query = json!({ "query": { "measures": [measure] } });
    let (status, body) = stack.post("/cubejs-api/v1/load", &query).await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::OK, &json!("Continue wait"))
    );
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_turn() {
    let stack = Stack::start().await;
    // While the analyst is paused, a turn waits for it.
    stack.tree.pause("analyst").await.unwrap();
    let asked = json!({ "question": "pass rate by component", "conversation_id": "gone" });
    let reply = stack
        .send(Stack::with_body("/api/chat/stream", VIEWER, &asked))
        .await;
    let mut body = reply.into_body().into_data_stream();
    let first = tokio::time::timeout(PATIENCE, body.next()).await.unwrap();
    assert!(first.is_some(), "the turn has begun");
    drop(body);
    stack.tree.resume("analyst").await.unwrap();
    // Somebody else's turn is answered meanwhile; the one that was left is not.
    let (status, _) = stack
        .post("/api/ask", &json!({ "question": "pass rate by component" }))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = stack.get("/api/conversations/gone").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_turn_fails_no_question() {
    let stack = Stack::start().await;
    let asked = json!({ "question": "pass rate by component" });
    let (pieces, restarted) = tokio::join!(turn(&stack, &asked), stack.tree.restart("chat"));
    restarted.unwrap();
    assert_eq!(piece(&pieces, "data-answer")["data"]["behaviour"], "answer");
}

#[tokio::test]
async fn a_proof_that_is_run_again_says_whether_anything_changed() {
    let stack = Stack::start().await;
    let (_, answer) = stack
        .post(
            "/api/ask",
            &json!({ "question": "pass rate by component last week" }),
        )
        .await;
    let proof = answer["proof_id"].as_str().unwrap();
    let replay = format!("/api/proofs/{proof}/replay");
    let (status, same) = stack.post(&replay, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{same}");
    assert_eq!(
        (&same["same"], &same["changed"]),
        (&json!(true), &json!([]))
    );
    let spoil =
        "update marts.fct_production set is_passed = false where component_type = 'refills'";
    sqlx::raw_sql(spoil)
        .execute(stack.store.pool())
        .await
        .unwrap();
    let (_, other) = stack.post(&replay, &json!({})).await;
    assert_eq!(other["same"], false, "{other}");
    assert_ne!(other["changed"], json!([]), "{other}");
    let (status, _) = stack.post("/api/proofs/none/replay", &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_original_front_end_asks_reads_its_session_and_ends_it() {
    let stack = Stack::start().await;
    let (status, body) = stack
        .post("/chat", &json!({ "message": "pass rate by component" }))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(!body["message"].as_str().unwrap().is_empty());
    assert_eq!(body["chart"]["chart_type"], "bar");
    let data = &body["chart"]["data"];
    assert_eq!(data["labels"].as_array().unwrap().len(), 3);
    assert!(
        data["datasets"][0]["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_number)
    );
    assert!(body["suggested_questions"].is_array());
    assert!(body["insights"].is_array() || body["insights"].is_null());
    let session = body["session_id"].as_str().unwrap();
    let (_, again) = stack
        .post(
            "/chat",
            &json!({ "message": "only refills", "session_id": session }),
        )
        .await;
    assert_eq!(again["session_id"], session);
    let path = format!("/session/{session}");
    let (status, info) = stack.get(&path).await;
    assert_eq!(
        (status, &info["message_count"]),
        (StatusCode::OK, &json!(4))
    );
    assert!(info["created_at"].is_string() && info["last_activity"].is_string());
    let end = || Stack::request("DELETE", &path, Some(OPERATOR));
    let (status, ended) = read(stack.send(end()).await).await;
    assert_eq!(
        (status, ended),
        (StatusCode::OK, json!({ "message": "Session deleted" }))
    );
    let (status, gone) = read(stack.send(end()).await).await;
    assert_eq!(
        (status, gone),
        (
            StatusCode::NOT_FOUND,
            json!({ "detail": "Session not found" })
        )
    );

    let (status, refused) = stack.post("/chat", &json!({})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["detail"][0]["msg"], "Field required");
    for session in ["x".repeat(300), "a\0b".to_owned()] {
        let asked = json!({ "message": "pass rate", "session_id": session });
        let (status, refused) = stack.post("/chat", &asked).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let at = &refused["detail"][0]["loc"];
        assert_eq!(at, &json!(["body", "session_id"]), "{refused}");
    }
    let (_, agents) = stack.get("/agents").await;
    let list = agents["agents"].as_array().unwrap();
    assert_eq!(agents["total_count"], list.len());
    for agent in list {
        for key in [
            "name",
            "status",
            "description",
            "provider",
            "tools",
            "memory_enabled",
        ] {
            assert!(!agent[key].is_null(), "{key}: {agent}");
        }
        assert_eq!(agent["status"], "active");
    }
    let (status, health) = stack.get("/health").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["cubejs_connected"], true);
    assert!(health["version"].is_string());
}

#[tokio::test]
async fn an_actor_is_paused_resumed_and_restarted_by_name() {
    let stack = Stack::start().await;
    let state = || {
        let root = stack.tree.describe();
        let all: Vec<_> = root.iter().flat_map(|it| it.all()).cloned().collect();
        all.into_iter().find(|it| it.name == "chat").unwrap().state
    };
    for (action, expected) in [
        ("pause", ActorState::Paused),
        ("resume", ActorState::Running),
        ("restart", ActorState::Running),
    ] {
        let (status, body) = stack
            .post(&format!("/api/actors/chat/{action}"), &json!({}))
            .await;
        assert_eq!(status, StatusCode::OK, "{action}: {body}");
        let reached = async {
            while state() != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }
    let (status, body) = stack.post("/api/actors/chatt/pause", &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["error"].as_str().unwrap().contains("chat"), "{body}");
}
