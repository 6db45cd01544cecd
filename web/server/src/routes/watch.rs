//! What went wrong and what is due: `GET /api/incidents`, `GET /api/schedules`.

use axum::Json;
use axum::extract::State;
use ballpoint_runtime::store::{Incident, Schedule};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Query;
use crate::table::{Route, VIEWER, get};

/// Incidents in a list where nothing is asked.
const INCIDENTS_BY_DEFAULT: u32 = 100;
const INCIDENTS_MAX: u32 = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/incidents", VIEWER, incidents),
        get("/api/schedules", VIEWER, schedules),
    ]
}

#[derive(Deserialize, IntoParams)]
pub(crate) struct Wanted {
    /// At most so many, 100 by default; the open ones first, then the newest.
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct IncidentList {
    items: Vec<IncidentShown>,
}

/// Something that goes wrong, from its first failure to its end.
#[derive(Serialize, ToSchema)]
struct IncidentShown {
    id: String,
    kind: String,
    /// What it is about: a source, a model, a schedule.
    subject: String,
    /// In one line.
    title: String,
    severity: String,
    /// `open` or `closed`.
    state: String,
    /// The latest error.
    detail: String,
    /// How often it began: once, and each time that it came back.
    count: i32,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Timestamp>,
    /// What became of the messages about it.
    notified: String,
    delivery: Option<String>,
}

impl From<Incident> for IncidentShown {
    fn from(it: Incident) -> Self {
        Self {
            id: it.id.to_string(),
            title: format!("{} {}", it.kind, it.subject).trim().to_owned(),
            kind: it.kind,
            subject: it.subject,
            severity: it.severity,
            state: it.state,
            detail: it.error,
            count: it.count,
            opened_at: it.opened_at,
            closed_at: it.closed_at,
            notified: it.notified,
            delivery: it.delivery,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ScheduleList {
    items: Vec<ScheduleShown>,
}

/// When something runs by itself.
#[derive(Serialize, ToSchema)]
struct ScheduleShown {
    name: String,
    cron: String,
    timezone: String,
    full_refresh: bool,
    /// Business time.
    #[schema(value_type = String, format = DateTime)]
    next_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_at: Option<Timestamp>,
    last_run: Option<String>,
    last_state: Option<String>,
}

impl From<Schedule> for ScheduleShown {
    fn from(it: Schedule) -> Self {
        Self {
            name: it.name,
            cron: it.cron,
            timezone: it.timezone,
            full_refresh: it.full_refresh,
            next_at: it.next_at,
            last_at: it.last_at,
            last_run: it.last_run.map(|run| run.to_string()),
            last_state: it.last_state,
        }
    }
}

#[utoipa::path(get, path = "/api/incidents", tag = "system", params(Wanted),
    responses((status = 200, body = IncidentList)))]
pub(crate) async fn incidents(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<IncidentList>, ApiError> {
    let limit = wanted.limit.unwrap_or(INCIDENTS_BY_DEFAULT);
    let found = app.store.incidents();
    let found = found.recent(limit.clamp(1, INCIDENTS_MAX)).await?;
    let items = found.into_iter().map(IncidentShown::from).collect();
    Ok(Json(IncidentList { items }))
}

#[utoipa::path(get, path = "/api/schedules", tag = "system",
    responses((status = 200, body = ScheduleList)))]
pub(crate) async fn schedules(State(app): State<App>) -> Result<Json<ScheduleList>, ApiError> {
    let found = app.store.schedules().all().await?;
    let items = found.into_iter().map(ScheduleShown::from).collect();
    Ok(Json(ScheduleList { items }))
}
