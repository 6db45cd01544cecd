//! The tools: what each takes, and what it answers.

use ballpoint_metrics::SecurityContext;
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::{Mcp, catalogue};

/// Rows of a result where nothing is asked, and at most: a model reads no more.
const ROWS_BY_DEFAULT: u64 = 50;
const ROWS_MAX: u64 = 500;
/// Values of a dimension where nothing is asked.
const VALUES_BY_DEFAULT: usize = 50;
/// Runs and incidents in the status.
const RECENT: u32 = 10;

/// Why a tool gave nothing.
pub(super) enum Failed {
    NoSuchTool,
    /// In words for the model.
    Call(String),
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Call(error.to_string())
    }
}

pub(super) fn all() -> Vec<Tool> {
    let query = json!({
        "measures": { "type": "array", "items": { "type": "string" }, "description": "full names, such as Orders.count" },
        "dimensions": { "type": "array", "items": { "type": "string" } },
        "segments": { "type": "array", "items": { "type": "string" } },
        "timeDimensions": { "type": "array", "items": { "type": "object", "properties": {
            "dimension": { "type": "string" },
            "granularity": { "type": "string", "description": "hour, day, week, month, quarter, year" },
            "dateRange": { "description": "two dates, or words such as 'last 7 days'" },
        }, "required": ["dimension"] } },
        "filters": { "type": "array", "items": { "type": "object" },
            "description": "Cube filters: {member, operator, values}, or {and: […]}, {or: […]}" },
        "order": { "description": "{member: 'asc'|'desc'} or [[member, 'asc'|'desc']]" },
        "limit": { "type": "integer", "minimum": 1, "maximum": ROWS_MAX },
        "timezone": { "type": "string" },
    });
    vec![
        tool(
            "list_metrics",
            "Measures, dimensions and segments by name, title and kind.",
            &json!({
                "search": { "type": "string", "description": "part of a name, title or synonym" },
                "cube": { "type": "string" },
            }),
            &[],
        ),
        tool(
            "describe_metric",
            "One member: definition, unit, synonyms, and the dimensions it can be split by.",
            &json!({ "name": { "type": "string", "description": "full name, such as Orders.count" } }),
            &["name"],
        ),
        tool(
            "get_dimension_values",
            "The values that a dimension has in the data, to filter by.",
            &json!({
                "dimension": { "type": "string" },
                "search": { "type": "string" },
                "limit": { "type": "integer", "minimum": 1, "maximum": ROWS_MAX },
            }),
            &["dimension"],
        ),
        tool(
            "query_metrics",
            "Rows of a query in Cube's form.",
            &query,
            &[],
        ),
        tool(
            "explain_query",
            "The SQL of a query and the definitions of its members, without running it.",
            &query,
            &[],
        ),
        tool(
            "ask",
            "A question in words, answered with text, rows, query and proof id, or a question back with \
             options, or a refusal with its reason. Pass conversation_id to follow up.",
            &json!({
                "question": { "type": "string" },
                "conversation_id": { "type": "string" },
            }),
            &["question"],
        ),
        tool(
            "pipeline_status",
            "Recent runs, open incidents and how fresh each source is.",
            &json!({}),
            &[],
        ),
    ]
}

fn tool(name: &'static str, about: &'static str, properties: &Value, required: &[&str]) -> Tool {
    let schema = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    });
    let schema: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
    let hints = ToolAnnotations::new().read_only(true).open_world(false);
    Tool::new(name, about, schema).with_annotations(hints)
}

pub(super) async fn call(
    mcp: &Mcp,
    name: &str,
    arguments: Value,
    caller: &SecurityContext,
) -> Result<Value, Failed> {
    let known = all().into_iter().find(|tool| tool.name == name);
    let known = known.ok_or(Failed::NoSuchTool)?;
    check(&known, &arguments)?;
    match name {
        "list_metrics" => {
            let members = visible(mcp, caller).await?;
            let listed = catalogue::listed(
                &members,
                text(&arguments, "search"),
                text(&arguments, "cube"),
            );
            Ok(json!({ "members": listed }))
        }
        "describe_metric" => {
            let members = visible(mcp, caller).await?;
            let name = text(&arguments, "name").unwrap_or_default();
            catalogue::described(&members, name).ok_or_else(|| {
                Failed::Call(match catalogue::near(&members, name) {
                    Some(near) => format!("there is no member {name}; did you mean {near}?"),
                    None => format!("there is no member {name}; list_metrics names all"),
                })
            })
        }
        "get_dimension_values" => values(mcp, &arguments, caller).await,
        "query_metrics" => rows(mcp, arguments, caller).await,
        "explain_query" => explain(mcp, arguments, caller).await,
        "ask" => ask(mcp, &arguments).await,
        _ => status(mcp).await,
    }
}

/// Names that a schema does not know are said, not dropped: a filter that is not read gives a wrong
/// number.
fn check(tool: &Tool, arguments: &Value) -> Result<(), Failed> {
    let known = tool
        .input_schema
        .get("properties")
        .and_then(Value::as_object);
    let given = arguments.as_object().into_iter().flatten();
    for (name, _) in given {
        if !known.is_some_and(|known| known.contains_key(name)) {
            let known: Vec<&str> = known
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            return Err(Failed::Call(format!(
                "{} takes no {name}; it takes {}",
                tool.name,
                known.join(", ")
            )));
        }
    }
    let required = tool.input_schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if text(arguments, name).is_none() {
            return Err(Failed::Call(format!("{} needs {name}, a text", tool.name)));
        }
    }
    Ok(())
}

