//! The command line: words, flags and exit codes (0 done, 1 the work failed, 2 usage or
//! configuration). What a command does is in `commands`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;

use crate::config::SyncModeName;
use crate::databases::{ROWS_BY_DEFAULT, SEED_BY_DEFAULT};

/// The modern data stack as one program.
#[derive(Debug, Parser)]
#[command(name = "ballpoint", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which project, and how to speak.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Folder with ballpoint.toml [default: the nearest one upward, else the shipped project]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Where databases, state and token live [default: .ballpoint in the project; as root
    /// /var/lib/ballpoint/NAME]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Business time to start from, for date phrases, seeds and freshness; it ticks on
    #[arg(long, global = true, value_name = "RFC3339")]
    pub(crate) now: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything, serve, and keep watching
    Up(UpArgs),
    /// One pass: sync, build, refresh the metrics, plan the write-backs; then exit
    Run,
    /// Extract and load only
    Sync(SyncArgs),
    /// dbt's commands on any dbt project for PostgreSQL
    #[command(disable_help_flag = true)]
    Dbt {
        /// dbt's own command and flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Answer a Cube query given as JSON
    Query {
        /// For example '{"measures": ["Production.count"]}'
        query: String,
    },
    /// The evidence behind an answer: definition, query, SQL, tables, models, tests, sources
    Proof {
        /// The answer's proof_id
        id: String,
        /// Run it again and say what changed; exit code 1 when the rows differ
        #[arg(long)]
        replay: bool,
    },
    /// The data model: what is in it, and whether it is right
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Compare with the tool that a part stands in for
    #[command(subcommand)]
    Compare(CompareCommand),
    /// Answer a question
    Ask(AskArgs),
    /// Score a file of benchmark questions
    Eval {
        /// One case a line
        file: PathBuf,
        /// Whoever reads the questions; absent: as the project configures
        #[arg(long, value_enum)]
        backend: Option<BackendName>,
        /// What `eval --json` printed before: a case that was right there and is not now fails
        #[arg(long)]
        baseline: Option<PathBuf>,
    },
    /// Write back into the sources: plan, look, approve, apply, undo
    #[command(subcommand)]
    ReverseEtl(ReverseEtlCommand),
    /// What runs: address, databases, actors
    Status(StatusArgs),
    /// Restart an actor of the running system; a bare role restarts all its members
    Restart {
        /// Such as `metric_registry`, `loader.refills` or `loader`
        actor: String,
    },
    /// Check configuration, models and metrics without changing anything
    Check,
    /// Check this machine: PostgreSQL, data dir, port
    Doctor,
    /// Fill the embedded sources from their seeds
    Seed(SeedArgs),
    /// Make a project for databases of your own: configuration, models with tests, metrics, README
    Init(InitArgs),
    /// Serve the metrics and the chat agent to one MCP client on standard input and output
    Mcp,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// List cubes, views and their members
    Ls {
        /// Only this cube or view
        cube: Option<String>,
    },
    /// Show the definition of a member, or the members of a cube
    Describe {
        /// Such as `Production.passRate`
        name: String,
    },
    /// Check the model's files; every problem with its file and line
    Validate,
}

