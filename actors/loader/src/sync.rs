//! A sync: each table's segment into the warehouse, rows and checkpoint in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ballpoint_postgres::copy::CopyError;
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{
    Position, Segment, SourceError, SourceReader, TableName, TableSpec, WriteMode,
};
use ballpoint_runtime::store::{
    Checkpoints, EventBus, RecordedEvent, RunRecorder, StepStatus, Store,
};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::AssertSqlSafe;
use tracing::Instrument;

use crate::error::{LoadError, SyncError, TableFailure, crash_point};
use crate::extraction;
use crate::merge::{self, Merged};
use crate::replace;
use crate::report::{Progress, ProgressSink, SyncReport, TableReport};
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;

/// Loads sources into one schema of the warehouse. Cheap to clone.
#[derive(Clone)]
pub struct Loader {
    store: Store,
    schema: String,
    progress: Option<ProgressSink>,
    run: Option<RunRecorder>,
}

impl Loader {
    /// A loader into `schema`, made if it is missing.
    pub fn new(store: Store, schema: impl Into<String>) -> Self {
        Self {
            store,
            schema: schema.into(),
            progress: None,
            run: None,
        }
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
        self.prepare().await?;
        let specs = chosen(reader, tables).await?;
        let mut report = SyncReport {
            source: reader.name().to_owned(),
            ..Default::default()
        };
        let mut failures = Vec::new();
        for spec in specs {
            let span = tracing::info_span!("load", otel.name = %format!("load {}", spec.table),
                source = reader.name(), table = %spec.table);
            set_parent(&span, trace);
            let loading = self.load(reader, &spec, full_refresh).instrument(span);
            match self.as_step(&spec, loading).await {
                Ok(loaded) => report.tables.push(loaded),
                Err(error) => {
                    let gone = matches!(&error, LoadError::Source(SourceError::Unavailable { .. }));
                    failures.push(TableFailure {
                        table: spec.table,
                        error,
                    });
                    if gone {
                        break;
                    }
                }
            }
        }
        report.elapsed = started.elapsed();
        if failures.is_empty() {
            return Ok(report);
        }
        Err(SyncError::Tables { failures, report })
    }

    /// Carries out a load as a step of the run, if there is one.
    async fn as_step(
        &self,
        spec: &TableSpec,
        loading: impl Future<Output = Result<TableReport, LoadError>>,
    ) -> Result<TableReport, LoadError> {
        let Some(run) = &self.run else {
            return loading.await;
        };
        let step = run.step(&spec.table.to_string()).await?;
        let loaded = loading.await;
        match &loaded {
            Ok(report) => {
                run.add_rows(report.changed());
                let rows = Some(report.changed());
                step.finish(StepStatus::Success, rows, None).await?;
            }
            Err(error) => {
                let error = in_one_line(error);
                step.finish(StepStatus::Failed, None, Some(&error)).await?;
            }
        }
        loaded
    }

