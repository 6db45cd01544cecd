//! dbt's command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Flags of dbt that change nothing here, each also as `--no-…`.
const WITHOUT_EFFECT: &[&str] = &[
    "partial-parse",
    "use-colors",
    "use-colors-file",
    "version-check",
    "static-parser",
    "anonymous-usage-stats",
    "send-anonymous-usage-stats",
    "cache-selected-only",
    "populate-cache",
    "introspect",
    "use-experimental-parser",
    "write-json",
    "single-threaded",
    "use-fast-test-edges",
    "macro-debugging",
    "record-timing-info",
    "inject-ephemeral-ctes",
    "show-resource-report",
    "upload-to-artifacts-ingest-api",
    "partial-parse-file-diff",
    "compile-inline",
];

/// The same, followed by a value.
const WITHOUT_EFFECT_VALUED: &[&str] = &[
    "log-path",
    "log-level-file",
    "log-format-file",
    "printer-width",
    "log-file-max-bytes",
    "partial-parse-file-path",
];

/// The commands' names, as they may stand behind flags.
const COMMANDS: &[&str] = &[
    "build",
    "run",
    "test",
    "seed",
    "snapshot",
    "compile",
    "parse",
    "ls",
    "list",
    "show",
    "source",
    "debug",
    "clean",
    "docs",
    "deps",
    "retry",
    "clone",
    "run-operation",
];

/// Switches whose `--no-…` only takes back what the environment or the project says.
const SWITCHES: &[&str] = &[
    "warn-error",
    "quiet",
    "debug",
    "full-refresh",
    "store-failures",
    "favor-state",
    "empty",
    "show",
    "log-cache-events",
];

/// The command line without what takes back nothing that is left in it.
pub(super) fn without_negations(mut args: Vec<String>) -> Vec<String> {
    args.retain(|arg| {
        let switch = arg.strip_prefix("--no-");
        switch.is_none_or(|name| !SWITCHES.contains(&name)) && arg != "--log-cache-events"
    });
    args
}

/// A command line as clap can read it: flags before the command go behind it, those without effect
/// are dropped.
pub(super) fn normalized(args: &[String]) -> Vec<String> {
    let at = args.iter().position(|arg| COMMANDS.contains(&arg.as_str()));
    let (before, after) = args.split_at(at.unwrap_or(0));
    let mut kept = Vec::with_capacity(args.len());
    let mut rest = after.iter().chain(before);
    while let Some(arg) = rest.next() {
        let name = arg.strip_prefix("--").unwrap_or_default();
        let (name, valued) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        if WITHOUT_EFFECT.contains(&name.strip_prefix("no-").unwrap_or(name)) {
            continue;
        }
        if WITHOUT_EFFECT_VALUED.contains(&name) {
            if !valued {
                rest.next();
            }
            continue;
        }
        kept.push(arg.clone());
    }
    kept
}

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
    /// Build models, seeds and snapshots and run their tests, in order.
    Build(NodeFlags),
    /// Build models.
    Run(NodeFlags),
    /// Run tests.
    Test(NodeFlags),
    /// Load seeds.
    Seed(NodeFlags),
    /// Keep what changed in snapshots.
    Snapshot(NodeFlags),
    /// Write the SQL of models and tests to target/compiled.
    Compile(CompileFlags),
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
    /// Documentation commands.
    Docs {
        #[command(subcommand)]
        command: DocsCommand,
    },
    /// Call a macro.
    #[command(name = "run-operation")]
    RunOperation(OperationFlags),
    /// Run again what failed or was skipped.
    Retry(NodeFlags),
    /// Link local packages into dbt_packages.
    Deps(Common),
    /// Check the project, the profile and the connection.
    Debug(DebugFlags),
    /// Delete what commands wrote into the project.
    Clean(Common),
    /// Copy relations of another state: not built.
    Clone(NodeFlags),
}

/// `dbt source …`.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// Compare the age of sources with what they may be.
    #[command(alias = "snapshot-freshness")]
    Freshness(FreshnessFlags),
}

