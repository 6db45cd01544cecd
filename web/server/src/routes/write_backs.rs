//! Plans that write data back into a source, and what people decide about them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use ballpoint_activation::{ActivationError, Outcome};
use ballpoint_reverse_etl::{
    AuditEntry, PassEntry, Plan, PlanRow, PlanState, ReverseEtlHandle, Sync, WriteBackError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::doors::Identity;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::shapes::{self, Problem};
use crate::table::{OPERATOR, Route, VIEWER, get, post};

/// Plans, and deeds, in a list, newest first.
const PLANS_MAX: u32 = 200;

/// Rows of a page of a plan.
const ROWS_BY_DEFAULT: u32 = 100;
const ROWS_MAX: u32 = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/write-backs", VIEWER, list),
        get("/api/write-backs/audit", VIEWER, audit),
        post("/api/write-backs/propose", OPERATOR, propose),
        post("/api/write-backs/{sync}/plan", OPERATOR, plan),
        get("/api/write-backs/plans/{id}", VIEWER, one),
        get("/api/write-backs/plans/{id}/rows", VIEWER, rows),
        post("/api/write-backs/plans/{id}/approve", OPERATOR, approve),
        post("/api/write-backs/plans/{id}/reject", OPERATOR, reject),
        post("/api/write-backs/plans/{id}/apply", OPERATOR, apply),
        post("/api/write-backs/plans/{id}/undo", OPERATOR, undo),
    ]
}

/// Plans that wait for a decision.
pub(super) async fn waiting(app: &App) -> u64 {
    let Some(write_backs) = &app.write_backs else {
        return 0;
    };
    write_backs.waiting().await.map_or(0, |count| count as u64)
}

/// Applies what is approved and plans every sync.
pub(super) async fn pass(
    write_backs: &ReverseEtlHandle,
    by: &str,
) -> Result<Vec<PassEntry>, ApiError> {
    let entries = write_backs.pass(by).await.map_err(refused)?;
    match PassEntry::failures(&entries) {
        Some(failed) => Err(ApiError::failed(failed)),
        None => Ok(entries),
    }
}

fn handle(app: &App) -> Result<&ReverseEtlHandle, ApiError> {
    app.write_backs.as_ref().ok_or_else(|| {
        ApiError::not_found("the project has no [reverse_etl]: there is nothing to write back")
    })
}

/// The syncs' files may be wrong while everything that was planned before goes on.
#[derive(Serialize, ToSchema)]
pub(crate) struct WriteBacks {
    syncs: Vec<SyncHead>,
    #[schema(value_type = Vec<shapes::Plan>)]
    plans: Vec<Plan>,
    /// Why the syncs cannot be read, with file and line.
    syncs_error: Option<String>,
}

/// What is written where.
#[derive(Serialize, ToSchema)]
struct SyncHead {
    name: String,
    description: String,
    /// The warehouse relation that holds the desired rows.
    model: Option<String>,
    source: String,
    table: String,
    /// `upsert`, `update` or `mirror`.
    mode: &'static str,
    key: Vec<String>,
    columns: Vec<String>,
    /// What may be asked for in words.
    actions: Vec<String>,
}

impl From<Sync> for SyncHead {
    fn from(sync: Sync) -> Self {
        let names = |fields: &[ballpoint_reverse_etl::Field]| -> Vec<String> {
            fields.iter().map(|field| field.column.clone()).collect()
        };
        Self {
            key: names(&sync.key),
            columns: names(&sync.columns),
            table: sync.target_name(),
            mode: sync.mode.name(),
            actions: sync.actions.into_iter().map(|it| it.name).collect(),
            name: sync.name,
            description: sync.description,
            model: sync.model,
            source: sync.source,
        }
    }
}

/// Which plans, or deeds, are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Of this sync; of all where it is absent.
    sync: Option<String>,
    /// Plans in one of these states, parted by commas; in all where it is absent.
    state: Option<String>,
    /// 200 at most, and where it is absent.
    limit: Option<u32>,
}

