//! Reads a PostgreSQL source: COPY BINARY of one table under one snapshot, values never decoded.
//!
//! The order of statements is what makes a segment exact: the change counters first, then a
//! transaction (REPEATABLE READ, READ ONLY) whose first act is an ACCESS SHARE lock on the table, so
//! that its columns cannot change under the snapshot taken next; then everything else - extents, counts
//! and rows - under that one snapshot. See [`crate::position`] for what is read and why it suffices.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::changes::ChangeSource;
use ballpoint_runtime::segment::{
    Checksum, Position, Rows, SchemaPolicy, Segment, SourceError, SourceReader, Survey, TableName,
    TableSpec, TableTrouble, WriteMode,
};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::catalog::{self, SourceTable};
use crate::cdc::ChangeLog;
use crate::cdc::preflight::{self, Preflight};
use crate::config::{Mode, PostgresSourceConfig, TablePatterns};
use crate::connection::{Connections, configuration};
use crate::copy_stream;
use crate::mode::{Chosen, TableChoice, choose};
use crate::position::{CursorPosition, Reading};
use crate::probe;
use crate::ranges::{self, Origin};
use crate::selection::{self, Opened};

mod whole;

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
    /// What the source said of its log when its tables were last looked at.
    log: Mutex<Arc<Preflight>>,
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
            log: Mutex::default(),
        })
    }

    /// Each chosen table's mode, and why it is that one; and the tables that cannot be read as they
    /// are configured.
    ///
    /// # Errors
    /// As [`SourceReader::tables`].
    pub async fn explain_mode(&self) -> Result<(Vec<TableChoice>, Vec<TableTrouble>), SourceError> {
        let found = self.look_at_tables(true).await?;
        let explained = found.chosen.into_iter().map(|(_, chosen)| TableChoice {
            table: chosen.spec.table,
            mode: chosen.spec.mode,
            append: chosen.spec.options.append,
            reason: chosen.reason,
            better: chosen.better,
        });
        Ok((explained.collect(), found.troubled))
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub(crate) fn config(&self) -> &PostgresSourceConfig {
        &self.config
    }

    /// The tables that the patterns choose, with what the catalog says of them. One that cannot be
    /// read as it is configured is left out, and keeps the others from nothing.
    pub(crate) async fn chosen_tables(
        &self,
    ) -> Result<Vec<(SourceTable, TableSpec, String)>, SourceError> {
        let found = self.look_at_tables(self.follows()).await?;
        let chosen = found.chosen.into_iter();
        Ok(chosen
            .map(|(table, chosen)| (table, chosen.spec, chosen.reason))
            .collect())
    }

    /// The names of the tables that the patterns choose and the configured user may read: one
    /// question, for whoever wants no more.
    ///
    /// # Errors
    /// When the source does not answer.
    pub async fn table_names(&self) -> Result<Vec<TableName>, SourceError> {
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        let tables = catalog::tables(&mut connection, None)
            .await
            .map_err(|error| self.connections.failure(&error))?;
        self.connections.give_back(connection);
        let chosen = |table: &SourceTable| table.readable && self.patterns.matches(&table.table);
        let chosen = tables.into_iter().filter(chosen);
        Ok(chosen.map(|table| table.table).collect())
    }

    /// `asking_the_log`: where no table is kept by it, only an explanation needs its answer.
    async fn look_at_tables(&self, asking_the_log: bool) -> Result<Looked, SourceError> {
        let failed = |error: sqlx::Error| self.connections.failure(&error);
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        let tables = catalog::read(&mut connection, None).await.map_err(failed)?;
        if asking_the_log {
            let log = preflight::of(&mut connection, &self.config.url).await;
            *self.log.lock().unwrap_or_else(PoisonError::into_inner) =
                Arc::new(log.map_err(failed)?);
        }
        self.connections.give_back(connection);
        let mut looked = Looked {
            troubled: self.missing(&tables),
            chosen: Vec::new(),
            left_out: Vec::new(),
        };
        for table in tables {
            if !self.patterns.matches(&table.table) {
                looked.left_out.push(table.table);
                continue;
            }
            match self.try_choose(&table) {
                Ok(chosen) => looked.chosen.push((table, chosen)),
                Err(reason) => looked.troubled.push(TableTrouble {
                    table: table.table,
                    reason,
                    missing: false,
                }),
            }
        }
        match (looked.chosen.as_slice(), looked.troubled.as_slice()) {
            ([], []) => Err(self.refuse("no table of the database matches `tables`")),
            _ => Ok(looked),
        }
    }

    fn choose(&self, table: &SourceTable) -> Result<(TableSpec, String), SourceError> {
        self.try_choose(table)
            .map(|chosen| (chosen.spec, chosen.reason))
            .map_err(|reason| self.refuse(&reason))
    }

    fn try_choose(&self, table: &SourceTable) -> Result<Chosen, String> {
        if !table.readable {
            let name = table.quoted();
            return Err(format!(
                "the configured user may not read {}: GRANT USAGE ON SCHEMA {}; GRANT SELECT ON {name}",
                table.table,
                quote(&table.table.schema),
            ));
        }
        choose(table, &self.config, &|oid| self.log_key(oid))
    }

    /// What the source's log says of a table.
    fn log_key(&self, oid: i64) -> Result<Vec<String>, String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.key(oid)
    }

    /// Tables named in the configuration that do not exist.
    fn missing(&self, tables: &[SourceTable]) -> Vec<TableTrouble> {
        let exists = |name: &str| {
            tables.iter().any(|t| {
                t.table.to_string() == name || (t.table.schema == "public" && t.table.name == name)
            })
        };
        let patterns = self.patterns.exact_names();
        let configured = self.config.table.keys().map(String::as_str);
        let mut missing: Vec<&str> = patterns.chain(configured).filter(|n| !exists(n)).collect();
        missing.sort_unstable();
        missing.dedup();
        let troubled = missing.into_iter().map(|name| {
            let (schema, table) = name.split_once('.').unwrap_or(("public", name));
            TableTrouble {
                table: TableName::new(schema, table),
                reason: format!("table {name} does not exist"),
                missing: true,
            }
        });
        troubled.collect()
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
        wanted: &TableSpec,
        previous: Option<&CursorPosition>,
        proving: bool,
    ) -> Result<(Option<Segment>, Option<Checksum>), SourceError> {
        let table = &wanted.table;
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        // After an error the connection is dropped, and the transaction with it.
        let mut found = self.begin(&mut connection, table).await?;
        leave_out(&mut found.table, wanted);
        let opened = self.read_on(&mut connection, &mut found, previous).await?;
        let checksum = match proving {
            true => Some(self.checksum(&mut connection, &found.table).await?),
            false => None,
        };
        let Some(opened) = opened else {
            self.end(connection).await;
            return Ok((None, checksum));
        };
        let sent = Arc::new(AtomicU64::new(0));
        let rows = match opened.copy {
            None => {
                self.end(connection).await;
                Rows::Stream(copy_stream::empty())
            }
            Some(_) if opened.write == WriteMode::Replace && self.is_large(opened.pages) => {
                let exported = ranges::export(&mut connection).await;
                let snapshot = exported.map_err(|error| self.connections.failure(&error))?;
                let origin = Origin::of(&opened.position, &found.table);
                let what = self.ranged(found.table, opened.pages, origin);
                self.in_ranges(connection, &snapshot, what, &sent).await
            }
            Some(sql) => self.in_one(connection, table, sql, &sent),
        };
        let segment = Segment {
            spec: opened.spec,
            write: opened.write,
            position: opened.position.to_position(),
            rows,
            sent: Some(sent),
            refused: opened.refused,
            expected: opened.expected,
            note_rows: opened.rows_unknown.then_some(CursorPosition::note_rows),
        };
        Ok((Some(segment), checksum))
    }

    async fn end(&self, mut connection: PgConnection) {
        if connection.execute("COMMIT").await.is_ok() {
            self.connections.give_back(connection);
        }
    }

    /// Begins the reading transaction, with the table locked before its snapshot is taken.
    async fn begin(
        &self,
        connection: &mut PgConnection,
        name: &TableName,
    ) -> Result<Found, SourceError> {
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
        let table = self.find(connection, name).await?;
        Ok(Found { table, counters })
    }

    async fn find(
        &self,
        connection: &mut PgConnection,
        name: &TableName,
    ) -> Result<SourceTable, SourceError> {
        let found = catalog::read(connection, Some(name)).await;
        let found = found.map_err(|error| self.connections.failure(&error))?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| self.refuse(&format!("table {name} does not exist")))
    }

    /// Decides what to copy in the reading transaction.
    async fn read_on(
        &self,
        connection: &mut PgConnection,
        found: &mut Found,
        previous: Option<&CursorPosition>,
    ) -> Result<Option<Opened>, SourceError> {
        let failed = |error: sqlx::Error| self.connections.failure(&error);
        let Found { table, counters } = found;
        let name = table.table.clone();
        let (spec, _) = self.choose(table)?;
        let present = probe::present(connection, table, &spec, counters)
            .await
            .map_err(failed)?;
        let sweep_allowed = self.sweep_allowed(&name);
        let reading = present.reading_after(previous, self.config.sweep_pages_max, sweep_allowed);
        tracing::debug!(source = %self.config.name, table = %name, ?reading, "reading");
        let started = Instant::now();
        let opened = selection::open(connection, table, spec, present, previous, &reading).await;
        if matches!(reading, Reading::Sweep { .. }) {
            self.swept(&name, started.elapsed());
        }
        opened.map_err(failed)
    }

    /// What the table holds, as the transaction of `connection` sees it.
    pub(crate) async fn checksum(
        &self,
        connection: &mut PgConnection,
        table: &SourceTable,
    ) -> Result<Checksum, SourceError> {
        let failed = |error: sqlx::Error| self.connections.failure(&error);
        connection
            .execute(Checksum::SETTINGS)
            .await
            .map_err(failed)?;
        let rows = format!("{} where {}", table.quoted(), table.where_fits("true"));
        let sql = Checksum::sql(&table.select_list(), &rows);
        let (rows, hash): (i64, String) = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        Ok(Checksum {
            rows: rows.unsigned_abs(),
            hash,
        })
    }
}

