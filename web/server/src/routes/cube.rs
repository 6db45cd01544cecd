//! Cube's REST API under `/cubejs-api/v1`, GET and POST: the bodies are made by the metric
//! registry, this file only finds the query in the request.

use std::collections::HashMap;
use std::future::{Ready, ready};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ballpoint_metrics::{ApiReply, SecurityContext, Served};
use serde_json::{Map, Value, json};

use super::cube_sql;
use crate::app::App;
pub(super) use crate::doors::allowed;
use crate::doors::{Identity, PROOF};
use crate::error::STARTING;
use crate::table::{Route, VIEWER, delete, get, post};

/// Cube's word for a result that is being made.
pub(super) const CONTINUE_WAIT: &str = "Continue wait";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/cubejs-api/v1/meta", VIEWER, meta),
        get("/cubejs-api/v1/load", VIEWER, load_get),
        post("/cubejs-api/v1/load", VIEWER, load_post),
        get("/cubejs-api/v1/subscribe", VIEWER, load_get),
        post("/cubejs-api/v1/subscribe", VIEWER, load_post),
        delete("/cubejs-api/v1/running-query/{request}", VIEWER, cancel),
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
    let context = who.security_context();
    if let Err(refused) = allowed(&context, "meta") {
        return refusal(refused);
    }
    let request: Map<_, _> = parameters
        .into_iter()
        .map(|(k, v)| (k, Value::String(v)))
        .collect();
    reply(app.metrics.meta(&Value::Object(request), &context).await)
}

async fn load_get(
    State(app): State<App>,
    Extension(who): Who,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let read = || match Parameters::try_from_uri(&uri) {
        Ok(Query(parameters)) => from_url(parameters),
        Err(error) => Err(error.body_text()),
    };
    let raw = uri.query().unwrap_or_default();
    load(&app, &who, &headers, raw, read).await
}

async fn load_post(
    State(app): State<App>,
    Extension(who): Who,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let raw = String::from_utf8_lossy(&body);
    load(&app, &who, &headers, &raw, || from_body(&body)).await
}

/// A load goes out as the bytes that the registry keeps. One that takes longer than a client waits
/// goes on without it.
async fn load(
    app: &App,
    who: &Identity,
    headers: &HeaderMap,
    raw: &str,
    request: impl FnOnce() -> Result<Value, String>,
) -> Response {
    let context = who.security_context();
    if let Err(refused) = allowed(&context, "data") {
        return refusal(refused);
    }
    if let Ok(service) = app.metrics.service().await
        && let Some(kept) = service.served_before(raw, &context)
    {
        return bytes(kept);
    }
    let request = match request() {
        Ok(request) => request,
        Err(error) => return refusal((400, error)),
    };
    let key = format!("{context:?} {raw}");
    let (metrics, raw) = (app.metrics.clone(), raw.to_owned());
    let work = async move { metrics.load_served(&raw, || Ok(request), &context).await };
    match app.waiting.outcome(key, request_name(headers), work).await {
        Some(served) if is_early(app, &served) => early(),
        Some(served) => bytes(served),
        None => Json(json!({ "error": CONTINUE_WAIT })).into_response(),
    }
}

/// Answers one request of a connection that waits as long as it takes.
pub(super) async fn serve(
    app: &App,
    context: &SecurityContext,
    method: Method,
    request: &Value,
) -> Served {
    let metrics = &app.metrics;
    let served = match method {
        Method::Load => {
            let raw = request.to_string();
            metrics
                .load_served(&raw, || Ok(request.clone()), context)
                .await
        }
        Method::Sql => metrics.sql(request, context).await.into(),
        Method::DryRun => metrics.dry_run(request, context).await.into(),
    };
    if is_early(app, &served) {
        let body = json!({ "error": CONTINUE_WAIT, "stage": STARTING });
        return ApiReply { status: 200, body }.into();
    }
    served
}

/// The client's name for its request: the same for each time that it comes again.
fn request_name(headers: &HeaderMap) -> Option<&str> {
    let name = headers.get("x-request-id")?.to_str().ok()?;
    Some(name.split_once("-span").map_or(name, |(base, _)| base))
}

fn is_early(app: &App, served: &Served) -> bool {
    if served.has_data() || served.status < 400 {
        return false;
    }
    let body = serde_json::from_slice::<Value>(&served.body);
    body.is_ok_and(|body| {
        body["error"]
            .as_str()
            .is_some_and(|error| app.is_early(error))
    })
}

fn bytes(served: Served) -> Response {
    let status = StatusCode::from_u16(served.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = [(header::CONTENT_TYPE, "application/json")];
    proved((status, json, served.body).into_response(), served.proof)
}

/// With the proof of its rows in a header.
pub(super) fn proved(mut reply: Response, proof: Option<Bytes>) -> Response {
    if let Some(proof) = proof
        && let Ok(id) = HeaderValue::from_maybe_shared(proof)
    {
        reply.headers_mut().insert(PROOF, id);
    }
    reply
}

pub(super) fn refusal((status, error): (u16, String)) -> Response {
    let body = json!({ "error": error });
    reply(ApiReply { status, body })
}

/// Ends a query that is still running, by the name that its client gave it.
fn cancel(State(app): State<App>, Path(request): Path<String>) -> Ready<Response> {
    let name = request
        .split_once("-span")
        .map_or(&*request, |(base, _)| base);
    ready(Json(json!({ "result": app.waiting.cancel(name) })).into_response())
}

async fn sql_get(
    State(app): State<App>,
    Extension(who): Who,
    Query(parameters): Parameters,
) -> Response {
    if parameters.get("format").is_some_and(|it| it == "sql") {
        let query = parameters.get("query").map_or("", String::as_str);
        return translated(&app, &who, query).await;
    }
    answer(&app, &who, from_url(parameters), Method::Sql).await
}

async fn sql_post(State(app): State<App>, Extension(who): Who, body: Bytes) -> Response {
    match serde_json::from_slice::<Value>(&body) {
        Ok(request) if request["format"] == "sql" => {
            translated(&app, &who, request["query"].as_str().unwrap_or_default()).await
        }
        _ => answer(&app, &who, from_body(&body), Method::Sql).await,
    }
}

async fn translated(app: &App, who: &Identity, query: &str) -> Response {
    let context = who.security_context();
    match allowed(&context, "sql") {
        Ok(()) => cube_sql::translated(app, &context, query).await,
        Err(refused) => refusal(refused),
    }
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

/// What is asked of the registry.
#[derive(Clone, Copy)]
pub(super) enum Method {
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
    let context = who.security_context();
    let scope = if matches!(method, Method::Sql) {
        "sql"
    } else {
        "data"
    };
    match (request, allowed(&context, scope)) {
        (_, Err(refused)) => refusal(refused),
        (Err(error), _) => refusal((400, error)),
        (Ok(request), Ok(())) => bytes(serve(app, &context, method, &request).await),
    }
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
