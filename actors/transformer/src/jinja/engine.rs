//! The template environment of a project: its macros, its templates, and where each line came from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use minijinja::value::Value;
use minijinja::{Environment, Error};

use super::builtins::{self, RaisedByTemplate};
use super::lift::{BlockKind, LiftedBlock, lift, rewrite_expression};
use super::macros::{HostMacro, MacroTable, Namespace, returned};
use crate::error::{Place, ProjectError};

/// The namespace of the built-in library.
pub(crate) const BUILT_IN: &str = "dbt";

/// What the built-in library's macros of one adapter are called.
const IMPLEMENTATIONS: [&str; 2] = ["postgres__", "default__"];

/// A macro and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct MacroInfo {
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Its body, rewritten for the renderer.
    pub(crate) source: String,
    /// The block as its file has it.
    pub(crate) written: String,
}

/// Compiled templates and macros. Built once a project, read by every render.
pub(crate) struct Engine {
    env: Environment<'static>,
    pub(crate) macros: Vec<MacroInfo>,
    pub(crate) table: Arc<MacroTable>,
    /// Custom materializations by name, and where each is written. They are not run.
    pub(crate) materializations: HashMap<String, Place>,
    known: HashMap<(String, String), usize>,
    inline: BTreeMap<String, Value>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} macros)", self.macros.len())
    }
}

impl Engine {
    /// An environment that knows the built-in library alone.
    pub(crate) fn new() -> Result<Self, ProjectError> {
        let mut env = Environment::new();
        builtins::install(&mut env);
        let mut engine = Self {
            env,
            macros: Vec::new(),
            table: Arc::default(),
            materializations: HashMap::new(),
            known: HashMap::new(),
            inline: BTreeMap::new(),
        };
        for (file, source) in builtins::LIBRARY {
            engine.add_built_in(file, source)?;
        }
        Ok(engine)
    }

    /// Registers a file of the built-in library. `default__x` or `postgres__x` alone stands for a
    /// macro `x` too, which finds the implementation that the project wants.
    fn add_built_in(&mut self, file: &str, source: &str) -> Result<(), ProjectError> {
        let lifted = lift(source, &|_| None).map_err(|error| self.located(&error, file))?;
        let mut written = HashSet::new();
        for block in lifted.blocks {
            let short = IMPLEMENTATIONS
                .iter()
                .find_map(|prefix| block.name.strip_prefix(prefix))
                .map(str::to_owned);
            written.insert(block.name.clone());
            let params = block.params.clone();
            self.add_block(BUILT_IN, file, block)?;
            let Some(name) = short.filter(|name| written.insert(name.clone())) else {
                continue;
            };
            let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
            let call = format!(
                "{{{{ return(adapter.dispatch('{name}', 'dbt')({})) }}}}",
                names.join(", ")
            );
            let kind = BlockKind::Macro;
            self.add_block(
                BUILT_IN,
                file,
                LiftedBlock {
                    kind,
                    name,
                    params,
                    header: String::new(),
                    written: call.clone(),
                    body: call,
                    line: 1,
                },
            )?;
        }
        Ok(())
    }

    /// Registers every macro of a file of a package, and gives back its snapshots.
    pub(crate) fn add_macro_file(
        &mut self,
        package: &str,
        file: &str,
        source: &str,
    ) -> Result<(), ProjectError> {
        let lifted = lift(source, &|_| None).map_err(|error| self.located(&error, file))?;
        for block in lifted.blocks {
            self.add_block(package, file, block)?;
        }
        Ok(())
    }

    fn add_block(
        &mut self,
        package: &str,
        file: &str,
        block: LiftedBlock,
    ) -> Result<(), ProjectError> {
        let place = Place::line(file, block.line);
        let name = match block.kind {
            BlockKind::Macro => block.name,
            BlockKind::Test => format!("test_{}", block.name),
            BlockKind::Materialization => {
                let other_adapter =
                    block.header.contains("adapter") && !block.header.contains("postgres");
                if !other_adapter {
                    self.materializations.insert(block.name, place);
                }
                return Ok(());
            }
            // A snapshot beside macros is one of the project's nodes only in its own folder.
            BlockKind::Snapshot => return Ok(()),
        };
        let key = (package.to_owned(), name.clone());
        if let (Some(earlier), true) = (self.known.get(&key), package != BUILT_IN) {
            let first = self.macros[*earlier].place.clone();
            return Err(ProjectError::Duplicate {
                what: "macro",
                name,
                first,
                second: place,
            });
        }
        let value = self.host_macro(package, file, &name, &block.params, &block.body)?;
        if package == BUILT_IN {
            self.env.add_global(name.clone(), value.clone());
        }
        if self.table.package(package).is_none() {
            let namespace = Namespace {
                package: package.to_owned(),
                table: self.table.clone(),
            };
            self.env
                .add_global(package.to_owned(), Value::from_object(namespace));
        }
        self.table.insert(package, &name, value);
        self.known.insert(key, self.macros.len());
        let (package, source, written) = (package.to_owned(), block.body, block.written);
        self.macros.push(MacroInfo {
            package,
            name,
            place,
            source,
            written,
        });
        Ok(())
    }

