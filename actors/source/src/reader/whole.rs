//! The rows of a table as they flow: in one copy, or, where a table is worth a second connection, in
//! ranges of its pages; and a whole table under a snapshot that somebody else keeps.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ballpoint_postgres::ident::quote_qualified;
use ballpoint_runtime::segment::{
    Position, Rows, Segment, SourceError, TableName, TableSpec, WriteMode,
};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::{CATALOG_TIMEOUT, PostgresSource, leave_out};
use crate::catalog::SourceTable;
use crate::copy_stream::{self, After, Copy};
use crate::ranges::{self, Origin, RangedTable, Since};
use crate::selection::copy_out;
use crate::{oversize, probe};

/// Whether a table's rows, or a partition's, stand in another file than the snapshot's catalog says: the
/// function answers by the present one.
const REWRITTEN: &str = "
select exists (select from (select relid::oid from pg_partition_tree($1::bigint::oid)
                            union select $1::bigint::oid) p(relid)
               join pg_class c on c.oid = p.relid
               where c.relkind = 'r' and c.relfilenode <> pg_relation_filenode(c.oid))";

impl PostgresSource {
    /// Whether a table of so many pages is worth a second connection.
    pub(super) fn is_large(&self, pages: i64) -> bool {
        pages >= i64::from(self.config.range_pages).saturating_mul(2)
    }

    pub(super) fn ranged(&self, table: SourceTable, pages: i64, origin: Origin) -> RangedTable {
        RangedTable {
            table,
            pages: u32::try_from(pages).unwrap_or(u32::MAX),
            step: self.config.range_pages,
            origin,
        }
    }

    /// The table in ranges, under the exported snapshot of the transaction that `connection` is in.
    pub(super) async fn in_ranges(
        &self,
        connection: PgConnection,
        snapshot: &str,
        what: RangedTable,
        sent: &Arc<AtomicU64>,
    ) -> Rows {
        let (connections, readers) = (&self.connections, self.config.readers);
        let opened = ranges::open(connections, connection, snapshot, what, readers, sent);
        Rows::Ranges(opened.await)
    }

    /// What `sql` copies, in the transaction that `connection` is in, and its end.
    pub(super) fn in_one(
        &self,
        connection: PgConnection,
        table: &TableName,
        sql: String,
        sent: &Arc<AtomicU64>,
    ) -> Rows {
        let copy = Copy {
            table: table.clone(),
            sql,
            sent: Arc::clone(sent),
            after: After::Commit,
        };
        let connections = Arc::clone(&self.connections);
        Rows::Stream(copy_stream::rows(connections, connection, copy))
    }

    /// A transaction under a snapshot that somebody else has exported, such as a new replication slot's,
    /// and the columns of a table that are followed, in it. The snapshot shows the catalog as it was, but
    /// PostgreSQL reads rows by the catalog as it is, and shows none that were all written anew since: both
    /// have to be what is wanted, and the rows where they were.
    ///
    /// # Errors
    /// As [`ballpoint_runtime::segment::SourceReader::open`]; [`SourceError::Unavailable`] also where the
    /// table is not what it was when `wanted` was made, or when the snapshot was.
    pub(crate) async fn under(
        &self,
        snapshot: &str,
        wanted: &TableSpec,
    ) -> Result<(PgConnection, SourceTable), SourceError> {
        let table = &wanted.table;
        let mut connection = self.connections.acquire(CATALOG_TIMEOUT).await?;
        let begin = format!(
            "{}; LOCK TABLE {} IN ACCESS SHARE MODE",
            ranges::begin_at(snapshot),
            quote_qualified(&table.schema, &table.name)
        );
        connection
            .execute(AssertSqlSafe(begin))
            .await
            .map_err(|error| self.connections.failure(&error))?;
        let changed = || SourceError::Unavailable {
            source_name: self.config.name.clone(),
            reason: format!("{table} changed while it was read"),
        };
        // Locked, it stays as it is.
        let mut present = self.connections.acquire(CATALOG_TIMEOUT).await?;
        let now = self.find(&mut present, table).await?;
        self.connections.give_back(present);
        if !is_as_wanted(now, wanted) {
            return Err(changed());
        }
        let mut found = self.find(&mut connection, table).await?;
        let is_rewritten: bool = sqlx::query_scalar(REWRITTEN)
            .bind(found.oid)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| self.connections.failure(&error))?;
        if is_rewritten || !is_as_wanted(found.clone(), wanted) {
            return Err(changed());
        }
        leave_out(&mut found, wanted);
        Ok((connection, found))
    }

    /// All rows of a table under a snapshot that somebody else has exported and keeps until this
    /// returns; changes are replayed from `replayed_from` on. Large tables come in ranges; those that an
    /// interrupted attempt has landed stay, if it was of the same `replayed_from`. Where the table then
    /// stands is the caller's to say: the segment's position is empty.
    ///
    /// # Errors
    /// As a survey; [`SourceError::Unavailable`] also where the table is not what it was when `wanted` was made.
    pub async fn open_at(
        &self,
        wanted: &TableSpec,
        snapshot: &str,
        replayed_from: &str,
    ) -> Result<Segment, SourceError> {
        let failed = |error: sqlx::Error| self.connections.failure(&error);
        let (mut connection, mut found) = self.under(snapshot, wanted).await?;
        let place = probe::place(&mut connection, &found)
            .await
            .map_err(failed)?;
        let origin = Origin {
            cluster: place.cluster,
            storage: place.storage,
            columns: ranges::columns_of(&found),
            since: Since::Replayed(replayed_from.to_owned()),
        };
        let refused = oversize::set_aside(&mut connection, &mut found, wanted, "true")
            .await
            .map_err(failed)?;
        let sent = Arc::new(AtomicU64::new(0));
        let rows = if self.is_large(place.pages) {
            let what = self.ranged(found, place.pages, origin);
            self.in_ranges(connection, snapshot, what, &sent).await
        } else {
            self.in_one(connection, &wanted.table, copy_out(&found, "true"), &sent)
        };
        Ok(Segment {
            spec: wanted.clone(),
            write: WriteMode::Replace,
            position: Position(serde_json::Value::Null),
            rows,
            sent: Some(sent),
            refused,
            expected: place.rows_about.map(i64::unsigned_abs),
            note_rows: None,
        })
    }
}

/// Whether a table has the columns that are wanted, and they are the same ones.
fn is_as_wanted(mut table: SourceTable, wanted: &TableSpec) -> bool {
    leave_out(&mut table, wanted);
    let columns = table.columns.iter().map(|it| &it.column);
    let numbers = table.columns.iter().map(|it| it.origin.number);
    let wanted_numbers = wanted.origin.columns.iter().map(|it| it.number);
    table.oid == wanted.origin.oid && columns.eq(&wanted.columns) && numbers.eq(wanted_numbers)
}
