//! A large table's whole load: ranges land beside the table, several at once, and are swapped in.
//!
//! Each range is committed by itself, on a connection of its own, together with a row of
//! `ballpoint.landed_ranges`. Nobody reads the shadow until it is complete; the swap, the checkpoint and
//! the event are one transaction, as of a load in one piece. Killed in between, the next attempt goes on
//! with the ranges that are missing, if the source says that those landed still hold; else it begins
//! anew. Which state of the source they are of stands in the shadow's comment: both vanish together.

use std::sync::atomic::{AtomicUsize, Ordering};

use ballpoint_postgres::copy::copy_in;
use ballpoint_postgres::ident::quote_literal;
use ballpoint_runtime::segment::{
    LandedRange, PageRange, RangeReader, Ranges, RowStream, TableName, TableSpec,
};
use futures_util::future::try_join_all;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::error::{LoadError, crash_point};
use crate::replace;
use crate::sync::copy_failure;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;

/// Before the origin, in a shadow's comment.
const MARK: &str = "ballpoint: ";

/// Where ranges are noted, by the shadow's object id.
pub(crate) const PREPARE: &str = "
CREATE TABLE IF NOT EXISTS ballpoint.landed_ranges (
  shadow oid not null, from_page bigint not null, to_page bigint, row_count bigint not null,
  primary key (shadow, from_page))";

/// A shadow that holds all rows.
pub(crate) struct Landed {
    pub(crate) shadow: TableName,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Rows that were copied into it now.
    pub(crate) copied: u64,
    /// Rows that an earlier attempt had landed.
    pub(crate) kept: u64,
    /// Whether it had landed ranges, be they without rows.
    pub(crate) resumed: bool,
}

/// Wraps each stream of rows: counts its bytes and tells of them.
pub(crate) type Watch<'a> = &'a (dyn Fn(RowStream) -> RowStream + Sync);

/// What every range needs to land.
struct Landing<'a> {
    pool: &'a PgPool,
    /// The shadow's object id.
    oid: i64,
    copy: String,
    remaining: Vec<PageRange>,
    next: AtomicUsize,
    watch: Watch<'a>,
}

/// Lands all `ranges` beside `raw`. The caller keeps other loads away from `raw` meanwhile.
pub(crate) async fn land(
    pool: &PgPool,
    raw: &TableName,
    spec: &TableSpec,
    ranges: Ranges,
    watch: Watch<'_>,
) -> Result<Landed, LoadError> {
    let shadow = TableName::new(&raw.schema, replace::beside(raw));
    let mut readers = ranges.readers;
    let (oid, kept) = prepared(pool, &shadow, spec, &ranges.origin, &mut readers).await?;
    let landing = Landing {
        pool,
        oid,
        copy: format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            target::quoted(&shadow),
            target::names(&spec.columns)
        ),
        remaining: PageRange::remaining(ranges.pages, ranges.step, &kept),
        next: AtomicUsize::new(0),
        watch,
    };
    let resumed = !kept.is_empty();
    let kept: u64 = kept.iter().map(|it| it.rows).sum();
    if resumed {
        tracing::info!(table = %spec.table, rows = kept, ranges = landing.remaining.len(),
            "going on with a load that was interrupted; so many ranges are missing");
    }
    let workers = readers.into_iter().enumerate();
    let workers = workers.map(|(number, reader)| work(&landing, number == 0, reader));
    let copied: u64 = try_join_all(workers).await?.into_iter().sum();
    let doubled = match ranges.replayed && kept > 0 {
        true => drop_older_versions(pool, &shadow, spec).await?,
        false => 0,
    };
    Ok(Landed {
        shadow,
        rows: kept + copied - doubled,
        copied,
        kept,
        resumed,
    })
}

/// The shadow, empty or with ranges that still hold.
async fn prepared(
    pool: &PgPool,
    shadow: &TableName,
    spec: &TableSpec,
    origin: &Value,
    readers: &mut [Box<dyn RangeReader>],
) -> Result<(i64, Vec<LandedRange>), LoadError> {
    let failed = || LoadError::warehouse("preparing a table to load into");
    let mut transaction = WarehouseTransaction::begin_unlocked(pool).await?;
    if let Some(left) = Left::find(&mut transaction, shadow)
        .await
        .map_err(failed())?
    {
        let fits = left.columns == spec.columns && !left.landed.is_empty();
        if fits
            && let Some(reader) = readers.first_mut()
            && reader.still_holds(&left.origin, &left.landed).await?
        {
            transaction.rollback().await?;
            return Ok((left.oid, left.landed));
        }
        tracing::info!(table = %spec.table, "an interrupted load begins anew: the table has changed since");
    }
    let quoted = target::quoted(shadow);
    // Nothing in it needs vacuuming, and a vacuum at work would delay the swap.
    let create = format!(
        "{}; create table {quoted} ({}) with (autovacuum_enabled = false);
         comment on table {quoted} is {}",
        forget(shadow),
        target::definitions(&spec.columns),
        quote_literal(&format!("{MARK}{origin}")),
    );
    transaction.run(create).await.map_err(failed())?;
    let oid = sqlx::query_scalar("select to_regclass($1)::oid::bigint")
        .bind(quoted)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed())?;
    transaction.commit().await?;
    crash_point("loader.range.prepared")?;
    Ok((oid, Vec::new()))
}

