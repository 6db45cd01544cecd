//! One opened stream: batch after batch into the warehouse.
//!
//! A table whose rows are of other columns than those that are known asks for a look at the source. That goes on
//! beside the stream, and until it has ended the table's changes wait; see `postponed`. Meanwhile the stream's
//! position stays where the first of them begins, and the other tables run ahead, as beside a copy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{Change, ChangeBatch, ChangeStream, Lsn, Relation};
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, Streams};

use super::columns::Fit;
use super::copies::Copies;
use super::copying;
use super::follow::{Follower, Until, moved};
use super::look::Look;
use super::looking::{Looking, News};
use super::postponed::Postponed;
use super::refusal::Refusal;
use super::session::{Reach, Session};
use super::table::{ANNOUNCE_INTERVAL, Table, TableState};
use crate::error::{LoadError, SyncError, crash_point};
use crate::target::Target;

mod adopting;
mod telling;

/// The position of a source with nothing to send is kept this often, so that its slot moves on.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// While the end of the log is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_millis(20);

/// Why a stream is left.
pub(super) enum Again {
    /// It has to be opened again, after a new look at the source.
    Survey,
    /// The tables that were copied beside the stream can join it.
    Rejoin,
    /// The end that was waited for is in the warehouse.
    Done,
}

/// The end of a batch, and when its last transaction was committed.
type End = (Lsn, Option<i64>);

/// Changes by the number of their table.
type ByTable = Vec<(usize, Vec<Change>)>;

/// An opened stream with its tables.
pub(super) struct Following<'a> {
    follower: &'a Follower,
    pub(super) session: Session,
    stream: Box<dyn ChangeStream>,
    pub(super) look: Arc<Look>,
    tables: Vec<Table>,
    /// Those that are followed.
    by_name: HashMap<TableName, usize>,
    /// In the warehouse, with everything before it.
    end: Lsn,
    moved_at: Instant,
    /// Where the tables are that ran ahead of that.
    ahead: Option<End>,
    postponed: Postponed,
    /// Tables with changes in the transaction at work that no look makes fit: they are to be copied again.
    unlike: Vec<usize>,
    looking: Option<Looking>,
    /// Whether there is something that a look has to settle.
    wants_look: bool,
    looked_at: Instant,
    /// Up to here the stream is busy with what a round of copies has held back.
    drains_to: Option<Lsn>,
    /// While some run, the position stays where it is, and the other tables run ahead.
    copies: &'a mut Copies,
    /// Rows of each table that became different, and that were rejected.
    changed: HashMap<TableName, (u64, u64)>,
}

impl<'a> Following<'a> {
    /// Opens the stream from the warehouse's position, for the tables that have a state.
    pub(super) async fn open(
        follower: &'a Follower,
        mut session: Session,
        look: Look,
        copies: &'a mut Copies,
    ) -> Result<Self, SyncError> {
        let name = follower.source().name();
        session.part().await?;
        let position = Streams::get_in(session.connection(), name)
            .await
            .map_err(LoadError::from)?
            .ok_or_else(|| moved(name))?;
        let mut tables: Vec<Table> = Vec::new();
        for spec in &look.specs {
            let number = tables.len();
            let table = state_of(follower, &mut session, spec, number).await?;
            tables.extend(table);
        }
        let named = tables.iter().enumerate();
        let by_name = named.map(|(at, table)| (table.spec.table.clone(), at));
        let by_name = by_name.collect();
        let stream = follower
            .source()
            .stream(&position.slot, position.end, &look.specs)
            .await?;
        follower.noting(|status| {
            status.streaming = true;
            status.opened += 1;
            status.end_lsn = position.end.to_string();
            status.last_error = None;
            status.failures = 0;
        });
        let now = Instant::now();
        Ok(Self {
            follower,
            session,
            stream,
            drains_to: tables.iter().map(|it| it.snapshot_lsn).max(),
            look: Arc::new(look),
            tables,
            by_name,
            end: position.end,
            moved_at: now,
            ahead: None,
            postponed: Postponed::default(),
            unlike: Vec::new(),
            looking: None,
            wants_look: false,
            looked_at: now,
            copies,
            changed: HashMap::new(),
        })
    }

    /// Takes batches until it is time to leave. After an error the session must not be used again.
    pub(super) async fn run(&mut self, until: Until) -> Result<Again, SyncError> {
        let again = self.take_batches(until).await;
        if let Some(mut looking) = self.looking.take() {
            // What it settles is not to meet what the next one does; what it found that one finds.
            if self.session.is_open() {
                let _ = self.undo().await;
            }
            let _ = looking.ended().await;
        }
        if self.session.is_open() {
            return again;
        }
        let told = self.tell_what_is_left().await;
        again.and_then(|again| Ok(told.map(|()| again)?))
    }

