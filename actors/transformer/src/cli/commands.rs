//! What each command does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::arguments::{Arguments, Command, Common, NodeFlags, SelectionFlags, SourceCommand};
use super::inspect::{debug, freshness, list, show};
use super::log::Log;
use super::{CliEnv, EXIT_DONE, EXIT_FAILED, EXIT_UNUSABLE};
use crate::artifacts;
use crate::error::ProjectError;
use crate::project::node::ResourceType;
use crate::project::{LoadOptions, Project, TargetChoice};
use crate::queries::blocking_compile;
use crate::run::{self, NodeResult, RunOptions, Status, describe};
use crate::select::{Selection, select};

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

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// A command with its project read.
pub(super) struct Session {
    pub(super) project: Arc<Project>,
    pub(super) target_dir: PathBuf,
    pub(super) threads: usize,
    pub(super) log: Log,
    pub(super) env: CliEnv,
    pub(super) begin: Instant,
}

pub(super) async fn run(arguments: Arguments, env: &CliEnv) -> u8 {
    let quiet = common(&arguments.command).quiet;
    let log = Log::new(env, quiet);
    match dispatch(arguments.command, env, &log).await {
        Ok(code) => code,
        Err(stop) => {
            log.always("Encountered an error:");
            log.plain(&match stop {
                Stop::Project(error) => error.to_string(),
                Stop::Unreachable(error) => error.to_string(),
                Stop::Database(error) => format!("database error: {}", describe(&error)),
                Stop::Output(error) => format!("target folder: {error}"),
            });
            EXIT_UNUSABLE
        }
    }
}

fn common(command: &Command) -> &Common {
    match command {
        Command::Build(flags) | Command::Run(flags) | Command::Test(flags) => &flags.common,
        Command::Seed(flags) | Command::Compile(flags) => &flags.common,
        Command::Source {
            command: SourceCommand::Freshness(flags),
        } => &flags.common,
        Command::Parse(common) | Command::Debug(common) | Command::Clean(common) => common,
        Command::List(flags) => &flags.common,
        Command::Show(flags) => &flags.common,
    }
}

async fn dispatch(command: Command, env: &CliEnv, log: &Log) -> Result<u8, Stop> {
    use ResourceType::{Model, Seed, Test};
    match command {
        Command::Build(flags) => build(env, log, "build", &flags, &[Model, Seed, Test]).await,
        Command::Run(flags) => build(env, log, "run", &flags, &[Model]).await,
        Command::Test(flags) => build(env, log, "test", &flags, &[Test]).await,
        Command::Seed(flags) => build(env, log, "seed", &flags, &[Seed]).await,
        Command::Compile(flags) => compile(env, log, &flags).await,
        Command::Parse(common) => {
            let session = session(env, log, &common, "parse", false)?;
            session.write_manifest()?;
            Ok(EXIT_DONE)
        }
        Command::List(flags) => list(env, log, &flags),
        Command::Show(flags) => show(env, log, &flags).await,
        Command::Source {
            command: SourceCommand::Freshness(flags),
        } => freshness(env, log, &flags).await,
        Command::Debug(common) => debug(env, log, &common).await,
        Command::Clean(common) => {
            let session = session(env, log, &common, "clean", false)?;
            if session.target_dir.is_dir() {
                std::fs::remove_dir_all(&session.target_dir)?;
            }
            log.info(&format!("Cleaned {}", session.target_dir.display()));
            Ok(EXIT_DONE)
        }
    }
}

