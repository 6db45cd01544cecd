//! dbt's log lines.

use ballpoint_runtime::clock::Clock;

use super::CliEnv;
use crate::project::node::{Node, ResourceType};
use crate::run::{NodeResult, Progress, Status};

/// Where dbt pads the description of a node to.
const LINE_WIDTH: usize = 80;

/// Writes lines with the time of day before them.
#[derive(Clone)]
pub(super) struct Log {
    env: CliEnv,
    quiet: bool,
}

impl Log {
    pub(super) fn new(env: &CliEnv, quiet: bool) -> Self {
        Self {
            env: env.clone(),
            quiet,
        }
    }

    /// A line that `--quiet` drops.
    pub(super) fn info(&self, text: &str) {
        if !self.quiet {
            self.always(text);
        }
    }

    /// A line that is always written.
    pub(super) fn always(&self, text: &str) {
        (self.env.out)(&format!("{}  {text}", time_of_day(&self.env.clock)));
    }

    /// A line of output proper: no time before it.
    pub(super) fn plain(&self, text: &str) {
        (self.env.out)(text);
    }

    /// Tells how nodes start and end.
    pub(super) fn progress(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Start { index, total, node } => {
                let head = format!("{index} of {total} START {}", described(node));
                self.info(&format!("{} [RUN]", padded(&head)));
            }
            Progress::Done {
                index,
                total,
                node,
                result,
            } => {
                let head = format!("{index} of {total} {}", ended(node, result));
                let line = format!("{} {}", padded(&head), outcome(node, result));
                if result.status.blocks() {
                    self.always(&line)
                } else {
                    self.info(&line)
                }
            }
        }
    }
}

fn padded(head: &str) -> String {
    let dots = LINE_WIDTH.saturating_sub(head.chars().count() + 1).max(2);
    format!("{head} {}", ".".repeat(dots))
}

fn described(node: &Node) -> String {
    match node.resource_type {
        ResourceType::Test => format!("test {}", node.name),
        ResourceType::Seed => format!("seed file {}", node.relation.shown()),
        _ => format!(
            "sql {} model {}",
            node.materialization.name(),
            node.relation.shown()
        ),
    }
}

fn ended(node: &Node, result: &NodeResult) -> String {
    let what = described(node);
    match (result.status, node.resource_type) {
        (Status::Pass, _) => format!("PASS {}", node.name),
        (Status::Warn, _) => format!("WARN {} {}", result.failures.unwrap_or(0), node.name),
        (Status::Fail, _) => format!("FAIL {} {}", result.failures.unwrap_or(0), node.name),
        (Status::Skipped, ResourceType::Test) => format!("SKIP test {}", node.name),
        (Status::Skipped, _) => format!("SKIP relation {}", node.relation.shown()),
        (Status::Error, ResourceType::Test) => format!("ERROR {}", node.name),
        (Status::Error, ResourceType::Seed) => format!("ERROR loading {what}"),
        (Status::Error, _) => format!("ERROR creating {what}"),
        (Status::Success, ResourceType::Seed) => format!("OK loaded {what}"),
        (Status::Success, _) => format!("OK created {what}"),
    }
}

fn outcome(_: &Node, result: &NodeResult) -> String {
    let word = match result.status {
        Status::Success => result.message.as_str(),
        Status::Pass => "PASS",
        Status::Warn => "WARN",
        Status::Fail => "FAIL",
        Status::Error => "ERROR",
        Status::Skipped => return "[SKIP]".to_owned(),
    };
    format!("[{word} in {:.2}s]", result.seconds)
}

fn time_of_day(clock: &Clock) -> String {
    clock.real_now().strftime("%H:%M:%S").to_string()
}
