//! `manifest.json`, version 12.

mod declared;
mod described;

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{DynObject, Object, ObjectRepr, Value};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::metadata;
use crate::jinja::builtins::mutable;
use crate::jinja::relation::{Quoting, Relation};
use crate::project::node::{ColumnDoc, Node, ResourceType};
use crate::project::{Project, md5_hex};
use declared::{exposure_json, semantics_json, source_json, unit_test_json};
use described::{docs_json, groups_json, macros_json};

const MANIFEST_SCHEMA: &str = "https://schemas.getdbt.com/dbt/manifest/v12.json";

fn columns(columns: &[ColumnDoc]) -> Json {
    let columns = columns.iter().map(|column| {
        let facts = json!({
            "name": column.name, "description": column.description,
            "data_type": column.data_type, "meta": column.meta,
            "constraints": constraints(&column.constraints, None), "quote": column.quote,
            "config": {"meta": column.meta, "tags": column.tags}, "tags": column.tags,
            "granularity": column.granularity, "doc_blocks": [],
        });
        (column.name.clone(), facts)
    });
    Json::Object(columns.collect())
}

/// Constraints with every key that dbt has; those of a model name their columns.
fn constraints(given: &[Json], columns: Option<()>) -> Vec<Json> {
    let all = given.iter().map(|constraint| {
        let of = |key: &str| constraint.get(key).cloned().unwrap_or_default();
        let mut facts = json!({
            "type": of("type"), "name": of("name"), "expression": of("expression"),
            "warn_unenforced": true, "warn_unsupported": true, "to": of("to"),
            "to_columns": constraint.get("to_columns").cloned().unwrap_or_else(|| json!([])),
        });
        if columns.is_some() {
            let names = constraint.get("columns").cloned();
            facts["columns"] = names.unwrap_or_else(|| json!([]));
        }
        facts
    });
    all.collect()
}

/// A node's configuration with what dbt fills in.
fn config_json(node: &Node) -> Json {
    let mut config = match node.resource_type {
        ResourceType::Test => json!({
            "enabled": true, "alias": null, "schema": "dbt_test__audit", "database": null,
            "tags": [], "meta": {}, "group": null, "materialized": "test", "severity": "ERROR",
            "store_failures": null, "store_failures_as": null, "where": null, "limit": null,
            "fail_calc": "count(*)", "warn_if": "!= 0", "error_if": "!= 0",
        }),
        _ => json!({
            "enabled": true, "alias": null, "schema": null, "database": null, "tags": [],
            "meta": {}, "group": null, "materialized": node.materialization.name(),
            "incremental_strategy": null, "batch_size": null, "lookback": 1, "begin": null,
            "persist_docs": {}, "post-hook": [], "pre-hook": [], "quoting": {},
            "column_types": {}, "full_refresh": null, "unique_key": null,
            "on_schema_change": "ignore", "on_configuration_change": "apply", "grants": {},
            "packages": [], "docs": {"show": true, "node_color": null},
            "contract": {"enforced": false, "alias_types": true}, "event_time": null,
            "concurrent_batches": null,
        }),
    };
    if let Json::Object(map) = &mut config {
        for (key, value) in &node.config {
            let value = match key.as_str() {
                "pre-hook" | "post-hook" => hooks(value),
                "contract" => with_defaults(value, json!({"enforced": false, "alias_types": true})),
                "docs" => with_defaults(value, json!({"show": true, "node_color": null})),
                _ => value.clone(),
            };
            map.insert(key.clone(), value);
        }
        match node.resource_type {
            ResourceType::Model => {
                map.entry("access").or_insert_with(|| "protected".into());
            }
            ResourceType::Seed => {
                map.entry("delimiter").or_insert_with(|| ",".into());
                map.entry("quote_columns").or_insert(Json::Null);
            }
            _ => {}
        }
    }
    config
}

/// A node's configuration as the manifest has it.
pub(crate) fn config_of(node: &Node) -> Json {
    config_json(node)
}

fn with_defaults(value: &Json, mut defaults: Json) -> Json {
    if let (Json::Object(all), Json::Object(given)) = (&mut defaults, value) {
        all.extend(given.clone());
    }
    defaults
}

fn hooks(value: &Json) -> Json {
    let hooks = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|hook| match hook {
            Json::String(sql) => json!({"sql": sql, "transaction": true, "index": null}),
            other => with_defaults(
                other,
                json!({"sql": "", "transaction": true, "index": null}),
            ),
        });
    Json::Array(hooks.collect())
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.trim().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a node was made of, so that an edit can be told.
pub(crate) fn checksum_of(project: &Project, node: &Node) -> String {
    match node.resource_type {
        ResourceType::Seed => {
            let text = std::fs::read_to_string(project.root.join(node.file()));
            checksum(&text.unwrap_or_default())
        }
        _ => checksum(&node.raw_code),
    }
}

