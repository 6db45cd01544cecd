//! Whether the system lives, and whether its first pass is through.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::App;
use crate::table::{OPEN, Route, get};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/livez", OPEN, livez),
        get("/readyz", OPEN, readyz),
        get("/health", OPEN, readyz),
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
