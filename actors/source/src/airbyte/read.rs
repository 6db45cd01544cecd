//! One `read`: messages in, feed items out.
//!
//! Each stream's lines are gathered into chunks, which leave before any state that covers them. Of a
//! stream that is read as a whole the states are passed over, and its completion covers everything: half
//! of it is no table. A stream counts as complete when the connector says so; one that says nothing of
//! the kind about any stream is old, and is believed its exit code.

mod ending;

use std::collections::HashMap;

use ballpoint_runtime::failure::one_line;
use ballpoint_runtime::records::{Feed, FeedItem, RefusedRow, StreamWrite};
use ballpoint_runtime::segment::{Position, SourceError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::AirbyteSource;
use super::catalog::{self, ChosenStream, shown};
use super::message::{self, Message, Record, State, Status, StreamName, TraceError};
use super::position::{StreamPosition, state_file};
use super::process::Process;
use crate::encode::Encoder;

/// Lines are passed on when they are this many bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks on their way to the warehouse; the connector waits for more room.
const ITEMS_MAX: usize = 8;
/// Of what is no message, for the error of a connector that writes nothing else.
const GARBAGE_CHARS_MAX: usize = 300;

/// Starts the connector on these streams.
pub(super) async fn start(
    source: &AirbyteSource,
    wanted: Vec<(ChosenStream, Option<Position>)>,
) -> Result<Feed, SourceError> {
    let config = source.connector_config()?;
    let chosen: Vec<ChosenStream> = wanted.iter().map(|(stream, _)| stream.clone()).collect();
    let mut files = vec![("config", "config.json"), ("catalog", "read.json")];
    let write = |name: &str, value: &Value| {
        source
            .write(name, value)
            .map_err(|reason| source.refuse(reason))
    };
    write("read.json", &catalog::configured(&chosen))?;
    let (state, order) = state_file(&wanted);
    if let Some(state) = state {
        source
            .write_text("state.json", &state)
            .map_err(|reason| source.refuse(reason))?;
        files.push(("state", "state.json"));
    }
    let process = source.start("read", &files, Some(&config)).await?;
    let (sender, receiver) = mpsc::channel(ITEMS_MAX);
    let reading = Reading::new(source.clone(), wanted, order, sender.clone());
    let pump = async move {
        let ended = tokio::select! {
            ended = reading.run(process) => ended,
            // Nobody takes what comes: the connector is killed.
            () = sender.closed() => return,
        };
        // The receiver may be gone: then nobody is left to tell.
        let _ = sender.send(ended.map(|()| None)).await;
    };
    tokio::spawn(pump.in_current_span());
    Ok(feed(source, receiver))
}

type Sent = Result<Option<FeedItem>, SourceError>;

fn feed(source: &AirbyteSource, receiver: mpsc::Receiver<Sent>) -> Feed {
    let name = source.config.name.clone();
    stream::unfold(Some(receiver), move |receiver| {
        let name = name.clone();
        async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(Some(item))) => Some((Ok(item), Some(receiver))),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some((Err(error), None)),
                // An end that was not announced must never look like the end of the rows.
                None => Some((
                    Err(SourceError::Unavailable {
                        source_name: name,
                        reason: "reading the connector stopped unexpectedly".to_owned(),
                    }),
                    None,
                )),
            }
        }
    })
    .boxed()
}

/// One stream while it is read.
struct Reader {
    chosen: ChosenStream,
    encoder: Encoder,
    lines: Vec<u8>,
    rows: u64,
    interval: u64,
    /// Records since the stream's last state, or everybody's.
    since_state: u64,
    last_state: Option<String>,
    complete: bool,
    incomplete: bool,
    warned: bool,
}

struct Reading {
    source: AirbyteSource,
    streams: Vec<Reader>,
    by_name: HashMap<StreamName, usize>,
    order: u64,
    has_status: bool,
    messages: u64,
    garbage: String,
    errors: Vec<TraceError>,
    out: mpsc::Sender<Sent>,
}

impl Reading {
    fn new(
        source: AirbyteSource,
        wanted: Vec<(ChosenStream, Option<Position>)>,
        order: u64,
        out: mpsc::Sender<Sent>,
    ) -> Self {
        let by_name = wanted.iter().enumerate();
        let by_name = by_name.map(|(at, (stream, _))| (stream.name.clone(), at));
        let by_name = by_name.collect();
        let streams = wanted.into_iter().map(|(chosen, position)| Reader {
            encoder: Encoder::new(&chosen.spec.columns, chosen.properties.iter().cloned()),
            last_state: position
                .as_ref()
                .and_then(StreamPosition::parse)
                .filter(|it| it.cursor == chosen.cursor_field)
                .and_then(|it| it.airbyte),
            chosen,
            lines: Vec::new(),
            rows: 0,
            interval: 0,
            since_state: 0,
            complete: false,
            incomplete: false,
            warned: false,
        });
        Self {
            streams: streams.collect(),
            source,
            by_name,
            order,
            has_status: false,
            messages: 0,
            garbage: String::new(),
            errors: Vec::new(),
            out,
        }
    }

