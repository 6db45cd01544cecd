//! The way to the write-backs of a running system.
//!
//! A command is written into its plan and as a work row first; the actor `reverse_etl` carries it
//! out, and the handle waits until the plan says how it ended. Reads go straight to schema
//! `ballpoint`: they work while the actor is away.

use std::time::Duration;

use ballpoint_runtime::store::{AuditEntry, Plan, PlanRequest, PlanRow, PlanState};
use ballpoint_runtime::trace::TraceContext;
use tracing::Instrument;
use uuid::Uuid;

use crate::actor::ASKED;
use crate::definition::Sync;
use crate::error::WriteBackError;
use crate::library::WriteBacks;
use crate::pass::PassEntry;
use crate::proposal::Proposal;

/// A large plan reads a large table; whoever waited longer finds it in the history.
const PATIENCE: Duration = Duration::from_secs(120);

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReverseEtlHandle {
    library: WriteBacks,
    patience: Duration,
}

impl ReverseEtlHandle {
    /// To the actor that works on the same schema `ballpoint`.
    pub fn new(library: WriteBacks) -> Self {
        Self {
            library,
            patience: PATIENCE,
        }
    }

    /// The syncs as their files stand now.
    ///
    /// # Errors
    /// [`WriteBackError::Definition`] with every problem.
    pub fn syncs(&self) -> Result<Vec<Sync>, WriteBackError> {
        self.library.syncs()
    }

    /// Plans a whole sync.
    ///
    /// # Errors
    /// As [`WriteBacks::plan`]; why a plan failed is in the plan, not here.
    pub async fn plan(&self, sync: &str, by: &str) -> Result<Plan, WriteBackError> {
        let (this, sync, by) = (self.clone(), sync.to_owned(), by.to_owned());
        undisturbed(async move {
            let id = this.library.ask_for_plan(&sync, &by, None).await?;
            this.done(id).await
        })
        .await
    }

    /// Plans what a proposal asks for.
    ///
    /// # Errors
    /// As [`WriteBacks::propose`]; why a plan failed is in the plan, not here.
    pub async fn propose(&self, proposal: &Proposal, by: &str) -> Result<Plan, WriteBackError> {
        let (this, proposal, by) = (self.clone(), proposal.clone(), by.to_owned());
        undisturbed(async move {
            let asked = this
                .library
                .ask_for_plan(&proposal.sync, &by, Some(&proposal));
            let id = asked.await?;
            this.done(id).await
        })
        .await
    }

    /// A plan.
    ///
    /// # Errors
    /// As [`WriteBacks::get`].
    pub async fn get(&self, id: Uuid) -> Result<Plan, WriteBackError> {
        self.library.get(id).await
    }

    /// The latest plans, newest first: of one sync or of all.
    ///
    /// # Errors
    /// As every query.
    pub async fn list(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Plan>, WriteBackError> {
        self.library.list(sync, limit).await
    }

    /// As [`ReverseEtlHandle::list`], of plans in any of these states; in all where there is none.
    ///
    /// # Errors
    /// As every query.
    pub async fn list_in(
        &self,
        sync: Option<&str>,
        states: &[PlanState],
        limit: u32,
    ) -> Result<Vec<Plan>, WriteBackError> {
        self.library.list_in(sync, states, limit).await
    }

    /// How many plans wait for approval.
    ///
    /// # Errors
    /// As every query.
    pub async fn waiting(&self) -> Result<usize, WriteBackError> {
        let plans = self.library.store().plans();
        Ok(plans.in_states(&[PlanState::Planned]).await?.len())
    }

    /// A page of a plan's rows, in key order: of one kind (`added`, `changed`, `removed`, `invalid`)
    /// or of all, after the row `after` (0 for the first page).
    ///
    /// # Errors
    /// As [`WriteBacks::rows`].
    pub async fn rows(
        &self,
        id: Uuid,
        kind: Option<&str>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PlanRow>, WriteBackError> {
        self.library.rows(id, kind, after, limit).await
    }

    /// Lets a plan through, if it is still what `hash` was computed over.
    ///
    /// # Errors
    /// As [`WriteBacks::approve`].
    pub async fn approve(
        &self,
        id: Uuid,
        hash: &str,
        by: &str,
        comment: Option<&str>,
    ) -> Result<Plan, WriteBackError> {
        self.library.approve(id, hash, by, comment).await
    }

    /// Ends a plan that is not applied.
    ///
    /// # Errors
    /// As [`WriteBacks::reject`].
    pub async fn reject(
        &self,
        id: Uuid,
        by: &str,
        comment: Option<&str>,
    ) -> Result<Plan, WriteBackError> {
        self.library.reject(id, by, comment).await
    }

    /// Carries out an approved plan. The plan that comes back says how it ended: `applied`, or
    /// `failed` or still `approved` with its error.
    ///
    /// # Errors
    /// As [`WriteBacks::apply`]; why a plan failed is in the plan, not here.
    pub async fn apply(&self, id: Uuid, by: &str) -> Result<Plan, WriteBackError> {
        self.ask(id, PlanRequest::Apply, by).await
    }

    /// Takes an applied plan back. The plan that comes back says how it ended: `undone`, or still
    /// `applied` with its error.
    ///
    /// # Errors
    /// As [`WriteBacks::undo`]; why it failed is in the plan, not here.
    pub async fn undo(&self, id: Uuid, by: &str) -> Result<Plan, WriteBackError> {
        self.ask(id, PlanRequest::Undo, by).await
    }

    /// One pass: approved plans are applied, every sync is planned, in the name of `by`.
    ///
    /// # Errors
    /// As [`WriteBacks::pass`].
    pub async fn pass(&self, by: &str) -> Result<Vec<PassEntry>, WriteBackError> {
        let (library, by) = (self.library.clone(), by.to_owned());
        undisturbed(async move { library.pass(&by).await }).await
    }

    /// Who did what when, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn history(
        &self,
        sync: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, WriteBackError> {
        self.library.history(sync, limit).await
    }

    async fn ask(&self, id: Uuid, request: PlanRequest, by: &str) -> Result<Plan, WriteBackError> {
        let (this, by) = (self.clone(), by.to_owned());
        undisturbed(async move {
            match this.library.ask(id, request, &by).await? {
                Some(done) => Ok(done),
                None => this.done(id).await,
            }
        })
        .await
    }

    /// Wakes the actor, and waits until nothing is asked of the plan any more.
    async fn done(&self, id: Uuid) -> Result<Plan, WriteBackError> {
        let work = self.library.store().work();
        // Subscribed before it is written, so that its end cannot be missed.
        let mut wake = work.subscribe(ASKED.name());
        work.enqueue(&ASKED, &TraceContext::current()).await?;
        let waiting = async {
            loop {
                let plan = self.library.get(id).await?;
                if plan.under_way.is_none() {
                    return Ok(plan);
                }
                wake.wait().await;
            }
        };
        let waited = tokio::time::timeout(self.patience, waiting).await;
        waited.unwrap_or(Err(WriteBackError::NotYet(id)))
    }
}

/// In a task of its own: whoever asked may go away, and what was asked for must not be left half
/// written, with no work row to carry it out.
async fn undisturbed<T: Send + 'static>(
    doing: impl Future<Output = Result<T, WriteBackError>> + Send + 'static,
) -> Result<T, WriteBackError> {
    match tokio::spawn(doing.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(WriteBackError::Stopping),
        },
    }
}
