//! How a source that speaks in records meets `loader`: one bounded feed of rows of several tables,
//! with the states that cover them.
//!
//! A [`Segment`](crate::segment::Segment) is one table under one snapshot. A connector or a set of
//! files is neither: it sends rows of its streams in any order, and says now and then up to where it
//! would go on. What lies between two such states of a stream is an *interval*. Both sides count them
//! from 0: [`FeedItem::State`] ends the interval of each stream that it names. Rows are durable with
//! the state that covers them, in one warehouse transaction, or not at all.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::segment::{Column, Position, SourceError, TableName};

/// A stream of a source, as it is to land.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamSpec {
    /// Its namespace and name.
    pub table: TableName,
    pub columns: Vec<Column>,
    /// Empty when it has none.
    pub primary_key: Vec<String>,
    /// Of two rows with one key the one with the greater value here is the later.
    pub cursor: Option<String>,
    pub write: StreamWrite,
}

/// What becomes of the rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamWrite {
    /// The stream's rows take their place, once it is complete.
    Overwrite,
    /// They stay; what comes is added.
    Append,
    /// They stay; what comes replaces the row with the same key.
    Dedup,
}

/// A stream to read, and from where.
#[derive(Clone, Debug)]
pub struct StreamRead {
    pub stream: StreamSpec,
    /// `None`: from the beginning.
    pub position: Option<Position>,
}

/// What a feed brings. `stream` is the index among the streams that were asked for.
#[derive(Clone, Debug)]
pub enum FeedItem {
    /// Whole lines of COPY text: the stream's interval, then its columns in order.
    Lines {
        stream: usize,
        lines: Bytes,
        rows: u64,
    },
    /// A row that cannot be written as a line.
    Refused { stream: usize, row: RefusedRow },
    /// From here on a column needs another type, which holds all values of the old one.
    Widened {
        stream: usize,
        column: String,
        sql_type: String,
    },
    /// The present interval holds all rows whose `column` is `value`: those of earlier loads go.
    Replaces {
        stream: usize,
        column: String,
        value: String,
    },
    /// Everything sent so far of these streams is covered, and their intervals end here.
    State { positions: Vec<(usize, Position)> },
    /// The stream has sent all that it has.
    Completed { stream: usize },
}

/// A row that did not land, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Where it stands in its source, or its key.
    pub key: Option<String>,
    pub column: Option<String>,
    pub reason: String,
    /// As the source wrote it.
    pub row: String,
}

/// The feed of one read. It ends after the last item, or with an error; what a state has covered
/// before the error counts.
pub type Feed = BoxStream<'static, Result<FeedItem, SourceError>>;

/// A source that speaks in records.
#[async_trait]
pub trait RecordReader: Send + Sync {
    /// The streams that are configured, with their present columns.
    ///
    /// # Errors
    /// As [`SourceReader::tables`](crate::segment::SourceReader::tables).
    async fn streams(&self) -> Result<Vec<StreamSpec>, SourceError>;

    /// Reads these streams, each from its position; `None` when nothing lies past them.
    ///
    /// # Errors
    /// As [`SourceReader::open`](crate::segment::SourceReader::open).
    async fn read(&self, streams: Vec<StreamRead>) -> Result<Option<Feed>, SourceError>;
}

/// Appends `text` to a line of COPY text: what has a meaning there is escaped.
pub fn push_copy_text(line: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => continue,
        };
        line.extend_from_slice(&bytes[from..at]);
        line.extend_from_slice(&[b'\\', escaped]);
        from = at + 1;
    }
    line.extend_from_slice(&bytes[from..]);
}

/// The fields of a line of COPY text, unescaped; `None` is null. Only of lines that
/// [`push_copy_text`] wrote.
pub fn split_copy_line(line: &[u8]) -> Vec<Option<String>> {
    line.split(|byte| *byte == b'\t')
        .map(|field| {
            if field == b"\\N" {
                return None;
            }
            let mut text = Vec::with_capacity(field.len());
            let mut bytes = field.iter();
            while let Some(byte) = bytes.next() {
                text.push(match (byte, byte == &b'\\') {
                    (_, false) => *byte,
                    (_, true) => match bytes.next() {
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(other) => *other,
                        None => b'\\',
                    },
                });
            }
            Some(String::from_utf8_lossy(&text).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_comes_back() {
        for text in ["", "plain", "a\tb\nc\rd\\e", "\\N", "ü\u{1}\\"] {
            let mut line = b"7\t".to_vec();
            push_copy_text(&mut line, text);
            line.extend_from_slice(b"\t\\N");
            let fields = split_copy_line(&line);
            assert_eq!(
                fields,
                [Some("7".to_owned()), Some(text.to_owned()), None],
                "{line:?}"
            );
        }
    }
}
