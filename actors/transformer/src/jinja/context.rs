//! What a node's template sees: `ref`, `source`, `config`, `var`, `this`, `target` and their kin.
//! The same functions record while a project is parsed and resolve while it is compiled.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{DynObject, Object, ObjectRepr, Rest, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json};

use super::adapter::{Adapter, Results, api, run_query, statement, store_result};
use super::builtins::mutable;
use super::engine::BUILT_IN;
use super::macros::{Arguments, MacroTable, PackageMacros, SCOPE, split_keywords, take};
use super::modules::{exceptions, modules, started_at};
use super::relation::RelationValue;

/// What one render asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) config: Map<String, Json>,
    /// Package (if one was given) and name.
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

/// Takes what templates say: `log(…, info=True)`, `print(…)`, `exceptions.warn(…)`.
#[derive(Clone, Default)]
pub(crate) struct LogSink(pub(crate) Option<Listener>);

/// Hears what templates say.
pub(crate) type Listener = Arc<dyn Fn(Said, &str) + Send + Sync>;

/// How a template says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// `log()` without `info=True`: for the log file alone.
    Debug,
    Info,
    Print,
    Warn,
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

impl LogSink {
    fn say(&self, how: Said, text: &str) {
        match &self.0 {
            Some(sink) => sink(how, text),
            None => match how {
                Said::Debug => tracing::debug!(target: "dbt", "{text}"),
                Said::Warn => tracing::warn!(target: "dbt", "{text}"),
                Said::Info | Said::Print => tracing::info!(target: "dbt", "{text}"),
            },
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.say(Said::Warn, text);
    }
}

/// What is the same for every node of a project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Variables of the root project, those of the command line before all.
    pub(crate) vars: Map<String, Json>,
    /// The same for each other package.
    pub(crate) package_vars: HashMap<String, Map<String, Json>>,
    pub(crate) env: Arc<HashMap<String, String>>,
    pub(crate) target: Map<String, Json>,
    pub(crate) project_name: String,
    pub(crate) full_refresh: bool,
    pub(crate) command: String,
    /// Other `flags` that templates read, by dbt's names.
    pub(crate) flags: Map<String, Json>,
    pub(crate) invocation_id: String,
    pub(crate) run_started_at: String,
    pub(crate) macros: Arc<MacroTable>,
    /// Texts of `{% docs %}` blocks, by package and name.
    pub(crate) docs: Arc<BTreeMap<(String, String), String>>,
    pub(crate) log: LogSink,
    /// Unique ids of what the command was asked for.
    pub(crate) selected_resources: Vec<String>,
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

/// A node's context and what its render recorded.
pub(crate) struct NodeScope {
    /// Macros of the node's package, then those of the root project: they hide dbt's own names.
    package: Option<PackageMacros>,
    root: Option<PackageMacros>,
    /// What a single render puts before everything.
    extra: HashMap<String, Value>,
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
        let own = |macros: &Option<PackageMacros>| macros.as_ref()?.get(key).cloned();
        let extra = self.extra.get(key).cloned();
        extra
            .or_else(|| own(&self.package))
            .or_else(|| own(&self.root))
            .or_else(|| self.names.get(key).cloned())
    }
}

pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

impl NodeScope {
    /// A context for one render.
    pub(crate) fn new(rendering: Rendering) -> Arc<Self> {
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let globals = &rendering.globals;
        let queries = rendering.queries.clone().filter(|_| rendering.execute);
        let mut names = project_names(globals, &rendering.package, queries.clone());
        let mut set = |name: &str, value: Value| {
            names.insert(name.to_owned(), value);
        };
        let reference = reference(rendering.resolve.clone(), recorded.clone());
        let source = source(rendering.resolve.clone(), recorded.clone());
        let config = Value::from_object(ConfigValue {
            known: rendering.config,
            recorded: recorded.clone(),
            execute: rendering.execute,
        });
        set(
            "builtins",
            Value::from_pairs([
                ("ref", reference.clone()),
                ("source", source.clone()),
                ("config", config.clone()),
            ]),
        );
        set("ref", reference);
        set("source", source);
        set("config", config);
        set("execute", Value::from(rendering.execute));
        let incremental = rendering.incremental;
        set("is_incremental", Value::from_function(move || incremental));
        set("model", mutable(&rendering.model));
        if let Some(this) = rendering.this {
            set("schema", Value::from(this.relation.schema.as_str()));
            set("database", Value::from(this.relation.database.as_str()));
            set("this", this.value());
        }
        if let Some(graph) = rendering.graph {
            set("graph", graph);
        }
        set_queries(&mut set, queries);
        let mut extra: HashMap<String, Value> = rendering.extra.into_iter().collect();
        extra.shrink_to_fit();
        let other = rendering.package != globals.project_name;
        Arc::new(Self {
            package: globals
                .macros
                .package(&rendering.package)
                .filter(|_| other && rendering.package != BUILT_IN),
            root: globals.macros.package(&globals.project_name),
            extra,
            names,
            recorded,
        })
    }

