//! Queries in the middle of a render (`run_query`, `statement`). Rendering is synchronous, so it
//! runs on a blocking thread that may wait for the database.

use std::sync::Arc;

use serde_json::Value as Json;
use sqlx::postgres::{PgColumn, PgRow};
use sqlx::{AssertSqlSafe, Column, PgConnection, PgPool, Row, TypeInfo, ValueRef};
use tokio::runtime::Handle;

use crate::compile::{Compiled, Compiler};
use crate::jinja::context::QueryPort;
use crate::run::{Failure, describe};

/// Words whose presence in a template, or a macro, means that rendering may query.
const QUERYING: &[&str] = &["run_query", "statement", "get_columns_in_relation"];

/// Queries through a pool, from a blocking thread.
struct PoolQueries {
    pool: PgPool,
    handle: Handle,
}

impl QueryPort for PoolQueries {
    fn query(&self, sql: &str) -> Result<(Vec<String>, Vec<Vec<Json>>), String> {
        self.handle.block_on(async {
            let mut conn = self
                .pool
                .acquire()
                .await
                .map_err(|error| describe(&error))?;
            fetch(&mut conn, sql)
                .await
                .map_err(|error| describe(&error))
        })
    }
}

/// Column names and rows of a query, as JSON.
pub(crate) async fn fetch(
    conn: &mut PgConnection,
    sql: &str,
) -> Result<(Vec<String>, Vec<Vec<Json>>), sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(conn)
        .await?;
    let columns = match rows.first() {
        Some(row) => row
            .columns()
            .iter()
            .map(|column: &PgColumn| column.name().to_owned())
            .collect(),
        None => Vec::new(),
    };
    let rows = rows.iter().map(cells).collect::<Result<_, _>>()?;
    Ok((columns, rows))
}

fn cells(row: &PgRow) -> Result<Vec<Json>, sqlx::Error> {
    (0..row.len())
        .map(|index| {
            let raw = row.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Json::Null);
            }
            let text = raw.as_str().map_err(sqlx::Error::Decode)?;
            Ok(match row.column(index).type_info().name() {
                "INT2" | "INT4" | "INT8" => text.parse::<i64>().map_or(Json::Null, Json::from),
                "FLOAT4" | "FLOAT8" | "NUMERIC" => text
                    .parse::<i64>()
                    .map(Json::from)
                    .or_else(|_| text.parse::<f64>().map(Json::from))
                    .unwrap_or_else(|_| text.into()),
                "BOOL" => Json::Bool(text == "t"),
                _ => text.into(),
            })
        })
        .collect()
}

/// Whether rendering anything of this project may query.
fn may_query(compiler: &Compiler, id: &str) -> bool {
    let project = &compiler.project;
    let asks = |text: &str| QUERYING.iter().any(|word| text.contains(word));
    project
        .nodes
        .get(id)
        .is_some_and(|node| asks(&node.raw_code))
        || project
            .engine
            .macros
            .iter()
            .any(|known| asks(&known.source))
}

/// Compiles a node; on a blocking thread with queries at hand if its project ever queries.
pub(crate) async fn blocking_compile(
    compiler: &Compiler,
    pool: &PgPool,
    id: &str,
) -> Result<Compiled, Failure> {
    if !may_query(compiler, id) {
        return Ok(compiler.compile(&compiler.project.nodes[id])?);
    }
    let port = PoolQueries {
        pool: pool.clone(),
        handle: Handle::current(),
    };
    let compiler = Compiler {
        queries: Some(Arc::new(port)),
        ..compiler.clone()
    };
    let id = id.to_owned();
    let task = tokio::task::spawn_blocking(move || compiler.compile(&compiler.project.nodes[&id]));
    match task.await {
        Ok(compiled) => Ok(compiled?),
        Err(error) => Err(Failure {
            message: error.to_string(),
            transient: false,
        }),
    }
}
