//! What a page needs for its first paint, in one answer: `GET /api/bootstrap`.

use axum::Json;
use axum::extract::{Extension, State};
use ballpoint_metrics::Snapshot;
use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::doors::Identity;
use crate::table::{Route, VIEWER, get};

/// Questions that a newcomer is offered.
const SUGGESTED_MAX: usize = 4;

/// Values of a dimension that make a readable chart.
const HANDFUL_MAX: usize = 12;

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
            .map(|it| suggested(&it.catalog))
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

/// What the first measures of the widest cube are, by what tells its rows apart and over time.
pub(crate) fn suggested(catalog: &Catalog) -> Vec<String> {
    let Some(cube) = widest(catalog) else {
        return Vec::new();
    };
    let splits: Vec<&MemberInfo> = cube
        .dimensions
        .iter()
        .filter(|it| it.member_type == "string" && !it.primary_key)
        .collect();
    // A handful of values makes a chart; one whose values were not found yet may have any number.
    let handful = |it: &&&MemberInfo| (3..=HANDFUL_MAX).contains(&it.values.len());
    let mut by: Vec<&MemberInfo> = splits.iter().filter(handful).copied().collect();
    let unknown = splits.iter().filter(|it| it.values.is_empty());
    by.extend(unknown);
    by.extend(splits.iter().filter(|it| it.values.len() == 2));
    let is_timed = cube.dimensions.iter().any(|it| it.member_type == "time");
    let over = |at: usize| match (at, is_timed) {
        (2, true) => Some("week".to_owned()),
        (3, _) => by.get(1).or(by.first()).map(|it| it.short_title.clone()),
        _ => by.first().map(|it| it.short_title.clone()),
    };
    let plain = |it: &&MemberInfo| it.member_type != "count";
    let mut measures: Vec<&MemberInfo> = cube.measures.iter().filter(plain).collect();
    if measures.is_empty() {
        measures = cube.measures.iter().collect();
    }
    let asked = measures.iter().take(SUGGESTED_MAX).enumerate();
    asked
        .map(|(at, measure)| match over(at) {
            Some(split) => format!("{} by {split}", measure.short_title),
            None => measure.short_title.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, kind: &str, values: &[&str]) -> MemberInfo {
        MemberInfo {
            name: format!("Orders.{name}"),
            short_title: name.to_owned(),
            member_type: kind.to_owned(),
            values: values.iter().map(|&it| it.to_owned()).collect(),
            ..MemberInfo::default()
        }
    }

    #[test]
    fn suggestions_ask_measures_by_what_has_a_handful_of_values() {
        let cube = CubeInfo {
            name: "Orders".to_owned(),
            measures: vec![
                member("Count", "count", &[]),
                member("Revenue", "sum", &[]),
                member("Margin", "avg", &[]),
                member("Discount", "avg", &[]),
                member("Freight", "sum", &[]),
            ],
            dimensions: vec![
                member("Customer", "string", &[]),
                member("Status", "string", &["late", "open", "paid"]),
                member("Only", "string", &["one"]),
                member("Placed", "time", &[]),
            ],
            ..CubeInfo::default()
        };
        let catalog = Catalog { cubes: vec![cube] };
        let questions = [
            "Revenue by Status",
            "Margin by Status",
            "Discount by week",
            "Freight by Customer",
        ];
        assert_eq!(suggested(&catalog), questions);
        assert!(suggested(&Catalog::default()).is_empty());
    }
}
