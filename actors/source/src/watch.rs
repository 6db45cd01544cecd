//! What the watcher does at each tick: one cheap look at the source, compared with the checkpoints.
//!
//! When the look equals the last one, nothing was committed and no counter reported: that is all. Else
//! the indexes are asked how far they reach (one query for many tables) and the loader's checkpoints
//! how far raw is; tables that differ are announced.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{
    Position, SourceError, SourceReader, SyncMode, TableName, TableSpec,
};
use ballpoint_runtime::store::{Store, StoreError};
use ballpoint_runtime::trace::TraceContext;
use sqlx::postgres::PgConnection;

use crate::catalog::SourceTable;
use crate::position::CursorPosition;
use crate::probe::{self, Extents, Look};
use crate::reader::PostgresSource;

mod schema;

use schema::Schema;

/// A look is a matter of milliseconds; a source that takes this long does not answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// New tables, keys and indexes are noticed within this.
const CATALOG_MAX_AGE: Duration = Duration::from_secs(10);
/// An announced change whose checkpoint does not move is announced again after this …
const REPEAT: Duration = Duration::from_secs(15);
/// … and after this if the table has moved on since.
const REPEAT_MOVED: Duration = Duration::from_secs(1);

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a look saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Tables that are watched.
    pub tables: usize,
    /// Whether a change was announced.
    pub changed: bool,
}

/// The watch over one source.
#[derive(Debug)]
pub struct Watch {
    source: Arc<PostgresSource>,
    store: Store,
    connection: Option<PgConnection>,
    catalog: Option<(Instant, Vec<(SourceTable, TableSpec)>)>,
    last: Option<Look>,
    announced: HashMap<TableName, Announced>,
    schema: Schema,
}

/// A change that was announced and not seen loaded yet.
#[derive(Debug)]
struct Announced {
    at: Instant,
    extents: Extents,
    checkpoint: Option<Position>,
}

impl Watch {
    pub(crate) fn new(source: Arc<PostgresSource>, store: Store) -> Self {
        Self {
            source,
            store,
            connection: None,
            catalog: None,
            last: None,
            announced: HashMap::new(),
            schema: Schema::default(),
        }
    }

    /// Looks once and announces what moved. After an error everything is asked afresh.
    pub(crate) async fn look(&mut self) -> Result<Seen, WatchError> {
        let looked = match tokio::time::timeout(LOOK_TIMEOUT, self.look_afresh()).await {
            Ok(looked) => looked,
            Err(_) => Err(WatchError::Source(SourceError::Unavailable {
                source_name: self.source.name().to_owned(),
                reason: format!("no answer within {} s", LOOK_TIMEOUT.as_secs()),
            })),
        };
        if looked.is_err() {
            self.connection = None;
            self.catalog = None;
            self.last = None;
        }
        looked
    }

    /// A table that was dropped or renamed since the catalog was read fails the look, not the source.
    async fn look_afresh(&mut self) -> Result<Seen, WatchError> {
        let cached = self.catalog.is_some();
        match self.try_look().await {
            Err(WatchError::Source(SourceError::Configuration { .. })) if cached => {
                self.catalog = None;
                self.try_look().await
            }
            looked => looked,
        }
    }

