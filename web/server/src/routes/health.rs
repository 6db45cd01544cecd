//! Whether the system lives, and whether its first pass is through.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/livez",
            get(|| async { Json(json!({ "health": "HEALTH" })) }),
        )
        .route("/readyz", get(readyz))
        .route("/health", get(readyz))
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
