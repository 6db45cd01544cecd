//! The actor `reverse_etl`.
//!
//! **In** rows of `ballpoint.work` of kind `write_back`: it is woken when one is written and polls
//! besides. The row only says that plans are asked for something; what, stands in `ballpoint.plans`.
//! A schedule's row asks for a whole pass: what is approved is written, every sync is planned.
//! **Out** the plans' ends, [`Event::PlanChanged`](ballpoint_runtime::event::Event), then the end of
//! the work row. One write-back at a time, oldest first. A restart, or a kill, takes the row up again,
//! and the target itself says what became of a transaction that was under way. It approves nothing.

use std::time::Duration;

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::{ClaimedWork, Interruption, StoreError};
use ballpoint_runtime::supervision::Looks;
use ballpoint_runtime::trace::{TraceContext, set_parent};
use ballpoint_runtime::work::{Trigger, WorkKind};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::Instrument;

use crate::error::WriteBackError;
use crate::library::WriteBacks;
use crate::pass::PassEntry;

/// A claimed row is given to others after this, unless its worker renews it.
const LEASE: Duration = Duration::from_secs(60);
const LEASE_RENEWAL: Duration = Duration::from_secs(20);

/// Some plan is asked for something.
pub(crate) const ASKED: WorkKind = WorkKind::WriteBack { pass: false };

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct ReverseEtlArgs {
    pub library: WriteBacks,
}

/// What the actor is told.
#[derive(Debug)]
pub enum ReverseEtlMsg {
    /// Look for plans that are asked for something.
    Look,
    /// A look ended.
    Worked(Worked),
}

/// How a look ended.
#[derive(Debug)]
pub enum Worked {
    /// Nothing was asked for.
    Idle,
    /// Plans were carried out, or their work row waits for its next attempt.
    Done,
    /// The warehouse could not be asked; the poll tries again.
    Unreachable(StoreError),
    /// The task panicked: a bug, and the supervisor's affair.
    Panicked,
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct ReverseEtl;

impl ReverseEtl {
    /// Its name in the supervision tree.
    pub const NAME: &'static str = "reverse_etl";
}

/// One incarnation's state; dropping it ends its look, which rolls back what is not committed.
pub struct ReverseEtlState {
    myself: ActorRef<ReverseEtlMsg>,
    library: WriteBacks,
    looks: Looks,
    /// Why a row may be running that nobody works on: it is taken back first.
    reclaim: Option<Interruption>,
    last_error: Option<String>,
}

impl Actor for ReverseEtl {
    type Msg = ReverseEtlMsg;
    type State = ReverseEtlState;
    type Arguments = ReverseEtlArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        ReverseEtlArgs { library }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let looks = Looks::default();
        let wake = library.store().work().subscribe(ASKED.name());
        looks.ask_when(wake, myself.clone(), || ReverseEtlMsg::Look);
        Ok(ReverseEtlState {
            myself,
            library,
            looks,
            reclaim: Some(Interruption::Restart),
            last_error: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReverseEtlMsg::Look => state.on_look(),
            ReverseEtlMsg::Worked(outcome) => state.on_worked(outcome)?,
        }
        Ok(())
    }
}

impl ReverseEtlState {
    fn on_look(&mut self) {
        let (library, reclaim) = (self.library.clone(), self.reclaim);
        let look = async move {
            let worked = work(&library, reclaim).await;
            worked.unwrap_or_else(Worked::Unreachable)
        };
        self.looks.start(&self.myself, look, |worked| {
            ReverseEtlMsg::Worked(worked.unwrap_or(Worked::Panicked))
        });
    }

    fn on_worked(&mut self, outcome: Worked) -> Result<(), ActorProcessingErr> {
        let mut again = self.looks.ended();
        match outcome {
            Worked::Idle => self.reclaim = None,
            Worked::Done => {
                self.reclaim = None;
                self.last_error = None;
                again = true;
            }
            Worked::Unreachable(error) => {
                let error = in_one_line(&error);
                // Once for each new reason: the poll tries every second.
                if self.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "work cannot be claimed for now");
                }
                self.last_error = Some(error);
                self.reclaim.get_or_insert(Interruption::Unrecorded);
                again = false;
            }
            Worked::Panicked => return Err("the write-back panicked".into()),
        }
        if again {
            self.on_look();
        }
        Ok(())
    }
}

/// Claims the work row, carries out what is asked for, and ends the row.
async fn work(library: &WriteBacks, reclaim: Option<Interruption>) -> Result<Worked, StoreError> {
    let queue = library.store().work();
    let kind = ASKED.name();
    if let Some(why) = reclaim {
        queue.reclaim(kind, "", why).await?;
        // A command that worked without this actor, and was killed, left no work row.
        if library
            .store()
            .plans()
            .next_requested(&[], &[])
            .await?
            .is_some()
        {
            let trace = TraceContext::current();
            queue.enqueue(&ASKED, &trace).await?;
        }
    }
    let Some(claimed) = queue.claim(kind, "", LEASE).await? else {
        return Ok(Worked::Idle);
    };
    let span = tracing::info_span!("write_back", attempt = claimed.attempt);
    set_parent(&span, &claimed.trace);
    async {
        let outcome = tokio::select! {
            outcome = carry_out(library, &claimed.work) => outcome,
            error = keep_claimed(library, &claimed) => return Err(error),
        };
        match outcome {
            Ok(None) => queue.complete(&claimed).await?,
            // Each sync's failure waits for a person, or for the next pass.
            Ok(Some(failed)) => queue.abandon(&claimed, &failed).await?,
            Err(WriteBackError::Store(error)) => return Err(error),
            Err(error) => {
                let error = in_one_line(&error);
                tracing::warn!(%error, "a write-back cannot be carried out for now");
                queue.fail(&claimed, &error, None).await?;
            }
        }
        Ok(Worked::Done)
    }
    .instrument(span)
    .await
}

/// What is asked for, or a whole pass; which syncs failed in that, if any did.
async fn carry_out(
    library: &WriteBacks,
    work: &WorkKind,
) -> Result<Option<String>, WriteBackError> {
    if !matches!(work, WorkKind::WriteBack { pass: true }) {
        library.resume().await?;
        return Ok(None);
    }
    let entries = Box::pin(library.pass(Trigger::Schedule.as_str())).await?;
    Ok(PassEntry::failures(&entries))
}

/// Renews the lease until it cannot: then the work must not go on.
async fn keep_claimed(library: &WriteBacks, claimed: &ClaimedWork) -> StoreError {
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        if let Err(error) = library.store().work().extend(claimed, LEASE).await {
            return error;
        }
    }
}
