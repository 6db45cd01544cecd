//! `check` and `doctor`: what is wrong, before anything runs into it. No database is changed.

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_postgres::lock::DataDirLock;
use ballpoint_postgres::pool::{self, PoolOptions};
use ballpoint_reverse_etl::Sync;
use ballpoint_runtime::segment::TableName;
use ballpoint_source::TableChoice;
use ballpoint_source::config::TablePatterns;
use ballpoint_transformer::{LoadOptions, Target};
use serde_json::json;

use super::{Context, slots};
use crate::config::Project;
use crate::databases::query_role_on;
use crate::output::{self, UserError};
use crate::remote::Remote;
use crate::sources::Source;
use crate::{shipped, stages};

/// The configuration, the dbt project and the data model, without a database; and, where the
/// sources can be reached, how each of their tables will be kept up to date and why.
pub(super) async fn check(context: &Context) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    if project.is_shipped {
        shipped::lay_out(&project.folder)?;
    }
    let models = check_transform(context, &project)?;
    let cubes = stages::metrics(&project)?.map(|model| model.cubes.len());
    let syncs = check_write_backs(&project)?;
    let (mut tables, troubles) = explain_sources(&project).await;
    tables.extend(explain_queries(&project).await);
    let code = if troubles.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if context.place.json {
        let (models, tests) = models.unzip();
        output::json(&json!({
            "models": models, "tests": tests, "cubes": cubes, "syncs": syncs, "tables": tables,
            "backend": if project.config.llm.is_some() { "llm" } else { "planner" },
            "errors": troubles,
        }))?;
        return Ok(code);
    }
    let sources = project.config.sources.len();
    output::line(format!("configuration: {sources} sources"));
    if let Some((models, tests)) = models {
        output::line(format!("dbt project: {models} models, {tests} tests"));
    }
    if let Some(cubes) = cubes {
        output::line(format!("data model: {cubes} cubes"));
    }
    if models.is_some() || cubes.is_some() {
        // Tables and columns are the database's to know, and none is asked here.
        output::line("SQL of models and metrics: checked when it is built (`ballpoint run`)");
    }
    if let Some(syncs) = syncs {
        output::line(format!("write-backs: {syncs} syncs"));
    }
    output::line(format!(
        "questions: read by {}",
        stages::reader_of_questions(&project)
    ));
    for (name, schedule) in &project.config.schedules {
        let (cron, zone) = (&schedule.cron, &schedule.timezone);
        output::line(format!("schedule {name}: `{cron}` {zone}"));
    }
    for line in tables {
        output::line(line);
    }
    for trouble in troubles {
        output::note(format!("error: {trouble}"));
    }
    Ok(code)
}

/// Parses the project and resolves every reference in it; how many models and tests it has.
fn check_transform(context: &Context, project: &Project) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(transform) = &project.config.transform else {
        return Ok(None);
    };
    let target = Target::named("warehouse", "public");
    let mut options = LoadOptions::new(project.folder.join(&transform.project_dir), target);
    options.env = context.environment.clone().into_map().into_iter().collect();
    match ballpoint_transformer::Project::load(&options) {
        Ok(loaded) => {
            loaded
                .warnings
                .iter()
                .for_each(|warning| output::note(format!("warning: {warning}")));
            let tests = loaded.nodes.values().filter(|node| node.is_test()).count();
            Ok(Some((loaded.nodes.len() - tests, tests)))
        }
        Err(error) => bail!(UserError(error.to_string())),
    }
}

/// Reads the syncs' files; how many syncs there are. Warns of a table that a sync writes and a
/// source's patterns read: what was written back would be loaded again as if it were new.
fn check_write_backs(project: &Project) -> anyhow::Result<Option<usize>> {
    let Some(reverse_etl) = &project.config.reverse_etl else {
        return Ok(None);
    };
    let sources = &project.config.sources;
    let folder = project.folder.join(&reverse_etl.path);
    let syncs = match Sync::load(&folder, sources.keys().map(String::as_str)) {
        Ok(syncs) => syncs,
        Err(error) => bail!(UserError(error.to_string())),
    };
    for sync in &syncs {
        let (schema, name) = sync.target();
        let patterns = TablePatterns::compile(&sources[&sync.source].tables);
        let is_read = patterns.is_ok_and(|it| it.matches(&TableName::new(schema, name)));
        if is_read {
            output::note(format!(
                "warning: sync {} writes {schema}.{name} of source {}, which reads it back: add \
                 \"!{schema}.{name}\" to its tables in ballpoint.toml",
                sync.name, sync.source
            ));
        }
    }
    Ok(Some(syncs.len()))
}

