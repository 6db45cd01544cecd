//! A large table in ranges of pages, read side by side under one snapshot.
//!
//! `ctid` is a row version's place: its page and its line there. PostgreSQL reads a range of it without
//! reading the pages outside, and a snapshot shows each row at one place, so that ranges without gap or
//! overlap hold each row once - also of a partitioned table, whose partitions are all read in each
//! range. The snapshot is exported by the transaction that decided what to read (or by a replication
//! slot) and taken up by the others.
//!
//! # What an earlier attempt has landed
//! Its snapshot S1 is gone; what remains is read under S2. A landed range still holds if the source's
//! pages show the same rows under S2: no version there is of a transaction ≥ `S1.xmin` (then each one
//! shown was finished, and shown, at S1), and they are as many as landed (then none has gone). Were one
//! range different, its rows may stand in another one now: the load starts over. Where changes since S1
//! are replayed afterwards, as from a replication slot, this does not matter.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use ballpoint_postgres::ident::quote_literal;
use ballpoint_runtime::segment::{
    LandedRange, PageRange, RangeReader, Ranges, RowStream, SourceError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};
use tokio::sync::oneshot;

use crate::catalog::SourceTable;
use crate::connection::Connections;
use crate::copy_stream::{self, After, Copy};
use crate::position::CursorPosition;

/// Which state of which table ranges are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// System identifier and timeline.
    pub(crate) cluster: String,
    /// Object and file ids of the table.
    pub(crate) storage: String,
    /// With their numbers: one that was dropped and made again is another one.
    pub(crate) columns: Vec<(String, i32)>,
    pub(crate) since: Since,
}

/// From where on the source may differ from the ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Since {
    /// The oldest transaction that was open at the snapshot: the ranges must still be what they were.
    Xmin(u64),
    /// The position in the log from which changes are replayed, as its reader spells it.
    Replayed(String),
}

impl Origin {
    /// The state in which a reading finds the table.
    pub(crate) fn of(position: &CursorPosition, table: &SourceTable) -> Self {
        Self {
            cluster: position.cluster.clone(),
            storage: position.storage.clone(),
            columns: columns_of(table),
            since: Since::Xmin(position.snapshot.xmin),
        }
    }
}

/// The columns that are read of a table, by name and number.
pub(crate) fn columns_of(table: &SourceTable) -> Vec<(String, i32)> {
    let columns = table.columns.iter();
    columns
        .map(|it| (it.column.name.clone(), it.origin.number))
        .collect()
}

/// What a reader of ranges reads.
#[derive(Clone, Debug)]
pub(crate) struct RangedTable {
    pub(crate) table: SourceTable,
    pub(crate) pages: u32,
    pub(crate) step: u32,
    pub(crate) origin: Origin,
}

/// Exports the snapshot of the transaction that `connection` is in.
pub(crate) async fn export(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select pg_export_snapshot()")
        .fetch_one(connection)
        .await
}

/// Begins a reading transaction under an exported snapshot.
pub(crate) fn begin_at(snapshot: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
         SET LOCAL statement_timeout = 0",
        quote_literal(snapshot)
    )
}

/// `first` and up to `readers - 1` further connections under its snapshot, as many as the source gives.
pub(crate) async fn open(
    connections: &Arc<Connections>,
    first: PgConnection,
    snapshot: &str,
    what: RangedTable,
    readers: usize,
    sent: &Arc<AtomicU64>,
) -> Ranges {
    let mut open = vec![first];
    while open.len() < readers {
        match another(connections, snapshot).await {
            Ok(connection) => open.push(connection),
            Err(error) => {
                tracing::debug!(%error, table = %what.table.table, "fewer readers than wanted");
                break;
            }
        }
    }
    let reader = |connection| -> Box<dyn RangeReader> {
        Box::new(CtidReader {
            connections: Arc::clone(connections),
            held: Held::Here(connection),
            what: what.clone(),
            sent: Arc::clone(sent),
        })
    };
    Ranges {
        pages: what.pages,
        step: what.step,
        origin: serde_json::to_value(&what.origin).expect("strings and numbers are JSON"),
        replayed: matches!(what.origin.since, Since::Replayed(_)),
        readers: open.into_iter().map(reader).collect(),
    }
}

