//! `run`: one pass, then exit. The same library calls as the actors make, in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ballpoint_orchestrator::enqueue_pending;
use ballpoint_reverse_etl::PassEntry;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::RunStatus;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::{Trigger, WorkKind};
use ballpoint_transformer::Project;
use ballpoint_transformer::publish::{BuildOutcome, BuildStatus, Changed, PublishOptions, publish};
use serde_json::{Value, json};

use super::Context;
use super::sync::{Asked, sync_sources};
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, UserError};
use crate::session::{Own, Session};
use crate::stages;

/// The data dir's lock keeps others away; the lease only has to outlive the build.
const LEASE: Duration = Duration::from_secs(3600);

/// Sync, build with tests, refresh the metrics.
pub(super) async fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let report = match Session::open(context.project()?, context.clock(), SEED_BY_DEFAULT).await? {
        Session::Running(remote) => remote.post("/api/run", &json!({})).await?,
        Session::Own(own) => {
            let done = Box::pin(one_pass(context, &own)).await;
            own.close().await?;
            done?
        }
    };
    if context.place.json {
        output::json(&report)?;
    } else {
        print_pass(&report);
    }
    Ok(ExitCode::SUCCESS)
}

async fn one_pass(context: &Context, own: &Own) -> anyhow::Result<Value> {
    let recorder = own
        .store
        .runs()
        .start("run", Trigger::Manual.as_str(), &TraceContext::current())
        .await?;
    let outcome = Box::pin(pass_steps(context, own, &recorder.id().to_string())).await;
    let (status, error) = match &outcome {
        Ok(report) if report["build"]["built"] == 0 => (RunStatus::NothingNew, None),
        Ok(_) => (RunStatus::Success, None),
        Err(error) => (RunStatus::Failed, Some(format!("{error:#}"))),
    };
    recorder.finish(status, error.as_deref()).await?;
    outcome
}

async fn pass_steps(context: &Context, own: &Own, run_id: &str) -> anyhow::Result<Value> {
    let names: Vec<String> = own.project.config.sources.keys().cloned().collect();
    let asked = Asked::default();
    let (mut report, failures) = sync_sources(own, &names, &asked).await;
    // A dead source keeps the others' rows from nobody.
    let built = build(context, own, run_id).await;
    fail_if_any(failures)?;
    report["build"] = built?;
    stages::metrics(&own.project)?;
    report["write_backs"] = write_backs(own).await?;
    Ok(report)
}

/// Applies what somebody approved and plans every sync; nothing else is written.
async fn write_backs(own: &Own) -> anyhow::Result<Value> {
    let Some(library) = stages::write_backs(&own.project, &own.databases, &own.store) else {
        return Ok(Value::Null);
    };
    let entries = library.pass("run").await?;
    if let Some(failed) = PassEntry::failures(&entries) {
        bail!(failed);
    }
    Ok(serde_json::to_value(entries)?)
}

