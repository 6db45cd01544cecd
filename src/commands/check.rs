//! `check` and `doctor`: what is wrong, before anything runs into it. Neither changes anything.

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_postgres::lock::DataDirLock;
use ballpoint_transformer::{LoadOptions, Target};
use serde_json::json;

use super::Context;
use crate::config::Project;
use crate::output::{self, UserError};
use crate::remote::Remote;
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
    let tables = explain_sources(&project).await;
    if context.place.json {
        output::json(&json!({ "models": models, "cubes": cubes, "tables": tables }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let sources = project.config.sources.len();
    output::line(format!("configuration: {sources} sources"));
    if let Some(models) = models {
        output::line(format!("dbt project: {models} models and tests"));
    }
    if let Some(cubes) = cubes {
        output::line(format!("data model: {cubes} cubes"));
    }
    for line in tables {
        output::line(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses the project and resolves every reference in it; the number of its nodes.
fn check_transform(context: &Context, project: &Project) -> anyhow::Result<Option<usize>> {
    let Some(transform) = &project.config.transform else { return Ok(None) };
    let target = Target::named("warehouse", "public");
    let mut options = LoadOptions::new(project.folder.join(&transform.project_dir), target);
    options.env = context.environment.clone().into_map().into_iter().collect();
    match ballpoint_transformer::Project::load(&options) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| output::note(format!("warning: {warning}")));
            Ok(Some(loaded.nodes.len()))
        }
        Err(error) => bail!(UserError(error.to_string())),
    }
}

/// One line a table of each source with a URL or on the running cluster.
async fn explain_sources(project: &Project) -> Vec<String> {
    let mut lines = Vec::new();
    let running = match Remote::of(&project.data_dir) {
        Ok(remote) => remote.get("/api/status").await.ok(),
        Err(_) => None,
    };
    for (name, source) in &project.config.sources {
        let embedded = running.as_ref().and_then(|status| status["databases"][name].as_str());
        let Some(url) = source.url.as_deref().or(embedded) else { continue };
        let choices = match stages::reader_at(name, url, source) {
            Ok(reader) => reader.explain_mode().await,
            Err(error) => Err(error),
        };
        match choices {
            Ok(choices) => lines.extend(choices.into_iter().map(|choice| {
                format!("{name}: {} is kept by {}: {}", choice.table, choice.mode, choice.reason)
            })),
            Err(error) => lines.push(format!("{name}: {error}")),
        }
    }
    lines
}

/// The machine: what `up` will find.
pub(super) async fn doctor(context: &Context) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    let mut healthy = true;
    let mut say = |good: bool, text: String| {
        healthy &= good;
        output::line(format!("{} {text}", if good { "ok  " } else { "FAIL" }));
    };
    match ballpoint_postgres::cluster::installation() {
        Ok(found) => say(true, format!("PostgreSQL {} at {}", found.version, found.path.display())),
        Err(error) => say(false, error.to_string()),
    }
    let data_dir = project.data_dir.display();
    if !project.data_dir.exists() {
        say(true, format!("data dir {data_dir}: will be created"));
    } else if DataDirLock::acquire(&project.data_dir)?.is_none() {
        let pid = DataDirLock::holder(&project.data_dir).unwrap_or_default();
        say(true, format!("data dir {data_dir}: in use by pid {pid}"));
    } else {
        say(true, format!("data dir {data_dir}: free"));
    }
    let listen = project.config.server.listen;
    match std::net::TcpListener::bind(listen) {
        Ok(_) => say(true, format!("{listen} is free")),
        Err(error) => say(false, format!("{listen}: {error}")),
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
