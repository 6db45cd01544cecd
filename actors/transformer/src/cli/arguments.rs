//! dbt's command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// `dbt <command> [flags]`.
#[derive(Debug, Parser)]
#[command(
    name = "dbt",
    disable_version_flag = true,
    about = "dbt's commands, natively"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands that exist.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build models and seeds and run their tests, in order.
    Build(NodeFlags),
    /// Build models.
    Run(NodeFlags),
    /// Run tests.
    Test(NodeFlags),
    /// Load seeds.
    Seed(NodeFlags),
    /// Write the SQL of models and tests to target/compiled.
    Compile(NodeFlags),
    /// Read the project and write target/manifest.json.
    Parse(Common),
    /// List nodes.
    #[command(name = "ls", alias = "list")]
    List(ListFlags),
    /// Run a model's query and print some of its rows.
    Show(ShowFlags),
    /// Source commands.
    Source {
        #[command(subcommand)]
        command: SourceCommand,
    },
    /// Check the project, the profile and the connection.
    Debug(Common),
    /// Delete what commands wrote into the project.
    Clean(Common),
}

/// `dbt source …`.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// Compare the age of sources with what they may be.
    Freshness(NodeFlags),
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    #[arg(long)]
    pub(super) project_dir: Option<PathBuf>,
    #[arg(long)]
    pub(super) profiles_dir: Option<PathBuf>,
    #[arg(long)]
    pub(super) profile: Option<String>,
    #[arg(long, short = 't')]
    pub(super) target: Option<String>,
    /// YAML: '{name: value}'.
    #[arg(long)]
    pub(super) vars: Option<String>,
    #[arg(long)]
    pub(super) threads: Option<usize>,
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

/// Flags of commands that work on nodes.
#[derive(Debug, Clone, Args)]
pub(super) struct NodeFlags {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) selection: SelectionFlags,
    #[arg(long, short = 'f')]
    pub(super) full_refresh: bool,
    #[arg(long, short = 'x')]
    pub(super) fail_fast: bool,
}

/// Which nodes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SelectionFlags {
    #[arg(long, short = 's', visible_aliases = ["models", "model"], short_alias = 'm', num_args = 1..)]
    pub(super) select: Vec<String>,
    #[arg(long, num_args = 1..)]
    pub(super) exclude: Vec<String>,
    #[arg(long, visible_alias = "resource-types", num_args = 1..)]
    pub(super) resource_type: Vec<String>,
}

/// `dbt ls`.
#[derive(Debug, Clone, Args)]
pub(super) struct ListFlags {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) selection: SelectionFlags,
    #[arg(long, default_value = "selector", value_parser = ["selector", "name", "path", "json"])]
    pub(super) output: String,
}

/// `dbt show`.
#[derive(Debug, Clone, Args)]
pub(super) struct ShowFlags {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) selection: SelectionFlags,
    /// SQL with Jinja to run instead of a model.
    #[arg(long)]
    pub(super) inline: Option<String>,
    #[arg(long, default_value_t = 5)]
    pub(super) limit: i64,
}
