//! `sync`: extract and load only.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ballpoint_loader::{Loader, SyncReport, TableReport};
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::RunStatus;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::Trigger;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Context;
use super::pass::{fail_if_any, print_pass};
use crate::cli::SyncArgs;
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, Bars, UserError};
use crate::session::{Own, Session};
use crate::stages;

/// What a sync is asked for, beside its sources.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) full_refresh: bool,
    pub(super) verify: bool,
    /// Say how far it is, also where no terminal is.
    pub(super) told: bool,
}

/// Brings the sources named up to date, here or in the running system.
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
        Session::Running(_) if args.verify => bail!(UserError(
            "`ballpoint up` runs on this data dir and moves the tables on while they would be \
             compared; stop it, then run `ballpoint sync --verify`"
                .to_owned()
        )),
        Session::Running(remote) => {
            let request = json!({ "sources": args.sources, "full_refresh": args.full_refresh });
            remote.post("/api/sync", &request).await?
        }
        Session::Own(own) => {
            let asked = Asked {
                full_refresh: args.full_refresh,
                verify: args.verify,
                told: !context.place.json,
            };
            let names = if args.sources.is_empty() {
                own.project.config.sources.keys().cloned().collect()
            } else {
                args.sources
            };
            let (report, failures) = sync_sources(&own, &names, asked).await;
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
pub(super) async fn sync_sources(
    own: &Own,
    names: &[String],
    asked: Asked,
) -> (Value, Vec<anyhow::Error>) {
    let trace = TraceContext::current();
    let bars = Bars::new(asked.told);
    let syncs = names
        .iter()
        .map(|name| sync_source(own, name, asked, &trace, &bars));
    let (mut rows, mut tables, mut failures) = (0, Vec::new(), Vec::new());
    for outcome in join_all(syncs).await {
        match outcome {
            Ok(report) => {
                rows += report.changed();
                let shown = report.tables.iter().map(|it| shown(&report.source, it));
                tables.extend(shown);
            }
            Err(error) => failures.push(error),
        }
    }
    let mut report = json!({ "rows_loaded": rows, "tables": tables });
    if asked.verify && failures.is_empty() {
        report["verified"] = tables.len().into();
    }
    (report, failures)
}

/// One source's sync as a run. Ctrl-C ends it at once: what is committed stays, and the next sync goes
/// on from there.
async fn sync_source(
    own: &Own,
    name: &str,
    asked: Asked,
    trace: &TraceContext,
    bars: &Bars,
) -> anyhow::Result<SyncReport> {
    let reader = stages::reader(&own.project, &own.databases, name)?;
    let schema = &own.project.config.sources[name].schema;
    let runs = own.store.runs();
    let manual = Trigger::Manual.as_str();
    let run = runs.start_for("sync", name, manual, trace).await?;
    let mut loader = Loader::new(own.store.clone(), schema)
        .with_progress(bars.sink())
        .recording(run.clone());
    if asked.verify {
        loader = loader.proving();
    }
    let synced = tokio::select! {
        synced = loader.sync(&reader, &[], asked.full_refresh, trace) => synced,
        _ = tokio::signal::ctrl_c() => {
            run.interrupt("interrupted by Ctrl-C").await?;
            bail!("the sync of {name} was interrupted; the next one goes on where it stopped");
        }
    };
    let (status, error) = match &synced {
        Ok(report) if report.has_news() => (RunStatus::Success, None),
        Ok(_) => (RunStatus::NothingNew, None),
        Err(error) => (RunStatus::Failed, Some(in_one_line(error))),
    };
    run.finish(status, error.as_deref()).await?;
    synced.with_context(|| format!("syncing {name}"))
}

fn shown(source: &str, table: &TableReport) -> Value {
    let mut shown = json!({
        "source": source,
        "table": table.table.to_string(),
        "raw": table.raw.to_string(),
        "rows": table.changed(),
        "read": table.read,
        "landed": table.read - table.rejected,
        "rejected": table.rejected,
    });
    if let Some(proof) = &table.proof {
        shown["checksum"] = json!(proof.source);
    }
    shown
}
