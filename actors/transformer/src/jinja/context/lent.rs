//! What every template of a project sees, whether it belongs to a node or not: `var`, `env_var`,
//! `target`, `flags`, `doc`, `modules` and their kin. Each is made when it is first asked for: most
//! renders ask for few.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Rest, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json};

use super::log::{LogSink, log, print};
use super::{QueryPort, failed};
use crate::jinja::adapter::{Adapter, api};
use crate::jinja::builtins::mutable;
use crate::jinja::macros::{MacroTable, SCOPE, split_keywords, take};
use crate::jinja::modules::{exceptions, modules, started_at};

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

/// Makes the names of one package's templates.
pub(super) struct Lent {
    pub(super) globals: Arc<Globals>,
    pub(super) package: String,
    pub(super) queries: Option<Arc<dyn QueryPort>>,
}

impl Lent {
    pub(super) fn make(&self, name: &str) -> Option<Value> {
        let globals = &self.globals;
        Some(match name {
            "var" => Value::from_object(VarFunction {
                globals: globals.clone(),
                package: self.package.clone(),
            }),
            "env_var" => env_var(globals.env.clone()),
            "log" => log(globals.log.clone()),
            "print" => print(globals.log.clone()),
            "doc" => doc(globals, &self.package),
            "flags" => flags(globals),
            "target" => mutable(&Json::Object(globals.target.clone())),
            "adapter" => self.adapter(),
            "api" => api(),
            "exceptions" => exceptions(globals.log.clone()),
            "modules" => modules(&globals.run_started_at),
            "execute" => Value::from(false),
            "project_name" => Value::from(globals.project_name.as_str()),
            "invocation_id" => Value::from(globals.invocation_id.as_str()),
            "run_started_at" => started_at(&globals.run_started_at),
            "dbt_version" => Value::from(crate::artifacts::DBT_VERSION),
            "selected_resources" => {
                let selected = globals.selected_resources.iter();
                let selected = selected.map(|id| Json::from(id.as_str())).collect();
                mutable(&Json::Array(selected))
            }
            "thread_id" => Value::from("Thread-1"),
            "render" => Value::from_function(render_text),
            "write" => Value::from_function(|_: Value| String::new()),
            _ => return None,
        })
    }

    fn adapter(&self) -> Value {
        let globals = &self.globals;
        Value::from_object(Adapter {
            queries: self.queries.clone(),
            macros: globals.macros.clone(),
            root: globals.project_name.clone(),
            database: match globals.target.get("database") {
                Some(Json::String(name)) => name.clone(),
                _ => String::new(),
            },
        })
    }
}

fn env_var(env: Arc<HashMap<String, String>>) -> Value {
    Value::from_function(move |name: String, default: Option<Value>| {
        match (env.get(&name), default) {
            (Some(value), _) => Ok(Value::from(value.as_str())),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(failed(format!(
                "Env var required but not provided: '{name}'"
            ))),
        }
    })
}

/// `render(text)`: a text of a variable or a hook, rendered where it stands.
fn render_text(state: &mut State<'_, '_>, text: String) -> Result<String, Error> {
    let scope = state.lookup(SCOPE).unwrap_or_default();
    let lifted = crate::jinja::lift::lift(&text, &|_| None)?;
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
