//! Tables that are copied beside the stream, which goes on for the others.
//!
//! A round of copies runs in a task of its own, one table after the other, on warehouse connections of
//! its own. Meanwhile the stream's position stays where it was when the round began, at p: what was
//! committed since is not in the tables that are being copied. How far the others are is
//! `ballpoint.streams.ahead_lsn`, written with their rows. When the round has ended, they *rejoin*: in
//! one transaction each table's state says from where its changes are missing, and the stream is opened
//! again from p. A round that is killed leaves p and the landed ranges, so that the next one goes on with
//! the ranges that are missing. A table that cannot be copied waits for another try and holds nothing
//! back.

use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{ChangeSnapshot, StreamPosition};
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, Streams};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::copying;
use super::follow::{FollowReport, Follower, moved};
use super::session::Session;
use super::table::TableState;
use crate::error::{LoadError, SyncError, TableFailure, crash_point};
use crate::report::TableReport;
use crate::target::Target;

/// A table that could not be copied is tried again, each time after twice as long.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// A source that goes away in the middle of a copy may be back soon: the round then goes on with the
/// ranges that are missing, which is only possible while it holds the stream's position.
const INTERRUPTIONS_MAX: u32 = 3;
const INTERRUPTION_PAUSE: Duration = Duration::from_secs(1);

/// What is being copied, and what could not be.
#[derive(Default)]
pub(super) struct Copies {
    round: Option<Round>,
    waiting: Vec<Waiting>,
}

/// A table that could not be copied.
pub(super) struct Waiting {
    pub(super) spec: TableSpec,
    /// How often it was tried in vain.
    tries: u32,
    due: Instant,
    /// When that is, for people.
    pub(super) next_try: String,
    /// `None` once it is written down that it waits, which then is no failure.
    pub(super) error: Option<LoadError>,
    /// Why it waits, for people.
    pub(super) reason: String,
}

impl Waiting {
    fn new(spec: TableSpec, error: LoadError, tries: u32) -> Self {
        let pause = pause_after(tries);
        Self {
            next_try: format!("{:.0}", Clock::system().real_now() + pause),
            due: Instant::now() + pause,
            reason: in_one_line(&error),
            error: Some(error),
            spec,
            tries,
        }
    }
}

/// Between a try in vain and the next.
fn pause_after(tries: u32) -> Duration {
    let doubled = RETRY_MIN * 2_u32.saturating_pow(tries.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX)
}

impl Copies {
    /// Whether a round is at work.
    pub(super) fn are_running(&self) -> bool {
        self.round.is_some()
    }

    /// Whether the stream is to leave a table out: it is being copied, or waits for that.
    pub(super) fn concern(&self, table: &TableName) -> bool {
        let copied = self.round.iter().flat_map(|round| &round.tables);
        let waiting = self.waiting.iter().map(|it| &it.spec.table);
        copied.chain(waiting).any(|it| it == table)
    }

    pub(super) fn waiting(&mut self) -> &mut [Waiting] {
        &mut self.waiting
    }

    /// Whether every table has been copied.
    pub(super) fn are_complete(&self) -> bool {
        self.round.is_none() && self.waiting.is_empty()
    }