/// Drops a shadow that an interrupted load left, if there is one.
pub(crate) fn forget(shadow: &TableName) -> String {
    let quoted = target::quoted(shadow);
    format!(
        "delete from ballpoint.landed_ranges where shadow = to_regclass({});
         drop table if exists {quoted}",
        quote_literal(&quoted)
    )
}

/// Makes a complete shadow a table like any other, before it is swapped in.
pub(crate) fn adopt(shadow: &TableName) -> String {
    let quoted = target::quoted(shadow);
    format!(
        "delete from ballpoint.landed_ranges where shadow = to_regclass({});
         alter table {quoted} reset (autovacuum_enabled); comment on table {quoted} is null",
        quote_literal(&quoted)
    )
}

/// What an interrupted load left.
struct Left {
    oid: i64,
    columns: Vec<ballpoint_runtime::segment::Column>,
    origin: Value,
    landed: Vec<LandedRange>,
}

impl Left {
    async fn find(
        transaction: &mut WarehouseTransaction,
        shadow: &TableName,
    ) -> Result<Option<Self>, sqlx::Error> {
        let Some(table) = Target::find(transaction, shadow).await? else {
            return Ok(None);
        };
        let comment: Option<String> =
            sqlx::query_scalar("select obj_description($1::oid, 'pg_class')")
                .bind(table.oid.to_string())
                .fetch_one(&mut **transaction)
                .await?;
        let origin = comment.as_deref().and_then(|it| it.strip_prefix(MARK));
        let origin = origin.and_then(|json| serde_json::from_str(json).ok());
        let rows: Vec<(i64, Option<i64>, i64)> = sqlx::query_as(
            "select from_page, to_page, row_count from ballpoint.landed_ranges
             where shadow = $1::oid order by 1",
        )
        .bind(table.oid.to_string())
        .fetch_all(&mut **transaction)
        .await?;
        let page = |page: i64| u32::try_from(page).unwrap_or(u32::MAX);
        let landed = rows.into_iter().map(|(from, to, rows)| LandedRange {
            range: PageRange {
                from: page(from),
                to: to.map(page),
            },
            rows: rows.unsigned_abs(),
        });
        Ok(Some(Self {
            oid: table.oid,
            columns: table.columns,
            origin: origin.unwrap_or(Value::Null),
            landed: landed.collect(),
        }))
    }
}

/// Lands one range after the other until none is left. All but the first do without a connection that
/// the warehouse does not give.
async fn work(
    landing: &Landing<'_>,
    first: bool,
    mut reader: Box<dyn RangeReader>,
) -> Result<u64, LoadError> {
    let mut rows = 0;
    loop {
        let begun = WarehouseTransaction::begin_unlocked(landing.pool).await;
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(LoadError::Warehouse {
                source: sqlx::Error::PoolTimedOut,
                ..
            }) if !first => break,
            Err(error) => return Err(error),
        };
        let number = landing.next.fetch_add(1, Ordering::Relaxed);
        let Some(range) = landing.remaining.get(number) else {
            transaction.rollback().await?;
            break;
        };
        rows += land_range(landing, transaction, reader.as_mut(), *range).await?;
    }
    reader.end().await;
    Ok(rows)
}

async fn land_range(
    landing: &Landing<'_>,
    mut transaction: WarehouseTransaction,
    reader: &mut dyn RangeReader,
    range: PageRange,
) -> Result<u64, LoadError> {
    // The swap's commit makes everything before it durable; a warehouse that crashes earlier loses the
    // last ranges with their notes, and they are read again. Waiting here would idle every reader.
    transaction
        .run("set local synchronous_commit = off".to_owned())
        .await
        .map_err(LoadError::warehouse("beginning a range"))?;
    let rows = (landing.watch)(reader.read(range).await?);
    let loaded = copy_in(&mut transaction, &landing.copy, rows)
        .await
        .map_err(copy_failure)?;
    sqlx::query("insert into ballpoint.landed_ranges values ($1::oid, $2, $3, $4)")
        .bind(landing.oid.to_string())
        .bind(i64::from(range.from))
        .bind(range.to.map(i64::from))
        .bind(i64::try_from(loaded).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await
        .map_err(LoadError::warehouse("noting a range"))?;
    crash_point("loader.range.before_commit")?;
    transaction.commit().await?;
    crash_point("loader.range.after_commit")?;
    Ok(loaded)
}

/// Of two versions of one key one goes, whichever: the changes that are replayed hold the latest.
async fn drop_older_versions(
    pool: &PgPool,
    shadow: &TableName,
    spec: &TableSpec,
) -> Result<u64, LoadError> {
    if target::merge_key(spec).is_empty() {
        return Ok(0);
    }
    let quoted = target::quoted(shadow);
    let same: Vec<String> = target::merge_key(spec)
        .iter()
        .map(|column| {
            let column = ballpoint_postgres::ident::quote(column);
            format!("a.{column} = b.{column}")
        })
        .collect();
    let sql = format!(
        "delete from {quoted} a using {quoted} b where a.ctid < b.ctid and {}",
        same.join(" and ")
    );
    let deleted = sqlx::query(AssertSqlSafe(sql))
        .persistent(false)
        .execute(pool)
        .await;
    let deleted = deleted.map_err(LoadError::warehouse("dropping older versions of rows"))?;
    Ok(deleted.rows_affected())
}
