//! What the manifest has of macros, groups and documentation: what only describes.

use serde_json::{Map, Value as Json, json};

use super::with_defaults;
use crate::project::Project;

pub(super) fn macros_json(project: &Project) -> Map<String, Json> {
    let mut macros = Map::new();
    for known in &project.engine.macros {
        let said = project
            .macro_properties
            .iter()
            .find(|said| said.package == known.package && said.name == known.name);
        let of = |key: &str, default: Json| {
            let given = said.and_then(|said| said.properties.get(key));
            given.cloned().unwrap_or(default)
        };
        let id = format!("macro.{}.{}", known.package, known.name);
        let arguments: Vec<Json> = of("arguments", json!([]))
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| with_defaults(it, json!({"name": "", "type": null, "description": ""})))
            .collect();
        let facts = json!({
            "name": known.name, "resource_type": "macro", "package_name": known.package,
            "path": known.place.file, "original_file_path": known.place.file, "unique_id": id,
            "macro_sql": known.written, "depends_on": {"macros": []},
            "description": of("description", json!("")), "meta": of("meta", json!({})),
            "docs": {"show": true, "node_color": null},
            "config": {"meta": of("meta", json!({})), "docs": {"show": true, "node_color": null}},
            "patch_path": null, "arguments": arguments, "created_at": 0.0,
            "supported_languages": null,
        });
        macros.insert(id, facts);
    }
    macros
}

pub(super) fn groups_json(project: &Project) -> Map<String, Json> {
    let groups = project.groups.iter().map(|group| {
        let id = format!("group.{}.{}", group.package, group.name);
        let of = |key: &str| group.properties.get(key).cloned().unwrap_or_default();
        let facts = json!({
            "name": group.name, "resource_type": "group", "package_name": group.package,
            "path": group.original_file_path, "original_file_path": group.original_file_path,
            "unique_id": id, "description": of("description"), "config": {"meta": {}},
            "owner": with_defaults(&of("owner"), json!({"email": null, "name": null})),
        });
        (id, facts)
    });
    groups.collect()
}

pub(super) fn docs_json(project: &Project) -> Map<String, Json> {
    let docs = project.docs.iter().map(|((package, name), text)| {
        let id = format!("doc.{package}.{name}");
        let facts = json!({
            "name": name, "resource_type": "doc", "package_name": package, "path": "",
            "original_file_path": "", "unique_id": id, "block_contents": text,
        });
        (id, facts)
    });
    docs.collect()
}
