//! What has arrived of each stream: buffered, staged, covered, committed.

use std::time::Instant;

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::records::{
    FeedItem, RefusedRow, StreamSpec, StreamWrite, push_copy_text, split_copy_line,
};
use ballpoint_runtime::segment::{Column, Position, SourceError, TableName};
use bytes::Bytes;

use super::copy::{BadLine, copy_lines};
use super::session::Session;
use crate::error::{LoadError, crash_point};
use crate::report::{Progress, SyncReport, TableReport};
use crate::sync::Loader;
use crate::target;

/// A stream's lines are copied when they are this many bytes …
const STREAM_BUFFER_BYTES: usize = 1 << 20;
/// … and those of all streams when together they are this many.
const BUFFERS_BYTES_MAX: usize = 8 << 20;
/// Staged since the last commit: from here on what is covered is committed at once.
const STAGED_BYTES_MAX: usize = 64 << 20;

pub(super) const INTERVAL: &str = "_ballpoint_interval";
pub(super) const ORDER: &str = "_ballpoint_order";
pub(super) const REFUSED: &str = "pg_temp._ballpoint_refused";

/// One stream on its way.
pub(super) struct StreamLanding {
    pub(super) spec: StreamSpec,
    pub(super) raw: TableName,
    /// Quoted and qualified.
    pub(super) stage: String,
    /// The rows take the table's place when the stream is complete.
    pub(super) replaces: bool,
    buffer: Vec<u8>,
    /// Counts the stream's states.
    interval: u64,
    /// Rows that no state covers yet, refused ones included.
    uncovered: u64,
    arrived: u64,
    /// Everything before this interval is covered by this state.
    pub(super) covered: Option<(u64, Position)>,
    /// (interval, column, value): older rows to take away.
    pub(super) replaced: Vec<(u64, String, String)>,
    completed: bool,
    pub(super) report: TableReport,
}

impl StreamLanding {
    pub(super) fn new(source: &str, spec: StreamSpec, raw: TableName, replaces: bool) -> Self {
        let report = TableReport::begun(source, spec.table.clone(), raw.clone());
        Self {
            spec,
            raw,
            stage: String::new(),
            replaces,
            buffer: Vec::new(),
            interval: 0,
            uncovered: 0,
            arrived: 0,
            covered: None,
            replaced: Vec::new(),
            completed: false,
            report,
        }
    }

    pub(super) fn is_completed(&self) -> bool {
        self.completed
    }

    /// Whether there is something to commit now.
    pub(super) fn is_due(&self) -> bool {
        self.covered.is_some() && (!self.replaces || self.completed)
    }

    pub(super) fn has_uncovered_rows(&self) -> bool {
        self.uncovered > 0
    }

    /// By what rows are merged and deduplicated; empty when they are not.
    pub(super) fn key(&self) -> &[String] {
        match self.spec.write {
            StreamWrite::Dedup => &self.spec.primary_key,
            StreamWrite::Overwrite | StreamWrite::Append => &[],
        }
    }
}

/// All streams of one sync.
pub(super) struct Landing {
    loader: Loader,
    source: String,
    session: Session,
    streams: Vec<StreamLanding>,
    refused: Vec<u8>,
    buffered: usize,
    staged: usize,
    started: Instant,
}

impl Landing {
    pub(super) fn new(loader: Loader, source: &str, session: Session) -> Self {
        Self {
            loader,
            source: source.to_owned(),
            session,
            streams: Vec::new(),
            refused: Vec::new(),
            buffered: 0,
            staged: 0,
            started: Instant::now(),
        }
    }

