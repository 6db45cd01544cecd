//! The library: syncs, plans, and the steps a plan can be asked for.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_postgres::pool::{self, PoolOptions};
use ballpoint_runtime::store::{
    AuditEntry, NewPlan, Plan, PlanRequest, PlanRow, PlanState, Plans, Store, StoreError,
};
use ballpoint_runtime::trace::TraceContext;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::definition::{Sync, Syncs};
use crate::error::WriteBackError;
use crate::proposal::Proposal;
use crate::target::Target;

/// How targets see us in `pg_stat_activity`.
const APPLICATION: &str = "ballpoint write-back";

/// What the library works with.
#[derive(Clone, Debug)]
pub struct WriteBacksConfig {
    /// Where the syncs' files are.
    pub folder: PathBuf,
    /// Source → connection URL.
    pub sources: BTreeMap<String, String>,
}

/// Plans and carries out write-backs. Cheap to clone.
#[derive(Clone)]
pub struct WriteBacks {
    pub(crate) store: Store,
    config: Arc<WriteBacksConfig>,
    pools: Arc<Mutex<HashMap<String, PgPool>>>,
    /// Held by whoever carries a plan out: the actor, or a pass beside it.
    pub(crate) working: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for WriteBacks {
    /// Without the URLs, which hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBacks")
            .field("folder", &self.config.folder)
            .field("sources", &self.config.sources.keys())
            .finish_non_exhaustive()
    }
}

impl WriteBacks {
    /// Reads nothing yet: files are read when they are needed, so that an edit counts at once.
    pub fn new(store: Store, config: WriteBacksConfig) -> Self {
        Self {
            store,
            config: Arc::new(config),
            pools: Arc::default(),
            working: Arc::default(),
        }
    }

    /// Schema `ballpoint`.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The syncs as their files stand now.
    ///
    /// # Errors
    /// [`WriteBackError::Definition`] with every problem.
    pub fn syncs(&self) -> Result<Vec<Sync>, WriteBackError> {
        Ok(self.definitions()?.syncs)
    }

    /// Plans a whole sync and waits for the plan.
    ///
    /// # Errors
    /// Why there is no plan; one that was begun stands as failed in the history.
    pub async fn plan(&self, sync: &str, by: &str) -> Result<Plan, WriteBackError> {
        let id = self.ask_for_plan(sync, by, None).await?;
        self.carry_out(id, PlanRequest::Plan).await
    }

    /// Plans what a proposal asks for. Nothing is written to the target, whatever it says.
    ///
    /// # Errors
    /// As [`WriteBacks::plan`], and [`WriteBackError::Proposal`].
    pub async fn propose(&self, proposal: &Proposal, by: &str) -> Result<Plan, WriteBackError> {
        let id = self
            .ask_for_plan(&proposal.sync, by, Some(proposal))
            .await?;
        self.carry_out(id, PlanRequest::Plan).await
    }

    /// Lets a plan through, if it is still what `hash` was computed over. Again changes nothing.
    ///
    /// # Errors
    /// [`WriteBackError::OtherHash`], [`WriteBackError::State`], [`WriteBackError::UnknownPlan`].
    pub async fn approve(
        &self,
        id: Uuid,
        hash: &str,
        by: &str,
        comment: Option<&str>,
    ) -> Result<Plan, WriteBackError> {
        let plan = self.get(id).await?;
        let planned = plan.hash.clone().unwrap_or_default();
        if planned != hash {
            return Err(WriteBackError::OtherHash {
                id,
                hash: planned,
                given: hash.to_owned(),
            });
        }
        if plan.state == PlanState::Approved {
            return Ok(plan);
        }
        let from = [PlanState::Planned];
        self.decide(
            plan,
            (&from, PlanState::Approved),
            Some(hash),
            (by, comment),
        )
        .await
    }

    /// Ends a plan that is not applied.
    ///
    /// # Errors
    /// [`WriteBackError::State`], [`WriteBackError::UnknownPlan`].
    pub async fn reject(
        &self,
        id: Uuid,
        by: &str,
        comment: Option<&str>,
    ) -> Result<Plan, WriteBackError> {
        let plan = self.get(id).await?;
        let from = [PlanState::Planned, PlanState::Approved, PlanState::Failed];
        self.decide(plan, (&from, PlanState::Rejected), None, (by, comment))
            .await
    }