    /// When a table that waits is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|it| it.due).min()
    }

    /// The tables among `specs` that are due to be looked at, while no round is at work: those that were not
    /// tried in vain before, or long enough ago. One that has changed since is another table.
    pub(super) fn candidates<'a>(&mut self, specs: &'a [TableSpec]) -> Vec<&'a TableSpec> {
        self.waiting.retain(|it| specs.contains(&it.spec));
        let now = Instant::now();
        let waits = |spec: &TableSpec| {
            let mut waiting = self.waiting.iter();
            waiting.any(|it| it.spec.table == spec.table && now < it.due)
        };
        specs.iter().filter(|spec| !waits(spec)).collect()
    }

    /// Begins a round. Whatever state the tables had is forgotten: the stream leaves them out until they
    /// have been copied. `snapshot`: that of the slot, if it is new.
    pub(super) async fn begin(
        &mut self,
        follower: &Follower,
        session: &mut Session,
        stream: StreamPosition,
        specs: Vec<TableSpec>,
        snapshot: Option<Box<dyn ChangeSnapshot>>,
    ) -> Result<(), LoadError> {
        for spec in &specs {
            copying::forget(session.connection(), follower.source().name(), &spec.table)
                .await
                .map_err(LoadError::warehouse("forgetting what a table was"))?;
        }
        self.round = Some(Round::start(follower, stream, specs, snapshot));
        Ok(())
    }

    /// Ends once the round has; never when there is none.
    pub(super) async fn ended(&self) {
        match &self.round {
            Some(round) => round.done.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for the round's end and takes in what it did.
    pub(super) async fn collect(&mut self, report: &mut FollowReport) {
        let Some(mut round) = self.round.take() else {
            return;
        };
        let copied = match (&mut round.task).await {
            Ok(copied) => copied,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only dropping a round cancels its task.
            Err(_) => return,
        };
        let landed = |it: &Waiting| {
            let mut reports = copied.reports.iter();
            reports.any(|report| report.table == it.spec.table)
        };
        self.waiting.retain(|it| !landed(it));
        report.tables.extend(copied.reports);
        for (spec, error) in copied.failed {
            let before = self.waiting.iter().position(|it| it.spec == spec);
            let tries = 1 + before.map_or(0, |at| self.waiting.swap_remove(at).tries);
            self.waiting.push(Waiting::new(spec, error, tries));
        }
    }

    /// The tables that failed, at the end.
    pub(super) fn into_failures(self) -> Vec<TableFailure> {
        let failed = self.waiting.into_iter().filter_map(|it| {
            let table = it.spec.table;
            it.error.map(|error| TableFailure { table, error })
        });
        failed.collect()
    }
}

impl Follower {
    /// Begins to copy the tables that have no state the stream could go on from. `begins`: the system and
    /// timeline of a source whose slot is to be made. Whether changes of other tables can flow meanwhile.
    pub(super) async fn copy_missing(
        &self,
        session: &mut Session,
        specs: &[TableSpec],
        begins: Option<(String, u32)>,
        copies: &mut Copies,
    ) -> Result<bool, SyncError> {
        let snapshot = match begins {
            Some(history) => {
                *copies = Copies::default();
                Some(self.begin_stream(session, history).await?)
            }
            None => None,
        };
        if !copies.are_running() {
            session.rejoin().await?;
            let stream = self.position(session).await?;
            let mut missing = Vec::new();
            for spec in copies.candidates(specs) {
                if !self.continues(session, spec, &stream).await? {
                    missing.push(spec.clone());
                }
            }
            if !missing.is_empty() {
                copies
                    .begin(self, session, stream, missing, snapshot)
                    .await?;
            }
        }
        Ok(specs.iter().any(|spec| !copies.concern(&spec.table)))
    }

    /// Makes the slot, and the stream with the position at which it begins.
    async fn begin_stream(
        &self,
        session: &mut Session,
        (system, timeline): (String, u32),
    ) -> Result<Box<dyn ChangeSnapshot>, SyncError> {
        let slot = self.noting(|status| status.slot.clone());
        let exported = self.source().snapshot(Some(&slot)).await?;
        crash_point("changes.after_slot")?;
        let position = StreamPosition {
            slot,
            system,
            timeline,
            end: exported.lsn(),
        };
        Streams::begin_in(session.connection(), self.source().name(), &position)
            .await
            .map_err(LoadError::from)?;
        crash_point("changes.after_begin")?;
        Ok(exported)
    }

    pub(super) async fn position(
        &self,
        session: &mut Session,
    ) -> Result<StreamPosition, LoadError> {
        let name = self.source().name();
        let position = Streams::get_in(session.connection(), name).await?;
        position.ok_or_else(|| moved(name))
    }

    /// Whether the stream goes on from a table's state, with these columns.
    pub(super) async fn continues(
        &self,
        session: &mut Session,
        spec: &TableSpec,
        stream: &StreamPosition,
    ) -> Result<bool, LoadError> {
        let connection = session.connection();
        let position = Checkpoints::get_in(connection, self.source().name(), &spec.table).await?;
        let state = position.as_ref().and_then(TableState::parse);
        if !state.is_some_and(|state| state.continues(spec, stream)) {
            return Ok(false);
        }
        let raw = TableName::new(self.loader().schema(), &spec.table.name);
        let target = Target::find(connection, &raw)
            .await
            .map_err(LoadError::warehouse("looking at the raw table"))?;
        Ok(target.is_some_and(|target| {
            let has = |name: &String| target.columns.iter().any(|column| column.name == *name);
            target.has_metadata
                && target.is_keyed_by(&spec.primary_key)
                && spec.columns.iter().all(|column| has(&column.name))
        }))
    }
}

/// What a round did.
#[derive(Default)]
struct Copied {
    reports: Vec<TableReport>,
    failed: Vec<(TableSpec, LoadError)>,
}

/// A round at work; dropping it ends it.
struct Round {
    follower: Follower,
    tables: Vec<TableName>,
    done: CancellationToken,
    task: JoinHandle<Copied>,
}

impl Round {
    fn start(
        follower: &Follower,
        stream: StreamPosition,
        specs: Vec<TableSpec>,
        snapshot: Option<Box<dyn ChangeSnapshot>>,
    ) -> Self {
        let tables: Vec<TableName> = specs.iter().map(|spec| spec.table.clone()).collect();
        follower.noting(|status| {
            status.copying = tables.iter().map(ToString::to_string).collect();
        });
        let done = CancellationToken::new();
        // Also when it panics.
        let guard = done.clone().drop_guard();
        let at_work = follower.clone();
        let work = async move {
            let copied = copy_each(&at_work, &stream, specs, snapshot).await;
            drop(guard);
            copied
        };
        Self {
            follower: follower.clone(),
            tables,
            done,
            task: tokio::spawn(work.in_current_span()),
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.task.abort();
        self.follower.noting(|status| status.copying.clear());
    }
}

async fn copy_each(
    follower: &Follower,
    stream: &StreamPosition,
    specs: Vec<TableSpec>,
    mut snapshot: Option<Box<dyn ChangeSnapshot>>,
) -> Copied {
    let mut round = Copied::default();
    let mut interruptions = 0;
    for spec in specs {
        let copied = loop {
            let copied = Box::pin(copy_one(follower, stream, &spec, &mut snapshot)).await;
            match copied {
                Err(error) if is_interruption(&error) && interruptions < INTERRUPTIONS_MAX => {
                    interruptions += 1;
                    tracing::info!(table = %spec.table, error = %in_one_line(&error), "a copy is interrupted");
                    snapshot = None;
                    tokio::time::sleep(INTERRUPTION_PAUSE).await;
                }
                copied => break copied,
            }
        };
        let name = spec.table.to_string();
        follower.noting(|status| status.copying.retain(|it| *it != name));
        match copied {
            Ok(report) => round.reports.push(report),
            Err(error) => round.failed.push((spec, error)),
        }
    }
    round
}

async fn copy_one(
    follower: &Follower,
    stream: &StreamPosition,
    spec: &TableSpec,
    snapshot: &mut Option<Box<dyn ChangeSnapshot>>,
) -> Result<TableReport, LoadError> {
    let exported = match snapshot {
        Some(exported) => exported,
        None => snapshot.insert(follower.source().snapshot(None).await?),
    };
    let source = follower.source().name();
    tracing::info!(source, table = %spec.table, lsn = %exported.lsn(), "copying");
    copying::copy(follower.loader(), source, spec, exported.as_ref(), stream).await
}

fn is_interruption(error: &LoadError) -> bool {
    matches!(error, LoadError::Source(error) if error.is_transient())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_cannot_be_copied_is_tried_ever_more_seldom() {
        let minutes = [1, 2, 3, 4, 6, 7, 100].map(|tries| pause_after(tries).as_secs() / 60);
        assert_eq!(minutes, [1, 2, 4, 8, 32, 60, 60]);
    }
}
