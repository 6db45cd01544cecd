//! dbt's command line alone, without the rest of Ballpoint: what dbt's own test suites drive.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own reads the environment"
)]

use std::process::ExitCode;
use std::sync::Arc;

use ballpoint_runtime::clock::Clock;
use ballpoint_transformer::cli::{self, CliEnv};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let env = CliEnv {
        env: std::env::vars().collect(),
        working_dir: std::env::current_dir().unwrap_or_default(),
        default_target: None,
        default_project_dir: None,
        clock: Clock::system(),
        cancel: CancellationToken::new(),
        out: Arc::new(|line| {
            use std::io::Write;
            // A reader that went away ends nothing.
            let _ = writeln!(std::io::stdout(), "{line}");
        }),
    };
    ExitCode::from(Box::pin(cli::run(&args, &env)).await)
}
