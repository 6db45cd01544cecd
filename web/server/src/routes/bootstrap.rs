//! What a page needs for its first paint, in one answer: `GET /api/bootstrap`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Extension, State};
use ballpoint_metrics::Snapshot;
use ballpoint_metrics::catalog::{Catalog, CubeInfo};
use ballpoint_planner::{Context, Coverage, Planner};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::doors::Identity;
use crate::table::{Route, VIEWER, get};

pub(super) fn routes() -> Vec<Route> {
    vec![get("/api/bootstrap", VIEWER, bootstrap)]
}

/// The first paint.
#[derive(Serialize, ToSchema)]
pub(crate) struct Bootstrap {
    version: &'static str,
    project: String,
    /// `viewer`, `operator` or `admin`: what the caller may do.
    role: &'static str,
    has_metrics: bool,
    has_write_backs: bool,
    backend: Backend,
    sources: Vec<String>,
    /// What does not work at the moment, in words.
    degraded: Vec<String>,
    /// Questions that this project can answer.
    suggested: Vec<String>,
    data: Option<Extent>,
    /// Plans that wait for somebody's approval.
    write_backs_waiting: u64,
}

/// Who plans questions.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = BackendInUse)]
pub struct Backend {
    /// `planner` or `llm`.
    pub name: &'static str,
    pub model: Option<String>,
}

/// The first and last moment in the data, UTC.
#[derive(Serialize, ToSchema)]
struct Extent {
    from: Option<String>,
    to: Option<String>,
}

#[utoipa::path(get, path = "/api/bootstrap", tag = "page",
    responses((status = 200, body = Bootstrap)))]
pub(crate) async fn bootstrap(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
) -> Json<Bootstrap> {
    // Without metrics, or while they start, the page shows the rest.
    let snapshot = match app.system.has_metrics {
        true => app.metrics.service().await.ok().map(|it| it.snapshot),
        false => None,
    };
    let degraded = app.degraded();
    let system = &app.system;
    Json(Bootstrap {
        version: env!("CARGO_PKG_VERSION"),
        project: system.project.clone(),
        role: who.role().name(),
        has_metrics: system.has_metrics,
        has_write_backs: app.write_backs.is_some(),
        backend: system.backend.clone(),
        sources: system.sources.keys().cloned().collect(),
        degraded,
        suggested: snapshot
            .as_ref()
            .map(|it| app.suggestions.get(it, app.clock.business_now()))
            .unwrap_or_default(),
        data: snapshot.as_deref().and_then(extent),
        write_backs_waiting: super::write_backs::waiting(&app).await,
    })
}

/// Of the widest cube's default time dimension: aggregates know less exactly when.
fn extent(snapshot: &Snapshot) -> Option<Extent> {
    let cube = widest(&snapshot.catalog)?;
    let preset = cube.meta.get("time").and_then(Value::as_str);
    let times = || cube.dimensions.iter().filter(|it| it.member_type == "time");
    let named =
        times().find(|it| preset.is_some_and(|name| it.name.ends_with(&format!(".{name}"))));
    let time = named.or_else(|| times().next())?;
    let (from, to) = snapshot.coverage.get(&time.name)?;
    Some(Extent {
        from: Some(from.clone()),
        to: Some(to.clone()),
    })
}

/// The cube that measures most.
fn widest(catalog: &Catalog) -> Option<&CubeInfo> {
    catalog.cubes.iter().max_by_key(|cube| cube.measures.len())
}

/// The questions to begin with, kept: making them reads the whole catalog, and every page asks again
/// whenever something changes.
#[derive(Clone, Debug, Default)]
pub struct Suggestions {
    kept: Arc<Mutex<Option<Kept>>>,
}

/// What they were made for, and they themselves.
#[derive(Debug)]
struct Kept {
    catalog: Arc<Catalog>,
    data_version: u64,
    day: Date,
    questions: Vec<String>,
}

impl Suggestions {
    /// Times are UTC here: they are said in words, and read again when they are asked.
    fn get(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<String> {
        let now = now.to_zoned(TimeZone::UTC);
        // Whoever panicked while it was held has left it as it was.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref()
            && Arc::ptr_eq(&kept.catalog, &snapshot.catalog)
            && (kept.data_version, kept.day) == (snapshot.data_version, now.date())
        {
            return kept.questions.clone();
        }
        let moment = |text: &str| text.trim_end_matches('Z').parse().ok();
        let coverage = snapshot.coverage.iter().filter_map(|(time, (from, to))| {
            let (from, to) = (moment(from)?, moment(to)?);
            Some((time.clone(), Coverage { from, to }))
        });
        let (day, coverage) = (now.date(), coverage.collect());
        let planner = Planner::new(Arc::clone(&snapshot.catalog));
        let questions = planner.openers(&Context { now, coverage });
        *kept = Some(Kept {
            catalog: Arc::clone(&snapshot.catalog),
            data_version: snapshot.data_version,
            day,
            questions: questions.clone(),
        });
        questions
    }
}
