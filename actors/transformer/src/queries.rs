//! Queries in the middle of a render (`run_query`, `statement`). Rendering is synchronous, so it
//! runs on a blocking thread that may wait for the database.

use std::sync::Arc;

use minijinja::value::Value;
use serde_json::Value as Json;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgColumn, PgRow};
use sqlx::{
    AssertSqlSafe, Column, Executor, PgConnection, PgPool, Postgres, Row, SqlSafeStr, Statement,
    TypeInfo, ValueRef,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::compile::{Compiled, Compiler, Hook};
use crate::error::ProjectError;
use crate::jinja::context::QueryPort;
use crate::project::node::Node;
use crate::run::{Failure, describe};
use crate::sql_text;

/// Words whose presence in a template, or a macro, means that rendering may query.
const QUERYING: &[&str] = &[
    "run_query",
    "statement",
    "adapter",
    "get_column",
    "load_relation",
    "load_cached_relation",
    "date_spine",
    "get_intervals_between",
    "dbt_utils",
    "check_schema_exists",
    "list_schemas",
];

/// Queries through a pool, from a blocking thread. The queries of one render share a connection, so
/// that a macro's `begin` and `commit` belong together.
struct PoolQueries {
    pool: PgPool,
    handle: Handle,
    conn: tokio::sync::Mutex<Option<PoolConnection<Postgres>>>,
}

impl PoolQueries {
    fn on_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
    ) -> Result<T, String> {
        self.handle.block_on(async {
            let mut held = self.conn.lock().await;
            let mut conn = match held.take() {
                Some(conn) => conn,
                None => self
                    .pool
                    .acquire()
                    .await
                    .map_err(|error| describe(&error))?,
            };
            let done = work(&mut conn).await.map_err(|error| describe(&error));
            *held = Some(conn);
            done
        })
    }
}

impl Drop for PoolQueries {
    fn drop(&mut self) {
        // Given back to the pool from within its runtime.
        let conn = self.conn.get_mut().take();
        let _entered = self.handle.enter();
        drop(conn);
    }
}

impl QueryPort for PoolQueries {
    fn query(&self, sql: &str) -> Result<(Vec<String>, Vec<Vec<Json>>), String> {
        self.on_connection(async |conn| {
            if !is_select(sql) {
                // What a template sets, or leaves behind, is nobody else's.
                conn.close_on_drop();
            }
            fetch(conn, sql).await
        })
    }

    fn describe(&self, sql: &str) -> Result<Vec<(String, String)>, String> {
        self.on_connection(async |conn| columns_of(conn, sql).await)
    }
}

/// Queries for renders on the calling thread's pool.
pub(crate) fn port(pool: &PgPool) -> Arc<dyn QueryPort> {
    Arc::new(PoolQueries {
        pool: pool.clone(),
        handle: Handle::current(),
        conn: tokio::sync::Mutex::new(None),
    })
}

/// The columns that a query would give, by name and type.
pub(crate) async fn columns_of(
    conn: &mut PgConnection,
    sql: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let prepared = (&mut *conn)
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await?;
    let types: Vec<(String, i64)> = prepared
        .columns()
        .iter()
        .map(|column| {
            let oid = column.type_info().oid().map_or(0, |oid| i64::from(oid.0));
            (column.name().to_owned(), oid)
        })
        .collect();
    let oids: Vec<i64> = types.iter().map(|(_, oid)| *oid).collect();
    let names: Vec<String> = sqlx::query_scalar(
        "select format_type(oid::oid, null) from unnest($1::int8[]) with ordinality as t (oid, at) \
         order by at",
    )
    .bind(&oids)
    .fetch_all(&mut *conn)
    .await?;
    Ok(types.into_iter().map(|(name, _)| name).zip(names).collect())
}

