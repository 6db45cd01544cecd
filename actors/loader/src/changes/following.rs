//! One opened stream: batch after batch into the warehouse.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{Change, ChangeBatch, ChangeStream, Lsn, Relation};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, EventBus, RecordedEvent, Streams};
use ballpoint_runtime::trace::TraceContext;

use super::columns::Fit;
use super::copies::Copies;
use super::copying;
use super::follow::{FollowReport, Follower, Until};
use super::look::Look;
use super::session::{Reach, Session};
use super::table::{ANNOUNCE_INTERVAL, Table, TableState};
use crate::error::{LoadError, SyncError, crash_point};
use crate::report::TableReport;
use crate::target::Target;

/// New tables, changed columns and asked-for copies are noticed within this.
const SURVEY_INTERVAL: Duration = Duration::from_secs(5);
/// The position of a source with nothing to send is kept this often, so that its slot moves on.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// While the end of the log is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_millis(20);

/// Why a stream is left.
pub(super) enum Again {
    /// The source's tables, or a table's state, are not what they were.
    Survey,
    /// The tables that were copied beside the stream can join it.
    Rejoin,
    /// The end that was waited for is in the warehouse.
    Done,
}

/// An opened stream with its tables.
pub(super) struct Following<'a> {
    follower: &'a Follower,
    pub(super) session: Session,
    stream: Box<dyn ChangeStream>,
    pub(super) look: Look,
    tables: Vec<Table>,
    by_name: HashMap<TableName, usize>,
    /// In the warehouse, with everything before it.
    end: Lsn,
    moved_at: Instant,
    surveyed_at: Instant,
    /// While some run, the position stays where it is, and the other tables run ahead.
    copies: &'a Copies,
    changed: HashMap<TableName, u64>,
}

impl<'a> Following<'a> {
    /// Opens the stream from the warehouse's position, for the tables that have a state.
    pub(super) async fn open(
        follower: &'a Follower,
        mut session: Session,
        look: Look,
        copies: &'a Copies,
    ) -> Result<Self, SyncError> {
        let name = follower.source().name();
        let position = Streams::get_in(session.connection(), name)
            .await
            .map_err(LoadError::from)?
            .ok_or_else(|| super::follow::moved(name))?;
        let ahead = Streams::ahead_in(session.connection(), name).await;
        let ahead = ahead.map_err(LoadError::from)?.unwrap_or_default();
        let mut tables: Vec<Table> = Vec::new();
        for spec in &look.specs {
            let number = tables.len();
            if let Some(mut table) = state_of(follower, &mut session, spec, number).await? {
                table.snapshot_lsn = table.snapshot_lsn.max(ahead);
                tables.push(table);
            }
        }
        let by_name = tables
            .iter()
            .enumerate()
            .map(|(at, table): (usize, &Table)| (table.spec.table.clone(), at))
            .collect();
        let stream = follower
            .source()
            .stream(&position.slot, position.end, &look.specs)
            .await?;
        follower.noting(|status| {
            status.streaming = true;
            status.opened += 1;
            status.end_lsn = position.end.to_string();
            status.last_error = None;
        });
        let now = Instant::now();
        Ok(Self {
            follower,
            session,
            stream,
            look,
            tables,
            by_name,
            end: position.end,
            moved_at: now,
            surveyed_at: now,
            copies,
            changed: HashMap::new(),
        })
    }

    /// Takes batches until it is time to leave. After an error the session must not be used again.
    pub(super) async fn run(&mut self, until: Until) -> Result<Again, SyncError> {
        loop {
            if self.has_reached(until) && !self.session.is_open() {
                self.tell_what_is_left().await?;
                return Ok(Again::Done);
            }
            let patience = match until.end() {
                Some(_) => DRAIN_PATIENCE,
                None => ANNOUNCE_INTERVAL,
            };
            let batch = tokio::select! {
                biased;
                () = self.copies.ended(), if !self.session.is_open() => {
                    self.tell_what_is_left().await?;
                    return Ok(Again::Rejoin);
                }
                batch = self.stream.next(patience) => batch,
            };
            if batch.is_err() && !self.session.is_open() {
                self.tell_what_is_left().await?;
            }
            let mut batch = batch?;
            if let Until::Exactly(end) = until {
                cut(&mut batch, end);
            }
            let held = match batch.changes.is_empty() {
                true => {
                    self.rest(batch.end, until).await?;
                    false
                }
                false => self.take(batch).await?,
            };
            if self.session.is_open() {
                continue;
            }
            if held || self.is_survey_due().await? {
                self.tell_what_is_left().await?;
                return Ok(Again::Survey);
            }
        }
    }

