//! `ballpoint`: the modern data stack as one program. The composition root: it reads the command
//! line and the configuration, opens the databases, and wires the stages; what they do is theirs.

mod cli;
mod commands;
mod config;
mod databases;
mod doors;
mod duties;
mod evidence;
mod init;
mod output;
mod readiness;
mod remote;
mod session;
mod shipped;
mod sources;
mod stack;
mod stages;
mod verified;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::config::Environment;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    #[cfg(feature = "failpoints")]
    config::arm_abort(&environment);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&anyhow::Error::new(error).context("starting up")),
    };
    let outcome = runtime.block_on(Box::pin(commands::run(cli, environment)));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}