/// Column names and rows of a query, as JSON.
pub(crate) async fn fetch(
    conn: &mut PgConnection,
    sql: &str,
) -> Result<(Vec<String>, Vec<Vec<Json>>), sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&mut *conn)
        .await?;
    let columns = match rows.first() {
        Some(row) => row
            .columns()
            .iter()
            .map(|column: &PgColumn| column.name().to_owned())
            .collect(),
        // Without a row nothing tells the columns; asking for them would run what is no query.
        None if is_select(sql) => columns_of(conn, sql)
            .await?
            .into_iter()
            .map(|(name, _)| name)
            .collect(),
        None => Vec::new(),
    };
    let rows = rows.iter().map(cells).collect::<Result<_, _>>()?;
    Ok((columns, rows))
}

fn is_select(sql: &str) -> bool {
    let word = sql.split_whitespace().next();
    let single = !sql.trim_end().trim_end_matches(';').contains(';');
    single && word.is_some_and(|word| ["select", "with"].contains(&word.to_lowercase().as_str()))
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
                // A whole float is `1.0` to Python, a whole number of another type `1`.
                "FLOAT4" | "FLOAT8" => float(text),
                "NUMERIC" => text.parse::<i64>().map_or_else(|_| float(text), Json::from),
                "BOOL" => Json::Bool(text == "t"),
                _ => text.into(),
            })
        })
        .collect()
}

fn float(text: &str) -> Json {
    let number = text.parse::<f64>().ok();
    let number = number.and_then(serde_json::Number::from_f64);
    number.map_or_else(|| text.into(), Json::Number)
}

fn asks(text: &str) -> bool {
    QUERYING.iter().any(|word| text.contains(word))
}

/// Whether rendering this node may query: a word of it, or of any macro of the project, says so.
pub(crate) fn may_query(compiler: &Compiler, id: &str) -> bool {
    let project = &compiler.project;
    project.nodes.get(id).is_some_and(|node| {
        let hooks = node.config.get("pre-hook").map(Json::to_string);
        asks(&node.raw_code) || hooks.is_some_and(|hooks| asks(&hooks))
    }) || project.macros_query(asks)
}

/// Compiles a node, but for the hooks behind it (see [`post_hooks_on`]); on a blocking thread with
/// queries at hand if its project ever queries.
pub(crate) async fn blocking_compile(
    compiler: &Compiler,
    pool: &PgPool,
    id: &str,
) -> Result<Compiled, Failure> {
    if !may_query(compiler, id) {
        return Ok(compiler.compile(&compiler.project.nodes[id])?);
    }
    let compiler = Compiler {
        queries: Some(port(pool)),
        ..compiler.clone()
    };
    let id = id.to_owned();
    let task = tokio::task::spawn_blocking(move || compiler.compile(&compiler.project.nodes[&id]));
    match task.await {
        Ok(compiled) => Ok(compiled?),
        Err(error) => Err(Failure::lasting(error.to_string())),
    }
}

/// A query of a render, and where its answer goes.
enum Ask {
    Rows(String, oneshot::Sender<Answer<Rows>>),
    Columns(String, oneshot::Sender<Answer<Vec<(String, String)>>>),
}

type Rows = (Vec<String>, Vec<Vec<Json>>);
type Answer<T> = Result<T, String>;

/// Queries that another task answers, on a connection of its own.
struct AskedQueries(mpsc::Sender<Ask>);

impl AskedQueries {
    fn ask<T>(&self, of: impl FnOnce(oneshot::Sender<Answer<T>>) -> Ask) -> Answer<T> {
        let gone = || "the connection of the node is gone".to_owned();
        let (reply, answer) = oneshot::channel();
        self.0.blocking_send(of(reply)).map_err(|_| gone())?;
        answer.blocking_recv().map_err(|_| gone())?
    }
}

impl QueryPort for AskedQueries {
    fn query(&self, sql: &str) -> Answer<Rows> {
        self.ask(|reply| Ask::Rows(sql.to_owned(), reply))
    }

    fn describe(&self, sql: &str) -> Answer<Vec<(String, String)>> {
        self.ask(|reply| Ask::Columns(sql.to_owned(), reply))
    }
}

