//! A command with its project read: what every command begins with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::CliEnv;
use super::arguments::{Common, NodeFlags, SelectionFlags};
use super::log::Log;
use crate::artifacts;
use crate::error::{ProjectError, nearest_hint};
use crate::project::node::ResourceType;
use crate::project::{LoadOptions, Project, TargetChoice};
use crate::run::{Connections, Failure, NodeResult, describe};
use crate::select::{Indirect, Selection, State, select};

/// How long a server that takes a connection may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The server of the target cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to database {database:?} at {address} (target {target:?}): {reason}; start that \
     server, name the data dir of a running `ballpoint up` (--data-dir), or another profile \
     (--profiles-dir, --profile)"
)]
pub(super) struct Unreachable {
    address: String,
    database: String,
    target: String,
    reason: String,
}

/// Why a command cannot go on.
pub(super) enum Stop {
    Project(ProjectError),
    Unreachable(Unreachable),
    Database(sqlx::Error),
    Failed(String),
    Output(std::io::Error),
}

impl From<ProjectError> for Stop {
    fn from(error: ProjectError) -> Self {
        Self::Project(error)
    }
}

impl From<Unreachable> for Stop {
    fn from(error: Unreachable) -> Self {
        Self::Unreachable(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.message)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Stop {
    /// As dbt says it: the kind of error, then what it is.
    pub(super) fn shown(&self) -> String {
        let (kind, text) = match self {
            Self::Project(error) => (error.category(), error.to_string()),
            Self::Unreachable(error) => ("Database Error", error.to_string()),
            Self::Database(error) => (
                "Database Error",
                format!("database error: {}", describe(error)),
            ),
            Self::Failed(message) => ("Database Error", format!("database error: {message}")),
            Self::Output(error) => ("Runtime Error", format!("target folder: {error}")),
        };
        format!("{kind}\n  {}", text.replace('\n', "\n  "))
    }
}

/// A command with its project read.
pub(super) struct Session {
    pub(super) project: Arc<Project>,
    pub(super) target_dir: PathBuf,
    pub(super) threads: usize,
    pub(super) log: Log,
    pub(super) env: CliEnv,
    /// The command line, as run_results.json keeps it.
    pub(super) arguments: Json,
    /// Warnings are errors.
    pub(super) strict: bool,
    pub(super) begin: Instant,
}

pub(super) fn vars(text: Option<&str>) -> Result<Map<String, Json>, ProjectError> {
    let Some(text) = text else {
        return Ok(Map::new());
    };
    let parsed: Json = serde_norway::from_str(text)
        .map_err(|error| ProjectError::Configuration(format!("--vars is not YAML: {error}")))?;
    match parsed {
        Json::Object(map) => Ok(map),
        Json::Null => Ok(Map::new()),
        _ => Err(ProjectError::Configuration(
            "--vars must be a mapping".to_owned(),
        )),
    }
}

/// What a command says of itself besides its flags for all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) command: &'a str,
    pub(super) full_refresh: bool,
    pub(super) store_failures: bool,
    pub(super) empty: bool,
    pub(super) selection: Option<&'a SelectionFlags>,
    pub(super) nodes: Option<&'a NodeFlags>,
}

/// How a command reads its project.
pub(super) fn load_options(
    env: &CliEnv,
    log: &Log,
    common: &Common,
    asked: Asked<'_>,
) -> Result<LoadOptions, ProjectError> {
    let project_dir = project_dir(env, common);
    // What the command line says of profiles beats the configured warehouse.
    let configured = env.default_target.as_ref().map(|target| &target.name);
    let names_target = common.target.is_some() && common.target.as_ref() != configured;
    let names_profile = common.profiles_dir.is_some() || common.profile.is_some() || names_target;
    let target = match &env.default_target {
        Some(target) if !names_profile => TargetChoice::Explicit(target.clone()),
        _ => TargetChoice::Profiles {
            dir: common
                .profiles_dir
                .as_ref()
                .map(|dir| env.working_dir.join(dir)),
            profile: common.profile.clone(),
            target: common.target.clone(),
        },
    };
    let mut flags = Map::new();
    flags.insert("STORE_FAILURES".into(), asked.store_failures.into());
    flags.insert("EMPTY".into(), asked.empty.into());
    flags.insert("DEBUG".into(), common.debug.into());
    flags.insert("LOG_FORMAT".into(), common.log_format.as_str().into());
    if let Some(selection) = asked.selection {
        let indirect = selection.indirect_selection.as_str();
        flags.insert("INDIRECT_SELECTION".into(), indirect.into());
    }
    Ok(LoadOptions {
        target,
        vars: vars(common.vars.as_deref())?,
        env: env.env.clone(),
        full_refresh: asked.full_refresh,
        flags,
        command: asked.command.to_owned(),
        run_started_at: env.clock.real_now().to_string(),
        log: log.sink(common.no_print),
        ..LoadOptions::new(project_dir, crate::project::profile::Target::default())
    })
}

pub(super) fn session(
    env: &CliEnv,
    log: &Log,
    common: &Common,
    asked: Asked<'_>,
) -> Result<Session, Stop> {
    let begin = Instant::now();
    let project = Project::load(&load_options(env, log, common, asked)?)?;
    let strict = strict_warnings(common);
    for warning in &project.warnings {
        if strict {
            return Err(ProjectError::Configuration(warning.clone()).into());
        }
        log.warn(warning);
    }
    let threads = common.threads.unwrap_or(project.target.threads).max(1);
    let target_dir = asked_target_dir(env, common, &project.root);
    Ok(Session {
        target_dir: target_dir.unwrap_or_else(|| project.target_path()),
        project: Arc::new(project),
        threads,
        log: log.clone(),
        env: env.clone(),
        arguments: arguments_json(common, asked),
        strict,
        begin,
    })
}

/// The project's folder: the flag's, the configured one, or where the command was called.
pub(super) fn project_dir(env: &CliEnv, common: &Common) -> PathBuf {
    match (&common.project_dir, &env.default_project_dir) {
        (Some(dir), _) => env.working_dir.join(dir),
        (None, Some(dir)) => dir.clone(),
        (None, None) => env.working_dir.clone(),
    }
}

/// Where the caller wants artifacts, if not where the project says.
pub(super) fn asked_target_dir(env: &CliEnv, common: &Common, root: &Path) -> Option<PathBuf> {
    let from_env = env.env.get("DBT_TARGET_PATH").map(PathBuf::from);
    let asked = common.target_path.clone().or(from_env);
    asked.map(|path| root.join(path))
}

/// Whether warnings are errors.
pub(super) fn strict_warnings(common: &Common) -> bool {
    let options = common.warn_error_options.as_deref();
    let options: Option<Json> = options.and_then(|text| serde_norway::from_str(text).ok());
    let all = |key: &str| {
        let given = options.as_ref().and_then(|it| it.get(key));
        given.is_some_and(|it| matches!(it.as_str(), Some("all" | "*")))
    };
    common.warn_error || all("error") || all("include")
}

/// What `run_results.json` keeps of the command line, for `retry` and for readers.
fn arguments_json(common: &Common, asked: Asked<'_>) -> Json {
    let selection = asked.selection.cloned().unwrap_or_default();
    let vars = vars(common.vars.as_deref()).unwrap_or_default();
    let nodes = asked.nodes.cloned().unwrap_or_default();
    serde_json::json!({
        "defer": nodes.defer, "favor_state": nodes.favor_state, "fail_fast": nodes.fail_fast,
        "state": selection.state, "defer_state": selection.defer_state, "empty": asked.empty,
        "warn_error": common.warn_error, "warn_error_options": common.warn_error_options,
        "which": asked.command, "full_refresh": asked.full_refresh,
        "store_failures": asked.store_failures, "vars": vars, "target": common.target,
        "profile": common.profile, "threads": common.threads, "quiet": common.quiet,
        "select": selection.select, "exclude": selection.exclude,
        "selector": selection.selector, "indirect_selection": selection.indirect_selection,
        "log_format": common.log_format,
    })
}

fn resource_types(names: &[String]) -> Result<Vec<ResourceType>, ProjectError> {
    names
        .iter()
        .filter(|name| *name != "all")
        .flat_map(|name| name.split_whitespace())
        .map(|name| {
            let known = ResourceType::ALL.into_iter();
            known
                .clone()
                .find(|kind| kind.name() == name)
                .ok_or_else(|| {
                    ProjectError::Configuration(format!(
                        "resource type '{name}' is not known{}",
                        nearest_hint(name, known.map(ResourceType::name))
                    ))
                })
        })
        .collect()
}

impl Session {
    /// Why the server cannot be used, with what to do about it.
    fn unreachable(&self, reason: String) -> Unreachable {
        let target = &self.project.target;
        Unreachable {
            address: format!("{}:{}", target.host, target.port),
            database: target.database.clone(),
            target: target.name.clone(),
            reason,
        }
    }