    /// Creates the schema and the extraction clock.
    async fn prepare(&self) -> Result<(), LoadError> {
        let failed = || LoadError::warehouse("preparing the warehouse");
        let mut connection = self.store.pool().acquire().await.map_err(failed())?;
        let ready: bool = sqlx::query_scalar(
            "select to_regnamespace($1) is not null
                and to_regclass('ballpoint.extraction_time') is not null",
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

    /// Loads one table. The transaction ends every way out of here but the last with nothing changed.
    async fn load(
        &self,
        reader: &dyn SourceReader,
        spec: &TableSpec,
        full_refresh: bool,
    ) -> Result<TableReport, LoadError> {
        let started = Instant::now();
        let raw = TableName::new(&self.schema, &spec.table.name);
        let mut transaction = WarehouseTransaction::begin(self.store.pool(), &raw).await?;
        let target = Target::find(&mut transaction, &raw)
            .await
            .map_err(LoadError::warehouse("looking at the raw table"))?;
        let position = if full_refresh || !usable(target.as_ref(), spec) {
            None
        } else {
            Checkpoints::get_in(&mut transaction, reader.name(), &spec.table).await?
        };
        let mut report = TableReport {
            table: spec.table.clone(),
            raw,
            read: 0,
            inserted: 0,
            updated: 0,
            unchanged: 0,
            replaced: false,
            bytes: 0,
            elapsed: started.elapsed(),
        };
        let Some(segment) = reader.open(spec, position.as_ref()).await? else {
            transaction.rollback().await?;
            report.elapsed = started.elapsed();
            return Ok(report);
        };
        let position = segment.position.clone();
        let bytes = Arc::new(AtomicU64::new(0));
        report.replaced = segment.write == WriteMode::Replace;
        crash_point("loader.before_copy")?;
        let merged = self
            .land(
                &mut transaction,
                reader.name(),
                &report.raw,
                target,
                segment,
                &bytes,
            )
            .await?;
        report.read = merged.read;
        report.inserted = merged.inserted;
        report.updated = merged.updated;
        report.unchanged = merged.read - merged.inserted - merged.updated;
        report.bytes = bytes.load(Ordering::Relaxed);
        self.tell(reader.name(), &spec.table, report.bytes, Some(report.read));
        crash_point("loader.before_checkpoint")?;
        let event = self
            .commit(transaction, reader.name(), &report, &position)
            .await?;
        if let Some(event) = event {
            self.store.events().announce(event);
        }
        report.elapsed = started.elapsed();
        Ok(report)
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

    async fn land(
        &self,
        transaction: &mut WarehouseTransaction,
        source: &str,
        raw: &TableName,
        target: Option<Target>,
        segment: Segment,
        bytes: &Arc<AtomicU64>,
    ) -> Result<Merged, LoadError> {
        let Segment {
            spec, write, rows, ..
        } = segment;
        let rows = self.counted(source, &spec.table, rows, bytes);
        if write == WriteMode::Replace {
            let read = replace::replace(transaction, raw, target.as_ref(), &spec, rows).await?;
            return Ok(Merged {
                read,
                inserted: read,
                updated: 0,
            });
        }
        let target = match target {
            Some(target) => target,
            None => {
                replace::create_empty(transaction, raw, &spec).await?;
                Target::find(transaction, raw)
                    .await
                    .map_err(LoadError::warehouse("looking at the raw table"))?
                    .ok_or(LoadError::Warehouse {
                        doing: "creating the raw table",
                        source: sqlx::Error::RowNotFound,
                    })?
            }
        };
        let key = if write == WriteMode::Merge {
            target::merge_key(&spec)
        } else {
            &[]
        };
        merge::merge(transaction, &target, &spec, key, rows).await
    }

    /// `rows`, counting their bytes and telling of them.
    fn counted(
        &self,
        source: &str,
        table: &TableName,
        rows: BoxStream<'static, Result<Bytes, SourceError>>,
        bytes: &Arc<AtomicU64>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let (this, bytes) = (self.clone(), Arc::clone(bytes));
        let (source, table) = (source.to_owned(), table.clone());
        rows.map(move |chunk| {
            let chunk = chunk?;
            let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let sum = bytes.fetch_add(size, Ordering::Relaxed) + size;
            this.tell(&source, &table, sum, None);
            crash_point("loader.mid_copy").map_err(|error| SourceError::Read {
                source_name: source.clone(),
                table: table.clone(),
                reason: error.to_string(),
            })?;
            Ok(chunk)
        })
        .boxed()
    }

    fn tell(&self, source: &str, table: &TableName, bytes: u64, rows: Option<u64>) {
        if let Some(sink) = &self.progress {
            sink(&Progress {
                source: source.to_owned(),
                table: table.clone(),
                bytes,
                rows,
            });
        }
    }
}

/// Whether what the checkpoint stands for is still there to build on.
fn usable(target: Option<&Target>, spec: &TableSpec) -> bool {
    target.is_some_and(|target| target.has_metadata && target.is_keyed_by(target::merge_key(spec)))
}

/// The specs of the tables asked for.
async fn chosen(
    reader: &dyn SourceReader,
    tables: &[TableName],
) -> Result<Vec<TableSpec>, SyncError> {
    let specs = reader.tables().await?;
    if let Some(unknown) = tables
        .iter()
        .find(|t| specs.iter().all(|spec| spec.table != **t))
    {
        let known: Vec<String> = specs.iter().map(|spec| spec.table.to_string()).collect();
        return Err(SyncError::UnknownTable {
            source_name: reader.name().to_owned(),
            table: unknown.clone(),
            known: known.join(", "),
        });
    }
    let asked = |spec: &TableSpec| tables.is_empty() || tables.contains(&spec.table);
    Ok(specs.into_iter().filter(asked).collect())
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
