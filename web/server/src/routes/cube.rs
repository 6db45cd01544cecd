//! Cube's REST API under `/cubejs-api/v1`, GET and POST: the bodies are made by the metric
//! registry, this file only finds the query in the request.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ballpoint_metrics::ApiReply;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::doors::Identity;
use crate::error::STARTING;
use crate::table::{Route, VIEWER, get, post};

/// Cube's word for a result that is being made.
const CONTINUE_WAIT: &str = "Continue wait";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/cubejs-api/v1/meta", VIEWER, meta),
        get("/cubejs-api/v1/load", VIEWER, load_get),
        post("/cubejs-api/v1/load", VIEWER, load_post),
        get("/cubejs-api/v1/sql", VIEWER, sql_get),
        post("/cubejs-api/v1/sql", VIEWER, sql_post),
        get("/cubejs-api/v1/dry-run", VIEWER, dry_run_get),
        post("/cubejs-api/v1/dry-run", VIEWER, dry_run_post),
    ]
}

type Who = Extension<Identity>;
type Parameters = Query<HashMap<String, String>>;

async fn meta(
    State(app): State<App>,
    Extension(who): Who,
    Query(parameters): Parameters,
) -> Response {
    let request: Map<_, _> = parameters
        .into_iter()
        .map(|(k, v)| (k, Value::String(v)))
        .collect();
    reply(
        app.metrics
            .meta(&Value::Object(request), &who.security_context())
            .await,
    )
}

async fn load_get(
    State(app): State<App>,
    Extension(who): Who,
    Query(parameters): Parameters,
) -> Response {
    answer(&app, &who, from_url(parameters), Method::Load).await
}

async fn load_post(State(app): State<App>, Extension(who): Who, body: Bytes) -> Response {
    answer(&app, &who, from_body(&body), Method::Load).await
}

async fn sql_get(
    State(app): State<App>,
    Extension(who): Who,
    Query(parameters): Parameters,
) -> Response {
    answer(&app, &who, from_url(parameters), Method::Sql).await
}

async fn sql_post(State(app): State<App>, Extension(who): Who, body: Bytes) -> Response {
    answer(&app, &who, from_body(&body), Method::Sql).await
}

async fn dry_run_get(
    State(app): State<App>,
    Extension(who): Who,
    Query(parameters): Parameters,
) -> Response {
    answer(&app, &who, from_url(parameters), Method::DryRun).await
}

async fn dry_run_post(State(app): State<App>, Extension(who): Who, body: Bytes) -> Response {
    answer(&app, &who, from_body(&body), Method::DryRun).await
}

enum Method {
    Load,
    Sql,
    DryRun,
}

async fn answer(
    app: &App,
    who: &Identity,
    request: Result<Value, String>,
    method: Method,
) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
        }
    };
    let (metrics, context) = (&app.metrics, who.security_context());
    let answered = match method {
        Method::Load => metrics.load(&request, &context).await,
        Method::Sql => metrics.sql(&request, &context).await,
        Method::DryRun => metrics.dry_run(&request, &context).await,
    };
    let error = answered.body["error"].as_str();
    if error.is_some_and(|error| app.is_early(error)) {
        return early();
    }
    reply(answered)
}

/// What Cube answers, with 200, while a result is not there yet: its clients ask again until it is,
/// and give up at any other status.
fn early() -> Response {
    Json(json!({ "error": CONTINUE_WAIT, "stage": STARTING })).into_response()
}

fn reply(reply: ApiReply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(reply.body)).into_response()
}

/// In a URL each parameter is text, `query` JSON in it.
fn from_url(parameters: HashMap<String, String>) -> Result<Value, String> {
    let mut request = Map::new();
    for (name, text) in parameters {
        let value = if name == "query" {
            parse(text.as_bytes())?
        } else {
            Value::String(text)
        };
        request.insert(name, value);
    }
    Ok(Value::Object(request))
}

/// Older clients send `query` as JSON text inside the JSON body.
fn from_body(body: &[u8]) -> Result<Value, String> {
    let mut request = parse(body)?;
    if let Some(Value::String(text)) = request.get("query") {
        let query = parse(text.as_bytes())?;
        request["query"] = query;
    }
    Ok(request)
}

fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| format!("the query is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_found_in_a_url_in_a_body_and_as_text_in_a_body() {
        let expected = json!({"query": {"measures": ["A.count"]}});
        let url = HashMap::from([("query".to_owned(), r#"{"measures":["A.count"]}"#.to_owned())]);
        assert_eq!(from_url(url).unwrap(), expected);
        assert_eq!(
            from_body(expected.to_string().as_bytes()).unwrap(),
            expected
        );
        let text = json!({"query": r#"{"measures":["A.count"]}"#});
        assert_eq!(from_body(text.to_string().as_bytes()).unwrap(), expected);
    }

    #[test]
    fn broken_json_is_named_as_such() {
        assert!(
            from_body(b"{\"query\": ")
                .unwrap_err()
                .contains("not valid JSON")
        );
    }
}
