//! Runs nodes as `dbt build` does: each when what it reads is done, tests between models, a failure
//! blocking what is downstream. The scheduler knows no SQL; `execute_node` knows no order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::catalog::RelationKind;
use crate::compile::Compiler;
use crate::data_tests::{self, Verdict};
use crate::materialize::{self, Built, seed};
use crate::project::Project;
use crate::project::node::{Materialization, Node, ResourceType};
use crate::queries::blocking_compile;

/// How a node ended, in dbt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Pass,
    Warn,
    Fail,
    Error,
    Skipped,
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
        }
    }

    /// Whether what is downstream must not run.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Fail | Self::Error | Self::Skipped)
    }
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
    pub seconds: f64,
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
pub(crate) struct RunOptions {
    pub(crate) threads: usize,
    pub(crate) fail_fast: bool,
    /// `dbt build`: tests block models.
    pub(crate) tests_block: bool,
}

/// What each of the selected nodes waits for, among the selected nodes.
pub(crate) fn waits_for(
    project: &Project,
    selected: &BTreeSet<String>,
    tests_block: bool,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut waits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in selected.iter().filter(|id| project.nodes.contains_key(*id)) {
        // Through what is not selected too: the order holds for what is left.
        let ancestors = project.graph.ancestors(id, None);
        let mut needed: BTreeSet<String> = ancestors.intersection(selected).cloned().collect();
        let is_test = project.nodes[id].is_test();
        if tests_block && !is_test {
            let blocking = selected
                .iter()
                .filter_map(|test| project.nodes.get(test))
                .filter(|test| {
                    test.is_test()
                        && !test.depends_on.is_empty()
                        && test
                            .depends_on
                            .iter()
                            .all(|parent| ancestors.contains(parent))
                });
            needed.extend(blocking.map(|test| test.unique_id.clone()));
        }
        needed.retain(|other| project.nodes.contains_key(other));
        waits.insert(id.clone(), needed);
    }
    waits
}

/// Runs the selected nodes.
pub(crate) async fn run(
    compiler: &Compiler,
    pool: &PgPool,
    selected: &BTreeSet<String>,
    options: &RunOptions,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Vec<NodeResult> {
    let project = compiler.project.clone();
    let mut waits = waits_for(&project, selected, options.tests_block);
    waits.retain(|id, _| project.nodes[id].materialization != Materialization::Ephemeral);
    let ids: BTreeSet<String> = waits.keys().cloned().collect();
    for needed in waits.values_mut() {
        needed.retain(|id| ids.contains(id));
    }
    let rank: HashMap<String, usize> = project
        .graph
        .order()
        .into_iter()
        .enumerate()
        .map(|(rank, id)| (id, rank))
        .collect();
    let total = waits.len();
    let mut results: Vec<NodeResult> = Vec::with_capacity(total);
    let mut ended: HashMap<String, Status> = HashMap::new();
    let mut running: JoinSet<(String, usize, NodeResult)> = JoinSet::new();
    let mut started = 0;
    let mut halted = false;
    loop {
        let mut ready: Vec<String> = waits
            .iter()
            .filter(|(_, needed)| needed.iter().all(|id| ended.contains_key(id)))
            .map(|(id, _)| id.clone())
            .collect();
        ready.sort_by_key(|id| rank.get(id).copied().unwrap_or(usize::MAX));
        let mut skipped_any = false;
        for id in ready {
            let blocked = halted || waits[&id].iter().any(|needed| ended[needed].blocks());
            if !blocked && running.len() >= options.threads.max(1) {
                continue;
            }
            waits.remove(&id);
            started += 1;
            let node = &project.nodes[&id];
            if blocked {
                let result = skipped(node);
                progress(Progress::Done {
                    index: started,
                    total,
                    node,
                    result: &result,
                });
                ended.insert(id, Status::Skipped);
                results.push(result);
                skipped_any = true;
                continue;
            }
            progress(Progress::Start {
                index: started,
                total,
                node,
            });
            let (compiler, pool, index) = (compiler.clone(), pool.clone(), started);
            running.spawn(async move {
                let result = run_one(&compiler, &pool, &id).await;
                (id, index, result)
            });
        }
        if skipped_any {
            continue;
        }
        let Some(joined) = running.join_next().await else {
            break;
        };
        let (id, index, result) = match joined {
            Ok(done) => done,
            // A panic in a node is a bug; resume it where it can be seen.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        progress(Progress::Done {
            index,
            total,
            node: &project.nodes[&id],
            result: &result,
        });
        halted |= options.fail_fast && result.status.blocks();
        ended.insert(id, result.status);
        results.push(result);
    }
    results
}

/// A result for a node that did not run.
pub(crate) fn skipped(node: &Node) -> NodeResult {
    NodeResult {
        unique_id: node.unique_id.clone(),
        name: node.name.clone(),
        status: Status::Skipped,
        message: "Skipping due to fail in upstream".to_owned(),
        failures: None,
        rows: None,
        compiled: None,
        seconds: 0.0,
        transient: false,
    }
}