    async fn take_batches(&mut self, until: Until) -> Result<Again, SyncError> {
        loop {
            if self.has_reached(until) {
                return Ok(Again::Done);
            }
            self.look_if_due();
            let patience = match until.end() {
                Some(_) => DRAIN_PATIENCE,
                None => ANNOUNCE_INTERVAL,
            };
            let is_between = !self.session.is_open();
            let batch = tokio::select! {
                biased;
                () = self.copies.ended(), if is_between => return Ok(Again::Rejoin),
                news = ended(&mut self.looking), if is_between && self.looking.is_some() => {
                    self.looking = None;
                    if !self.take_news(news?).await? {
                        return Ok(Again::Survey);
                    }
                    continue;
                }
                batch = self.stream.next(patience) => batch,
            };
            let mut batch = batch?;
            if let Until::Exactly(end) = until {
                cut(&mut batch, end);
            }
            if batch.changes.is_empty() {
                self.rest(batch.end, until).await?;
            } else if !self.take(batch).await? {
                return Ok(Again::Survey);
            }
        }
    }

    /// Whether the end that is waited for is in every table, and nothing is left to be settled.
    fn has_reached(&self, until: Until) -> bool {
        let is_settling = self.wants_look
            || !self.postponed.is_empty()
            || self.looking.as_ref().is_some_and(|it| it.is_asked_for);
        let converged = |at: &usize| self.tables[*at].has_converged(self.end);
        !(self.session.is_open() || self.copies.are_running() || is_settling)
            && until.end().is_some_and(|end| self.end >= end)
            && self.by_name.values().all(converged)
    }

    /// Writes a batch. False where nothing of it is kept: it comes again once the source was looked at.
    async fn take(&mut self, batch: ChangeBatch) -> Result<bool, SyncError> {
        let whole = batch.end.is_some() && !self.session.is_open();
        let by_table = self.sorted(batch.changes);
        if self.postponed.is_full() {
            self.undo().await?;
            return Ok(false);
        }
        if whole && by_table.is_empty() {
            self.session.begin_quietly().await?;
        } else if !self.write(&by_table, whole).await? {
            return Ok(false);
        }
        match batch.end {
            Some(end) => self.commit((end, batch.committed_at)).await?,
            None => crash_point("changes.mid_transaction")?,
        }
        Ok(true)
    }

    /// Writes in the transaction that is open, or in a new one. A table that refuses its changes is left to a new
    /// copy, and the others are written. False where the transaction had begun with an earlier batch, of which
    /// nothing is kept either.
    async fn write(&mut self, by_table: &ByTable, whole: bool) -> Result<bool, SyncError> {
        let mut plainly = whole;
        let mut freed = HashSet::new();
        loop {
            self.session.begin().await?;
            crash_point("changes.before_apply")?;
            let Err((at, error)) = self.try_write(by_table, plainly).await else {
                return Ok(true);
            };
            let Some(refusal) = Refusal::of(&error) else {
                return Err(error.into());
            };
            self.undo().await?;
            match refusal {
                Refusal::Duplicate if plainly => plainly = false,
                Refusal::Null(column) if freed.insert((at, column.clone())) => {
                    self.allow_null(at, &column).await?;
                }
                _ => {
                    let (source, table) =
                        (self.follower.source().name(), &self.tables[at].spec.table);
                    tracing::warn!(source, %table, error = %in_one_line(&error),
                        "a table refuses its changes: it is copied again");
                    self.leave(at).await?;
                }
            }
            if !whole {
                return Ok(false);
            }
        }
    }

    async fn try_write(
        &mut self,
        by_table: &ByTable,
        plainly: bool,
    ) -> Result<(), (usize, LoadError)> {
        for (at, changes) in by_table {
            let table = &mut self.tables[*at];
            if table.is_left || self.unlike.contains(at) {
                continue;
            }
            let written = self.session.write(table, changes, plainly).await;
            table.written += written.map_err(|error| (*at, error))?;
        }
        Ok(())
    }

    /// The source lets a column be null, or did: its log has such a row. The look says what it is now.
    async fn allow_null(&mut self, at: usize, column: &str) -> Result<(), LoadError> {
        self.wants_look = true;
        let freed = self.session.allow_null(&self.tables[at], column).await;
        match freed {
            // It is part of a key, or gone: the rows are refused once more.
            Err(error) if Refusal::of(&error).is_some() => self.undo().await,
            freed => freed,
        }
    }

