//! The names that only the hooks at the end of a run see.

use std::collections::BTreeSet;

use minijinja::value::Value;
use serde_json::{Value as Json, json};

use crate::jinja::builtins::mutable;
use crate::project::Project;
use crate::run::NodeResult;

/// `results`, `schemas` and `database_schemas` of what ran.
pub(crate) fn at_the_end(project: &Project, results: &[NodeResult]) -> Vec<(String, Value)> {
    let nodes = results.iter().filter_map(|result| {
        let node = project.nodes.get(&result.unique_id)?;
        Some((result, node))
    });
    let shown: Vec<Json> = nodes
        .clone()
        .map(|(result, node)| {
            json!({
                "status": result.status.name(), "message": result.message,
                "failures": result.failures, "execution_time": result.seconds,
                "unique_id": result.unique_id, "thread_id": format!("Thread-{}", result.thread),
                "timing": crate::artifacts::timing(result),
                "adapter_response": crate::artifacts::adapter_response(result),
                "node": crate::artifacts::model_json(project, node, &node.relation),
            })
        })
        .collect();
    let built: BTreeSet<(&str, &str)> = nodes
        .filter(|(_, node)| node.is_relation())
        .map(|(_, node)| {
            let relation = &node.relation;
            (relation.database.as_str(), relation.schema.as_str())
        })
        .collect();
    let schemas: BTreeSet<&str> = built.iter().map(|(_, schema)| *schema).collect();
    vec![
        ("results".to_owned(), mutable(&json!(shown))),
        ("schemas".to_owned(), mutable(&json!(schemas))),
        ("database_schemas".to_owned(), mutable(&json!(built))),
    ]
}
