//! `dbt`: dbt's own commands. Nothing of the running system is touched but, where the project's
//! target is its warehouse, that database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ballpoint_transformer::Target;
use ballpoint_transformer::cli::{self, CliEnv};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::config::Project;
use crate::databases::WAREHOUSE;
use crate::output;
use crate::remote::Remote;

/// dbt's schema where a model names none.
const DEFAULT_SCHEMA: &str = "public";

pub(super) async fn run(context: &Context, args: Vec<String>) -> anyhow::Result<ExitCode> {
    // Outside of any project this is plain dbt; a project that is named or in reach must be sound.
    let project = Some(context.project()?).filter(|project| !project.is_shipped);
    let own_dir = project.as_deref().and_then(own_project_dir);
    let named_dir = value_of(&args, "--project-dir").map(PathBuf::from);
    let is_own = match (&named_dir, &own_dir) {
        (Some(named), Some(own)) => same(named, own),
        (None, own) => own.is_some(),
        (Some(_), None) => false,
    };
    let default_target = match project.as_deref() {
        Some(project) if is_own => target(project).await,
        _ => None,
    };
    let json = context.place.json;
    let env = CliEnv {
        env: context.environment.clone().into_map().into_iter().collect(),
        working_dir: std::env::current_dir()?,
        default_target,
        default_project_dir: own_dir,
        clock: context.clock(),
        cancel: cancelled_by_signal()?,
        out: Arc::new(move |text| match json {
            // The shape of dbt's structured log, as far as its readers need it.
            true => output::line(json!({ "info": { "level": "info", "msg": text } }).to_string()),
            false => output::line(text),
        }),
    };
    Ok(ExitCode::from(Box::pin(cli::run(&args, &env)).await))
}

/// Cancelled by the first Ctrl-C or SIGTERM: the run ends with what it has written down.
fn cancelled_by_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(cancel)
}

fn own_project_dir(project: &Project) -> Option<PathBuf> {
    let transform = project.config.transform.as_ref()?;
    Some(project.folder.join(&transform.project_dir))
}

/// The project's warehouse: where it is configured, or on the embedded cluster of a running `up`.
async fn target(project: &Project) -> Option<Target> {
    let url = match &project.config.warehouse.url {
        Some(url) => url.clone(),
        None => {
            let status = Remote::of(&project.data_dir)
                .ok()?
                .get("/api/status")
                .await
                .ok()?;
            status["databases"][WAREHOUSE].as_str()?.to_owned()
        }
    };
    Target::from_url(&url, DEFAULT_SCHEMA).ok()
}

fn value_of<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(i, arg)| {
        if arg == flag {
            args.get(i + 1).map(String::as_str)
        } else {
            arg.strip_prefix(flag)?.strip_prefix('=')
        }
    })
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