    async fn run(mut self, mut process: Process) -> Result<(), SourceError> {
        loop {
            match process.next_line(self.source.config.stall_timeout).await {
                Ok(Some(line)) => self.on_line(&line).await?,
                Ok(None) => break,
                Err(error) => {
                    let (_, said) = process.end().await;
                    return Err(self.broken(one_line([error.to_string(), said])));
                }
            }
        }
        let (status, said) = process.end().await;
        self.conclude(status, said).await
    }

    async fn on_line(&mut self, line: &[u8]) -> Result<(), SourceError> {
        let Some(message) = message::parse(line) else {
            let text = self.source.log.write(&String::from_utf8_lossy(line));
            if self.garbage.chars().count() < GARBAGE_CHARS_MAX && !text.is_empty() {
                let text: String = text.chars().take(GARBAGE_CHARS_MAX).collect();
                self.garbage = one_line([std::mem::take(&mut self.garbage), text]);
            }
            return Ok(());
        };
        self.messages += 1;
        match message {
            Message::Record(record) => self.on_record(&record).await?,
            Message::State(state) => self.on_state(state).await?,
            Message::Status { stream, status } => self.on_status(&stream, status).await?,
            Message::Error(error) => {
                self.source.note("ERROR", &error.text);
                self.errors.push(error);
            }
            Message::Log { level, text } => self.source.note(&level, &text),
            Message::Estimate { stream, rows } => {
                tracing::debug!(
                    stream = shown(&stream),
                    rows,
                    "the connector expects to send"
                );
            }
            Message::NewConfig(config) => self.source.keep_config(config),
            Message::Spec(_)
            | Message::Connection { .. }
            | Message::Catalog(_)
            | Message::Other => {}
        }
        Ok(())
    }

    async fn on_record(&mut self, record: &Record<'_>) -> Result<(), SourceError> {
        let name = StreamName {
            name: record.stream.clone().into_owned(),
            namespace: record
                .namespace
                .as_deref()
                .filter(|it| !it.is_empty())
                .map(str::to_owned),
        };
        let Some(at) = self.place(&name) else {
            return Err(self.broken(format!(
                "the connector sent a record of stream {}, which it was not asked for",
                shown(&name)
            )));
        };
        let stream = &mut self.streams[at];
        stream.since_state += 1;
        let before = stream.lines.len();
        match stream
            .encoder
            .encode(&mut stream.lines, stream.interval, record.data)
        {
            Ok(encoded) => {
                stream.rows += 1;
                if let Some(property) = encoded.unknown.filter(|_| !stream.warned) {
                    stream.warned = true;
                    let text = format!(
                        "WARN records of {} have a property {property} that the stream's schema does \
                         not list; it is left out",
                        shown(&stream.chosen.name)
                    );
                    self.source.note("WARN", &text);
                }
                for column in encoded.too_large {
                    self.widen(at, column, before).await?;
                }
            }
            Err(error) => {
                stream.lines.truncate(before);
                let row = RefusedRow {
                    key: None,
                    column: None,
                    reason: format!("the record cannot be read: {error}"),
                    row: record.data.get().to_owned(),
                };
                self.send(FeedItem::Refused { stream: at, row }).await?;
            }
        }
        if self.streams[at].lines.len() >= CHUNK_BYTES {
            self.flush(at).await?;
        }
        Ok(())
    }

    /// A column becomes numeric from the line at `from` on.
    async fn widen(&mut self, at: usize, column: usize, from: usize) -> Result<(), SourceError> {
        let stream = &mut self.streams[at];
        if from > 0 && from <= stream.lines.len() {
            let line = stream.lines.split_off(from);
            stream.rows -= 1;
            self.flush(at).await?;
            let stream = &mut self.streams[at];
            stream.lines = line;
            stream.rows = 1;
        }
        let column = &mut self.streams[at].chosen.spec.columns[column];
        column.sql_type = "numeric".to_owned();
        let widened = FeedItem::Widened {
            stream: at,
            column: column.name.clone(),
            sql_type: column.sql_type.clone(),
        };
        self.send(widened).await
    }

