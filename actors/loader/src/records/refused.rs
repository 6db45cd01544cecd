//! Refused rows into `<schema>._rejected`, in the transaction of the rows beside them.

use ballpoint_postgres::ident::{quote_literal, quote_qualified};
use ballpoint_runtime::segment::TableName;
use sqlx::AssertSqlSafe;

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

/// Moves them; returns how many, and why the first was refused.
pub(super) async fn keep(
    transaction: &mut WarehouseTransaction,
    refused: &Refused<'_>,
) -> Result<(u64, String), LoadError> {
    let failed = || LoadError::warehouse("keeping the refused rows");
    let these = format!(
        "from {REFUSED} where stream = {} and {INTERVAL} < {}",
        refused.stream, refused.upto
    );
    let reason: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("select reason {these} limit 1")))
            .persistent(false)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(failed())?;
    if reason.is_none() && !refused.replaces {
        return Ok((0, String::new()));
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
    let Some(reason) = reason else {
        return Ok((0, String::new()));
    };
    let run = refused
        .run
        .as_deref()
        .map_or("null".to_owned(), quote_literal);
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
    tracing::warn!(source = refused.source, table = %refused.table, rows = kept, reason,
        "rows did not fit and are in _rejected");
    Ok((kept, reason))
}
