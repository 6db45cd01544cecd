//! Schema `ballpoint` of the warehouse: its migrations and one typed repository a table.
//!
//! What a restart needs is here, never in a mailbox. Timestamps are PostgreSQL's own clock (real
//! time); they leave it as microseconds, so that no driver type can overflow on them.

mod alerts;
mod audit;
mod checkpoints;
mod conversations;
mod error;
mod events;
mod freshness;
mod incidents;
mod migrations;
mod plans;
mod proofs;
mod runs;
mod schedules;
mod source_tables;
mod streams;
mod wake;
mod work;

use jiff::Timestamp;
use sqlx::PgPool;

use crate::retry::RetryPolicy;

pub use alerts::{Alerts, DueAlert};
pub use audit::{Audit, AuditEntry};
pub use checkpoints::{Checkpoint, Checkpoints};
pub use conversations::{ConversationSummary, Conversations, StoredMessage};
pub use error::StoreError;
pub use events::{EventBus, RecordedEvent};
pub use freshness::{Freshness, Sign, SourceFreshness};
pub use incidents::{Configured, Incident, IncidentKind, Incidents, LOG_GAP, Severity, Trouble};
pub use plans::{Intent, NewPlan, Plan, PlanCounts, PlanRequest, PlanRow, PlanState, Plans};
pub use proofs::Proofs;
pub use runs::{
    Cancellation, EndedStep, RunRecorder, RunStatus, RunStep, RunSummary, Runs, StepRecorder,
    StepStatus,
};
pub use schedules::{Fire, FireStage, Schedule, Schedules};
pub use source_tables::{KnownTable, SourceTables};
pub use streams::{StreamRow, Streams};
pub use wake::Wake;
pub use work::{ClaimedWork, Interruption, WorkQueue, WorkRow};

/// The one advisory lock of a warehouse: a load holds it from its extraction time to its commit, and
/// a build from its first statement to its commit. Two keys would be wrong. A build tests staging
/// views and merges facts in separate statements, so raw tables must stand still between them, or
/// rows that no test has seen would be published.
pub const RAW_LOCK: i64 = 0x6261_6c6c_706f_696e; // "ballpoin"

/// Entry to schema `ballpoint`. Cheap to clone; clones share wake-ups and the event broadcast.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    work: WorkQueue,
    events: EventBus,
    cancellations: runs::Cancellations,
}

impl Store {
    /// Brings the schema up to this binary's version and opens it.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a later version of Ballpoint wrote this warehouse; nothing is
    /// changed then. The others are the database's.
    pub async fn open(pool: PgPool) -> Result<Self, StoreError> {
        migrations::run(&pool).await?;
        Ok(Self {
            work: WorkQueue::new(pool.clone()),
            events: EventBus::new(pool.clone()),
            cancellations: runs::Cancellations::default(),
            pool,
        })
    }

    /// Up to where the log of each source is in the warehouse.
    #[must_use]
    pub fn streams(&self) -> Streams {
        Streams::new(self.pool.clone())
    }

    /// Makes good what a kill -9 left behind: running work is queued again, running runs are marked
    /// interrupted. Called once, before the actors start, by the process that owns the data dir: any
    /// lease found then belongs to a process that is gone.
    ///
    /// # Errors
    /// As every query.
    pub async fn recover(&self) -> Result<(), StoreError> {
        self.work.release_all_at_start().await?;
        self.runs().interrupt_all().await
    }

    /// Forgets finished work, handled events and runs that are older, or more, than history keeps.
    /// Nothing waits for it: it may run beside everything else.
    ///
    /// # Errors
    /// As every query.
    pub async fn prune(&self) -> Result<(), StoreError> {
        self.work.prune().await?;
        self.events.prune().await?;
        self.runs().prune().await?;
        self.incidents().prune().await?;
        self.plans().prune().await?;
        self.schedules().prune().await
    }

    /// Commands.
    pub fn work(&self) -> &WorkQueue {
        &self.work
    }

    /// What happened.
    pub fn events(&self) -> &EventBus {
        &self.events
    }

    /// Where each table of each source stands.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.pool.clone())
    }

    /// What is known of each source's tables, and which of them wait.
    pub fn source_tables(&self) -> SourceTables {
        SourceTables::new(self.pool.clone())
    }

    /// Executions of stages, with their steps.
    pub fn runs(&self) -> Runs {
        Runs::new(self.pool.clone(), self.cancellations.clone())
    }

    /// When the pipeline runs by itself, and when it did.
    pub fn schedules(&self) -> Schedules {
        Schedules::new(self.pool.clone())
    }

    /// Since when the warehouse may lack something that a source has.
    pub fn freshness(&self) -> Freshness {
        Freshness::new(self.pool.clone())
    }

    /// What does not work.
    pub fn incidents(&self) -> Incidents {
        Incidents::new(self.pool.clone())
    }

    /// Messages about incidents, to be delivered.
    pub fn alerts(&self) -> Alerts {
        Alerts::new(self.pool.clone())
    }

    /// The same store, whose queue tries again as `retries` says.
    #[must_use]
    pub fn with_retries(mut self, retries: RetryPolicy) -> Self {
        self.work.set_retries(retries);
        self
    }

    /// Conversations and their messages.
    pub fn conversations(&self) -> Conversations {
        Conversations::new(self.pool.clone())
    }

    /// The evidence behind each answer.
    pub fn proofs(&self) -> Proofs {
        Proofs::new(self.pool.clone())
    }

    /// Plans of write-backs.
    pub fn plans(&self) -> Plans {
        Plans::new(self.pool.clone())
    }

    /// Who did what when.
    pub fn audit(&self) -> Audit {
        Audit::new(self.pool.clone())
    }

    /// The warehouse's pool, for a caller's own transaction around the `…_in` functions.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// A moment for a statement, which makes a `timestamptz` of it.
fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A `timestamptz` that was read as microseconds since the epoch.
fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