    /// Whether the end that is waited for is in every table.
    fn has_reached(&self, until: Until) -> bool {
        let converged = |table: &Table| table.has_converged(self.end);
        !self.copies.are_running()
            && until.end().is_some_and(|end| self.end >= end)
            && self.tables.iter().all(converged)
    }

    /// Writes a batch. Whether the tables must be looked at again.
    async fn take(&mut self, batch: ChangeBatch) -> Result<bool, SyncError> {
        let (end, committed_at) = (batch.end, batch.committed_at);
        let Some(by_table) = self.sorted(batch.changes) else {
            // Nothing of it is kept: it comes again once the tables were looked at.
            self.undo().await?;
            return Ok(true);
        };
        let whole = end.is_some() && !self.session.is_open();
        self.session.begin().await?;
        crash_point("changes.before_apply")?;
        let mut written = self.write(&by_table, whole).await;
        if whole && matches!(&written, Err((_, error)) if is_duplicate(error)) {
            // New rows that were there: written again, by key.
            self.undo().await?;
            self.session.begin().await?;
            written = self.write(&by_table, false).await;
        }
        match written {
            Err((at, error)) if is_refusal(&error) => {
                self.hold(at, &error).await?;
                return Ok(true);
            }
            other => other.map_err(|(_, error)| error)?,
        }
        let Some(end) = end else {
            crash_point("changes.mid_transaction")?;
            return Ok(false);
        };
        self.commit(end, committed_at).await
    }

    async fn undo(&mut self) -> Result<(), LoadError> {
        self.session.rollback().await?;
        for table in &mut self.tables {
            table.is_staged = false;
            table.stage_in_use = false;
        }
        Ok(())
    }

    /// A table that refuses its changes is copied again; if it refuses that too it waits, and the
    /// others go on. Nothing of the batch is kept: the stream is opened again before it.
    async fn hold(&mut self, at: usize, error: &LoadError) -> Result<(), LoadError> {
        let table = &self.tables[at].spec.table;
        let (source, text) = (self.follower.source().name(), in_one_line(error));
        tracing::warn!(source, %table, error = %text, "a table refuses its changes: it is copied again");
        let table = table.clone();
        self.undo().await?;
        copying::forget(self.session.connection(), source, &table)
            .await
            .map_err(LoadError::warehouse("holding a table"))
    }

    async fn commit(&mut self, end: Lsn, committed_at: Option<i64>) -> Result<bool, SyncError> {
        let name = self.follower.source().name();
        let mut held = false;
        for table in self.tables.iter().filter(|table| table.is_held) {
            held = true;
            copying::forget(self.session.connection(), name, &table.spec.table)
                .await
                .map_err(LoadError::warehouse("holding a table"))?;
        }
        let events = self.tell(false).await?;
        if confirms_early() {
            self.stream.confirm(end);
            // Longer than between two words to the source, so that it hears of it.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        if self.copies.are_running() {
            self.session.commit(Reach::Ahead(end)).await?;
            crash_point("changes.after_commit_ahead")?;
        } else {
            self.commit_all(end, committed_at).await?;
        }
        let events_bus = self.follower.loader().store().events();
        events
            .into_iter()
            .for_each(|event| events_bus.announce(event));
        for table in &mut self.tables {
            table.stage_in_use = false;
        }
        let changes = self.changed.values().sum();
        self.follower.noting(|status| {
            status.changes = changes;
            status.commits += 1;
        });
        Ok(held)
    }

