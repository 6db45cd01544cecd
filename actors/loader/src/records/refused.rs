//! Refused rows into `<schema>._rejected`, in the transaction of the rows beside them.

use ballpoint_postgres::ident::{quote_literal, quote_qualified};
use ballpoint_runtime::segment::TableName;

use super::landing::{INTERVAL, REFUSED};
use crate::error::LoadError;
use crate::rejected;
use crate::transaction::WarehouseTransaction;

/// Which refused rows, and whose they are.
pub(super) struct Refused<'a> {
    /// The stream's index.
    pub(super) stream: usize,
    /// Those of earlier intervals.
    pub(super) upto: u64,
    pub(super) source: &'a str,
    pub(super) table: &'a TableName,
    /// Where the table lands.
    pub(super) schema: &'a str,
    /// All rows of the table were read again: what was refused earlier is forgotten.
    pub(super) replaces: bool,
    pub(super) run: Option<String>,
}

/// Moves them; returns how many.
pub(super) async fn keep(
    transaction: &mut WarehouseTransaction,
    refused: &Refused<'_>,
) -> Result<u64, LoadError> {
    let failed = || LoadError::warehouse("keeping the refused rows");
    let these = format!(
        "from {REFUSED} where stream = {} and {INTERVAL} < {}",
        refused.stream, refused.upto
    );
    let any: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select exists (select {these})")))
        .persistent(false)
        .fetch_one(&mut **transaction)
        .await
        .map_err(failed())?;
    if !any && !refused.replaces {
        return Ok(0);
    }
    rejected::create(transaction, refused.schema).await?;
    let rejected = quote_qualified(refused.schema, "_rejected");
    let (source, table) = (
        quote_literal(refused.source),
        quote_literal(&refused.table.to_string()),
    );
    if refused.replaces {
        let sql = format!("delete from {rejected} where source = {source} and \"table\" = {table}");
        transaction.run(sql).await.map_err(failed())?;
    }
    if !any {
        return Ok(0);
    }
    let run = refused.run.as_deref().map_or("null".to_owned(), quote_literal);
    let kept = transaction
        .run(format!(
            "insert into {rejected} (source, \"table\", key, \"column\", reason, \"row\", run)
             select {source}, {table}, key, column_name, reason, row_text, {run} {these}"
        ))
        .await
        .map_err(failed())?;
    transaction
        .run(format!("delete {these}"))
        .await
        .map_err(failed())?;
    tracing::warn!(source = refused.source, table = %refused.table, rows = kept,
        "rows did not fit and are in _rejected");
    Ok(kept)
}