fn text<'a>(arguments: &'a Value, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

async fn visible(
    mcp: &Mcp,
    caller: &SecurityContext,
) -> Result<ballpoint_metrics::catalog::Catalog, Failed> {
    catalogue::visible(mcp, caller).await.map_err(Failed::Call)
}

async fn values(mcp: &Mcp, arguments: &Value, caller: &SecurityContext) -> Result<Value, Failed> {
    let dimension = text(arguments, "dimension").unwrap_or_default();
    let mut query =
        json!({ "dimensions": [dimension], "order": { dimension: "asc" }, "limit": ROWS_MAX });
    if let Some(search) = text(arguments, "search") {
        query["filters"] =
            json!([{ "member": dimension, "operator": "contains", "values": [search] }]);
    }
    let (body, _) = loaded(mcp, &query, caller).await?;
    let limit = arguments["limit"]
        .as_u64()
        .and_then(|it| usize::try_from(it).ok());
    let found = body["data"].as_array().into_iter().flatten();
    let found: Vec<&Value> = found.map(|row| &row[dimension]).collect();
    let shown = limit.unwrap_or(VALUES_BY_DEFAULT).min(found.len());
    Ok(json!({ "values": found[..shown], "more": shown < found.len() }))
}

async fn rows(mcp: &Mcp, mut query: Value, caller: &SecurityContext) -> Result<Value, Failed> {
    let limit = query["limit"]
        .as_u64()
        .unwrap_or(ROWS_BY_DEFAULT)
        .min(ROWS_MAX);
    // One more tells whether there are more.
    query["limit"] = json!(limit + 1);
    let (mut body, proof) = loaded(mcp, &query, caller).await?;
    let mut rows: Vec<Value> = match body["data"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(json!({ "rows": rows, "more": more, "proof_id": proof }))
}

/// Cube's reply, and the id of its proof.
async fn loaded(
    mcp: &Mcp,
    query: &Value,
    caller: &SecurityContext,
) -> Result<(Value, Option<String>), Failed> {
    let request = json!({ "query": query });
    let raw = request.to_string();
    let served = mcp.metrics.load_served(&raw, || Ok(request), caller).await;
    let body = serde_json::from_slice(&served.body)?;
    let proof = served.proof.as_deref().map(String::from_utf8_lossy);
    Ok((
        read(served.status, body)?,
        proof.map(std::borrow::Cow::into_owned),
    ))
}

fn read(status: u16, body: Value) -> Result<Value, Failed> {
    match body["error"].as_str() {
        None if status == 200 => Ok(body),
        Some(said) => Err(Failed::Call(said.to_owned())),
        None => Err(Failed::Call(format!(
            "the metrics answered with status {status}"
        ))),
    }
}

async fn explain(mcp: &Mcp, query: Value, caller: &SecurityContext) -> Result<Value, Failed> {
    let reply = mcp.metrics.sql(&json!({ "query": query }), caller).await;
    let body = read(reply.status, reply.body)?;
    let members = visible(mcp, caller).await?;
    let named = |kind: &str| query[kind].as_array().cloned().unwrap_or_default();
    let names = [named("measures"), named("dimensions")].concat();
    let definitions: Vec<Value> = names
        .iter()
        .filter_map(|name| members.member(name.as_str()?))
        .map(|it| json!({ "name": it.name, "title": it.title, "description": it.description, "sql": it.sql }))
        .collect();
    Ok(json!({ "sql": body["sql"]["sql"], "members": definitions }))
}

async fn ask(mcp: &Mcp, arguments: &Value) -> Result<Value, Failed> {
    let question = text(arguments, "question").unwrap_or_default().to_owned();
    let conversation = text(arguments, "conversation_id").map(str::to_owned);
    let answer = mcp.chat.ask(question, conversation).await?;
    let shown = usize::try_from(ROWS_BY_DEFAULT).unwrap_or(usize::MAX);
    let options: Vec<&str> = answer.options.iter().map(|it| it.label.as_str()).collect();
    Ok(json!({
        "behaviour": answer.behaviour,
        "answer": answer.answer,
        "rows": answer.rows.iter().take(shown).collect::<Vec<_>>(),
        "more": answer.rows.len() > shown,
        "query": answer.query,
        "options": options,
        "proof_id": answer.proof_id,
        "conversation_id": answer.conversation_id,
    }))
}

async fn status(mcp: &Mcp) -> Result<Value, Failed> {
    let runs = mcp.store.runs().recent(RECENT).await?;
    let runs: Vec<Value> = runs
        .into_iter()
        .map(|run| {
            json!({ "kind": run.kind, "scope": run.scope, "status": run.status, "error": run.error,
                "started_at": run.started_at, "finished_at": run.finished_at, "rows": run.row_count })
        })
        .collect();
    let open = mcp.store.incidents().open().await?;
    let open: Vec<Value> = open
        .into_iter()
        .map(|it| json!({ "kind": it.kind, "subject": it.subject, "error": it.error, "since": it.opened_at }))
        .collect();
    let sources = mcp.store.freshness().all().await?;
    let sources: Vec<Value> = sources
        .into_iter()
        .map(|it| json!({ "source": it.source, "complete_until": it.complete_until() }))
        .collect();
    Ok(json!({ "runs": runs, "incidents": open, "sources": sources }))
}
