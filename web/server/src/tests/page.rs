//! What the page reads, and that it is what the description says.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::support::{Stack, VIEWER, read};

#[tokio::test]
async fn the_first_paint_is_one_answer_and_its_suggestions_can_be_answered() {
    let stack = Stack::start().await;
    let reply = stack
        .send(Stack::request("GET", "/api/bootstrap", Some(VIEWER)))
        .await;
    let (status, body) = read(reply).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["role"], "viewer");
    assert_eq!(body["backend"]["name"], "planner");
    assert_eq!(body["sources"], json!(["shop"]));
    assert!(body["data"]["from"].is_string() && body["data"]["to"].is_string());
    let suggested = body["suggested"].as_array().unwrap();
    let kinds = [
        "Pass Rate by component",
        "OEE by week",
        "Which line has the highest Fail Rate",
        "Total Cost last month",
    ];
    assert_eq!(suggested, &kinds);
    for question in suggested {
        let (_, answer) = stack
            .post("/api/ask", &json!({ "question": question }))
            .await;
        assert_eq!(answer["behaviour"], "answer", "{question}: {answer}");
        assert!(!answer["rows"].as_array().unwrap().is_empty(), "{question}");
    }
}

#[tokio::test]
async fn answers_are_what_the_description_says() {
    let stack = Stack::start().await;
    let (_, api) = stack.get("/api/openapi.json").await;
    let schemas = &api["components"]["schemas"];
    for question in [
        "pass rate by component",
        "show me quality",
        "tell me a joke",
        "what does pass rate mean",
    ] {
        let (_, answer) = stack
            .post("/api/ask", &json!({ "question": question }))
            .await;
        described(&answer, &schemas["Answer"], schemas, question);
    }
    let (_, actors) = stack.get("/api/actors").await;
    described(&actors[0], &schemas["Actor"], schemas, "actors");
    for (path, schema) in [
        ("/api/bootstrap", "Bootstrap"),
        ("/api/lineage", "Lineage"),
        ("/api/runs", "RunList"),
        ("/api/incidents", "IncidentList"),
        ("/api/schedules", "ScheduleList"),
        ("/api/conversations", "ConversationList"),
    ] {
        let (status, body) = stack.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        described(&body, &schemas[schema], schemas, path);
    }
}

/// Every key that is sent is described, and every one that is required is sent.
fn described(value: &Value, schema: &Value, schemas: &Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => &schemas[name.rsplit('/').next().unwrap()],
        None => schema,
    };
    if let (Some(items), true) = (value.as_array(), schema["items"].is_object()) {
        for item in items {
            described(item, &schema["items"], schemas, at);
        }
    }
    let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    else {
        return;
    };
    for (key, inner) in object {
        let known = properties.get(key);
        let known = known.unwrap_or_else(|| panic!("{at}: {key} is not described"));
        described(inner, known, schemas, &format!("{at}.{key}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let key = required.as_str().unwrap();
        assert!(
            object.contains_key(key),
            "{at}: {key} is required and not sent"
        );
    }
}
