//! Node configuration: `dbt_project.yml` by folder, then `schema.yml`, then `config()` in the file.

use serde_json::{Map, Value as Json};

/// Configuration keys that dbt knows without a `+`; another key in `dbt_project.yml` is a folder.
const KNOWN_KEYS: &[&str] = &[
    "enabled",
    "materialized",
    "schema",
    "database",
    "alias",
    "tags",
    "meta",
    "unique_key",
    "incremental_strategy",
    "on_schema_change",
    "full_refresh",
    "severity",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "store_failures",
    "indexes",
    "quote_columns",
    "column_types",
    "delimiter",
    "docs",
    "group",
    "access",
    "contract",
    "freshness",
    "event_time",
    "persist_docs",
    "grants",
    "quoting",
    "pre-hook",
    "post-hook",
    "pre_hook",
    "post_hook",
    "merge_update_columns",
    "merge_exclude_columns",
    "incremental_predicates",
    "sql_header",
    "store_failures_as",
    "batch_size",
    "loaded_at_field",
    "loaded_at_query",
    "strategy",
    "updated_at",
    "check_cols",
    "target_schema",
    "target_database",
    "snapshot_name",
    "invalidate_hard_deletes",
    "hard_deletes",
    "dbt_valid_to_current",
    "snapshot_meta_column_names",
    "unlogged",
    "on_configuration_change",
    "static_analysis",
];

/// Sets a key as dbt merges it: tags and hooks add up, `meta` merges, everything else replaces.
pub(crate) fn merge_config(config: &mut Map<String, Json>, name: &str, value: Json) {
    let name = match name {
        "pre_hook" => "pre-hook",
        "post_hook" => "post-hook",
        name => name,
    };
    match name {
        "tags" | "pre-hook" | "post-hook" => {
            let mut all = as_list(config.remove(name).unwrap_or_default());
            for item in as_list(value) {
                if name != "tags" || !all.contains(&item) {
                    all.push(item);
                }
            }
            config.insert(name.to_owned(), Json::Array(all));
        }
        "meta" | "column_types" => match (config.get_mut(name), value) {
            (Some(Json::Object(known)), Json::Object(more)) => known.extend(more),
            (_, value) => {
                config.insert(name.to_owned(), value);
            }
        },
        _ => {
            config.insert(name.to_owned(), value);
        }
    }
}

/// A value that may be given as one or as many.
pub(crate) fn as_list(value: Json) -> Vec<Json> {
    match value {
        Json::Null => Vec::new(),
        Json::Array(items) => items,
        single => vec![single],
    }
}

/// Merges every key of `more` into `config`.
pub(crate) fn merge_all(config: &mut Map<String, Json>, more: &Map<String, Json>) {
    for (name, value) in more {
        merge_config(config, name, value.clone());
    }
}

/// The configuration that a tree of `dbt_project.yml` (such as `models:`) gives to a node by its
/// path: from the outermost folder inwards.
pub(crate) fn folder_config(tree: Option<&Json>, fqn: &[String]) -> Map<String, Json> {
    let mut config = Map::new();
    let mut level = tree.and_then(Json::as_object);
    // The project's name may be left out of the tree for nothing: dbt needs it, so do we, but keys
    // that stand above it apply to every package.
    let mut path = fqn.iter();
    while let Some(map) = level {
        for (key, value) in map {
            match key.strip_prefix('+') {
                Some(name) => merge_config(&mut config, name, value.clone()),
                None if KNOWN_KEYS.contains(&key.as_str()) && !is_folder(value, key) => {
                    merge_config(&mut config, key, value.clone());
                }
                None => {}
            }
        }
        level = path
            .next()
            .and_then(|part| map.get(part))
            .and_then(Json::as_object);
    }
    config
}

fn is_folder(value: &Json, key: &str) -> bool {
    value.is_object()
        && !matches!(
            key,
            "meta"
                | "docs"
                | "contract"
                | "column_types"
                | "freshness"
                | "grants"
                | "persist_docs"
                | "snapshot_meta_column_names"
        )
}

/// A text value of a configuration.
pub(crate) fn text<'a>(config: &'a Map<String, Json>, name: &str) -> Option<&'a str> {
    config.get(name).and_then(Json::as_str)
}

/// A flag of a configuration, given as a boolean or as text.
pub(crate) fn flag(config: &Map<String, Json>, name: &str) -> Option<bool> {
    match config.get(name)? {
        Json::Bool(flag) => Some(*flag),
        Json::String(text) => match text.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A list of names of a configuration, given as one or as many.
pub(crate) fn names(config: &Map<String, Json>, name: &str) -> Vec<String> {
    as_list(config.get(name).cloned().unwrap_or_default())
        .into_iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_inner_folder_beats_an_outer_one_and_tags_add_up() {
        let tree = json!({"+tags": "all", "pens": {"+materialized": "view",
            "marts": {"+materialized": "table", "tags": ["mart"]}}});
        let fqn = ["pens", "marts", "fct"].map(str::to_owned);
        let config = folder_config(Some(&tree), &fqn);
        assert_eq!(text(&config, "materialized"), Some("table"));
        assert_eq!(names(&config, "tags"), ["all", "mart"]);
    }
}
