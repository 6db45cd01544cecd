//! What properties files declare and no template makes: sources, exposures, unit tests, the semantic
//! layer.

use serde_json::{Value as Json, json};

use super::{columns, refs, with_defaults};
use crate::project::Project;
use crate::project::node::{Age, Exposure, Fixture, Freshness, Node, ResourceType, Source};
use crate::project::semantic::Semantic;

/// What a source may be at most behind; a part that is not said is null.
fn freshness_json(freshness: Option<&Freshness>) -> Json {
    let age = |age: Option<&Age>| json!({"count": age.map(|it| it.count), "period": age.map(|it| &it.period)});
    let (warn, error) = (
        freshness.and_then(|it| it.warn_after.as_ref()),
        freshness.and_then(|it| it.error_after.as_ref()),
    );
    json!({"warn_after": age(warn), "error_after": age(error),
           "filter": freshness.and_then(|it| it.filter.as_ref())})
}

/// Which parts of a source's name it says itself whether to quote.
fn source_quoting(source: &Source) -> Json {
    let given = |key: &str| source.given_quoting.get(key);
    json!({"database": given("database"), "schema": given("schema"),
           "identifier": given("identifier"), "column": given("column")})
}

pub(super) fn source_json(source: &Source) -> Json {
    let freshness = match source.config.get("freshness") {
        Some(Json::Null) => Json::Null,
        _ => freshness_json(source.freshness.as_ref()),
    };
    let config = json!({
        "enabled": true, "event_time": null, "freshness": freshness, "meta": {}, "tags": [],
        "loaded_at_field": source.loaded_at_field, "loaded_at_query": source.loaded_at_query,
        "static_analysis": null,
    });
    let mut own = source.config.clone();
    // What the source says in full stands in for what the file says of it.
    own.retain(|key, _| {
        !["freshness", "loaded_at_field", "loaded_at_query"].contains(&key.as_str())
    });
    json!({
        "database": source.relation.database, "schema": source.relation.schema,
        "name": source.name, "resource_type": "source", "package_name": source.package,
        "path": source.original_file_path, "original_file_path": source.original_file_path,
        "unique_id": source.unique_id, "fqn": source.fqn, "source_name": source.source_name,
        "source_description": source.source_description, "source_meta": source.source_meta,
        "loader": source.loader, "identifier": source.relation.identifier,
        "quoting": source_quoting(source),
        "relation_name": source.relation_name(), "description": source.description,
        "columns": columns(&source.columns), "tags": source.tags, "meta": source.meta,
        "loaded_at_field": source.loaded_at_field, "loaded_at_query": source.loaded_at_query,
        "freshness": freshness, "external": null,
        "config": with_defaults(&Json::Object(own), config), "patch_path": null,
        "unrendered_config": {}, "created_at": 0.0, "doc_blocks": [],
        "unrendered_database": null, "unrendered_schema": null,
    })
}

/// A file within its resource folder.
fn in_folder(file: &str) -> &str {
    file.split_once('/').map_or(file, |(_, rest)| rest)
}

pub(super) fn exposure_json(exposure: &Exposure) -> Json {
    let of = |key: &str| exposure.properties.get(key).cloned().unwrap_or_default();
    let defaults = json!({"enabled": true, "tags": [], "meta": {}});
    let config = with_defaults(&of("config"), defaults);
    json!({
        "name": exposure.name, "resource_type": "exposure", "package_name": exposure.package,
        "path": in_folder(&exposure.original_file_path),
        "original_file_path": exposure.original_file_path, "unique_id": exposure.unique_id, "fqn": exposure.fqn, "type": of("type"),
        "owner": with_defaults(&of("owner"), json!({"email": null, "name": null})),
        "description": of("description").as_str().unwrap_or_default(), "label": of("label"),
        "maturity": of("maturity"), "url": of("url"), "tags": exposure.tags,
        "meta": config.get("meta").cloned().unwrap_or_else(|| json!({})), "config": config,
        "unrendered_config": {}, "created_at": 0.0,
        "metrics": exposure.metrics.iter().map(|name| [name]).collect::<Vec<_>>(),
        "depends_on": {"macros": [], "nodes": exposure.depends_on},
        "refs": refs(&exposure.refs), "sources": exposure.sources,
    })
}

fn semantic_json(semantic: &Semantic) -> Json {
    let mut facts = json!({
        "name": semantic.name, "resource_type": semantic.kind.name(),
        "package_name": semantic.package, "path": in_folder(&semantic.original_file_path),
        "original_file_path": semantic.original_file_path, "unique_id": semantic.unique_id,
        "fqn": semantic.fqn, "config": semantic.config, "unrendered_config": {},
        "depends_on": {"macros": [], "nodes": semantic.depends_on}, "created_at": 0.0,
        "group": semantic.config.get("group"),
    });
    if semantic.kind != ResourceType::SemanticModel {
        facts["tags"] = json!(semantic.tags);
    }
    if semantic.kind == ResourceType::Metric {
        facts["meta"] = json!(semantic.config.get("meta"));
    }
    if let Json::Object(facts) = &mut facts {
        facts.extend(semantic.facts.clone());
    }
    facts
}

/// Everything of one kind of the semantic layer.
pub(super) fn semantics_json(project: &Project, kind: ResourceType) -> Json {
    let all = project.semantics.values().filter(|it| it.kind == kind);
    Json::Object(
        all.map(|it| (it.unique_id.clone(), semantic_json(it)))
            .collect(),
    )
}

fn fixture_json(fixture: &Fixture) -> Json {
    let rows = match &fixture.sql {
        Some(sql) => json!(sql),
        None => json!(fixture.rows),
    };
    let mut facts = json!({"rows": rows, "format": fixture.format, "fixture": null});
    if !fixture.input.is_empty() {
        facts["input"] = json!(fixture.input);
    }
    facts
}

pub(super) fn unit_test_json(node: &Node) -> Json {
    let unit = node.unit_test.clone().unwrap_or_default();
    let overrides = json!({"macros": unit.macros, "vars": unit.vars, "env_vars": unit.env_vars});
    let mut config = json!({"tags": [], "meta": {}, "enabled": true, "static_analysis": null});
    if let Json::Object(map) = &mut config {
        let own = node.config.iter().filter(|(key, _)| *key != "materialized");
        map.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    }
    json!({
        "model": unit.model, "name": node.name, "resource_type": "unit_test",
        "package_name": node.package, "path": node.path, "unique_id": node.unique_id,
        "original_file_path": node.original_file_path, "fqn": node.fqn,
        "given": unit.given.iter().map(fixture_json).collect::<Vec<_>>(),
        "expect": fixture_json(&unit.expect), "description": node.description,
        "overrides": overrides, "depends_on": {"macros": [], "nodes": node.depends_on},
        "config": config, "checksum": null, "schema": node.relation.schema, "created_at": 0.0,
        "versions": null, "version": null,
    })
}
