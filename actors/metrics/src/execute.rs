//! Running a planned statement: read only, with a time-out, every value as PostgreSQL's own text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballpoint_postgres::ident::quote;
use serde_json::{Number, Value};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgConnection, PgPool, Postgres, Row as _,
    SqlSafeStr as _, Statement as _, TypeInfo as _,
};

use crate::plan::{Plan, QueryError, Statement};

/// What is said of a relation that does not exist, by which others tell that case.
pub const NOT_BUILT: &str = "it is not built yet";

/// Descriptions kept; more distinct statements than this start over.
const DESCRIPTIONS_MAX: usize = 512;

/// Rows in the order of the plan's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub rows: Vec<Vec<Value>>,
    pub total: Option<u64>,
}

/// Runs statements on the warehouse.
pub struct Runner {
    pool: PgPool,
    statement_timeout: Duration,
    /// What PostgreSQL said of a statement, until the tables change.
    descriptions: Mutex<HashMap<String, Arc<Description>>>,
}

/// The types of a statement's values and columns.
struct Description {
    params: Vec<String>,
    columns: Vec<String>,
}

/// A transaction whose statement is cancelled in PostgreSQL when whoever waits for it is gone.
pub(crate) struct Session {
    pool: PgPool,
    connection: Option<PoolConnection<Postgres>>,
    backend: i32,
}

impl Session {
    async fn begin(pool: &PgPool, timeout: Duration) -> Result<Self, sqlx::Error> {
        let mut connection = pool.acquire().await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = {}; \
             SET LOCAL timezone = 'UTC'; SELECT pg_backend_pid()",
            timeout.as_millis()
        );
        let row = sqlx::raw_sql(AssertSqlSafe(begin))
            .fetch_one(&mut *connection)
            .await?;
        Ok(Self {
            pool: pool.clone(),
            backend: row.try_get(0)?,
            connection: Some(connection),
        })
    }

    pub(crate) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.connection.as_deref_mut()
    }

    /// Ends the transaction; the connection goes back to the pool.
    pub(crate) async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        if let Some(mut connection) = self.connection.take() {
            sqlx::raw_sql(how).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // Out of the pool: nobody else's statement can be the one that is cancelled, and the
        // cancelling one finds a place.
        let (connection, pool, backend) = (connection.detach(), self.pool.clone(), self.backend);
        runtime.spawn(async move {
            let cancel = sqlx::query("SELECT pg_cancel_backend($1)").bind(backend);
            if let Err(error) = cancel.execute(&pool).await {
                tracing::warn!(%error, "a statement that nobody waits for was not cancelled");
            }
            drop(connection);
        });
    }
}

