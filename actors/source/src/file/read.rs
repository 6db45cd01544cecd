//! Files into feed items: file by file, each with the mark that it is loaded.

pub(super) mod lines;
pub(super) mod rows;

use std::io::Read;
use std::path::Path;

use ballpoint_runtime::records::{
    Feed, FeedItem, RefusedRow, StreamSpec, StreamWrite, push_copy_text,
};
use ballpoint_runtime::segment::SourceError;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use self::lines::{Line, Lines};
use self::rows::{Row, Rows};
use super::columns::{format_of, header_names};
use super::position::FilePosition;
use super::{FILE_URL, FileFormat, FileSource, FileStamp};
use crate::encode::Encoder;

/// Lines are passed on when they are this many bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks on their way to the warehouse; the files wait for more room.
const ITEMS_MAX: usize = 8;

type Sent = Result<FeedItem, SourceError>;

/// Why reading ended early.
enum Stopped {
    /// Nobody takes what comes.
    Unheard,
    Failed(String),
}

/// Reads what of `files` is not loaded by `known`, on a thread that may block.
pub(super) fn start(
    source: FileSource,
    spec: StreamSpec,
    files: Vec<FileStamp>,
    known: FilePosition,
) -> Feed {
    let (sender, receiver) = mpsc::channel(ITEMS_MAX);
    tokio::task::spawn_blocking(move || {
        let mut reading = Reading {
            out: sender.clone(),
            source,
            spec,
            lines: Vec::new(),
            rows: 0,
            interval: 0,
        };
        // Without its end the loader takes the stream for incomplete, which it then is.
        if let Err(Stopped::Failed(reason)) = reading.all(&files, known) {
            let error = SourceError::Read {
                source_name: reading.source.config.name.clone(),
                table: reading.spec.table.clone(),
                reason,
            };
            let _ = sender.blocking_send(Err(error));
        }
    });
    stream::unfold(receiver, |mut receiver: mpsc::Receiver<Sent>| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
    .boxed()
}

struct Reading {
    source: FileSource,
    spec: StreamSpec,
    out: mpsc::Sender<Sent>,
    lines: Vec<u8>,
    rows: u64,
    interval: u64,
}

impl Reading {
    fn all(&mut self, files: &[FileStamp], mut known: FilePosition) -> Result<(), Stopped> {
        // A table of all files is made of all files; else each is a part of its own.
        let as_whole = self.spec.write == StreamWrite::Overwrite || self.rereads_all();
        if as_whole {
            known.keep_only(files);
        }
        for file in files {
            if !as_whole && known.holds(file) {
                continue;
            }
            let hash = hash(&file.path).map_err(|error| failed(&file.path, &error))?;
            let same = known
                .get(file)
                .is_some_and(|it| it.has_size(file.size) && it.hash == hash);
            known.put(file, hash);
            if same && !as_whole {
                continue;
            }
            if self.source.replaces_files() {
                self.send(FeedItem::Replaces {
                    stream: 0,
                    column: FILE_URL.to_owned(),
                    value: file.url.clone(),
                })?;
            }
            self.file(file)?;
            if !as_whole {
                self.state(&known)?;
            }
        }
        self.state(&known)?;
        self.send(FeedItem::Completed { stream: 0 })
    }

    fn rereads_all(&self) -> bool {
        self.source.config.mode == Some(crate::config::Mode::FullRefreshAppend)
    }

    fn state(&mut self, known: &FilePosition) -> Result<(), Stopped> {
        self.flush()?;
        self.interval += 1;
        self.send(FeedItem::State {
            positions: vec![(0, known.to_position())],
        })
    }

    fn file(&mut self, file: &FileStamp) -> Result<(), Stopped> {
        let format = format_of(&file.path, &self.source.config).map_err(Stopped::Failed)?;
        match format {
            FileFormat::Csv => self.csv(file),
            FileFormat::Ndjson => self.ndjson(file),
        }
    }

    fn csv(&mut self, file: &FileStamp) -> Result<(), Stopped> {
        let config = std::sync::Arc::clone(&self.source.config);
        let broken = |error: std::io::Error| failed(&file.path, &error);
        let mut rows = Rows::open(&file.path, &config).map_err(broken)?;
        let names = header_names(rows.header());
        // Which field of the row feeds each column; those of other files are null here.
        let own = self.spec.columns.len() - 2;
        let places: Vec<Option<usize>> = self.spec.columns[..own]
            .iter()
            .map(|column| names.iter().position(|name| *name == column.name))
            .collect();
        let end = end_of_line(file);
        loop {
            let refused = match rows.next().map_err(broken)? {
                None => return Ok(()),
                Some(Row::Fields(fields)) => {
                    self.lines
                        .extend_from_slice(self.interval.to_string().as_bytes());
                    for place in &places {
                        self.lines.push(b'\t');
                        let field = place.and_then(|at| fields.get(at));
                        match field.filter(|it| config.null_values.iter().all(|null| null != it)) {
                            Some(field) => push_copy_text(&mut self.lines, field),
                            None => self.lines.extend_from_slice(b"\\N"),
                        }
                    }
                    self.lines.extend_from_slice(&end);
                    self.rows += 1;
                    None
                }
                Some(Row::Wrong { reason, text }) => Some((reason, text)),
            };
            if let Some((reason, text)) = refused {
                self.refuse(file, rows.line(), reason, text)?;
            }
            self.pass_on()?;
        }
    }

    fn ndjson(&mut self, file: &FileStamp) -> Result<(), Stopped> {
        let broken = |error: std::io::Error| failed(&file.path, &error);
        let named = self
            .source
            .columns(std::slice::from_ref(file))
            .map_err(|error| Stopped::Failed(error.to_string()))?;
        let own = self.spec.columns.len() - 2;
        let columns = &self.spec.columns[..own];
        let properties = columns.iter().map(|column| {
            let known = named.iter().find(|(_, it)| it.name == column.name);
            known.map_or_else(|| column.name.clone(), |(property, _)| property.clone())
        });
        let mut encoder = Encoder::new(columns, properties);
        let mut lines = Lines::open(&file.path).map_err(broken)?;
        let end = end_of_line(file);
        loop {
            let before = self.lines.len();
            let refused = match lines.next().map_err(broken)? {
                None => return Ok(()),
                Some(Line::TooLong(text)) => Some(("the line is too long".to_owned(), text)),
                Some(Line::Whole(line)) => {
                    let encoded = serde_json::from_slice::<&RawValue>(line)
                        .and_then(|it| encoder.encode(&mut self.lines, self.interval, it));
                    match encoded {
                        Ok(_) => {
                            // In place of the line's end: the columns that say where it is from.
                            self.lines.pop();
                            self.lines.extend_from_slice(&end);
                            self.rows += 1;
                            None
                        }
                        Err(error) => {
                            self.lines.truncate(before);
                            let text = String::from_utf8_lossy(line).into_owned();
                            Some((format!("the line is no JSON object: {error}"), text))
                        }
                    }
                }
            };
            if let Some((reason, text)) = refused {
                self.refuse(file, lines.number, reason, text)?;
            }
            self.pass_on()?;
        }
    }

    fn refuse(
        &mut self,
        file: &FileStamp,
        line: u64,
        reason: String,
        row: String,
    ) -> Result<(), Stopped> {
        let row = RefusedRow {
            key: Some(format!("{}:{line}", file.url)),
            column: None,
            reason,
            row,
        };
        self.send(FeedItem::Refused { stream: 0, row })
    }

    fn pass_on(&mut self) -> Result<(), Stopped> {
        if self.lines.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(CHUNK_BYTES));
        let rows = std::mem::take(&mut self.rows);
        self.send(FeedItem::Lines {
            stream: 0,
            lines: Bytes::from(lines),
            rows,
        })
    }

    fn send(&self, item: FeedItem) -> Result<(), Stopped> {
        let sent = self.out.blocking_send(Ok(item));
        sent.map_err(|_| Stopped::Unheard)
    }
}

/// The last two columns of each row of a file, and the end of its line.
fn end_of_line(file: &FileStamp) -> Vec<u8> {
    let mut end = vec![b'\t'];
    push_copy_text(&mut end, &file.url);
    end.extend_from_slice(format!("\t{}\n", file.modified).as_bytes());
    end
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Stopped {
    Stopped::Failed(format!("{}: {error}", path.display()))
}
