//! A node's template rendered into the SQL that PostgreSQL runs.

mod comment;
mod ctes;
mod resolver;
mod unit;

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::value::Value;
use serde_json::{Value as Json, json};

use crate::catalog::Catalog;
use crate::error::ProjectError;
use crate::jinja::context::{Globals, NodeScope, QueryPort, Rendering};
use crate::jinja::relation::{Relation, RelationValue};
use crate::materialize::IDENTIFIER_LENGTH_MAX;
use crate::project::generic_kwargs;
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::{Project, config};
use resolver::{RunResolver, kind_name};

pub(crate) use comment::Comment;
pub(crate) use ctes::with_ctes;
pub(crate) use unit::{UnitInput, UnitSql};

/// What a node runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    /// The select of a model or a test, with the CTEs of ephemeral parents.
    pub(crate) sql: String,
    pub(crate) pre_hooks: Vec<Hook>,
    /// Whether `is_incremental()` was true.
    pub(crate) incremental: bool,
    pub(crate) comment: Comment,
}

/// A statement before or after a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) sql: String,
    /// Whether it runs in the model's transaction.
    pub(crate) transaction: bool,
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

/// What `before_begin()` and its kin make of a hook.
fn json_of(text: &str) -> Option<Json> {
    let is_object = text.trim_start().starts_with('{');
    is_object.then(|| serde_json::from_str(text).ok()).flatten()
}

/// PostgreSQL cuts longer names in silence: the next run would not find what this one made.
fn check_length(node: &Node) -> Result<(), ProjectError> {
    let name = &node.relation.identifier;
    match node.is_relation() && name.len() > IDENTIFIER_LENGTH_MAX {
        true => Err(ProjectError::Yaml {
            place: crate::error::Place::file(node.file()),
            message: format!(
                "Relation name '{name}' is longer than {IDENTIFIER_LENGTH_MAX} characters"
            ),
        }),
        false => Ok(()),
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiler({})", self.project.name)
    }
}

impl Compiler {
    /// Where a node's relation is during this run.
    pub(crate) fn relation_of(&self, node: &Node) -> Relation {
        self.overrides
            .get(&node.unique_id)
            .unwrap_or(&node.relation)
            .clone()
    }

    /// `--empty`: whether what is read has its columns and no rows.
    pub(crate) fn is_without_rows(&self) -> bool {
        let empty = self.globals.flags.get("EMPTY");
        empty.and_then(Json::as_bool).unwrap_or(false)
    }

    /// Whether the node adds to what is there.
    pub(crate) fn is_incremental(&self, node: &Node) -> bool {
        let full = config::flag(&node.config, "full_refresh").unwrap_or(self.full_refresh);
        node.materialization == Materialization::Incremental
            && !full
            && self
                .catalog
                .kind(&node.relation)
                .is_some_and(|kind| kind.is_table())
    }