    fn place(&self, name: &StreamName) -> Option<usize> {
        if let Some(at) = self.by_name.get(name) {
            return Some(*at);
        }
        // Some connectors discover a namespace and leave it out of their messages.
        let mut same = self.streams.iter().enumerate();
        let is_it = |(_, it): &(usize, &Reader)| {
            it.chosen.name.name == name.name && name.namespace.is_none()
        };
        same.find(is_it).map(|(at, _)| at)
    }

    async fn on_state(&mut self, state: State) -> Result<(), SourceError> {
        let covered: Vec<usize> = match &state.stream {
            Some(name) => self.place(name).into_iter().collect(),
            None => {
                let each = self.streams.iter().enumerate();
                let incremental = each.filter(|(_, it)| it.chosen.is_incremental);
                incremental.map(|(at, _)| at).collect()
            }
        };
        let arrived: u64 = covered.iter().map(|at| self.streams[*at].since_state).sum();
        self.check_count(&covered, state.record_count, arrived)?;
        self.order += 1;
        let mut positions = Vec::new();
        for at in covered {
            let stream = &mut self.streams[at];
            stream.since_state = 0;
            if stream.chosen.is_incremental {
                stream.last_state = Some(state.raw.clone());
                self.flush(at).await?;
                positions.push(self.position(at));
            }
        }
        if positions.is_empty() {
            return Ok(());
        }
        self.send(FeedItem::State { positions }).await
    }

    /// The source counted other records than arrived: some were lost on the way.
    fn check_count(
        &self,
        covered: &[usize],
        said: Option<f64>,
        arrived: u64,
    ) -> Result<(), SourceError> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "compared with what came as a float"
        )]
        let differs = said.is_some_and(|said| (said - arrived as f64).abs() >= 0.5);
        if !differs {
            return Ok(());
        }
        let reason = format!(
            "the connector says that it sent {} records before its state, and {arrived} arrived; \
             records were lost or doubled, so nothing since the state before is kept",
            said.unwrap_or_default()
        );
        Err(match covered.first() {
            Some(at) => self.failed(*at, reason),
            None => self.source.refuse(reason),
        })
    }

    fn position(&mut self, at: usize) -> (usize, Position) {
        let stream = &mut self.streams[at];
        stream.interval += 1;
        let position = StreamPosition {
            airbyte: match stream.chosen.is_incremental {
                true => stream.last_state.clone(),
                false => None,
            },
            order: self.order,
            cursor: stream.chosen.cursor_field.clone(),
        };
        (at, position.into_position())
    }

    async fn on_status(&mut self, name: &StreamName, status: Status) -> Result<(), SourceError> {
        self.has_status = true;
        let Some(at) = self.place(name) else {
            return Ok(());
        };
        match status {
            Status::Complete => self.complete(at).await?,
            Status::Incomplete => self.streams[at].incomplete = true,
            Status::Started | Status::Running => {}
        }
        Ok(())
    }

    /// The stream has sent everything: what no state covers is covered by this, where that cannot
    /// double anything.
    async fn complete(&mut self, at: usize) -> Result<(), SourceError> {
        self.flush(at).await?;
        let stream = &mut self.streams[at];
        if stream.complete {
            return Ok(());
        }
        let open = std::mem::take(&mut stream.since_state);
        if stream.chosen.is_incremental && open > 0 {
            let name = shown(&stream.chosen.name);
            if stream.chosen.spec.write == StreamWrite::Append {
                stream.incomplete = true;
                self.errors.push(TraceError {
                    stream: Some(self.streams[at].chosen.name.clone()),
                    text: format!(
                        "stream {name} ended without a state for its last {open} records: they would \
                         be sent again and doubled, so they are not kept; set its mode to \
                         full_refresh, or give it a primary_key"
                    ),
                    is_config: true,
                });
                return Ok(());
            }
            tracing::warn!(source = %self.source.config.name, stream = name, records = open,
                "the stream ended without a state for its last records; they are read again next time");
        }
        self.streams[at].complete = true;
        let positions = vec![self.position(at)];
        self.send(FeedItem::State { positions }).await?;
        self.send(FeedItem::Completed { stream: at }).await
    }

    async fn flush(&mut self, at: usize) -> Result<(), SourceError> {
        let stream = &mut self.streams[at];
        if stream.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::replace(&mut stream.lines, Vec::with_capacity(CHUNK_BYTES));
        let item = FeedItem::Lines {
            stream: at,
            lines: Bytes::from(lines),
            rows: std::mem::take(&mut stream.rows),
        };
        self.send(item).await
    }

    async fn send(&self, item: FeedItem) -> Result<(), SourceError> {
        let sent = self.out.send(Ok(Some(item))).await;
        // Who took the items has left; the pump sees that too.
        sent.map_err(|_| self.source.refuse("nobody reads on"))
    }
}
