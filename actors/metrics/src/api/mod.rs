//! Cube's REST API as functions from a request's JSON to a reply's: no HTTP in here.

pub(crate) mod annotation;
mod load;
mod meta;
mod transformed;

use serde_json::{Value, json};

use crate::plan::QueryError;

/// What the web server sends back.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiReply {
    pub status: u16,
    pub body: Value,
}

impl ApiReply {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }
}

impl From<QueryError> for ApiReply {
    fn from(error: QueryError) -> Self {
        Self {
            status: error.status(),
            body: error.body(),
        }
    }
}

/// A request body: the query, and whether the client reads several results.
pub(crate) struct Request {
    pub(crate) query: Value,
    pub(crate) multi: bool,
}

impl Request {
    /// From `{query, queryType}`, where the query may be JSON in a string, as in a GET.
    pub(crate) fn read(request: &Value) -> Result<Self, QueryError> {
        let missing = || QueryError::Invalid("Query param is required".to_owned());
        let query = match request.get("query").ok_or_else(missing)? {
            Value::String(text) => serde_json::from_str(text)
                .map_err(|error| QueryError::Invalid(format!("the query is not JSON: {error}")))?,
            Value::Null => return Err(missing()),
            value => value.clone(),
        };
        let multi = request.get("queryType").and_then(Value::as_str) == Some("multi");
        Ok(Self { query, multi })
    }
}

/// `asc` or `desc`.
pub(crate) fn direction(descending: bool) -> Value {
    json!(if descending { "desc" } else { "asc" })
}
