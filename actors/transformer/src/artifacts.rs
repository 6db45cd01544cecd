//! `target/`: manifest, run results and compiled SQL, in the shape that dbt's consumers read.

pub(crate) mod catalog;
pub(crate) mod docs;
mod manifest;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::data_tests;
use crate::project::Project;
use crate::project::node::Node;
use crate::run::{NodeResult, Status};

pub(crate) use manifest::{checksum_of, config_of, graph_value, lazy_graph, manifest, model_json};

/// The dbt whose behaviour and artifacts we follow.
pub(crate) const DBT_VERSION: &str = "1.11.0";

const RUN_RESULTS_SCHEMA: &str = "https://schemas.getdbt.com/dbt/run-results/v6.json";

/// What every artifact says of its making.
pub(crate) fn metadata(project: &Project, schema: &str, generated_at: &str) -> Json {
    json!({
        "dbt_schema_version": schema,
        "dbt_version": DBT_VERSION,
        "generated_at": python_time(generated_at),
        "invocation_id": project.globals.invocation_id,
        "invocation_started_at": python_time(&project.globals.run_started_at),
        "env": custom_env(project),
    })
}

/// What an artifact says of its making, of an artifact that is written again as it was.
pub(crate) fn renew_metadata(metadata: &mut Json, invocation_id: &str, started: &str, now: &str) {
    metadata["generated_at"] = python_time(now).into();
    metadata["invocation_id"] = invocation_id.into();
    for key in ["invocation_started_at", "run_started_at"] {
        metadata[key] = python_time(started).into();
    }
}

/// A time of RFC 3339 with the six digits that Python writes and its readers expect.
fn python_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// What `DBT_ENV_CUSTOM_ENV_…` asks artifacts to carry.
fn custom_env(project: &Project) -> Map<String, Json> {
    let mut env: Vec<(&str, &str)> = project
        .globals
        .env
        .iter()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("DBT_ENV_CUSTOM_ENV_")?, value.as_str()))
        })
        .collect();
    env.sort_unstable();
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// What a run did as `run_results.json`.
pub(crate) fn run_results(
    project: &Project,
    results: &[NodeResult],
    elapsed: f64,
    generated_at: &str,
) -> Json {
    let results: Vec<Json> = results
        .iter()
        .map(|result| {
            let node = project.nodes.get(&result.unique_id);
            json!({
                "status": result.status.name(),
                "timing": timing(result),
                "thread_id": format!("Thread-{}", result.thread),
                "execution_time": result.seconds,
                "adapter_response": adapter_response(result),
                "message": (!result.message.is_empty()).then_some(&result.message),
                "failures": result.failures,
                "unique_id": result.unique_id,
                "compiled": result.compiled.is_some(),
                "compiled_code": result.compiled,
                "relation_name":
                    node.filter(|node| data_tests::has_relation(node)).map(|node| node.relation_name()),
                "batch_results": null,
            })
        })
        .collect();
    json!({
        "metadata": metadata(project, RUN_RESULTS_SCHEMA, generated_at),
        "results": results,
        "elapsed_time": elapsed,
        "args": {"which": project.globals.command},
    })
}

/// What PostgreSQL said at the end: the command tag, its first words, its rows.
pub(crate) fn adapter_response(result: &NodeResult) -> Json {
    if result.status != Status::Success {
        return json!({});
    }
    let words = result.message.split_whitespace();
    let code: Vec<&str> = words
        .take_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    let mut response = json!({"_message": result.message, "code": code.join(" ")});
    if let Some(rows) = result.rows {
        response["rows_affected"] = rows.into();
    }
    response
}

/// When a node was compiled and run.
pub(crate) fn timing(result: &NodeResult) -> Json {
    let Some(timing) = &result.timing else {
        return json!([]);
    };
    let span = |name: &str, (from, to): (jiff::Timestamp, jiff::Timestamp)| json!({"name": name, "started_at": from.to_string(), "completed_at": to.to_string()});
    json!([
        span("compile", timing.compile),
        span("execute", timing.execute)
    ])
}

/// Writes a JSON artifact into the project's `target/`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(target: &Path, name: &str, artifact: &Json) -> std::io::Result<()> {
    write_text(target, name, &artifact.to_string())
}

/// Writes a file into the project's `target/`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_text(target: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(target)?;
    std::fs::write(target.join(name), text)
}

/// Writes a node's compiled query.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_compiled(
    target: &Path,
    project: &Project,
    node: &Node,
    sql: &str,
) -> std::io::Result<()> {
    write_sql(target, "compiled", project, node, sql)
}

/// Writes SQL under `target/compiled/<project>/…` (the query) or `target/run/<project>/…` (what
/// was sent).
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_sql(
    target: &Path,
    folder: &str,
    project: &Project,
    node: &Node,
    sql: &str,
) -> std::io::Result<()> {
    let mut file = target
        .join(folder)
        .join(&project.name)
        .join(&node.original_file_path);
    // What is declared in a properties file has a file of its own below that file's name.
    let declared =
        node.original_file_path.ends_with(".yml") || node.original_file_path.ends_with(".yaml");
    if node.test.is_some() {
        file = file.join(&node.path);
    } else if declared {
        file = file.join(format!("{}.sql", node.name));
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, sql)
}
