//! `init`: a project for databases that Ballpoint has never seen.

use std::process::ExitCode;

use serde_json::json;

use super::Context;
use crate::cli::InitArgs;
use crate::init::{self, Wanted};
use crate::output;

pub(super) async fn run(context: &Context, args: InitArgs) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        folder: &args.dir,
        name: args.name.as_deref(),
        urls: &args.source,
    };
    let made = init::make(&wanted, &context.environment).await?;
    let folder = args.dir.display();
    if context.place.json {
        let sources: Vec<_> = made
            .sources
            .iter()
            .map(|(name, tables)| json!({ "name": name, "tables": tables }))
            .collect();
        output::json(&json!({
            "project": made.project, "folder": folder.to_string(), "sources": sources,
            "files": made.files, "questions": made.questions,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, tables) in &made.sources {
        output::line(format!(
            "{name}: {tables} tables, each with a model, its tests and a cube"
        ));
    }
    output::line(format!(
        "{folder}: {} files; the URLs are in .env, for you alone",
        made.files.len()
    ));
    output::line("next:");
    output::line(format!("  ballpoint check --project {folder}"));
    output::line(format!("  ballpoint up --project {folder}"));
    if let Some(question) = made.questions.first() {
        output::line(format!("  ballpoint ask --project {folder} {question:?}"));
    }
    Ok(ExitCode::SUCCESS)
}
