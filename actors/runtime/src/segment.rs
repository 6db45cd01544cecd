//! How `source` and `loader` meet: a bounded stream of COPY bytes with the position it reaches.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// A table's schema and name as PostgreSQL spells them, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
}

/// How a table is kept up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum SyncMode {
    /// The whole table each time, swapped in.
    FullRefresh,
    /// What moved past the cursor, merged by primary key where there is one, appended otherwise.
    Incremental { cursor: String },
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullRefresh => f.write_str("full_refresh"),
            Self::Incremental { cursor } => write!(f, "incremental by {cursor}"),
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

/// Rows of one table read under one snapshot.
pub struct Segment {
    pub spec: TableSpec,
    pub write: WriteMode,
    /// Committed with the rows, in the same transaction.
    pub position: Position,
    /// COPY BINARY of `spec.columns` in their order, header and trailer included, undecoded, in
    /// chunks of about 64 KiB.
    pub rows: BoxStream<'static, Result<Bytes, SourceError>>,
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

    /// Opens what lies past `position` (`None`: everything), or `None` when nothing does.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError>;
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
