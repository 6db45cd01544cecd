//! A node's template rendered into the SQL that PostgreSQL runs.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::catalog::Catalog;
use crate::error::ProjectError;
use crate::jinja::context::{Globals, NodeScope, QueryPort, Rendering, Resolve};
use crate::jinja::relation::{Relation, RelationValue};
use crate::project::generic_kwargs;
use crate::project::node::{Materialization, Node};
use crate::project::{Project, config};

/// What a node runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    /// The select of a model or a test, with the CTEs of ephemeral parents.
    pub(crate) sql: String,
    pub(crate) pre_hooks: Vec<String>,
    pub(crate) post_hooks: Vec<String>,
    /// Whether `is_incremental()` was true.
    pub(crate) incremental: bool,
}

/// Compiles the nodes of a project for one run.
#[derive(Clone)]
pub(crate) struct Compiler {
    pub(crate) project: Arc<Project>,
    /// The project's own, with the variables of this run.
    pub(crate) globals: Arc<Globals>,
    pub(crate) catalog: Arc<Catalog>,
    /// Where a relation is built for now, instead of at its own name.
    pub(crate) overrides: Arc<HashMap<String, Relation>>,
    pub(crate) queries: Option<Arc<dyn QueryPort>>,
    pub(crate) full_refresh: bool,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiler({})", self.project.name)
    }
}

/// Resolves names to the relations of the run; a name that parsing did not see is an error, since
/// the node may run before what it reads.
struct RunResolver {
    compiler: Compiler,
    node: String,
    depends_on: Vec<String>,
}

impl RunResolver {
    fn check(&self, id: &str, call: &str) -> Result<(), String> {
        if self.depends_on.iter().any(|known| known == id) {
            return Ok(());
        }
        Err(format!(
            "{} calls {call} only when it runs; add a comment '-- depends_on: {{{{ {call} }}}}' to it",
            self.node,
        ))
    }
}

impl Resolve for RunResolver {
    fn reference(&self, package: Option<&str>, name: &str) -> Result<RelationValue, String> {
        let project = &self.compiler.project;
        let node = project
            .find_ref(package, name)
            .ok_or_else(|| format!("there is no model '{name}'"))?;
        self.check(&node.unique_id, &format!("ref('{name}')"))?;
        if node.materialization == Materialization::Ephemeral {
            return Ok(RelationValue::cte(node.relation.clone(), cte_name(node)));
        }
        let relation = self.compiler.relation_of(node);
        let kind = self
            .compiler
            .catalog
            .kind(&relation)
            .map(|kind| kind.name());
        Ok(RelationValue::new(relation, kind))
    }

    fn source(&self, source: &str, table: &str) -> Result<RelationValue, String> {
        let found = self
            .compiler
            .project
            .find_source(source, table)
            .ok_or_else(|| format!("there is no source '{source}.{table}'"))?;
        self.check(&found.unique_id, &format!("source('{source}', '{table}')"))?;
        let kind = self
            .compiler
            .catalog
            .kind(&found.relation)
            .map(|kind| kind.name());
        Ok(RelationValue::new(found.relation.clone(), kind))
    }
}

fn cte_name(node: &Node) -> String {
    format!("__dbt__cte__{}", node.name)
}

impl Compiler {
    /// Where a node's relation is during this run.
    pub(crate) fn relation_of(&self, node: &Node) -> Relation {
        self.overrides
            .get(&node.unique_id)
            .unwrap_or(&node.relation)
            .clone()
    }

    /// Whether the node adds to what is there.
    pub(crate) fn is_incremental(&self, node: &Node) -> bool {
        let full = config::flag(&node.config, "full_refresh").unwrap_or(self.full_refresh);
        node.materialization == Materialization::Incremental
            && !full
            && !self.overrides.contains_key(&node.unique_id)
            && self
                .catalog
                .kind(&node.relation)
                .is_some_and(|kind| kind.is_table())
    }

    /// Renders a node.
    ///
    /// # Errors
    /// With the file and line of the template that failed.
    pub(crate) fn compile(&self, node: &Node) -> Result<Compiled, ProjectError> {
        let incremental = self.is_incremental(node);
        let scope = self.scope(node, incremental, Vec::new());
        let engine = &self.project.engine;
        let body = match &node.test {
            Some(metadata) => {
                let kwargs = generic_kwargs(engine, metadata, &node.place, &scope.value())?;
                let extra = vec![("_dbt_generic_test_kwargs".to_owned(), kwargs)];
                let scope = self.scope(node, incremental, extra);
                engine.render(&node.template, &node.place, scope.value())?
            }
            None => {
                let place = crate::error::Place::file(&node.original_file_path);
                engine.render(&node.template, &place, scope.value())?
            }
        };
        let hooks = |key: &str| -> Result<Vec<String>, ProjectError> {
            let list = node.config.get(key).and_then(Json::as_array);
            list.into_iter()
                .flatten()
                .filter_map(|hook| hook.as_str().or_else(|| hook.get("sql")?.as_str()))
                .map(|hook| engine.render_text(hook, &node.place, scope.value()))
                .filter(|hook| hook.as_ref().map_or(true, |hook| !hook.trim().is_empty()))
                .collect()
        };
        Ok(Compiled {
            sql: with_ctes(&body, &self.ctes(node)?),
            pre_hooks: hooks("pre-hook")?,
            post_hooks: hooks("post-hook")?,
            incremental,
        })
    }