impl Runner {
    pub fn new(pool: PgPool, statement_timeout: Duration) -> Self {
        Self {
            pool,
            statement_timeout,
            descriptions: Mutex::default(),
        }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction that reads, with this runner's time-out.
    pub(crate) async fn session(&self) -> Result<Session, sqlx::Error> {
        Session::begin(&self.pool, self.statement_timeout).await
    }

    /// Forgets what is known of statements: the tables may have new columns.
    pub fn forget(&self) {
        self.descriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Runs a plan, rows and total in one statement, whose snapshot is theirs.
    ///
    /// A snapshot for the whole transaction would be taken before the statement has waited for its
    /// tables: behind a build that swaps one, the name would lead to the new table, whose rows that
    /// snapshot does not show. Read committed takes it when the tables are locked.
    ///
    /// # Errors
    /// What PostgreSQL refuses, time-outs, and a warehouse that cannot be reached.
    #[tracing::instrument(name = "metrics_sql", skip_all)]
    pub async fn run(&self, plan: &Plan) -> Result<Rows, QueryError> {
        let failed = |error| self.explain(error);
        let mut session = self.session().await.map_err(failed)?;
        let rows = match session.connection() {
            Some(connection) => self.rows(connection, plan).await,
            None => Err(sqlx::Error::PoolClosed),
        };
        let ended = session
            .end(if rows.is_ok() { "COMMIT" } else { "ROLLBACK" })
            .await;
        let rows = rows.map_err(failed)?;
        ended.map_err(failed)?;
        Ok(rows)
    }

    async fn rows(&self, connection: &mut PgConnection, plan: &Plan) -> Result<Rows, sqlx::Error> {
        let statement = &plan.statement;
        let description = self.describe(connection, statement).await?;
        let kinds = &description.columns;
        let (names, mut texts) = text_columns(kinds);
        // The total has the values of the statement, under the same numbers.
        let total = plan.total.as_ref();
        let total = total.map(|counted| counted.typed_sql(&description.params));
        if let Some(sql) = &total {
            texts.push_str(&format!(", ({sql})::text"));
        }
        let sql = format!(
            "SELECT {texts} FROM ({}) AS result ({names})",
            statement.typed_sql(&description.params),
        );
        let fetched = fetch(connection, sql, &statement.params).await?;
        let rows = fetched
            .iter()
            .map(|row| {
                let cell = |(at, kind): (usize, &String)| {
                    let text: Option<String> = row.try_get(at)?;
                    Ok(text.map_or(Value::Null, |text| to_value(text, kind)))
                };
                kinds.iter().enumerate().map(cell).collect()
            })
            .collect::<Result<_, sqlx::Error>>()?;
        let counted: Option<String> = match (total, fetched.first()) {
            (None, _) => None,
            (Some(_), Some(row)) => row.try_get(kinds.len())?,
            // A page beyond the last row has none that could carry the total.
            (Some(sql), None) => {
                let sql = format!("SELECT ({sql})::text");
                let alone = fetch(connection, sql, &statement.params).await?;
                alone.first().map(|row| row.try_get(0)).transpose()?
            }
        };
        let total = counted.and_then(|text| text.parse().ok());
        Ok(Rows { rows, total })
    }

    /// Lets PostgreSQL infer the types of a statement's values and columns.
    async fn describe(
        &self,
        connection: &mut PgConnection,
        statement: &Statement,
    ) -> Result<Arc<Description>, sqlx::Error> {
        let sql = statement.sql();
        let known = {
            let descriptions = self
                .descriptions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            descriptions.get(&sql).cloned()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let prepared = connection
            .prepare(AssertSqlSafe(sql.clone()).into_sql_str())
            .await?;
        let params = match prepared.parameters() {
            Some(sqlx::Either::Left(types)) => types.iter().map(|t| type_name(t.name())).collect(),
            _ => Vec::new(),
        };
        let columns = prepared
            .columns()
            .iter()
            .map(|column| type_name(column.type_info().name()))
            .collect();
        // The driver would keep the statement and its types past the next build.
        sqlx::Connection::clear_cached_statements(connection).await?;
        let description = Arc::new(Description { params, columns });
        let mut descriptions = self
            .descriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if descriptions.len() >= DESCRIPTIONS_MAX {
            descriptions.clear();
        }
        descriptions.insert(sql, Arc::clone(&description));
        Ok(description)
    }

    pub(crate) fn explain(&self, error: sqlx::Error) -> QueryError {
        match error {
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("57014") => QueryError::TooSlow {
                    seconds: self.statement_timeout.as_secs(),
                },
                // Of the same code is a name that FROM does not have.
                code @ Some("42P01") if !error.message().contains("FROM") => QueryError::Database {
                    message: format!(
                        "{}: {NOT_BUILT}; `ballpoint run` builds it",
                        error.message()
                    ),
                    code: code.map(str::to_owned),
                },
                code => QueryError::Database {
                    message: error.message().to_owned(),
                    code: code.map(str::to_owned),
                },
            },
            other => QueryError::Unavailable(format!("the warehouse cannot be reached: {other}")),
        }
    }
}

/// Rows of a generated statement, its values bound as text.
async fn fetch(
    connection: &mut PgConnection,
    sql: String,
    params: &[String],
) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for value in params {
        query = query.bind(value.clone());
    }
    query.fetch_all(connection).await
}

/// The columns of a statement: their names and types.
pub(crate) async fn columns_of(
    connection: &mut PgConnection,
    sql: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let prepared = connection
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await?;
    let columns = prepared
        .columns()
        .iter()
        .map(|it| (it.name().to_owned(), type_name(it.type_info().name())))
        .collect();
    // The driver would keep the statement and its types past the next build.
    sqlx::Connection::clear_cached_statements(connection).await?;
    Ok(columns)
}

/// Names for columns by their places, so that equal ones cannot meet, and what reads them as text.
pub(crate) fn text_columns(kinds: &[String]) -> (String, String) {
    let names: Vec<String> = (0..kinds.len()).map(|at| format!("c{at}")).collect();
    let texts = names.iter().zip(kinds);
    let texts: Vec<String> = texts.map(|(name, kind)| as_text(name, kind)).collect();
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    (names.join(", "), texts.join(", "))
}

/// The driver's name of a type as SQL reads it.
fn type_name(name: &str) -> String {
    if name == "\"CHAR\"" {
        "\"char\"".to_owned()
    } else {
        name.to_owned()
    }
}

/// A column as text: times in Cube's form, everything else as PostgreSQL writes it.
fn as_text(name: &str, kind: &str) -> String {
    const FORMAT: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.MS'";
    match kind {
        "TIMESTAMP" | "DATE" => format!("to_char({name}, {FORMAT})"),
        "TIMESTAMPTZ" => format!("to_char({name} AT TIME ZONE 'UTC', {FORMAT})"),
        _ => format!("{name}::text"),
    }
}

/// The JSON that Cube's driver makes of a type: what fits a double is a number, the rest is text.
fn to_value(text: String, kind: &str) -> Value {
    match kind {
        "INT2" | "INT4" | "OID" => text
            .parse::<i64>()
            .map_or(Value::String(text), |n| Value::Number(n.into())),
        "FLOAT4" | "FLOAT8" => match text.parse::<f64>() {
            Ok(number) => double(number),
            Err(_) => Value::String(text),
        },
        "BOOL" => Value::Bool(text == "true"),
        "JSON" | "JSONB" => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        _ => Value::String(text),
    }
}

/// JavaScript's spelling: whole numbers without a fraction, null for what JSON cannot say.
fn double(number: f64) -> Value {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        return Value::Number((number as i64).into());
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
