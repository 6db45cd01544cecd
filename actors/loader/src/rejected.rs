//! `<schema>._rejected`: rows that were read and did not land, with the reason, in the transaction of
//! the rows beside them.

use ballpoint_postgres::ident::quote_qualified;
use ballpoint_runtime::records::RefusedRow;
use ballpoint_runtime::segment::TableName;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::error::LoadError;
use crate::report::TableReport;
use crate::transaction::WarehouseTransaction;

/// More rows than this in one load are no exceptions: nothing of it is kept, and the table waits.
pub(crate) const REFUSED_MAX: usize = 10_000;

/// Creates the table where it is missing.
pub(crate) async fn create(connection: &mut PgConnection, schema: &str) -> Result<(), LoadError> {
    let rejected = quote_qualified(schema, "_rejected");
    let there: bool = sqlx::query_scalar(
        "select exists (select from pg_attribute where attrelid = to_regclass($1) and attname = 'run')",
    )
    .bind(&rejected)
    .fetch_one(&mut *connection)
    .await
    .map_err(LoadError::warehouse("keeping the rejected rows"))?;
    if there {
        return Ok(());
    }
    // Two loads may find the first rejected row at once, and IF NOT EXISTS is not atomic.
    let sql = format!(
        "select pg_advisory_xact_lock(hashtext('ballpoint ' || 'rejected'));
         create table if not exists {rejected} (
           source text not null, \"table\" text not null, key text, \"column\" text,
           reason text not null, \"row\" text not null,
           rejected_at timestamptz not null default clock_timestamp());
         alter table {rejected} add column if not exists run text,
           alter column rejected_at set default clock_timestamp()"
    );
    let created = connection.execute(AssertSqlSafe(sql)).await;
    created.map_err(LoadError::warehouse("keeping the rejected rows"))?;
    Ok(())
}

/// Whether there are rejected rows of a table.
pub(crate) async fn has_any(
    connection: &mut PgConnection,
    schema: &str,
    source: &str,
    table: &TableName,
) -> Result<bool, sqlx::Error> {
    let rejected = quote_qualified(schema, "_rejected");
    let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(&rejected)
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(false);
    }
    let sql =
        format!("select exists (select from {rejected} where source = $1 and \"table\" = $2)");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(source)
        .bind(table.to_string())
        .fetch_one(connection)
        .await
}

/// Keeps `rows` and counts them in `report`. Of a table that is replaced, what was rejected earlier
/// is forgotten: all its rows have been read again.
///
/// # Errors
/// [`LoadError::Refused`] when they are too many.
pub(crate) async fn keep(
    transaction: &mut WarehouseTransaction,
    report: &mut TableReport,
    run: Option<String>,
    rows: &[RefusedRow],
) -> Result<(), LoadError> {
    if let Some(first) = rows.first().filter(|_| rows.len() > REFUSED_MAX) {
        return Err(LoadError::Refused {
            table: report.table.clone(),
            limit: REFUSED_MAX,
            reason: first.reason.clone(),
        });
    }
    let failed = || LoadError::warehouse("keeping the rejected rows");
    if report.replaced {
        forget(transaction, report).await.map_err(failed())?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    create(transaction, &report.raw.schema).await?;
    for some in rows.chunks(500) {
        write(transaction, report, run.as_deref(), some)
            .await
            .map_err(failed())?;
    }
    let count = rows.len() as u64;
    report.rejected += count;
    tracing::warn!(source = %report.source, table = %report.table, rows = count,
        reason = %rows[0].reason, "rows were rejected; they stand in _rejected");
    Ok(())
}

async fn forget(connection: &mut PgConnection, report: &TableReport) -> Result<(), sqlx::Error> {
    let rejected = quote_qualified(&report.raw.schema, "_rejected");
    let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(&rejected)
        .fetch_one(&mut *connection)
        .await?;
    if there {
        let sql = format!("delete from {rejected} where source = $1 and \"table\" = $2");
        sqlx::query(AssertSqlSafe(sql))
            .bind(&report.source)
            .bind(report.table.to_string())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn write(
    connection: &mut PgConnection,
    report: &TableReport,
    run: Option<&str>,
    rows: &[RefusedRow],
) -> Result<(), sqlx::Error> {
    let rejected = quote_qualified(&report.raw.schema, "_rejected");
    let sql = format!(
        "insert into {rejected} (source, \"table\", key, \"column\", reason, \"row\", run)
         select $1, $2, r.*, $7
         from unnest($3::text[], $4::text[], $5::text[], $6::text[]) r"
    );
    // NUL has no place in PostgreSQL's text.
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let each = |of: fn(&RefusedRow) -> Option<&String>| -> Vec<Option<String>> {
        rows.iter().map(|row| of(row).map(|it| text(it))).collect()
    };
    sqlx::query(AssertSqlSafe(sql))
        .bind(&report.source)
        .bind(report.table.to_string())
        .bind(each(|row| row.key.as_ref()))
        .bind(each(|row| row.column.as_ref()))
        .bind(each(|row| Some(&row.reason)))
        .bind(each(|row| Some(&row.row)))
        .bind(run)
        .execute(connection)
        .await?;
    Ok(())
}