fn vars(text: Option<&str>) -> Result<Map<String, Json>, ProjectError> {
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

pub(super) fn session(
    env: &CliEnv,
    log: &Log,
    common: &Common,
    command: &str,
    full_refresh: bool,
) -> Result<Session, Stop> {
    let begin = Instant::now();
    let project_dir = match (&common.project_dir, &env.default_project_dir) {
        (Some(dir), _) => env.working_dir.join(dir),
        (None, Some(dir)) => dir.clone(),
        (None, None) => env.working_dir.clone(),
    };
    // What the command line says of profiles beats the configured warehouse.
    let names_profile = common.profiles_dir.is_some() || common.profile.is_some();
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
    let options = LoadOptions {
        target,
        vars: vars(common.vars.as_deref())?,
        env: env.env.clone(),
        full_refresh,
        command: command.to_owned(),
        run_started_at: env.clock.real_now().to_string(),
        ..LoadOptions::new(project_dir, crate::project::profile::Target::default())
    };
    let project = Project::load(&options)?;
    for warning in &project.warnings {
        log.info(&format!("[WARNING]: {warning}"));
    }
    let threads = common.threads.unwrap_or(project.target.threads).max(1);
    Ok(Session {
        target_dir: project.root.join("target"),
        project: Arc::new(project),
        threads,
        log: log.clone(),
        env: env.clone(),
        begin,
    })
}

fn resource_types(names: &[String]) -> Result<Vec<ResourceType>, ProjectError> {
    names
        .iter()
        .filter(|name| *name != "all")
        .map(|name| match name.as_str() {
            "model" => Ok(ResourceType::Model),
            "seed" => Ok(ResourceType::Seed),
            "test" => Ok(ResourceType::Test),
            "source" => Ok(ResourceType::Source),
            other => Err(ProjectError::Configuration(format!(
                "resource type '{other}' is not known"
            ))),
        })
        .collect()
}

impl Session {
    /// Connects. A pool would try again for as long as a borrower may wait; one connection before
    /// it says at once that nobody is there.
    pub(super) async fn pool(&self) -> Result<PgPool, Unreachable> {
        let target = &self.project.target;
        let unreachable = |reason: String| Unreachable {
            address: format!("{}:{}", target.host, target.port),
            database: target.database.clone(),
            target: target.name.clone(),
            reason,
        };
        let options = target.connect_options();
        let first = PgConnection::connect_with(&options);
        let connection = match tokio::time::timeout(CONNECT_MAX, first).await {
            Ok(connected) => connected.map_err(|error| unreachable(describe(&error)))?,
            Err(_) => {
                let waited = CONNECT_MAX.as_secs();
                return Err(unreachable(format!("no answer within {waited} s")));
            }
        };
        // A goodbye that fails changes nothing.
        let _ = connection.close().await;
        Ok(PgPoolOptions::new()
            // One more than threads: a render may query while every thread holds a connection.
            .max_connections(self.threads as u32 * 2)
            .acquire_timeout(Duration::from_secs(30))
            .connect_lazy_with(options))
    }

    pub(super) fn select(
        &self,
        flags: &SelectionFlags,
        default: &[ResourceType],
    ) -> Result<BTreeSet<String>, ProjectError> {
        let given = resource_types(&flags.resource_type)?;
        let types = if given.is_empty() {
            default.to_vec()
        } else {
            given
        };
        let selection = Selection {
            select: flags.select.clone(),
            exclude: flags.exclude.clone(),
            resource_types: types,
        };
        select(&self.project, &selection)
    }

    pub(super) fn now(&self) -> String {
        self.env.clock.real_now().to_string()
    }

    fn write_manifest(&self) -> std::io::Result<()> {
        let manifest = artifacts::manifest(&self.project, &self.now());
        artifacts::write(&self.target_dir, "manifest.json", &manifest)
    }

    fn write_results(&self, results: &[NodeResult]) -> std::io::Result<()> {
        for result in results {
            if let (Some(sql), Some(node)) =
                (&result.compiled, self.project.nodes.get(&result.unique_id))
            {
                artifacts::write_compiled(&self.target_dir, &self.project, node, sql)?;
            }
        }
        let elapsed = self.begin.elapsed().as_secs_f64();
        let artifact = artifacts::run_results(&self.project, results, elapsed, &self.now());
        artifacts::write(&self.target_dir, "run_results.json", &artifact)?;
        self.write_manifest()
    }

    fn found(&self) -> String {
        let count = |kind: ResourceType| {
            self.project
                .nodes
                .values()
                .filter(|node| node.resource_type == kind)
                .count()
        };
        format!(
            "Found {} models, {} data tests, {} seeds, {} sources, {} macros",
            count(ResourceType::Model),
            count(ResourceType::Test),
            count(ResourceType::Seed),
            self.project.sources.len(),
            self.project.engine.macros.len(),
        )
    }
}

async fn build(
    env: &CliEnv,
    log: &Log,
    command: &str,
    flags: &NodeFlags,
    types: &[ResourceType],
) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, command, flags.full_refresh)?;
    log.info(&session.found());
    let selected = session.select(&flags.selection, types)?;
    let runnable = selected
        .iter()
        .any(|id| session.project.nodes.contains_key(id));
    if !runnable {
        log.info("Nothing to do. Try checking your model configs and model specification args");
        session.write_results(&[])?;
        return Ok(EXIT_DONE);
    }
    let pool = session.pool().await?;
    if command != "test" {
        run::create_schemas(&pool, &session.project, &selected).await?;
    }
    let compiler = run::compiler_for(&session.project, &pool, flags.full_refresh).await?;
    log.info(&format!(
        "Concurrency: {} threads (target='{}')",
        session.threads, session.project.target.name
    ));
    let options = RunOptions {
        threads: session.threads,
        fail_fast: flags.fail_fast,
        tests_block: command == "build",
    };
    let shown = log.clone();
    let results = run::run(&compiler, &pool, &selected, &options, &move |progress| {
        shown.progress(&progress)
    })
    .await;
    pool.close().await;
    session.write_results(&results)?;
    summarize(&session, &results)
}

