//! The write-backs behind one interface: this process's library, or the running system over HTTP.

use anyhow::{Context as _, bail};
use ballpoint_activation::Proposer;
use ballpoint_metrics::Service;
use ballpoint_reverse_etl::{Plan, PlanRow, PlanState, WriteBackError, WriteBacks};
use ballpoint_runtime::clock::Clock;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use uuid::Uuid;

use super::BY;
use crate::output::{self, UserError};
use crate::remote::Remote;
use crate::session::Own;
use crate::stages;

/// Plans and deeds that a history shows.
const HISTORY_MAX: u32 = 50;

/// Who does it.
pub(super) enum Door {
    Running(Remote),
    Own {
        library: WriteBacks,
        metrics: Option<Service>,
        clock: Clock,
    },
}

impl Door {
    /// This process's write-backs, after what a kill left behind is carried out.
    ///
    /// # Errors
    /// When the project has none, or a target cannot tell what became of a transaction.
    pub(super) async fn of_own(own: &Own) -> anyhow::Result<Self> {
        let library = stages::write_backs(&own.project, &own.databases, &own.store);
        let Some(library) = library else {
            bail!(UserError(
                "the project has no [reverse_etl]: there is nothing to write back".to_owned()
            ));
        };
        match library.resume().await {
            // It keeps only its own source waiting.
            Err(error @ WriteBackError::UnderWay { .. }) => output::note(error.to_string()),
            outcome => {
                outcome?;
            }
        }
        let metrics = match stages::metrics(&own.project)? {
            Some(model) => {
                let pool = own.queries().await?;
                Some(Service::new(model, pool, own.clock.clone()))
            }
            None => None,
        };
        Ok(Self::Own {
            library,
            metrics,
            clock: own.clock.clone(),
        })
    }

