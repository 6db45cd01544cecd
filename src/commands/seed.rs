//! `seed`: fills the embedded sources.

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ballpoint_postgres::lock::DataDirLock;
use serde_json::json;

use super::Context;
use crate::cli::SeedArgs;
use crate::config::Project;
use crate::databases::{Databases, seed_files};
use crate::output::UserError;
use crate::{output, shipped};

/// Fills what is empty; a source that has tables is left alone, and said.
pub(super) async fn run(context: &Context, args: SeedArgs) -> anyhow::Result<ExitCode> {
    let project = Arc::clone(&context.project()?);
    if let Some(source) = &args.sql {
        return print_script(context, &project, source, &args);
    }
    let Some(_lock) = DataDirLock::acquire(&project.data_dir)? else {
        bail!(
            "ballpoint is running on {}; stop it first: a source is seeded only while it is empty",
            project.data_dir.display()
        );
    };
    if project.is_shipped {
        shipped::lay_out(&project.folder)?;
    }
    let databases = Databases::open(&project).await?;
    let now = context.clock().business_now();
    let filled = databases
        .fill_empty_sources(&project, Some(args.rows), args.seed, now)
        .await;
    databases.stop().await?;
    let filled = filled?;
    if context.place.json {
        output::json(&json!({ "seeded": filled, "rows": args.rows, "seed": args.seed }))?;
    } else if filled.is_empty() {
        output::line("nothing to seed: every source with a seed has tables already");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever owns the database runs the script: we write into embedded databases only.
fn print_script(
    context: &Context,
    project: &Project,
    source: &str,
    args: &SeedArgs,
) -> anyhow::Result<ExitCode> {
    let seeded = project.config.sources.get(source);
    let Some(folder) = seeded.and_then(|source| source.seed.as_ref()) else {
        bail!(UserError(format!(
            "there is no source {source} with a seed"
        )));
    };
    let files = match project.is_shipped {
        true => shipped::seed_files(folder)?,
        false => seed_files(project, folder)?,
    };
    let now = context.clock().business_now();
    let mut out = BufWriter::new(std::io::stdout().lock());
    ballpoint_seeds::script(&files, args.rows, args.seed, now, &mut out)
        .with_context(|| format!("the seed of {source}"))?;
    out.flush().context("writing the script")?;
    Ok(ExitCode::SUCCESS)
}
