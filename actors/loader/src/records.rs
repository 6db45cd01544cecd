//! Sources that speak in records: one feed of rows of several streams, with the states that cover them.
//!
//! Rows go by COPY into temporary tables, one a stream, each with the interval that it belongs to. A
//! state makes its interval *covered*; covered rows, and the state, move on into the raw tables in one
//! transaction. So memory holds no more than a few buffers however far apart the states are, a kill at
//! any moment leaves rows and state in agreement, and a thousand small states make a few commits. What
//! no state has covered vanishes with the session, and is sent again.

mod copy;
mod landing;
mod merge;
mod refused;
mod session;
mod shape;

use std::collections::BTreeSet;
use std::time::Duration;

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::records::{Feed, RecordReader, StreamRead, StreamSpec, StreamWrite};
use ballpoint_runtime::segment::{SourceError, TableName};
use ballpoint_runtime::store::{Checkpoints, StepRecorder, StepStatus};
use futures_util::StreamExt;

use crate::error::{LoadError, SyncError, TableFailure, crash_point};
use crate::report::SyncReport;
use crate::sync::Loader;
use crate::target::Target;
use landing::{Landing, StreamLanding};
use session::Session;

/// What is covered waits this long for more: each commit costs the readers of raw a look.
const COMMIT_INTERVAL: Duration = Duration::from_secs(2);

impl Loader {
    /// [`Loader::sync`] of a source that speaks in records.
    pub(crate) async fn sync_records(
        &self,
        source: &str,
        reader: &dyn RecordReader,
        tables: &[TableName],
        full_refresh: bool,
    ) -> Result<SyncReport, SyncError> {
        let streams = chosen(source, reader.streams().await?, tables).map_err(|error| *error)?;
        let session = Session::open(self.store().pool(), source).await?;
        let mut landing = Landing::new(self.clone(), source, session);
        let mut reads = Vec::new();
        for stream in streams {
            let (read, stream) = self.begin(&mut landing, stream, full_refresh).await?;
            landing.add(stream).await?;
            reads.push(read);
        }
        let Some(feed) = reader.read(reads).await? else {
            return Ok(landing.report());
        };
        let steps = self.begin_steps(&landing).await?;
        let landed = land(&mut landing, feed).await;
        self.end_steps(steps, &landing, landed.as_ref().err())
            .await?;
        let report = landing.report();
        match landed {
            Ok(()) => Ok(report),
            Err(error) => Err(SyncError::Tables {
                failures: vec![TableFailure {
                    table: landing.table_of(&error),
                    error,
                }],
                report,
            }),
        }
    }

    /// Where a stream goes on, and how it lands.
    async fn begin(
        &self,
        landing: &mut Landing,
        stream: StreamSpec,
        full_refresh: bool,
    ) -> Result<(StreamRead, StreamLanding), LoadError> {
        let raw = TableName::new(self.schema(), &stream.table.name);
        let source = landing.source().to_owned();
        let connection = landing.session().connection();
        let target = Target::find(connection, &raw)
            .await
            .map_err(LoadError::warehouse("looking at the raw table"))?;
        let key: &[String] = match stream.write {
            StreamWrite::Dedup => &stream.primary_key,
            StreamWrite::Overwrite | StreamWrite::Append => &[],
        };
        let fits = |target: &Target| {
            let keyed = stream.write == StreamWrite::Overwrite || target.is_keyed_by(key);
            target.has_metadata && keyed
        };
        let usable = target.as_ref().is_some_and(fits);
        let position = if full_refresh || !usable {
            None
        } else {
            Checkpoints::get_in(connection, &source, &stream.table).await?
        };
        // A table that is there and cannot be added to is replaced, as by a full refresh.
        let anew = full_refresh || (target.is_some() && !usable);
        let replaces = anew || stream.write == StreamWrite::Overwrite;
        let read = StreamRead {
            stream: stream.clone(),
            position,
        };
        Ok((read, StreamLanding::new(&source, stream, raw, replaces)))
    }

    async fn begin_steps(&self, landing: &Landing) -> Result<Vec<StepRecorder>, LoadError> {
        let mut steps = Vec::new();
        if let Some(run) = self.run() {
            for stream in landing.streams() {
                steps.push(run.step(&stream.spec.table.to_string()).await?);
            }
        }
        Ok(steps)
    }

    async fn end_steps(
        &self,
        steps: Vec<StepRecorder>,
        landing: &Landing,
        error: Option<&LoadError>,
    ) -> Result<(), LoadError> {
        let failed = error.map(|error| (landing.table_of(error), in_one_line(error)));
        for (step, stream) in steps.into_iter().zip(landing.streams()) {
            let rows = stream.report.changed();
            if let Some(run) = self.run() {
                run.add_rows(rows);
            }
            let why = failed
                .as_ref()
                .filter(|(table, _)| !stream.is_completed() || *table == stream.spec.table)
                .map(|(_, why)| why.as_str());
            let status = match why {
                None => StepStatus::Success,
                Some(_) => StepStatus::Failed,
            };
            step.finish(status, Some(rows), why).await?;
        }
        Ok(())
    }
}

/// Lands the whole feed. After an error of the source, what it had covered is committed all the same.
async fn land(landing: &mut Landing, mut feed: Feed) -> Result<(), LoadError> {
    let mut committed = tokio::time::Instant::now();
    loop {
        let due = landing.has_covered().then_some(committed + COMMIT_INTERVAL);
        let item = tokio::select! {
            biased;
            () = at(due) => None,
            item = feed.next() => Some(item),
        };
        match item {
            None => {
                landing.commit().await?;
                committed = tokio::time::Instant::now();
            }
            Some(Some(Ok(item))) => {
                landing.take(item).await?;
                crash_point("loader.records_taken")?;
                if landing.is_full() {
                    landing.commit().await?;
                    committed = tokio::time::Instant::now();
                }
            }
            Some(Some(Err(error))) => {
                landing.commit().await?;
                return Err(LoadError::Source(error));
            }
            Some(None) => break,
        }
    }
    landing.commit().await?;
    match landing.streams().iter().find(|it| !it.is_completed()) {
        None => Ok(()),
        Some(stream) => Err(LoadError::Source(SourceError::Read {
            source_name: landing.source().to_owned(),
            table: stream.spec.table.clone(),
            reason: "the source ended before this stream was complete".to_owned(),
        })),
    }
}

async fn at(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The streams asked for. Two of one name would land in one table.
fn chosen(
    source: &str,
    streams: Vec<StreamSpec>,
    tables: &[TableName],
) -> Result<Vec<StreamSpec>, Box<SyncError>> {
    if let Some(unknown) = tables
        .iter()
        .find(|table| streams.iter().all(|stream| stream.table != **table))
    {
        let known: Vec<String> = streams.iter().map(|it| it.table.to_string()).collect();
        return Err(Box::new(SyncError::UnknownTable {
            source_name: source.to_owned(),
            table: unknown.clone(),
            known: known.join(", "),
        }));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = streams.iter().find(|it| !names.insert(&it.table.name)) {
        return Err(Box::new(SyncError::Source(SourceError::Configuration {
            source_name: source.to_owned(),
            reason: format!(
                "two streams are called {}, and both would land in one table; choose one with \
                 `streams`",
                twice.table.name
            ),
        })));
    }
    let asked = |stream: &StreamSpec| tables.is_empty() || tables.contains(&stream.table);
    Ok(streams.into_iter().filter(asked).collect())
}

#[cfg(test)]
mod tests;
