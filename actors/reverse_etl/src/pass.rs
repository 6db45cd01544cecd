//! The write-backs of one pass: approved plans are applied, every sync is planned. Nothing is applied
//! that nobody approved.

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::{Plan, PlanRequest, PlanState};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::WriteBackError;
use crate::library::WriteBacks;

/// Plans made at a time: each holds one connection to the warehouse and one to its target.
const PLANS_AT_A_TIME: usize = 4;

/// What a pass did about one sync.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassEntry {
    pub sync: String,
    pub outcome: PassOutcome,
    pub plan: Option<Uuid>,
    /// Rows that were, or would be, written.
    pub rows: i64,
    pub error: Option<String>,
}

/// How a sync stands after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassOutcome {
    /// The target is as the warehouse wants it, or an open plan says the same already.
    NothingNew,
    /// A plan waits for approval.
    Planned,
    /// An approved plan was applied.
    Applied,
    Failed,
}

impl PassEntry {
    /// What failed of a pass, in one sentence; `None` where nothing did.
    pub fn failures(entries: &[Self]) -> Option<String> {
        let failed = entries
            .iter()
            .filter(|entry| entry.outcome == PassOutcome::Failed);
        let failed: Vec<String> = failed
            .map(|entry| {
                let why = entry.error.as_deref().unwrap_or("failed");
                format!("{}: {why}", entry.sync)
            })
            .collect();
        (!failed.is_empty()).then(|| format!("a write-back failed: {}", failed.join("; ")))
    }
}

impl WriteBacks {
    /// Applies what is approved, then plans each sync; in the name of `by`.
    ///
    /// # Errors
    /// When the syncs' files or schema `ballpoint` cannot be read. What fails about one sync is in
    /// its entry.
    pub async fn pass(&self, by: &str) -> Result<Vec<PassEntry>, WriteBackError> {
        let mut entries = match self.resume().await {
            Ok(_) => Vec::new(),
            // The other sources go on.
            Err(error @ WriteBackError::UnderWay { id, .. }) => {
                let plan = self.get(id).await?;
                let failed = PassOutcome::Failed;
                vec![entry(&plan.sync, failed, Some(&plan), Some(&error))]
            }
            Err(error) => return Err(error),
        };
        entries.extend(self.apply_approved(by).await?);
        for planned in self.plan_each(by).await? {
            entries.extend(planned?);
        }
        // Policy may have approved what was just planned.
        entries.extend(self.apply_approved(by).await?);
        for sync in self.syncs()? {
            if !entries.iter().any(|entry| entry.sync == sync.name) {
                entries.push(entry(&sync.name, PassOutcome::NothingNew, None, None));
            }
        }
        Ok(entries)
    }

    /// Plans every sync, some at a time: each reads another part of the warehouse and of its target.
    async fn plan_each(
        &self,
        by: &str,
    ) -> Result<Vec<Result<Option<PassEntry>, WriteBackError>>, WriteBackError> {
        let _working = self.working.lock().await;
        let plans = self
            .syncs()?
            .into_iter()
            .map(|sync| async move { self.plan_if_new(&sync.name, by).await });
        Ok(stream::iter(plans)
            .buffered(PLANS_AT_A_TIME)
            .collect()
            .await)
    }

    /// `None` where nothing is new, or an open plan says it already.
    async fn plan_if_new(&self, sync: &str, by: &str) -> Result<Option<PassEntry>, WriteBackError> {
        let id = self.ask_for_plan(sync, by, None).await?;
        let plan = self.get(id).await?;
        match Box::pin(self.make(&plan, true)).await {
            Ok(Some(made)) => {
                let outcome = match made.state {
                    PlanState::Failed => PassOutcome::Failed,
                    _ => PassOutcome::Planned,
                };
                Ok(Some(PassEntry {
                    error: made.error.clone(),
                    ..entry(sync, outcome, Some(&made), None)
                }))
            }
            Ok(None) => {
                self.forget(id).await?;
                Ok(None)
            }
            Err(error) => {
                self.forget(id).await?;
                Ok(Some(entry(sync, PassOutcome::Failed, None, Some(&error))))
            }
        }
    }

    async fn apply_approved(&self, by: &str) -> Result<Vec<PassEntry>, WriteBackError> {
        let mut approved = self.store.plans().in_states(&[PlanState::Approved]).await?;
        // The oldest first: a later plan may rest on it.
        approved.reverse();
        // What is under way was just tried.
        approved.retain(|plan| plan.under_way.is_none());
        let mut entries = Vec::new();
        for plan in approved {
            entries.push(match self.apply(plan.id, by).await {
                Ok(applied) => entry(&plan.sync, PassOutcome::Applied, Some(&applied), None),
                Err(error) => entry(&plan.sync, PassOutcome::Failed, Some(&plan), Some(&error)),
            });
        }
        Ok(entries)
    }

    /// Takes a plan away that nobody asked for and that has nothing new.
    async fn forget(&self, id: Uuid) -> Result<(), WriteBackError> {
        sqlx::query("delete from ballpoint.plans where id = $1 and request = $2")
            .bind(id)
            .bind(PlanRequest::Plan.name())
            .execute(self.store.pool())
            .await
            .map_err(WriteBackError::warehouse("forgetting a plan"))?;
        Ok(())
    }
}

fn entry(
    sync: &str,
    outcome: PassOutcome,
    plan: Option<&Plan>,
    error: Option<&WriteBackError>,
) -> PassEntry {
    PassEntry {
        sync: sync.to_owned(),
        outcome,
        plan: plan.map(|plan| plan.id),
        rows: plan.map_or(0, |plan| {
            plan.written.unwrap_or_else(|| plan.counts.writes())
        }),
        error: error.map(|error| in_one_line(error)),
    }
}