async fn another(connections: &Connections, snapshot: &str) -> Result<PgConnection, SourceError> {
    let mut connection = connections.acquire(Duration::from_secs(30)).await?;
    connection
        .execute(AssertSqlSafe(begin_at(snapshot)))
        .await
        .map_err(|error| connections.failure(&error))?;
    Ok(connection)
}

/// Reads ranges on one connection.
struct CtidReader {
    connections: Arc<Connections>,
    held: Held,
    what: RangedTable,
    sent: Arc<AtomicU64>,
}

/// Where the connection is.
enum Held {
    Here(PgConnection),
    /// With the stream of the latest range, which gives it back at its end.
    Reading(oneshot::Receiver<PgConnection>),
    Lost,
}

impl CtidReader {
    async fn take(&mut self) -> Result<PgConnection, SourceError> {
        let taken = match std::mem::replace(&mut self.held, Held::Lost) {
            Held::Here(connection) => Some(connection),
            Held::Reading(back) => back.await.ok(),
            Held::Lost => None,
        };
        taken.ok_or_else(|| {
            let table = &self.what.table.table;
            self.connections
                .read_failure(table, &sqlx::Error::WorkerCrashed)
        })
    }

    fn condition(range: PageRange) -> String {
        match range {
            PageRange { from: 0, to: None } => "true".to_owned(),
            PageRange { from, to: None } => format!("ctid >= '({from},0)'"),
            PageRange { from, to: Some(to) } => {
                format!("ctid >= '({from},0)' and ctid < '({to},0)'")
            }
        }
    }

    /// Whether each landed range shows the same rows as when it landed.
    async fn unchanged(
        &self,
        connection: &mut PgConnection,
        xmin: u64,
        landed: &[LandedRange],
    ) -> Result<bool, sqlx::Error> {
        for LandedRange { range, rows } in landed {
            let sql = format!(
                "select count(*), count(*) filter (where age(xmin) <= age('{}'::xid))
                 from {} where {}",
                xmin & u64::from(u32::MAX),
                self.what.table.quoted(),
                self.what.table.where_fits(&Self::condition(*range)),
            );
            let (now, newer): (i64, i64) = sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
            if newer > 0 || u64::try_from(now) != Ok(*rows) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether ranges of `then` can be taken for ranges of `now`, apart from changed rows.
fn comparable(then: &Origin, now: &Origin) -> bool {
    let same =
        (&then.cluster, &then.storage, &then.columns) == (&now.cluster, &now.storage, &now.columns);
    same && match (&then.since, &now.since) {
        (Since::Replayed(then), Since::Replayed(now)) => then == now,
        // Row ids compare on a circle of 2^32.
        (Since::Xmin(then), Since::Xmin(now)) => {
            now.checked_sub(*then).is_some_and(|n| n < 1 << 30)
        }
        _ => false,
    }
}

#[async_trait]
impl RangeReader for CtidReader {
    async fn still_holds(
        &mut self,
        origin: &Value,
        landed: &[LandedRange],
    ) -> Result<bool, SourceError> {
        let Ok(then) = serde_json::from_value::<Origin>(origin.clone()) else {
            return Ok(false);
        };
        if !comparable(&then, &self.what.origin) {
            return Ok(false);
        }
        let Since::Xmin(xmin) = then.since else {
            return Ok(true);
        };
        let mut connection = self.take().await?;
        let unchanged = self.unchanged(&mut connection, xmin, landed).await;
        let unchanged = unchanged.map_err(|error| self.connections.failure(&error))?;
        self.held = Held::Here(connection);
        Ok(unchanged)
    }

    async fn read(&mut self, range: PageRange) -> Result<RowStream, SourceError> {
        let connection = self.take().await?;
        let (give, back) = oneshot::channel();
        self.held = Held::Reading(back);
        let table = &self.what.table;
        let sql = format!(
            "COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT binary)",
            table.select_list(),
            table.quoted(),
            table.where_fits(&Self::condition(range)),
        );
        let copy = Copy {
            table: table.table.clone(),
            sql,
            sent: Arc::clone(&self.sent),
            after: After::Return(give),
        };
        Ok(copy_stream::rows(
            Arc::clone(&self.connections),
            connection,
            copy,
        ))
    }

    async fn end(mut self: Box<Self>) {
        // A transaction that cannot be ended goes with its connection.
        if let Ok(mut connection) = self.take().await
            && connection.execute("COMMIT").await.is_ok()
        {
            self.connections.give_back(connection);
        }
    }
}
