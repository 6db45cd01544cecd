//! What a node's template sees: `ref`, `source`, `config`, `this` and their kin, and what the project
//! lends it. The same functions record while a project is parsed and resolve while it is compiled.

mod config;
mod lent;
mod log;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{DynObject, Object, Value};
use minijinja::{Error, ErrorKind};
use serde_json::{Map, Value as Json};

use super::adapter::{Results, run_query, statement, store_result};
use super::builtins::mutable;
use super::engine::BUILT_IN;
use super::macros::{Arguments, PackageMacros, SCOPE, split_keywords};
use super::relation::RelationValue;
use config::ConfigValue;
use lent::Lent;

pub(crate) use lent::Globals;
pub(crate) use log::{LogSink, Said};

/// What one render asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) config: Map<String, Json>,
    /// Package (if one was given) and name; of a version `name.v2`.
    pub(crate) refs: Vec<(Option<String>, String)>,
    /// Source and table.
    pub(crate) sources: Vec<(String, String)>,
    /// Package and name of the macros that the template calls itself.
    pub(crate) macros: Vec<(String, String)>,
}

/// Turns names into relations. One implementation a phase.
pub(crate) trait Resolve: Send + Sync {
    fn reference(&self, package: Option<&str>, name: &str) -> Result<RelationValue, String>;
    fn source(&self, source: &str, table: &str) -> Result<RelationValue, String>;
}

/// Runs a query in the middle of a render. Only offered while compiling for execution.
pub(crate) trait QueryPort: Send + Sync {
    /// Column names and rows.
    fn query(&self, sql: &str) -> Result<(Vec<String>, Vec<Vec<Json>>), String>;

    /// The columns that a query would give and their types.
    fn describe(&self, sql: &str) -> Result<Vec<(String, String)>, String>;
}

/// How a node is rendered.
pub(crate) struct Rendering {
    pub(crate) globals: Arc<Globals>,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) queries: Option<Arc<dyn QueryPort>>,
    /// `execute`: false while parsing.
    pub(crate) execute: bool,
    pub(crate) incremental: bool,
    /// The node's final configuration; empty while parsing.
    pub(crate) config: Map<String, Json>,
    /// The node as templates read it: `model`.
    pub(crate) model: Json,
    pub(crate) this: Option<RelationValue>,
    /// The package that the node belongs to.
    pub(crate) package: String,
    /// `graph`, once the project is read.
    pub(crate) graph: Option<Value>,
    /// Names that only this render has.
    pub(crate) extra: Vec<(String, Value)>,
}

impl fmt::Debug for Rendering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rendering")
    }
}

/// A node's context and what its render recorded.
pub(crate) struct NodeScope {
    /// Macros of the node's package, then those of the root project: they hide dbt's own names.
    package: Option<PackageMacros>,
    root: Option<PackageMacros>,
    /// What a single render puts before everything.
    extra: HashMap<String, Value>,
    /// What is rendered; absent where there is no node.
    rendering: Option<Arc<Rendering>>,
    lent: Lent,
    /// The names that were asked for.
    made: Mutex<HashMap<String, Value>>,
    recorded: Arc<Mutex<Recorded>>,
    results: Results,
}

impl fmt::Debug for NodeScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeScope")
    }
}

impl Object for NodeScope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == SCOPE {
            return Some(Value::from_dyn_object(DynObject::new(self.clone())));
        }
        let own = |macros: &Option<PackageMacros>| macros.as_ref()?.get(key).cloned();
        let extra = self.extra.get(key).cloned();
        extra
            .or_else(|| own(&self.package))
            .or_else(|| own(&self.root))
            .or_else(|| self.name(key))
    }
}

pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeScope {
    /// A context for one render.
    pub(crate) fn new(mut rendering: Rendering) -> Arc<Self> {
        let globals = rendering.globals.clone();
        let other = rendering.package != globals.project_name;
        let queries = rendering.queries.clone().filter(|_| rendering.execute);
        let extra = std::mem::take(&mut rendering.extra);
        Arc::new(Self {
            package: globals
                .macros
                .package(&rendering.package)
                .filter(|_| other && rendering.package != BUILT_IN),
            root: globals.macros.package(&globals.project_name),
            extra: extra.into_iter().collect(),
            lent: Lent {
                package: rendering.package.clone(),
                queries,
                globals,
            },
            rendering: Some(Arc::new(rendering)),
            made: Mutex::default(),
            recorded: Arc::default(),
            results: Arc::default(),
        })
    }

    /// A name that is no macro: one value for as long as the scope lives.
    fn name(&self, name: &str) -> Option<Value> {
        if let Some(value) = held(&self.made).get(name) {
            return Some(value.clone());
        }
        let of_node = self
            .rendering
            .as_ref()
            .and_then(|rendering| self.of_node(rendering, name));
        let value = of_node.or_else(|| self.lent.make(name))?;
        held(&self.made).insert(name.to_owned(), value.clone());
        Some(value)
    }

    /// A name that only the render of a node has.
    fn of_node(&self, rendering: &Arc<Rendering>, name: &str) -> Option<Value> {
        let queries = || self.lent.queries.clone();
        let this = rendering.this.as_ref();
        Some(match name {
            "ref" => reference(rendering.resolve.clone(), self.recorded.clone()),
            "source" => source(rendering.resolve.clone(), self.recorded.clone()),
            "config" => Value::from_object(ConfigValue {
                rendering: rendering.clone(),
                recorded: self.recorded.clone(),
            }),
            "builtins" => {
                let names = ["ref", "source", "config"];
                Value::from_pairs(names.map(|name| (name, self.name(name).unwrap_or_default())))
            }
            "execute" => Value::from(rendering.execute),
            "is_incremental" => {
                let incremental = rendering.incremental;
                Value::from_function(move || incremental)
            }
            "model" => mutable(&rendering.model),
            "schema" => Value::from(this?.relation.schema.as_str()),
            "database" => Value::from(this?.relation.database.as_str()),
            "this" => this?.clone().value(),
            "graph" => rendering.graph.clone()?,
            "run_query" => run_query(queries()),
            "statement" => statement(queries(), self.results.clone()),
            "store_result" | "store_raw_result" => store_result(self.results.clone()),
            "load_result" => load_result(self.results.clone()),
            _ => return None,
        })
    }

    /// Notes that the template called a macro.
    pub(super) fn note_macro(&self, package: &str, name: &str) {
        let mut recorded = held(&self.recorded);
        let known = recorded
            .macros
            .iter()
            .any(|(known, named)| known == package && named == name);
        if !known {
            recorded.macros.push((package.to_owned(), name.to_owned()));
        }
    }

    /// The context as a value for a render.
    pub(crate) fn value(self: &Arc<Self>) -> Value {
        Value::from_dyn_object(DynObject::new(self.clone()))
    }

    /// What the renders of this context asked for.
    pub(crate) fn recorded(&self) -> Recorded {
        held(&self.recorded).clone()
    }
}

fn load_result(results: Results) -> Value {
    // Python's None where nothing is stored, so that a template may ask.
    let load = move |name: String| {
        let stored = held(&results).get(&name).cloned();
        stored.unwrap_or_else(|| Value::from(()))
    };
    Value::from_function(load)
}

/// A context for YAML values, schema-name macros and the like: no node, no relations.
pub(crate) fn project_scope(globals: &Arc<Globals>) -> Value {
    package_scope(globals, &globals.project_name)
}

/// The same, of one package.
pub(crate) fn package_scope(globals: &Arc<Globals>, package: &str) -> Value {
    Value::from_dyn_object(DynObject::new(Arc::new(NodeScope {
        package: globals
            .macros
            .package(package)
            .filter(|_| package != globals.project_name),
        root: globals.macros.package(&globals.project_name),
        extra: HashMap::new(),
        rendering: None,
        lent: Lent {
            globals: globals.clone(),
            package: package.to_owned(),
            queries: None,
        },
        made: Mutex::default(),
        recorded: Arc::default(),
        results: Arc::default(),
    })))
}

fn reference(resolve: Arc<dyn Resolve>, recorded: Arc<Mutex<Recorded>>) -> Value {
    Value::from_function(move |args: Arguments| -> Result<Value, Error> {
        let (positional, keywords) = split_keywords(&args.into_values())?;
        let version = keywords
            .iter()
            .find(|(name, value)| ["v", "version"].contains(&name.as_str()) && !value.is_none());
        let names: Vec<String> = positional.iter().map(ToString::to_string).collect();
        let (package, name) = match names.as_slice() {
            [name] => (None, name.clone()),
            [package, name] => (Some(package.clone()), name.clone()),
            _ => return Err(failed("ref() takes a name, or a package and a name")),
        };
        let name = match version {
            Some((_, version)) => format!("{name}.v{version}"),
            None => name,
        };
        let found = resolve
            .reference(package.as_deref(), &name)
            .map_err(failed)?;
        held(&recorded).refs.push((package, name));
        Ok::<_, Error>(found.value())
    })
}

fn source(resolve: Arc<dyn Resolve>, recorded: Arc<Mutex<Recorded>>) -> Value {
    Value::from_function(
        move |source: String, table: String| -> Result<Value, Error> {
            let found = resolve.source(&source, &table).map_err(failed)?;
            held(&recorded).sources.push((source, table));
            Ok(found.value())
        },
    )
}
