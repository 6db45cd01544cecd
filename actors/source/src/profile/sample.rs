//! A bounded look at a table's rows: the values that its columns take and how far they reach.

use std::collections::HashMap;

use ballpoint_postgres::ident::{quote, quote_qualified};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::{ColumnProfile, TableProfile, VALUES_MAX};

/// Rows looked at; a table with fewer is looked at whole.
const ROWS_MAX: i64 = 20_000;
/// Text is compared by its beginning: more would not be a value that people name.
const TEXT_MAX: usize = 100;
/// PostgreSQL's own page size, but for custom builds, where this only changes the share sampled.
const PAGE_BYTES: i64 = 8192;
/// Pages of one sample: few rows stand on a page when rows are wide, or dead.
const PAGES_MIN: i64 = 512;

/// What a column's values are looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// Its distinct values.
    Values,
    /// Distinct values, least and greatest.
    Extent,
    /// Only whether there is one.
    Presence,
}

fn looked(column: &ColumnProfile) -> Looked {
    let name = column
        .base_type
        .split('(')
        .next()
        .unwrap_or_default()
        .trim();
    if column.base_type.ends_with("[]") {
        return Looked::Presence;
    }
    match name {
        _ if !column.enum_labels.is_empty() => Looked::Values,
        "text" | "character varying" | "character" | "citext" | "boolean" | "name" => {
            Looked::Values
        }
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "money"
        | "date" | "interval" => Looked::Extent,
        _ if name.starts_with("timestamp") => Looked::Extent,
        _ => Looked::Presence,
    }
}

/// Samples one table. A sample that fails (a lock held too long, a time-out) leaves the table
/// without values and says so; only a lost connection is an error.
pub(super) async fn take(
    connection: &mut PgConnection,
    table: &mut TableProfile,
) -> Result<(), sqlx::Error> {
    if table.columns.is_empty() {
        return Ok(());
    }
    connection.execute("SAVEPOINT sample").await?;
    match look(connection, table).await {
        Ok(()) => connection.execute("RELEASE sample").await?,
        Err(sqlx::Error::Database(error)) => {
            table.sample_failure = Some(error.message().to_owned());
            connection.execute("ROLLBACK TO sample").await?
        }
        Err(error) => return Err(error),
    };
    Ok(())
}

async fn look(connection: &mut PgConnection, table: &mut TableProfile) -> Result<(), sqlx::Error> {
    let clause = sampling(table);
    let rows = look_at(connection, table, &clause).await?;
    if rows == 0 && !clause.is_empty() && table.bytes > 0 {
        // No page of the sample held a row: the first rows are better than none.
        look_at(connection, table, "").await?;
    }
    table.sample_complete = clause.is_empty() && table.sampled_rows < ROWS_MAX;
    if table.sample_complete {
        table.rows_estimated = table.sampled_rows;
    } else {
        by_statistics(connection, table).await?;
    }
    Ok(())
}

/// `TABLESAMPLE` for a table with clearly more rows than are looked at.
fn sampling(table: &TableProfile) -> String {
    if table.rows_estimated <= 2 * ROWS_MAX {
        return String::new();
    }
    let pages = (table.bytes / PAGE_BYTES).max(1);
    let wanted = (pages * ROWS_MAX / table.rows_estimated).max(PAGES_MIN);
    if wanted >= pages {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of pages, not a count")]
    let percent = 100.0 * wanted as f64 / pages as f64;
    format!(" tablesample system ({percent:.8}) repeatable (1)")
}

/// One statement a table: the rows once, then each column from them. Gives per column the number of
/// filled rows, distinct values, least, greatest, and its values as JSON.
async fn look_at(
    connection: &mut PgConnection,
    table: &mut TableProfile,
    clause: &str,
) -> Result<i64, sqlx::Error> {
    let mut inner = Vec::new();
    let mut outer = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        let name = quote(&column.name);
        let kind = looked(column);
        inner.push(match kind {
            Looked::Values => format!("left({name}::text, {TEXT_MAX}) as c{at}"),
            Looked::Extent => format!("{name} as c{at}"),
            Looked::Presence => format!("({name} is not null or null) as c{at}"),
        });
        outer.push(format!("count(c{at})::text"));
        outer.push(match kind {
            Looked::Presence => "null".to_owned(),
            _ => format!("count(distinct c{at})::text"),
        });
        let extent = kind == Looked::Extent;
        for least in ["min", "max"] {
            outer.push(if extent {
                format!("{least}(c{at})::text")
            } else {
                "null".to_owned()
            });
        }
        outer.push(match kind {
            Looked::Presence => "null".to_owned(),
            _ => format!(
                "(select coalesce(json_agg(v::text order by v), '[]')::text from (select distinct c{at} as v \
                 from sampled where c{at} is not null limit {}) q)",
                VALUES_MAX + 1
            ),
        });
    }
    let from = quote_qualified(&table.table.schema, &table.table.name);
    let sql = format!(
        "with sampled as materialized (select {} from {from}{clause} limit {ROWS_MAX}) \
         select count(*)::bigint, array[{}]::text[] from sampled",
        inner.join(", "),
        outer.join(", ")
    );
    let (rows, cells): (i64, Vec<Option<String>>) = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await?;
    table.sampled_rows = rows;
    for (column, cells) in table.columns.iter_mut().zip(cells.chunks(5)) {
        give(column, cells);
    }
    Ok(rows)
}

fn give(column: &mut ColumnProfile, cells: &[Option<String>]) {
    let number = |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse().ok());
    let [filled, distinct, min, max, values] = cells else {
        return;
    };
    column.filled = number(filled);
    column.distinct = number(distinct);
    column.min.clone_from(min);
    column.max.clone_from(max);
    let values: Vec<String> = values
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let named = values.len() <= VALUES_MAX && values.iter().all(|it| it.chars().count() < TEXT_MAX);
    column.values = if named { values } else { Vec::new() };
}

/// What ANALYZE saw of the whole table. A negative figure is a share of the rows.
const STATISTICS: &str = "
select attname::text,
       (case when n_distinct < 0 then -n_distinct * $3::float8 else n_distinct end)::bigint
from pg_stats
where schemaname = $1 and tablename = $2 and n_distinct is not null";

async fn by_statistics(
    connection: &mut PgConnection,
    table: &mut TableProfile,
) -> Result<(), sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(STATISTICS)
        .bind(&table.table.schema)
        .bind(&table.table.name)
        .bind(table.rows_estimated)
        .fetch_all(connection)
        .await?;
    let known: HashMap<String, i64> = rows.into_iter().collect();
    for column in &mut table.columns {
        if let Some(distinct) = known.get(&column.name) {
            column.distinct = column.distinct.max(Some(*distinct));
        }
    }
    Ok(())
}
