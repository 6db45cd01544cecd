//! Comparison with an earlier run: its manifest, its results, the freshness it saw.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use super::Context;
use crate::error::{Place, ProjectError, nearest_hint};
use crate::project::Project;
use crate::project::node::{Node, Source};

/// Keys of a manifest under which what can be selected stands.
pub(crate) const KINDS: [&str; 7] = [
    "nodes",
    "sources",
    "exposures",
    "unit_tests",
    "metrics",
    "semantic_models",
    "saved_queries",
];

/// What an earlier run left in its `target/`.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) manifest: Json,
    pub(crate) run_results: Json,
    sources: Json,
    /// The freshness that is known now, to tell what got newer.
    current_sources: Json,
}

/// Configuration that makes a node another one when it differs.
const COMPARED: &[&str] = &[
    "materialized",
    "schema",
    "database",
    "alias",
    "tags",
    "meta",
    "unique_key",
    "incremental_strategy",
    "on_schema_change",
    "grants",
    "pre-hook",
    "post-hook",
    "persist_docs",
    "contract",
    "indexes",
    "column_types",
    "quote_columns",
    "full_refresh",
    "strategy",
    "updated_at",
    "check_cols",
    "severity",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "store_failures",
];

impl State {
    /// Reads an earlier run's folder; `current` is the folder of this project's own artifacts.
    ///
    /// # Errors
    /// When the folder has no manifest, or one that is no JSON.
    pub fn read(folder: &Path, current: &Path) -> Result<Self, ProjectError> {
        let optional = |folder: &Path, name: &str| match std::fs::read_to_string(folder.join(name))
        {
            Ok(text) => parsed(&folder.join(name), &text),
            Err(_) => Ok(Json::Null),
        };
        let manifest = optional(folder, "manifest.json")?;
        Ok(Self {
            manifest,
            run_results: optional(folder, "run_results.json")?,
            sources: optional(folder, "sources.json")?,
            current_sources: optional(current, "sources.json")?,
        })
    }

    pub(crate) fn node(&self, id: &str) -> Option<&Json> {
        KINDS
            .iter()
            .find_map(|kind| self.manifest.get(kind)?.get(id))
    }
}

fn parsed(file: &Path, text: &str) -> Result<Json, ProjectError> {
    serde_json::from_str(text).map_err(|error| ProjectError::Read {
        place: Place::line(file, error.line()),
        reason: error.to_string(),
    })
}

pub(super) fn matching(
    context: &Context<'_>,
    method: &str,
    value: &str,
) -> Result<BTreeSet<String>, ProjectError> {
    let missing = |what: &str| {
        ProjectError::Configuration(format!(
            "Got a {method} selector method, but no {what}: give --state the folder of an earlier \
             run's artifacts"
        ))
    };
    let state = context.state.ok_or_else(|| missing("comparison state"))?;
    let all = || context.facts.iter().map(|fact| fact.id);
    Ok(match method {
        "result" => {
            let results = state.run_results.get("results").and_then(Json::as_array);
            let results = results.ok_or_else(|| missing("run_results.json"))?;
            let with_status = results
                .iter()
                .filter(|result| result.get("status").and_then(Json::as_str) == Some(value));
            let ids: BTreeSet<&str> = with_status
                .filter_map(|result| result.get("unique_id")?.as_str())
                .collect();
            all()
                .filter(|id| ids.contains(id))
                .map(str::to_owned)
                .collect()
        }
        "source_status" => by_source_status(state, value)?
            .into_iter()
            .filter(|id| context.project.sources.contains_key(id))
            .collect(),
        _ => {
            if state.manifest.is_null() {
                return Err(missing("manifest.json"));
            }
            let mut chosen = BTreeSet::new();
            for id in all() {
                if compared(context.project, state, id, value)? {
                    chosen.insert(id.to_owned());
                }
            }
            chosen
        }
    })
}

