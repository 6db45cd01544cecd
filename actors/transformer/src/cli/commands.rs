//! What each command does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::arguments::{
    Arguments, Command, Common, CompileFlags, DocsCommand, NodeFlags, SourceCommand,
};
use super::hooks::{Hooks, When};
use super::inspect::{debug, freshness, list, show};
use super::log::Log;
use super::operations::{clean, deps, docs_generate, retry, run_operation};
use super::parse::parse;
use super::session::{Asked, Session, Stop, session};
use super::{CliEnv, EXIT_DONE, EXIT_FAILED, EXIT_UNUSABLE};
use crate::artifacts;
use crate::error::ProjectError;
use crate::jinja::relation::Relation;
use crate::project::Project;
use crate::project::node::ResourceType;
use crate::queries::blocking_compile;
use crate::run::{self, Connections, NodeResult, Progress, RunOptions, Status};
use crate::select::State;

pub(super) async fn run(arguments: Arguments, env: &CliEnv) -> u8 {
    let log = Log::new(env, common(&arguments.command));
    match dispatch(arguments.command, env, &log).await {
        Ok(code) => code,
        Err(stop) => {
            log.error("Encountered an error:");
            log.error(&stop.shown());
            EXIT_UNUSABLE
        }
    }
}

fn common(command: &Command) -> &Common {
    match command {
        Command::Build(flags) | Command::Run(flags) | Command::Test(flags) => &flags.common,
        Command::Seed(flags) | Command::Snapshot(flags) | Command::Retry(flags) => &flags.common,
        Command::Clone(flags) => &flags.common,
        Command::Compile(flags) => &flags.nodes.common,
        Command::Source {
            command: SourceCommand::Freshness(flags),
        } => &flags.common,
        Command::Docs {
            command: DocsCommand::Generate(flags),
        } => &flags.nodes.common,
        Command::Parse(common) | Command::Clean(common) | Command::Deps(common) => common,
        Command::Debug(flags) => &flags.common,
        Command::List(flags) => &flags.common,
        Command::Show(flags) => &flags.common,
        Command::RunOperation(flags) => &flags.common,
    }
}

/// What each command that runs nodes runs, when nothing else is said.
pub(super) fn resource_types(command: &str) -> &'static [ResourceType] {
    use ResourceType::{Exposure, Model, SavedQuery, Seed, Snapshot, Test, UnitTest};
    match command {
        "build" => &[Model, Seed, Snapshot, Test, UnitTest, Exposure, SavedQuery],
        "test" => &[Test, UnitTest],
        "seed" => &[Seed],
        "snapshot" => &[Snapshot],
        _ => &[Model],
    }
}

async fn dispatch(command: Command, env: &CliEnv, log: &Log) -> Result<u8, Stop> {
    match command {
        Command::Build(flags) => build(env, log, "build", &flags).await,
        Command::Run(flags) => build(env, log, "run", &flags).await,
        Command::Test(flags) => build(env, log, "test", &flags).await,
        Command::Seed(flags) => build(env, log, "seed", &flags).await,
        Command::Snapshot(flags) => build(env, log, "snapshot", &flags).await,
        Command::Compile(flags) => compile(env, log, &flags).await,
        Command::Parse(common) => parse(env, log, &common),
        Command::List(flags) => list(env, log, &flags),
        Command::Show(flags) => show(env, log, &flags).await,
        Command::Source {
            command: SourceCommand::Freshness(flags),
        } => freshness(env, log, &flags).await,
        Command::Docs {
            command: DocsCommand::Generate(flags),
        } => docs_generate(env, log, &flags).await,
        Command::RunOperation(flags) => run_operation(env, log, &flags).await,
        Command::Retry(flags) => retry(env, log, flags).await,
        Command::Deps(common) => deps(env, log, &common),
        Command::Debug(flags) => debug(env, log, &flags).await,
        Command::Clean(common) => clean(env, log, &common),
        Command::Clone(_) => Err(ProjectError::Configuration(
            "dbt clone is not supported: PostgreSQL has no copy of a table that costs nothing"
                .into(),
        )
        .into()),
    }
}