fn summarize(session: &Session, results: &[NodeResult]) -> Result<u8, Stop> {
    let count = |statuses: &[Status]| {
        results
            .iter()
            .filter(|result| statuses.contains(&result.status))
            .count()
    };
    let log = &session.log;
    let (passed, warned) = (
        count(&[Status::Success, Status::Pass]),
        count(&[Status::Warn]),
    );
    let (failed, skipped) = (
        count(&[Status::Error, Status::Fail]),
        count(&[Status::Skipped]),
    );
    log.info(&format!(
        "Finished running in {:.2} seconds.",
        session.begin.elapsed().as_secs_f64()
    ));
    if failed + warned == 0 {
        log.info("Completed successfully");
    } else {
        log.always(&format!(
            "Completed with {failed} errors and {warned} warnings:"
        ));
    }
    for result in results {
        let word = match result.status {
            Status::Error | Status::Fail => "Failure",
            Status::Warn => "Warning",
            _ => continue,
        };
        let node = &session.project.nodes[&result.unique_id];
        let kind = node.resource_type.name();
        log.always(&format!(
            "{word} in {kind} {} ({})",
            node.name, node.original_file_path
        ));
        for line in result.message.lines() {
            log.always(&format!("  {line}"));
        }
    }
    log.info(&format!(
        "Done. PASS={passed} WARN={warned} ERROR={failed} SKIP={skipped} NO-OP=0 TOTAL={}",
        results.len()
    ));
    Ok(if failed == 0 { EXIT_DONE } else { EXIT_FAILED })
}

async fn compile(env: &CliEnv, log: &Log, flags: &NodeFlags) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, "compile", flags.full_refresh)?;
    log.info(&session.found());
    let selected = session.select(&flags.selection, &[ResourceType::Model, ResourceType::Test])?;
    let pool = session.pool().await?;
    let compiler = run::compiler_for(&session.project, &pool, flags.full_refresh).await?;
    let mut failed = false;
    for id in &selected {
        let Some(node) = session.project.nodes.get(id) else {
            continue;
        };
        match blocking_compile(&compiler, &pool, id).await {
            Ok(compiled) => {
                artifacts::write_compiled(
                    &session.target_dir,
                    &session.project,
                    node,
                    &compiled.sql,
                )?;
                if !flags.selection.select.is_empty() && !node.is_test() {
                    log.info(&format!("Compiled node '{}' is:", node.name));
                    log.plain(&compiled.sql);
                }
            }
            Err(failure) => {
                failed = true;
                log.always(&failure.message);
            }
        }
    }
    session.write_manifest()?;
    Ok(if failed { EXIT_FAILED } else { EXIT_DONE })
}
