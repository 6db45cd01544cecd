//! The loop that keeps a source's tables equal to its log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballpoint_runtime::changes::{Attached, ChangeSource, Lsn, OnGap};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{SourceError, TableName, TableSpec};
use ballpoint_runtime::shape::Shape;
use ballpoint_runtime::store::Streams;
use ballpoint_runtime::trace::TraceContext;
use serde::Serialize;

use super::copies::Copies;
use super::copying;
use super::following::{Again, Following};
use super::look;
use super::session::Session;
use super::slot::Urgency;
use super::table::TableState;
use crate::error::{LoadError, SyncError, crash_point};
use crate::report::{SyncReport, TableReport};
use crate::sync::Loader;

/// While tables are to be compared, somebody else's session is waited for this long.
const OTHERS_PATIENCE: Duration = Duration::from_secs(30);
/// Between looks at how far another session has followed.
const OTHERS_POLL: Duration = Duration::from_millis(20);

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Once everything that was committed in the source before this is in the warehouse.
    Reached(Lsn),
    /// The same, and nothing that was committed later.
    Exactly(Lsn),
    /// Never.
    Forever,
}

impl Until {
    /// The position that is waited for.
    pub(super) fn end(self) -> Option<Lsn> {
        match self {
            Self::Reached(end) | Self::Exactly(end) => Some(end),
            Self::Forever => None,
        }
    }
}

/// What following has done.
#[derive(Clone, Debug, Default)]
pub struct FollowReport {
    /// A copy of each table that had no state, and the changes of the others.
    pub tables: Vec<TableReport>,
}

/// Where a stream stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamStatus {
    pub source: String,
    /// Tables that are followed; none: the source has none to follow.
    pub tables: usize,
    /// Whether changes flow; else tables are being copied, or the source does not answer.
    pub streaming: bool,
    pub slot: String,
    /// Everything that was committed before it is in the warehouse.
    pub end_lsn: String,
    /// Rows that changes have made different since the stream was opened.
    pub changes: u64,
    /// Transactions of the warehouse that brought them.
    pub commits: u64,
    /// How often the stream was opened.
    pub opened: u64,
    /// Why changes may be missing; until every table was copied again.
    pub gap: Option<String>,
    /// Tables that wait, and why.
    pub held: Vec<String>,
    /// Tables that are being copied; the changes of the others go on to flow.
    pub copying: Vec<String>,
    pub last_error: Option<String>,
    /// How often in a row following has failed.
    pub failures: u32,
}

/// Shares a status with whoever shows it.
type StatusCell = Arc<Mutex<StreamStatus>>;

/// Follows one source.
#[derive(Clone)]
pub struct Follower {
    loader: Loader,
    source: Arc<dyn ChangeSource>,
    status: StatusCell,
}

impl Follower {
    /// A follower of `source`, into where `loader` loads.
    pub fn new(loader: Loader, source: Arc<dyn ChangeSource>) -> Self {
        let status = StreamStatus {
            source: source.name().to_owned(),
            ..StreamStatus::default()
        };
        Self {
            loader,
            source,
            status: Arc::new(Mutex::new(status)),
        }
    }

    /// Where the stream stands.
    pub fn status(&self) -> StreamStatus {
        self.noting(|status| status.clone())
    }

    pub(super) fn source(&self) -> &dyn ChangeSource {
        self.source.as_ref()
    }

    pub(super) fn loader(&self) -> &Loader {
        &self.loader
    }

