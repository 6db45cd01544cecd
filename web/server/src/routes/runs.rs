//! What ran, when, and how it ended: `GET /api/runs`, `GET /api/runs/{id}`; and the end of one that
//! somebody does not want: `POST /api/runs/{id}/cancel`.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use ballpoint_runtime::store::{RunStep, RunSummary};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::doors::Identity;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::shapes::Problem;
use crate::table::{OPERATOR, Route, VIEWER, get, post};

/// Runs in a list where nothing is asked.
const RUNS_BY_DEFAULT: u32 = 50;
const RUNS_MAX: u32 = 500;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/runs", VIEWER, list),
        get("/api/runs/{id}", VIEWER, one),
        post("/api/runs/{id}/cancel", OPERATOR, cancel),
    ]
}

#[derive(Deserialize, IntoParams)]
pub(crate) struct Wanted {
    /// At most so many, 50 by default.
    limit: Option<u32>,
    /// Only runs of this kind: `sync`, `build`, …
    kind: Option<String>,
}

/// An execution of a stage.
#[derive(Serialize, ToSchema)]
pub(crate) struct Run {
    id: String,
    kind: String,
    /// What it was for: a source, a schedule; absent where the kind says it.
    scope: Option<String>,
    /// `running`, `retrying`, `success`, `nothing_new`, `failed` or `interrupted`.
    state: String,
    /// What caused it.
    trigger: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Absent while it runs.
    ms: Option<i64>,
    attempts: i32,
    error: Option<String>,
    trace_id: Option<String>,
    /// New or different rows.
    rows: Option<i64>,
    /// Only where one run is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct RunList {
    items: Vec<Run>,
}

/// A table loaded, a model built, a test run.
#[derive(Serialize, ToSchema)]
struct Step {
    name: String,
    /// Of the run's attempts, from 1.
    attempt: i32,
    /// `running`, `success`, `skipped`, `failed` or `interrupted`.
    state: String,
    rows: Option<i64>,
    error: Option<String>,
    ms: Option<i64>,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
}

fn ms(from: Timestamp, to: Option<Timestamp>) -> Option<i64> {
    Some(to?.as_millisecond() - from.as_millisecond())
}

impl From<RunStep> for Step {
    fn from(step: RunStep) -> Self {
        Self {
            ms: ms(step.started_at, step.finished_at),
            name: step.name,
            attempt: step.attempt,
            state: step.status,
            rows: step.row_count,
            error: step.error,
            started_at: step.started_at,
        }
    }
}

impl From<RunSummary> for Run {
    fn from(run: RunSummary) -> Self {
        Self {
            id: run.id.to_string(),
            kind: run.kind,
            scope: Some(run.scope).filter(|scope| !scope.is_empty()),
            state: run.status,
            trigger: run.trigger,
            started_at: run.started_at,
            ended_at: run.finished_at,
            ms: ms(run.started_at, run.finished_at),
            attempts: run.attempt,
            error: run.error,
            trace_id: run.trace.trace_id().map(str::to_owned),
            rows: run.row_count,
            steps: None,
        }
    }
}

#[utoipa::path(get, path = "/api/runs", tag = "pipeline", params(Wanted),
    responses((status = 200, body = RunList)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<RunList>, ApiError> {
    let limit = wanted.limit.unwrap_or(RUNS_BY_DEFAULT).clamp(1, RUNS_MAX);
    let runs = app.store.runs();
    let found = match wanted.kind {
        Some(kind) => runs.recent_of(&kind, limit).await?,
        None => runs.recent(limit).await?,
    };
    let items = found.into_iter().map(Run::from).collect();
    Ok(Json(RunList { items }))
}

#[utoipa::path(get, path = "/api/runs/{id}", tag = "pipeline", params(("id" = String, Path)),
    responses((status = 200, body = Run), (status = 404, body = Problem)))]
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let unknown = || ApiError::not_found(format!("no run {id}"));
    let wanted: Uuid = id.parse().map_err(|_| unknown())?;
    let run = app.store.runs().get(wanted).await?;
    let mut run = Run::from(run.ok_or_else(unknown)?);
    let steps = app.store.runs().steps(wanted).await?;
    run.steps = Some(steps.into_iter().map(Step::from).collect());
    Ok(Json(run))
}

/// How long a cancelled run may take to say that it has ended.
const END_MAX: Duration = Duration::from_secs(5);
const END_LOOK: Duration = Duration::from_millis(25);

#[utoipa::path(post, path = "/api/runs/{id}/cancel", tag = "pipeline", params(("id" = String, Path)),
    responses((status = 200, body = Run, description = "what it has committed stays; the next run goes on from there"),
              (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let unknown = || ApiError::not_found(format!("no run {id}"));
    let wanted: Uuid = id.parse().map_err(|_| unknown())?;
    let runs = app.store.runs();
    let mut run = runs.get(wanted).await?.ok_or_else(unknown)?;
    if !runs.cancel(wanted, &format!("cancelled by {}", who.name())) {
        return Err(ApiError::conflict(match run.status.as_str() {
            "running" => format!("a {} cannot be stopped in between", run.kind),
            state => format!("the run is not running: {state}"),
        }));
    }
    let begun = Instant::now();
    while run.status == "running" && begun.elapsed() < END_MAX {
        tokio::time::sleep(END_LOOK).await;
        run = runs.get(wanted).await?.ok_or_else(unknown)?;
    }
    Ok(Json(Run::from(run)))
}