fn refs(refs: &[(Option<String>, String)]) -> Vec<Json> {
    refs.iter()
        .map(|(package, name)| {
            let (name, version) = match name.rsplit_once(".v") {
                Some((name, version)) => (name, Some(version)),
                None => (name.as_str(), None),
            };
            let version = version.map(|text| match text.parse::<i64>() {
                Ok(number) => Json::from(number),
                Err(_) => text.into(),
            });
            json!({"name": name, "package": package, "version": version})
        })
        .collect()
}

pub(super) fn node_json(project: &Project, node: &Node) -> Json {
    let checksum = json!({"name": "sha256", "checksum": checksum_of(project, node)});
    node_facts(project, node, checksum)
}

fn node_facts(project: &Project, node: &Node, checksum: Json) -> Json {
    let config = config_json(node);
    let mut facts = json!({
        "database": node.relation.database, "schema": node.relation.schema,
        "name": node.name, "resource_type": node.resource_type.name(),
        "package_name": node.package, "path": node.path,
        "original_file_path": node.original_file_path, "unique_id": node.unique_id,
        "fqn": node.fqn, "alias": node.relation.identifier,
        "checksum": checksum,
        "tags": node.tags, "description": node.description, "columns": columns(&node.columns),
        "meta": config["meta"], "group": config["group"],
        "docs": config.get("docs").cloned().unwrap_or_else(|| json!({"show": true, "node_color": null})),
        "patch_path": node.patch_path, "build_path": null, "unrendered_config": node.config,
        "created_at": 0.0, "doc_blocks": [],
        "relation_name": crate::data_tests::has_relation(node).then(|| node.relation_name()),
        "raw_code": node.raw_code.trim(), "config": config,
    });
    let Json::Object(map) = &mut facts else {
        return facts;
    };
    if node.resource_type == ResourceType::Seed {
        map.insert("root_path".into(), project.root.to_string_lossy().into());
        map.insert("depends_on".into(), json!({"macros": []}));
        return facts;
    }
    map.insert("language".into(), "sql".into());
    map.insert("refs".into(), refs(&node.refs).into());
    map.insert("sources".into(), json!(node.sources));
    map.insert("metrics".into(), json!([]));
    map.insert("functions".into(), json!([]));
    map.insert(
        "depends_on".into(),
        json!({"macros": node.depends_on_macros, "nodes": node.depends_on}),
    );
    map.insert("compiled_path".into(), Json::Null);
    map.insert(
        "contract".into(),
        json!({"enforced": node.is_contracted(), "alias_types": true, "checksum": null}),
    );
    if node.resource_type == ResourceType::Model {
        let access = node.config.get("access").cloned();
        map.insert(
            "access".into(),
            access.unwrap_or_else(|| "protected".into()),
        );
        map.insert(
            "constraints".into(),
            constraints(&node.constraints, Some(())).into(),
        );
        let version = node.version.as_ref();
        for (key, value) in [
            ("version", json!(version.map(|it| &it.version))),
            ("latest_version", json!(version.map(|it| &it.latest))),
            (
                "deprecation_date",
                json!(version.map(|it| &it.deprecation_date)),
            ),
            ("defer_relation", Json::Null),
            ("time_spine", time_spine(node)),
        ] {
            map.insert(key.into(), value);
        }
        map.insert("primary_key".into(), json!([]));
    }
    if let Some(test) = &node.test {
        map.insert("column_name".into(), json!(node.column_name));
        map.insert("file_key_name".into(), file_key(node).into());
        map.insert("attached_node".into(), json!(node.attached_node));
        map.insert(
            "test_metadata".into(),
            json!({"name": test.name, "kwargs": test.kwargs, "namespace": test.namespace}),
        );
    }
    facts
}

/// The column of a time spine, and those of its own grains.
fn time_spine(node: &Node) -> Json {
    let spine = node.time_spine.as_ref();
    spine.map_or(Json::Null, |given| {
        let own = given.get("custom_granularities").cloned();
        json!({"standard_granularity_column": given.get("standard_granularity_column"),
               "custom_granularities": own.unwrap_or_else(|| json!([]))})
    })
}

/// Where a generic test is declared: `models.orders`.
fn file_key(node: &Node) -> Option<String> {
    let (kind, rest) = node.attached_node.as_deref()?.split_once('.')?;
    let name = rest.split('.').nth(1)?;
    Some(format!("{kind}s.{name}"))
}

/// A node as its own templates see it: `model`.
pub(crate) fn model_json(project: &Project, node: &Node, relation: &Relation) -> Json {
    let mut facts = node_json_without_files(project, node);
    facts["schema"] = relation.schema.as_str().into();
    facts["alias"] = relation.identifier.as_str().into();
    facts["database"] = relation.database.as_str().into();
    facts
}

