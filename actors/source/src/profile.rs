//! What a database is, for somebody who has never seen it: its tables, keys, comments and sizes from
//! the catalogue, and from a bounded sample the values that its columns take.
//!
//! **In**: a connection URL. **Out**: a [`DatabaseProfile`]. Everything is read in one READ ONLY
//! transaction with time-outs; a role with CONNECT, USAGE and SELECT is enough, and what it may not
//! read is named and left out. A table of any size costs about the same: large ones are sampled by
//! page, never scanned.

mod catalogue;
mod constraints;
mod sample;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ballpoint_runtime::segment::{SourceError, TableName};
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use crate::catalog;
use crate::connection::Connections;

/// One statement; a sample that takes longer is given up, its table is profiled without values.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// A column with more distinct values than this in its sample has no [`ColumnProfile::values`].
pub const VALUES_MAX: usize = 50;

/// A database as its catalogue and samples show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabaseProfile {
    /// The database's own name.
    pub database: String,
    /// Readable tables, by schema and name.
    pub tables: Vec<TableProfile>,
    /// Tables that the role may not read.
    pub unreadable: Vec<TableName>,
    /// Views, materialised views and foreign tables: they are not loaded, what they show is.
    pub views: Vec<TableName>,
}

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableProfile {
    pub oid: i64,
    pub table: TableName,
    pub comment: Option<String>,
    /// In the table's own order.
    pub columns: Vec<ColumnProfile>,
    /// In key order; empty when the table has none.
    pub primary_key: Vec<String>,
    /// Column sets, other than the primary key, that the database keeps unique.
    pub unique: Vec<Vec<String>>,
    pub foreign_keys: Vec<ForeignKey>,
    /// Rows by the planner's statistics; exact when the sample is complete.
    pub rows_estimated: i64,
    /// On disk, indexes not counted.
    pub bytes: i64,
    /// Rows that were looked at.
    pub sampled_rows: i64,
    /// The sample is the whole table: what it shows holds of every row at this moment.
    pub sample_complete: bool,
    /// Why there is no sample.
    pub sample_failure: Option<String>,
}

impl TableProfile {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnProfile {
    pub name: String,
    /// The type it lands as: `text` where the source's own type means nothing elsewhere.
    pub landed_type: String,
    /// The type below any domain, in PostgreSQL's spelling.
    pub base_type: String,
    pub comment: Option<String>,
    pub not_null: bool,
    /// Filled by the database: identity, `serial` or generated.
    pub generated: bool,
    /// Of an enum, in its order.
    pub enum_labels: Vec<String>,
    /// Named one by one in a check constraint.
    pub checked_values: Vec<String>,
    /// Every value of the sample, sorted, when there are at most [`VALUES_MAX`].
    pub values: Vec<String>,
    /// Distinct values of the sample, or by the planner's statistics where the sample is a part.
    pub distinct: Option<i64>,
    /// Rows of the sample with a value.
    pub filled: Option<i64>,
    /// Least value of numbers and times.
    pub min: Option<String>,
    /// Greatest value of numbers and times.
    pub max: Option<String>,
}

/// A reference to another table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    pub columns: Vec<String>,
    /// [`TableProfile::oid`] of the table referred to.
    pub target: i64,
    pub target_columns: Vec<String>,
}

/// Profiles the database at `url`; `name` stands for it in errors. `progress` is told each table
/// before it is sampled.
///
/// # Errors
/// [`SourceError::Unavailable`] when the database does not answer, [`SourceError::Configuration`]
/// when it refuses or its URL cannot be read.
pub async fn profile(
    name: &str,
    url: &str,
    progress: &(dyn Fn(&TableName) + Sync),
) -> Result<DatabaseProfile, SourceError> {
    let connections = Connections::new(name, url)?;
    let mut connection = connections.acquire(STATEMENT_TIMEOUT).await?;
    let read = read(&mut connection, progress).await;
    read.map_err(|error| connections.failure(&error))
}

async fn read(
    connection: &mut PgConnection,
    progress: &(dyn Fn(&TableName) + Sync),
) -> Result<DatabaseProfile, sqlx::Error> {
    connection
        .execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let mut profile = DatabaseProfile {
        database: sqlx::query_scalar("select current_database()::text")
            .fetch_one(&mut *connection)
            .await?,
        views: catalogue::views(connection).await?,
        ..DatabaseProfile::default()
    };
    let (readable, unreadable): (Vec<_>, Vec<_>) = catalog::read(connection, None)
        .await?
        .into_iter()
        .partition(|table| table.readable);
    profile.unreadable = unreadable.into_iter().map(|table| table.table).collect();
    profile.tables = catalogue::tables(connection, readable).await?;
    constraints::read(connection, &mut profile.tables).await?;
    for table in &mut profile.tables {
        progress(&table.table);
        sample::take(connection, table).await?;
    }
    connection.execute("COMMIT").await?;
    Ok(profile)
}
