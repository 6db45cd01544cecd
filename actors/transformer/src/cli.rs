//! `ballpoint dbt …`: dbt's commands, flags, log lines and exit codes on the library. It knows no
//! actor and no shadow relation; what it leaves in the database is what dbt leaves.

mod arguments;
mod commands;
mod defaults;
mod hooks;
mod inspect;
mod log;
mod operations;
mod parse;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ballpoint_runtime::clock::Clock;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::project::profile::Target;
use arguments::Arguments;

/// Everything was done.
pub const EXIT_DONE: u8 = 0;
/// A node or a test failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line, the project or the connection cannot be used.
pub const EXIT_UNUSABLE: u8 = 2;

/// What the caller lends to a command: the library itself reads no environment and no clock.
#[derive(Clone)]
pub struct CliEnv {
    /// The process environment, for `env_var()` and the place of `profiles.yml`.
    pub env: HashMap<String, String>,
    pub working_dir: PathBuf,
    /// Where a project is built when neither `--profiles-dir` nor `--profile` is given.
    pub default_target: Option<Target>,
    /// The project when `--project-dir` is not given; absent: the working directory.
    pub default_project_dir: Option<PathBuf>,
    pub clock: Clock,
    /// Ends the command: nothing more starts, and what runs on the server is stopped there.
    pub cancel: CancellationToken,
    /// Takes one line of output without its line end.
    pub out: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for CliEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CliEnv({})", self.working_dir.display())
    }
}

/// Runs one command; `args` begin with its name (`["build", "--select", "x"]`).
pub async fn run(args: &[String], env: &CliEnv) -> u8 {
    let args = defaults::completed(arguments::normalized(args), env);
    let args = arguments::without_negations(args);
    let named = std::iter::once("dbt".to_owned()).chain(args);
    match Arguments::try_parse_from(named) {
        Ok(arguments) => commands::run(arguments, env).await,
        Err(error) => {
            for line in error.to_string().lines() {
                (env.out)(line);
            }
            if error.use_stderr() {
                EXIT_UNUSABLE
            } else {
                EXIT_DONE
            }
        }
    }
}
