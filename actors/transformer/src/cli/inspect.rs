//! Commands that change nothing: `ls`, `show`, `source freshness`, `debug`.

use serde_json::json;

use super::arguments::{Common, ListFlags, NodeFlags, ShowFlags};
use super::commands::{Stop, session};
use super::log::Log;
use super::{CliEnv, EXIT_DONE, EXIT_FAILED};
use crate::artifacts;
use crate::project::node::ResourceType;
use crate::queries::{blocking_compile, fetch};
use crate::run::{self, describe};

pub(super) fn list(env: &CliEnv, log: &Log, flags: &ListFlags) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, "ls", false)?;
    let selected = session.select(&flags.selection, &[])?;
    let project = &session.project;
    for id in &selected {
        let line = if let Some(node) = project.nodes.get(id) {
            match flags.output.as_str() {
                "name" => node.name.clone(),
                "path" => node.original_file_path.clone(),
                "json" => json!({
                    "name": node.name, "resource_type": node.resource_type.name(),
                    "package_name": node.package, "original_file_path": node.original_file_path,
                    "unique_id": id, "alias": node.relation.identifier, "tags": node.tags,
                    "config": node.config,
                    "depends_on": {"macros": [], "nodes": node.depends_on},
                })
                .to_string(),
                _ => node.fqn.join("."),
            }
        } else {
            let source = &project.sources[id];
            match flags.output.as_str() {
                "name" => source.name.clone(),
                "path" => source.original_file_path.clone(),
                "json" => json!({
                    "name": source.name, "resource_type": "source", "unique_id": id,
                    "package_name": source.package, "source_name": source.source_name,
                    "original_file_path": source.original_file_path, "tags": source.tags,
                })
                .to_string(),
                _ => format!(
                    "source:{}.{}.{}",
                    project.name, source.source_name, source.name
                ),
            }
        };
        log.plain(&line);
    }
    if selected.is_empty() {
        log.info("No nodes selected!");
    }
    Ok(EXIT_DONE)
}

pub(super) async fn show(env: &CliEnv, log: &Log, flags: &ShowFlags) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, "show", false)?;
    let pool = session.pool().await?;
    let compiler = run::compiler_for(&session.project, &pool, false).await?;
    let mut queries: Vec<String> = Vec::new();
    if let Some(inline) = &flags.inline {
        queries.push(compiler.compile_inline(inline)?);
    } else {
        for id in session.select(&flags.selection, &[ResourceType::Model])? {
            match blocking_compile(&compiler, &pool, &id).await {
                Ok(compiled) => queries.push(compiled.sql),
                Err(failure) => {
                    log.always(&failure.message);
                    return Ok(EXIT_FAILED);
                }
            }
        }
    }
    for sql in queries {
        let limited = match flags.limit {
            limit if limit < 0 => sql,
            limit => format!("select * from (\n{sql}\n) as show_subquery limit {limit}"),
        };
        let mut conn = pool.acquire().await?;
        let (columns, rows) = match fetch(&mut conn, &limited).await {
            Ok(table) => table,
            Err(error) => {
                log.always(&describe(&error));
                return Ok(EXIT_FAILED);
            }
        };
        log.plain(&format!("| {} |", columns.join(" | ")));
        for row in rows {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| {
                    cell.as_str()
                        .map_or_else(|| cell.to_string(), str::to_owned)
                })
                .collect();
            log.plain(&format!("| {} |", cells.join(" | ")));
        }
    }
    Ok(EXIT_DONE)
}

pub(super) async fn freshness(env: &CliEnv, log: &Log, flags: &NodeFlags) -> Result<u8, Stop> {
    let session = session(env, log, &flags.common, "freshness", false)?;
    let selected = session.select(&flags.selection, &[ResourceType::Source])?;
    let pool = session.pool().await?;
    let mut conn = pool.acquire().await?;
    let mut results = Vec::new();
    let mut worst = EXIT_DONE;
    for id in &selected {
        let Some(source) = session.project.sources.get(id) else {
            continue;
        };
        let Some(checked) = crate::freshness::check(&mut conn, source, None).await? else {
            continue;
        };
        log.info(&format!(
            "{} freshness of {}.{}",
            checked.status.to_uppercase(),
            source.source_name,
            source.name
        ));
        if checked.status == "error" {
            worst = EXIT_FAILED;
        }
        results.push(checked.json(source));
    }
    let artifact = json!({
        "metadata": artifacts::metadata(
            &session.project, "https://schemas.getdbt.com/dbt/sources/v3.json", &session.now()),
        "results": results,
        "elapsed_time": session.begin.elapsed().as_secs_f64(),
    });
    artifacts::write(&session.target_dir, "sources.json", &artifact)?;
    Ok(worst)
}

pub(super) async fn debug(env: &CliEnv, log: &Log, common: &Common) -> Result<u8, Stop> {
    let session = session(env, log, common, "debug", false)?;
    let target = &session.project.target;
    log.info(&format!(
        "project: {} at {}",
        session.project.name,
        session.project.root.display()
    ));
    log.info(&format!(
        "target: {} = {}@{}:{}/{} schema {}",
        target.name, target.user, target.host, target.port, target.database, target.schema
    ));
    match session.pool().await {
        Ok(pool) => {
            pool.close().await;
            log.info("Connection test: OK");
            log.info("All checks passed!");
            Ok(EXIT_DONE)
        }
        Err(error) => {
            log.always(&format!("Connection test: ERROR {error}"));
            Ok(EXIT_FAILED)
        }
    }
}
