//! Tests of data: a select of the rows that are wrong, counted and judged.

mod one_scan;

use ballpoint_postgres::ident;
use indexmap::IndexMap;
use serde_json::Value as Json;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::catalog::RelationKind;
use crate::compile::{Comment, Compiled, Compiler};
use crate::materialize::{self, execute};
use crate::project::config;
use crate::project::node::{Node, Severity};
use crate::queries::blocking_compile;
use crate::run::Failure;

/// Tests that are asked in one query at most.
pub(crate) const TOGETHER_MAX: usize = 40;

/// What a test that says nothing else counts.
const COUNT: &str = "count(*)";

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

/// A setting of a test that is text, and may be written as a number.
pub(crate) fn setting(node: &Node, key: &str, default: &str) -> String {
    match node.config.get(key) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => default.to_owned(),
    }
}

/// Whether the rows that a test finds are kept: `store_failures`, or else the command line's flag.
pub(crate) fn stores_failures(node: &Node, flag: bool) -> bool {
    if !node.is_test() {
        return false;
    }
    match config::text(&node.config, "store_failures_as") {
        Some("ephemeral") => false,
        Some(_) => true,
        None => config::flag(&node.config, "store_failures").unwrap_or(flag),
    }
}

/// Whether a relation of the database belongs to a node, were it a test that keeps what it finds.
pub(crate) fn has_relation(node: &Node) -> bool {
    node.is_relation() || stores_failures(node, false)
}

/// The rows that are wrong, as many as are asked for.
fn limited(node: &Node, sql: &str) -> String {
    match node.config.get("limit").and_then(Json::as_u64) {
        Some(limit) => format!("{sql}\n    limit {limit}"),
        None => sql.to_owned(),
    }
}

/// dbt's query around a test's select: the number of failures and whether it warns or fails.
pub(crate) fn wrapped(node: &Node, sql: &str) -> String {
    judging(node, &limited(node, sql))
}

fn judging(node: &Node, sql: &str) -> String {
    let calculation = setting(node, "fail_calc", COUNT);
    format!(
        "select\n  ({calculation})::bigint as failures,\n  {calculation} {} as should_warn,\n  \
         {calculation} {} as should_error\nfrom (\n{sql}\n) dbt_internal_test",
        setting(node, "warn_if", "!= 0"),
        setting(node, "error_if", "!= 0"),
    )
}

fn judged(node: &Node, row: &PgRow, first: usize) -> Result<Judged, sqlx::Error> {
    // fail_calc may be a sum over no rows.
    let failures: Option<i64> = row.try_get(first)?;
    let should_warn: Option<bool> = row.try_get(first + 1)?;
    let should_error: Option<bool> = row.try_get(first + 2)?;
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

/// Runs a test.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn run(
    conn: &mut PgConnection,
    node: &Node,
    compiled: &Compiled,
) -> Result<Judged, Failure> {
    let sql = compiled.sql.as_str();
    let statement = compiled.comment.on(&wrapped(node, sql));
    // The simple protocol: one round trip a test.
    let row = sqlx::raw_sql(AssertSqlSafe(statement.clone()))
        .fetch_one(conn)
        .await
        .map_err(|error| {
            let before = statement.split(sql).next().unwrap_or_default();
            Failure::from(error).pointing_at(node, sql, before)
        })?;
    Ok(judged(node, &row, 0)?)
}

/// Keeps the rows that a test finds in a relation of its own, and judges them there.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn run_and_store(
    conn: &mut PgConnection,
    node: &Node,
    compiled: &Compiled,
    existing: Option<RelationKind>,
) -> Result<Judged, Failure> {
    let (sql, comment) = (compiled.sql.as_str(), &compiled.comment);
    let kind = match config::text(&node.config, "store_failures_as") {
        Some("view") => RelationKind::View,
        Some("table") | None => RelationKind::Table,
        Some(other) => {
            return Err(Failure::lasting(format!(
                "'{other}' is not a valid value for `store_failures_as`. Accepted values are: \
                 ['ephemeral', 'table', 'view']"
            )));
        }
    };
    let mut statements = String::new();
    if let Some(existing) = existing {
        statements.push_str(&materialize::drop_if_exists(existing, &node.relation));
    }
    statements.push_str(&materialize::create_as(
        kind,
        &node.relation,
        &limited(node, sql),
    ));
    let statements = comment.on(&statements);
    execute(conn, &statements).await.map_err(|error| {
        let before = statements.split(sql).next().unwrap_or_default();
        Failure::from(error).pointing_at(node, sql, before)
    })?;
    let stored = format!("select * from {}", node.relation);
    let row = sqlx::raw_sql(AssertSqlSafe(comment.on(&judging(node, &stored))))
        .fetch_one(conn)
        .await?;
    Ok(judged(node, &row, 0)?)
}

