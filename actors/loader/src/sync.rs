//! A sync: each table's segment into the warehouse, rows and checkpoint in one transaction.

use std::sync::Arc;
use std::time::Instant;

use ballpoint_postgres::copy::CopyError;
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{
    Position, SourceError, SourceReader, Survey, SyncMode, TableName, TableSpec, WriteMode,
};
use ballpoint_runtime::store::{Checkpoints, EventBus, RecordedEvent, RunRecorder, Store};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use sqlx::AssertSqlSafe;
use tracing::Instrument;

use crate::changes::Follower;
use crate::error::{LoadError, SyncError, TableFailure, crash_point};
use crate::report::{Progress, ProgressSink, SyncReport, TableReport};
use crate::settle::Share;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;
use crate::{extraction, proof};

mod attended;
mod landing;

/// Loads sources into one schema of the warehouse. Cheap to clone.
#[derive(Clone)]
pub struct Loader {
    store: Store,
    schema: String,
    progress: Option<ProgressSink>,
    run: Option<RunRecorder>,
    /// Whether each table is compared with its source.
    proving: bool,
}

impl Loader {
    /// A loader into `schema`, made if it is missing.
    pub fn new(store: Store, schema: impl Into<String>) -> Self {
        Self {
            store,
            schema: schema.into(),
            progress: None,
            run: None,
            proving: false,
        }
    }

    /// The same loader, comparing each table with its source at the snapshot that it is loaded up to:
    /// an order-independent checksum over every column of every row.
    #[must_use]
    pub fn proving(mut self) -> Self {
        self.proving = true;
        self
    }

    /// The same loader, recording each table as a step of `run`.
    #[must_use]
    pub fn recording(mut self, run: RunRecorder) -> Self {
        self.run = Some(run);
        self
    }

    /// The same loader, telling `sink` how far it is, beside whoever is told already.
    #[must_use]
    pub fn with_progress(mut self, sink: ProgressSink) -> Self {
        self.progress = Some(match self.progress.take() {
            None => sink,
            Some(first) => Arc::new(move |progress: &Progress| {
                first(progress);
                sink(progress);
            }),
        });
        self
    }

