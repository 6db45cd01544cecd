//! A node's template rendered into the SQL that PostgreSQL runs.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::value::Value;
use serde_json::{Value as Json, json};

use crate::catalog::{Catalog, RelationKind};
use crate::error::ProjectError;
use crate::jinja::context::{Globals, NodeScope, QueryPort, Rendering, Resolve};
use crate::jinja::relation::{Relation, RelationValue};
use crate::project::generic_kwargs;
use crate::project::node::{Fixture, Materialization, Node, ResourceType};
use crate::project::{Project, config};

/// What a node runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    /// The select of a model or a test, with the CTEs of ephemeral parents.
    pub(crate) sql: String,
    pub(crate) pre_hooks: Vec<Hook>,
    pub(crate) post_hooks: Vec<Hook>,
    /// Whether `is_incremental()` was true.
    pub(crate) incremental: bool,
}

/// A statement before or after a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) sql: String,
    /// Whether it runs in the model's transaction.
    pub(crate) transaction: bool,
}

/// What a unit test runs, before its rows stand in it.
#[derive(Clone, Debug)]
pub(crate) struct UnitSql {
    /// The tested model, reading `inputs` by their names.
    pub(crate) sql: String,
    pub(crate) inputs: Vec<UnitInput>,
}

/// Rows that stand for a relation.
#[derive(Clone, Debug)]
pub(crate) struct UnitInput {
    pub(crate) cte: String,
    /// The relation whose columns the rows have; absent for an ephemeral model.
    pub(crate) relation: Option<Relation>,
    pub(crate) fixture: Fixture,
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
    package: String,
    depends_on: Vec<String>,
    /// Names of the rows that stand for relations, by unique id.
    instead: HashMap<String, String>,
}

impl RunResolver {
    fn check(&self, id: &str, call: &str) -> Result<(), String> {
        if self.depends_on.iter().any(|known| known == id) {
            return Ok(());
        }
        Err(format!(
            "dbt was unable to infer all dependencies for the model \"{}\": it calls {call} only \
             when it runs; add a comment '-- depends_on: {{{{ {call} }}}}' to it",
            self.node,
        ))
    }

    fn value(&self, id: &str, relation: Relation) -> RelationValue {
        if let Some(name) = self.instead.get(id) {
            return RelationValue::cte(relation, name.clone());
        }
        let kind = self.compiler.catalog.kind(&relation);
        let value = RelationValue::new(relation, kind.map(kind_name));
        let empty = self.compiler.globals.flags.get("EMPTY");
        match empty.and_then(Json::as_bool) {
            Some(true) => value.without_rows(),
            _ => value,
        }
    }
}

/// A kind of relation in dbt's words.
fn kind_name(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::MaterializedView => "materialized_view",
    }
}

impl Resolve for RunResolver {
    fn reference(&self, package: Option<&str>, name: &str) -> Result<RelationValue, String> {
        let project = &self.compiler.project;
        let node = project
            .find_ref_from(&self.package, package, name)
            .ok_or_else(|| format!("there is no model '{name}'"))?;
        self.check(&node.unique_id, &format!("ref('{name}')"))?;
        let stands = self.instead.contains_key(&node.unique_id);
        if node.materialization == Materialization::Ephemeral && !stands {
            return Ok(RelationValue::cte(node.relation.clone(), cte_name(node)));
        }
        Ok(self.value(&node.unique_id, self.compiler.relation_of(node)))
    }

