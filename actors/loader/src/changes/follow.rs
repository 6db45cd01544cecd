//! The loop that keeps a source's tables equal to its log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballpoint_runtime::changes::{Attached, ChangeSource, Lsn, OnGap, StreamPosition};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{SourceError, TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, Streams};
use ballpoint_runtime::trace::TraceContext;
use serde::Serialize;

use super::copying;
use super::following::{Again, Following};
use super::session::Session;
use super::table::TableState;
use crate::error::{LoadError, SyncError, TableFailure, crash_point};
use crate::report::TableReport;
use crate::sync::Loader;
use crate::target::Target;

/// Between looks at how far another session has followed.
const OTHERS_POLL: Duration = Duration::from_millis(20);

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Once everything that was committed in the source before this is in the warehouse.
    Reached(Lsn),
    /// Never.
    Forever,
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
    /// Log between the warehouse and the source's present position.
    pub lag_bytes: u64,
    /// Age of the oldest change that is not in the warehouse, by the source's clock; 0: none is known.
    pub lag_seconds: f64,
    /// Log that the source keeps on its disk for this slot.
    pub retained_bytes: u64,
    /// Why changes may be missing; until every table was copied again.
    pub gap: Option<String>,
    /// Tables that wait, and why.
    pub held: Vec<String>,
    pub last_error: Option<String>,
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
        let specs = self.source.followed().await?;
        if specs.is_empty() {
            self.retire().await?;
            return Ok(FollowReport::default());
        }
        self.ask_for_copies(anew, &specs).await?;
        let target = self.source.mark().await?;
        loop {
            if let Some(report) = Box::pin(self.follow(Until::Reached(target))).await? {
                return Ok(report);
            }
            if self.others_reached(&specs, target).await? {
                return Ok(FollowReport::default());
            }
            tokio::time::sleep(OTHERS_POLL).await;
        }
    }

    /// Forgets the state of these tables. When they are all, the stream begins anew with them: that is
    /// also how a refused gap is ended.
    async fn ask_for_copies(
        &self,
        tables: &[TableName],
        specs: &[TableSpec],
    ) -> Result<(), LoadError> {
        if tables.is_empty() {
            return Ok(());
        }
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
        for spec in specs {
            let position = store.checkpoints().get(name, &spec.table).await?;
            let state = position.as_ref().and_then(TableState::parse);
            if !state.is_some_and(|state| state.continues(spec, &stream)) {
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
        let mut failures: Vec<TableFailure>;
        loop {
            let specs = self.source.followed().await?;
            self.noting(|status| status.tables = specs.len());
            if specs.is_empty() {
                drop(session);
                self.retire().await?;
                return Ok(Some(report));
            }
            self.guard().await?;
            let attached = self.attach(&mut session, &specs).await?;
            failures = self
                .copy_missing(&mut session, &specs, attached, &mut report)
                .await?;
            self.noting(|status| {
                status.held = failures
                    .iter()
                    .map(|failure: &TableFailure| {
                        format!("{}: {}", failure.table, in_one_line(&failure.error))
                    })
                    .collect();
            });
            if failures.is_empty() {
                self.close_gap().await?;
            }
            let mut following =
                Following::open(self, session, &specs, !failures.is_empty()).await?;
            let again = following.run(until).await;
            self.noting(|status| status.streaming = false);
            following.account(&mut report);
            match again? {
                Again::Survey => session = following.session,
                Again::Done => break,
            }
        }
        match failures.is_empty() {
            true => Ok(Some(report)),
            false => {
                let report = crate::report::SyncReport {
                    source: name.to_owned(),
                    tables: report.tables,
                    ..Default::default()
                };
                Err(SyncError::Tables { failures, report })
            }
        }
    }

    /// Compares slot and position; a gap is said, recorded, and forgets both.
    async fn attach(
        &self,
        session: &mut Session,
        specs: &[TableSpec],
    ) -> Result<Option<(String, u32)>, SyncError> {
        let name = self.source.name();
        let tables: Vec<TableName> = specs.iter().map(|spec| spec.table.clone()).collect();
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
            Attached::Continues => return Ok(None),
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
        let store = self.loader.store();
        store
            .events()
            .publish(event, TraceContext::current())
            .await
            .map_err(LoadError::from)?;
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
            Attached::Continues | Attached::Gap { .. } => {
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

    /// Says that what a gap may have lost is there again.
    async fn close_gap(&self) -> Result<(), LoadError> {
        if self.noting(|status| status.gap.is_none()) {
            return Ok(());
        }
        let closed = Event::GapClosed {
            source: self.source.name().to_owned(),
        };
        let events = self.loader.store().events();
        events.publish(closed, TraceContext::current()).await?;
        self.noting(|status| status.gap = None);
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

    /// Copies the tables that have no state the stream could go on from. One that fails waits.
    async fn copy_missing(
        &self,
        session: &mut Session,
        specs: &[TableSpec],
        begins: Option<(String, u32)>,
        report: &mut FollowReport,
    ) -> Result<Vec<TableFailure>, SyncError> {
        let name = self.source.name();
        let mut snapshot = None;
        if let Some((system, timeline)) = begins {
            let slot = self.noting(|status| status.slot.clone());
            let exported = self.source.snapshot(Some(&slot)).await?;
            crash_point("changes.after_slot")?;
            let position = StreamPosition {
                slot,
                system,
                timeline,
                end: exported.lsn(),
            };
            Streams::begin_in(session.connection(), name, &position)
                .await
                .map_err(LoadError::from)?;
            crash_point("changes.after_begin")?;
            snapshot = Some(exported);
        }
        let stream = Streams::get_in(session.connection(), name)
            .await
            .map_err(LoadError::from)?;
        let stream = stream.ok_or_else(|| moved(name))?;
        let mut failures = Vec::new();
        for spec in specs {
            if self.continues(session, spec, &stream).await? {
                continue;
            }
            let exported = match &snapshot {
                Some(exported) => exported,
                None => snapshot.insert(self.source.snapshot(None).await?),
            };
            tracing::info!(source = name, table = %spec.table, lsn = %exported.lsn(), "copying");
            let copied = Box::pin(copying::copy(
                &self.loader,
                name,
                spec,
                exported.as_ref(),
                &stream,
            ))
            .await;
            match copied {
                Ok(copied) => report.tables.push(copied),
                Err(LoadError::Source(error @ SourceError::Unavailable { .. })) => {
                    return Err(error.into());
                }
                Err(error) => failures.push(TableFailure {
                    table: spec.table.clone(),
                    error,
                }),
            }
        }
        Ok(failures)
    }

    async fn continues(
        &self,
        session: &mut Session,
        spec: &TableSpec,
        stream: &StreamPosition,
    ) -> Result<bool, LoadError> {
        let connection = session.connection();
        let position = Checkpoints::get_in(connection, self.source.name(), &spec.table).await?;
        let state = position.as_ref().and_then(TableState::parse);
        if !state.is_some_and(|state| state.continues(spec, stream)) {
            return Ok(false);
        }
        let raw = TableName::new(self.loader.schema(), &spec.table.name);
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

pub(super) fn moved(source: &str) -> LoadError {
    LoadError::Source(SourceError::Unavailable {
        source_name: source.to_owned(),
        reason: "the stream's position in the warehouse is gone".to_owned(),
    })
}
