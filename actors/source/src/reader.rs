//! Reads a PostgreSQL source: COPY BINARY of one table under one snapshot, values never decoded.
//!
//! The order of statements is what makes a segment exact: the change counters first, then a
//! transaction (REPEATABLE READ, READ ONLY) whose first act is an ACCESS SHARE lock on the table, so
//! that its columns cannot change under the snapshot taken next; then everything else - extents, counts
//! and rows - under that one snapshot. See [`crate::position`] for what is read and why it suffices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use ballpoint_runtime::segment::{
    Position, Segment, SourceError, SourceReader, SyncMode, TableName, TableSpec, WriteMode,
};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::catalog::{self, SourceTable};
use crate::config::{PostgresSourceConfig, TablePatterns};
use crate::connection::{Connections, configuration};
use crate::copy_stream;
use crate::mode::{TableChoice, choose};
use crate::position::{CursorPosition, Present, Reading};
use crate::probe;

/// Catalog and extent queries; reading rows has its own stall time-out instead.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(30);
/// Of its time, a source spends at most one part in this many on sweeps of large tables.
const SWEEP_DUTY: u32 = 20;

/// A PostgreSQL database as a source of segments.
#[derive(Debug)]
pub struct PostgresSource {
    config: PostgresSourceConfig,
    patterns: TablePatterns,
    connections: Arc<Connections>,
    /// When each large table was last swept and how long that took.
    sweeps: Mutex<HashMap<TableName, (Instant, Duration)>>,
}

impl PostgresSource {
    /// Prepares to read; connects when first used.
    ///
    /// # Errors
    /// [`SourceError::Configuration`] for a URL or a pattern that cannot be read.
    pub fn new(config: PostgresSourceConfig) -> Result<Self, SourceError> {
        let patterns = TablePatterns::compile(&config.tables)
            .map_err(|reason| configuration(&config.name, &reason))?;
        let connections = Arc::new(Connections::new(&config.name, &config.url)?);
        Ok(Self {
            config,
            patterns,
            connections,
            sweeps: Mutex::default(),
        })
    }

    /// Each chosen table's mode, and why it is that one.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    pub async fn explain_mode(&self) -> Result<Vec<TableChoice>, SourceError> {
        let chosen = self.chosen_tables().await?;
        Ok(chosen
            .into_iter()
            .map(|(_, spec, reason)| TableChoice {
                table: spec.table,
                mode: spec.mode,
                reason,
            })
            .collect())
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The tables that the patterns choose, with what the catalog says of them.
    pub(crate) async fn chosen_tables(
        &self,
    ) -> Result<Vec<(SourceTable, TableSpec, String)>, SourceError> {
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        let tables = catalog::read(&mut connection, None)
            .await
            .map_err(|error| self.connections.failure(&error))?;
        self.connections.give_back(connection);
        self.check_names(&tables)?;
        let mut chosen = Vec::new();
        for table in tables
            .into_iter()
            .filter(|table| self.patterns.matches(&table.table))
        {
            let (spec, reason) = self.choose(&table)?;
            chosen.push((table, spec, reason));
        }
        if chosen.is_empty() {
            return Err(self.refuse("no table of the database matches `tables`"));
        }
        Ok(chosen)
    }

    fn choose(&self, table: &SourceTable) -> Result<(TableSpec, String), SourceError> {
        if !table.readable {
            let name = table.quoted();
            return Err(self.refuse(&format!(
                "the configured user may not read {}: GRANT USAGE ON SCHEMA {}; GRANT SELECT ON {name}",
                table.table,
                quote(&table.table.schema),
            )));
        }
        choose(table, &self.config.of(&table.table), self.config.mode)
            .map_err(|reason| self.refuse(&reason))
    }

    /// Tables named in the configuration must exist.
    fn check_names(&self, tables: &[SourceTable]) -> Result<(), SourceError> {
        let exists = |name: &str| {
            tables.iter().any(|t| {
                t.table.to_string() == name || (t.table.schema == "public" && t.table.name == name)
            })
        };
        let patterns = self.patterns.exact_names();
        let configured = self.config.table.keys().map(String::as_str);
        match patterns.chain(configured).find(|name| !exists(name)) {
            Some(name) => Err(self.refuse(&format!("table {name} does not exist"))),
            None => Ok(()),
        }
    }

    fn refuse(&self, reason: &str) -> SourceError {
        configuration(&self.config.name, reason)
    }

