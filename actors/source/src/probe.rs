//! The cheap questions: has anything been committed, how far do the indexes reach, how many changes
//! has PostgreSQL counted. None of them reads a table.

use std::collections::BTreeMap;

use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::segment::{SyncMode, TableName, TableSpec};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::catalog::SourceTable;
use crate::position::{Counter, CursorPosition, Present, Snapshot, counter_moved};
use crate::selection::appends;

/// Changes as PostgreSQL's statistics count them, summed over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    epoch: Option<String>,
    written: i64,
    deleted: i64,
}

impl Counters {
    /// The counter that matters to a mode: a cursor does not see deletes, a full refresh does.
    pub(crate) fn of(&self, mode: &SyncMode) -> Option<Counter> {
        let deleted = if *mode == SyncMode::FullRefresh {
            self.deleted
        } else {
            0
        };
        let epoch = self.epoch.clone()?;
        Some(Counter {
            epoch,
            changes: self.written + deleted,
        })
    }
}

/// The epoch of the counters; null where they are off or are another server's (a standby).
const EPOCH: &str = "case when current_setting('track_counts')::bool and not pg_is_in_recovery()
  then pg_postmaster_start_time()::text || coalesce((select stats_reset::text from pg_stat_database
       where datname = current_database()), '') end";

const COUNTS: &str = "
select coalesce(sum(pg_stat_get_tuples_inserted(p.relid) + pg_stat_get_tuples_updated(p.relid)), 0)::bigint,
       coalesce(sum(pg_stat_get_tuples_deleted(p.relid)), 0)::bigint
from (select relid::oid from pg_partition_tree(t.oid::oid) union select t.oid::oid) p(relid)";

/// The present snapshot as `xmin:xmax` of [`Snapshot`]: `xmin` is the oldest transaction in progress
/// that can have written to *this* database. A transaction that the activity view shows at work in
/// another database of the server cannot; one that it no longer shows may be ours. A standby lists no
/// transactions in progress: there the server's own bound stands.
const SNAPSHOT: &str = "(select case when pg_is_in_recovery() then pg_snapshot_xmin(s)::text
    else coalesce((select min(x::text::bigint) from pg_snapshot_xip(s) x
      where not exists (select from pg_stat_activity a where a.backend_xid = x::xid
        and a.datid <> (select oid from pg_database where datname = current_database())))::text,
      pg_snapshot_xmax(s)::text) end || ':' || pg_snapshot_xmax(s)::text
  from pg_current_snapshot() s)";

/// Reads the counters of one table; call it before taking the snapshot that they go with.
pub(crate) async fn counters_of(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Counters, sqlx::Error> {
    let sql = format!(
        "select {EPOCH}, c.written, c.deleted from (select to_regclass($1)::oid as oid) t,
         lateral ({COUNTS}) c(written, deleted)"
    );
    let (epoch, written, deleted) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(quote_qualified(&table.schema, &table.name))
        .fetch_one(connection)
        .await?;
    Ok(Counters {
        epoch,
        written,
        deleted,
    })
}

/// What one look at the whole source sees. Equal looks mean that nothing was committed between them
/// and no counter was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    snapshot_text: String,
    snapshot: Snapshot,
    counters: BTreeMap<i64, Counters>,
}

/// Looks at the source: one query, whatever the number of tables.
pub(crate) async fn look(connection: &mut PgConnection, oids: &[i64]) -> Result<Look, sqlx::Error> {
    let sql = format!(
        "select pg_current_snapshot()::text, {SNAPSHOT}, {EPOCH}, t.oid, c.written, c.deleted
         from unnest($1::bigint[]) t(oid), lateral ({COUNTS}) c(written, deleted)"
    );
    let rows: Vec<(String, String, Option<String>, i64, i64, i64)> =
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(oids)
            .fetch_all(connection)
            .await?;
    let first = rows.first();
    let snapshot_text = first.map(|row| row.0.clone()).unwrap_or_default();
    let snapshot = parse_snapshot(first.map_or("", |row| &row.1));
    let counters = rows
        .into_iter()
        .map(|(_, _, epoch, oid, written, deleted)| {
            (
                oid,
                Counters {
                    epoch,
                    written,
                    deleted,
                },
            )
        })
        .collect();
    Ok(Look {
        snapshot_text,
        snapshot,
        counters,
    })
}

