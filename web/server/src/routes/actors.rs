//! The supervision tree: `GET /api/actors`, `POST /api/actors/{name}/restart`, `GET /api/status`.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use ballpoint_runtime::supervision::ActorStatus;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/actors", get(list))
        .route("/api/actors/{name}/restart", post(restart))
        .route("/api/status", get(status))
}

async fn list(State(app): State<App>) -> Json<Vec<ActorStatus>> {
    Json(app.actors())
}

/// Restarts an actor, or all members of a bare role; answers when they run again.
async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let tree = app
        .tree
        .get()
        .ok_or_else(|| ApiError::unavailable("the tree is starting"))?;
    let restarted = tree
        .restart(&name)
        .await
        .map_err(|error| ApiError::not_found(error.to_string()))?;
    Ok(Json(json!({ "restarted": restarted })))
}

async fn status(State(app): State<App>) -> Json<Value> {
    let system = &app.system;
    Json(json!({
        "project": system.project,
        "listen": system.listen,
        "degraded": app.degraded(),
        "databases": system.databases,
        "actors": app.actors(),
    }))
}