    /// The blocks of a snapshot file.
    ///
    /// # Errors
    /// When the file does not tokenize.
    pub(crate) fn snapshot_blocks(
        &mut self,
        package: &str,
        file: &str,
        source: &str,
    ) -> Result<Vec<LiftedBlock>, ProjectError> {
        let lifted = lift(source, &|_| None).map_err(|error| self.located(&error, file))?;
        let mut snapshots = Vec::new();
        for block in lifted.blocks {
            match block.kind {
                BlockKind::Snapshot => snapshots.push(block),
                _ => self.add_block(package, file, block)?,
            }
        }
        Ok(snapshots)
    }

    fn host_macro(
        &mut self,
        package: &str,
        file: &str,
        name: &str,
        params: &[super::lift::Param],
        body: &str,
    ) -> Result<Value, ProjectError> {
        let template = format!("{file}#{package}.{name}");
        self.env
            .add_template_owned(template.clone(), body.to_owned())
            .map_err(|error| self.located(&error, file))?;
        Ok(Value::from_object(HostMacro {
            name: name.to_owned(),
            package: package.to_owned(),
            table: (package != BUILT_IN).then(|| self.table.clone()),
            params: params.to_vec(),
            template,
            takes_varargs: body.contains("varargs"),
            takes_kwargs: body.contains("kwargs"),
        }))
    }

    /// Compiles a template under its file's name, with the macros that it declares itself.
    pub(crate) fn add_template(&mut self, file: &str, source: &str) -> Result<(), ProjectError> {
        let inline = |name: &str| Some(format!("__inline[{:?}]", format!("{file}#{name}")));
        let lifted = lift(source, &inline).map_err(|error| self.located(&error, file))?;
        if !lifted.blocks.is_empty() {
            for block in lifted.blocks {
                let value =
                    self.host_macro("__inline", file, &block.name, &block.params, &block.body)?;
                self.inline.insert(format!("{file}#{}", block.name), value);
            }
            self.env
                .add_global("__inline", Value::from_pairs(self.inline.clone()));
        }
        self.env
            .add_template_owned(file.to_owned(), lifted.source)
            .map_err(|error| self.located(&error, file))
    }

    /// Whether a macro of this name exists.
    pub(crate) fn has_macro(&self, name: &str) -> bool {
        self.known.keys().any(|(_, known)| known == name)
    }

    /// Where a project's macro of this name is written.
    pub(crate) fn macro_place(&self, name: &str) -> Option<&Place> {
        self.macros
            .iter()
            .rev()
            .find(|known| known.name == name)
            .map(|known| &known.place)
    }

    /// Renders a template that was added under this name; `place` is where it stands when it is
    /// not a file of its own.
    pub(crate) fn render(
        &self,
        name: &str,
        place: &Place,
        scope: Value,
    ) -> Result<String, ProjectError> {
        self.env
            .get_template(name)
            .and_then(|template| template.render(scope))
            .map_err(|error| self.placed(&error, place))
    }

    /// Renders a piece of text that stands in a file.
    pub(crate) fn render_text(
        &self,
        text: &str,
        place: &Place,
        scope: Value,
    ) -> Result<String, ProjectError> {
        let at = |error: Error| self.placed(&error, place);
        let lifted = lift(text, &|_| None).map_err(at)?;
        self.env
            .render_named_str("<text>", &lifted.source, scope)
            .map_err(at)
    }

    /// The value of a text: of its expression when it is nothing but one `{{ … }}`.
    pub(crate) fn native(
        &self,
        text: &str,
        place: &Place,
        scope: Value,
    ) -> Result<Value, ProjectError> {
        let inner = text
            .trim()
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        match inner.filter(|inner| !inner.contains("{{")) {
            Some(expression) => rewrite_expression(expression)
                .and_then(|source| self.env.compile_expression_owned(source)?.eval(scope))
                .map_err(|error| self.placed(&error, place)),
            None => self.render_text(text, place, scope).map(Value::from),
        }
    }

