//! `index.html`: the project for people, from its manifest and its catalog. Both are in the page, so
//! it opens from a folder as it does from a server.

use serde_json::{Map, Value as Json, json};

/// The page; `DATA` stands where the project goes.
const PAGE: &str = include_str!("docs.html");

/// What the page shows of a manifest; its other sections only describe how the project is made.
const SHOWN: [&str; 3] = ["nodes", "sources", "exposures"];

/// The page of a manifest and a catalog.
pub(crate) fn page(manifest: &Json, catalog: &Json) -> String {
    let entries: Map<String, Json> = SHOWN
        .iter()
        .filter_map(|section| manifest[section].as_object())
        .flatten()
        .filter(|(id, _)| !id.starts_with("operation."))
        .map(|(id, node)| (id.clone(), entry(id, node, manifest, catalog)))
        .collect();
    let data = json!({
        "project": manifest["metadata"]["project_name"],
        "generated_at": manifest["metadata"]["generated_at"],
        "entries": entries,
    });
    // What ends the element that holds the data cannot stand in it.
    let data = data.to_string().replace('<', "\\u003c");
    PAGE.replacen("DATA", &data, 1)
}

fn entry(id: &str, node: &Json, manifest: &Json, catalog: &Json) -> Json {
    let found = ["nodes", "sources"]
        .iter()
        .find_map(|section| catalog[section].get(id))
        .unwrap_or(&Json::Null);
    let name = match node["source_name"].as_str() {
        Some(source) => json!(format!(
            "{source}.{}",
            node["name"].as_str().unwrap_or_default()
        )),
        None => node["name"].clone(),
    };
    json!({
        "name": name, "kind": node["resource_type"], "package": node["package_name"],
        "path": node["original_file_path"], "description": node["description"],
        "materialized": node["config"]["materialized"], "relation": node["relation_name"],
        "tags": node["tags"], "owner": found["metadata"]["owner"],
        "columns": columns(&node["columns"], &found["columns"]),
        "parents": manifest["parent_map"][id], "children": manifest["child_map"][id],
        "raw": node["raw_code"], "compiled": node["compiled_code"],
    })
}

/// The columns that the database has, then those that are only described.
fn columns(described: &Json, found: &Json) -> Vec<Json> {
    let described = described.as_object();
    let mut present: Vec<&Json> = found
        .as_object()
        .into_iter()
        .flat_map(Map::values)
        .collect();
    present.sort_by_key(|column| column["index"].as_i64());
    let is_present = |name: &str| {
        let mut names = present.iter().filter_map(|column| column["name"].as_str());
        names.any(|known| known.eq_ignore_ascii_case(name))
    };
    let only_described = described
        .into_iter()
        .flatten()
        .filter(|(name, _)| !is_present(name))
        .map(|(name, column)| {
            json!({"name": name, "type": column["data_type"], "description": column["description"]})
        });
    let all = present.iter().map(|column| {
        let name = column["name"].as_str().unwrap_or_default();
        let mut known = described.into_iter().flatten();
        let known = known.find(|(known, _)| known.eq_ignore_ascii_case(name));
        let text = known.map(|(_, column)| column["description"].clone());
        json!({"name": name, "type": column["type"], "description": text})
    });
    all.chain(only_described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_project_ends_the_data_of_the_page() {
        let manifest = json!({
            "metadata": {"project_name": "shop"},
            "nodes": {"model.shop.a": {"name": "a", "description": "</script><b>"}},
        });
        let text = page(&manifest, &json!({}));
        assert!(text.contains("\\u003c/script>\\u003cb>"));
        assert_eq!(
            text.matches("</script>").count(),
            PAGE.matches("</script>").count()
        );
    }

    #[test]
    fn columns_of_the_database_come_first_and_in_its_order() {
        let described = json!({"ID": {"description": "a key"}, "gone": {"description": "x"}});
        let found = json!({
            "b": {"name": "b", "type": "text", "index": 2},
            "id": {"name": "id", "type": "int", "index": 1},
        });
        let all = columns(&described, &found);
        let names: Vec<&Json> = all.iter().map(|column| &column["name"]).collect();
        assert_eq!(names, ["id", "b", "gone"]);
        assert_eq!(all[0]["description"], "a key");
    }
}
