//! `seed`: fills the embedded sources.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use ballpoint_postgres::lock::DataDirLock;
use serde_json::json;

use super::Context;
use crate::cli::SeedArgs;
use crate::databases::Databases;
use crate::{output, shipped};

/// Fills what is empty; a source that has tables is left alone, and said.
pub(super) async fn run(context: &Context, args: SeedArgs) -> anyhow::Result<ExitCode> {
    let project = Arc::clone(&context.project()?);
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