    /// Calls a macro by name.
    pub(crate) fn call_macro(
        &self,
        name: &str,
        args: Vec<(&str, Value)>,
        scope: Value,
    ) -> Result<String, ProjectError> {
        let names: Vec<&str> = args.iter().map(|(name, _)| *name).collect();
        let call = format!("{{{{ {name}({}) }}}}", names.join(", "));
        let locals = args
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let scope = Value::from_object(super::macros::Scope {
            locals,
            package: None,
            base: scope,
        });
        let place = self.macro_place(name).cloned().unwrap_or_default();
        self.env
            .render_named_str("<call>", &call, scope)
            .map_err(|error| self.placed(&error, &place))
    }

    /// An error at its own place: the template and line that minijinja reports.
    fn located(&self, error: &Error, file: &str) -> ProjectError {
        self.placed(error, &Place::file(file))
    }

    fn placed(&self, error: &Error, default: &Place) -> ProjectError {
        let origin = innermost(error);
        let reported = origin.name().filter(|name| !name.starts_with('<'));
        let place = match reported {
            Some(name) => {
                let file = name.split('#').next().unwrap_or(name);
                Place {
                    file: PathBuf::from(file),
                    line: origin.line(),
                }
            }
            None if default.line.is_none() => Place {
                file: default.file.clone(),
                line: origin.line(),
            },
            None => default.clone(),
        };
        let mut message = message(origin);
        for call in stack(error) {
            message.push_str("\n  > ");
            message.push_str(&call);
        }
        ProjectError::Jinja { place, message }
    }
}

/// Where the macros that an error went through were called, the innermost first.
fn stack(error: &Error) -> Vec<String> {
    let mut calls = Vec::new();
    let mut current: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(source) = current {
        if let Some(at) = source.downcast_ref::<Error>() {
            let name = at.name().unwrap_or("<text>");
            let (file, block) = name.split_once('#').unwrap_or((name, ""));
            let line = at.line().unwrap_or(0);
            let call = match block.rsplit('.').next().filter(|name| !name.is_empty()) {
                Some(name) => format!("in macro {name} ({file}:{line})"),
                None => format!("called by {file}:{line}"),
            };
            if calls.last() != Some(&call) && !file.starts_with('<') {
                calls.push(call);
            }
        }
        current = source.source();
    }
    calls.reverse();
    // One place alone is the error's own.
    if calls.len() < 2 {
        calls.clear();
    }
    calls
}

/// The deepest template error of a chain: where it really happened.
fn innermost(error: &Error) -> &Error {
    let mut found = error;
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        if let Some(deeper) = current.downcast_ref::<Error>() {
            found = deeper;
        }
        source = current.source();
    }
    found
}

fn message(error: &Error) -> String {
    if returned(error).is_some() {
        return "return() is used outside of a macro".to_owned();
    }
    if let Some(raised) = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<RaisedByTemplate>())
    {
        return raised.0.clone();
    }
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod golden {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// dbt's own Jinja environment gave these answers; `ERR` where it raised.
    const CASES: &str = include_str!("../../../../tests/golden/jinja/cases.json");

    /// Snippets that still differ, each for a reason that notes name: call blocks with arguments and
    /// `%` as a format operator.
    const KNOWN_GAPS: &[&str] = &[
        "{{ 'a %s b' % 'x' }}",
        "{{ 'a %s b %d' % ('x',3) }}",
        "{% macro m() %}{{ caller(5) }}{% endmacro %}{% call(v) m() %}b{{v}}{% endcall %}",
    ];

    fn render(snippet: &str) -> String {
        let mut engine = Engine::new().unwrap();
        let place = Place::file("snippet");
        let rendered = engine.add_template("snippet", snippet).and_then(|()| {
            let globals = Arc::new(crate::jinja::context::Globals {
                macros: engine.table.clone(),
                run_started_at: "2024-01-01T00:00:00Z".to_owned(),
                ..Default::default()
            });
            let scope = crate::jinja::context::project_scope(&globals);
            engine.render("snippet", &place, scope)
        });
        rendered.unwrap_or_else(|_| "ERR".to_owned())
    }

    #[test]
    fn the_snippets_render_as_dbt_renders_them_but_for_the_known_gaps() {
        let cases: Vec<(String, String)> = serde_json::from_str(CASES).unwrap();
        let differing: Vec<(&str, String, &str)> = cases
            .iter()
            .map(|(snippet, expected)| (snippet.as_str(), render(snippet), expected.as_str()))
            .filter(|(_, rendered, expected)| rendered != expected)
            .collect();
        let snippets: Vec<&str> = differing.iter().map(|(snippet, _, _)| *snippet).collect();
        assert_eq!(snippets, KNOWN_GAPS, "{differing:#?}");
        assert!(cases.len() - differing.len() >= 102);
    }
}
