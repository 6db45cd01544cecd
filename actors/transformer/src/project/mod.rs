//! A dbt project read into memory: its files, its nodes, its graph. Reading touches no database.

pub(crate) mod comment;
pub(crate) mod config;
pub(crate) mod files;
mod load;
mod naming;
pub mod node;
pub(crate) mod profile;
mod properties;
pub(crate) mod semantic;
pub(crate) mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ballpoint_runtime::files::FileStamps;
use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use crate::error::ProjectError;
use crate::graph::Graph;
use crate::jinja::context::{Globals, LogSink};
use crate::jinja::engine::{BUILT_IN, Engine};
use crate::jinja::relation::Quoting;
use node::{Described, Exposure, Node, Source};
use profile::Target;
use semantic::Semantic;

pub(crate) use load::{clean_targets, generic_kwargs, install_packages};
pub(crate) use naming::md5_hex;

/// Where the target of a project comes from.
#[derive(Clone, Debug)]
pub enum TargetChoice {
    /// The caller knows the database.
    Explicit(Target),
    /// `profiles.yml`: its folder, and the names of a profile and a target if not the defaults.
    Profiles {
        dir: Option<PathBuf>,
        profile: Option<String>,
        target: Option<String>,
    },
}

/// How a project is read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub project_dir: PathBuf,
    pub target: TargetChoice,
    /// `--vars`: they beat the project's.
    pub vars: Map<String, Json>,
    /// What `env_var()` sees; the library reads no environment itself.
    pub env: std::collections::HashMap<String, String>,
    pub full_refresh: bool,
    /// Other flags that templates read as `flags.X`.
    pub flags: Map<String, Json>,
    /// The command's name, for `flags.WHICH`.
    pub command: String,
    pub invocation_id: String,
    /// RFC 3339.
    pub run_started_at: String,
    /// Takes what templates say with `log()`, `print()` and `exceptions.warn()`.
    pub(crate) log: LogSink,
}

impl LoadOptions {
    /// A project for a database that the caller holds.
    pub fn new(project_dir: impl Into<PathBuf>, target: Target) -> Self {
        Self {
            project_dir: project_dir.into(),
            target: TargetChoice::Explicit(target),
            vars: Map::new(),
            env: std::collections::HashMap::new(),
            full_refresh: false,
            flags: Map::new(),
            log: LogSink::default(),
            command: "build".to_owned(),
            invocation_id: uuid::Uuid::new_v4().to_string(),
            run_started_at: String::new(),
        }
    }
}

/// A project, parsed. Immutable: an edit makes a new one.
#[derive(Debug)]
pub struct Project {
    pub name: String,
    pub root: PathBuf,
    pub target: Target,
    /// Which parts of names are quoted where nothing else is said.
    pub quoting: Quoting,
    pub nodes: BTreeMap<String, Node>,
    pub sources: BTreeMap<String, Source>,
    pub exposures: BTreeMap<String, Exposure>,
    /// Semantic models, metrics and saved queries.
    pub(crate) semantics: BTreeMap<String, Semantic>,
    pub groups: Vec<Described>,
    /// What properties files say of macros.
    pub macro_properties: Vec<Described>,
    /// Texts of `{% docs %}` blocks, by package and name.
    pub docs: Arc<BTreeMap<(String, String), String>>,
    /// The hooks of a run, in their order; their `raw_code` is rendered when they run.
    pub on_run_start: Vec<Node>,
    pub on_run_end: Vec<Node>,
    /// `selectors.yml`, as it is written.
    pub(crate) selectors: Option<Json>,
    /// Unique ids of what is declared and disabled.
    pub disabled: Vec<String>,
    /// The project file, rendered.
    pub(crate) file: Json,
    pub(crate) query_comment: comment::QueryComment,
    /// What was odd but no error.
    pub warnings: Vec<String>,
    pub(crate) engine: Engine,
    pub(crate) globals: Arc<Globals>,
    pub(crate) graph: Graph,
    /// A digest of every macro: a changed macro changes every definition.
    pub(crate) macros_digest: String,
    graph_value: OnceLock<Value>,
    macros_query: OnceLock<bool>,
    stamps: FileStamps,
}

impl Project {
    /// Reads a project.
    ///
    /// # Errors
    /// With the file and line of the first thing that is wrong.
    pub fn load(options: &LoadOptions) -> Result<Self, ProjectError> {
        load::load(options)
    }

    /// The files that the project in this folder is made of, as they are now.
    pub(crate) fn stamps(root: &Path) -> FileStamps {
        load::stamps(root)
    }

    /// Whether a file was added, removed or edited since the project was read.
    pub fn is_stale(&self) -> bool {
        Self::stamps(&self.root) != self.stamps
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The node that a `ref` names: of the package given, else of the package that asks, else of
    /// whichever has it.
    pub(crate) fn find_ref(&self, package: Option<&str>, name: &str) -> Option<&Node> {
        self.find_ref_from(&self.name, package, name)
    }

    pub(crate) fn find_ref_from(
        &self,
        asking: &str,
        package: Option<&str>,
        name: &str,
    ) -> Option<&Node> {
        load::find_ref(&self.nodes, &self.name, asking, package, name)
    }

    pub(crate) fn find_source(&self, source: &str, table: &str) -> Option<&Source> {
        load::find_source(&self.sources, &self.name, source, table)
    }

    /// `graph`, as templates read it; made when a template first asks.
    pub(crate) fn graph_value(&self) -> Value {
        self.graph_value
            .get_or_init(|| crate::artifacts::graph_value(self))
            .clone()
    }

    /// Whether a macro that is not built in may query while it renders, by what its text says; told
    /// once for all nodes.
    pub(crate) fn macros_query(&self, asks: impl Fn(&str) -> bool) -> bool {
        *self.macros_query.get_or_init(|| {
            let mut own = self.engine.macros.iter();
            own.any(|known| known.package != BUILT_IN && asks(&known.source))
        })
    }

    /// A folder that commands write into: `target-path` of the project.
    pub fn target_path(&self) -> PathBuf {
        let named = self.file.get("target-path").and_then(Json::as_str);
        self.root.join(named.unwrap_or("target"))
    }
}
