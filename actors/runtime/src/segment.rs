//! How `source` and `loader` meet: a bounded stream of COPY bytes with the position it reaches.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::changes::ChangeSource;
use crate::records::{RecordReader, RefusedRow};

/// A table's schema and name as PostgreSQL spells them, unquoted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A column as the source declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// PostgreSQL's spelling with its modifier, such as `numeric(6,2)`.
    pub sql_type: String,
    pub not_null: bool,
}

/// What the source knows of one table it was asked to replicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    pub table: TableName,
    pub columns: Vec<Column>,
    /// Empty when the table has none.
    pub primary_key: Vec<String>,
    pub mode: SyncMode,
    /// What is configured for it beside the mode.
    #[serde(default)]
    pub options: TableOptions,
    /// By what its columns are known again after a rename; empty where the source cannot tell.
    #[serde(default)]
    pub origin: Origin,
}

/// What is configured for a table beside its mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOptions {
    /// Rows are only ever added: a full refresh adds a generation, a changed row a version.
    pub append: bool,
    /// A row deleted in the source is marked in `_ab_cdc_deleted_at`, not deleted.
    pub soft_delete: bool,
    pub on_schema_change: SchemaPolicy,
    /// A row with a longer value is rejected, not loaded.
    pub max_value_bytes: Option<u64>,
}

/// What a change of a source's columns or tables leads to; the words are Airbyte's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    /// It is followed.
    #[default]
    Propagate,
    /// The table waits, with its last good rows, until somebody has looked.
    Pause,
    /// It is recorded and not followed: new columns and tables stay out.
    Ignore,
}

/// What identifies a table and its columns in the source whatever they are called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The table's object id; 0 where the source has none.
    pub oid: i64,
    /// What holds its rows on the source's disk: another one once they were all written anew. 0 where
    /// it is not one.
    pub file: i64,
    /// Of each column, in the order of [`TableSpec::columns`].
    pub columns: Vec<ColumnOrigin>,
    /// The same of what its log says of them; empty where it has none.
    pub types: Vec<ColumnType>,
}

/// A column's type as a source's log names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnType {
    pub id: u32,
    pub modifier: i32,
    /// Whether its binary form is that of the column it lands in.
    pub is_portable: bool,
}

/// What identifies a column in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnOrigin {
    /// Its number in the table, which no rename changes.
    pub number: i32,
    /// Its type as the source declares it; an enum's with its labels.
    pub declared: String,
}

/// How a table is kept up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum SyncMode {
    /// The whole table each time, swapped in.
    FullRefresh,
    /// What moved past the cursor, merged by primary key where there is one, appended otherwise.
    Incremental { cursor: String },
    /// Every committed change, from the source's log.
    Cdc,
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullRefresh => f.write_str("full_refresh"),
            Self::Incremental { cursor } => write!(f, "incremental by {cursor}"),
            Self::Cdc => f.write_str("cdc"),
        }
    }
}

/// What the loader does with a segment's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// The rows are the table: swap them in.
    Replace,
    /// The rows are new or changed: merge by primary key.
    Merge,
    /// The rows are new and have no key.
    Append,
}

/// Where a table stands after a segment. Written by the loader in the transaction of its rows,
/// read only by the source that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub serde_json::Value);

/// COPY BINARY of a table's columns in their order, header and trailer included, undecoded, in chunks
/// of about 64 KiB.
pub type RowStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Rows of one table read under one snapshot.
pub struct Segment {
    pub spec: TableSpec,
    pub write: WriteMode,
    /// Committed with the rows, in the same transaction.
    pub position: Position,
    pub rows: Rows,
    /// How many rows `rows` has sent so far, as the source counts them; `None` where it does not. Once
    /// the rows have ended it is what must have landed or been rejected.
    pub sent: Option<Arc<AtomicU64>>,
    /// Rows that the source does not send, because a value is too long: they are kept in `_rejected`.
    /// Not counted in `sent`.
    pub refused: Vec<RefusedRow>,
    /// About how many rows there are, for whoever waits.
    pub expected: Option<u64>,
    /// Writes the number of rows that were read into `position`, where that keeps it.
    pub note_rows: Option<fn(&mut Position, u64)>,
}