/// Tests that are asked in one query.
pub(crate) struct Together<'n> {
    pub(crate) tests: Vec<(&'n Node, Compiled)>,
    comment: Comment,
}

impl<'n> Together<'n> {
    /// Compiles them.
    ///
    /// # Errors
    /// When one of them cannot be compiled; asked one by one, each tells what is wrong with it.
    pub(crate) async fn compile(
        compiler: &Compiler,
        pool: &PgPool,
        nodes: &[&'n Node],
    ) -> Result<Self, Failure> {
        let mut tests = Vec::with_capacity(nodes.len());
        for node in nodes {
            let compiled = blocking_compile(compiler, pool, &node.unique_id).await?;
            tests.push((*node, compiled));
        }
        Self::of(compiler, tests)
    }

    /// Tests that are compiled already.
    ///
    /// # Errors
    /// When the comment of statements does not render.
    pub(crate) fn of(
        compiler: &Compiler,
        tests: Vec<(&'n Node, Compiled)>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            tests,
            comment: compiler.comment(None)?,
        })
    }

    /// Runs them and judges each by itself.
    ///
    /// # Errors
    /// Those of PostgreSQL, of whichever test.
    pub(crate) async fn judge(&self, conn: &mut PgConnection) -> Result<Vec<Judged>, sqlx::Error> {
        let asked: Vec<(&Node, &str)> = self
            .tests
            .iter()
            .map(|(node, compiled)| (*node, compiled.sql.as_str()))
            .collect();
        let statement = self.comment.on(&together(&asked));
        let rows = sqlx::raw_sql(AssertSqlSafe(statement))
            .fetch_all(conn)
            .await?;
        let mut found: Vec<Option<Judged>> = vec![None; asked.len()];
        for row in &rows {
            let number: i64 = row.try_get(0)?;
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            if let (Some(slot), Some((node, _))) = (found.get_mut(index), asked.get(index)) {
                *slot = Some(judged(node, row, 1)?);
            }
        }
        found
            .into_iter()
            .collect::<Option<Vec<Judged>>>()
            .ok_or(sqlx::Error::RowNotFound)
    }
}

/// One query for all: a row for each test, with its number in `tests`. What can be counted in one scan
/// of a relation is.
fn together(tests: &[(&Node, &str)]) -> String {
    let mut scans: IndexMap<&str, Vec<(usize, String)>> = IndexMap::new();
    let mut alone: Vec<usize> = Vec::new();
    for (number, (node, sql)) in tests.iter().enumerate() {
        let counts_rows = node.config.get("limit").is_none_or(Json::is_null)
            && setting(node, "fail_calc", COUNT) == COUNT;
        match one_scan::counted(sql).filter(|_| counts_rows) {
            Some(counted) => scans
                .entry(counted.relation)
                .or_default()
                .push((number, counted.aggregate)),
            None => alone.push(number),
        }
    }
    // A scan for one of them would only keep it from an index.
    scans.retain(|_, counted| {
        let is_shared = counted.len() > 1;
        alone.extend(
            counted
                .iter()
                .map(|(number, _)| *number)
                .filter(|_| !is_shared),
        );
        is_shared
    });
    let alone = alone.iter().map(|number| {
        let (node, sql) = tests[*number];
        let one = wrapped(node, sql);
        format!("select {number}::bigint as test, * from (\n{one}\n) as test_{number}")
    });
    let shared = scans
        .iter()
        .map(|(relation, counted)| scan(tests, relation, counted));
    let parts: Vec<String> = alone.chain(shared).collect();
    parts.join("\nunion all\n")
}

/// Counts for several tests in one scan of their relation.
fn scan(tests: &[(&Node, &str)], relation: &str, counted: &[(usize, String)]) -> String {
    let of_each = |write: &dyn Fn(usize, &str) -> String| -> String {
        let written = counted.iter().map(|(number, text)| write(*number, text));
        written.collect::<Vec<_>>().join(",\n  ")
    };
    // Never carried out, but read: what is wrong in a part that is not counted is an error still.
    let written = of_each(&|number, _| format!("written_{number} as (\n{}\n)", tests[number].1));
    let counts = of_each(&|number, aggregate| format!("{aggregate} as test_{number}"));
    let judged = of_each(&|number, _| {
        let (node, _) = tests[number];
        format!(
            "({number}::bigint, test_{number}, test_{number} {}, test_{number} {})",
            setting(node, "warn_if", "!= 0"),
            setting(node, "error_if", "!= 0"),
        )
    });
    format!(
        "(with {written}\nselect judged.* from (\nselect\n  {counts}\nfrom {relation}\n) as counts\n\
         cross join lateral (values\n  {judged}\n) as judged)"
    )
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