    async fn undo(&mut self) -> Result<(), LoadError> {
        self.session.rollback().await?;
        self.tables.iter_mut().for_each(Table::undo);
        Ok(())
    }

    /// Commits what was written, with how far it reaches.
    async fn commit(&mut self, end: End) -> Result<(), SyncError> {
        let name = self.follower.source().name();
        for at in &self.unlike {
            let table = &self.tables[*at].spec.table;
            copying::forget(self.session.connection(), name, table)
                .await
                .map_err(LoadError::warehouse("giving a table up"))?;
        }
        let is_noted = self.note_postponed().await?;
        for table in &mut self.tables {
            table.untold += table.written;
        }
        let events = self.tell(false).await?;
        if confirms_early() {
            self.stream.confirm(end.0);
            // Longer than between two words to the source, so that it hears of it.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        if self.copies.are_running() || !self.postponed.is_empty() {
            self.session.commit(Reach::Ahead(end.0)).await?;
            self.ahead = Some(end);
            crash_point("changes.after_commit_ahead")?;
        } else {
            self.commit_all(end).await?;
        }
        if is_noted {
            self.postponed.are_noted();
            match self.postponed.is_empty() {
                false => crash_point("changes.after_postpone")?,
                true => crash_point("changes.after_resume")?,
            }
        }
        for at in std::mem::take(&mut self.unlike) {
            self.leave_out(at);
        }
        self.committed(events);
        Ok(())
    }

    /// Notes in the transaction at work whose changes are postponed, and whose are no longer.
    async fn note_postponed(&mut self) -> Result<bool, LoadError> {
        let to_note = self.postponed.to_note();
        let name = self.follower.source().name();
        for (at, is_postponed) in &to_note {
            let table = &self.tables[*at].spec.table;
            copying::postpone(self.session.connection(), name, table, *is_postponed)
                .await
                .map_err(LoadError::warehouse("postponing a table's changes"))?;
            if !is_postponed {
                crash_point("changes.before_resume")?;
            }
        }
        Ok(!to_note.is_empty())
    }

    /// Moves the stream's position to `end` with the rows, and confirms the slot after that.
    async fn commit_all(&mut self, (end, committed_at): End) -> Result<(), LoadError> {
        self.session.commit(Reach::All(end, committed_at)).await?;
        crash_point("changes.after_commit")?;
        self.stream.confirm(end);
        crash_point("changes.after_confirm")?;
        self.end = end;
        self.ahead = None;
        self.moved_at = Instant::now();
        self.follower
            .noting(|status| status.end_lsn = end.to_string());
        Ok(())
    }

    /// The changes of each table, without those that its snapshot has, that wait for a copy, or for a look.
    fn sorted(&mut self, changes: Vec<Change>) -> ByTable {
        let mut by_table: ByTable = Vec::new();
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
            if change.commit_lsn < table.snapshot_lsn || self.unlike.contains(&at) {
                continue;
            }
            if self.postponed.has(at) {
                self.postponed.push(at, change);
                continue;
            }
            match table.fit_of(&change, change.commit_lsn < self.look.log_end) {
                Fit::Same => {}
                fit @ Fit::By(_) => change.operation = fit.apply(change.operation),
                Fit::Younger => {
                    self.postponed.push(at, change);
                    continue;
                }
                Fit::Unlike => {
                    tracing::info!(table = %table.spec.table, "its columns changed: it is copied again");
                    self.unlike.push(at);
                    continue;
                }
            }
            let slot = *slots[at].get_or_insert_with(|| {
                by_table.push((at, Vec::new()));
                by_table.len() - 1
            });
            by_table[slot].1.push(change);
        }
        by_table
    }

    /// Nothing has changed: keeps the position now and then, and tells what was not told yet.
    async fn rest(&mut self, end: Option<Lsn>, until: Until) -> Result<(), SyncError> {
        if self.session.is_open() {
            return Ok(());
        }
        let is_behind = self.copies.are_running() || !self.postponed.is_empty();
        if let Some(end) = end.filter(|end| *end > self.end && !is_behind) {
            let reached = until.end().is_some_and(|wanted| end >= wanted);
            if reached || self.moved_at.elapsed() >= IDLE_INTERVAL {
                self.session.begin_quietly().await?;
                self.commit_all((end, None)).await?;
            }
        }
        Ok(self.tell_what_is_left().await?)
    }
}

async fn ended(looking: &mut Option<Looking>) -> Result<News, SyncError> {
    match looking {
        Some(looking) => looking.ended().await,
        None => std::future::pending().await,
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

/// The mistake that the soak tests must notice: `changes.confirm_early` makes it.
fn confirms_early() -> bool {
    fail::fail_point!("changes.confirm_early", |_| true);
    false
}
