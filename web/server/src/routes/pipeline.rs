//! The pipeline on demand: `POST /api/sync`, `POST /api/run`. Both write work rows and wait until
//! the pipeline is idle again; the orchestrator does the rest, as after any change.

use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::app::App;
use crate::error::ApiError;

/// Longest wait for a pass.
const PASS_MAX: Duration = Duration::from_secs(600);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/sync", post(sync)).route("/api/run", post(run))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SyncRequest {
    sources: Vec<String>,
    full_refresh: bool,
}

async fn sync(
    State(app): State<App>,
    Json(request): Json<SyncRequest>,
) -> Result<Json<Value>, ApiError> {
    pass(&app, request.sources, request.full_refresh, false).await
}

async fn run(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    pass(&app, Vec::new(), false, true).await
}

/// What a pass came to, told by its events.
#[derive(Default)]
struct Report {
    rows: u64,
    errors: Vec<String>,
    synced: usize,
    relations: Vec<String>,
    tests_passed: u64,
}

async fn pass(
    app: &App,
    sources: Vec<String>,
    full_refresh: bool,
    wait_for_build: bool,
) -> Result<Json<Value>, ApiError> {
    let known = &app.system.sources;
    if let Some(unknown) = sources.iter().find(|s| !known.contains(s)) {
        return Err(ApiError::bad_request(format!("no source {unknown}; there are {}", known.join(", "))));
    }
    let sources = if sources.is_empty() { known.clone() } else { sources };
    let mut events = app.store.events().subscribe();
    for source in &sources {
        let work = WorkKind::Sync { source: source.clone(), tables: Vec::new(), full_refresh };
        let enqueued = app.store.work().enqueue(&work, &TraceContext::current()).await;
        enqueued.map_err(|error| ApiError::failed(error.to_string()))?;
    }
    let mut report = Report::default();
    let deadline = Instant::now() + PASS_MAX;
    loop {
        match tokio::time::timeout(Duration::from_millis(200), events.recv()).await {
            Ok(Ok(recorded)) => note(&mut report, recorded.event, &sources),
            Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => break,
        }
        let idle = || async { matches!(app.store.work().open_count().await, Ok(0)) };
        if report.synced >= sources.len() && (!wait_for_build || idle().await) {
            break;
        }
        if Instant::now() > deadline {
            return Err(ApiError::unavailable("the pass is still running; see `ballpoint status`"));
        }
    }
    while let Ok(recorded) = events.try_recv() {
        note(&mut report, recorded.event, &sources);
    }
    if !report.errors.is_empty() {
        return Err(ApiError::failed(report.errors.join("; ")));
    }
    Ok(Json(json!({
        "rows_loaded": report.rows,
        "build": { "built": report.relations.len(), "relations": report.relations, "tests_passed": report.tests_passed },
    })))
}

fn note(report: &mut Report, event: Event, sources: &[String]) {
    match event {
        Event::SyncFinished { source, rows } if sources.contains(&source) => {
            report.synced += 1;
            report.rows += rows;
        }
        Event::SyncFailed { source, error } if sources.contains(&source) => {
            report.synced += 1;
            report.errors.push(format!("{source}: {error}"));
        }
        Event::BuildPublished { relations, tests_passed, .. } => {
            report.relations = relations.iter().map(ToString::to_string).collect();
            report.tests_passed = tests_passed;
        }
        Event::BuildFailed { failed, .. } => {
            report.errors.push(format!("the build failed: {}", failed.join(", ")));
        }
        _ => {}
    }
}
