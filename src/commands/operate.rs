//! `status`, `restart`: the running system from the shell.

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_postgres::lock::DataDirLock;
use serde_json::{Value, json};

use super::Context;
use crate::cli::StatusArgs;
use crate::output;
use crate::remote::Remote;

/// Address, databases and the supervision tree.
pub(super) async fn status(context: &Context, args: StatusArgs) -> anyhow::Result<ExitCode> {
    if args.ready {
        // Not ready is an error of its own: 503.
        running(context)?.get("/readyz").await?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = running(context)?.get("/api/status").await?;
    if context.place.json {
        output::json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    output::line(format!("{} at http://{}", text("project"), text("listen")));
    for trouble in status["degraded"].as_array().into_iter().flatten() {
        output::line(format!(
            "degraded: {}",
            trouble.as_str().unwrap_or_default()
        ));
    }
    for actor in status["actors"].as_array().into_iter().flatten() {
        print_actor(actor, 0);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_actor(actor: &Value, depth: usize) {
    let text = |key: &str| actor[key].as_str().unwrap_or_default();
    let name = format!("{}{}", "  ".repeat(depth), text("name"));
    let restarts = match actor["restarts"].as_u64() {
        Some(0) | None => String::new(),
        Some(1) => ", 1 restart".to_owned(),
        Some(n) => format!(", {n} restarts"),
    };
    let error = actor["last_error"]
        .as_str()
        .map(|e| format!(" - {e}"))
        .unwrap_or_default();
    output::line(format!("{name:<36} {}{restarts}{error}", text("state")));
    for child in actor["children"].as_array().into_iter().flatten() {
        print_actor(child, depth + 1);
    }
}

/// Restarts an actor or all members of a role.
pub(super) async fn restart(context: &Context, actor: &str) -> anyhow::Result<ExitCode> {
    let reply = running(context)?
        .post(&format!("/api/actors/{actor}/restart"), &json!({}))
        .await?;
    if context.place.json {
        output::json(&reply)?;
    } else {
        output::line(format!("restarted {actor}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn running(context: &Context) -> anyhow::Result<Remote> {
    let project = context.project()?;
    let data_dir = &project.data_dir;
    if !data_dir.is_dir() || DataDirLock::acquire(data_dir)?.is_some() {
        bail!(
            "nothing runs on {}; start it with `ballpoint up`",
            data_dir.display()
        );
    }
    Remote::of(data_dir)
}