impl Segment {
    /// Rows in one stream, which nobody counts on the source's side.
    pub fn of_stream(
        spec: TableSpec,
        write: WriteMode,
        position: Position,
        rows: RowStream,
    ) -> Self {
        Self {
            spec,
            write,
            position,
            rows: Rows::Stream(rows),
            sent: None,
            refused: Vec::new(),
            expected: None,
            note_rows: None,
        }
    }
}

/// A segment's rows on their way.
pub enum Rows {
    /// All of them, in one COPY.
    Stream(RowStream),
    /// A large table's, in ranges that are read side by side ([`WriteMode::Replace`] only).
    Ranges(Ranges),
}

/// A table in ranges of pages, each a COPY of its own, all under one snapshot. The loader lands them
/// beside the table that readers see, each with a note of it in one transaction, so that an
/// interrupted load goes on with those that are missing.
pub struct Ranges {
    /// Of the table when it was opened; a later page holds no row of the snapshot.
    pub pages: u32,
    /// How many pages a range has.
    pub step: u32,
    /// Which state of which table this is; kept with the landed ranges for [`RangeReader::still_holds`].
    pub origin: serde_json::Value,
    /// Whether changes since `origin` are replayed after the rows: ranges of several snapshots may then
    /// hold two versions of one key, of which any one is right.
    pub replayed: bool,
    /// At least one; each reads a range at a time.
    pub readers: Vec<Box<dyn RangeReader>>,
}

/// Reads ranges of one table, one after the other, under the segment's snapshot.
#[async_trait]
pub trait RangeReader: Send {
    /// Whether ranges that landed under `origin`, maybe of an earlier process, are what the source holds
    /// there now, or what replaying mends.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    async fn still_holds(
        &mut self,
        origin: &serde_json::Value,
        landed: &[LandedRange],
    ) -> Result<bool, SourceError>;

    /// The rows of a range. The stream before must have ended.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    async fn read(&mut self, range: PageRange) -> Result<RowStream, SourceError>;

    /// Ends the reading transaction.
    async fn end(self: Box<Self>);
}

/// Pages `from..to` of a table; without `to`, all from `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageRange {
    pub from: u32,
    pub to: Option<u32>,
}

/// A range whose rows are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandedRange {
    pub range: PageRange,
    pub rows: u64,
}

impl PageRange {
    /// The ranges of about `step` pages that, with `landed`, make up a table of `pages`. Only the last
    /// one has no end.
    pub fn remaining(pages: u32, step: u32, landed: &[LandedRange]) -> Vec<Self> {
        let mut landed: Vec<Self> = landed.iter().map(|it| it.range).collect();
        landed.sort_unstable();
        let mut remaining = Vec::new();
        let mut from = 0;
        for there in landed {
            split(from, there.from, step, &mut remaining);
            match there.to {
                Some(to) => from = to,
                None => return remaining,
            }
        }
        let before = remaining.len();
        split(from, pages, step, &mut remaining);
        match remaining[before..].last_mut() {
            Some(last) => last.to = None,
            None => remaining.push(Self { from, to: None }),
        }
        remaining
    }
}

fn split(from: u32, to: u32, step: u32, into: &mut Vec<PageRange>) {
    let mut at = from;
    while at < to {
        // A short rest joins the range before it.
        let end = match to - at {
            rest if rest < step.saturating_mul(3) / 2 => to,
            _ => at + step.max(1),
        };
        into.push(PageRange {
            from: at,
            to: Some(end),
        });
        at = end;
    }
}

/// A table's rows as a whole, whatever their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub rows: u64,
    /// The sum of a hash of each row's text, over the columns of the spec.
    pub hash: String,
}

impl Checksum {
    /// What shapes the text of values, in the transaction of the query.
    pub const SETTINGS: &'static str = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; \
         SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 3; \
         SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'";

    /// The query for it: `select` is a row's columns, each in its text form or one that has it.
    pub fn sql(select: &str, from: &str) -> String {
        format!(
            "select count(*), coalesce(sum(hashtextextended(row({select})::text collate \"C\", 0)), 0)::text
             from {from}"
        )
    }
}