    /// Renders what runs behind a node. What it asks of the database is answered as it then is, so
    /// a run calls this once the node is built.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub(crate) fn post_hooks(&self, node: &Node) -> Result<Vec<Hook>, ProjectError> {
        if !node.has_hooks("post-hook") {
            return Ok(Vec::new());
        }
        let scope = self.scope(node, self.is_incremental(node), Vec::new());
        self.hooks(node, "post-hook", &scope)
    }

    /// Renders a node but what runs behind it: see [`Self::post_hooks`].
    ///
    /// # Errors
    /// With the file and line of the template that failed.
    pub(crate) fn compile(&self, node: &Node) -> Result<Compiled, ProjectError> {
        check_length(node)?;
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
            // A seed is a file; only its hooks are rendered.
            None if node.resource_type == ResourceType::Seed => String::new(),
            None => {
                let place = crate::error::Place::file(node.file());
                engine.render(&node.template, &place, scope.value())?
            }
        };
        Ok(Compiled {
            sql: with_ctes(&body, &self.ctes(node)?),
            pre_hooks: self.hooks(node, "pre-hook", &scope)?,
            incremental,
            comment: self.comment(Some(node))?,
        })
    }

    /// The hooks of a model, rendered. A text may be JSON of `before_begin()` and its kin.
    fn hooks(
        &self,
        node: &Node,
        key: &str,
        scope: &Arc<NodeScope>,
    ) -> Result<Vec<Hook>, ProjectError> {
        let mut hooks = Vec::new();
        let list = node.config.get(key).and_then(Json::as_array);
        for hook in list.into_iter().flatten() {
            let Some(text) = hook.as_str().or_else(|| hook.get("sql")?.as_str()) else {
                continue;
            };
            let mut transaction = hook.get("transaction").and_then(Json::as_bool);
            let engine = &self.project.engine;
            // Read before it is rendered where it can be: what is rendered into it may hold quotes.
            let mut inner = json_of(text);
            let mut sql = String::new();
            if inner.is_none() {
                sql = engine.render_text(text, &node.place, scope.value())?;
                inner = json_of(&sql);
            }
            if let Some(inner) = inner {
                transaction = inner.get("transaction").and_then(Json::as_bool);
                let text = inner.get("sql").and_then(Json::as_str).unwrap_or_default();
                sql = engine.render_text(text, &node.place, scope.value())?;
            }
            if !sql.trim().is_empty() {
                let transaction = transaction.unwrap_or(true);
                hooks.push(Hook { sql, transaction });
            }
        }
        Ok(hooks)
    }

    /// Renders a hook of the run; `extra` are the names that only it sees, such as `results`.
    ///
    /// # Errors
    /// With the place in the project file.
    pub(crate) fn compile_hook(
        &self,
        hook: &Node,
        extra: Vec<(String, Value)>,
    ) -> Result<String, ProjectError> {
        let scope = self.scope_reading(hook, false, extra, self.everything(), HashMap::new());
        self.project
            .engine
            .render(&hook.template, &hook.place, scope.value())
    }

    /// Calls a macro of the project, for its effects; `call` is `name(a=1)`.
    ///
    /// # Errors
    /// When it does not render or a query of it fails.
    pub(crate) fn run_operation(&self, call: &str) -> Result<String, ProjectError> {
        let scope = self.inline_scope("the operation");
        let place = crate::error::Place::file("<operation>");
        let text = format!("{{{{ {call} }}}}");
        self.project
            .engine
            .render_text(&text, &place, scope.value())
    }

    fn everything(&self) -> Vec<String> {
        self.project
            .nodes
            .keys()
            .chain(self.project.sources.keys())
            .cloned()
            .collect()
    }

    /// A context for SQL that belongs to no node: it may read anything of the project.
    fn inline_scope(&self, what: &str) -> Arc<NodeScope> {
        NodeScope::new(Rendering {
            globals: self.globals.clone(),
            resolve: Arc::new(RunResolver {
                compiler: self.clone(),
                node: what.to_owned(),
                package: self.project.name.clone(),
                depends_on: self.everything(),
                instead: HashMap::new(),
            }),
            queries: self.queries.clone(),
            execute: true,
            incremental: false,
            config: serde_json::Map::new(),
            model: json!({"name": "inline_query", "unique_id": "sql_operation.inline_query",
                          "resource_type": "sql_operation", "config": {}}),
            this: None,
            package: self.project.name.clone(),
            graph: Some(self.project.graph_value()),
            extra: Vec::new(),
        })
    }

    /// Renders SQL that stands in no file.
    ///
    /// # Errors
    /// When it does not render.
    pub(crate) fn compile_inline(&self, sql: &str) -> Result<String, ProjectError> {
        let scope = self.inline_scope("the inline query");
        let place = crate::error::Place::file("<inline>");
        let body = self
            .project
            .engine
            .render_text(sql, &place, scope.value())?;
        let mut ctes = Vec::new();
        for (package, name) in scope.recorded().refs {
            if let Some(node) = self.project.find_ref(package.as_deref(), &name) {
                self.add_cte(node, &mut ctes)?;
            }
        }
        Ok(with_ctes(&body, &ctes))
    }

    fn scope(&self, node: &Node, incremental: bool, extra: Vec<(String, Value)>) -> Arc<NodeScope> {
        let depends_on = node.depends_on.clone();
        self.scope_reading(node, incremental, extra, depends_on, HashMap::new())
    }

    fn scope_reading(
        &self,
        node: &Node,
        incremental: bool,
        extra: Vec<(String, Value)>,
        depends_on: Vec<String>,
        instead: HashMap<String, String>,
    ) -> Arc<NodeScope> {
        let relation = self.relation_of(node);
        let kind = self.catalog.kind(&relation).map(kind_name);
        NodeScope::new(Rendering {
            globals: self.globals.clone(),
            resolve: Arc::new(RunResolver {
                compiler: self.clone(),
                node: node.unique_id.clone(),
                package: node.package.clone(),
                depends_on,
                instead,
            }),
            queries: self.queries.clone(),
            execute: true,
            incremental,
            config: node.config.clone(),
            model: crate::artifacts::model_json(&self.project, node, &relation),
            this: Some(RelationValue::new(relation, kind).quoted(node.quoting)),
            package: node.package.clone(),
            graph: Some(crate::artifacts::lazy_graph(&self.project)),
            extra,
        })
    }
}
