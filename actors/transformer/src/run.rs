//! Runs nodes as `dbt build` does: each when what it reads is done, tests between models, a failure
//! blocking what is downstream. The scheduler knows no SQL; `execute` knows no order.

mod connections;
mod execute;
mod failure;
mod schedule;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::clock::Clock;
use jiff::Timestamp;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::compile::{Comment, Compiler};
use crate::data_tests::{self, Verdict};
use crate::materialize;
use crate::project::Project;
use crate::project::node::{Node, ResourceType};
use execute::Runner;
use schedule::{Schedule, Unit};

pub(crate) use connections::Connections;
pub(crate) use failure::{Failure, describe, is_transient};
pub(crate) use schedule::waits_for;

/// Pause between two attempts to stop what runs on the server.
const CANCEL_AGAIN: Duration = Duration::from_millis(200);

/// How a node ended, in dbt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Pass,
    Warn,
    Fail,
    Error,
    Skipped,
    /// Nothing to run: an exposure, a saved query.
    NoOp,
}

impl Status {
    /// dbt's spelling in `run_results.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::NoOp => "no-op",
        }
    }

    /// Whether what is downstream must not run.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Fail | Self::Error | Self::Skipped)
    }
}

/// When a node was compiled and run: start and end of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub compile: (Timestamp, Timestamp),
    pub execute: (Timestamp, Timestamp),
}

/// What one node did.
#[derive(Clone, Debug)]
pub struct NodeResult {
    pub unique_id: String,
    pub name: String,
    pub status: Status,
    /// `CREATE VIEW`, `SELECT 3`, or why it failed.
    pub message: String,
    pub failures: Option<i64>,
    pub rows: Option<u64>,
    pub compiled: Option<String>,
    /// The statements that were sent, for `target/run`.
    pub statements: Option<String>,
    /// What was sent with each of them.
    pub(crate) comment: Comment,
    pub seconds: f64,
    pub timing: Option<Timing>,
    /// Which thread ran it, from 1.
    pub thread: usize,
    /// Whether trying again later can help: a lost connection, a deadlock.
    pub transient: bool,
}

/// What is told while nodes run.
pub(crate) enum Progress<'a> {
    Start {
        index: usize,
        total: usize,
        node: &'a Node,
    },
    Done {
        index: usize,
        total: usize,
        node: &'a Node,
        result: &'a NodeResult,
    },
}

/// How nodes are run.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) threads: usize,
    pub(crate) fail_fast: bool,
    /// `dbt build`: tests block models.
    pub(crate) tests_block: bool,
    /// `--store-failures`.
    pub(crate) store_failures: bool,
    /// `--warn-error`.
    pub(crate) warnings_fail: bool,
    pub(crate) clock: Clock,
    /// Ends the run: nothing more starts, and what runs on the server is stopped there.
    pub(crate) cancel: CancellationToken,
}

/// Why nothing more is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    FailFast,
    Cancelled,
    ServerGone,
}

impl Halt {
    fn reason(self) -> &'static str {
        match self {
            Self::FailFast => "Skipping due to fail_fast",
            Self::Cancelled => "Skipping because the run was cancelled",
            Self::ServerGone => "Skipping because the server is gone",
        }
    }
}

/// The state of one run.
struct Run<'a> {
    project: Arc<Project>,
    schedule: Schedule,
    options: &'a RunOptions,
    connections: Arc<Connections>,
    progress: &'a (dyn Fn(Progress<'_>) + Send + Sync),
    /// The number under which each node was announced.
    announced: HashMap<usize, usize>,
    ended: HashMap<usize, Status>,
    results: Vec<NodeResult>,
    halted: Option<Halt>,
    free: BTreeSet<usize>,
}