/// How far a table's indexes reach.
pub(crate) type Extents = (Option<String>, Option<String>);

/// The greatest cursor and the greatest leading key column, each from its index alone.
pub(crate) async fn extents(
    connection: &mut PgConnection,
    table: &SourceTable,
    spec: &TableSpec,
) -> Result<Extents, sqlx::Error> {
    let sql = format!("select {}", extents_of(table, spec));
    sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// [`extents`] of many tables, in their order, in one query for each hundred.
pub(crate) async fn extents_of_all(
    connection: &mut PgConnection,
    tables: &[(SourceTable, TableSpec)],
) -> Result<Vec<Extents>, sqlx::Error> {
    let mut all = Vec::with_capacity(tables.len());
    for some in tables.chunks(100) {
        let each: Vec<String> = some
            .iter()
            .enumerate()
            .map(|(at, (table, spec))| format!("select {at}, {}", extents_of(table, spec)))
            .collect();
        let sql = format!("{} order by 1", each.join(" union all "));
        let rows: Vec<(i32, Option<String>, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        all.extend(rows.into_iter().map(|(_, cursor, key)| (cursor, key)));
    }
    Ok(all)
}

fn extents_of(table: &SourceTable, spec: &TableSpec) -> String {
    let cursor = match &spec.mode {
        SyncMode::Incremental { cursor } => Some(cursor),
        SyncMode::FullRefresh | SyncMode::Cdc => None,
    };
    format!(
        "{}, {}",
        greatest(table, cursor),
        greatest(table, spec.primary_key.first())
    )
}

/// As a subquery; null when the column is absent or leads no index.
fn greatest(table: &SourceTable, column: Option<&String>) -> String {
    match column.filter(|column| table.is_index_lead(column)) {
        Some(column) => {
            let name = quote(column);
            format!(
                // Of the table's column: bare, the name would be that of the text, whose order no index has.
                "(select t.{name}::text from {} t where t.{name} is not null order by t.{name} desc limit 1)",
                table.quoted()
            )
        }
        None => "null::text".to_owned(),
    }
}

/// A table with its partitions; a table that is not partitioned is not in its own partition tree.
const TREE: &str = "select relid::oid from pg_partition_tree($1::bigint::oid)
                    union select $1::bigint::oid";

/// Where a table is and how large.
pub(crate) struct Place {
    /// System identifier and timeline.
    pub(crate) cluster: String,
    /// Object and file ids.
    pub(crate) storage: String,
    pub(crate) pages: i64,
    /// As the last ANALYZE or VACUUM estimates; `None` before the first.
    pub(crate) rows_about: Option<i64>,
}

pub(crate) async fn place(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<Place, sqlx::Error> {
    let cluster = cluster(connection).await?;
    let sql = format!(
        "select $1::bigint::text || '/' || string_agg(
                  coalesce(pg_relation_filenode(p.relid)::text, ''), ',' order by p.relid),
                coalesce(sum(pg_relation_size(p.relid)), 0)::bigint / 8192,
                sum(case when c.reltuples > 0 and c.relpages > 0 then
                  c.reltuples::float8 * (pg_relation_size(p.relid) / 8192) / c.relpages end)::bigint
         from ({TREE}) p(relid) join pg_class c on c.oid = p.relid"
    );
    let (storage, pages, rows_about) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(table.oid)
        .fetch_one(connection)
        .await?;
    Ok(Place {
        cluster,
        storage,
        pages,
        rows_about,
    })
}

/// The state of one table under the snapshot of the enclosing transaction.
pub(crate) async fn present(
    connection: &mut PgConnection,
    table: &SourceTable,
    spec: &TableSpec,
    counters: &Counters,
) -> Result<Present, sqlx::Error> {
    let sql = format!(
        "select {SNAPSHOT},
                exists (select from pg_locks l join ({TREE}) w on w.relid = l.relation
                        where l.mode = 'RowExclusiveLock' and l.granted
                          and l.database = (select oid from pg_database
                                            where datname = current_database()))"
    );
    let (snapshot, writing): (String, bool) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(table.oid)
        .fetch_one(&mut *connection)
        .await?;
    let place = place(connection, table).await?;
    let snapshot = parse_snapshot(&snapshot);
    let mut in_flight = writing && snapshot.xmin < snapshot.xmax;
    if appends(spec) && snapshot.xmin < snapshot.xmax {
        in_flight |= deferred(connection, table, snapshot).await?;
    }
    let (cursor_max, key_max) = extents(connection, table, spec).await?;
    let names = |columns: Vec<&crate::catalog::SourceColumn>| {
        columns
            .iter()
            .map(|column| column.column.name.clone())
            .collect()
    };
    Ok(Present {
        cluster: place.cluster,
        storage: place.storage,
        mode: spec.mode.clone(),
        keyed: !appends(spec),
        columns: names(table.columns.iter().collect()),
        filling_columns: names(table.columns.iter().filter(|c| c.fills_old_rows).collect()),
        pages: place.pages,
        rows_about: place.rows_about,
        snapshot,
        counter: counters.of(&spec.mode),
        cursor_max,
        key_max,
        in_flight,
    })
}

/// Whether committed rows wait for an older transaction of another table to finish (append only).
async fn deferred(
    connection: &mut PgConnection,
    table: &SourceTable,
    snapshot: Snapshot,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "select exists (select from {} where age(xmin) between 0 and age('{}'::xid))",
        table.quoted(),
        snapshot.xmin & u64::from(u32::MAX)
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// System identifier and timeline, where the user may ask for them.
async fn cluster(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let allowed: bool = sqlx::query_scalar(
        "select has_function_privilege('pg_control_system()', 'execute')
            and has_function_privilege('pg_control_checkpoint()', 'execute')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !allowed {
        return Ok("unknown".to_owned());
    }
    sqlx::query_scalar(
        "select system_identifier::text || '/' || timeline_id::text
         from pg_control_system(), pg_control_checkpoint()",
    )
    .fetch_one(connection)
    .await
}

/// Whether a table moved past its checkpoint.
pub(crate) fn moved(
    look: &Look,
    table: &SourceTable,
    spec: &TableSpec,
    extents: &Extents,
    checkpoint: Option<&CursorPosition>,
) -> bool {
    let Some(checkpoint) = checkpoint else {
        return true;
    };
    let counter = look
        .counters
        .get(&table.oid)
        .and_then(|counters| counters.of(&spec.mode));
    let countable = checkpoint.counter.is_some() && counter.is_some();
    (&checkpoint.cursor_max, &checkpoint.key_max) != (&extents.0, &extents.1)
        || checkpoint.mode != spec.mode
        || (checkpoint.in_flight && look.snapshot.xmin > checkpoint.snapshot.xmin)
        || (countable && counter_moved(checkpoint.counter.as_ref(), counter.as_ref()))
        || (checkpoint.counter.is_none() && look.snapshot.xmax > checkpoint.snapshot.xmax)
}

fn parse_snapshot(text: &str) -> Snapshot {
    let mut parts = text.split(':').map(|part| part.parse().unwrap_or(0));
    Snapshot {
        xmin: parts.next().unwrap_or(0),
        xmax: parts.next().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ballpoint_postgres::testing::TestDatabase;
    use ballpoint_runtime::segment::TableName;

    use super::*;
    use crate::catalog;

    #[tokio::test]
    async fn the_greatest_key_is_greatest_in_its_own_order() {
        let database = TestDatabase::create().await;
        sqlx::raw_sql("create table t (id int primary key); insert into t values (9), (10)")
            .execute(database.pool())
            .await
            .unwrap();
        let mut connection = database.pool().acquire().await.unwrap();
        let name = TableName::new("public", "t");
        let found = catalog::read(&mut connection, Some(&name)).await.unwrap();
        let sql = format!("select {}", greatest(&found[0], Some(&"id".to_owned())));
        let key: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(key.unwrap(), "10");
    }
}