impl Which {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PLANS_MAX).clamp(1, PLANS_MAX)
    }

    fn states(&self) -> Result<Vec<PlanState>, ApiError> {
        let words = self.state.as_deref().unwrap_or_default().split(',');
        words
            .filter(|word| !word.is_empty())
            .map(|word| {
                let state = serde_json::from_value(Value::from(word));
                state.map_err(|_| ApiError::bad_request(format!("no plan is ever \"{word}\"")))
            })
            .collect()
    }
}

#[utoipa::path(get, path = "/api/write-backs", tag = "write-backs", params(Which),
    responses((status = 200, body = WriteBacks), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<WriteBacks>, ApiError> {
    let write_backs = handle(&app)?;
    let (states, limit) = (which.states()?, which.limit());
    let plans = write_backs.list_in(which.sync.as_deref(), &states, limit);
    let plans = plans.await.map_err(refused)?;
    let (syncs, syncs_error) = match write_backs.syncs() {
        Ok(syncs) => (syncs, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Ok(Json(WriteBacks {
        syncs: syncs.into_iter().map(SyncHead::from).collect(),
        plans,
        syncs_error,
    }))
}

/// Who did what when, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deeds {
    #[schema(value_type = Vec<shapes::Deed>)]
    items: Vec<AuditEntry>,
}

#[utoipa::path(get, path = "/api/write-backs/audit", tag = "write-backs",
    params(("sync" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Deeds), (status = 404, body = Problem)))]
pub(crate) async fn audit(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<Deeds>, ApiError> {
    let write_backs = handle(&app)?;
    let deeds = write_backs.history(which.sync.as_deref(), which.limit());
    let items = deeds.await.map_err(refused)?;
    Ok(Json(Deeds { items }))
}

#[utoipa::path(post, path = "/api/write-backs/{sync}/plan", tag = "write-backs",
    params(("sync" = String, Path)),
    responses((status = 200, body = shapes::Plan), (status = 404, body = Problem)))]
pub(crate) async fn plan(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(sync): Path<String>,
) -> Result<Json<Plan>, ApiError> {
    let planned = handle(&app)?.plan(&sync, who.name()).await;
    planned.map(Json).map_err(refused)
}

/// What somebody wants done, in their words.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    request: String,
}

#[utoipa::path(post, path = "/api/write-backs/propose", tag = "write-backs",
    request_body = Request,
    responses((status = 200, body = shapes::Proposed), (status = 400, body = Problem)))]
pub(crate) async fn propose(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    request: Result<Json<Request>, JsonRejection>,
) -> Result<Json<Outcome>, ApiError> {
    handle(&app)?;
    let Json(Request { request }) = request?;
    let proposed = app.activation.propose(&request, who.name()).await;
    proposed.map(Json).map_err(|error| match error {
        ActivationError::Refused(said) => ApiError::conflict(said),
        error => ApiError::unavailable(error.to_string()),
    })
}

#[utoipa::path(get, path = "/api/write-backs/plans/{id}", tag = "write-backs",
    params(("id" = String, Path)),
    responses((status = 200, body = shapes::Plan), (status = 404, body = Problem)))]
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, ApiError> {
    let found = handle(&app)?.get(plan_id(&id)?).await;
    found.map(Json).map_err(refused)
}

#[derive(Deserialize, IntoParams)]
pub(crate) struct Page {
    /// `added`, `changed`, `removed` or `invalid`; all where it is absent.
    kind: Option<String>,
    /// The `seq` of the last row seen.
    after: Option<i64>,
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PlanRows {
    #[schema(value_type = Vec<shapes::PlanRow>)]
    items: Vec<PlanRow>,
    /// What the next page starts after; absent on the last one.
    next: Option<i64>,
}

#[utoipa::path(get, path = "/api/write-backs/plans/{id}/rows", tag = "write-backs",
    params(("id" = String, Path), Page),
    responses((status = 200, body = PlanRows), (status = 404, body = Problem)))]
