//! Commands that change nothing: `ls`, `show`, `source freshness`, `debug`.

use serde_json::json;

use super::arguments::{DebugFlags, FreshnessFlags, ListFlags, ShowFlags};
use super::log::Log;
use super::session::{Asked, Session, Stop, session};
use super::{CliEnv, EXIT_DONE, EXIT_FAILED, EXIT_UNUSABLE};
use crate::artifacts;
use crate::project::node::ResourceType;
use crate::queries::{blocking_compile, fetch};
use crate::run::{self, describe};

/// The keys of `ls --output json` when none are asked for.
const KEYS: &[&str] = &[
    "alias",
    "name",
    "package_name",
    "depends_on",
    "tags",
    "config",
    "resource_type",
    "source_name",
    "original_file_path",
    "unique_id",
];

/// What `ls` lists where no kind is asked for.
const LISTED: [ResourceType; 10] = [
    ResourceType::Model,
    ResourceType::Seed,
    ResourceType::Snapshot,
    ResourceType::Test,
    ResourceType::UnitTest,
    ResourceType::Source,
    ResourceType::Exposure,
    ResourceType::SemanticModel,
    ResourceType::Metric,
    ResourceType::SavedQuery,
];

pub(super) fn list(env: &CliEnv, log: &Log, flags: &ListFlags) -> Result<u8, Stop> {
    let asked = Asked {
        command: "list",
        selection: Some(&flags.selection),
        ..Asked::default()
    };
    let session = session(env, log, &flags.common, asked)?;
    let selected = session.select(&flags.selection, &LISTED)?;
    let manifest = match flags.output.as_str() {
        "json" => artifacts::manifest(&session.project, &session.now()),
        _ => serde_json::Value::Null,
    };
    let wanted: Vec<&str> = match flags.output_keys.is_empty() {
        true => KEYS.to_vec(),
        false => flags
            .output_keys
            .iter()
            .flat_map(|keys| keys.split([' ', ',']))
            .collect(),
    };
    for id in &selected {
        match flags.output.as_str() {
            "json" => {
                let kinds = crate::select::KINDS;
                let node = kinds.iter().find_map(|kind| manifest.get(kind)?.get(id));
                let facts: serde_json::Map<String, serde_json::Value> = wanted
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), node?.get(*key)?.clone())))
                    .collect();
                log.plain(&serde_json::Value::Object(facts).to_string());
            }
            output => log.plain(&listed(&session, id, output)),
        }
    }
    if selected.is_empty() {
        log.warn("No nodes selected!");
    }
    session.write_manifest()?;
    Ok(EXIT_DONE)
}

/// A line of `ls`.
fn listed(session: &Session, id: &str, output: &str) -> String {
    let project = &session.project;
    if let Some(node) = project.nodes.get(id) {
        return match output {
            "name" => node.name.clone(),
            "path" => node.original_file_path.clone(),
            _ if node.unit_test.is_some() => format!("unit_test:{}.{}", node.package, node.name),
            _ => node.fqn.join("."),
        };
    }
    if let Some(source) = project.sources.get(id) {
        return match output {
            "name" => format!("{}.{}", source.source_name, source.name),
            "path" => source.original_file_path.clone(),
            _ => format!(
                "source:{}.{}.{}",
                source.package, source.source_name, source.name
            ),
        };
    }
    match project.exposures.get(id) {
        Some(exposure) => match output {
            "name" => exposure.name.clone(),
            "path" => exposure.original_file_path.clone(),
            _ => format!("exposure:{}.{}", exposure.package, exposure.name),
        },
        None => match project.semantics.get(id) {
            Some(semantic) => match output {
                "name" => semantic.name.clone(),
                "path" => semantic.original_file_path.clone(),
                _ => {
                    let kind = semantic.kind.name();
                    format!("{kind}:{}.{}", semantic.package, semantic.name)
                }
            },
            None => id.to_owned(),
        },
    }
}

pub(super) async fn show(env: &CliEnv, log: &Log, flags: &ShowFlags) -> Result<u8, Stop> {
    let asked = Asked {
        command: "show",
        selection: Some(&flags.selection),
        ..Asked::default()
    };
    let session = session(env, log, &flags.common, asked)?;
    let pool = session.pool().await?;
    let mut compiler = run::compiler_for(&session.project, &pool, false).await?;
    let mut queries: Vec<(String, String)> = Vec::new();
    if let Some(direct) = &flags.inline_direct {
        queries.push(("inline_query".to_owned(), direct.clone()));
    } else if let Some(inline) = &flags.inline {
        compiler.queries = Some(crate::queries::port(&pool));
        let inline = inline.clone();
        let task = tokio::task::spawn_blocking(move || compiler.compile_inline(&inline));
        let sql = task
            .await
            .map_err(|error| Stop::Failed(error.to_string()))??;
        queries.push(("inline_query".to_owned(), sql));
    } else {
        let types = [
            ResourceType::Model,
            ResourceType::Snapshot,
            ResourceType::Analysis,
            ResourceType::Seed,
            ResourceType::Test,
        ];
        for id in session.select(&flags.selection, &types)? {
            let node = &session.project.nodes[&id];
            if node.resource_type == ResourceType::Seed {
                queries.push((
                    node.name.clone(),
                    format!("select * from {}", node.relation),
                ));
                continue;
            }
            match blocking_compile(&compiler, &pool, &id).await {
                Ok(compiled) => {
                    let header = node.config.get("sql_header").and_then(|it| it.as_str());
                    let header = header.map(|text| format!("{text}\n")).unwrap_or_default();
                    queries.push((node.name.clone(), header + &compiled.sql));
                }
                Err(failure) => {
                    log.error(&failure.message);
                    return Ok(EXIT_FAILED);
                }
            }
        }
    }
    let mut results = Vec::new();
    for (name, sql) in queries {
        let limited = limited(&sql, flags.limit);
        let mut conn = pool.acquire().await?;
        let begin = std::time::Instant::now();
        let (columns, rows) = match fetch(&mut conn, &limited).await {
            Ok(table) => table,
            Err(error) => {
                log.error(&format!("Database Error\n  {}", describe(&error)));
                return Ok(EXIT_UNUSABLE);
            }
        };
        print_rows(log, flags, &name, &columns, &rows);
        results.push(json!({
            "status": "success", "timing": [], "thread_id": "Thread-1",
            "execution_time": begin.elapsed().as_secs_f64(), "adapter_response": {},
            "message": format!("SELECT {}", rows.len()), "failures": null,
            "unique_id": unique_id_of(&session, &name), "compiled": true,
            "compiled_code": sql, "relation_name": null, "batch_results": null,
        }));
    }
    session.write_raw_results(results)?;
    Ok(EXIT_DONE)
}