    /// The store that holds its checkpoints.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn run(&self) -> Option<&RunRecorder> {
        self.run.as_ref()
    }

    /// Whether each table is compared with its source.
    pub(crate) fn is_proving(&self) -> bool {
        self.proving
    }

    pub(crate) fn show(&self, progress: &Progress) {
        if let Some(sink) = &self.progress {
            sink(progress);
        }
    }

    /// Brings `tables` (empty: all that the source offers) up to date. `full_refresh` forgets their
    /// checkpoints and replaces them. A table that fails does not keep the others from loading, unless
    /// the source is gone. Dropping the future loses only the table at work, as a whole.
    ///
    /// # Errors
    /// [`SyncError::Tables`] holds what failed and the report of what did not.
    pub async fn sync(
        &self,
        reader: &dyn SourceReader,
        tables: &[TableName],
        full_refresh: bool,
        trace: &TraceContext,
    ) -> Result<SyncReport, SyncError> {
        let started = Instant::now();
        if let Some(records) = reader.records() {
            self.prepare().await?;
            let syncing = self.sync_records(reader.name(), records, tables, full_refresh);
            return Box::pin(syncing).await;
        }
        // Two servers that need not wait for each other.
        let preparing = async { Ok::<_, SyncError>(self.prepare().await?) };
        let surveying = async { Ok(reader.survey().await?) };
        let ((), survey) = tokio::try_join!(preparing, surveying)?;
        let followed = followed(&survey, tables);
        let settled = self
            .settle(reader.name(), survey, Share::Read, tables, full_refresh)
            .await?;
        let mut report = SyncReport {
            source: reader.name().to_owned(),
            held: settled.held,
            ..Default::default()
        };
        let mut failures = Vec::new();
        for due in settled.load {
            let spec = &due.spec;
            let span = tracing::info_span!("load", otel.name = %format!("load {}", spec.table),
                source = reader.name(), table = %spec.table);
            set_parent(&span, trace);
            let loading = self.attended(reader, spec, full_refresh);
            let loaded = match Box::pin(loading.instrument(span)).await {
                Ok(loaded) => self.loaded(reader.name(), &due).await.map(|()| loaded),
                Err(error) => match self.failed(reader.name(), &due, error).await {
                    Ok(held) => {
                        report.held.push(held);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match loaded {
                Ok(loaded) => report.tables.push(loaded),
                Err(error) => {
                    let gone = matches!(&error, LoadError::Source(SourceError::Unavailable { .. }));
                    failures.push(TableFailure {
                        table: spec.table.clone(),
                        error,
                    });
                    if gone {
                        break;
                    }
                }
            }
        }
        let following = self.sync_followed(reader, &followed, full_refresh, &mut report);
        Box::pin(following)
            .await?
            .into_iter()
            .for_each(|failure| failures.push(failure));
        report.elapsed = started.elapsed();
        if failures.is_empty() {
            return Ok(report);
        }
        Err(SyncError::Tables { failures, report })
    }

    /// Brings the tables that are kept by the source's log to where it stands now; what could not be
    /// copied is returned. Where none are kept so any more, what was installed for them is removed.
    async fn sync_followed(
        &self,
        reader: &dyn SourceReader,
        followed: &[TableName],
        full_refresh: bool,
        report: &mut SyncReport,
    ) -> Result<Vec<TableFailure>, SyncError> {
        let streams = self.store.streams();
        let was_followed = streams.get(reader.name()).await.map_err(LoadError::Store)?;
        let Some(changes) = reader.changes() else {
            return Ok(Vec::new());
        };
        if followed.is_empty() && was_followed.is_none() {
            return Ok(Vec::new());
        }
        let anew = if full_refresh { followed } else { &[] };
        let follower = Follower::new(self.clone(), changes);
        let (tables, failures) = match follower.catch_up(anew).await {
            Ok(caught_up) => (caught_up.tables, Vec::new()),
            Err(SyncError::Tables { failures, report }) => (report.tables, failures),
            Err(error) => return Err(error),
        };
        report.tables.extend(tables);
        let held = follower.held().await?.into_iter();
        report
            .held
            .extend(held.filter(|held| followed.contains(&held.table)));
        Ok(failures)
    }

    /// Creates the schema and the extraction clock.
    pub(crate) async fn prepare(&self) -> Result<(), LoadError> {
        let failed = || LoadError::warehouse("preparing the warehouse");
        let mut connection = self.store.pool().acquire().await.map_err(failed())?;
        let ready: bool = sqlx::query_scalar(
            "select to_regnamespace($1) is not null
                and to_regclass('ballpoint.extraction_time') is not null
                and to_regclass('ballpoint.landed_ranges') is not null",
        )
        .bind(quote(&self.schema))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?;
        if ready {
            return Ok(());
        }
        extraction::prepare(&mut connection)
            .await
            .map_err(failed())?;
        let schema = format!("create schema if not exists {}", quote(&self.schema));
        match sqlx::query(AssertSqlSafe(schema))
            .execute(&mut *connection)
            .await
        {
            // Another loader made it at the same moment: IF NOT EXISTS is not atomic.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("23505") => Ok(()),
            other => other.map(|_| ()).map_err(failed()),
        }
    }

    /// Loads one table; if a row of it cannot be landed, once more and without that row.
    async fn load(
        &self,
        reader: &dyn SourceReader,
        spec: &TableSpec,
        full_refresh: bool,
    ) -> Result<TableReport, LoadError> {
        match self.load_once(reader, spec, full_refresh, false).await {
            Err(error) if error.is_of_a_row() => {
                tracing::warn!(source = reader.name(), table = %spec.table, %error,
                    "the rows that cannot be landed are looked for");
                Box::pin(self.load_once(reader, spec, full_refresh, true)).await
            }
            loaded => loaded,
        }
    }

    /// Loads one table. The transaction ends every way out of here but the last with nothing changed.
    async fn load_once(
        &self,
        reader: &dyn SourceReader,
        spec: &TableSpec,
        full_refresh: bool,
        careful: bool,
    ) -> Result<TableReport, LoadError> {
        let raw = TableName::new(&self.schema, &spec.table.name);
        let mut report = TableReport::begun(reader.name(), spec.table.clone(), raw);
        let mut transaction = WarehouseTransaction::begin(self.store.pool(), &report.raw).await?;
        let target = Target::find(&mut transaction, &report.raw)
            .await
            .map_err(LoadError::warehouse("looking at the raw table"))?;
        let position = if full_refresh || !usable(target.as_ref(), spec) {
            None
        } else {
            Checkpoints::get_in(&mut transaction, reader.name(), &spec.table).await?
        };
        let (segment, expected) = if self.proving {
            let opened = reader.open_with_checksum(spec, position.as_ref()).await?;
            (opened.0, Some(opened.1))
        } else {
            (reader.open(spec, position.as_ref()).await?, None)
        };
        let Some(segment) = segment else {
            let found = proof::of(&mut transaction, &report.raw, spec, expected).await?;
            transaction.rollback().await?;
            return report.ended(found);
        };
        report.replaced = segment.write == WriteMode::Replace;
        let mut position = segment.position.clone();
        let note_rows = segment.note_rows;
        if !same_columns(&segment.spec, spec) {
            let table = spec.table.clone();
            return Err(LoadError::Moved { table });
        }
        let spec = segment.spec.clone();
        crash_point("loader.before_copy")?;
        self.land_whole(&mut transaction, &mut report, target, segment, careful)
            .await?;
        if let Some(note_rows) = note_rows {
            note_rows(&mut position, report.read);
        }
        crash_point("loader.before_checkpoint")?;
        let found = proof::of(&mut transaction, &report.raw, &spec, expected).await?;
        let event = self
            .commit(transaction, reader.name(), &report, &position)
            .await?;
        if let Some(event) = event {
            self.store.events().announce(event);
        }
        report.ended(found)
    }

    /// The one place where a checkpoint is written: with its rows, or not at all. So is the event that
    /// tells of them.
    async fn commit(
        &self,
        mut transaction: WarehouseTransaction,
        source: &str,
        report: &TableReport,
        position: &Position,
    ) -> Result<Option<RecordedEvent>, LoadError> {
        Checkpoints::put_in(&mut transaction, source, &report.table, position).await?;
        let mut event = None;
        if report.changed() > 0 || report.replaced {
            let loaded = Event::TableLoaded {
                source: source.to_owned(),
                table: report.table.clone(),
                raw: report.raw.clone(),
                rows: report.changed(),
            };
            let trace = TraceContext::current();
            event = Some(EventBus::record_in(&mut transaction, loaded, trace).await?);
        }
        crash_point("loader.before_commit")?;
        transaction.commit().await?;
        crash_point("loader.after_commit")?;
        Ok(event)
    }
}

/// Those of the tables that are asked for (empty: all) that are kept by the source's log.
fn followed(survey: &Survey, tables: &[TableName]) -> Vec<TableName> {
    let asked = |spec: &&TableSpec| tables.is_empty() || tables.contains(&spec.table);
    let kept = survey.tables.iter().filter(asked);
    kept.filter(|spec| spec.mode == SyncMode::Cdc)
        .map(|spec| spec.table.clone())
        .collect()
}

/// Whether the rows have the columns that were settled: the source may have changed since.
fn same_columns(read: &TableSpec, settled: &TableSpec) -> bool {
    let each = |spec: &TableSpec| -> Vec<(String, String)> {
        let columns = spec.columns.iter();
        let mut columns: Vec<_> = columns
            .map(|column| (column.name.clone(), column.sql_type.clone()))
            .collect();
        columns.sort();
        columns
    };
    each(read) == each(settled)
}

/// Whether what the checkpoint stands for is still there to build on.
fn usable(target: Option<&Target>, spec: &TableSpec) -> bool {
    target.is_some_and(|target| target.has_metadata && target.is_keyed_by(target::merge_key(spec)))
}

pub(crate) fn copy_failure(error: CopyError<SourceError>) -> LoadError {
    match error {
        CopyError::Source(error) => LoadError::Source(error),
        CopyError::Database(source) => LoadError::Warehouse {
            doing: "copying rows",
            source,
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
