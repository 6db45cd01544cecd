//! What Cube's API says of rollups: building them (`/pre-aggregations/jobs`) and whether one could
//! answer a query (`/pre-aggregations/can-use`).

use std::future::{Ready, ready};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::cube::{allowed, refusal};
use crate::app::App;
use crate::doors::Identity;
use crate::error::ApiError;
use crate::table::{Route, VIEWER, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/cubejs-api/v1/pre-aggregations/jobs", VIEWER, jobs),
        post("/cubejs-api/v1/pre-aggregations/can-use", VIEWER, can_use),
    ]
}

/// `{action: "post", selector}` builds rollups and answers with a token each; `{action: "get",
/// tokens}` says how far they are.
async fn jobs(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Result<Response, ApiError> {
    if let Err(refused) = allowed(&who.security_context(), "jobs") {
        return Ok(refusal(refused));
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return Ok(refusal((400, "the body is not valid JSON".to_owned())));
    };
    let service = match app.metrics.service().await {
        Ok(service) => service,
        Err(error) => return Err(ApiError::unavailable(error.to_string())),
    };
    let model = &service.snapshot.model;
    let names = model.cubes.iter().enumerate().flat_map(|(at, cube)| {
        let names = cube
            .pre_aggregations
            .iter()
            .map(move |it| it.full_name(model, at));
        names.map(|name| (cube.name.as_str(), name))
    });
    match request["action"].as_str() {
        Some("post") => {
            let selector = &request["selector"];
            let chosen = names.filter(|(cube, name)| {
                is_selected(&selector["cubes"], cube)
                    && is_selected(&selector["preAggregations"], name)
            });
            let zones = texts(&selector["timezones"]);
            let zones = if zones.is_empty() { vec!["UTC"] } else { zones };
            let tokens: Vec<String> = chosen
                .flat_map(|(_, name)| zones.iter().map(move |zone| token(&name, zone)))
                .collect();
            if !tokens.is_empty() {
                let work = WorkKind::RefreshMetrics;
                app.store
                    .work()
                    .enqueue(&work, &TraceContext::current())
                    .await?;
            }
            Ok(Json(tokens).into_response())
        }
        Some("get") => {
            let known: Vec<String> = names.map(|(_, name)| name).collect();
            let (usable, _) = service
                .rollups
                .usable(&model.hash, &service.results.versions);
            let built: Vec<&str> = usable.iter().map(|rollup| rollup.name.as_str()).collect();
            let zones = texts(&request["timezones"]);
            let zones = if zones.is_empty() { vec!["UTC"] } else { zones };
            let mut statuses = Map::new();
            for asked in texts(&request["tokens"]) {
                let is_it = |name: &&String| zones.iter().any(|zone| token(name, zone) == asked);
                let status = match known.iter().find(is_it) {
                    None => json!({ "token": asked, "status": "missing_partition" }),
                    Some(name) => json!({
                        "token": asked,
                        "table": name,
                        "status": if built.contains(&name.as_str()) { "done" } else { "processing" },
                    }),
                };
                statuses.insert(asked.to_owned(), status);
            }
            Ok(if request["resType"] == "object" {
                Json(Value::Object(statuses)).into_response()
            } else {
                Json(statuses.into_values().collect::<Vec<_>>()).into_response()
            })
        }
        _ => Ok(refusal((
            400,
            "a job's \"action\" is \"post\" or \"get\"".to_owned(),
        ))),
    }
}

/// Whether a rollup's members and times hold all that a transformed query needs.
fn can_use(body: Bytes) -> Ready<Response> {
    ready(usable(&body))
}

fn usable(body: &[u8]) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return refusal((400, "the body is not valid JSON".to_owned()));
    };
    let (query, references) = (&request["transformedQuery"], &request["references"]);
    if !query["measures"].is_array() || !references["measures"].is_array() {
        let error = "\"transformedQuery\" and \"references\" with their \"measures\" are needed";
        return refusal((400, error.to_owned()));
    }
    let holds = |wanted: &Value, has: &Value| {
        let has = texts(has);
        texts(wanted).iter().all(|name| has.contains(name))
    };
    let additive = query["leafMeasureAdditive"] == true;
    let measures = if additive {
        &query["leafMeasures"]
    } else {
        &query["measures"]
    };
    let exact = texts(&query["sortedDimensions"]).len() == texts(&references["dimensions"]).len();
    let times = query["timeDimensions"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|time| {
            let has = references["timeDimensions"]
                .as_array()
                .into_iter()
                .flatten();
            let mut has = has.map(|time| (&time["dimension"], &time["granularity"]));
            has.any(|(dimension, granularity)| *dimension == time[0] && *granularity == time[1])
        });
    let usable = holds(measures, &references["measures"])
        && holds(&query["sortedDimensions"], &references["dimensions"])
        && (additive || exact)
        && times;
    Json(json!({ "canUsePreAggregationForTransformedQuery": usable })).into_response()
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// Nothing selected is everything.
fn is_selected(names: &Value, name: &str) -> bool {
    let names = texts(names);
    names.is_empty() || names.contains(&name)
}

fn token(name: &str, zone: &str) -> String {
    let digest = Sha256::digest(format!("{name} {zone}"));
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
