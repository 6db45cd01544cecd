//! SQL over HTTP, as Cube's clients send it: `/v1/cubesql` answers in lines of JSON, and
//! `/v1/sql?format=sql` says what the warehouse would be sent.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ballpoint_metrics::SecurityContext;
use ballpoint_metrics::sql_api::SqlError;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cube::{CONTINUE_WAIT, allowed, proved, refusal};
use crate::app::App;
use crate::doors::Identity;
use crate::table::{Route, VIEWER, post};

pub(super) fn routes() -> Vec<Route> {
    vec![post("/cubejs-api/v1/cubesql", VIEWER, cubesql)]
}

/// What a client sends; how fresh it wants the rows says nothing here, where they are read.
#[derive(Debug, Deserialize)]
struct Asked {
    query: String,
    timezone: Option<String>,
}

/// An error is a line too, with 200 as Cube has it: its client reads lines only then.
async fn cubesql(
    State(app): State<App>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Response {
    let context = who.security_context();
    if let Err(refused) = allowed(&context, "data") {
        return refusal(refused);
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return refusal((400, format!("the body holds a text \"query\": {error}"))),
    };
    let zone = asked.timezone.as_deref().unwrap_or("UTC");
    let answer = match app.metrics.service().await {
        Ok(service) => service.answer_sql(&asked.query, zone, &context).await,
        Err(error) => Err(SqlError::from(error)),
    };
    let mut proof = None;
    let body = match answer {
        Ok(answer) => {
            proof = answer.proof.map(Bytes::from);
            Body::from_stream(answer.lines.map(Ok::<_, std::convert::Infallible>))
        }
        Err(error) => {
            let early = app.is_early(&error.message);
            let said = if early {
                CONTINUE_WAIT.to_owned()
            } else {
                worded(&error)
            };
            Body::from(format!("{}\n", json!({ "error": said })))
        }
    };
    let reply = ([(header::CONTENT_TYPE, "application/json")], body);
    proved(reply.into_response(), proof)
}

/// `/v1/sql` with `format=sql`: the statement for a statement.
pub(super) async fn translated(app: &App, context: &SecurityContext, query: &str) -> Response {
    let sent = match app.metrics.service().await {
        Ok(service) => service.translate(query, context).await,
        Err(error) => Err(SqlError::from(error)),
    };
    // Whatever stays of the client's own words is PostgreSQL's to compute, as the rest is.
    let sql = match sent {
        Ok(sent) => {
            json!({ "status": "ok", "query_type": "pushdown", "sql": [sent.sql, Value::Array(Vec::new())] })
        }
        Err(error) => {
            json!({ "status": "error", "query_type": "pushdown", "error": worded(&error) })
        }
    };
    Json(json!({ "sql": sql })).into_response()
}

fn worded(error: &SqlError) -> String {
    match &error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message.clone(),
    }
}