pub(super) async fn build(
    env: &CliEnv,
    log: &Log,
    command: &str,
    flags: &NodeFlags,
) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, asked(command, flags))?;
    log.info(&session.found());
    let mut selected = session.select(&flags.selection, resource_types(command))?;
    // A file without a query is no model to build.
    let nodes = &session.project.nodes;
    selected.retain(|id| {
        let empty = nodes
            .get(id)
            .filter(|node| node.resource_type == ResourceType::Model);
        empty.is_none_or(|node| !node.raw_code.trim().is_empty())
    });
    let runnable = selected
        .iter()
        .any(|id| session.project.nodes.contains_key(id));
    if !runnable {
        log.info("Nothing to do. Try checking your model configs and model specification args");
        session.write_results(&[])?;
        return Ok(EXIT_DONE);
    }
    let connections = session.connections().await?;
    let results = run_nodes(&session, &connections, &selected, command, flags).await?;
    if let Err(failure) = connections.close().await {
        log.always(&format!("the end of the run: {}", failure.message));
    }
    session.write_results(&results)?;
    summarize(&session, &results)
}

pub(super) fn asked<'a>(command: &'a str, flags: &'a NodeFlags) -> Asked<'a> {
    Asked {
        command,
        full_refresh: flags.full_refresh,
        store_failures: flags.store_failures,
        empty: flags.empty,
        selection: Some(&flags.selection),
        nodes: Some(flags),
    }
}

/// `--defer`: the relations of an earlier state, for what is not built now and not there.
pub(super) fn deferred(
    session: &Session,
    flags: &NodeFlags,
    selected: &BTreeSet<String>,
    exists: &dyn Fn(&Relation) -> bool,
) -> Result<HashMap<String, Relation>, Stop> {
    if !flags.defer {
        return Ok(HashMap::new());
    }
    let folder = flags.selection.defer_state.as_ref();
    let folder = folder.or(flags.selection.state.as_ref()).ok_or_else(|| {
        ProjectError::Configuration("--defer needs --state: the folder of earlier artifacts".into())
    })?;
    let folder = session.env.working_dir.join(folder);
    let state = State::read(&folder, &session.target_dir)?;
    let mut relations = HashMap::new();
    for node in session.project.nodes.values() {
        let built = selected.contains(&node.unique_id);
        let here = exists(&node.relation) && !flags.favor_state;
        let then = state
            .node(&node.unique_id)
            .filter(|_| !built && !here && node.is_relation());
        let text = |key: &str| then.and_then(|then| then.get(key)?.as_str().map(str::to_owned));
        if let (Some(schema), Some(identifier)) = (text("schema"), text("alias")) {
            let database = text("database").unwrap_or_default();
            let relation = Relation {
                database,
                schema,
                identifier,
            };
            relations.insert(node.unique_id.clone(), relation);
        }
    }
    Ok(relations)
}

/// Runs the selected nodes and writes what each did.
async fn run_nodes(
    session: &Session,
    connections: &Arc<Connections>,
    selected: &BTreeSet<String>,
    command: &str,
    flags: &NodeFlags,
) -> Result<Vec<NodeResult>, Stop> {
    let (log, project) = (&session.log, &session.project);
    let store_failures = flags.store_failures;
    run::create_schemas(connections, project, selected, store_failures).await?;
    let mut held = connections.acquire().await?;
    let compiler = run::compiler_over(project, &mut held.conn, flags.full_refresh).await;
    connections.release(held, compiler.is_ok());
    let mut compiler = compiler?;
    // A comment that does not render is no fault of a node.
    compiler.comment(None)?;
    let catalog = compiler.catalog.clone();
    let exists = move |relation: &Relation| catalog.kind(relation).is_some();
    compiler.overrides = Arc::new(deferred(session, flags, selected, &exists)?);
    log.info(&format!(
        "Concurrency: {} threads (target='{}')",
        session.threads, project.target.name
    ));
    let options = RunOptions {
        threads: session.threads,
        fail_fast: flags.fail_fast,
        tests_block: command == "build",
        store_failures,
        warnings_fail: session.strict,
        clock: session.env.clock.clone(),
        cancel: session.env.cancel.clone(),
    };
    let pool = session.lazy_pool();
    let hooks = Hooks {
        session,
        connections,
        compiler: &compiler,
        pool: &pool,
    };
    let mut results = hooks.run(When::Start, &[]).await;
    let failed = results.iter().any(|result| result.status.blocks());
    if failed && skips_after_a_failed_start(project) {
        results.extend(run::all_skipped(&compiler, selected, command == "build"));
    } else {
        let shown = log.clone();
        let told = move |progress: Progress<'_>| shown.progress(&progress);
        results.extend(run::run(&compiler, &pool, connections, selected, &options, &told).await);
    }
    if !session.env.cancel.is_cancelled() {
        let at_end = hooks.run(When::End, &results).await;
        results.extend(at_end);
    }
    results.extend(run::without_work(project, selected, &results));
    pool.close().await;
    Ok(results)
}

