//! The answer to a SELECT as lines of JSON, in Cube's form: the columns first, then rows in lots.
//!
//! Rows are passed on as PostgreSQL sends them, a few lots ahead of the reader at most; a reader that
//! leaves ends the statement in PostgreSQL.

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::SqlError;
use crate::execute::{Session, columns_of, text_columns};
use crate::model::SecurityContext;
use crate::service::Service;
use crate::words::Words;

/// Rows in a line.
const ROWS_A_LINE: usize = 1_000;
/// Lines that wait for a slow reader.
const LINES_MAX: usize = 4;

/// A statement that was translated and described.
struct Asked {
    session: Session,
    sql: String,
    kinds: Vec<String>,
}

impl Service {
    /// Runs a query and gives its answer line by line, each ended by a newline. What fails after the
    /// first line is a line of its own, the last: `{"error": …}`.
    ///
    /// # Errors
    /// As [`Service::translate`], and what PostgreSQL refuses before there are rows.
    pub async fn answer_sql(
        &self,
        sql: &str,
        zone: &str,
        context: &SecurityContext,
    ) -> Result<impl Stream<Item = Bytes> + Send + use<>, SqlError> {
        let starts = Words::of(sql).starts;
        let is_query = |start: &String| matches!(start.as_str(), "select" | "with" | "values");
        if starts.len() != 1 || !starts.iter().all(is_query) {
            let why = "one SELECT is answered here: everything else takes a PostgreSQL client";
            return Err(SqlError::unsupported(why));
        }
        let sql = self.translate_in(sql, zone, context).await?;
        let sql = sql.trim_end().trim_end_matches(';').to_owned();
        let failed = |error| SqlError::from(self.runner.explain(error));
        let mut session = self.runner.session().await.map_err(failed)?;
        let described = match session.connection() {
            Some(connection) => columns_of(connection, &sql).await,
            None => Err(sqlx::Error::PoolClosed),
        };
        let columns = match described {
            Ok(columns) => columns,
            Err(error) => {
                // Nothing runs that a closed transaction would leave behind.
                let _ = session.end("ROLLBACK").await;
                return Err(failed(error));
            }
        };
        let schema: Vec<Value> = columns
            .iter()
            .map(|(name, kind)| json!({ "name": name, "column_type": cube_type(kind) }))
            .collect();
        let mut head = json!({ "schema": schema });
        if let Some(refreshed) = self.snapshot.refreshed {
            head["lastRefreshTime"] =
                json!(refreshed.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
        }
        let kinds = columns.into_iter().map(|(_, kind)| kind).collect();
        let (to, from) = mpsc::channel(LINES_MAX);
        let asked = Asked {
            session,
            sql,
            kinds,
        };
        tokio::spawn(pump(self.clone(), asked, to).in_current_span());
        let rest = stream::unfold(from, |mut from| async move {
            let next = from.recv().await?;
            Some((next, from))
        });
        Ok(stream::once(std::future::ready(line(&head))).chain(rest))
    }
}

/// Sends the rows until there are none, or nobody reads them.
async fn pump(service: Service, asked: Asked, to: mpsc::Sender<Bytes>) {
    let Asked {
        mut session,
        sql,
        kinds,
    } = asked;
    let Some(connection) = session.connection() else {
        return;
    };
    let sent = tokio::select! {
        sent = rows(connection, &sql, &kinds, &to) => sent,
        // The session is dropped, which cancels its statement.
        () = to.closed() => return,
    };
    let ended = session
        .end(if sent.is_ok() { "COMMIT" } else { "ROLLBACK" })
        .await;
    if let Err(error) = sent.and(ended) {
        let error = service.runner.explain(error).to_string();
        // Without a reader there is nobody to tell.
        let _ = to.send(line(&json!({ "error": error }))).await;
    }
}

async fn rows(
    connection: &mut PgConnection,
    sql: &str,
    kinds: &[String],
    to: &mpsc::Sender<Bytes>,
) -> Result<(), sqlx::Error> {
    let (names, texts) = text_columns(kinds);
    // A newline ends a comment that the text may end with.
    let sql = format!("SELECT {texts} FROM (\n{sql}\n) AS result ({names})");
    let mut found = sqlx::query(AssertSqlSafe(sql))
        .persistent(false)
        .fetch(connection);
    let mut lot: Vec<Vec<Value>> = Vec::new();
    let mut is_first = true;
    while let Some(row) = found.try_next().await? {
        let cell = |(at, kind): (usize, &String)| {
            let text: Option<String> = row.try_get(at)?;
            Ok::<_, sqlx::Error>(text.map_or(Value::Null, |text| match kind.as_str() {
                "BOOL" => Value::Bool(text == "true"),
                _ => Value::String(text),
            }))
        };
        lot.push(
            kinds
                .iter()
                .enumerate()
                .map(cell)
                .collect::<Result<_, _>>()?,
        );
        if lot.len() == ROWS_A_LINE {
            is_first = false;
            if to.send(line(&json!({ "data": lot }))).await.is_err() {
                return Ok(());
            }
            lot.clear();
        }
    }
    // Cube's client takes an answer of one line for an error: there is always a second.
    if is_first || !lot.is_empty() {
        let _ = to.send(line(&json!({ "data": lot }))).await;
    }
    Ok(())
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}

/// PostgreSQL's type under Cube's name.
fn cube_type(kind: &str) -> &'static str {
    match kind {
        "BOOL" => "Boolean",
        "INT2" | "INT4" | "INT8" => "Int64",
        "FLOAT4" | "FLOAT8" | "NUMERIC" => "Double",
        "TIMESTAMP" | "TIMESTAMPTZ" | "DATE" => "Timestamp",
        _ => "String",
    }
}