fn by_source_status(state: &State, value: &str) -> Result<Vec<String>, ProjectError> {
    let results = |artifact: &Json| -> Vec<Json> {
        let list = artifact.get("results").and_then(Json::as_array);
        list.cloned().unwrap_or_default()
    };
    if state.current_sources.is_null() {
        return Err(ProjectError::Configuration(
            "No current state comparison freshness results in sources.json: run `dbt source \
             freshness` first"
                .to_owned(),
        ));
    }
    let text = |result: &Json, key: &str| result.get(key).and_then(Json::as_str).map(str::to_owned);
    let earlier = results(&state.sources);
    let before = |id: &str| {
        let known = earlier
            .iter()
            .find(|it| text(it, "unique_id").as_deref() == Some(id));
        known.and_then(|it| text(it, "max_loaded_at"))
    };
    let mut ids = Vec::new();
    for result in results(&state.current_sources) {
        let Some(id) = text(&result, "unique_id") else {
            continue;
        };
        let fits = match value {
            "fresher" => match (text(&result, "max_loaded_at"), before(&id)) {
                (Some(now), Some(then)) => now > then,
                (Some(_), None) => true,
                _ => false,
            },
            status => text(&result, "status").as_deref() == Some(status),
        };
        if fits {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn compared(project: &Project, state: &State, id: &str, value: &str) -> Result<bool, ProjectError> {
    let earlier = state.node(id);
    Ok(match value {
        "new" => earlier.is_none(),
        "old" => earlier.is_some(),
        "unmodified" => earlier.is_some_and(|then| !is_modified(project, state, id, then, None)),
        _ => {
            let aspect = match value.split_once('.') {
                None if value == "modified" => None,
                Some(("modified", aspect)) if ASPECTS.contains(&aspect) => Some(aspect),
                _ => {
                    let known = ["new", "old", "modified", "unmodified", "modified.body"];
                    return Err(ProjectError::Configuration(format!(
                        "state:{value} is not known{}",
                        nearest_hint(value, known)
                    )));
                }
            };
            match earlier {
                None => aspect.is_none(),
                Some(then) => is_modified(project, state, id, then, aspect),
            }
        }
    })
}

/// The parts of `state:modified` that may be asked for alone.
const ASPECTS: [&str; 6] = [
    "body",
    "configs",
    "relation",
    "persisted_descriptions",
    "macros",
    "contract",
];

fn is_modified(
    project: &Project,
    state: &State,
    id: &str,
    then: &Json,
    aspect: Option<&str>,
) -> bool {
    let differs =
        |name: &str, test: &dyn Fn() -> bool| aspect.is_none_or(|it| it == name) && test();
    if let Some(node) = project.nodes.get(id) {
        return differs("body", &|| body_differs(project, node, then))
            || differs("configs", &|| config_differs(node, then, COMPARED))
            || differs("relation", &|| {
                config_differs(node, then, &["database", "schema", "alias"])
            })
            || differs("persisted_descriptions", &|| {
                descriptions_differ(node, then)
            })
            || differs("contract", &|| columns_differ(node, then))
            || differs("macros", &|| macros_differ(project, state, node));
    }
    match project.sources.get(id) {
        Some(source) => differs("body", &|| source_differs(source, then)),
        None => false,
    }
}

fn body_differs(project: &Project, node: &Node, then: &Json) -> bool {
    let checksum = then.pointer("/checksum/checksum").and_then(Json::as_str);
    match checksum {
        Some(checksum) => checksum != crate::artifacts::checksum_of(project, node),
        None => false,
    }
}

fn config_differs(node: &Node, then: &Json, keys: &[&str]) -> bool {
    // What dbt fills in is the same as what nobody says.
    let plain = |value: Option<&Json>| match value {
        None | Some(Json::Null) => Json::Null,
        Some(Json::Array(items)) if items.is_empty() => Json::Null,
        Some(Json::Object(map)) if map.is_empty() => Json::Null,
        Some(other) => other.clone(),
    };
    let now = crate::artifacts::config_of(node);
    keys.iter()
        .any(|key| plain(now.get(*key)) != plain(then.get("config").and_then(|it| it.get(*key))))
}

fn descriptions_differ(node: &Node, then: &Json) -> bool {
    let persists = |what: &str| {
        let docs = node.config.get("persist_docs");
        docs.and_then(|docs| docs.get(what)?.as_bool())
            .unwrap_or(false)
    };
    let text = |value: Option<&Json>| value.and_then(Json::as_str).unwrap_or_default().to_owned();
    let relation = persists("relation") && text(then.get("description")) != node.description;
    let column = |name: &str| text(then.pointer(&format!("/columns/{name}/description")));
    let columns = persists("columns")
        && node
            .columns
            .iter()
            .any(|it| column(&it.name) != it.description);
    relation || columns
}

fn columns_differ(node: &Node, then: &Json) -> bool {
    let enforced = then
        .pointer("/config/contract/enforced")
        .and_then(Json::as_bool)
        .unwrap_or(false);
    if !enforced && !node.is_contracted() {
        return false;
    }
    let known = then.get("columns").and_then(Json::as_object);
    let now: Vec<(&str, Option<&str>)> = node
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.data_type.as_deref()))
        .collect();
    let before: Vec<(&str, Option<&str>)> = known
        .into_iter()
        .flatten()
        .map(|(name, column)| {
            (
                name.as_str(),
                column.get("data_type").and_then(Json::as_str),
            )
        })
        .collect();
    enforced != node.is_contracted() || now != before
}

/// Whether a macro that the node calls, or one that it calls in turn, was written otherwise.
fn macros_differ(project: &Project, state: &State, node: &Node) -> bool {
    let before = |id: &str| {
        let text = state.manifest.get("macros")?.get(id)?.get("macro_sql")?;
        text.as_str()
    };
    let own: Vec<_> = project
        .engine
        .macros
        .iter()
        .filter(|known| known.package != crate::jinja::engine::BUILT_IN)
        .collect();
    let mut pending: Vec<String> = node.depends_on_macros.clone();
    let mut seen = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let of = |package: &str, name: &str| format!("macro.{package}.{name}");
        let Some(known) = own
            .iter()
            .find(|known| of(&known.package, &known.name) == id)
        else {
            continue;
        };
        if before(&id) != Some(known.written.as_str()) {
            return true;
        }
        let called = own
            .iter()
            .filter(|other| known.source.contains(&other.name));
        pending.extend(called.map(|other| of(&other.package, &other.name)));
    }
    false
}

fn source_differs(source: &Source, then: &Json) -> bool {
    let text = |key: &str| then.get(key).and_then(Json::as_str).unwrap_or_default();
    text("database") != source.relation.database
        || text("schema") != source.relation.schema
        || text("identifier") != source.relation.identifier
        || then.get("fqn").and_then(Json::as_array).is_some_and(|fqn| {
            let fqn: Vec<&str> = fqn.iter().filter_map(Json::as_str).collect();
            fqn != source.fqn.iter().map(String::as_str).collect::<Vec<_>>()
        })
}