    /// Renders SQL that stands in no file; it may read anything of the project.
    ///
    /// # Errors
    /// When it does not render.
    pub(crate) fn compile_inline(&self, sql: &str) -> Result<String, ProjectError> {
        let all = self
            .project
            .nodes
            .keys()
            .chain(self.project.sources.keys())
            .cloned()
            .collect();
        let scope = NodeScope::new(Rendering {
            globals: self.globals.clone(),
            resolve: Arc::new(RunResolver {
                compiler: self.clone(),
                node: "the inline query".to_owned(),
                depends_on: all,
            }),
            queries: None,
            execute: true,
            incremental: false,
            config: serde_json::Map::new(),
            model: json!({"name": "inline_query"}),
            this: None,
            extra: Vec::new(),
        });
        let place = crate::error::Place::file("<inline>");
        self.project.engine.render_text(sql, &place, scope.value())
    }

    fn scope(
        &self,
        node: &Node,
        incremental: bool,
        extra: Vec<(String, minijinja::value::Value)>,
    ) -> Arc<NodeScope> {
        let relation = self.relation_of(node);
        let kind = self.catalog.kind(&relation).map(|kind| kind.name());
        NodeScope::new(Rendering {
            globals: self.globals.clone(),
            resolve: Arc::new(RunResolver {
                compiler: self.clone(),
                node: node.unique_id.clone(),
                depends_on: node.depends_on.clone(),
            }),
            queries: self.queries.clone(),
            execute: true,
            incremental,
            config: node.config.clone(),
            model: json!({
                "unique_id": node.unique_id, "name": node.name, "alias": relation.identifier,
                "schema": relation.schema, "database": relation.database, "fqn": node.fqn,
                "resource_type": node.resource_type.name(), "package_name": node.package,
                "path": node.path, "original_file_path": node.original_file_path,
                "config": node.config, "tags": node.tags, "depends_on": {"nodes": node.depends_on},
                "columns": node.columns.keys().map(|name| (name.clone(), json!({"name": name})))
                    .collect::<serde_json::Map<_, _>>(),
            }),
            this: Some(RelationValue::new(relation, kind)),
            extra,
        })
    }

    /// The CTEs of the ephemeral models below a node, each after those it reads.
    fn ctes(&self, node: &Node) -> Result<Vec<(String, String)>, ProjectError> {
        let mut ctes: Vec<(String, String)> = Vec::new();
        for parent in node
            .depends_on
            .iter()
            .filter_map(|id| self.project.nodes.get(id))
        {
            if parent.materialization != Materialization::Ephemeral {
                continue;
            }
            for (name, sql) in self.ctes(parent)? {
                if ctes.iter().all(|(known, _)| *known != name) {
                    ctes.push((name, sql));
                }
            }
            if ctes.iter().all(|(known, _)| *known != cte_name(parent)) {
                let scope = self.scope(parent, false, Vec::new());
                let place = crate::error::Place::file(&parent.original_file_path);
                let sql = self
                    .project
                    .engine
                    .render(&parent.template, &place, scope.value())?;
                ctes.push((cte_name(parent), sql));
            }
        }
        Ok(ctes)
    }
}

/// Puts CTEs before a query that may have its own.
fn with_ctes(sql: &str, ctes: &[(String, String)]) -> String {
    if ctes.is_empty() {
        return sql.to_owned();
    }
    let list: Vec<String> = ctes
        .iter()
        .map(|(name, sql)| format!(" {name} as (\n{sql}\n)"))
        .collect();
    let list = list.join(",");
    let start = first_word(sql);
    match sql
        .get(start..start + 4)
        .filter(|word| word.eq_ignore_ascii_case("with"))
    {
        Some(_) => {
            let (before, after) = (&sql[..start], &sql[start + 4..]);
            let rest = after.trim_start();
            match rest
                .get(..9)
                .filter(|word| word.eq_ignore_ascii_case("recursive"))
            {
                Some(_) => format!("{before}with recursive{list}, {}", &rest[9..]),
                None => format!("{before}with{list}, {after}"),
            }
        }
        None => format!("with{list}\n{sql}"),
    }
}

/// Where the query begins, behind spaces and comments.
fn first_word(sql: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &sql[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        let skipped = if trimmed.starts_with("--") {
            trimmed.find('\n').map(|end| end + 1)
        } else if trimmed.starts_with("/*") {
            trimmed.find("*/").map(|end| end + 2)
        } else {
            None
        };
        match skipped {
            Some(length) => at += length,
            None => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctes_of_ephemeral_models_come_before_the_query_s_own() {
        let ctes = [("__dbt__cte__e".to_owned(), "select 1".to_owned())];
        assert_eq!(
            with_ctes("select 2", &ctes),
            "with __dbt__cte__e as (\nselect 1\n)\nselect 2"
        );
        let merged = with_ctes("-- note\nWith a as (select 2) select * from a", &ctes);
        assert_eq!(
            merged,
            "-- note\nwith __dbt__cte__e as (\nselect 1\n),  a as (select 2) select * from a"
        );
    }
}
