//! Commands around a run: `run-operation`, `retry`, `docs generate`, `deps`, `clean`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::arguments::{Common, DocsFlags, NodeFlags, OperationFlags};
use super::commands::{asked, build};
use super::log::Log;
use super::session::{Asked, Session, Stop, project_dir, session, vars};
use super::{CliEnv, EXIT_DONE, EXIT_FAILED};
use crate::artifacts::{self, catalog};
use crate::error::{ProjectError, nearest_hint};
use crate::project::Project;
use crate::queries::{blocking_compile, port};
use crate::run;

pub(super) async fn run_operation(
    env: &CliEnv,
    log: &Log,
    flags: &OperationFlags,
) -> Result<u8, Stop> {
    let command = Asked {
        command: "run-operation",
        ..Asked::default()
    };
    let session = session(env, log, &flags.common, command)?;
    let call = operation_call(&session.project, &flags.name, &flags.args)?;
    let pool = session.pool().await?;
    let mut compiler = run::compiler_for(&session.project, &pool, false).await?;
    compiler.queries = Some(port(&pool));
    let begin = std::time::Instant::now();
    let task = tokio::task::spawn_blocking(move || compiler.run_operation(&call));
    let done = match task.await {
        Ok(done) => done.map(|_| ()).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    pool.close().await;
    let name = &flags.name;
    let result = json!({
        "status": if done.is_ok() { "success" } else { "error" }, "timing": [],
        "thread_id": "MainThread", "execution_time": begin.elapsed().as_secs_f64(),
        "adapter_response": {}, "message": done.as_ref().err(), "failures": null,
        "unique_id": format!("operation.{}.{name}", session.project.name), "compiled": null,
        "compiled_code": null, "relation_name": null, "batch_results": null,
    });
    session.write_raw_results(vec![result])?;
    match done {
        Ok(()) => Ok(EXIT_DONE),
        Err(message) => {
            log.error(&format!(
                "Encountered an error while running operation: {message}"
            ));
            Ok(EXIT_FAILED)
        }
    }
}

/// `name(a=1)` of a macro's name and its arguments as YAML.
fn operation_call(project: &Project, name: &str, args: &str) -> Result<String, ProjectError> {
    let given = vars(Some(args)).map_err(|error| {
        ProjectError::Configuration(error.to_string().replace("--vars", "--args"))
    })?;
    let plain = name.rsplit('.').next().unwrap_or(name);
    if !project.engine.has_macro(plain) {
        let known = project
            .engine
            .macros
            .iter()
            .map(|known| known.name.as_str());
        return Err(ProjectError::Configuration(format!(
            "dbt could not find a macro with the name '{name}' in any package{}",
            nearest_hint(plain, known)
        )));
    }
    let mut call = Vec::new();
    for (argument, value) in given {
        // Literals of templates are written as JSON's are, but for their names of nothing.
        let text = Json::String(value.to_string()).to_string();
        call.push(format!("{argument}=fromjson({text})"));
    }
    // A macro of a package is called by its package; one of any other is found by its owner.
    let owner = || {
        let found = project.engine.macros.iter().find(|known| {
            known.name == plain && known.package != "dbt" && known.package != project.name
        });
        let here = project.engine.macros.iter().any(|known| {
            known.name == plain && (known.package == project.name || known.package == "dbt")
        });
        found
            .filter(|_| !here)
            .map(|known| format!("{}.{plain}", known.package))
    };
    let name = match name.contains('.') {
        true => name.to_owned(),
        false => owner().unwrap_or_else(|| name.to_owned()),
    };
    Ok(format!("{name}({})", call.join(", ")))
}

/// Runs again what did not end well, under the command and flags of that run.
pub(super) async fn retry(env: &CliEnv, log: &Log, flags: NodeFlags) -> Result<u8, Stop> {
    let probe = session(env, log, &flags.common, asked("retry", &flags))?;
    let folder = match &flags.selection.state {
        Some(folder) => env.working_dir.join(folder),
        None => probe.target_dir.clone(),
    };
    let file = folder.join("run_results.json");
    let missing = |reason: String| {
        ProjectError::Configuration(format!(
            "Could not find previous run in '{}' target directory: {reason}",
            folder.display()
        ))
    };
    let text = std::fs::read_to_string(&file).map_err(|error| missing(error.to_string()))?;
    let earlier: Json = serde_json::from_str(&text).map_err(|error| missing(error.to_string()))?;
    let arguments = earlier.get("args").cloned().unwrap_or_default();
    let command = arguments
        .get("which")
        .and_then(Json::as_str)
        .unwrap_or("build");
    let results = earlier.get("results").and_then(Json::as_array);
    let ids: BTreeSet<String> = results
        .into_iter()
        .flatten()
        .filter(|result| {
            let status = result.get("status").and_then(Json::as_str);
            matches!(
                status,
                Some("error" | "fail" | "skipped" | "runtime error" | "partial success")
            )
        })
        .filter_map(|result| result.get("unique_id")?.as_str().map(str::to_owned))
        .filter(|id| probe.project.nodes.contains_key(id))
        .collect();
    let known = ["build", "run", "test", "seed", "snapshot"];
    if !known.contains(&command) {
        return Err(ProjectError::Configuration(format!(
            "dbt retry cannot run '{command}' again: it runs {} again",
            known.join(", ")
        ))
        .into());
    }
    let mut again = flags.clone();
    let flag = |name: &str| arguments.get(name).and_then(Json::as_bool).unwrap_or(false);
    again.full_refresh |= flag("full_refresh");
    again.store_failures |= flag("store_failures");
    again.fail_fast |= flag("fail_fast");
    again.empty |= flag("empty");
    again.defer |= flag("defer");
    again.favor_state |= flag("favor_state");
    again.common.warn_error |= flag("warn_error");
    if again.common.vars.is_none() {
        again.common.vars = arguments.get("vars").map(Json::to_string);
    }
    let text = |name: &str| arguments.get(name)?.as_str().map(str::to_owned);
    let common = &mut again.common;
    common.target = common.target.take().or_else(|| text("target"));
    common.profile = common.profile.take().or_else(|| text("profile"));
    let options = &mut common.warn_error_options;
    *options = options.take().or_else(|| text("warn_error_options"));
    // The retry's own --state is where the earlier run's results are.
    again.selection.state = text("state").map(PathBuf::from);
    again.selection.defer_state = text("defer_state").map(PathBuf::from);
    again.selection.only = Some(ids.into_iter().collect());
    build(env, log, command, &again).await
}

pub(super) async fn docs_generate(env: &CliEnv, log: &Log, flags: &DocsFlags) -> Result<u8, Stop> {
    let nodes = &flags.nodes;
    let session = session(env, log, &nodes.common, asked("generate", nodes))?;
    log.info(&session.found());
    let selected = session.select(&nodes.selection, &[])?;
    let mut failed = false;
    let (mut compiled, mut rows) = (Vec::new(), Vec::new());
    if !flags.empty_catalog {
        let pool = session.pool().await?;
        if !flags.no_compile {
            let compiler = run::compiler_for(&session.project, &pool, false).await?;
            for node in session.project.nodes.values() {
                if !selected.contains(&node.unique_id) || node.raw_code.is_empty() {
                    continue;
                }
                match blocking_compile(&compiler, &pool, &node.unique_id).await {
                    Ok(done) => compiled.push((node.unique_id.clone(), done.sql)),
                    Err(failure) => {
                        failed = true;
                        log.error(&failure.message);
                    }
                }
            }
        }
        log.info("Building catalog");
        let mut conn = pool.acquire().await?;
        rows = catalog::read(&mut conn, &session.project).await?;
    }
    let artifact = catalog::catalog(&session.project, &rows, &selected, &session.now());
    artifacts::write(&session.target_dir, "catalog.json", &artifact)?;
    copy_assets(&session)?;
    if flags.no_compile {
        return Ok(EXIT_DONE);
    }
    session.write_results(&[])?;
    let mut manifest = artifacts::manifest(&session.project, &session.now());
    for (id, sql) in compiled {
        let node = &mut manifest["nodes"][&id];
        node["compiled"] = true.into();
        node["compiled_code"] = sql.into();
        node["extra_ctes_injected"] = true.into();
        node["extra_ctes"] = json!([]);
    }
    artifacts::write(&session.target_dir, "manifest.json", &manifest)?;
    let page = artifacts::docs::page(&manifest, &artifact);
    artifacts::write_text(&session.target_dir, "index.html", &page)?;
    let file = session.target_dir.join("catalog.json");
    log.info(&format!("Catalog written to {}", file.display()));
    Ok(if failed { EXIT_FAILED } else { EXIT_DONE })
}

/// `asset-paths` of the project, beside the artifacts that a documentation site shows.
fn copy_assets(session: &Session) -> std::io::Result<()> {
    let paths = session
        .project
        .file
        .get("asset-paths")
        .and_then(Json::as_array);
    for folder in paths.into_iter().flatten().filter_map(Json::as_str) {
        let source = session.project.root.join(folder);
        for file in crate::project::files::walk(&source) {
            let Ok(inner) = file.strip_prefix(&session.project.root) else {
                continue;
            };
            let copy = session.target_dir.join(inner);
            if let Some(parent) = copy.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::copy(&file, copy)?;
        }
    }
    Ok(())
}

pub(super) fn deps(env: &CliEnv, log: &Log, common: &Common) -> Result<u8, Stop> {
    for line in crate::project::install_packages(&project_dir(env, common))? {
        log.info(&line);
    }
    Ok(EXIT_DONE)
}

/// Deletes `clean-targets` of the project file, never what is outside the project or its sources.
pub(super) fn clean(env: &CliEnv, log: &Log, common: &Common) -> Result<u8, Stop> {
    let root = project_dir(env, common);
    let (targets, sources) = crate::project::clean_targets(&root)?;
    let root = root.canonicalize().unwrap_or(root);
    for target in targets {
        let path = root.join(&target);
        let path = path.canonicalize().unwrap_or(path);
        let keeps = sources
            .iter()
            .any(|source| root.join(source).starts_with(&path));
        if !path.starts_with(&root) || path == root || keeps {
            return Err(ProjectError::Configuration(format!(
                "dbt will not clean '{target}': it is outside the project or holds its sources"
            ))
            .into());
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        }
        log.info(&format!("Cleaned {}", path.display()));
    }
    log.info("Finished cleaning all paths.");
    Ok(EXIT_DONE)
}
