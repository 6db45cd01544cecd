//! Whether the system lives, and whether its first pass is through.

use axum::Json;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::App;
use crate::table::{OPEN, Route, get};

/// A health check that waits is no health check.
const METRICS_ANSWER_MAX: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/livez", OPEN, livez),
        get("/readyz", OPEN, readyz),
        get("/health", OPEN, health),
    ]
}

async fn livez() -> Json<Value> {
    Json(json!({ "health": "HEALTH" }))
}

/// 200 once every stage has finished its first pass or is parked; what is degraded is said beside.
async fn readyz(State(app): State<App>) -> Response {
    let degraded = app.degraded();
    if app.readiness.borrow().first_pass_done {
        Json(json!({ "health": "HEALTH", "degraded": degraded })).into_response()
    } else {
        let body = json!({ "health": "STARTING", "degraded": degraded });
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

/// What the original backend says of itself, with ours beside it. Always 200: who polls it reads.
async fn health(State(app): State<App>) -> Json<Value> {
    let degraded = app.degraded();
    let is_ready = app.readiness.borrow().first_pass_done;
    let asked = tokio::time::timeout(METRICS_ANSWER_MAX, app.metrics.service());
    let serves = app.system.has_metrics && matches!(asked.await, Ok(Ok(_)));
    let healthy = is_ready && serves && degraded.is_empty();
    Json(json!({
        "status": if healthy { "healthy" } else { "degraded" },
        "version": env!("CARGO_PKG_VERSION"),
        "cubejs_connected": serves,
        "health": if is_ready { "HEALTH" } else { "STARTING" },
        "degraded": degraded,
    }))
}
