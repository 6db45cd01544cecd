//! dbt's log lines, as text or as JSON.

use std::sync::Arc;

use ballpoint_runtime::clock::Clock;
use serde_json::{Value as Json, json};

use super::CliEnv;
use super::arguments::Common;
use crate::jinja::context::{LogSink, Said};
use crate::project::node::{Node, ResourceType};
use crate::run::{NodeResult, Progress, Status};

/// Where dbt pads the description of a node to.
const LINE_WIDTH: usize = 80;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
    None,
}

impl Level {
    fn parse(name: &str) -> Self {
        match name {
            "debug" => Self::Debug,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "none" => Self::None,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warn => "warn",
            Self::Error | Self::None => "error",
            Self::Info => "info",
        }
    }
}

/// Writes lines with the time of day before them, or as JSON.
#[derive(Clone)]
pub(super) struct Log {
    env: CliEnv,
    least: Level,
    json: bool,
    invocation_id: String,
}

impl Log {
    pub(super) fn new(env: &CliEnv, common: &Common) -> Self {
        let least = match (common.quiet, common.debug) {
            (true, _) => Level::Error,
            (false, true) => Level::Debug,
            (false, false) => Level::parse(&common.log_level),
        };
        Self {
            env: env.clone(),
            least,
            json: common.log_format == "json",
            invocation_id: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// Takes what templates say.
    pub(super) fn sink(&self, no_print: bool) -> LogSink {
        let log = self.clone();
        LogSink(Some(Arc::new(move |how, text: &str| match how {
            Said::Debug => log.line(Level::Debug, "JinjaLogDebug", text, json!({})),
            Said::Info => log.line(Level::Info, "JinjaLogInfo", text, json!({})),
            Said::Print if no_print => {}
            Said::Print => log.plain(text),
            Said::Warn => log.warn(text),
        })))
    }

    fn line(&self, level: Level, name: &str, text: &str, data: Json) {
        if level < self.least {
            return;
        }
        if !self.json {
            let time = time_of_day(&self.env.clock);
            return (self.env.out)(&format!("{time}  {text}"));
        }
        let now = self.env.clock.real_now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
        let mut all = data;
        if let Json::Object(map) = &mut all {
            map.entry("msg").or_insert_with(|| text.into());
        }
        let line = json!({
            "data": all,
            "info": {
                "category": "", "code": code(name), "extra": {}, "level": level.name(),
                "invocation_id": self.invocation_id, "msg": text, "name": name,
                "pid": std::process::id(), "thread": "MainThread", "ts": now.to_string(),
            },
        });
        (self.env.out)(&line.to_string());
    }

    /// A line that `--quiet` drops.
    pub(super) fn info(&self, text: &str) {
        self.line(Level::Info, "Generic", text, json!({}));
    }

    pub(super) fn warn(&self, text: &str) {
        let text = format!("[WARNING]: {text}");
        self.line(Level::Warn, "JinjaLogWarning", &text, json!({}));
    }

    /// A line that is written unless nothing is.
    pub(super) fn error(&self, text: &str) {
        self.line(Level::Error, "MainReportError", text, json!({}));
    }

    /// A line that matters as much as an error.
    pub(super) fn always(&self, text: &str) {
        self.line(Level::Error, "Generic", text, json!({}));
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
                let line = format!("{} [RUN]", padded(&head));
                let data = json!({
                    "index": index, "total": total, "node_info": node_info(node, "started"),
                    "description": described(node),
                });
                self.line(Level::Info, "LogStartLine", &line, data);
            }
            Progress::Done {
                index,
                total,
                node,
                result,
            } => {
                let head = format!("{index} of {total} {}", ended(node, result));
                let line = format!("{} {}", padded(&head), outcome(node, result));
                let level = match result.status {
                    status if status.blocks() => Level::Error,
                    Status::Warn => Level::Warn,
                    _ => Level::Info,
                };
                let data = json!({
                    "index": index, "total": total, "status": result.status.name(),
                    "execution_time": result.seconds, "name": node.name,
                    "num_failures": result.failures.unwrap_or(0),
                    "node_info": node_info(node, result.status.name()),
                });
                if let Some(sent) = &result.statements {
                    let sent = result.comment.on(sent);
                    let line = format!("On {}: {sent}", node.unique_id);
                    self.line(Level::Debug, "SQLQuery", &line, json!({"sql": sent}));
                }
                let name = match node.resource_type {
                    ResourceType::Test | ResourceType::UnitTest => "LogTestResult",
                    ResourceType::Seed => "LogSeedResult",
                    ResourceType::Snapshot => "LogSnapshotResult",
                    _ => "LogModelResult",
                };
                self.line(level, name, &line, data);
            }
        }
    }
}