/// Runs the selected nodes.
pub(crate) async fn run(
    compiler: &Compiler,
    pool: &PgPool,
    connections: &Arc<Connections>,
    selected: &BTreeSet<String>,
    options: &RunOptions,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Vec<NodeResult> {
    let project = compiler.project.clone();
    let mut run = Run {
        schedule: Schedule::new(&project, selected, options.tests_block),
        project,
        options,
        connections: connections.clone(),
        progress,
        announced: HashMap::new(),
        ended: HashMap::new(),
        results: Vec::new(),
        halted: None,
        free: (1..=options.threads.max(1)).collect(),
    };
    let runner = Arc::new(Runner {
        compiler: compiler.clone(),
        pool: pool.clone(),
        connections: connections.clone(),
        options: options.clone(),
    });
    run.carry_out(&runner).await;
    run.results
}

impl Run<'_> {
    async fn carry_out(&mut self, runner: &Arc<Runner>) {
        let mut running: JoinSet<(Unit, usize, Vec<NodeResult>)> = JoinSet::new();
        loop {
            while let Some(thread) = self.free.first().copied() {
                let Some(unit) = self.schedule.next(self.free.len()) else {
                    break;
                };
                let Some(unit) = self.without_blocked(unit) else {
                    continue;
                };
                self.free.remove(&thread);
                for index in unit.nodes().to_vec() {
                    self.announce(index);
                }
                let ids: Vec<String> = unit
                    .nodes()
                    .iter()
                    .map(|index| self.schedule.ids[*index].clone())
                    .collect();
                let (runner, kept) = (runner.clone(), unit.clone());
                running.spawn(async move {
                    let results = match unit {
                        Unit::One(_) => vec![runner.one(&ids[0], thread).await],
                        Unit::Tests(_) => runner.tests(&ids, thread).await,
                        Unit::Views(_) => runner.views(&ids, thread).await,
                    };
                    (kept, thread, results)
                });
            }
            let joined = tokio::select! {
                joined = running.join_next() => joined,
                () = self.options.cancel.cancelled(), if self.halted != Some(Halt::Cancelled) => {
                    self.halted = Some(Halt::Cancelled);
                    self.connections.cancel().await;
                    continue;
                }
                () = tokio::time::sleep(CANCEL_AGAIN), if self.halted == Some(Halt::Cancelled) => {
                    self.connections.cancel().await;
                    continue;
                }
            };
            match joined {
                None => break,
                Some(Ok((unit, thread, results))) => {
                    self.free.insert(thread);
                    for (index, result) in unit.nodes().iter().zip(results) {
                        self.done(*index, result);
                    }
                }
                // A panic in a node is a bug; resume it where it can be seen.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    /// The unit without nodes that must not run; those end here.
    fn without_blocked(&mut self, unit: Unit) -> Option<Unit> {
        let (blocked, free): (Vec<usize>, Vec<usize>) = unit
            .nodes()
            .iter()
            .partition(|index| self.halted.is_some() || self.is_blocked(**index));
        for index in blocked {
            let mut result = skipped(&self.project.nodes[&self.schedule.ids[index]]);
            if let (Some(halt), false) = (self.halted, self.is_blocked(index)) {
                result.message = halt.reason().to_owned();
            }
            let number = self.announced.len() + 1;
            self.announced.insert(index, number);
            self.done(index, result);
        }
        match (free.as_slice(), unit) {
            ([], _) => None,
            ([one], _) => Some(Unit::One(*one)),
            (_, Unit::Tests(_)) => Some(Unit::Tests(free)),
            (_, Unit::Views(_)) => Some(Unit::Views(free)),
            (_, one @ Unit::One(_)) => Some(one),
        }
    }

    fn is_blocked(&self, index: usize) -> bool {
        let needs = self.schedule.needs(index).iter();
        needs
            .filter_map(|other| self.ended.get(other))
            .any(|status| status.blocks())
    }

    fn announce(&mut self, index: usize) {
        let number = self.announced.len() + 1;
        self.announced.insert(index, number);
        (self.progress)(Progress::Start {
            index: number,
            total: self.schedule.ids.len(),
            node: &self.project.nodes[&self.schedule.ids[index]],
        });
    }

    fn done(&mut self, index: usize, mut result: NodeResult) {
        if result.status == Status::Warn && self.options.warnings_fail {
            result.status = Status::Fail;
            result.message = result.message.replace("to warn if", "to fail if");
        }
        (self.progress)(Progress::Done {
            index: self.announced[&index],
            total: self.schedule.ids.len(),
            node: &self.project.nodes[&self.schedule.ids[index]],
            result: &result,
        });
        let failed = matches!(result.status, Status::Fail | Status::Error);
        if failed && self.options.fail_fast {
            self.halted.get_or_insert(Halt::FailFast);
        }
        if result.status == Status::Error && result.message.starts_with(failure::SERVER_GONE) {
            self.halted.get_or_insert(Halt::ServerGone);
        }
        self.ended.insert(index, result.status);
        self.schedule.ended(index);
        self.results.push(result);
    }
}

/// The results of a run that could not begin.
pub(crate) fn all_skipped(
    compiler: &Compiler,
    selected: &BTreeSet<String>,
    tests_block: bool,
) -> Vec<NodeResult> {
    let project = &compiler.project;
    let schedule = Schedule::new(project, selected, tests_block);
    let skip = |id: &String| NodeResult {
        message: "Skipping due to a failed on-run-start hook".to_owned(),
        ..skipped(&project.nodes[id])
    };
    schedule.ids.iter().map(skip).collect()
}

/// A result for a node that did not run.
pub(crate) fn skipped(node: &Node) -> NodeResult {
    unrun(&node.unique_id, &node.name)
}

fn unrun(id: &str, name: &str) -> NodeResult {
    NodeResult {
        unique_id: id.to_owned(),
        name: name.to_owned(),
        status: Status::Skipped,
        message: "Skipping due to fail in upstream".to_owned(),
        failures: None,
        rows: None,
        compiled: None,
        statements: None,
        comment: Comment::default(),
        seconds: 0.0,
        timing: None,
        thread: 1,
        transient: false,
    }
}

/// The results of what is selected and has nothing to run: exposures and saved queries. dbt reports
/// them, or that what they stand on failed.
pub(crate) fn without_work(
    project: &Project,
    selected: &BTreeSet<String>,
    results: &[NodeResult],
) -> Vec<NodeResult> {
    let ended = results.iter().filter(|result| result.status.blocks());
    let blocked: BTreeSet<&str> = ended.map(|result| result.unique_id.as_str()).collect();
    let idle = selected.iter().filter(|id| {
        let semantic = project.semantics.get(*id);
        project.exposures.contains_key(*id)
            || semantic.is_some_and(|it| it.kind == ResourceType::SavedQuery)
    });
    let result = |id: &String| {
        let read = project.graph.ancestors(id, None);
        let name = id.rsplit('.').next().unwrap_or(id);
        let skipped = unrun(id, name);
        match read.iter().any(|id| blocked.contains(id.as_str())) {
            true => skipped,
            false => NodeResult {
                status: Status::NoOp,
                message: "NO-OP".to_owned(),
                failures: Some(0),
                ..skipped
            },
        }
    };
    idle.map(result).collect()
}

/// Writes what a test found into a result.
pub(crate) fn record_verdict(result: &mut NodeResult, node: &Node, judged: data_tests::Judged) {
    result.failures = Some(judged.failures);
    let count = judged.failures;
    let plural = if count == 1 { "result" } else { "results" };
    let limit = |key| data_tests::setting(node, key, "!= 0");
    (result.status, result.message) = match judged.verdict {
        Verdict::Pass => (Status::Pass, String::new()),
        Verdict::Warn => (
            Status::Warn,
            format!(
                "Got {count} {plural}, configured to warn if {}",
                limit("warn_if")
            ),
        ),
        Verdict::Fail => (
            Status::Fail,
            format!(
                "Got {count} {plural}, configured to fail if {}",
                limit("error_if")
            ),
        ),
    };
}

pub(crate) fn seconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64()
}

/// Makes the schemas that the selected nodes are built into.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn create_schemas(
    connections: &Connections,
    project: &Project,
    selected: &BTreeSet<String>,
    store_failures: bool,
) -> Result<(), Failure> {
    let schemas: BTreeSet<&str> = selected
        .iter()
        .filter_map(|id| project.nodes.get(id))
        .filter(|node| node.is_relation() || data_tests::stores_failures(node, store_failures))
        .map(|node| node.relation.schema.as_str())
        .collect();
    if schemas.is_empty() {
        return Ok(());
    }
    let quoted: Vec<String> = schemas
        .iter()
        .map(|schema| ballpoint_postgres::ident::quote(schema))
        .collect();
    let sql: String = quoted
        .iter()
        .map(|schema| format!("create schema if not exists {schema};\n"))
        .collect();
    let mut held = connections.acquire().await?;
    let made = materialize::execute(&mut held.conn, &sql).await;
    connections.release(held, made.is_ok());
    made?;
    Ok(())
}

/// Every schema that a project touches.
pub(crate) fn schemas_of(project: &Project) -> Vec<String> {
    let nodes = project.nodes.values();
    let schemas: BTreeSet<String> = nodes
        .filter(|node| node.is_relation() || node.is_test())
        .map(|node| node.relation.schema.clone())
        .chain(
            project
                .sources
                .values()
                .map(|source| source.relation.schema.clone()),
        )
        .collect();
    schemas.into_iter().collect()
}

/// A compiler for one run over what exists now.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn compiler_for(
    project: &Arc<Project>,
    pool: &PgPool,
    full_refresh: bool,
) -> Result<Compiler, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    compiler_over(project, &mut conn, full_refresh).await
}

/// A compiler for one run over what this connection sees.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn compiler_over(
    project: &Arc<Project>,
    conn: &mut sqlx::PgConnection,
    full_refresh: bool,
) -> Result<Compiler, sqlx::Error> {
    let catalog = crate::catalog::Catalog::read(conn, &schemas_of(project)).await?;
    Ok(Compiler {
        project: project.clone(),
        globals: project.globals.clone(),
        catalog: Arc::new(catalog),
        overrides: Arc::default(),
        queries: None,
        full_refresh,
    })
}
