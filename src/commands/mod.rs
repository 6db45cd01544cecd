//! One file a group of commands. Each opens what it needs, calls the stages, and prints.

mod check;
mod compare_cube;
mod compare_dbt;
mod dbt;
mod init;
mod mcp;
mod metrics;
mod operate;
mod pass;
mod proof;
mod questions;
mod reverse_etl;
mod seed;
mod slots;
mod sync;
mod up;

use std::process::ExitCode;
use std::sync::Arc;

use ballpoint_runtime::clock::Clock;

use crate::cli::{Cli, Command, CompareCommand, Place};
use crate::config::{self, Environment, Project};

/// What every command starts from.
pub(crate) struct Context {
    pub(crate) place: Place,
    pub(crate) environment: Environment,
}

impl Context {
    fn project(&self) -> anyhow::Result<Arc<Project>> {
        let Place {
            project, data_dir, ..
        } = &self.place;
        Ok(Arc::new(config::locate(
            project.as_deref(),
            data_dir.as_deref(),
            &self.environment,
        )?))
    }

    fn clock(&self) -> Clock {
        self.place
            .now
            .map_or_else(Clock::system, Clock::starting_at)
    }
}

/// Runs the command.
///
/// # Errors
/// What went wrong, outermost first; `output::fail` prints it and chooses the exit code.
pub(crate) async fn run(cli: Cli, environment: Environment) -> anyhow::Result<ExitCode> {
    let context = Context {
        place: cli.place,
        environment,
    };
    match cli.command {
        Command::Up(args) => up::run(&context, args).await,
        Command::Run => pass::run(&context).await,
        Command::Sync(args) => sync::sync(&context, args).await,
        Command::Dbt { args } => dbt::run(&context, args).await,
        Command::Query { query } => questions::query(&context, &query).await,
        Command::Metrics(command) => metrics::run(&context, &command),
        Command::Compare(CompareCommand::Dbt(args)) => compare_dbt::run(&context, args).await,
        Command::Compare(CompareCommand::Cube {
            url,
            token,
            queries,
        }) => compare_cube::run(&context, &url, token.as_deref(), queries.as_deref()).await,
        Command::Proof { id, replay } => proof::run(&context, &id, replay).await,
        Command::Ask(args) => questions::ask(&context, args).await,
        Command::Eval {
            file,
            backend,
            baseline,
        } => questions::eval(&context, &file, backend, baseline.as_deref()).await,
        Command::ReverseEtl(command) => reverse_etl::run(&context, command).await,
        Command::Status(args) => operate::status(&context, args).await,
        Command::Restart { actor } => operate::restart(&context, &actor).await,
        Command::Check => check::check(&context).await,
        Command::Doctor => check::doctor(&context),
        Command::Seed(args) => seed::run(&context, args).await,
        Command::Init(args) => init::run(&context, args).await,
        Command::Mcp => mcp::run(&context).await,
    }
}
