//! `target/`: manifest, run results and compiled SQL, in the shape that dbt's consumers read.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::project::Project;
use crate::project::md5_hex;
use crate::project::node::{ColumnDoc, Node, ResourceType};
use crate::run::NodeResult;

/// The dbt whose behaviour and artifacts we follow.
pub(crate) const DBT_VERSION: &str = "1.11.0";

const MANIFEST_SCHEMA: &str = "https://schemas.getdbt.com/dbt/manifest/v12.json";
const RUN_RESULTS_SCHEMA: &str = "https://schemas.getdbt.com/dbt/run-results/v6.json";

/// What every artifact says of its making.
pub(crate) fn metadata(project: &Project, schema: &str, generated_at: &str) -> Json {
    json!({
        "dbt_schema_version": schema,
        "dbt_version": DBT_VERSION,
        "generated_at": generated_at,
        "invocation_id": project.globals.invocation_id,
        "invocation_started_at": project.globals.run_started_at,
        "env": {},
    })
}

fn columns(columns: &std::collections::BTreeMap<String, ColumnDoc>) -> Json {
    let columns = columns.iter().map(|(name, column)| {
        let facts = json!({
            "name": name, "description": column.description, "data_type": column.data_type,
            "meta": {}, "constraints": [], "quote": null, "tags": [],
        });
        (name.clone(), facts)
    });
    Json::Object(columns.collect())
}

fn node_json(project: &Project, node: &Node) -> Json {
    let mut facts = json!({
        "database": node.relation.database,
        "schema": node.relation.schema,
        "name": node.name,
        "resource_type": node.resource_type.name(),
        "package_name": node.package,
        "path": node.path,
        "original_file_path": node.original_file_path,
        "unique_id": node.unique_id,
        "fqn": node.fqn,
        "alias": node.relation.identifier,
        "checksum": {"name": "sha256", "checksum": checksum(&node.raw_code)},
        "config": node.config,
        "tags": node.tags,
        "description": node.description,
        "columns": columns(&node.columns),
        "meta": node.config.get("meta").cloned().unwrap_or_else(|| json!({})),
        "relation_name": node.is_relation().then(|| node.relation.to_string()),
        "raw_code": node.raw_code,
    });
    let Json::Object(map) = &mut facts else {
        return facts;
    };
    if node.resource_type == ResourceType::Seed {
        map.insert("root_path".into(), project.root.to_string_lossy().into());
        map.insert("depends_on".into(), json!({"macros": []}));
        return facts;
    }
    let refs: Vec<Json> = node
        .refs
        .iter()
        .map(|(package, name)| json!({"name": name, "package": package, "version": null}))
        .collect();
    map.insert("language".into(), "sql".into());
    map.insert("refs".into(), refs.into());
    map.insert("sources".into(), json!(node.sources));
    map.insert("metrics".into(), json!([]));
    map.insert(
        "depends_on".into(),
        json!({"macros": [], "nodes": node.depends_on}),
    );
    if let Some(test) = &node.test {
        map.insert("column_name".into(), json!(node.column_name));
        map.insert("file_key_name".into(), Json::Null);
        map.insert("attached_node".into(), json!(node.attached_node));
        map.insert(
            "test_metadata".into(),
            json!({
                "name": test.name, "kwargs": test.kwargs, "namespace": test.namespace,
            }),
        );
    }
    facts
}

fn checksum(text: &str) -> String {
    md5_hex(text)
}

