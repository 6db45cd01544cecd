//! `status`, `restart`: the running system from the shell.

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_postgres::lock::DataDirLock;
use indicatif::HumanBytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Context;
use crate::cli::StatusArgs;
use crate::output;
use crate::remote::Remote;

/// Of the latest runs.
const RUNS_SHOWN: usize = 8;

/// Address, databases, the supervision tree, what is due, what does not work, and what ran last.
pub(super) async fn status(context: &Context, args: StatusArgs) -> anyhow::Result<ExitCode> {
    if args.ready {
        // Not ready is an error of its own: 503.
        running(context)?.get("/readyz").await?;
        return Ok(ExitCode::SUCCESS);
    }
    let remote = running(context)?;
    let mut status = remote.get("/api/status").await?;
    for (key, path) in [
        ("schedules", "/api/schedules".to_owned()),
        ("incidents", "/api/incidents".to_owned()),
        ("runs", format!("/api/runs?limit={RUNS_SHOWN}")),
    ] {
        status[key] = remote.get(&path).await?["items"].take();
    }
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
    items(&status, "streams").for_each(print_stream);
    items(&status, "schedules").for_each(print_schedule);
    items(&status, "incidents")
        .filter(|incident| incident["state"] == "open")
        .for_each(print_incident);
    items(&status, "runs").for_each(print_run);
    Ok(ExitCode::SUCCESS)
}

fn items<'a>(status: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    status[key].as_array().into_iter().flatten()
}

fn print_stream(stream: &Value) {
    let text = |key: &str| stream[key].as_str().unwrap_or_default();
    let bytes = |key: &str| {
        stream[key]
            .as_u64()
            .map(|bytes| HumanBytes(bytes).to_string())
    };
    let unknown = || "unknown".to_owned();
    let behind = bytes("lag_bytes").unwrap_or_else(unknown);
    let age = stream["lag_seconds"].as_f64();
    let age = age.map_or_else(unknown, |seconds| format!("{seconds:.1} s"));
    let kept = bytes("retained_bytes").unwrap_or_else(unknown);
    output::line(format!(
        "stream {}: slot {} at {}, behind: {behind}, {age}; log kept for it: {kept}",
        text("source"),
        text("slot"),
        text("end_lsn"),
    ));
}

fn print_schedule(schedule: &Value) {
    let text = |key: &str| schedule[key].as_str().unwrap_or_default();
    let next = text("next_at")
        .parse::<Timestamp>()
        .ok()
        .and_then(|at| at.in_tz(text("timezone")).ok())
        .map(|at| at.strftime("%a %Y-%m-%d %H:%M %Z").to_string())
        .unwrap_or_default();
    let last = match text("last_state") {
        "" => String::new(),
        state => format!(", last: {state}"),
    };
    output::line(format!(
        "schedule {}: `{}` {}, next {next}{last}",
        text("name"),
        text("cron"),
        text("timezone")
    ));
}

fn print_incident(incident: &Value) {
    let text = |key: &str| incident[key].as_str().unwrap_or_default();
    output::line(format!(
        "{} since {}: {}: {}",
        text("severity"),
        text("opened_at"),
        text("title"),
        text("detail")
    ));
}

fn print_run(run: &Value) {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let name = format!("{} {}", text("kind"), text("scope"));
    let attempts = match run["attempts"].as_i64() {
        Some(0 | 1) | None => String::new(),
        Some(n) => format!(", attempt {n}"),
    };
    let rows = run["rows"]
        .as_i64()
        .map(|rows| format!(", {rows} rows"))
        .unwrap_or_default();
    let took = run["ms"]
        .as_i64()
        .map(|ms| format!(", {ms} ms"))
        .unwrap_or_default();
    let error = run["error"]
        .as_str()
        .map(|e| format!(" - {e}"))
        .unwrap_or_default();
    output::line(format!(
        "run {} {:<20} {} ({}{attempts}{rows}{took}){error}",
        text("started_at"),
        name.trim_end(),
        text("state"),
        text("trigger"),
    ));
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
