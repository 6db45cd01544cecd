//! Rows with a value longer than `max_value_bytes`: set aside before the others are read.
//!
//! A row travels as one message, so one value of a gigabyte would be held in memory whole, several
//! times over. Which rows have one is asked of the server, in the reading transaction, and only where
//! it is possible: a long value lies outside its row, and compression makes it at most 255 times
//! shorter. A table with less than that beside its rows is read without any test.

use ballpoint_postgres::ident::{quote, quote_literal};
use ballpoint_runtime::records::RefusedRow;
use ballpoint_runtime::segment::TableSpec;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::catalog::{SourceColumn, SourceTable};

/// PostgreSQL keeps no longer value.
const SERVER_MAX: u64 = 1 << 30;
/// LZ4's best; pglz reaches 90.
const COMPRESSION_MAX: u64 = 255;
/// What a value that lies inside its row can hold, compressed: a page's worth.
const INSIDE_MAX: u64 = 8192 * COMPRESSION_MAX;
/// More rows than this in one read are no exceptions: the limit, or the table, needs a look.
pub(crate) const REFUSED_MAX: usize = 10_000;
/// Of each value of a row that is set aside, in characters.
const SHOWN_CHARS: u32 = 200;

/// Finds the rows among those of `condition` with a value longer than is configured. From then on
/// `table` is read without them.
pub(crate) async fn set_aside(
    connection: &mut PgConnection,
    table: &mut SourceTable,
    spec: &TableSpec,
    condition: &str,
) -> Result<Vec<RefusedRow>, sqlx::Error> {
    let limit = spec.options.max_value_bytes.unwrap_or(u64::MAX);
    let long: Vec<&SourceColumn> = table.columns.iter().filter(|c| c.long).collect();
    if long.is_empty() || limit > SERVER_MAX || !possible(connection, table, limit).await? {
        return Ok(Vec::new());
    }
    let each: Vec<String> = long.iter().map(|column| fits(column, limit)).collect();
    let fits = each.join(" and ");
    let which: Vec<String> = long
        .iter()
        .zip(&each)
        .map(|(column, fits)| {
            format!(
                "when not {fits} then {}",
                quote_literal(&column.column.name)
            )
        })
        .collect();
    let key = spec.primary_key.iter();
    let keys: Vec<String> = key.map(|name| format!("{}::text", quote(name))).collect();
    let key = match keys.as_slice() {
        [] => "null::text".to_owned(),
        some => format!("concat_ws(', ', {})", some.join(", ")),
    };
    let row: Vec<String> = table.columns.iter().map(|c| shown(c, limit)).collect();
    let sql = format!(
        "select {key}, case {} end, row({})::text from {} where ({condition}) and not ({fits}) limit {}",
        which.join(" "),
        row.join(", "),
        table.quoted(),
        REFUSED_MAX + 1,
    );
    let rows: Vec<(Option<String>, Option<String>, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_all(connection)
        .await?;
    table.fits = Some(fits);
    let refused = rows.into_iter().map(|(key, column, row)| RefusedRow {
        key,
        column,
        reason: format!("the value is longer than max_value_bytes = {limit}"),
        row,
    });
    Ok(refused.collect())
}

/// Whether the table has room for a value that long.
async fn possible(
    connection: &mut PgConnection,
    table: &SourceTable,
    limit: u64,
) -> Result<bool, sqlx::Error> {
    if limit < INSIDE_MAX {
        return Ok(true);
    }
    let outside: i64 = sqlx::query_scalar(
        "select coalesce(sum(pg_relation_size(c.reltoastrelid)), 0)::bigint
         from (select relid::oid from pg_partition_tree($1::bigint::oid)
               union select $1::bigint::oid) p(relid)
         join pg_class c on c.oid = p.relid where c.reltoastrelid <> 0",
    )
    .bind(table.oid)
    .fetch_one(connection)
    .await?;
    Ok(outside.unsigned_abs() >= limit / COMPRESSION_MAX)
}

/// Types whose length is known without reading the value.
fn measured(column: &SourceColumn) -> bool {
    let name = column.column.sql_type.as_str();
    column.portable && (name == "text" || name == "bytea" || name.starts_with("character"))
}

fn fits(column: &SourceColumn, limit: u64) -> String {
    let name = quote(&column.column.name);
    if measured(column) {
        return format!("coalesce(octet_length({name}), 0) <= {limit}");
    }
    format!(
        "(case when {name} is null or pg_column_size({name}) <= {} then true \
          when pg_column_size({name}) > {limit} then false \
          else octet_length({name}::text) <= {limit} end)",
        limit / COMPRESSION_MAX
    )
}

/// A value as the row's text shows it: its beginning, without making a text of a very long one.
fn shown(column: &SourceColumn, limit: u64) -> String {
    let name = quote(&column.column.name);
    if !column.long {
        return name;
    }
    if column.column.sql_type == "bytea" {
        return format!("encode(substring({name} from 1 for {SHOWN_CHARS}), 'hex')");
    }
    if measured(column) {
        return format!("left({name}::text, {SHOWN_CHARS})");
    }
    format!(
        "case when pg_column_size({name}) > {limit} then '...' else left({name}::text, {SHOWN_CHARS}) end"
    )
}