    /// Notes that the template called a macro.
    pub(super) fn note_macro(&self, package: &str, name: &str) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn set_queries(set: &mut dyn FnMut(&str, Value), queries: Option<Arc<dyn QueryPort>>) {
    let results: Results = Arc::default();
    set("run_query", run_query(queries.clone()));
    set("statement", statement(queries, results.clone()));
    set("store_result", store_result(results.clone()));
    set("store_raw_result", store_result(results.clone()));
    let load = move |name: String| {
        let results = results.lock().unwrap_or_else(PoisonError::into_inner);
        // Python's None where nothing is stored, so that a template may ask.
        results
            .get(&name)
            .cloned()
            .unwrap_or_else(|| Value::from(()))
    };
    set("load_result", Value::from_function(load));
}

/// A context for YAML values, schema-name macros and the like: no node, no relations.
pub(crate) fn project_scope(globals: &Arc<Globals>) -> Value {
    package_scope(globals, &globals.project_name)
}

/// The same, of one package.
pub(crate) fn package_scope(globals: &Arc<Globals>, package: &str) -> Value {
    let names = project_names(globals, package, None);
    Value::from_dyn_object(DynObject::new(Arc::new(NodeScope {
        package: globals
            .macros
            .package(package)
            .filter(|_| package != globals.project_name),
        root: globals.macros.package(&globals.project_name),
        extra: HashMap::new(),
        names,
        recorded: Arc::default(),
    })))
}

fn project_names(
    globals: &Arc<Globals>,
    package: &str,
    queries: Option<Arc<dyn QueryPort>>,
) -> HashMap<String, Value> {
    let var = Value::from_object(VarFunction {
        globals: globals.clone(),
        package: package.to_owned(),
    });
    let env = globals.env.clone();
    let env_var = Value::from_function(move |name: String, default: Option<Value>| {
        match (env.get(&name), default) {
            (Some(value), _) => Ok(Value::from(value.as_str())),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(failed(format!(
                "Env var required but not provided: '{name}'"
            ))),
        }
    });
    let sink = globals.log.clone();
    let log = Value::from_function(move |args: Arguments| -> Result<String, Error> {
        let (positional, mut keywords) = split_keywords(&args.into_values())?;
        let text = positional.first().map(ToString::to_string);
        let info = positional
            .get(1)
            .cloned()
            .or_else(|| take(&mut keywords, "info"));
        let how = match info.is_some_and(|flag| flag.is_true()) {
            true => Said::Info,
            false => Said::Debug,
        };
        sink.say(how, &text.unwrap_or_default());
        Ok(String::new())
    });
    let sink = globals.log.clone();
    let print = Value::from_function(move |text: Value| {
        sink.say(Said::Print, &text.to_string());
        String::new()
    });
    let adapter = Adapter {
        queries,
        macros: globals.macros.clone(),
        root: globals.project_name.clone(),
        database: match globals.target.get("database") {
            Some(Json::String(name)) => name.clone(),
            _ => String::new(),
        },
    };
    let selected = globals.selected_resources.iter();
    let selected = selected.map(|id| Json::from(id.as_str())).collect();
    let pairs = [
        ("var", var),
        ("env_var", env_var),
        ("log", log),
        ("print", print),
        ("doc", doc(globals, package)),
        ("flags", flags(globals)),
        ("target", mutable(&Json::Object(globals.target.clone()))),
        ("adapter", Value::from_object(adapter)),
        ("api", api()),
        ("exceptions", exceptions(globals.log.clone())),
        ("modules", modules(&globals.run_started_at)),
        ("execute", Value::from(false)),
        ("project_name", Value::from(globals.project_name.as_str())),
        ("invocation_id", Value::from(globals.invocation_id.as_str())),
        ("run_started_at", started_at(&globals.run_started_at)),
        ("dbt_version", Value::from(crate::artifacts::DBT_VERSION)),
        ("selected_resources", mutable(&Json::Array(selected))),
        ("thread_id", Value::from("Thread-1")),
        ("render", Value::from_function(render_text)),
        ("write", Value::from_function(|_: Value| String::new())),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// `render(text)`: a text of a variable or a hook, rendered where it stands.
fn render_text(state: &mut State<'_, '_>, text: String) -> Result<String, Error> {
    let scope = state.lookup(SCOPE).unwrap_or_default();
    let lifted = super::lift::lift(&text, &|_| None)?;
    state
        .env()
        .render_named_str("<text>", &lifted.source, scope)
}

fn doc(globals: &Arc<Globals>, package: &str) -> Value {
    let (globals, own) = (globals.clone(), package.to_owned());
    Value::from_function(move |names: Rest<String>| {
        let found = match names.as_slice() {
            [package, name] => globals.docs.get(&(package.clone(), name.clone())),
            [name] => [&own, &globals.project_name]
                .into_iter()
                .find_map(|package| globals.docs.get(&(package.clone(), name.clone())))
                .or_else(|| {
                    let mut all = globals.docs.iter();
                    all.find(|((_, known), _)| known == name)
                        .map(|(_, text)| text)
                }),
            _ => None,
        };
        found.cloned().ok_or_else(|| {
            let name = names.last().map_or("", String::as_str);
            let known = globals.docs.keys().map(|(_, name)| name.as_str());
            failed(format!(
                "Documentation for '{name}' depends on doc '{name}' which was not found{}",
                crate::error::nearest_hint(name, known)
            ))
        })
    })
}

fn flags(globals: &Globals) -> Value {
    let mut flags = Map::new();
    for (name, value) in [
        ("FULL_REFRESH", Json::from(globals.full_refresh)),
        ("WHICH", Json::from(globals.command.as_str())),
        ("STORE_FAILURES", false.into()),
        ("FAIL_FAST", false.into()),
        ("DEBUG", false.into()),
        ("EMPTY", false.into()),
        ("DEFER", false.into()),
        ("FAVOR_STATE", false.into()),
        ("USE_COLORS", false.into()),
        ("PARTIAL_PARSE", true.into()),
        ("INDIRECT_SELECTION", "eager".into()),
        ("VERSION_CHECK", true.into()),
        ("WRITE_JSON", true.into()),
        ("LOG_FORMAT", "default".into()),
        ("CACHE_SELECTED_ONLY", false.into()),
        ("SEND_ANONYMOUS_USAGE_STATS", false.into()),
    ] {
        flags.insert(name.to_owned(), value);
    }
    flags.extend(globals.flags.clone());
    mutable(&Json::Object(flags))
}

fn reference(resolve: Arc<dyn Resolve>, recorded: Arc<Mutex<Recorded>>) -> Value {
    Value::from_function(move |args: Arguments| -> Result<Value, Error> {
        let (positional, keywords) = split_keywords(&args.into_values())?;
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

#[derive(Debug)]
struct VarFunction {
    globals: Arc<Globals>,
    package: String,
}

impl VarFunction {
    fn vars(&self) -> &Map<String, Json> {
        let globals = &self.globals;
        globals
            .package_vars
            .get(&self.package)
            .unwrap_or(&globals.vars)
    }
}

impl Object for VarFunction {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let default = positional
            .get(1)
            .cloned()
            .or_else(|| take(&mut keywords, "default"));
        match (self.vars().get(&name), default) {
            // A variable's text is rendered where it is asked for.
            (Some(Json::String(text)), _) if text.contains("{{") || text.contains("{%") => {
                render_text(state, text.clone()).map(Value::from)
            }
            (Some(value), _) => Ok(mutable(value)),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(failed(format!(
                "Required var '{name}' not found in config{}",
                crate::error::nearest_hint(&name, self.vars().keys().map(String::as_str)),
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
            ("has_var", Some(name)) => Ok(Value::from(self.vars().contains_key(&name.to_string()))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `config(…)` in a template, and `config.get(…)`.
#[derive(Debug)]
struct ConfigValue {
    known: Map<String, Json>,
    recorded: Arc<Mutex<Recorded>>,
    /// Once a node runs, its configuration is final: what the file says is in it already.
    execute: bool,
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
        for (one, other) in [("pre_hook", "pre-hook"), ("post_hook", "post-hook")] {
            let given = |wanted: &str| pairs.iter().any(|(name, _)| name == wanted);
            if given(one) && given(other) {
                return Err(failed(format!(
                    "config() has both '{one}' and '{other}', which are one: give one of them"
                )));
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
        let found = match self.execute {
            true => self.known.get(&name),
            false => recorded.config.get(&name).or_else(|| self.known.get(&name)),
        };
        let found = match method {
            "meta_get" | "meta_require" => self.known.get("meta").and_then(|meta| meta.get(&name)),
            // What is no configuration of dbt's may stand under `meta`.
            _ => found.filter(|value| !value.is_null()),
        };
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
            ("persist_relation_docs" | "persist_column_docs", _) => {
                let what = match method {
                    "persist_relation_docs" => "relation",
                    _ => "columns",
                };
                let wanted = self
                    .known
                    .get("persist_docs")
                    .and_then(|docs| docs.get(what));
                Ok(Value::from(wanted.and_then(Json::as_bool).unwrap_or(false)))
            }
            ("set", _) => {
                drop(recorded);
                let value = positional.get(1).cloned().unwrap_or_default();
                let json = super::builtins::to_json(&value)?;
                let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
                crate::project::config::merge_config(&mut recorded.config, &name, json);
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