/// Carries out the build that the loads asked for. The request is a work row, as under `up`: one
/// that an earlier pass was killed over is carried out by this one.
async fn build(context: &Context, own: &Own, run_id: &str) -> anyhow::Result<Value> {
    let environment = context.environment.clone().into_map();
    let Some(options) = stages::transform(&own.project, &own.databases, &own.clock, environment)?
    else {
        return Ok(Value::Null);
    };
    enqueue_pending(&own.store, stages::of(&own.project), &own.clock).await?;
    let work = own.store.work();
    let claimed = work.claim("build", "", LEASE).await?;
    let trace = TraceContext::current();
    let run = match &claimed {
        Some(claimed) => Some(own.store.runs().of_work(claimed, &trace).await?),
        None => None,
    };
    let changed = match claimed.as_ref().map(|claimed| &claimed.work) {
        Some(WorkKind::Build { changed }) if changed.is_empty() => Changed::Everything,
        Some(WorkKind::Build { changed }) => Changed::Tables(changed.clone()),
        _ => Changed::Tables(Vec::new()),
    };
    let project = match Project::load(&options) {
        Ok(project) => Arc::new(project),
        Err(error) => bail!(UserError(error.to_string())),
    };
    let mut publishing = PublishOptions::new(changed);
    publishing.vars = stages::build_vars(&own.clock);
    let outcome = publish(&project, own.store.pool(), &publishing).await?;
    announce(own, run_id, &outcome).await?;
    if outcome.status == BuildStatus::Failed {
        let failed: Vec<_> = outcome
            .failed
            .iter()
            .map(|f| format!("{} ({})", f.name, f.message))
            .collect();
        let text = format!(
            "the build failed and published nothing: {}",
            failed.join("; ")
        );
        match claimed {
            Some(claimed) if outcome.transient => work.fail(&claimed, &text, None).await?,
            Some(claimed) => work.abandon(&claimed, &text).await?,
            None => {}
        }
        bail!(text);
    }
    if let (Some(claimed), Some(run)) = (claimed, run) {
        run.finish(RunStatus::Success, None).await?;
        work.complete(&claimed).await?;
    }
    if let Some(table) = outcome.absent.first() {
        bail!("{table} does not exist: the dbt project reads it, and no source lands it");
    }
    let relations: Vec<_> = outcome.relations.iter().map(ToString::to_string).collect();
    Ok(json!({
        "built": relations.len(),
        "relations": relations,
        "tests_passed": outcome.tests_passed,
        "warned": outcome.warned,
    }))
}

/// Publishes how a build ended; one that had nothing to do is no event.
async fn announce(own: &Own, run_id: &str, outcome: &BuildOutcome) -> anyhow::Result<()> {
    let run_id = run_id.to_owned();
    let event = match outcome.status {
        BuildStatus::Failed => Event::BuildFailed {
            run_id,
            failed: outcome.failed.iter().map(|it| it.name.clone()).collect(),
            skipped: outcome.skipped.clone(),
            reason: outcome.reason(),
        },
        BuildStatus::Published => Event::BuildPublished {
            run_id,
            relations: outcome.relations.clone(),
            tests_passed: outcome.tests_passed,
            absent: outcome.absent.clone(),
        },
        BuildStatus::Unchanged => return Ok(()),
    };
    let trace = TraceContext::current();
    own.store.events().publish(event, trace).await?;
    Ok(())
}

/// The first failure; with more than one it says so.
pub(super) fn fail_if_any(mut failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let others = failures.len() - 1;
    let first = failures.swap_remove(0);
    match others {
        0 => Err(first),
        n => Err(first.context(format!("{} sources failed, the first", n + 1))),
    }
}

pub(super) fn print_pass(report: &Value) {
    for table in report["tables"].as_array().into_iter().flatten() {
        let text = |key: &str| table[key].as_str().unwrap_or_default();
        output::line(format!(
            "{} -> {}: {} rows",
            text("table"),
            text("raw"),
            table["rows"]
        ));
    }
    output::line(format!("{} rows loaded", report["rows_loaded"]));
    if let Some(tables) = report["verified"].as_u64() {
        output::line(format!(
            "{tables} tables are equal to their sources, in every column of every row"
        ));
    }
    let build = &report["build"];
    if build.is_object() {
        output::line(match build["built"].as_u64() {
            Some(0) | None => "nothing to build".to_owned(),
            Some(n) => format!(
                "{n} relations built, {} tests passed",
                build["tests_passed"]
            ),
        });
    }
    for entry in report["write_backs"].as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        match text("outcome") {
            "planned" => output::line(format!(
                "{}: {} rows wait for approval: ballpoint reverse-etl show {}",
                text("sync"),
                entry["rows"],
                text("plan")
            )),
            "applied" => output::line(format!("{}: {} rows written", text("sync"), entry["rows"])),
            _ => {}
        }
    }
}
