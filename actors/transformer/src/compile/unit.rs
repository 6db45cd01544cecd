//! A unit test: its model, reading rows that are given instead of relations.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::value::{Object, Value};
use serde_json::Value as Json;

use super::{Compiler, with_ctes};
use crate::error::{Place, ProjectError};
use crate::jinja::context::Globals;
use crate::jinja::macros::{MacroTable, Namespace};
use crate::jinja::relation::{Relation, RelationValue};
use crate::project::node::{Fixture, Node};

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

impl Compiler {
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
        let mut extra = overridden_macros(&declared.macros, &compiler.globals.macros);
        extra.extend(this.map(|this| ("this".to_owned(), this.value())));
        let depends_on = model.depends_on.clone();
        let scope = compiler.scope_reading(model, false, extra, depends_on, instead.clone());
        let place = Place::file(model.file());
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
}

/// A package's macros, some of which a unit test gives other answers to.
#[derive(Debug)]
struct Overridden {
    answers: HashMap<String, Value>,
    package: Arc<Namespace>,
}

impl Object for Overridden {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let answer = self.answers.get(key.as_str()?).cloned();
        answer.or_else(|| self.package.get_value(key))
    }
}

/// The macros that a unit test gives other answers to, under their own names and those of their
/// packages.
fn overridden_macros(
    macros: &serde_json::Map<String, Json>,
    table: &Arc<MacroTable>,
) -> Vec<(String, Value)> {
    let mut names = Vec::new();
    let mut packages: HashMap<String, HashMap<String, Value>> = HashMap::new();
    for (name, value) in macros {
        let answer = crate::jinja::builtins::mutable(value);
        let function =
            Value::from_function(move |_: crate::jinja::macros::Arguments| answer.clone());
        match name.split_once('.') {
            Some((package, inner)) => {
                let package = packages.entry(package.to_owned()).or_default();
                package.insert(inner.to_owned(), function);
            }
            None => names.push((name.clone(), function)),
        }
    }
    for (package, answers) in packages {
        let known = Arc::new(Namespace {
            package: package.clone(),
            table: table.clone(),
        });
        let package_macros = Overridden {
            answers,
            package: known,
        };
        names.push((package, Value::from_object(package_macros)));
    }
    names
}
