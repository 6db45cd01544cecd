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

use super::tally::row_of;
use super::{Column, SqlError, Translated, Witness};
use crate::execute::{Session, columns_of, text_columns};
use crate::model::SecurityContext;
use crate::service::Service;
use crate::words::Words;

/// Rows in a line.
const ROWS_A_LINE: usize = 1_000;
/// Lines that wait for a slow reader.
const LINES_MAX: usize = 4;

/// A statement that was translated and described.
struct Described {
    session: Session,
    sql: String,
    kinds: Vec<String>,
    /// `None` for one that reads no cube.
    witness: Option<Witness>,
}

/// The answer to a statement, on its way.
pub struct Answer<S> {
    /// Names the proof of its rows, which is there after the last line; `None` where no cube is read.
    pub proof: Option<String>,
    pub lines: S,
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
    ) -> Result<Answer<impl Stream<Item = Bytes> + Send + use<>>, SqlError> {
        let starts = Words::of(sql).starts;
        let is_query = |start: &String| matches!(start.as_str(), "select" | "with" | "values");
        if starts.len() != 1 || !starts.iter().all(is_query) {
            let why = "one SELECT is answered here: everything else takes a PostgreSQL client";
            return Err(SqlError::unsupported(why));
        }
        let Translated { sql, asked } = self.translate_in(sql, zone, context).await?;
        let witness = asked.iter().flatten().next();
        let mut witness = witness.map(|asked| self.witness(asked, Vec::new()));
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
        if let Some(witness) = &mut witness {
            let shown = columns.iter();
            let shown = shown.map(|(name, kind)| Column::of_json(name, kind));
            witness.columns(shown.collect());
        }
        let kinds = columns.into_iter().map(|(_, kind)| kind).collect();
        let (to, from) = mpsc::channel(LINES_MAX);
        let proof = witness.as_ref().map(|it| it.id().to_owned());
        let described = Described {
            session,
            sql,
            kinds,
            witness,
        };
        tokio::spawn(pump(self.clone(), described, to).in_current_span());
        let rest = stream::unfold(from, |mut from| async move {
            let next = from.recv().await?;
            Some((next, from))
        });
        let lines = stream::once(std::future::ready(line(&head))).chain(rest);
        Ok(Answer { proof, lines })
    }
}

/// Sends the rows until there are none, or nobody reads them.
async fn pump(service: Service, described: Described, to: mpsc::Sender<Bytes>) {
    let Described {
        mut session,
        sql,
        kinds,
        mut witness,
    } = described;
    let Some(connection) = session.connection() else {
        return;
    };
    let sent = tokio::select! {
        sent = rows(connection, &sql, &kinds, witness.as_mut(), &to) => sent,
        // The session is dropped, which cancels its statement.
        () = to.closed() => return,
    };
    let ended = session
        .end(if sent.is_ok() { "COMMIT" } else { "ROLLBACK" })
        .await;
    let last = match sent.and_then(|last| ended.map(|()| last)) {
        Ok(last) => {
            // The proof is there before the reader knows that it has all rows.
            witness.map(Witness::end);
            last
        }
        Err(error) => line(&json!({ "error": service.runner.explain(error).to_string() })),
    };
    // Without a reader there is nobody to tell.
    let _ = to.send(last).await;
}

/// Sends all rows but those of the last line, which it returns.
async fn rows(
    connection: &mut PgConnection,
    sql: &str,
    kinds: &[String],
    mut witness: Option<&mut Witness>,
    to: &mpsc::Sender<Bytes>,
) -> Result<Bytes, sqlx::Error> {
    let (names, texts) = text_columns(kinds);
    // A newline ends a comment that the text may end with.
    let sql = format!("SELECT {texts} FROM (\n{sql}\n) AS result ({names})");
    let mut found = sqlx::query(AssertSqlSafe(sql))
        .persistent(false)
        .fetch(connection);
    let mut lot: Vec<Vec<Value>> = Vec::new();
    while let Some(row) = found.try_next().await? {
        if lot.len() == ROWS_A_LINE {
            // Whoever listened is gone, which ends this in a moment.
            let _ = to.send(line(&json!({ "data": lot }))).await;
            lot.clear();
        }
        let mut cells = Vec::with_capacity(kinds.len());
        let mut sent = Vec::with_capacity(kinds.len());
        for (at, kind) in kinds.iter().enumerate() {
            let text: Option<&str> = row.try_get(at)?;
            sent.push(text.map(str::as_bytes));
            cells.push(text.map_or(Value::Null, |text| match kind.as_str() {
                "BOOL" => Value::Bool(text == "true"),
                _ => Value::String(text.to_owned()),
            }));
        }
        if let Some(witness) = &mut witness {
            witness.row(&row_of(&sent));
        }
        lot.push(cells);
    }
    // Cube's client takes an answer of one line for an error: there is always a second.
    Ok(line(&json!({ "data": lot })))
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