    pub(super) fn noting<T>(&self, note: impl FnOnce(&mut StreamStatus) -> T) -> T {
        note(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings the followed tables to where the source stands now, here or by waiting for whoever
    /// follows it already. `anew`: tables to copy again.
    ///
    /// # Errors
    /// [`SyncError::Tables`] when some tables could not be copied; the others are up to date.
    pub async fn catch_up(&self, anew: &[TableName]) -> Result<FollowReport, SyncError> {
        self.loader.prepare().await?;
        let survey = self.source.survey().await?;
        let specs = look::kept_by_the_log(&survey);
        if specs.is_empty() {
            self.retire().await?;
            return Ok(FollowReport::default());
        }
        if !anew.is_empty() {
            self.accept(survey, anew).await?;
            self.ask_for_copies(anew, &specs).await?;
        }
        let target = self.source.mark().await?;
        let begun = Instant::now();
        loop {
            if let Some(report) = Box::pin(self.follow(Until::Reached(target))).await? {
                return Ok(report);
            }
            if self.loader.is_proving() {
                if begun.elapsed() > OTHERS_PATIENCE {
                    return Err(self.followed_by_another().into());
                }
            } else if self.others_reached(&specs, target).await? {
                return Ok(FollowReport::default());
            }
            tokio::time::sleep(OTHERS_POLL).await;
        }
    }

    fn followed_by_another(&self) -> SourceError {
        SourceError::Unavailable {
            source_name: self.source.name().to_owned(),
            reason: "another session follows its log, and would move its tables on while they are \
                     compared"
                .to_owned(),
        }
    }

    /// Forgets the state of these tables. When they are all, the stream begins anew with them: that is
    /// also how a refused gap is ended.
    async fn ask_for_copies(
        &self,
        tables: &[TableName],
        specs: &[TableSpec],
    ) -> Result<(), LoadError> {
        let failed = || LoadError::warehouse("asking for a table to be copied again");
        let mut connection = self
            .loader
            .store()
            .pool()
            .acquire()
            .await
            .map_err(failed())?;
        let name = self.source.name();
        for table in tables {
            copying::forget(&mut connection, name, table)
                .await
                .map_err(failed())?;
        }
        if specs.iter().all(|spec| tables.contains(&spec.table)) {
            Streams::forget_in(&mut connection, name).await?;
        }
        Ok(())
    }

    async fn others_reached(&self, specs: &[TableSpec], end: Lsn) -> Result<bool, LoadError> {
        let (store, name) = (self.loader.store(), self.source.name());
        let Some(stream) = store.streams().get(name).await? else {
            return Ok(false);
        };
        let known = store.source_tables().of(name).await?;
        for spec in specs {
            let Some(known) = known.iter().find(|known| known.table == spec.table) else {
                return Ok(false);
            };
            let shape = Shape::from(spec);
            let is_settled = known.shape == shape || known.seen.as_ref() == Some(&shape);
            let position = store.checkpoints().get(name, &spec.table).await?;
            let state = position.as_ref().and_then(TableState::parse);
            let has_rows = |it: TableState| it.is_of(&stream) && it.has_converged(stream.end);
            let is_there = known.hold.is_some() || state.is_some_and(has_rows);
            if !(is_settled && is_there) {
                return Ok(false);
            }
        }
        Ok(stream.end >= end)
    }

    /// Follows until then. `None` when somebody else follows the source.
    ///
    /// # Errors
    /// Whatever ended the stream. Nothing is lost: it goes on from what was committed.
    pub async fn follow(&self, until: Until) -> Result<Option<FollowReport>, SyncError> {
        self.loader.prepare().await?;
        let name = self.source.name();
        let Some(mut session) = Session::open(self.loader.store(), name).await? else {
            return Ok(None);
        };
        let mut report = FollowReport::default();
        let mut copies = Copies::default();
        let mut differing = Vec::new();
        loop {
            let look = self.look().await?;
            if look.specs.is_empty() {
                drop(session);
                self.retire().await?;
                return Ok(Some(report));
            }
            self.guard(Urgency::AfterReading).await?;
            let begins = self.attach(&mut session, &look.specs).await?;
            let streams = self
                .copy_missing(&mut session, &look.specs, begins, &mut copies)
                .await?;
            if !streams && copies.are_running() {
                self.account_for(&look, &mut copies, &|_| false).await?;
                self.wait_for(&copies).await?;
                copies.collect(&mut report).await;
                continue;
            }
            if copies.are_complete() {
                self.close_gap().await?;
            }
            let snapshot = match until {
                Until::Reached(_) if self.loader.is_proving() && !copies.are_running() => {
                    Some(self.source.snapshot(None).await?)
                }
                _ => None,
            };
            let end = snapshot
                .as_ref()
                .map_or(until, |it| Until::Exactly(it.lsn()));
            let mut following = Following::open(self, session, look, &mut copies).await?;
            following.account_for().await?;
            self.tell_of_recovery().await?;
            let again = following.run(end).await;
            self.noting(|status| status.streaming = false);
            following.account(&mut report);
            match again? {
                Again::Survey => session = following.session,
                Again::Rejoin => {
                    session = following.session;
                    copies.collect(&mut report).await;
                }
                Again::Done => {
                    if let Some(snapshot) = snapshot {
                        let (specs, snapshot) = (&following.look.specs, snapshot.as_ref());
                        differing = self.verify(specs, snapshot, &mut report).await?;
                    }
                    break;
                }
            }
        }
        let mut failures = copies.into_failures();
        failures.extend(differing);
        if failures.is_empty() {
            return Ok(Some(report));
        }
        let report = SyncReport {
            source: name.to_owned(),
            tables: report.tables,
            ..Default::default()
        };
        Err(SyncError::Tables { failures, report })
    }

    /// Compares slot and position; a gap is said, recorded, and forgets both.
    async fn attach(
        &self,
        session: &mut Session,
        specs: &[TableSpec],
    ) -> Result<Option<(String, u32)>, SyncError> {
        let name = self.source.name();
        let tables = look::names(specs);
        let position = Streams::get_in(session.connection(), name)
            .await
            .map_err(LoadError::from)?;
        let slot = match &position {
            Some(position) => position.slot.clone(),
            None => self.slot_name(session).await?,
        };
        self.noting(|status| status.slot.clone_from(&slot));
        let attached = self
            .source
            .attach(&slot, &tables, position.as_ref())
            .await?;
        let failed = || LoadError::warehouse("forgetting tables that are not followed");
        copying::forget_but(session.connection(), name, &tables)
            .await
            .map_err(failed())?;
        let reason = match attached {
            Attached::Continues { added } => {
                // Whatever state they have: somebody has taken them out of the publication meanwhile.
                for table in &added {
                    copying::forget(session.connection(), name, table)
                        .await
                        .map_err(failed())?;
                }
                return Ok(None);
            }
            Attached::Begins { system, timeline } => return Ok(Some((system, timeline))),
            Attached::Gap { reason } => reason,
        };
        let refused = self.source.policy().on_gap == OnGap::Refuse;
        let event = Event::LogGap {
            source: name.to_owned(),
            slot: slot.clone(),
            reason: reason.clone(),
            tables: tables.clone(),
            refused,
        };
        tracing::warn!(source = name, %slot, %reason, refused, "changes of the source may be missing");
        self.noting(|status| status.gap = Some(reason.clone()));
        self.tell_of_gap(event).await?;
        if refused {
            let reason = format!(
                "{reason}; changes may be missing, and on_gap = \"refuse\": `ballpoint sync \
                 --full-refresh {name}` copies every table again"
            );
            let source_name = name.to_owned();
            return Err(SourceError::Configuration {
                source_name,
                reason,
            }
            .into());
        }
        self.forget_stream(session).await?;
        crash_point("changes.after_gap")?;
        self.source.retire(&slot).await?;
        match self.source.attach(&slot, &tables, None).await? {
            Attached::Begins { system, timeline } => Ok(Some((system, timeline))),
            Attached::Continues { .. } | Attached::Gap { .. } => {
                let reason = format!("slot {slot} came back while it was being made anew");
                let source_name = name.to_owned();
                Err(SourceError::Unavailable {
                    source_name,
                    reason,
                }
                .into())
            }
        }
    }

    /// Tells of a gap, once until it is closed: whoever tries again finds the same one.
    async fn tell_of_gap(&self, gap: Event) -> Result<(), LoadError> {
        let store = self.loader.store();
        if !store.incidents().has_log_gap(self.source.name()).await? {
            store.events().publish(gap, TraceContext::current()).await?;
        }
        Ok(())
    }

    /// Says that what a gap may have lost is there again, whoever told of the gap.
    async fn close_gap(&self) -> Result<(), LoadError> {
        let (store, name) = (self.loader.store(), self.source.name());
        if store.incidents().has_log_gap(name).await? {
            let source = name.to_owned();
            let closed = Event::GapClosed { source };
            store
                .events()
                .publish(closed, TraceContext::current())
                .await?;
        }
        self.noting(|status| status.gap = None);
        Ok(())
    }

    /// Says that following works again, where somebody was told that it does not.
    async fn tell_of_recovery(&self) -> Result<(), LoadError> {
        let (store, source) = (self.loader.store(), self.source.name().to_owned());
        if store.incidents().has_failing_syncs(&source).await? {
            let finished = Event::SyncFinished { source, rows: 0 };
            let events = store.events();
            events.publish(finished, TraceContext::current()).await?;
        }
        Ok(())
    }

    pub(super) async fn forget_stream(&self, session: &mut Session) -> Result<(), LoadError> {
        let (name, connection) = (self.source.name(), session.connection());
        let failed = || LoadError::warehouse("forgetting a stream");
        copying::forget_but(connection, name, &[])
            .await
            .map_err(failed())?;
        Streams::forget_in(connection, name).await?;
        Ok(())
    }
}

pub(super) fn moved(source: &str) -> LoadError {
    LoadError::Source(SourceError::Unavailable {
        source_name: source.to_owned(),
        reason: "the stream's position in the warehouse is gone".to_owned(),
    })
}