/// The project as `manifest.json`.
pub(crate) fn manifest(project: &Project, generated_at: &str) -> Json {
    let mut meta = metadata(project, MANIFEST_SCHEMA, generated_at);
    meta["project_name"] = json!(project.name);
    meta["project_id"] = json!(md5_hex(&project.name));
    meta["adapter_type"] = json!("postgres");
    meta["quoting"] = json!({"database": true, "schema": true, "identifier": true});
    let nodes: Map<String, Json> = project
        .nodes
        .values()
        .map(|node| (node.unique_id.clone(), node_json(project, node)))
        .collect();
    let sources: Map<String, Json> = project
        .sources
        .values()
        .map(|source| {
            let freshness = source.freshness.as_ref().map(|freshness| {
                let age = |age: &Option<crate::project::node::Age>| match age {
                    Some(age) => json!({"count": age.count, "period": age.period}),
                    None => json!({"count": null, "period": null}),
                };
                json!({"warn_after": age(&freshness.warn_after),
                       "error_after": age(&freshness.error_after), "filter": freshness.filter})
            });
            let facts = json!({
                "database": source.relation.database, "schema": source.relation.schema,
                "name": source.name, "resource_type": "source", "package_name": source.package,
                "path": source.original_file_path,
                "original_file_path": source.original_file_path, "unique_id": source.unique_id,
                "fqn": source.fqn, "source_name": source.source_name, "source_description": "",
                "loader": "", "identifier": source.relation.identifier,
                "relation_name": source.relation.to_string(), "description": source.description,
                "columns": columns(&source.columns), "tags": source.tags,
                "loaded_at_field": source.loaded_at_field, "freshness": freshness,
                "config": {"enabled": true},
            });
            (source.unique_id.clone(), facts)
        })
        .collect();
    let macros: Map<String, Json> = project
        .engine
        .macros
        .iter()
        .map(|known| {
            let id = format!("macro.{}.{}", known.package, known.name);
            let facts = json!({
                "name": known.name, "resource_type": "macro", "package_name": known.package,
                "path": known.place.file, "original_file_path": known.place.file, "unique_id": id,
                "macro_sql": known.source, "depends_on": {"macros": []}, "description": "",
                "meta": {}, "arguments": [], "docs": {"show": true, "node_color": null},
            });
            (id, facts)
        })
        .collect();
    let ids = || project.nodes.keys().chain(project.sources.keys());
    let related = |of: &dyn Fn(&str) -> Vec<String>| -> Map<String, Json> {
        ids().map(|id| (id.clone(), json!(of(id)))).collect()
    };
    let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect::<Vec<_>>();
    json!({
        "metadata": meta, "nodes": nodes, "sources": sources, "macros": macros, "docs": {},
        "exposures": {}, "metrics": {}, "groups": {}, "selectors": {}, "disabled": {},
        "parent_map": related(&|id| owned(project.graph.parents(id))),
        "child_map": related(&|id| owned(project.graph.children(id))),
        "group_map": {}, "saved_queries": {}, "semantic_models": {}, "unit_tests": {},
        "functions": {},
    })
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
                "timing": [],
                "thread_id": "Thread-1",
                "execution_time": result.seconds,
                "adapter_response": adapter_response(result),
                "message": (!result.message.is_empty()).then_some(&result.message),
                "failures": result.failures,
                "unique_id": result.unique_id,
                "compiled": result.compiled.is_some(),
                "compiled_code": result.compiled,
                "relation_name":
                    node.filter(|node| node.is_relation()).map(|node| node.relation.to_string()),
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

fn adapter_response(result: &NodeResult) -> Json {
    match result.rows {
        Some(rows) => json!({"_message": result.message, "rows_affected": rows}),
        None => json!({}),
    }
}

/// Writes a JSON artifact into the project's `target/`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(target: &Path, name: &str, artifact: &Json) -> std::io::Result<()> {
    std::fs::create_dir_all(target)?;
    std::fs::write(target.join(name), artifact.to_string())
}

/// Writes compiled SQL under `target/compiled/<project>/…`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_compiled(
    target: &Path,
    project: &Project,
    node: &Node,
    sql: &str,
) -> std::io::Result<()> {
    let mut file = target
        .join("compiled")
        .join(&project.name)
        .join(&node.original_file_path);
    if node.test.is_some() {
        file = file.join(&node.path);
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, sql)
}