fn unique_id_of(session: &Session, name: &str) -> String {
    let mut nodes = session.project.nodes.values();
    match nodes.find(|node| node.name == name) {
        Some(node) => node.unique_id.clone(),
        None => format!("sql_operation.{}.{name}", session.project.name),
    }
}

/// The query with at most so many rows. As dbt, by a limit at its end: so it keeps its own order.
fn limited(sql: &str, limit: i64) -> String {
    let sql = sql.trim().trim_end_matches(';');
    match limit {
        limit if limit < 0 => sql.to_owned(),
        limit => format!("{sql}\nlimit {limit}"),
    }
}

fn print_rows(
    log: &Log,
    flags: &ShowFlags,
    name: &str,
    columns: &[String],
    rows: &[Vec<serde_json::Value>],
) {
    let inline = name == "inline_query";
    if flags.output == "json" {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| {
                let cells = columns.iter().cloned().zip(row.iter().cloned());
                serde_json::Value::Object(cells.collect())
            })
            .collect();
        let shown = match inline {
            true => json!({"show": rows}),
            false => json!({"node": name, "show": rows}),
        };
        return log.plain(&serde_json::to_string_pretty(&shown).unwrap_or_default());
    }
    match inline {
        true => log.info("Previewing inline node:"),
        false => log.info(&format!("Previewing node '{name}':")),
    }
    let text = |cell: &serde_json::Value| match cell {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        serde_json::Value::Bool(flag) => if *flag { "True" } else { "False" }.to_owned(),
        other => other.to_string(),
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(text).collect())
        .collect();
    let width = |index: usize| {
        let inner = cells.iter().map(|row| row[index].chars().count());
        inner
            .chain([columns[index].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |parts: &[String]| {
        let padded = parts
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text:<width$}"));
        format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
    };
    log.plain(&line(columns));
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    log.plain(&line(&rule));
    for row in &cells {
        log.plain(&line(row));
    }
}

pub(super) async fn freshness(env: &CliEnv, log: &Log, flags: &FreshnessFlags) -> Result<u8, Stop> {
    let asked = Asked {
        command: "freshness",
        selection: Some(&flags.selection),
        ..Asked::default()
    };
    let session = session(env, log, &flags.common, asked)?;
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
    match &flags.output {
        Some(file) => std::fs::write(env.working_dir.join(file), artifact.to_string())?,
        None => artifacts::write(&session.target_dir, "sources.json", &artifact)?,
    }
    session.write_manifest()?;
    log.info("Done.");
    Ok(worst)
}

pub(super) async fn debug(env: &CliEnv, log: &Log, flags: &DebugFlags) -> Result<u8, Stop> {
    if flags.config_dir {
        let dir = flags.common.profiles_dir.clone();
        let dir = dir.unwrap_or_else(|| env.working_dir.clone());
        log.info(&format!(
            "To view your profiles.yml file, run: open {}",
            dir.display()
        ));
        return Ok(EXIT_DONE);
    }
    let asked = Asked {
        command: "debug",
        ..Asked::default()
    };
    if let Some(dir) = flags.common.project_dir.as_ref() {
        let dir = env.working_dir.join(dir);
        if !dir.is_dir() {
            let text = format!("--project-dir '{}' is no folder", dir.display());
            return Err(crate::error::ProjectError::Configuration(text).into());
        }
    }
    if flags.connection {
        log.info("Skipping steps before connection verification");
    }
    let session = match session(env, log, &flags.common, asked) {
        Ok(session) => session,
        Err(stop) => {
            // dbt calls a check that failed a failure, not a use that is wrong.
            log.error("Profile loading failed for the following reason:");
            log.error(&stop.shown());
            log.error("1 check failed");
            return Ok(EXIT_FAILED);
        }
    };
    log.info("profiles.yml file [OK found and valid]");
    log.info("dbt_project.yml file [OK found and valid]");
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
            log.info("Connection test: [OK connection ok]");
            log.info("All checks passed!");
            Ok(EXIT_DONE)
        }
        Err(error) => {
            log.error(&format!("Connection test: [ERROR] {error}"));
            log.error("1 check failed");
            Ok(EXIT_FAILED)
        }
    }
}