    fn source(&self, source: &str, table: &str) -> Result<RelationValue, String> {
        let found = self
            .compiler
            .project
            .find_source(source, table)
            .ok_or_else(|| format!("there is no source '{source}.{table}'"))?;
        self.check(&found.unique_id, &format!("source('{source}', '{table}')"))?;
        Ok(self.value(&found.unique_id, found.relation.clone()))
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
            // A seed is a file; only its hooks are rendered.
            None if node.resource_type == ResourceType::Seed => String::new(),
            None => {
                let place = crate::error::Place::file(node.file());
                engine.render(&node.template, &place, scope.value())?
            }
        };
        let hooks = |key: &str| self.hooks(node, key, &scope);
        Ok(Compiled {
            sql: with_ctes(&body, &self.ctes(node)?),
            pre_hooks: hooks("pre-hook")?,
            post_hooks: hooks("post-hook")?,
            incremental,
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
            let mut sql = engine.render_text(text, &node.place, scope.value())?;
            let inner: Option<Json> = match sql.trim_start().starts_with('{') {
                true => serde_json::from_str(&sql).ok(),
                false => None,
            };
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

    /// The tested model over the names of the rows that stand for what it reads.
    ///
    /// # Errors
    /// When the model does not render.
    pub(crate) fn compile_unit_test(&self, unit: &Node) -> Result<UnitSql, ProjectError> {
        let missing = || ProjectError::Configuration(format!("{} has no model", unit.unique_id));
        let declared = unit.unit_test.as_ref().ok_or_else(missing)?;
        let nodes = &self.project.nodes;
        let model = nodes.get(&declared.model_id).ok_or_else(missing)?;
        let mut globals = Globals::clone(&self.globals);
        globals.vars.extend(declared.vars.clone());
        for vars in globals.package_vars.values_mut() {
            vars.extend(declared.vars.clone());
        }
        let env = Arc::make_mut(&mut globals.env);
        for (name, value) in &declared.env_vars {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            env.insert(name.clone(), text);
        }
        let compiler = Self {
            globals: Arc::new(globals),
            ..self.clone()
        };
        let (mut inputs, mut instead, mut this) = (Vec::new(), HashMap::new(), None);
        for given in &declared.given {
            let relation = match nodes.get(&given.unique_id) {
                _ if given.unique_id.is_empty() => Some(model.relation.clone()),
                Some(node) => Some(compiler.relation_of(node)),
                None => self
                    .project
                    .sources
                    .get(&given.unique_id)
                    .map(|source| source.relation.clone()),
            };
            let name = relation
                .as_ref()
                .map_or("input", |it| it.identifier.as_str());
            let cte = format!("__dbt__cte__{name}");
            if given.unique_id.is_empty() {
                this = relation
                    .clone()
                    .map(|relation| RelationValue::cte(relation, cte.clone()));
            } else {
                instead.insert(given.unique_id.clone(), cte.clone());
            }
            inputs.push(UnitInput {
                cte,
                relation,
                fixture: given.clone(),
            });
        }
        let mut extra = overridden_macros(&declared.macros);
        extra.extend(this.map(|this| ("this".to_owned(), this.value())));
        let depends_on = model.depends_on.clone();
        let scope = compiler.scope_reading(model, false, extra, depends_on, instead.clone());
        let place = crate::error::Place::file(model.file());
        let body = self
            .project
            .engine
            .render(&model.template, &place, scope.value())?;
        let ctes: Vec<(String, String)> = compiler
            .ctes(model)?
            .into_iter()
            .filter(|(name, _)| !inputs.iter().any(|input| input.cte == *name))
            .collect();
        Ok(UnitSql {
            sql: with_ctes(&body, &ctes),
            inputs,
        })
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
            this: Some(RelationValue::new(relation, kind)),
            package: node.package.clone(),
            graph: Some(crate::artifacts::lazy_graph(&self.project)),
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
            self.add_cte(parent, &mut ctes)?;
        }
        Ok(ctes)
    }

    fn add_cte(&self, parent: &Node, ctes: &mut Vec<(String, String)>) -> Result<(), ProjectError> {
        if parent.materialization != Materialization::Ephemeral {
            return Ok(());
        }
        for (name, sql) in self.ctes(parent)? {
            if ctes.iter().all(|(known, _)| *known != name) {
                ctes.push((name, sql));
            }
        }
        if ctes.iter().all(|(known, _)| *known != cte_name(parent)) {
            let scope = self.scope(parent, false, Vec::new());
            let place = crate::error::Place::file(parent.file());
            let sql = self
                .project
                .engine
                .render(&parent.template, &place, scope.value())?;
            ctes.push((cte_name(parent), sql));
        }
        Ok(())
    }
}

/// The macros that a unit test gives other answers to, under their own names and those of their
/// packages.
fn overridden_macros(macros: &serde_json::Map<String, Json>) -> Vec<(String, Value)> {
    let mut names = Vec::new();
    let mut packages: HashMap<String, Vec<(String, Value)>> = HashMap::new();
    for (name, value) in macros {
        let answer = crate::jinja::builtins::mutable(value);
        let function =
            Value::from_function(move |_: crate::jinja::macros::Arguments| answer.clone());
        match name.split_once('.') {
            Some((package, inner)) => {
                let package = packages.entry(package.to_owned()).or_default();
                package.push((inner.to_owned(), function));
            }
            None => names.push((name.clone(), function)),
        }
    }
    for (package, inner) in packages {
        names.push((package, Value::from_pairs(inner)));
    }
    names
}

/// Puts CTEs before a query that may have its own.
pub(crate) fn with_ctes(sql: &str, ctes: &[(String, String)]) -> String {
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