    async fn try_look(&mut self) -> Result<Seen, WatchError> {
        let tables = self.tables().await?;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.source.connections().acquire(STATEMENT_TIMEOUT).await?,
        };
        let oids: Vec<i64> = tables.iter().map(|(table, _)| table.oid).collect();
        let failed = |error: sqlx::Error| self.source.connections().failure(&error);
        let look = probe::look(&mut connection, &oids).await.map_err(failed)?;
        let mut seen = Seen {
            tables: tables.len(),
            changed: false,
        };
        let reshaped = std::mem::take(&mut self.schema.changed);
        if !reshaped.is_empty() {
            // Should it be lost, the next look at the catalog finds the same.
            self.announce(reshaped).await?;
            seen.changed = true;
        }
        if self.last.as_ref() != Some(&look) || !self.announced.is_empty() {
            let extents = probe::extents_of_all(&mut connection, &tables)
                .await
                .map_err(failed)?;
            let moved = self.moved(&look, &tables, extents).await?;
            if !moved.is_empty() {
                self.announce(moved.iter().map(|(table, _)| table.clone()).collect())
                    .await?;
                // What could not be announced is found moved again by the next look.
                self.announced.extend(moved);
                seen.changed = true;
            }
        }
        self.connection = Some(connection);
        self.last = Some(look);
        self.catalog
            .get_or_insert_with(|| (Instant::now(), Vec::new()))
            .1 = tables;
        Ok(seen)
    }

    /// The watched tables; taken out of the cache, and put back by a look that succeeds.
    async fn tables(&mut self) -> Result<Vec<(SourceTable, TableSpec)>, WatchError> {
        if let Some((read, tables)) = &mut self.catalog
            && read.elapsed() < CATALOG_MAX_AGE
        {
            return Ok(std::mem::take(tables));
        }
        let chosen = self.source.chosen_tables().await?;
        let known = self.store.source_tables().of(self.source.name()).await?;
        let there: Vec<TableSpec> = chosen.iter().map(|(_, spec, _)| spec.clone()).collect();
        self.schema = schema::compare(&there, &known);
        self.catalog = Some((Instant::now(), Vec::new()));
        // Whoever follows the log needs nobody to look.
        Ok(chosen
            .into_iter()
            .filter(|(_, spec, _)| spec.mode != SyncMode::Cdc)
            .map(|(table, spec, _)| (table, spec))
            .collect())
    }

    /// The tables to announce now.
    async fn moved(
        &mut self,
        look: &Look,
        tables: &[(SourceTable, TableSpec)],
        extents: Vec<Extents>,
    ) -> Result<Vec<(TableName, Announced)>, WatchError> {
        let mut checkpoints: HashMap<TableName, Position> = self
            .store
            .checkpoints()
            .all()
            .await?
            .into_iter()
            .filter(|checkpoint| checkpoint.source == self.source.name())
            .map(|checkpoint| (checkpoint.table, checkpoint.position))
            .collect();
        let mut moved = Vec::new();
        for ((table, spec), extents) in tables.iter().zip(extents) {
            let checkpoint = checkpoints.remove(&table.table);
            let position = checkpoint.as_ref().and_then(CursorPosition::parse);
            let waits = self.schema.waiting.contains(&table.table);
            if waits || !probe::moved(look, table, spec, &extents, position.as_ref()) {
                self.announced.remove(&table.table);
                continue;
            }
            let announced = self.announced.get(&table.table);
            if announced.is_none_or(|before| before.is_due(&extents, checkpoint.as_ref())) {
                let now = Announced {
                    at: Instant::now(),
                    extents,
                    checkpoint,
                };
                moved.push((table.table.clone(), now));
            }
        }
        Ok(moved)
    }

    /// The trace of everything that follows from this change begins here.
    async fn announce(&self, tables: Vec<TableName>) -> Result<(), WatchError> {
        let source = self.source.name().to_owned();
        let span =
            tracing::info_span!(parent: None, "source.changed", %source, tables = tables.len());
        let trace = span.in_scope(TraceContext::current);
        let event = Event::SourceChanged { source, tables };
        self.store.events().publish(event, trace).await?;
        Ok(())
    }
}

impl Announced {
    /// Whether a table that has still moved is to be announced again. A checkpoint that moved means
    /// that the sync of the last announcement is over, and that this is a later change.
    fn is_due(&self, extents: &Extents, checkpoint: Option<&Position>) -> bool {
        let waited = self.at.elapsed();
        self.checkpoint.as_ref() != checkpoint
            || waited >= REPEAT
            || (self.extents != *extents && waited >= REPEAT_MOVED)
    }
}