    /// Large tables are swept when their last sweep lies long enough back, measured by its own cost.
    fn sweep_allowed(&self, table: &TableName) -> bool {
        let sweeps = self
            .sweeps
            .lock()
            .expect("no code panics while it holds this lock");
        sweeps
            .get(table)
            .is_none_or(|(ended, took)| ended.elapsed() >= *took * SWEEP_DUTY)
    }

    fn swept(&self, table: &TableName, took: Duration) {
        let mut sweeps = self
            .sweeps
            .lock()
            .expect("no code panics while it holds this lock");
        sweeps.insert(table.clone(), (Instant::now(), took));
    }

    async fn read(
        &self,
        table: &TableName,
        previous: Option<&CursorPosition>,
    ) -> Result<Option<Segment>, SourceError> {
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        match self.read_on(&mut connection, table, previous).await {
            Ok(Some(opened)) => {
                let rows = match opened.copy {
                    Some(copy) => copy_stream::rows(
                        Arc::clone(&self.connections),
                        connection,
                        table.clone(),
                        copy,
                    ),
                    None => {
                        self.end(connection).await;
                        copy_stream::empty()
                    }
                };
                let Opened {
                    spec,
                    write,
                    position,
                    ..
                } = opened;
                Ok(Some(Segment {
                    spec,
                    write,
                    position: position.to_position(),
                    rows,
                }))
            }
            Ok(None) => {
                self.end(connection).await;
                Ok(None)
            }
            // The connection is dropped, and the transaction with it.
            Err(error) => Err(error),
        }
    }

    async fn end(&self, mut connection: PgConnection) {
        if connection.execute("COMMIT").await.is_ok() {
            self.connections.give_back(connection);
        }
    }

    /// Begins the reading transaction and decides what to copy in it.
    async fn read_on(
        &self,
        connection: &mut PgConnection,
        name: &TableName,
        previous: Option<&CursorPosition>,
    ) -> Result<Option<Opened>, SourceError> {
        let failed = |error: sqlx::Error| self.connections.failure(&error);
        let counters = probe::counters_of(connection, name).await.map_err(failed)?;
        let lock = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
             LOCK TABLE {} IN ACCESS SHARE MODE",
            quote_qualified(&name.schema, &name.name)
        );
        connection
            .execute(AssertSqlSafe(lock))
            .await
            .map_err(failed)?;
        let found = catalog::read(connection, Some(name))
            .await
            .map_err(failed)?;
        let table = found
            .into_iter()
            .next()
            .ok_or_else(|| self.refuse(&format!("table {name} does not exist")))?;
        let (spec, _) = self.choose(&table)?;
        let present = probe::present(connection, &table, &spec, counters)
            .await
            .map_err(failed)?;
        let sweep_allowed = self.sweep_allowed(name);
        let reading = present.reading_after(previous, self.config.sweep_pages_max, sweep_allowed);
        tracing::debug!(source = %self.config.name, table = %name, ?reading, "reading");
        let started = Instant::now();
        let opened = open(connection, &table, spec, present, previous, &reading).await;
        if matches!(reading, Reading::Sweep { .. }) {
            self.swept(name, started.elapsed());
        }
        opened.map_err(failed)
    }
}

/// A segment whose rows do not flow yet.
struct Opened {
    spec: TableSpec,
    write: WriteMode,
    position: CursorPosition,
    /// `None`: there are no rows, only the position moves.
    copy: Option<String>,
}

/// Counts what `reading` selects and decides whether anything must be copied.
async fn open(
    connection: &mut PgConnection,
    table: &SourceTable,
    spec: TableSpec,
    present: Present,
    previous: Option<&CursorPosition>,
    reading: &Reading,
) -> Result<Option<Opened>, sqlx::Error> {
    let full_refresh = spec.mode == SyncMode::FullRefresh;
    let condition = condition(&spec, reading, &present);
    let counted = counted(
        connection,
        table,
        full_refresh,
        &condition,
        previous,
        reading,
    );
    let (selected, fresh, total) = counted.await?;
    let recounted = total.is_some() && previous.is_some_and(|previous| previous.rows != total);
    let reshaped = previous.is_some_and(|previous| previous.columns != present.columns);
    let changed = selected > 0 || recounted || (full_refresh && reshaped);
    let position = present.position(previous, reading, fresh, total);
    let write = match reading {
        Reading::Whole { .. } => WriteMode::Replace,
        _ if full_refresh => WriteMode::Replace,
        _ if spec.primary_key.is_empty() => WriteMode::Append,
        _ => WriteMode::Merge,
    };
    if !changed {
        if previous.is_some_and(|previous| previous.still_stands(&position)) {
            return Ok(None);
        }
        // An empty merge: a replacement by no rows would empty the table.
        let write = if write == WriteMode::Replace {
            WriteMode::Append
        } else {
            write
        };
        return Ok(Some(Opened {
            spec,
            write,
            position,
            copy: None,
        }));
    }
    let condition = if full_refresh {
        "true".to_owned()
    } else {
        condition
    };
    let copy = format!(
        "COPY (SELECT {} FROM {} WHERE {condition}) TO STDOUT (FORMAT binary)",
        table.select_list(),
        table.quoted(),
    );
    Ok(Some(Opened {
        spec,
        write,
        position,
        copy: Some(copy),
    }))
}

