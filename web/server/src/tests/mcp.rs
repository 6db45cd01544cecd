//! The MCP server over HTTP, in both of its protocol lines.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::support::{HOST, Stack, VIEWER};

const NEW: &str = "2026-07-28";

/// A request of the newer line, which needs no `initialize`.
async fn asked(stack: &Stack, method: &str, mut params: Value) -> Value {
    let about = params["name"].as_str().or(params["uri"].as_str());
    let mut request = Request::post("/mcp")
        .header(header::HOST, HOST)
        .header(header::AUTHORIZATION, format!("Bearer {VIEWER}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", NEW)
        .header("mcp-method", method);
    if let Some(about) = about {
        request = request.header("mcp-name", about);
    }
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": NEW,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = request.body(Body::from(message.to_string())).unwrap();
    reply(stack, request).await
}

async fn reply(stack: &Stack, request: Request<Body>) -> Value {
    let reply = stack.send(request).await;
    let status = reply.status();
    let bytes = to_bytes(reply.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

async fn called(stack: &Stack, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    let reply = asked(stack, "tools/call", params).await;
    assert_ne!(reply["result"]["isError"], true, "{reply}");
    reply["result"]["structuredContent"].clone()
}

#[tokio::test]
async fn every_tool_that_is_listed_answers() {
    let stack = Stack::start().await;
    let listed = asked(&stack, "tools/list", json!({})).await;
    let mut untried: Vec<String> = listed["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    let query = json!({ "measures": ["Production.count"], "dimensions": ["Production.componentType"], "limit": 2 });
    let calls = [
        (
            "list_metrics",
            json!({ "search": "pass rate" }),
            "Production.passRate",
        ),
        (
            "describe_metric",
            json!({ "name": "Production.passRate" }),
            "percent",
        ),
        (
            "get_dimension_values",
            json!({ "dimension": "Production.componentType" }),
            "springs",
        ),
        ("query_metrics", query.clone(), "\"more\":true"),
        ("explain_query", query, "select"),
        (
            "ask",
            json!({ "question": "pass rate by component" }),
            "proof_id",
        ),
        ("pipeline_status", json!({}), "incidents"),
    ];
    for (tool, arguments, words) in calls {
        let result = called(&stack, tool, arguments).await.to_string();
        assert!(
            result.to_lowercase().contains(&words.to_lowercase()),
            "{tool}: {result}"
        );
        untried.retain(|name| name != tool);
    }
    assert!(untried.is_empty(), "{untried:?}");
    let catalogue = json!({ "uri": "ballpoint://catalogue" });
    let read = asked(&stack, "resources/read", catalogue).await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    assert!(text.contains("measure Production.passRate"), "{text}");
}

#[tokio::test]
async fn what_a_tool_cannot_do_is_said_to_the_model() {
    let stack = Stack::start().await;
    let cases = [
        (
            "query_metrics",
            json!({ "measures": ["Production.passRat"] }),
            "passRate",
        ),
        (
            "query_metrics",
            json!({ "measure": ["Production.count"] }),
            "takes no measure",
        ),
        ("describe_metric", json!({}), "needs name"),
    ];
    for (tool, arguments, words) in cases {
        let params = json!({ "name": tool, "arguments": arguments });
        let reply = asked(&stack, "tools/call", params).await;
        assert_eq!(reply["result"]["isError"], true, "{reply}");
        let said = reply["result"]["content"][0]["text"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_client_of_the_older_line_is_served_too() {
    let stack = Stack::start().await;
    let older = |message: Value| {
        Request::post("/mcp")
            .header(header::HOST, HOST)
            .header(header::AUTHORIZATION, format!("Bearer {VIEWER}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(Body::from(message.to_string()))
            .unwrap()
    };
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } });
    let begun = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let begun = reply(&stack, older(begun)).await;
    assert_eq!(begun["result"]["protocolVersion"], "2025-06-18", "{begun}");
    let said = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let said = stack.send(older(said)).await;
    assert_eq!(said.status(), StatusCode::ACCEPTED);
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let list = reply(&stack, older(list)).await;
    assert!(
        list["result"]["tools"].as_array().unwrap().len() > 5,
        "{list}"
    );
}