/// dbt's code of an event that readers look for.
fn code(name: &str) -> &'static str {
    match name {
        "SQLQuery" => "E016",
        "LogStartLine" => "Q011",
        "LogModelResult" => "Q012",
        "LogTestResult" => "Q007",
        "LogSeedResult" => "Q016",
        "LogSnapshotResult" => "Q015",
        "JinjaLogInfo" => "I062",
        "JinjaLogDebug" => "I063",
        "JinjaLogWarning" => "I061",
        "MainReportError" => "Z046",
        _ => "Z047",
    }
}

fn node_info(node: &Node, status: &str) -> Json {
    json!({
        "node_name": node.name, "unique_id": node.unique_id, "node_path": node.path,
        "resource_type": node.resource_type.name(), "node_status": status,
        "materialized": node.materialization.name(),
        "node_relation": {
            "database": node.relation.database, "schema": node.relation.schema,
            "alias": node.relation.identifier, "relation_name": node.relation_name(),
        },
    })
}

fn padded(head: &str) -> String {
    let dots = LINE_WIDTH.saturating_sub(head.chars().count() + 1).max(2);
    format!("{head} {}", ".".repeat(dots))
}

fn described(node: &Node) -> String {
    match node.resource_type {
        ResourceType::Test => format!("test {}", node.name),
        ResourceType::UnitTest => match &node.unit_test {
            Some(unit) => format!("unit_test {}::{}", unit.model, node.name),
            None => format!("unit_test {}", node.name),
        },
        ResourceType::Seed => format!("seed file {}", node.relation.shown()),
        ResourceType::Snapshot => format!("snapshot {}", node.relation.shown()),
        _ => format!(
            "sql {} model {}",
            node.materialization.name(),
            node.relation.shown()
        ),
    }
}

fn ended(node: &Node, result: &NodeResult) -> String {
    let what = described(node);
    let is_test = matches!(
        node.resource_type,
        ResourceType::Test | ResourceType::UnitTest
    );
    let name = match &node.unit_test {
        Some(unit) => format!("{}::{}", unit.model, node.name),
        None => node.name.clone(),
    };
    match (result.status, node.resource_type) {
        (Status::Pass, _) => format!("PASS {name}"),
        (Status::Warn, _) => format!("WARN {} {name}", result.failures.unwrap_or(0)),
        (Status::Fail, _) => format!("FAIL {} {name}", result.failures.unwrap_or(0)),
        (Status::Skipped, _) if is_test => format!("SKIP test {name}"),
        (Status::NoOp, _) => format!("NO-OP {name}"),
        (Status::Skipped, _) => format!("SKIP relation {}", node.relation.shown()),
        (Status::Error, _) if is_test => format!("ERROR {name}"),
        (Status::Error, ResourceType::Seed) => format!("ERROR loading {what}"),
        (Status::Error, ResourceType::Snapshot) => format!("ERROR snapshotting {what}"),
        (Status::Error, _) => format!("ERROR creating {what}"),
        (Status::Success, ResourceType::Seed) => format!("OK loaded {what}"),
        (Status::Success, ResourceType::Snapshot) => format!("OK snapshotted {what}"),
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
        Status::NoOp => "NO-OP",
        Status::Skipped => return "[SKIP]".to_owned(),
    };
    format!("[{word} in {:.2}s]", result.seconds)
}

fn time_of_day(clock: &Clock) -> String {
    clock.real_now().strftime("%H:%M:%S").to_string()
}