fn node_json_without_files(project: &Project, node: &Node) -> Json {
    match node.resource_type {
        // A seed's rows are no business of a template.
        ResourceType::Seed => {
            let mut facts = node_facts(project, node, Json::Null);
            facts["depends_on"] = json!({"macros": [], "nodes": []});
            facts
        }
        _ => node_json(project, node),
    }
}

/// The project as `manifest.json`.
pub(crate) fn manifest(project: &Project, generated_at: &str) -> Json {
    let mut meta = metadata(project, MANIFEST_SCHEMA, generated_at);
    meta["project_name"] = json!(project.name);
    meta["project_id"] = json!(md5_hex(&project.name));
    meta["adapter_type"] = json!("postgres");
    meta["send_anonymous_usage_stats"] = json!(false);
    meta["user_id"] = Json::Null;
    let Quoting([database, schema, identifier]) = project.quoting;
    meta["quoting"] =
        json!({"database": database, "schema": schema, "identifier": identifier, "column": null});
    meta["run_started_at"] = meta["invocation_started_at"].clone();
    let mut nodes = Map::new();
    let mut unit_tests = Map::new();
    for node in project
        .nodes
        .values()
        .chain(&project.on_run_start)
        .chain(&project.on_run_end)
    {
        match node.resource_type {
            ResourceType::UnitTest => {
                unit_tests.insert(node.unique_id.clone(), unit_test_json(node))
            }
            _ => nodes.insert(node.unique_id.clone(), node_json(project, node)),
        };
    }
    let sources: Map<String, Json> = project
        .sources
        .iter()
        .map(|(id, source)| (id.clone(), source_json(source)))
        .collect();
    let exposures: Map<String, Json> = project
        .exposures
        .iter()
        .map(|(id, exposure)| (id.clone(), exposure_json(exposure)))
        .collect();
    let mut group_map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in project.nodes.values() {
        if let Some(group) = node.config.get("group").and_then(Json::as_str) {
            group_map.entry(group).or_default().push(&node.unique_id);
        }
    }
    let ids = || {
        project
            .nodes
            .keys()
            .chain(project.sources.keys())
            .chain(project.exposures.keys())
            .chain(project.semantics.keys())
    };
    let related = |of: &dyn Fn(&str) -> Vec<String>| -> Map<String, Json> {
        ids().map(|id| (id.clone(), json!(of(id)))).collect()
    };
    let owned = |ids: Vec<&str>| {
        let mut ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    json!({
        "metadata": meta, "nodes": nodes, "sources": sources, "macros": macros_json(project),
        "docs": docs_json(project), "exposures": exposures,
        "metrics": semantics_json(project, ResourceType::Metric),
        "groups": groups_json(project), "selectors": crate::select::selectors_json(project),
        "disabled": {}, "parent_map": related(&|id| owned(project.graph.parents(id))),
        "child_map": related(&|id| owned(project.graph.children(id))),
        "group_map": group_map,
        "saved_queries": semantics_json(project, ResourceType::SavedQuery),
        "semantic_models": semantics_json(project, ResourceType::SemanticModel),
        "unit_tests": unit_tests, "functions": {},
    })
}

/// `graph` as templates read it.
pub(crate) fn graph_value(project: &Project) -> Value {
    let nodes = project
        .nodes
        .values()
        .filter(|node| node.resource_type != ResourceType::UnitTest)
        .map(|node| {
            (
                node.unique_id.clone(),
                node_json_without_files(project, node),
            )
        });
    let sources = project
        .sources
        .iter()
        .map(|(id, source)| (id.clone(), source_json(source)));
    let exposures = project
        .exposures
        .iter()
        .map(|(id, exposure)| (id.clone(), exposure_json(exposure)));
    mutable(&json!({
        "nodes": Json::Object(nodes.collect()), "sources": Json::Object(sources.collect()),
        "exposures": Json::Object(exposures.collect()), "groups": groups_json(project),
        "metrics": semantics_json(project, ResourceType::Metric),
        "semantic_models": semantics_json(project, ResourceType::SemanticModel),
        "saved_queries": semantics_json(project, ResourceType::SavedQuery), "functions": {},
    }))
}

/// `graph`, made when it is first looked into.
pub(crate) fn lazy_graph(project: &Arc<Project>) -> Value {
    Value::from_dyn_object(DynObject::new(Arc::new(LazyGraph(project.clone()))))
}

#[derive(Debug)]
struct LazyGraph(Arc<Project>);

impl Object for LazyGraph {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = self.0.graph_value().get_item(key).ok()?;
        (!found.is_undefined()).then_some(found)
    }
}