/// Where new columns are ignored, only those that are wanted are read.
pub(crate) fn leave_out(table: &mut SourceTable, wanted: &TableSpec) {
    if wanted.options.on_schema_change == SchemaPolicy::Ignore {
        let known = |name: &str| wanted.columns.iter().any(|column| column.name == name);
        table.columns.retain(|column| known(&column.column.name));
    }
}

/// What a look at the catalog found.
struct Looked {
    chosen: Vec<(SourceTable, Chosen)>,
    troubled: Vec<TableTrouble>,
    left_out: Vec<TableName>,
}

/// A table in the transaction that reads it, and its counters from just before.
struct Found {
    table: SourceTable,
    counters: probe::Counters,
}

#[async_trait]
impl SourceReader for PostgresSource {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn follows(&self) -> bool {
        let asked = |mode: Option<Mode>| mode == Some(Mode::Cdc);
        let by_default = self.config.follow_log && self.config.mode.is_none();
        by_default
            || asked(self.config.mode)
            || self.config.table.values().any(|table| asked(table.mode))
    }

    fn changes(&self) -> Option<Arc<dyn ChangeSource>> {
        let source = Self::new(self.config.clone()).ok()?;
        let log = ChangeLog::new(Arc::new(source)).ok()?;
        Some(Arc::new(log))
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        Ok(self
            .chosen_tables()
            .await?
            .into_iter()
            .map(|(_, spec, _)| spec)
            .collect())
    }

    async fn survey(&self) -> Result<Survey, SourceError> {
        let looked = self.look_at_tables(self.follows()).await?;
        let specs = looked.chosen.into_iter().map(|(_, chosen)| chosen.spec);
        Ok(Survey {
            tables: specs.collect(),
            troubled: looked.troubled,
            left_out: looked.left_out,
        })
    }

    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        let previous = position.and_then(CursorPosition::parse);
        Ok(self.read(spec, previous.as_ref(), false).await?.0)
    }

    async fn open_with_checksum(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<(Option<Segment>, Checksum), SourceError> {
        let previous = position.and_then(CursorPosition::parse);
        let (segment, checksum) = self.read(spec, previous.as_ref(), true).await?;
        Ok((segment, checksum.expect("it was asked for")))
    }
}

#[cfg(test)]
mod tests;
