//! `GET /api/live`: a query's result now, and again whenever the data under it changes it.
//! `GET /api/rollups`, `POST /api/rollups/explain`: what is kept in advance, and why it is not read.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use ballpoint_metrics::Service;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::app::App;
use crate::doors::Identity;
use crate::error::ApiError;
use crate::extract::Query;
use crate::table::{Route, VIEWER, get, post};

/// A comment on a quiet feed, so that neither end takes the other for gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/live", VIEWER, live),
        get("/api/rollups", VIEWER, rollups),
        post("/api/rollups/explain", VIEWER, explain),
    ]
}

/// What is kept in advance, and how the result cache does.
#[utoipa::path(get, path = "/api/rollups", tag = "ask", responses((status = 200, body = Value)))]
pub(crate) async fn rollups(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let service = service(&app).await?;
    let (items, results) = (service.rollups.status(), service.results.status());
    Ok(Json(json!({ "items": items, "results": results })))
}

/// Which rollup a query would read, and why not the others.
#[utoipa::path(post, path = "/api/rollups/explain", tag = "ask", request_body = Value,
    responses((status = 200, body = Value)))]
pub(crate) async fn explain(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    request: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let service = service(&app).await?;
    let Json(request) = request?;
    let considered = service.explain(&request, &who.security_context());
    let considered = considered.map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(Json(json!({ "considered": considered })))
}

async fn service(app: &App) -> Result<Service, ApiError> {
    app.needs_metrics()?;
    let service = app.metrics.service().await;
    service.map_err(|error| ApiError::unavailable(error.to_string()))
}

#[derive(Deserialize, IntoParams)]
pub(crate) struct Watched {
    /// A Cube query, as JSON.
    query: String,
}

#[utoipa::path(get, path = "/api/live", tag = "ask", params(Watched),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "`event: result` with Cube's load response, once at first and then for each \
                       change of its rows, each under the id of its proof; `event: problem` with `{error}`")))]
pub(crate) async fn live(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Query(watched): Query<Watched>,
) -> Result<impl IntoResponse, ApiError> {
    app.needs_metrics()?;
    let query: Value = serde_json::from_str(&watched.query)
        .map_err(|error| ApiError::bad_request(format!("the query is not valid JSON: {error}")))?;
    let replies = app
        .metrics
        .watch(json!({ "query": query }), who.security_context());
    let events = replies.map(|served| {
        let name = if served.has_data() {
            "result"
        } else {
            "problem"
        };
        let data = String::from_utf8_lossy(&served.body);
        let event = Event::default().event(name).data(data);
        Ok::<_, Infallible>(match &served.proof {
            Some(proof) => event.id(String::from_utf8_lossy(proof)),
            None => event,
        })
    });
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    Ok((
        [("x-accel-buffering", "no")],
        Sse::new(events).keep_alive(alive),
    ))
}