/// How many rows a reading selects, how many of them are new since the previous one, and how many
/// there are at all, where that is looked at.
async fn counted(
    connection: &mut PgConnection,
    table: &SourceTable,
    full_refresh: bool,
    condition: &str,
    previous: Option<&CursorPosition>,
    reading: &Reading,
) -> Result<(i64, i64, Option<i64>), sqlx::Error> {
    match (reading, previous) {
        (Reading::Whole { .. }, _) | (_, None) => {
            let total = if full_refresh {
                Some(count(connection, table).await?)
            } else {
                None
            };
            Ok((i64::MAX, 0, total))
        }
        (_, Some(previous)) => {
            let newer = format!("age(xmin) <= age({})", xid(previous.snapshot.xmax));
            let what = format!(
                "count(*) filter (where {condition}), count(*) filter (where {condition} and {newer})"
            );
            // A full refresh also counts every row: a deleted one leaves no new row behind.
            let sql = if full_refresh {
                format!("select {what}, count(*) from {}", table.quoted())
            } else {
                format!(
                    "select count(*), count(*) filter (where {newer}), null::bigint from {} where {condition}",
                    table.quoted()
                )
            };
            sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_one(connection)
                .await
        }
    }
}

async fn count(connection: &mut PgConnection, table: &SourceTable) -> Result<i64, sqlx::Error> {
    let sql = format!("select count(*) from {}", table.quoted());
    sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// The rows of `reading`, as SQL. `age()` compares transaction ids on their circle, against the
/// newest one given out when this transaction first asked.
fn condition(spec: &TableSpec, reading: &Reading, present: &Present) -> String {
    let appends = spec.primary_key.is_empty() && spec.mode != SyncMode::FullRefresh;
    let oldest_open = xid(present.snapshot.xmin);
    match reading {
        Reading::Whole { .. } if appends => {
            format!("not (age(xmin) between 0 and age({oldest_open}))")
        }
        Reading::Whole { .. } => "true".to_owned(),
        Reading::Sweep { from_xmin } if appends => format!(
            "age(xmin) <= age({}) and age(xmin) > age({oldest_open})",
            xid(*from_xmin)
        ),
        Reading::Sweep { from_xmin } => format!("age(xmin) <= age({})", xid(*from_xmin)),
        Reading::Narrow {
            from_xmin,
            cursor_from,
            key_from,
        } => {
            let cursor = match &spec.mode {
                SyncMode::Incremental { cursor } => Some(cursor),
                SyncMode::FullRefresh => None,
            };
            let bounds = [(cursor, cursor_from), (spec.primary_key.first(), key_from)];
            let bounds: Vec<String> = bounds
                .into_iter()
                .filter_map(|(column, from)| Some((column?, from.as_ref()?)))
                .map(|(column, from)| format!("{} >= {}", quote(column), quote_literal(from)))
                .collect();
            format!(
                "({}) and age(xmin) <= age({})",
                bounds.join(" or "),
                xid(*from_xmin)
            )
        }
    }
}

/// A 64-bit transaction id as the 32-bit one that rows carry.
fn xid(id: u64) -> String {
    format!("'{}'::xid", id & u64::from(u32::MAX))
}

#[async_trait]
impl SourceReader for PostgresSource {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        Ok(self
            .chosen_tables()
            .await?
            .into_iter()
            .map(|(_, spec, _)| spec)
            .collect())
    }

    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        let previous = position.and_then(CursorPosition::parse);
        self.read(&spec.table, previous.as_ref()).await
    }
}

#[cfg(test)]
mod tests;