/// What the queries of a render find themselves in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// The session of a node: they may begin and end transactions.
    Session,
    /// The one transaction of a build, which nothing but the build ends.
    Build,
}

/// Renders the hooks behind a node that was just built on `conn`: their queries run there too, so
/// that they see the new relation before anybody else does.
pub(crate) async fn post_hooks_on(
    conn: &mut PgConnection,
    within: Within,
    compiler: &Compiler,
    node: &Node,
) -> Result<Vec<Hook>, Failure> {
    if !node.has_hooks("post-hook") {
        return Ok(Vec::new());
    }
    let id = node.unique_id.clone();
    let render = move |compiler: &Compiler| compiler.post_hooks(&compiler.project.nodes[&id]);
    Ok(rendered_on(conn, within, compiler, render).await?.what)
}

/// Renders a hook of the run where it will run.
pub(crate) async fn run_hook_on(
    conn: &mut PgConnection,
    within: Within,
    compiler: &Compiler,
    hook: &Node,
    extra: Vec<(String, Value)>,
) -> Result<String, Failure> {
    let hook = hook.clone();
    let render = move |compiler: &Compiler| compiler.compile_hook(&hook, extra);
    Ok(rendered_on(conn, within, compiler, render).await?.what)
}

/// Compiles a node whose queries are answered on `conn`, where it is built next: it finds what they
/// made and set there, and they see what stands there so far.
pub(crate) async fn compile_on(
    conn: &mut PgConnection,
    within: Within,
    compiler: &Compiler,
    node: &Node,
) -> Result<Rendered<Compiled>, Failure> {
    if !may_query(compiler, &node.unique_id) {
        return Ok(Rendered {
            what: compiler.compile(node)?,
            leaves_marks: false,
        });
    }
    let id = node.unique_id.clone();
    let render = move |compiler: &Compiler| compiler.compile(&compiler.project.nodes[&id]);
    rendered_on(conn, within, compiler, render).await
}

/// What was rendered on a connection.
pub(crate) struct Rendered<T> {
    pub(crate) what: T,
    /// Whether a query of it did more than read: the session may not be as it was.
    pub(crate) leaves_marks: bool,
}

/// Renders on another thread while its queries are answered on `conn`.
async fn rendered_on<T: Send + 'static>(
    conn: &mut PgConnection,
    within: Within,
    compiler: &Compiler,
    render: impl FnOnce(&Compiler) -> Result<T, ProjectError> + Send + 'static,
) -> Result<Rendered<T>, Failure> {
    let (asks, mut asked) = mpsc::channel(1);
    let compiler = Compiler {
        queries: Some(Arc::new(AskedQueries(asks))),
        ..compiler.clone()
    };
    let task = tokio::task::spawn_blocking(move || render(&compiler));
    let mut leaves_marks = false;
    // Ends when the render does: it holds the only sender.
    while let Some(ask) = asked.recv().await {
        // A render that waits no more has failed, and says why itself.
        match ask {
            Ask::Rows(sql, reply) => {
                leaves_marks |= !is_select(&sql);
                let _ = reply.send(answer(conn, within, &sql).await);
            }
            Ask::Columns(sql, reply) => {
                let columns = columns_of(conn, &sql).await;
                let _ = reply.send(columns.map_err(|error| describe(&error)));
            }
        }
    }
    match task.await {
        Ok(rendered) => Ok(Rendered {
            what: rendered?,
            leaves_marks,
        }),
        Err(error) => Err(Failure::lasting(error.to_string())),
    }
}

async fn answer(conn: &mut PgConnection, within: Within, sql: &str) -> Answer<Rows> {
    let sql = match within {
        Within::Session => sql.into(),
        Within::Build => sql_text::within_a_transaction(sql)?,
    };
    if sql.trim().is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows = fetch(conn, &sql).await;
    rows.map_err(|error| describe(&error))
}
