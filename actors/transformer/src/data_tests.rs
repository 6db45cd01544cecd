//! Tests of data: a select of the rows that are wrong, counted and judged.

use ballpoint_postgres::ident;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::project::node::{Node, Severity};

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// A test's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) failures: i64,
}

/// dbt's query around a test's select: the number of failures and whether it warns or fails.
pub(crate) fn wrapped(node: &Node, sql: &str) -> String {
    let text = |key: &str, default: &str| match node.config.get(key) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => default.to_owned(),
    };
    let calculation = text("fail_calc", "count(*)");
    let limit = match node.config.get("limit").and_then(Json::as_u64) {
        Some(limit) => format!("\n    limit {limit}"),
        None => String::new(),
    };
    format!(
        "select\n  ({calculation})::bigint as failures,\n  {calculation} {} as should_warn,\n  \
         {calculation} {} as should_error\nfrom (\n{sql}{limit}\n) dbt_internal_test",
        text("warn_if", "!= 0"),
        text("error_if", "!= 0"),
    )
}

/// Runs a test.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn run(
    conn: &mut PgConnection,
    node: &Node,
    sql: &str,
) -> Result<Judged, sqlx::Error> {
    // The simple protocol: one round trip a test.
    let row = sqlx::raw_sql(AssertSqlSafe(wrapped(node, sql)))
        .fetch_one(conn)
        .await?;
    // fail_calc may be a sum over no rows.
    let failures: Option<i64> = row.try_get(0)?;
    let should_warn: Option<bool> = row.try_get(1)?;
    let should_error: Option<bool> = row.try_get(2)?;
    let verdict = if node.severity() == Severity::Error && should_error.unwrap_or(false) {
        Verdict::Fail
    } else if should_warn.unwrap_or(false) {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    Ok(Judged {
        verdict,
        failures: failures.unwrap_or(0),
    })
}

/// A few of the rows that a test found, as JSON, for the report of a failure.
pub(crate) async fn sample(
    conn: &mut PgConnection,
    sql: &str,
    rows_max: u32,
) -> Result<Vec<String>, sqlx::Error> {
    let alias = ident::quote("wrong");
    let query =
        format!("select row_to_json({alias})::text from (\n{sql}\n) {alias} limit {rows_max}");
    let rows = sqlx::query(AssertSqlSafe(query))
        .persistent(false)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
