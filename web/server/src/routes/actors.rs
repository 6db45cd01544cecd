//! The supervision tree: `GET /api/actors`, `POST /api/actors/{name}/restart`, `GET /api/status`.

use axum::Json;
use axum::extract::{Extension, State};
use ballpoint_runtime::shape::Hold;
use ballpoint_runtime::store::StreamRow;
use ballpoint_runtime::supervision::{ActorStatus, TreeError, TreeHandle};
use serde_json::{Value, json};

use crate::app::App;
use crate::doors::{Identity, Role};
use crate::error::ApiError;
use crate::extract::Path;
use crate::shapes;
use crate::table::{OPERATOR, Route, VIEWER, get, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/actors", VIEWER, list),
        post("/api/actors/{name}/restart", OPERATOR, restart),
        post("/api/actors/{name}/pause", OPERATOR, pause),
        post("/api/actors/{name}/resume", OPERATOR, resume),
        get("/api/status", VIEWER, status),
    ]
}

#[utoipa::path(get, path = "/api/actors", tag = "system", 
    responses((status = 200, body = Vec<shapes::Actor>)))]
pub(crate) async fn list(State(app): State<App>) -> Json<Vec<ActorStatus>> {
    Json(app.actors())
}

/// Restarts an actor, or all members of a bare role; answers when they run again.
#[utoipa::path(post, path = "/api/actors/{name}/restart", tag = "system", params(("name" = String, Path)),
    responses((status = 200, body = Value)))]
pub(crate) async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let restarted = tree(&app)?.restart(&name).await.map_err(refused)?;
    Ok(Json(json!({ "restarted": restarted })))
}

/// Stops an actor, or all members of a bare role, until somebody resumes it.
#[utoipa::path(post, path = "/api/actors/{name}/pause", tag = "system", params(("name" = String, Path)),
    responses((status = 200, body = Value)))]
pub(crate) async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let paused = tree(&app)?.pause(&name).await.map_err(refused)?;
    Ok(Json(json!({ "paused": paused })))
}

/// Starts what was paused or parked.
#[utoipa::path(post, path = "/api/actors/{name}/resume", tag = "system", params(("name" = String, Path)),
    responses((status = 200, body = Value)))]
pub(crate) async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let resumed = tree(&app)?.resume(&name).await.map_err(refused)?;
    Ok(Json(json!({ "resumed": resumed })))
}

fn tree(app: &App) -> Result<&TreeHandle, ApiError> {
    app.tree
        .get()
        .ok_or_else(|| ApiError::unavailable("the tree is starting"))
}

fn refused(error: TreeError) -> ApiError {
    match error {
        TreeError::UnknownActor { .. } => ApiError::not_found(error.to_string()),
        TreeError::Root { .. } => ApiError::conflict(error.to_string()),
        error => ApiError::unavailable(error.to_string()),
    }
}

/// Connection URLs hold passwords: only who may see secrets gets them.
#[utoipa::path(get, path = "/api/status", tag = "system", 
    responses((status = 200, body = Value)))]
pub(crate) async fn status(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
) -> Json<Value> {
    let system = &app.system;
    let mut status = json!({
        "project": system.project,
        "listen": system.listen,
        "degraded": app.degraded(),
        "actors": app.actors(),
    });
    // Degraded says it too; who looks for tables finds them here.
    if let Ok(held) = app.store.source_tables().held().await {
        let shown = held.iter().map(|it| {
            json!({
                "source": it.source, "table": it.table.to_string(),
                "state": it.hold.map(Hold::as_str), "reason": it.reason, "since": it.since,
            })
        });
        status["held"] = shown.collect();
    }
    if let Ok(streams) = app.store.streams().all().await {
        status["streams"] = streams.iter().map(stream).collect();
    }
    if who.role() == Role::Admin {
        status["databases"] = json!(system.databases);
    }
    Json(status)
}

/// Where the log of a source stands in the warehouse, and what its slot holds back. Before the first look
/// at the slot nothing is known of that.
fn stream(row: &StreamRow) -> Value {
    json!({
        "source": row.source,
        "slot": row.position.slot,
        "end_lsn": row.position.end,
        "committed_at": row.committed_at,
        "lag_bytes": row.lag.map(|lag| lag.bytes),
        "lag_seconds": row.lag.and_then(|lag| lag.seconds),
        "retained_bytes": row.lag.map(|lag| lag.retained_bytes),
        "lag_at": row.lag_at,
    })
}