    pub(super) async fn syncs(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Own { library, .. } => {
                let syncs = library.syncs()?;
                Ok(syncs.into_iter().map(|sync| sync.name).collect())
            }
            Self::Running(remote) => {
                let listed = remote.get("/api/write-backs").await?;
                if let Some(error) = listed["syncs_error"].as_str() {
                    bail!(UserError(error.to_owned()));
                }
                let syncs = listed["syncs"].as_array().into_iter().flatten();
                Ok(syncs
                    .filter_map(|sync| sync["name"].as_str().map(str::to_owned))
                    .collect())
            }
        }
    }

    /// The latest plans, newest first: of one sync or of all, in any of these states or in all.
    pub(super) async fn plans(
        &self,
        sync: Option<&str>,
        states: &[PlanState],
        limit: u32,
    ) -> anyhow::Result<Vec<Plan>> {
        match self {
            Self::Own { library, .. } => Ok(library.list_in(sync, states, limit).await?),
            Self::Running(remote) => {
                let states: Vec<&str> = states.iter().map(|state| state.name()).collect();
                let (limit, states) = (limit.to_string(), states.join(","));
                let path = asking("/api/write-backs", sync, &limit, &states)?;
                let listed = remote.get(&path).await?;
                serde_json::from_value(listed["plans"].clone()).context("reading the plans")
            }
        }
    }

    pub(super) async fn get(&self, id: Uuid) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => Ok(library.get(id).await?),
            Self::Running(remote) => read(remote.get(&path(id, "")).await?),
        }
    }

    pub(super) async fn rows(
        &self,
        id: Uuid,
        kind: Option<&str>,
        limit: u32,
    ) -> anyhow::Result<Vec<PlanRow>> {
        match self {
            Self::Own { library, .. } => Ok(library.rows(id, kind, 0, limit).await?),
            Self::Running(remote) => {
                let query = format!("/rows?limit={limit}&kind={}", kind.unwrap_or_default());
                let page = remote.get(&path(id, &query)).await?;
                serde_json::from_value(page["items"].clone()).context("reading a plan's rows")
            }
        }
    }

    pub(super) async fn plan(&self, sync: &str) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => ended(library, library.plan(sync, BY).await).await,
            Self::Running(remote) => {
                let path = format!("/api/write-backs/{sync}/plan");
                read(remote.post(&path, &json!({})).await?)
            }
        }
    }

    /// Reads a request in words, and plans what it asks for.
    pub(super) async fn propose(&self, request: &str) -> anyhow::Result<Plan> {
        match self {
            Self::Running(remote) => {
                let body = json!({ "request": request });
                let reply = remote.post("/api/write-backs/propose", &body).await?;
                if let Some(reason) = reply["refusal"].as_str() {
                    bail!(UserError(reason.to_owned()));
                }
                read(reply)
            }
            Self::Own {
                library,
                metrics,
                clock,
            } => {
                let Some(service) = metrics else {
                    bail!(UserError(
                        "the project has no [metrics]: a request in words cannot be read"
                            .to_owned()
                    ));
                };
                let proposer = Proposer {
                    clock: clock.clone(),
                    time_zone: TimeZone::UTC,
                };
                let (service, syncs) = (service.surveyed().await?, library.syncs()?);
                match proposer.propose(&service, &syncs, request).await? {
                    Err(refusal) => bail!(UserError(refusal.reason)),
                    Ok(proposal) => ended(library, library.propose(&proposal, BY).await).await,
                }
            }
        }
    }

    pub(super) async fn approve(
        &self,
        id: Uuid,
        hash: &str,
        comment: Option<&str>,
    ) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => Ok(library.approve(id, hash, BY, comment).await?),
            Self::Running(remote) => {
                let body = json!({ "hash": hash, "comment": comment });
                read(remote.post(&path(id, "/approve"), &body).await?)
            }
        }
    }

    pub(super) async fn reject(&self, id: Uuid, comment: Option<&str>) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => Ok(library.reject(id, BY, comment).await?),
            Self::Running(remote) => {
                let body = json!({ "comment": comment });
                read(remote.post(&path(id, "/reject"), &body).await?)
            }
        }
    }

    pub(super) async fn apply(&self, id: Uuid) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => ended(library, library.apply(id, BY).await).await,
            Self::Running(remote) => read(remote.post(&path(id, "/apply"), &json!({})).await?),
        }
    }

    pub(super) async fn undo(&self, id: Uuid) -> anyhow::Result<Plan> {
        match self {
            Self::Own { library, .. } => ended(library, library.undo(id, BY).await).await,
            Self::Running(remote) => read(remote.post(&path(id, "/undo"), &json!({})).await?),
        }
    }

    /// `{"plans": […], "audit": […]}`.
    pub(super) async fn history(&self, sync: Option<&str>) -> anyhow::Result<Value> {
        let plans = self.plans(sync, &[], HISTORY_MAX).await?;
        let audit = match self {
            Self::Own { library, .. } => json!(library.history(sync, HISTORY_MAX).await?),
            Self::Running(remote) => {
                let limit = HISTORY_MAX.to_string();
                let path = asking("/api/write-backs/audit", sync, &limit, "")?;
                remote.get(&path).await?["items"].take()
            }
        };
        Ok(json!({ "plans": plans, "audit": audit }))
    }
}

/// A list's path with what it is narrowed by.
fn asking(path: &str, sync: Option<&str>, limit: &str, states: &str) -> anyhow::Result<String> {
    let given = sync.map(|name| ("sync", name));
    let states = (!states.is_empty()).then_some(("state", states));
    let query = [Some(("limit", limit)), given, states];
    let whole = reqwest::Url::parse_with_params("http://localhost", query.into_iter().flatten())?;
    Ok(format!("{path}?{}", whole.query().unwrap_or_default()))
}

fn path(id: Uuid, rest: &str) -> String {
    format!("/api/write-backs/plans/{id}{rest}")
}

/// A plan as the server sends it, alone or under `plan`.
fn read(reply: Value) -> anyhow::Result<Plan> {
    let plan = if reply["plan"].is_object() {
        reply["plan"].clone()
    } else {
        reply
    };
    serde_json::from_value(plan).context("reading the plan that the running ballpoint sent")
}

/// A plan that failed is a result, with its reason in it, as the running system gives it.
async fn ended(
    library: &WriteBacks,
    outcome: Result<Plan, WriteBackError>,
) -> anyhow::Result<Plan> {
    match outcome {
        Err(WriteBackError::Limit(reason)) => {
            let latest = library.list(None, 1).await?.pop();
            latest.with_context(|| reason)
        }
        other => Ok(other?),
    }
}