/// One line a table of each source with a URL or on the running cluster; and what went wrong.
async fn explain_sources(project: &Project) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut troubles) = (Vec::new(), Vec::new());
    let running = match Remote::of(&project.data_dir) {
        Ok(remote) => remote.get("/api/status").await.ok(),
        Err(_) => None,
    };
    let held = running.iter().flat_map(|status| {
        let held = status["held"].as_array().cloned();
        held.into_iter().flatten()
    });
    troubles.extend(held.map(|table| {
        let text = |key: &str| table[key].as_str().unwrap_or_default().to_owned();
        format!(
            "{}: {} is {}: {}",
            text("source"),
            text("table"),
            text("state"),
            text("reason")
        )
    }));
    for (name, source) in &project.config.sources {
        if let Some(other) = Source::without_database(project, name, source) {
            match other.explain(name).await {
                Ok(explained) => lines.extend(explained),
                Err(error) => troubles.push(error.to_string()),
            }
            continue;
        }
        let embedded = running
            .as_ref()
            .and_then(|status| status["databases"][name].as_str());
        let Some(url) = source.url.as_deref().or(embedded) else {
            continue;
        };
        let choices = match stages::reader_at(name, url, source) {
            Ok(reader) => reader.explain_mode().await,
            Err(error) => Err(error),
        };
        match choices {
            Ok((choices, troubled)) => {
                lines.extend(choices.iter().map(|choice| explain(name, choice)));
                let troubled = troubled.into_iter();
                troubles.extend(troubled.map(|it| format!("source {name}: {}", it.reason)));
            }
            Err(error) => troubles.push(error.to_string()),
        }
    }
    lines.extend(slots::explain(project, running.as_ref()).await);
    (lines, troubles)
}

/// How a table is kept up to date, why, and what it would take to do better.
fn explain(source: &str, choice: &TableChoice) -> String {
    let adds = match choice.append {
        true => ", rows only added",
        false => "",
    };
    let better = choice.better.as_ref().map_or(String::new(), |better| {
        format!(" (for {}: {})", better.mode, better.lacks)
    });
    format!(
        "{source}: {} is kept by {}{adds}: {}{better}",
        choice.table, choice.mode, choice.reason
    )
}

/// Who queries a configured warehouse; on the embedded one it is always the role.
async fn explain_queries(project: &Project) -> Option<String> {
    const MAY: &str = "select rolsuper or rolcreaterole from pg_roles where rolname = current_user";
    let url = project.config.warehouse.url.as_deref()?;
    project.config.metrics.as_ref()?;
    let options = PoolOptions::named("ballpoint check");
    let pool = match pool::connect(url, options).await {
        Ok(pool) => pool,
        Err(error) => return Some(format!("queries: the warehouse was not asked: {error}")),
    };
    let may: Result<bool, _> = sqlx::query_scalar(MAY).fetch_one(&pool).await;
    pool.close().await;
    let role = query_role_on(url);
    Some(match may {
        Ok(true) => format!("queries: as role {role}, which can only read"),
        _ => format!(
            "queries: as the configured user, in read-only transactions; with the right to make \
             roles (createrole), role {role} would be made, which can only read"
        ),
    })
}

/// The machine: what `up` will find.
pub(super) fn doctor(context: &Context) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    let mut findings: Vec<(bool, String)> = Vec::new();
    findings.push(match ballpoint_postgres::cluster::installation() {
        Ok(found) => (
            true,
            format!("PostgreSQL {} at {}", found.version, found.path.display()),
        ),
        Err(error) => (false, error.to_string()),
    });
    let data_dir = project.data_dir.display();
    let running = DataDirLock::is_held(&project.data_dir)?;
    findings.push((
        true,
        match (project.data_dir.exists(), running) {
            (false, _) => format!("data dir {data_dir}: will be created"),
            (true, false) => format!("data dir {data_dir}: free"),
            (true, true) => {
                let pid = DataDirLock::holder(&project.data_dir).unwrap_or_default();
                format!("data dir {data_dir}: in use by ballpoint, pid {pid}")
            }
        },
    ));
    if !running {
        let listen = project.config.server.listen;
        findings.push(match std::net::TcpListener::bind(listen) {
            Ok(_) => (true, format!("{listen} is free")),
            Err(error) => (false, format!("{listen}: {error}")),
        });
    }
    let healthy = findings.iter().all(|(good, _)| *good);
    if context.place.json {
        let shown: Vec<_> = findings
            .iter()
            .map(|(ok, text)| json!({ "ok": ok, "finding": text }))
            .collect();
        output::json(&json!({ "healthy": healthy, "findings": shown }))?;
    } else {
        for (good, text) in findings {
            output::line(format!("{} {text}", if good { "ok  " } else { "FAIL" }));
        }
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