pub(crate) async fn rows(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<PlanRows>, ApiError> {
    let limit = page.limit.unwrap_or(ROWS_BY_DEFAULT).clamp(1, ROWS_MAX);
    let kind = page.kind.as_deref().filter(|kind| !kind.is_empty());
    let (id, after) = (plan_id(&id)?, page.after.unwrap_or(0));
    let found = handle(&app)?.rows(id, kind, after, limit).await;
    let items = found.map_err(refused)?;
    let next = (items.len() == limit as usize)
        .then(|| items.last().map(|row| row.seq))
        .flatten();
    Ok(Json(PlanRows { items, next }))
}

/// What is approved is what the hash was computed over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    hash: String,
    comment: Option<String>,
}

#[utoipa::path(post, path = "/api/write-backs/plans/{id}/approve", tag = "write-backs",
    params(("id" = String, Path)), request_body = Approval,
    responses((status = 200, body = shapes::Plan), (status = 409, body = Problem)))]
pub(crate) async fn approve(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    approval: Result<Json<Approval>, JsonRejection>,
) -> Result<Json<Plan>, ApiError> {
    let (id, Json(approval)) = (plan_id(&id)?, approval?);
    let comment = approval.comment.as_deref();
    let approved = handle(&app)?.approve(id, &approval.hash, who.name(), comment);
    approved.await.map(Json).map_err(refused)
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rejection {
    comment: Option<String>,
}

#[utoipa::path(post, path = "/api/write-backs/plans/{id}/reject", tag = "write-backs",
    params(("id" = String, Path)), request_body = Rejection,
    responses((status = 200, body = shapes::Plan), (status = 409, body = Problem)))]
pub(crate) async fn reject(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    rejection: Result<Json<Rejection>, JsonRejection>,
) -> Result<Json<Plan>, ApiError> {
    let (id, Json(rejection)) = (plan_id(&id)?, rejection?);
    let rejected = handle(&app)?.reject(id, who.name(), rejection.comment.as_deref());
    rejected.await.map(Json).map_err(refused)
}

#[utoipa::path(post, path = "/api/write-backs/plans/{id}/apply", tag = "write-backs",
    params(("id" = String, Path)),
    responses((status = 200, body = shapes::Plan), (status = 409, body = Problem)))]
pub(crate) async fn apply(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, ApiError> {
    let applied = handle(&app)?.apply(plan_id(&id)?, who.name()).await;
    applied.map(Json).map_err(refused)
}

#[utoipa::path(post, path = "/api/write-backs/plans/{id}/undo", tag = "write-backs",
    params(("id" = String, Path)),
    responses((status = 200, body = shapes::Plan), (status = 409, body = Problem)))]
pub(crate) async fn undo(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, ApiError> {
    let undone = handle(&app)?.undo(plan_id(&id)?, who.name()).await;
    undone.map(Json).map_err(refused)
}

fn plan_id(id: &str) -> Result<Uuid, ApiError> {
    id.parse()
        .map_err(|_| ApiError::not_found(format!("no plan {id}")))
}

fn refused(error: WriteBackError) -> ApiError {
    use WriteBackError as E;
    let said = error.to_string();
    match error {
        E::UnknownSync { .. } | E::UnknownPlan(_) => ApiError::not_found(said),
        E::Definition(_) | E::Proposal(_) => ApiError::bad_request(said),
        E::State { .. }
        | E::NoSource { .. }
        | E::Overtaken { .. }
        | E::OtherHash { .. }
        | E::Tampered { .. }
        | E::Limit(_)
        | E::Conflict { .. }
        | E::Altered { .. }
        | E::Unknown { .. } => ApiError::conflict(said),
        _ => ApiError::unavailable(said),
    }
}