    /// Connects. A pool would try again for as long as a borrower may wait; one connection before
    /// it says at once that nobody is there.
    pub(super) async fn pool(&self) -> Result<PgPool, Unreachable> {
        let options = self.project.target.connect_options();
        let first = PgConnection::connect_with(&options);
        let connection = match tokio::time::timeout(CONNECT_MAX, first).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(describe(&error)))?,
            Err(_) => {
                let waited = CONNECT_MAX.as_secs();
                return Err(self.unreachable(format!("no answer within {waited} s")));
            }
        };
        // A goodbye that fails changes nothing.
        let _ = connection.close().await;
        Ok(self.lazy_pool())
    }

    /// Connections for queries in the middle of a render; none is opened before one is needed.
    pub(super) fn lazy_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(
                u32::try_from(self.threads)
                    .unwrap_or(u32::MAX)
                    .saturating_add(1),
            )
            .acquire_timeout(Duration::from_secs(30))
            .connect_lazy_with(self.project.target.connect_options())
    }

    /// The connections that nodes run on, the first one open.
    pub(super) async fn connections(&self) -> Result<Arc<Connections>, Unreachable> {
        let connections = Connections::new(self.project.target.connect_options());
        let first = connections.acquire().await;
        let first = first.map_err(|failure| self.unreachable(failure.message))?;
        connections.release(first, true);
        Ok(Arc::new(connections))
    }

    pub(super) fn select(
        &self,
        flags: &SelectionFlags,
        default: &[ResourceType],
    ) -> Result<BTreeSet<String>, ProjectError> {
        let types = match flags.resource_type.iter().all(|name| name == "default") {
            true => default.to_vec(),
            false => resource_types(&flags.resource_type)?,
        };
        if let Some(ids) = &flags.only {
            return Ok(ids.iter().cloned().collect());
        }
        let state = match &flags.state {
            Some(folder) => {
                let folder = self.env.working_dir.join(folder);
                Some(Arc::new(State::read(&folder, &self.target_dir)?))
            }
            None => None,
        };
        let selection = Selection {
            select: flags.select.clone(),
            exclude: flags.exclude.clone(),
            selector: flags.selector.clone(),
            resource_types: types,
            exclude_resource_types: resource_types(&flags.exclude_resource_type)?,
            indirect: Indirect::parse(&flags.indirect_selection).unwrap_or_default(),
            state,
        };
        self.warn_of_nothing(&selection)?;
        select(&self.project, &selection)
    }

    /// Says which criteria name nothing: most often a name that is written wrong.
    fn warn_of_nothing(&self, selection: &Selection) -> Result<(), ProjectError> {
        let criteria = selection
            .select
            .iter()
            .flat_map(|text| text.split_whitespace());
        for criterion in criteria {
            let alone = Selection {
                select: vec![criterion.to_owned()],
                exclude: Vec::new(),
                resource_types: Vec::new(),
                exclude_resource_types: Vec::new(),
                ..selection.clone()
            };
            if select(&self.project, &alone)?.is_empty() {
                let message = format!(
                    "The selection criterion '{criterion}' does not match any enabled nodes"
                );
                if self.strict {
                    return Err(ProjectError::Configuration(message));
                }
                self.log.warn(&message);
            }
        }
        Ok(())
    }

    pub(super) fn now(&self) -> String {
        self.env.clock.real_now().to_string()
    }

    pub(super) fn write_manifest(&self) -> std::io::Result<()> {
        let manifest = artifacts::manifest(&self.project, &self.now());
        artifacts::write(&self.target_dir, "manifest.json", &manifest)
    }

    pub(super) fn write_results(&self, results: &[NodeResult]) -> std::io::Result<()> {
        for result in results {
            let Some(node) = self.project.nodes.get(&result.unique_id) else {
                continue;
            };
            for (folder, sql) in [("compiled", &result.compiled), ("run", &result.statements)] {
                if let Some(sql) = sql {
                    artifacts::write_sql(&self.target_dir, folder, &self.project, node, sql)?;
                }
            }
        }
        let elapsed = self.begin.elapsed().as_secs_f64();
        let mut artifact = artifacts::run_results(&self.project, results, elapsed, &self.now());
        artifact["args"] = self.arguments.clone();
        artifacts::write(&self.target_dir, "run_results.json", &artifact)?;
        self.write_manifest()
    }

    /// Results that no node made.
    pub(super) fn write_raw_results(&self, results: Vec<Json>) -> std::io::Result<()> {
        let elapsed = self.begin.elapsed().as_secs_f64();
        let mut artifact = artifacts::run_results(&self.project, &[], elapsed, &self.now());
        artifact["results"] = Json::Array(results);
        artifact["args"] = self.arguments.clone();
        artifacts::write(&self.target_dir, "run_results.json", &artifact)?;
        self.write_manifest()
    }

    pub(super) fn found(&self) -> String {
        let count = |kind: ResourceType| {
            self.project
                .nodes
                .values()
                .filter(|node| node.resource_type == kind)
                .count()
        };
        let mut parts = Vec::new();
        for (kind, one, many) in [
            (ResourceType::Model, "model", "models"),
            (ResourceType::Analysis, "analysis", "analyses"),
            (ResourceType::Test, "data test", "data tests"),
            (ResourceType::Seed, "seed", "seeds"),
            (ResourceType::Snapshot, "snapshot", "snapshots"),
            (ResourceType::UnitTest, "unit test", "unit tests"),
        ] {
            parts.push((count(kind), one, many));
        }
        let hooks = self.project.on_run_start.len() + self.project.on_run_end.len();
        parts.push((hooks, "operation", "operations"));
        parts.push((self.project.sources.len(), "source", "sources"));
        parts.push((self.project.exposures.len(), "exposure", "exposures"));
        parts.push((self.project.engine.macros.len(), "macro", "macros"));
        let parts = parts
            .into_iter()
            .filter(|(count, _, _)| *count > 0)
            .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
        format!("Found {}", parts.collect::<Vec<_>>().join(", "))
    }
}