    /// Moves the stream's position to `end` with the rows, and confirms the slot after that.
    async fn commit_all(&mut self, end: Lsn, committed_at: Option<i64>) -> Result<(), LoadError> {
        self.session.commit(Reach::All(end, committed_at)).await?;
        crash_point("changes.after_commit")?;
        self.stream.confirm(end);
        crash_point("changes.after_confirm")?;
        self.end = end;
        self.moved_at = Instant::now();
        self.follower
            .noting(|status| status.end_lsn = end.to_string());
        Ok(())
    }

    /// The changes of each table, without those that its snapshot has or that wait for a copy. `None`
    /// where a table is not what it was when the source was looked at.
    fn sorted(&mut self, changes: Vec<Change>) -> Option<Vec<(usize, Vec<Change>)>> {
        let mut by_table: Vec<(usize, Vec<Change>)> = Vec::new();
        let mut slots: Vec<Option<usize>> = vec![None; self.tables.len()];
        // Changes of one table come in runs.
        let mut latest: Option<(Arc<Relation>, Option<usize>)> = None;
        for mut change in changes {
            let found = match &latest {
                Some((relation, at)) if Arc::ptr_eq(relation, &change.relation) => *at,
                _ => {
                    let at = self.by_name.get(&change.relation.table).copied();
                    latest = Some((Arc::clone(&change.relation), at));
                    at
                }
            };
            let Some(at) = found else { continue };
            let table = &mut self.tables[at];
            if table.is_held || change.commit_lsn < table.snapshot_lsn {
                continue;
            }
            match table.fit_of(&change, change.commit_lsn < self.look.log_end) {
                Fit::Same => {}
                fit @ Fit::By(_) => change.operation = fit.apply(change.operation),
                Fit::Younger => return None,
                Fit::Unlike => {
                    tracing::info!(table = %table.spec.table, "its columns changed: it is copied again");
                    table.is_held = true;
                    continue;
                }
            }
            let slot = *slots[at].get_or_insert_with(|| {
                by_table.push((at, Vec::new()));
                by_table.len() - 1
            });
            by_table[slot].1.push(change);
        }
        Some(by_table)
    }

    async fn write(
        &mut self,
        by_table: &[(usize, Vec<Change>)],
        plainly: bool,
    ) -> Result<(), (usize, LoadError)> {
        for (at, changes) in by_table {
            let table = &mut self.tables[*at];
            if table.is_held {
                continue;
            }
            let written = self.session.write(table, changes, plainly).await;
            let rows = written.map_err(|error| (*at, error))?;
            table.untold += rows;
            *self.changed.entry(table.spec.table.clone()).or_default() += rows;
        }
        Ok(())
    }

    /// Nothing has changed: keeps the position now and then, and tells what was not told yet.
    async fn rest(&mut self, end: Option<Lsn>, until: Until) -> Result<(), SyncError> {
        if self.session.is_open() {
            return Ok(());
        }
        let moves = |end: &Lsn| *end > self.end && !self.copies.are_running();
        let Some(end) = end.filter(moves) else {
            return Ok(self.tell_what_is_left().await?);
        };
        let reached = until.end().is_some_and(|wanted| end >= wanted);
        if reached || self.moved_at.elapsed() >= IDLE_INTERVAL {
            self.session.begin_quietly().await?;
            self.session.commit(Reach::All(end, None)).await?;
            self.stream.confirm(end);
            self.end = end;
            self.moved_at = Instant::now();
            self.follower
                .noting(|status| status.end_lsn = end.to_string());
        }
        Ok(self.tell_what_is_left().await?)
    }

    /// Records, in the transaction that is open, that tables have new rows. Not at every commit: a
    /// build that follows each would not be faster.
    async fn tell(&mut self, at_once: bool) -> Result<Vec<RecordedEvent>, LoadError> {
        let mut events = Vec::new();
        for table in &mut self.tables {
            if !(table.is_due() || at_once && table.untold > 0) {
                continue;
            }
            let event = Event::TableLoaded {
                source: self.follower.source().name().to_owned(),
                table: table.spec.table.clone(),
                raw: table.raw.clone(),
                rows: table.told(),
            };
            let trace = TraceContext::current();
            events.push(EventBus::record_in(self.session.connection(), event, trace).await?);
        }
        Ok(events)
    }

