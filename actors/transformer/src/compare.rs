//! Real dbt and this crate on one project in two databases: what each leaves behind, and how long
//! it took. A difference is a fault of ours until it is explained.

mod manifest;
mod relations;
mod side;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use crate::cli::CliEnv;
use crate::project::profile::Target;
use crate::run::describe;

pub use side::{Program, Side};

/// What is compared, and with what.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The project; it is copied, never written to.
    pub project_dir: PathBuf,
    /// Where dbt builds, and where we do: two databases with the same content.
    pub theirs: Target,
    pub ours: Target,
    /// The `dbt` program.
    pub dbt: PathBuf,
    /// Our program; absent: in this process.
    pub program: Option<PathBuf>,
    /// Flags of every command, such as `--vars`.
    pub flags: Vec<String>,
    /// What a command in this process is lent.
    pub env: CliEnv,
    /// Relations (`schema.name`) that are not compared.
    pub ignored: Vec<String>,
}

/// Something that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `exit`, `verdict`, `node`, `parents`, `compiled`, `relation`, `rows`.
    pub what: &'static str,
    /// Which command, and which node or relation.
    pub of: String,
    pub dbt: String,
    pub ballpoint: String,
}

/// One command on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub command: String,
    pub dbt_seconds: f64,
    pub ballpoint_seconds: f64,
    /// Nodes that both report, relations and rows that both left.
    pub nodes: usize,
    pub relations: usize,
    pub rows: u64,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    pub steps: Vec<Step>,
    pub differences: Vec<Difference>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A folder could not be read or copied.
    #[error("{what}: {reason}")]
    Files { what: String, reason: String },
    /// A program could not be started.
    #[error(
        "cannot run {program}: {reason}; name a dbt with --dbt (dbt-core 1.11 and dbt-postgres in a \
         virtual environment)"
    )]
    Program { program: String, reason: String },
    /// A command ended before it wrote its artifacts.
    #[error("{program} {command} wrote no usable {file}:\n{output}")]
    NoArtifact {
        program: String,
        command: String,
        file: String,
        output: String,
    },
    /// A database could not be read.
    #[error("database {database}: {}", describe(.error))]
    Database {
        database: String,
        #[source]
        error: sqlx::Error,
    },
}

/// Two copies of a project, each with a database of its own.
#[derive(Debug)]
pub struct Pair {
    theirs: Side,
    ours: Side,
    pools: (PgPool, PgPool),
    databases: [String; 2],
    ignored: Vec<String>,
    found: Comparison,
}

impl Pair {
    /// Copies the project for both sides.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn new(options: &CompareOptions) -> Result<Self, CompareError> {
        let dbt = Program::Dbt(options.dbt.clone());
        let ours = match &options.program {
            Some(program) => Program::Ballpoint(program.clone()),
            None => Program::InProcess(Box::new(options.env.clone())),
        };
        let pool = |target: &Target| {
            sqlx::postgres::PgPoolOptions::new()
                .max_connections(2)
                .acquire_timeout(Duration::from_secs(30))
                .connect_lazy_with(target.connect_options())
        };
        let flags = &options.flags;
        Ok(Self {
            pools: (pool(&options.theirs), pool(&options.ours)),
            databases: [&options.theirs, &options.ours].map(|side| side.database.clone()),
            theirs: Side::new(dbt, &options.project_dir, &options.theirs, flags)?,
            ours: Side::new(ours, &options.project_dir, &options.ours, flags)?,
            ignored: options.ignored.clone(),
            found: Comparison::default(),
        })
    }

    /// Installs the packages that the project names and does not bring: dbt does, for both sides.
    ///
    /// # Errors
    /// When dbt cannot.
    pub async fn install(&self) -> Result<(), CompareError> {
        self.theirs.install().await?;
        self.ours.install_from(&self.theirs)
    }

    /// Runs a command on both sides and compares what they leave.
    ///
    /// # Errors
    /// When a side cannot be run or read; a difference is a finding.
    pub async fn step(&mut self, command: &str) -> Result<(), CompareError> {
        let theirs = self.theirs.run(command).await?;
        let ours = self.ours.run(command).await?;
        let number = self.found.steps.len() + 1;
        let at = |of: &str| format!("{number} {command}: {of}");
        let mut differences = Vec::new();
        if theirs.success != ours.success {
            differences.push(Difference {
                what: "exit",
                of: at("exit code"),
                dbt: theirs.output.clone(),
                ballpoint: ours.output.clone(),
            });
        }
        let mut nodes = 0;
        if let (Some(their_results), Some(our_results)) = (&theirs.results, &ours.results) {
            let [their_database, our_database] = &self.databases;
            let (names, found) = manifest::results(
                (their_results, their_database),
                (our_results, our_database),
                &at,
            );
            nodes = names;
            differences.extend(found);
        }
        if let (Some(their_manifest), Some(our_manifest)) = (&theirs.manifest, &ours.manifest) {
            differences.extend(manifest::nodes(their_manifest, our_manifest, &at));
        }
        let volatile = theirs
            .manifest
            .as_ref()
            .map(manifest::volatile_columns)
            .unwrap_or_default();
        let left = relations::compare(&self.pools, &self.ignored, &volatile, &at).await?;
        differences.extend(left.differences);
        self.found.differences.extend(differences);
        self.found.steps.push(Step {
            command: command.to_owned(),
            dbt_seconds: theirs.seconds,
            ballpoint_seconds: ours.seconds,
            nodes,
            relations: left.relations,
            rows: left.rows,
        });
        Ok(())
    }

    /// What was found so far.
    pub fn found(&self) -> &Comparison {
        &self.found
    }

    /// Ends the comparison.
    pub async fn finish(self) -> Comparison {
        self.pools.0.close().await;
        self.pools.1.close().await;
        self.found
    }
}