    /// Makes room for one more stream.
    pub(super) async fn add(&mut self, mut stream: StreamLanding) -> Result<(), LoadError> {
        let failed = LoadError::warehouse("making room for the rows");
        let name = format!("_ballpoint_stage_{}", self.streams.len());
        stream.stage = format!("pg_temp.{name}");
        // A row without its key is refused here, not when it is merged.
        let columns: Vec<Column> = stream
            .spec
            .columns
            .iter()
            .map(|column| Column {
                not_null: stream.key().contains(&column.name),
                ..column.clone()
            })
            .collect();
        let mut sql = format!(
            "create temporary table {name} ({ORDER} bigint generated always as identity,
               {INTERVAL} bigint not null{}{})",
            if columns.is_empty() { "" } else { ", " },
            target::definitions(&columns)
        );
        if self.streams.is_empty() {
            sql = format!(
                "{sql}; create temporary table _ballpoint_refused (stream bigint, {INTERVAL} bigint,
                   key text, column_name text, reason text, row_text text)"
            );
        }
        self.session.run(sql).await.map_err(failed)?;
        self.streams.push(stream);
        Ok(())
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn loader(&self) -> &Loader {
        &self.loader
    }

    pub(super) fn streams(&self) -> &[StreamLanding] {
        &self.streams
    }

    pub(super) fn streams_mut(&mut self) -> &mut [StreamLanding] {
        &mut self.streams
    }

    pub(super) fn has_covered(&self) -> bool {
        self.streams.iter().any(StreamLanding::is_due)
    }

    /// Whether what is covered is to be committed at once: there is much, or a table waits for its swap.
    pub(super) fn is_full(&self) -> bool {
        let swaps = |it: &StreamLanding| it.replaces && it.is_due();
        self.has_covered() && (self.staged >= STAGED_BYTES_MAX || self.streams.iter().any(swaps))
    }

    pub(super) fn committed(&mut self) {
        self.staged = 0;
    }

    pub(super) fn report(&self) -> SyncReport {
        let elapsed = self.started.elapsed();
        let tables = self.streams.iter().map(|stream| TableReport {
            elapsed,
            ..stream.report.clone()
        });
        SyncReport {
            source: self.source.clone(),
            tables: tables.collect(),
            held: Vec::new(),
            elapsed,
        }
    }

    /// The table that an error is about: the one it names, else the first that is not complete.
    pub(super) fn table_of(&self, error: &LoadError) -> TableName {
        if let LoadError::Source(SourceError::Read { table, .. }) = error
            && self.streams.iter().any(|it| it.spec.table == *table)
        {
            return table.clone();
        }
        let open = self.streams.iter().find(|it| !it.completed);
        open.or(self.streams.first())
            .map_or_else(|| TableName::new("", ""), |it| it.spec.table.clone())
    }

    /// Takes what the feed brings.
    pub(super) async fn take(&mut self, item: FeedItem) -> Result<(), LoadError> {
        match item {
            FeedItem::Lines {
                stream,
                lines,
                rows,
            } => self.on_lines(stream, &lines, rows).await?,
            FeedItem::Refused { stream, row } => self.on_refused(stream, &row).await?,
            FeedItem::Widened {
                stream,
                column,
                sql_type,
            } => self.on_widened(stream, &column, sql_type).await?,
            FeedItem::Replaces {
                stream,
                column,
                value,
            } => {
                let it = &mut self.streams[stream];
                it.replaced.push((it.interval, column, value));
            }
            FeedItem::State { positions } => {
                for (stream, position) in positions {
                    let it = &mut self.streams[stream];
                    it.interval += 1;
                    it.uncovered = 0;
                    it.covered = Some((it.interval, position));
                }
            }
            FeedItem::Completed { stream } => self.streams[stream].completed = true,
        }
        Ok(())
    }

    async fn on_lines(&mut self, at: usize, lines: &Bytes, rows: u64) -> Result<(), LoadError> {
        let stream = &mut self.streams[at];
        stream.buffer.extend_from_slice(lines);
        stream.uncovered += rows;
        stream.arrived += rows;
        stream.report.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.buffered += lines.len();
        let stream = &self.streams[at];
        self.tell(stream, None);
        if stream.buffer.len() >= STREAM_BUFFER_BYTES {
            self.stage(at).await?;
        }
        if self.buffered >= BUFFERS_BYTES_MAX {
            self.stage_all().await?;
        }
        Ok(())
    }

    /// How far a stream is; `rows` once they are committed.
    pub(super) fn tell(&self, stream: &StreamLanding, rows: Option<u64>) {
        self.loader.show(&Progress {
            source: self.source.clone(),
            table: stream.spec.table.clone(),
            bytes: stream.report.bytes,
            rows,
            sent: Some(stream.arrived),
            expected: None,
            elapsed: self.started.elapsed(),
        });
    }

    async fn on_refused(&mut self, at: usize, row: &RefusedRow) -> Result<(), LoadError> {
        let stream = &mut self.streams[at];
        stream.uncovered += 1;
        stream.arrived += 1;
        let interval = stream.interval;
        self.refuse(at, &interval.to_string(), row);
        if self.refused.len() >= STREAM_BUFFER_BYTES {
            self.stage_refused().await?;
        }
        Ok(())
    }

    /// What is staged by then is of the old type, which the new one holds.
    async fn on_widened(
        &mut self,
        at: usize,
        name: &str,
        sql_type: String,
    ) -> Result<(), LoadError> {
        self.stage(at).await?;
        let stream = &mut self.streams[at];
        let sql = format!(
            "alter table {} alter column {} type {sql_type}",
            stream.stage,
            quote(name)
        );
        tracing::info!(source = %self.source, table = %stream.spec.table, column = name,
            sql_type, "a column needs a wider type");
        let column = stream.spec.columns.iter_mut().find(|it| it.name == name);
        if let Some(column) = column {
            column.sql_type = sql_type;
        }
        let failed = LoadError::warehouse("widening a staged column");
        self.session.run(sql).await.map_err(failed)?;
        Ok(())
    }

    /// Brings all that is buffered into the temporary tables.
    pub(super) async fn stage_all(&mut self) -> Result<(), LoadError> {
        for at in 0..self.streams.len() {
            self.stage(at).await?;
        }
        self.stage_refused().await
    }

    async fn stage(&mut self, at: usize) -> Result<(), LoadError> {
        let stream = &mut self.streams[at];
        if stream.buffer.is_empty() {
            return Ok(());
        }
        crash_point("loader.records_before_stage")?;
        let lines = Bytes::from(std::mem::take(&mut stream.buffer));
        self.buffered -= lines.len();
        self.staged += lines.len();
        let separator = if stream.spec.columns.is_empty() {
            ""
        } else {
            ", "
        };
        let copy = format!(
            "COPY {} ({INTERVAL}{separator}{}) FROM STDIN",
            stream.stage,
            target::names(&stream.spec.columns)
        );
        let bad = copy_lines(self.session.connection(), &copy, lines)
            .await
            .map_err(LoadError::warehouse("copying rows"))?;
        for line in bad {
            let (interval, row) = described(&self.streams[at].spec, line);
            self.refuse(at, &interval, &row);
        }
        Ok(())
    }

    /// One line of the table of refused rows.
    fn refuse(&mut self, at: usize, interval: &str, row: &RefusedRow) {
        let fields = [
            Some(at.to_string()),
            Some(interval.to_owned()),
            row.key.clone(),
            row.column.clone(),
            Some(row.reason.clone()),
            Some(row.row.clone()),
        ];
        for (position, field) in fields.iter().enumerate() {
            if position > 0 {
                self.refused.push(b'\t');
            }
            match field {
                // PostgreSQL's text holds no NUL.
                Some(text) => push_copy_text(&mut self.refused, &text.replace('\0', "\\u0000")),
                None => self.refused.extend_from_slice(b"\\N"),
            }
        }
        self.refused.push(b'\n');
    }

    async fn stage_refused(&mut self) -> Result<(), LoadError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let lines = Bytes::from(std::mem::take(&mut self.refused));
        let copy = format!("COPY {REFUSED} FROM STDIN");
        let bad = copy_lines(self.session.connection(), &copy, lines)
            .await
            .map_err(LoadError::warehouse("keeping the refused rows"))?;
        match bad.first() {
            None => Ok(()),
            Some(bad) => Err(LoadError::Source(SourceError::Configuration {
                source_name: self.source.clone(),
                reason: format!("a refused row cannot be kept: {}", bad.reason),
            })),
        }
    }
}

/// The interval of a line that PostgreSQL refused, and its row as JSON.
fn described(spec: &StreamSpec, bad: BadLine) -> (String, RefusedRow) {
    let mut fields = split_copy_line(&bad.line).into_iter();
    let interval = fields.next().flatten().unwrap_or_default();
    let named: Vec<(&str, Option<String>)> = spec
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .zip(fields)
        .collect();
    let key: Vec<&str> = spec
        .primary_key
        .iter()
        .filter_map(|key| {
            let field = named.iter().find(|(name, _)| name == key);
            field.and_then(|(_, value)| value.as_deref())
        })
        .collect();
    let row: serde_json::Map<String, serde_json::Value> = named
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
        .collect();
    let refused = RefusedRow {
        key: (!key.is_empty()).then(|| key.join(", ")),
        column: bad.column,
        reason: bad.reason,
        row: serde_json::Value::Object(row).to_string(),
    };
    (interval, refused)
}
