//! What a node's template sees: `ref`, `source`, `config`, `var`, `this`, `target` and their kin.
//! The same functions record while a project is parsed and resolve while it is compiled.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Rest, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json};

use super::adapter::{Adapter, Results, run_query, statement};
use super::builtins::mutable;
use super::macros::{SCOPE, split_keywords, take};
use super::relation::RelationValue;

/// What one render asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) config: Map<String, Json>,
    /// Package (if one was given) and name.
    pub(crate) refs: Vec<(Option<String>, String)>,
    /// Source and table.
    pub(crate) sources: Vec<(String, String)>,
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
}

/// What is the same for every node of a project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    pub(crate) vars: Map<String, Json>,
    pub(crate) env: HashMap<String, String>,
    pub(crate) target: Map<String, Json>,
    pub(crate) project_name: String,
    pub(crate) full_refresh: bool,
    pub(crate) command: String,
    pub(crate) invocation_id: String,
    pub(crate) run_started_at: String,
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
    /// Names that only this render has.
    pub(crate) extra: Vec<(String, Value)>,
}

/// A node's context and what its render recorded.
pub(crate) struct NodeScope {
    names: HashMap<String, Value>,
    recorded: Arc<Mutex<Recorded>>,
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
        self.names.get(key).cloned()
    }
}

pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

impl NodeScope {
    /// A context for one render.
    pub(crate) fn new(rendering: Rendering) -> Arc<Self> {
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let mut names = project_names(&rendering.globals);
        let mut set = |name: &str, value: Value| {
            names.insert(name.to_owned(), value);
        };
        let (reference, source) = (
            reference(rendering.resolve.clone(), recorded.clone()),
            source(rendering.resolve.clone(), recorded.clone()),
        );
        set(
            "builtins",
            Value::from_pairs([("ref", reference.clone()), ("source", source.clone())]),
        );
        set("ref", reference);
        set("source", source);
        set("execute", Value::from(rendering.execute));
        let incremental = rendering.incremental;
        set("is_incremental", Value::from_function(move || incremental));
        set("model", mutable(&rendering.model));
        if let Some(this) = rendering.this {
            set("schema", Value::from(this.relation.schema.as_str()));
            set("database", Value::from(this.relation.database.as_str()));
            set("this", this.value());
        }
        set(
            "get_where_subquery",
            where_subquery(rendering.config.get("where").cloned()),
        );
        set(
            "config",
            Value::from_object(ConfigValue {
                known: rendering.config,
                recorded: recorded.clone(),
            }),
        );
        let queries = rendering.queries.filter(|_| rendering.execute);
        let results: Results = Arc::default();
        set("run_query", run_query(queries.clone()));
        set("statement", statement(queries.clone(), results.clone()));
        set(
            "load_result",
            Value::from_function(move |name: String| {
                results
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(&name)
                    .cloned()
            }),
        );
        set("adapter", Value::from_object(Adapter { queries }));
        for (name, value) in rendering.extra {
            set(&name, value);
        }
        Arc::new(Self { names, recorded })
    }

    /// The context as a value for a render.
    pub(crate) fn value(self: &Arc<Self>) -> Value {
        Value::from_dyn_object(DynObject::new(self.clone()))
    }