/// `dbt docs …`.
#[derive(Debug, Subcommand)]
pub(super) enum DocsCommand {
    /// Write target/manifest.json and target/catalog.json.
    Generate(DocsFlags),
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Common {
    #[arg(long)]
    pub(super) project_dir: Option<PathBuf>,
    #[arg(long)]
    pub(super) profiles_dir: Option<PathBuf>,
    #[arg(long)]
    pub(super) profile: Option<String>,
    #[arg(long, short = 't')]
    pub(super) target: Option<String>,
    /// Where artifacts are written, instead of target/.
    #[arg(long)]
    pub(super) target_path: Option<PathBuf>,
    /// YAML: '{name: value}'.
    #[arg(long)]
    pub(super) vars: Option<String>,
    #[arg(long)]
    pub(super) threads: Option<usize>,
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
    /// Show what templates log without info=True.
    #[arg(long, short = 'd')]
    pub(super) debug: bool,
    #[arg(long, default_value = "text", value_parser = ["text", "json", "debug", "default"])]
    pub(super) log_format: String,
    #[arg(long, default_value = "info", value_parser = ["debug", "info", "warn", "error", "none"])]
    pub(super) log_level: String,
    /// Do not show what templates print.
    #[arg(long, overrides_with = "print")]
    pub(super) no_print: bool,
    #[arg(long, hide = true)]
    pub(super) print: bool,
    /// Warnings are errors.
    #[arg(long)]
    pub(super) warn_error: bool,
    /// YAML: '{error: all, warn: [], silence: []}'.
    #[arg(long)]
    pub(super) warn_error_options: Option<String>,
}

/// Flags of commands that work on nodes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NodeFlags {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) selection: SelectionFlags,
    #[arg(long, short = 'f')]
    pub(super) full_refresh: bool,
    #[arg(long, short = 'x', overrides_with = "no_fail_fast")]
    pub(super) fail_fast: bool,
    #[arg(long, hide = true)]
    pub(super) no_fail_fast: bool,
    /// Keep the rows that tests find in tables.
    #[arg(long)]
    pub(super) store_failures: bool,
    /// Read what is not built here from the relations of --state.
    #[arg(long, overrides_with = "no_defer")]
    pub(super) defer: bool,
    #[arg(long, hide = true)]
    pub(super) no_defer: bool,
    /// With --defer: even where a relation is built here.
    #[arg(long)]
    pub(super) favor_state: bool,
    /// Print the rows of seeds.
    #[arg(long)]
    pub(super) show: bool,
    /// Build with no rows of what is read.
    #[arg(long)]
    pub(super) empty: bool,
}

/// Which nodes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SelectionFlags {
    #[arg(long, short = 's', visible_aliases = ["models", "model"], short_alias = 'm', num_args = 1..)]
    pub(super) select: Vec<String>,
    #[arg(long, num_args = 1..)]
    pub(super) exclude: Vec<String>,
    /// A selector of selectors.yml.
    #[arg(long)]
    pub(super) selector: Option<String>,
    #[arg(long, visible_alias = "resource-types", num_args = 1..)]
    pub(super) resource_type: Vec<String>,
    #[arg(long, visible_alias = "exclude-resource-types", num_args = 1..)]
    pub(super) exclude_resource_type: Vec<String>,
    /// Which tests come with the nodes that they test.
    #[arg(long, default_value = "eager", value_parser = ["eager", "cautious", "buildable", "empty"])]
    pub(super) indirect_selection: String,
    /// The folder of an earlier run's artifacts.
    #[arg(long)]
    pub(super) state: Option<PathBuf>,
    /// The folder of the artifacts that --defer reads.
    #[arg(long)]
    pub(super) defer_state: Option<PathBuf>,
    /// Unique ids instead of all of these: of `retry`.
    #[arg(skip)]
    pub(super) only: Option<Vec<String>>,
}

/// `dbt compile`.
#[derive(Debug, Clone, Args)]
pub(super) struct CompileFlags {
    #[command(flatten)]
    pub(super) nodes: NodeFlags,
    /// SQL with Jinja to compile instead of nodes.
    #[arg(long)]
    pub(super) inline: Option<String>,
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub(super) output: String,
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
    /// The keys of --output json.
    #[arg(long, num_args = 1..)]
    pub(super) output_keys: Vec<String>,
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
    /// SQL to run as it is.
    #[arg(long)]
    pub(super) inline_direct: Option<String>,
    #[arg(long, default_value_t = 5, allow_negative_numbers = true)]
    pub(super) limit: i64,
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub(super) output: String,
}

/// `dbt source freshness`.
#[derive(Debug, Clone, Args)]
pub(super) struct FreshnessFlags {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) selection: SelectionFlags,
    /// Where sources.json is written.
    #[arg(long, short = 'o')]
    pub(super) output: Option<PathBuf>,
}

/// `dbt docs generate`.
#[derive(Debug, Clone, Args)]
pub(super) struct DocsFlags {
    #[command(flatten)]
    pub(super) nodes: NodeFlags,
    #[arg(long)]
    pub(super) no_compile: bool,
    #[arg(long, hide = true)]
    pub(super) compile: bool,
    /// Write a catalog without asking the database.
    #[arg(long)]
    pub(super) empty_catalog: bool,
    #[arg(long = "static", hide = true)]
    pub(super) as_one_file: bool,
}

/// `dbt run-operation`.
#[derive(Debug, Clone, Args)]
pub(super) struct OperationFlags {
    #[command(flatten)]
    pub(super) common: Common,
    /// The macro's name, with its package's before a dot if it has one.
    pub(super) name: String,
    /// YAML: '{argument: value}'.
    #[arg(long, default_value = "{}")]
    pub(super) args: String,
}

/// `dbt debug`.
#[derive(Debug, Clone, Args)]
pub(super) struct DebugFlags {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only check the connection.
    #[arg(long)]
    pub(super) connection: bool,
    /// Only show where profiles.yml is looked for.
    #[arg(long)]
    pub(super) config_dir: bool,
}

#[cfg(test)]
mod tests {
    use super::normalized;

    #[test]
    fn flags_before_the_command_go_behind_it_and_those_without_effect_are_dropped() {
        let args = "--debug --log-path x --no-partial-parse run -s a --printer-width=80";
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        assert_eq!(normalized(&args), ["run", "-s", "a", "--debug"]);
    }
}