    async fn decide(
        &self,
        plan: Plan,
        (from, to): (&[PlanState], PlanState),
        hash: Option<&str>,
        (by, comment): (&str, Option<&str>),
    ) -> Result<Plan, WriteBackError> {
        let (action, wanted) = match to {
            PlanState::Approved => ("approve", "approved"),
            _ => ("reject", "rejected"),
        };
        let mut transaction = self.begin("deciding on a plan").await?;
        let of = (from, to);
        if !Plans::decide_in(&mut transaction, plan.id, of, hash, by, comment).await? {
            return Err(WriteBackError::State {
                id: plan.id,
                state: self.get(plan.id).await?.state,
                wanted,
            });
        }
        let detail = json!({ "hash": plan.hash, "comment": comment, "counts": plan.counts });
        self.note(&mut transaction, by, action, &plan, &detail)
            .await?;
        self.commit(transaction).await?;
        self.announce(plan.id).await
    }

    /// Carries out an approved plan and waits for its end. An applied one is left as it is: 0 rows
    /// are written then.
    ///
    /// # Errors
    /// Why nothing was written, or why that is not known.
    pub async fn apply(&self, id: Uuid, by: &str) -> Result<Plan, WriteBackError> {
        match self.ask(id, PlanRequest::Apply, by).await? {
            Some(done) => Ok(done),
            None => self.carry_out(id, PlanRequest::Apply).await,
        }
    }

    /// Takes an applied plan back: every old value, as long as no row changed since.
    ///
    /// # Errors
    /// As [`WriteBacks::apply`].
    pub async fn undo(&self, id: Uuid, by: &str) -> Result<Plan, WriteBackError> {
        match self.ask(id, PlanRequest::Undo, by).await? {
            Some(done) => Ok(done),
            None => self.carry_out(id, PlanRequest::Undo).await,
        }
    }

    /// A plan.
    ///
    /// # Errors
    /// [`WriteBackError::UnknownPlan`], [`WriteBackError::Store`].
    pub async fn get(&self, id: Uuid) -> Result<Plan, WriteBackError> {
        let plan = self.store.plans().get(id).await?;
        plan.ok_or_else(|| WriteBackError::UnknownPlan(id.to_string()))
    }

