//! The pipeline on demand: `POST /api/sync`, `POST /api/run`. Both write work rows and wait until
//! the pipeline is idle again; the orchestrator does the rest, as after any change.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::shape::Hold;
use ballpoint_runtime::store::{RecordedEvent, StoreError};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::app::App;
use crate::doors::Identity;
use crate::error::ApiError;
use crate::table::{OPERATOR, Route, post};

/// Longest wait for a pass.
const PASS_MAX: Duration = Duration::from_secs(600);

/// Between two looks at the work rows that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(30);

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/sync", OPERATOR, sync),
        post("/api/run", OPERATOR, run),
    ]
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SyncRequest {
    sources: Vec<String>,
    /// Of the one source, these tables only.
    tables: Vec<TableRequest>,
    full_refresh: bool,
}

/// A table of a source.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableRequest {
    schema: String,
    name: String,
}

#[utoipa::path(post, path = "/api/sync", tag = "pipeline", request_body = SyncRequest,
    responses((status = 200, body = Value)))]
pub(crate) async fn sync(
    State(app): State<App>,
    request: Result<Json<SyncRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(request) = request?;
    if !request.tables.is_empty() && request.sources.len() != 1 {
        let words = "`tables` are of one source: name it, and it alone, in `sources`";
        return Err(ApiError::bad_request(words.to_owned()));
    }
    let tables = request.tables.into_iter();
    let asked = Asked {
        sources: request.sources,
        tables: tables
            .map(|it| TableName::new(it.schema, it.name))
            .collect(),
        full_refresh: request.full_refresh,
    };
    pass(&app, asked, false).await
}

#[utoipa::path(post, path = "/api/run", tag = "pipeline", responses((status = 200, body = Value)))]
pub(crate) async fn run(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
) -> Result<Json<Value>, ApiError> {
    let Json(mut reply) = pass(&app, Asked::default(), true).await?;
    if let Some(write_backs) = &app.write_backs {
        let entries = super::write_backs::pass(write_backs, who.name()).await?;
        reply["write_backs"] = json!(entries);
    }
    Ok(Json(reply))
}

/// What a pass came to, told by its events.
#[derive(Default)]
struct Report {
    rows: u64,
    tables: Vec<Value>,
    errors: Vec<String>,
    relations: Vec<String>,
    tests_passed: u64,
}

/// What is to be synced; no sources, or no tables: all.
#[derive(Default)]
struct Asked {
    sources: Vec<String>,
    tables: Vec<TableName>,
    full_refresh: bool,
}

async fn pass(app: &App, asked: Asked, wait_for_build: bool) -> Result<Json<Value>, ApiError> {
    let Asked {
        sources,
        tables,
        full_refresh,
    } = asked;
    let known = &app.system.sources;
    if let Some(unknown) = sources.iter().find(|s| !known.contains_key(*s)) {
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        return Err(ApiError::bad_request(format!(
            "no source {unknown}; there are {}",
            known.join(", ")
        )));
    }
    let sources = if sources.is_empty() {
        known.keys().cloned().collect()
    } else {
        sources
    };
    let mut events = app.store.events().subscribe();
    let mut rows = Vec::new();
    for source in &sources {
        let work = WorkKind::Sync {
            source: source.clone(),
            tables: tables.clone(),
            full_refresh,
        };
        rows.push(
            app.store
                .work()
                .enqueue(&work, &TraceContext::current())
                .await?,
        );
    }
    let mut report = Report::default();
    tokio::time::timeout(PASS_MAX, async {
        for row in rows {
            while app.store.work().is_under_way(row).await? {
                listen(&mut events, &mut report, &sources).await;
            }
        }
        while wait_for_build && app.store.work().open_count().await? > 0 {
            listen(&mut events, &mut report, &sources).await;
        }
        Ok::<(), StoreError>(())
    })
    .await
    .map_err(|_| ApiError::unavailable("the pass is still running; see `ballpoint status`"))??;
    listen(&mut events, &mut report, &sources).await;
    if wait_for_build && report.relations.is_empty() {
        // Nothing new, and what was there is still not built: a scheduler must not see green.
        let troubles = app.readiness.borrow().degraded.clone();
        report.errors.extend(
            troubles
                .into_iter()
                .filter(|trouble| trouble.starts_with("build: ")),
        );
    }
    let held = app.store.source_tables().held().await?;
    let held = held.into_iter().filter(|it| {
        let here = tables.is_empty() || tables.contains(&it.table);
        here && sources.contains(&it.source) && it.hold.is_some_and(Hold::is_trouble)
    });
    report.errors.extend(held.map(|it| {
        let state = it.hold.map_or("", Hold::as_str);
        format!("{}: {} is {state}: {}", it.source, it.table, it.reason)
    }));
    if !report.errors.is_empty() {
        return Err(ApiError::failed(report.errors.join("; ")));
    }
    let mut reply = json!({ "rows_loaded": report.rows, "tables": report.tables });
    if wait_for_build {
        reply["build"] = json!({
            "built": report.relations.len(),
            "relations": report.relations,
            "tests_passed": report.tests_passed,
        });
    }
    Ok(Json(reply))
}

/// Takes in what has happened, for at most [`LOOK_INTERVAL`].
async fn listen(
    events: &mut broadcast::Receiver<RecordedEvent>,
    report: &mut Report,
    sources: &[String],
) {
    let deadline = tokio::time::Instant::now() + LOOK_INTERVAL;
    while let Ok(received) = tokio::time::timeout_at(deadline, events.recv()).await {
        match received {
            Ok(recorded) => note(report, recorded.event, sources),
            // What was missed is missing in the report, not in the work.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn note(report: &mut Report, event: Event, sources: &[String]) {
    match event {
        Event::TableLoaded {
            source,
            table,
            raw,
            rows,
        } if sources.contains(&source) => {
            report.rows += rows;
            report.tables.push(json!({
                "source": source,
                "table": table.to_string(),
                "raw": raw.to_string(),
                "rows": rows,
            }));
        }
        Event::SyncFailed { source, error, .. } if sources.contains(&source) => {
            report.errors.push(format!("{source}: {error}"));
        }
        Event::BuildPublished {
            relations,
            tests_passed,
            ..
        } => {
            report.relations = relations.iter().map(ToString::to_string).collect();
            report.tests_passed = tests_passed;
        }
        Event::BuildFailed { failed, reason, .. } => {
            let said = Some(reason).filter(|reason| !reason.is_empty());
            let said = said.unwrap_or_else(|| failed.join(", "));
            report.errors.push(format!("the build failed: {said}"));
        }
        _ => {}
    }
}