    /// Their rows are committed already: outside any transaction.
    async fn tell_what_is_left(&mut self) -> Result<(), LoadError> {
        let events_bus = self.follower.loader().store().events().clone();
        for event in self.tell(true).await? {
            events_bus.announce(event);
        }
        Ok(())
    }

    /// Whether the source's tables are other ones now, or a copy was asked for.
    async fn is_survey_due(&mut self) -> Result<bool, SyncError> {
        if self.surveyed_at.elapsed() < SURVEY_INTERVAL {
            return Ok(false);
        }
        self.surveyed_at = Instant::now();
        let is_due = |at| !self.copies.are_running() && Instant::now() >= at;
        if self.copies.retry_at().is_some_and(is_due) {
            return Ok(true);
        }
        if self.follower.has_news_since(&self.look).await? {
            return Ok(true);
        }
        let name = self.follower.source().name();
        for table in &self.tables {
            let position =
                Checkpoints::get_in(self.session.connection(), name, &table.spec.table).await;
            if position.map_err(LoadError::from)?.is_none() {
                return Ok(true);
            }
        }
        self.follower.is_over_budget().await
    }

    /// Adds what changed to the report.
    pub(super) fn account(&mut self, report: &mut FollowReport) {
        for table in &self.tables {
            let rows = self.changed.remove(&table.spec.table).unwrap_or_default();
            let known = report
                .tables
                .iter_mut()
                .find(|known| known.table == table.spec.table);
            match known {
                Some(known) => known.add_changes(rows),
                None => {
                    let name = self.follower.source().name();
                    let (of, raw) = (table.spec.table.clone(), table.raw.clone());
                    let mut added = TableReport::begun(name, of, raw);
                    added.add_changes(rows);
                    report.tables.push(added);
                }
            }
        }
    }
}

/// Leaves only what was committed before `end`.
fn cut(batch: &mut ChangeBatch, end: Lsn) {
    let length = batch.changes.len();
    batch.changes.retain(|change| change.commit_lsn < end);
    if batch.changes.len() < length {
        batch.end = Some(end);
    }
}

/// A table that has a state, as the warehouse has it.
async fn state_of(
    follower: &Follower,
    session: &mut Session,
    spec: &TableSpec,
    number: usize,
) -> Result<Option<Table>, LoadError> {
    let (name, connection) = (follower.source().name(), session.connection());
    let position = Checkpoints::get_in(connection, name, &spec.table).await?;
    let state = position.as_ref().and_then(TableState::parse);
    let Some(state) = state.filter(TableState::is_streaming) else {
        return Ok(None);
    };
    let raw = TableName::new(follower.loader().schema(), &spec.table.name);
    let target = Target::find(connection, &raw)
        .await
        .map_err(LoadError::warehouse("looking at the raw table"))?;
    let table = |target: Target| Table::new(spec.clone(), raw, target.generation, &state, number);
    Ok(target.map(table))
}

/// Whether a new row was there already.
fn is_duplicate(error: &LoadError) -> bool {
    code(error).as_deref() == Some("23505")
}

/// Whether the warehouse refused the rows, rather than being away: bad data, a violated constraint, a
/// table that is not what it was; or that they do not fit what it has.
fn is_refusal(error: &LoadError) -> bool {
    if matches!(error, LoadError::Unmatched { .. }) {
        return true;
    }
    code(error).is_some_and(|code| {
        ["22", "23", "42"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}

fn code(error: &LoadError) -> Option<String> {
    match error {
        LoadError::Warehouse {
            source: sqlx::Error::Database(error),
            ..
        } => error.code().map(|code| code.into_owned()),
        _ => None,
    }
}

/// The mistake that the soak tests must notice: `changes.confirm_early` makes it.
fn confirms_early() -> bool {
    fail::fail_point!("changes.confirm_early", |_| true);
    false
}
