//! `run` and `sync`: one pass, then exit. The same library calls as the actors make, in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ballpoint_loader::{Loader, TableReport};
use ballpoint_orchestrator::enqueue_pending;
use ballpoint_reverse_etl::PassEntry;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::RunStatus;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::{Trigger, WorkKind};
use ballpoint_transformer::Project;
use ballpoint_transformer::publish::{BuildOutcome, BuildStatus, Changed, PublishOptions, publish};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Context;
use crate::cli::SyncArgs;
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, Bars, UserError};
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
    let (mut report, failures) = sync_sources(own, &names, false).await;
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

/// Extract and load only.
pub(super) async fn sync(context: &Context, args: SyncArgs) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    if let Some(unknown) = args
        .sources
        .iter()
        .find(|s| !project.config.sources.contains_key(*s))
    {
        let known: Vec<_> = project.config.sources.keys().map(String::as_str).collect();
        bail!(UserError(format!(
            "no source {unknown}; there are {}",
            known.join(", ")
        )));
    }
    let report = match Session::open(project, context.clock(), SEED_BY_DEFAULT).await? {
        Session::Running(remote) => {
            let request = json!({ "sources": args.sources, "full_refresh": args.full_refresh });
            remote.post("/api/sync", &request).await?
        }
        Session::Own(own) => {
            let names = if args.sources.is_empty() {
                own.project.config.sources.keys().cloned().collect()
            } else {
                args.sources
            };
            let (report, failures) = sync_sources(&own, &names, args.full_refresh).await;
            own.close().await?;
            fail_if_any(failures)?;
            report
        }
    };
    if context.place.json {
        output::json(&report)?;
    } else {
        print_pass(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// All sources at once: they share nothing but the warehouse. What was loaded, and what failed.
async fn sync_sources(
    own: &Own,
    names: &[String],
    full_refresh: bool,
) -> (Value, Vec<anyhow::Error>) {
    let trace = TraceContext::current();
    let bars = Bars::default();
    let syncs = names.iter().map(|name| {
        let (trace, bars) = (&trace, &bars);
        async move {
            let reader = stages::reader(&own.project, &own.databases, name)?;
            let schema = &own.project.config.sources[name].schema;
            let manual = Trigger::Manual.as_str();
            let run = own
                .store
                .runs()
                .start_for("sync", name, manual, trace)
                .await?;
            let loader = Loader::new(own.store.clone(), schema)
                .with_progress(bars.sink())
                .recording(run.clone());
            let synced = loader.sync(&reader, &[], full_refresh, trace).await;
            let (status, error) = match &synced {
                Ok(report) if report.has_news() => (RunStatus::Success, None),
                Ok(_) => (RunStatus::NothingNew, None),
                Err(error) => (RunStatus::Failed, Some(in_one_line(error))),
            };
            run.finish(status, error.as_deref()).await?;
            synced.with_context(|| format!("syncing {name}"))
        }
    });
    let (mut rows, mut tables, mut failures) = (0, Vec::new(), Vec::new());
    for outcome in join_all(syncs).await {
        match outcome {
            Ok(report) => {
                rows += report.changed();
                tables.extend(
                    report
                        .tables
                        .iter()
                        .map(|table| shown(&report.source, table)),
                );
            }
            Err(error) => failures.push(error),
        }
    }
    (json!({ "rows_loaded": rows, "tables": tables }), failures)
}

fn shown(source: &str, table: &TableReport) -> Value {
    json!({
        "source": source,
        "table": table.table.to_string(),
        "raw": table.raw.to_string(),
        "rows": table.changed(),
    })
}

/// The first failure; with more than one it says so.
fn fail_if_any(mut failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
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

fn print_pass(report: &Value) {
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