    /// The latest plans, newest first: of one sync or of all.
    ///
    /// # Errors
    /// As every query.
    pub async fn list(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Plan>, WriteBackError> {
        self.list_in(sync, &[], limit).await
    }

    /// The latest plans in any of these states, or in all, newest first: of one sync or of all.
    ///
    /// # Errors
    /// As every query.
    pub async fn list_in(
        &self,
        sync: Option<&str>,
        states: &[PlanState],
        limit: u32,
    ) -> Result<Vec<Plan>, WriteBackError> {
        Ok(self.store.plans().recent(sync, states, limit).await?)
    }

    /// A page of a plan's rows, in key order.
    ///
    /// # Errors
    /// [`WriteBackError::UnknownPlan`], [`WriteBackError::Store`].
    pub async fn rows(
        &self,
        id: Uuid,
        kind: Option<&str>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PlanRow>, WriteBackError> {
        self.get(id).await?;
        Ok(self.store.plans().rows(id, kind, after, limit).await?)
    }

    /// Who did what when, newest first: with the plans of one sync or of all.
    ///
    /// # Errors
    /// As every query.
    pub async fn history(
        &self,
        sync: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, WriteBackError> {
        Ok(self.store.audit().recent(sync, limit).await?)
    }

    /// Writes that a plan is to be made; returns its id.
    pub(crate) async fn ask_for_plan(
        &self,
        name: &str,
        by: &str,
        proposal: Option<&Proposal>,
    ) -> Result<Uuid, WriteBackError> {
        let definitions = self.definitions()?;
        let Some(sync) = definitions.get(name) else {
            let known: Vec<&str> = definitions.syncs.iter().map(|s| s.name.as_str()).collect();
            return Err(WriteBackError::UnknownSync {
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        let rows = match proposal {
            Some(proposal) => {
                proposal.check(sync)?;
                let rows = serde_json::to_value(&proposal.rows);
                Some(rows.map_err(|error| WriteBackError::Proposal(error.to_string()))?)
            }
            None => None,
        };
        let id = Uuid::now_v7();
        let whole = format!("brings {} up to date", sync.target_name());
        let plan = NewPlan {
            id,
            sync: name,
            source: &sync.source,
            target: &sync.target_name(),
            mode: sync.mode.name(),
            requested_by: by,
            reason: proposal.map_or(&whole, |proposal| &proposal.reason),
            evidence: proposal.map_or(&Value::Null, |proposal| &proposal.evidence),
            proposal: rows.as_ref(),
            trace: &TraceContext::current(),
        };
        self.store.plans().begin(&plan).await?;
        Ok(id)
    }

    /// Asks for a plan's next step. `Some` when the step is done already.
    pub(crate) async fn ask(
        &self,
        id: Uuid,
        request: PlanRequest,
        by: &str,
    ) -> Result<Option<Plan>, WriteBackError> {
        let (from, done, wanted) = match request {
            PlanRequest::Undo => (PlanState::Applied, PlanState::Undone, "undone"),
            _ => (PlanState::Approved, PlanState::Applied, "applied"),
        };
        let plan = self.get(id).await?;
        if plan.state == done {
            return Ok(Some(Plan {
                written: Some(0),
                ..plan
            }));
        }
        if self.store.plans().ask(id, from, request, by).await? {
            return Ok(None);
        }
        Err(WriteBackError::State {
            id,
            state: plan.state,
            wanted,
        })
    }

    pub(crate) fn definitions(&self) -> Result<Syncs, WriteBackError> {
        let sources = self.config.sources.keys().map(String::as_str);
        Ok(Syncs::load(&self.config.folder, sources)?)
    }

    /// The source that a plan is about.
    pub(crate) fn target(&self, source: &str, plan: Uuid) -> Result<Target, WriteBackError> {
        let url = self.config.sources.get(source);
        let url = url.ok_or_else(|| WriteBackError::NoSource {
            id: plan,
            source_name: source.to_owned(),
        })?;
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match pools.get(source) {
            Some(pool) => pool.clone(),
            None => {
                let options = PoolOptions {
                    max_connections: 3,
                    ..PoolOptions::named(APPLICATION)
                };
                let unreachable = |error| WriteBackError::Unreachable {
                    source_name: source.to_owned(),
                    source: error,
                };
                let pool = pool::lazy(url, options).map_err(unreachable)?;
                pools.insert(source.to_owned(), pool.clone());
                pool
            }
        };
        Ok(Target {
            name: source.to_owned(),
            pool,
        })
    }

    pub(crate) async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, WriteBackError> {
        let begun = self.store.pool().begin().await;
        begun.map_err(WriteBackError::warehouse(doing))
    }

    pub(crate) async fn commit(
        &self,
        transaction: sqlx::Transaction<'static, sqlx::Postgres>,
    ) -> Result<(), WriteBackError> {
        let committed = transaction.commit().await;
        committed.map_err(WriteBackError::warehouse("committing"))
    }

    pub(crate) async fn note(
        &self,
        connection: &mut PgConnection,
        by: &str,
        action: &str,
        plan: &Plan,
        detail: &Value,
    ) -> Result<(), StoreError> {
        let about = (plan.sync.as_str(), Some(plan.id));
        ballpoint_runtime::store::Audit::note_in(connection, by, action, about, detail).await
    }

    /// Publishes where the plan stands now, and returns it.
    pub(crate) async fn announce(&self, id: Uuid) -> Result<Plan, WriteBackError> {
        let plan = self.get(id).await?;
        let rows = plan.written.unwrap_or_else(|| plan.counts.writes());
        let event = ballpoint_runtime::event::Event::PlanChanged {
            plan: id.to_string(),
            sync: plan.sync.clone(),
            state: plan.state.name().to_owned(),
            rows: u64::try_from(rows).unwrap_or_default(),
            error: plan.error.clone(),
            approved: plan.approved_by.is_some(),
        };
        let trace = TraceContext::current();
        self.store.events().publish(event, trace).await?;
        Ok(plan)
    }
}