async fn run_one(compiler: &Compiler, pool: &PgPool, id: &str) -> NodeResult {
    let begin = Instant::now();
    let node = &compiler.project.nodes[id];
    let mut result = skipped(node);
    match execute_node(compiler, pool, node, &mut result.compiled).await {
        Ok(Outcome::Built(built)) => {
            result.status = Status::Success;
            result.message = built.message;
            result.rows = built.rows;
        }
        Ok(Outcome::Judged(judged)) => record_verdict(&mut result, judged),
        Err(failure) => {
            result.status = Status::Error;
            result.transient = failure.transient;
            result.message = failure.message;
        }
    }
    result.seconds = seconds(begin.elapsed());
    result
}

/// Writes what a test found into a result.
pub(crate) fn record_verdict(result: &mut NodeResult, judged: data_tests::Judged) {
    result.failures = Some(judged.failures);
    let count = judged.failures;
    let plural = if count == 1 { "result" } else { "results" };
    (result.status, result.message) = match judged.verdict {
        Verdict::Pass => (Status::Pass, String::new()),
        Verdict::Warn => (
            Status::Warn,
            format!("Got {count} {plural}, configured to warn if != 0"),
        ),
        Verdict::Fail => (
            Status::Fail,
            format!("Got {count} {plural}, configured to fail if != 0"),
        ),
    };
}

pub(crate) fn seconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64()
}

enum Outcome {
    Built(Built),
    Judged(data_tests::Judged),
}

/// Why a node failed.
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) transient: bool,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self {
            transient: is_transient(&error),
            message: describe(&error),
        }
    }
}

impl From<crate::error::ProjectError> for Failure {
    fn from(error: crate::error::ProjectError) -> Self {
        Self {
            message: error.to_string(),
            transient: false,
        }
    }
}

/// Whether the same statement may succeed later: by SQLSTATE class, or a lost connection.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            let class = &code[..2.min(code.len())];
            matches!(class, "08" | "40" | "53" | "57" | "58") || code == "55P03"
        }),
        _ => false,
    }
}

/// PostgreSQL's message with its code, detail and hint.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return error.to_string();
    };
    let Some(postgres) = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() else {
        return database.to_string();
    };
    let mut text = format!("{} (SQLSTATE {})", postgres.message(), postgres.code());
    for (label, part) in [("DETAIL", postgres.detail()), ("HINT", postgres.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {label}: {part}"));
        }
    }
    text
}

async fn execute_node(
    compiler: &Compiler,
    pool: &PgPool,
    node: &Node,
    compiled_sql: &mut Option<String>,
) -> Result<Outcome, Failure> {
    let mut conn = pool.acquire().await?;
    if node.resource_type == ResourceType::Seed {
        let file = seed::read(&compiler.project.root, node).map_err(|message| Failure {
            message,
            transient: false,
        })?;
        let existing = compiler.catalog.kind(&node.relation);
        materialize::execute(&mut conn, "begin").await?;
        let built = seed::load(
            &mut conn,
            node,
            &file,
            &node.relation,
            existing,
            compiler.full_refresh,
        )
        .await;
        let end = if built.is_ok() { "commit" } else { "rollback" };
        materialize::execute(&mut conn, end).await?;
        compiler.catalog.set(&node.relation, RelationKind::Table);
        return Ok(Outcome::Built(built?));
    }
    let compiled = blocking_compile(compiler, pool, &node.unique_id).await?;
    *compiled_sql = Some(compiled.sql.clone());
    if node.is_test() {
        return Ok(Outcome::Judged(
            data_tests::run(&mut conn, node, &compiled.sql).await?,
        ));
    }
    let existing = compiler.catalog.kind(&node.relation);
    let built = materialize::build_model(&mut conn, node, &compiled, existing).await?;
    compiler
        .catalog
        .set(&node.relation, materialize::relation_kind(node));
    Ok(Outcome::Built(built))
}

/// Makes the schemas that the selected nodes are built into.
///
/// # Errors
/// Those of PostgreSQL.
pub(crate) async fn create_schemas(
    pool: &PgPool,
    project: &Project,
    selected: &BTreeSet<String>,
) -> Result<(), sqlx::Error> {
    let schemas: BTreeSet<&str> = selected
        .iter()
        .filter_map(|id| project.nodes.get(id))
        .filter(|node| node.is_relation())
        .map(|node| node.relation.schema.as_str())
        .collect();
    let mut conn = pool.acquire().await?;
    for schema in schemas {
        let sql = format!(
            "create schema if not exists {}",
            ballpoint_postgres::ident::quote(schema)
        );
        materialize::execute(&mut conn, &sql).await?;
    }
    Ok(())
}

/// Every schema that a project touches.
pub(crate) fn schemas_of(project: &Project) -> Vec<String> {
    let nodes = project.nodes.values().filter(|node| node.is_relation());
    let schemas: BTreeSet<String> = nodes
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
    let catalog = crate::catalog::Catalog::read(&mut conn, &schemas_of(project)).await?;
    Ok(Compiler {
        project: project.clone(),
        globals: project.globals.clone(),
        catalog: Arc::new(catalog),
        overrides: Arc::default(),
        queries: None,
        full_refresh,
    })
}