/// `skip_nodes_if_on_run_start_fails` of the project's flags: dbt goes on unless it says so.
fn skips_after_a_failed_start(project: &Project) -> bool {
    let flags = project.file.get("flags");
    let skips = flags.and_then(|flags| flags.get("skip_nodes_if_on_run_start_fails"));
    skips.and_then(serde_json::Value::as_bool).unwrap_or(false)
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
    let idle = count(&[Status::NoOp]);
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
        let node = session.project.nodes.get(&result.unique_id);
        let kind = node.map_or("operation", |node| node.resource_type.name());
        let file = node.map_or("dbt_project.yml", |node| &node.original_file_path);
        log.always(&format!("{word} in {kind} {} ({file})", result.name));
        for line in result.message.lines() {
            log.always(&format!("  {line}"));
        }
    }
    log.info(&format!(
        "Done. PASS={passed} WARN={warned} ERROR={failed} SKIP={skipped} NO-OP={idle} TOTAL={}",
        results.len()
    ));
    let is_done = failed == 0 && !session.env.cancel.is_cancelled();
    Ok(if is_done { EXIT_DONE } else { EXIT_FAILED })
}

async fn compile(env: &CliEnv, log: &Log, flags: &CompileFlags) -> Result<u8, Stop> {
    let nodes = &flags.nodes;
    let session = session(env, log, &nodes.common, asked("compile", nodes))?;
    log.info(&session.found());
    let types = [
        ResourceType::Model,
        ResourceType::Snapshot,
        ResourceType::Test,
        ResourceType::Analysis,
    ];
    let selected = session.select(&nodes.selection, &types)?;
    let pool = session.pool().await?;
    let mut compiler = run::compiler_for(&session.project, &pool, nodes.full_refresh).await?;
    let catalog = compiler.catalog.clone();
    let exists = move |relation: &Relation| catalog.kind(relation).is_some();
    compiler.overrides = Arc::new(deferred(&session, nodes, &selected, &exists)?);
    let mut failed = false;
    if let Some(inline) = &flags.inline {
        compiler.queries = Some(crate::queries::port(&pool));
        let inline = inline.clone();
        let task = tokio::task::spawn_blocking(move || compiler.compile_inline(&inline));
        let sql = task
            .await
            .map_err(|error| Stop::Failed(error.to_string()))??;
        shown(&session, flags, "inline_query", &sql);
        return Ok(EXIT_DONE);
    }
    for id in &selected {
        let Some(node) = session.project.nodes.get(id) else {
            continue;
        };
        match blocking_compile(&compiler, &pool, id).await {
            Ok(compiled) => {
                let sql = &compiled.sql;
                artifacts::write_compiled(&session.target_dir, &session.project, node, sql)?;
                if !nodes.selection.select.is_empty() && !node.is_test() {
                    shown(&session, flags, &node.name, sql);
                }
            }
            Err(failure) => {
                failed = true;
                log.error(&failure.message);
            }
        }
    }
    session.write_results(&[])?;
    Ok(if failed { EXIT_FAILED } else { EXIT_DONE })
}

fn shown(session: &Session, flags: &CompileFlags, name: &str, sql: &str) {
    let log = &session.log;
    if flags.output == "json" {
        let line = match name {
            "inline_query" => serde_json::json!({"compiled": sql}),
            _ => serde_json::json!({"node": name, "compiled": sql}),
        };
        log.plain(&serde_json::to_string_pretty(&line).unwrap_or_default());
        return;
    }
    match name {
        "inline_query" => log.info("Compiled inline node is:"),
        _ => log.info(&format!("Compiled node '{name}' is:")),
    }
    log.plain(sql);
}