/// What a source has of what is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    pub tables: Vec<TableSpec>,
    pub troubled: Vec<TableTrouble>,
    /// Tables that are there and not asked for.
    pub left_out: Vec<TableName>,
}

/// A table that cannot be read as it is configured, while others can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTrouble {
    pub table: TableName,
    pub reason: String,
    /// It is named in the configuration and is not there.
    pub missing: bool,
}

/// A source that can be replicated. One implementation a kind; the loader sees nothing else.
#[async_trait]
pub trait SourceReader: Send + Sync + 'static {
    /// The source's name in the configuration.
    fn name(&self) -> &str;

    /// The tables that match the configured patterns, with their present columns.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] is retried by the caller, the others are configuration.
    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError>;

    /// Whether tables are meant to be kept by its log.
    fn follows(&self) -> bool {
        false
    }

    /// Its log, if it keeps one that can be followed.
    fn changes(&self) -> Option<Arc<dyn ChangeSource>> {
        None
    }

    /// The other way to read it: `Some` of a source that speaks in records of several streams, whose
    /// [`SourceReader::open`] is then never called.
    fn records(&self) -> Option<&dyn RecordReader> {
        None
    }

    /// [`SourceReader::tables`], and beside them the ones that cannot be read as they are configured.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    async fn survey(&self) -> Result<Survey, SourceError> {
        Ok(Survey {
            tables: self.tables().await?,
            ..Survey::default()
        })
    }

    /// Opens what lies past `position` (`None`: everything), or `None` when nothing does.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError>;

    /// [`SourceReader::open`], with the table's checksum under the same snapshot.
    ///
    /// # Errors
    /// As [`SourceReader::tables`]; [`SourceError::Configuration`] from a source that has no checksums.
    async fn open_with_checksum(
        &self,
        spec: &TableSpec,
        _position: Option<&Position>,
    ) -> Result<(Option<Segment>, Checksum), SourceError> {
        Err(SourceError::Configuration {
            source_name: self.name().to_owned(),
            reason: format!(
                "{} cannot be compared: this kind of source has no checksums",
                spec.table
            ),
        })
    }
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Down, refusing, slow: retried with backoff.
    #[error("source {source_name} is not reachable: {reason}")]
    Unavailable { source_name: String, reason: String },
    /// Needs the user: a missing table, a cursor column that does not exist, a right that is missing.
    #[error("source {source_name}: {reason}")]
    Configuration { source_name: String, reason: String },
    /// The connection broke while rows were flowing; the segment is lost, nothing was committed.
    #[error("source {source_name}: reading {table} failed: {reason}")]
    Read {
        source_name: String,
        table: TableName,
        reason: String,
    },
}

impl SourceError {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Configuration { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u32, to: Option<u32>) -> PageRange {
        PageRange { from, to }
    }

    fn landed(from: u32, to: Option<u32>) -> LandedRange {
        LandedRange {
            range: range(from, to),
            rows: 1,
        }
    }

    #[test]
    fn ranges_cover_a_table_once_and_the_last_has_no_end() {
        let all = PageRange::remaining(9, 4, &[]);
        assert_eq!(all, [range(0, Some(4)), range(4, None)]);
        let all = PageRange::remaining(12, 4, &[]);
        assert_eq!(all, [range(0, Some(4)), range(4, Some(8)), range(8, None)]);
        assert_eq!(PageRange::remaining(0, 4, &[]), [range(0, None)]);
    }

    #[test]
    fn what_has_landed_is_left_out() {
        let first = [landed(4, Some(8))];
        let rest = PageRange::remaining(12, 4, &first);
        assert_eq!(rest, [range(0, Some(4)), range(8, None)]);
        let last = [landed(8, None), landed(0, Some(4))];
        assert_eq!(PageRange::remaining(12, 4, &last), [range(4, Some(8))]);
        let grown = [landed(0, Some(4)), landed(4, Some(8))];
        assert_eq!(PageRange::remaining(8, 4, &grown), [range(8, None)]);
        assert_eq!(PageRange::remaining(8, 4, &[landed(0, None)]), []);
        let shrunk = [landed(4, Some(12))];
        let rest = PageRange::remaining(4, 4, &shrunk);
        assert_eq!(rest, [range(0, Some(4)), range(12, None)]);
    }
}