    /// What the renders of this context asked for.
    pub(crate) fn recorded(&self) -> Recorded {
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A context for YAML values, schema-name macros and the like: no node, no relations.
pub(crate) fn project_scope(globals: &Globals) -> Value {
    let names = project_names(globals);
    Value::from_dyn_object(DynObject::new(Arc::new(NodeScope {
        names,
        recorded: Arc::default(),
    })))
}

fn project_names(globals: &Globals) -> HashMap<String, Value> {
    let vars = globals.vars.clone();
    let var = Value::from_object(VarFunction { vars });
    let env = globals.env.clone();
    let env_var = Value::from_function(move |name: String, default: Option<Value>| {
        match (env.get(&name), default) {
            (Some(value), _) => Ok(Value::from(value.as_str())),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(failed(format!(
                "env var required but not provided: '{name}'"
            ))),
        }
    });
    let log = Value::from_function(|message: Value, _info: Option<Value>, _: Kwargs| {
        tracing::info!(target: "dbt", "{message}");
        String::new()
    });
    let doc = Value::from_function(|names: Rest<String>| names.last().cloned().unwrap_or_default());
    let flags = Value::from_pairs([
        ("FULL_REFRESH", Value::from(globals.full_refresh)),
        ("WHICH", Value::from(globals.command.as_str())),
    ]);
    let pairs = [
        ("var", var),
        ("env_var", env_var),
        ("log", log),
        ("doc", doc),
        ("flags", flags),
        ("target", mutable(&Json::Object(globals.target.clone()))),
        ("project_name", Value::from(globals.project_name.as_str())),
        ("invocation_id", Value::from(globals.invocation_id.as_str())),
        (
            "run_started_at",
            Value::from(globals.run_started_at.as_str()),
        ),
        ("dbt_version", Value::from(crate::artifacts::DBT_VERSION)),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn reference(resolve: Arc<dyn Resolve>, recorded: Arc<Mutex<Recorded>>) -> Value {
    Value::from_function(move |args: Rest<Value>| -> Result<Value, Error> {
        let (positional, keywords) = split_keywords(&args)?;
        if keywords
            .iter()
            .any(|(name, _)| name == "v" || name == "version")
        {
            return Err(failed("model versions are not supported in ref()"));
        }
        let names: Vec<String> = positional.iter().map(ToString::to_string).collect();
        let (package, name) = match names.as_slice() {
            [name] => (None, name.clone()),
            [package, name] => (Some(package.clone()), name.clone()),
            _ => return Err(failed("ref() takes a name, or a package and a name")),
        };
        let found = resolve
            .reference(package.as_deref(), &name)
            .map_err(failed)?;
        recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refs
            .push((package, name));
        Ok::<_, Error>(found.value())
    })
}

fn source(resolve: Arc<dyn Resolve>, recorded: Arc<Mutex<Recorded>>) -> Value {
    Value::from_function(
        move |source: String, table: String| -> Result<Value, Error> {
            let found = resolve.source(&source, &table).map_err(failed)?;
            recorded
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .sources
                .push((source, table));
            Ok(found.value())
        },
    )
}

fn where_subquery(filter: Option<Json>) -> Value {
    Value::from_function(
        move |relation: Value| match filter.as_ref().and_then(Json::as_str) {
            Some(filter) => Value::from(format!(
                "(select * from {relation} where {filter}) dbt_subquery"
            )),
            None => relation,
        },
    )
}

#[derive(Debug)]
struct VarFunction {
    vars: Map<String, Json>,
}

impl Object for VarFunction {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let default = positional
            .get(1)
            .cloned()
            .or_else(|| take(&mut keywords, "default"));
        match (self.vars.get(&name), default) {
            (Some(value), _) => Ok(mutable(value)),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(failed(format!(
                "required var '{name}' not found in config{}",
                crate::error::nearest_hint(&name, self.vars.keys().map(String::as_str)),
            ))),
        }
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match (method, args.first()) {
            ("has_var", Some(name)) => Ok(Value::from(self.vars.contains_key(&name.to_string()))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `config(…)` in a template, and `config.get(…)`.
#[derive(Debug)]
struct ConfigValue {
    known: Map<String, Json>,
    recorded: Arc<Mutex<Recorded>>,
}

impl Object for ConfigValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut pairs) = split_keywords(args)?;
        if let Some(given) = positional.first() {
            for key in given.try_iter()? {
                pairs.push((key.to_string(), given.get_item(&key)?));
            }
        }
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in pairs {
            let json = super::builtins::to_json(&value)?;
            crate::project::config::merge_config(&mut recorded.config, &name, json);
        }
        Ok(Value::from(""))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recorded.config.get(&name).or_else(|| self.known.get(&name));
        let found = found.filter(|value| !value.is_null());
        match (method, found) {
            ("get" | "require" | "meta_get" | "meta_require", Some(value)) => Ok(mutable(value)),
            ("get" | "meta_get", None) => Ok(positional
                .get(1)
                .cloned()
                .or_else(|| take(&mut keywords, "default"))
                .unwrap_or_else(|| Value::from(()))),
            ("require" | "meta_require", None) => {
                Err(failed(format!("config '{name}' is required and not set")))
            }
            ("persist_relation_docs" | "persist_column_docs", _) => Ok(Value::from(false)),
            ("set", _) => Ok(Value::from("")),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