#[derive(Debug, Args)]
pub(crate) struct CompareDbtArgs {
    /// Folder with dbt_project.yml; it is copied
    pub(crate) project: PathBuf,
    /// The dbt program [default: the first on the path]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) dbt: Option<PathBuf>,
    /// Database whose server is used, and which both sides start as a copy of [default: that of
    /// the project's profile]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Start from empty databases
    #[arg(long)]
    pub(crate) empty: bool,
    /// Start from empty databases on a server of our own, thrown away at the end
    #[arg(long, conflicts_with_all = ["url", "keep"])]
    pub(crate) scratch: bool,
    #[arg(long, value_name = "DIR")]
    pub(crate) profiles_dir: Option<PathBuf>,
    #[arg(long)]
    pub(crate) profile: Option<String>,
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// YAML: '{name: value}'
    #[arg(long)]
    pub(crate) vars: Option<String>,
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: usize,
    /// A command of dbt, such as 'seed --full-refresh'; several are run in their order [default:
    /// build, build]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// A relation that is not compared: schema.name, or schema.*
    #[arg(long, value_name = "RELATION")]
    pub(crate) ignore: Vec<String>,
    /// Leave both databases
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CompareCommand {
    /// Build a project with real dbt and with us, each in a copy of its database; what differs is
    /// printed, and both times
    Dbt(CompareDbtArgs),
    /// The same queries to a Cube server and to us; what differs is printed
    Cube {
        /// Such as http://127.0.0.1:4000/cubejs-api
        url: String,
        /// What the server wants as authorization
        #[arg(long)]
        token: Option<String>,
        /// Queries as JSON, one a line [default: each measure, alone and by its cube's dimensions]
        #[arg(long, value_name = "FILE")]
        queries: Option<PathBuf>,
    },
}

/// PLAN is a plan's id; a sync's name stands for its latest plan that the step is possible for.
#[derive(Debug, Subcommand)]
pub(crate) enum ReverseEtlCommand {
    /// Compare what the warehouse wants with what the target has; nothing is written there
    Plan {
        /// Name of a sync [default: all]
        sync: Option<String>,
    },
    /// Plan what a request in words asks for, such as 'hold customers with more than 5 % returns'
    Propose { request: String },
    /// Show a plan row by row
    Show {
        plan: String,
        /// Only these rows: added, changed, removed or invalid
        #[arg(long)]
        kind: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Let a plan through
    Approve {
        plan: String,
        /// What was looked at, as `plan` printed it; its first 8 digits or more
        #[arg(long)]
        hash: Option<String>,
        #[arg(long)]
        comment: Option<String>,
    },
    /// End a plan that is not applied
    Reject {
        plan: String,
        #[arg(long)]
        comment: Option<String>,
    },
    /// Carry out an approved plan
    Apply {
        /// A plan or a sync [default: all approved plans]
        plan: Option<String>,
    },
    /// Take an applied plan back: every old value
    Undo { plan: String },
    /// The latest plans and who did what
    History {
        /// Name of a sync [default: all]
        sync: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Address of the web app and the APIs
    #[arg(long, value_name = "HOST:PORT", value_parser = crate::config::address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Seed of the shipped sources' generator
    #[arg(long, default_value_t = SEED_BY_DEFAULT)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only tell, by the exit code, whether every stage has finished its first pass
    #[arg(long)]
    pub(crate) ready: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Sources to sync, or single tables of theirs as SOURCE.SCHEMA.TABLE [default: all]
    pub(crate) sources: Vec<String>,
    /// How all of them are kept up to date this time, instead of as configured: full_refresh,
    /// full_refresh_append, incremental, incremental_append or cdc
    #[arg(long, value_name = "MODE", value_parser = str::parse::<SyncModeName>)]
    pub(crate) mode: Option<SyncModeName>,
    /// Read every table from its beginning and swap it in
    #[arg(long)]
    pub(crate) full_refresh: bool,
    /// Compare every table with its source, column by column, at the snapshot it is loaded up to
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    pub(crate) question: String,
    /// Continue this conversation
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Whoever reads the question; absent: as the project configures
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendName>,
}

/// Whoever reads questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BackendName {
    /// The local planner alone
    Planner,
    /// The local planner with the model of `[llm]` beside it
    Llm,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to make it in; new or empty
    pub(crate) dir: PathBuf,
    /// Database to read, again for each further one; a role that may only SELECT is enough
    #[arg(
        long,
        required = true,
        value_name = "postgres://USER:PASSWORD@HOST:PORT/DATABASE"
    )]
    pub(crate) source: Vec<String>,
    /// Name of the project [default: the folder's]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    /// Rows of each component
    #[arg(long, default_value_t = ROWS_BY_DEFAULT)]
    pub(crate) rows: u64,
    /// Print one source's table and rows as a script for psql instead: for a database that is not
    /// embedded
    #[arg(long, value_name = "SOURCE")]
    pub(crate) sql: Option<String>,
    /// The same seed makes the same rows
    #[arg(long, default_value_t = SEED_BY_DEFAULT)]
    pub(crate) seed: u64,
}
