//! `sync`: extract and load only.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use ballpoint_loader::{Loader, SyncReport, TableReport};
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::RunStatus;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::Trigger;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::pass::{fail_if_any, print_pass};
use super::{Context, slots};
use crate::cli::SyncArgs;
use crate::config::Project;
use crate::databases::SEED_BY_DEFAULT;
use crate::output::{self, Bars, UserError};
use crate::session::{Own, Session};
use crate::sources::Source;

/// What a sync is asked for, beside its sources.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Of each source, these tables only; none: all.
    pub(super) tables: BTreeMap<String, Vec<TableName>>,
    pub(super) full_refresh: bool,
    pub(super) verify: bool,
    /// Say how far it is, also where no terminal is.
    pub(super) told: bool,
}

/// Brings the sources named up to date, here or in the running system.
pub(super) async fn sync(context: &Context, args: SyncArgs) -> anyhow::Result<ExitCode> {
    let mut project = context.project()?;
    let asked = tables_of(&project, &args.sources)?;
    if let Some(mode) = args.mode {
        let project = Arc::make_mut(&mut project);
        for source in project.config.sources.values_mut() {
            source.mode = Some(mode);
            source
                .table
                .values_mut()
                .for_each(|table| table.mode = None);
        }
    }
    let report = match Session::open(project, context.clock(), SEED_BY_DEFAULT).await? {
        Session::Running(_) if args.verify => bail!(UserError(
            "`ballpoint up` runs on this data dir and moves the tables on while they would be \
             compared; stop it, then run `ballpoint sync --verify`"
                .to_owned()
        )),
        Session::Running(_) if args.mode.is_some() => bail!(UserError(
            "`ballpoint up` runs on this data dir with the modes of ballpoint.toml; set `mode` \
             there, or stop it and run `ballpoint sync --mode`"
                .to_owned()
        )),
        Session::Running(remote) => {
            let names: Vec<&String> = asked.keys().collect();
            let tables: Vec<&TableName> = asked.values().flatten().collect();
            let request = json!({
                "sources": names, "tables": tables, "full_refresh": args.full_refresh,
            });
            remote.post("/api/sync", &request).await?
        }
        Session::Own(own) => {
            let names = if asked.is_empty() {
                own.project.config.sources.keys().cloned().collect()
            } else {
                asked.keys().cloned().collect::<Vec<_>>()
            };
            let asked = Asked {
                tables: asked,
                full_refresh: args.full_refresh,
                verify: args.verify,
                told: !context.place.json,
            };
            let (report, failures) = sync_sources(&own, &names, &asked).await;
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

/// The sources that are asked for, each with its tables: none of them means all.
fn tables_of(
    project: &Project,
    words: &[String],
) -> anyhow::Result<BTreeMap<String, Vec<TableName>>> {
    let sources = &project.config.sources;
    let mut asked: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
    for word in words.iter().filter(|word| sources.contains_key(*word)) {
        asked.insert(word.clone(), Vec::new());
    }
    for word in words.iter().filter(|word| !sources.contains_key(*word)) {
        let known: Vec<_> = sources.keys().map(String::as_str).collect();
        let Some((source, table)) = word
            .split_once('.')
            .filter(|(source, _)| sources.contains_key(*source))
        else {
            bail!(UserError(format!(
                "no source {word}; there are {}; a table is named as SOURCE.SCHEMA.TABLE",
                known.join(", ")
            )));
        };
        let (schema, name) = table.split_once('.').unwrap_or(("public", table));
        // The whole source is asked for already.
        let whole = asked.get(source).is_some_and(Vec::is_empty);
        if !whole {
            let tables = asked.entry(source.to_owned()).or_default();
            tables.push(TableName::new(schema, name));
        }
    }
    Ok(asked)
}

/// All sources at once: they share nothing but the warehouse. What was loaded, and what failed.
pub(super) async fn sync_sources(
    own: &Own,
    names: &[String],
    asked: &Asked,
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
                let waiting = report.held.iter().filter(|held| held.hold.is_trouble());
                failures.extend(waiting.map(|held| {
                    anyhow!(
                        "{}: {} is {}: {}",
                        report.source,
                        held.table,
                        held.hold.as_str(),
                        held.reason
                    )
                }));
            }
            Err(error) => failures.push(error),
        }
    }
    slots::note_kept(own).await;
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
    asked: &Asked,
    trace: &TraceContext,
    bars: &Bars,
) -> anyhow::Result<SyncReport> {
    let reader = Source::open(&own.project, &own.databases, name)?.reader();
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
    let tables = asked.tables.get(name).map_or(&[][..], Vec::as_slice);
    let synced = tokio::select! {
        synced = loader.sync(reader.as_ref(), tables, asked.full_refresh, trace) => synced,
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
