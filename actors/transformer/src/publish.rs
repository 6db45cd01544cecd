//! One transactional build: readers see all of it or nothing.
//!
//! Everything happens in one transaction on one connection, what templates ask of the database too.
//! New and redefined relations are built under shadow names and swapped at its very end; incremental
//! models are merged into, unchanged tables are refilled in place (rows only, so that readers are
//! never blocked; a table that has to be altered is copied and swapped); tests run before the commit. A failed model or a failed test of severity error rolls all of it back, so
//! that the last good numbers stay. Only what depends on changed raw tables, or whose definition
//! changed, is touched at all.

mod definitions;
mod hooks;
mod order;
mod pending;
mod relations;
mod steps;
mod swap;
mod verdicts;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use ballpoint_runtime::segment::TableName;
use serde_json::{Map, Value as Json};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgPool, Postgres};
use tokio_util::sync::CancellationToken;

use crate::error::ProjectError;
use crate::materialize::execute;
use crate::project::Project;
use crate::project::node::Node;
use crate::run::{NodeResult, Status, describe, is_transient};

/// Which raw tables hold something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Treat every source as changed.
    Everything,
    /// These; none at all leaves redefined and missing relations only.
    Tables(Vec<TableName>),
}

/// What to publish and how.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    pub changed: Changed,
    /// Rebuild everything from nothing.
    pub full_refresh: bool,
    /// Variables of this build alone, such as the business time. They are no part of a model's
    /// definition: another value rebuilds nothing.
    pub vars: Map<String, Json>,
    /// Ends the build with a rollback.
    pub cancel: CancellationToken,
}

impl PublishOptions {
    /// A build of what depends on `changed`.
    pub fn new(changed: Changed) -> Self {
        Self {
            changed,
            full_refresh: false,
            vars: Map::new(),
            cancel: CancellationToken::new(),
        }
    }
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStatus {
    /// Committed.
    Published,
    /// There was nothing to do, and nothing was done.
    Unchanged,
    /// A model or a test failed; nothing of the build can be seen.
    Failed,
}

/// A model or a test that failed.
#[derive(Clone, Debug)]
pub struct FailedNode {
    pub unique_id: String,
    /// dbt's name of it.
    pub name: String,
    /// Where it is written, within the project.
    pub file: String,
    pub message: String,
    /// How many rows a test found.
    pub failures: Option<i64>,
    /// A few of the rows that a test found, as JSON.
    pub sample: Vec<String>,
}

/// What a build did.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    pub status: BuildStatus,
    /// Relations with new data or a new definition. Empty unless published.
    pub relations: Vec<TableName>,
    pub tests_passed: u64,
    /// Names of tests of severity warn that found rows.
    pub warned: Vec<String>,
    pub failed: Vec<FailedNode>,
    /// Unique ids of what did not run because of the failures.
    pub skipped: Vec<String>,
    /// Declared sources whose table has not landed yet. What depends on them was left out.
    pub absent: Vec<TableName>,
    /// Every node that ran or was skipped, in order.
    pub results: Vec<NodeResult>,
    /// Whether each failure is of a kind that a later attempt may not meet.
    pub transient: bool,
    pub elapsed: std::time::Duration,
}

/// Failures that a reason spells out; the rest are counted.
const REASONS_MAX: usize = 3;

/// Characters of a message in a reason.
const MESSAGE_MAX: usize = 300;

impl BuildOutcome {
    /// What failed in one line: each file, and what is wrong with it.
    pub fn reason(&self) -> String {
        let shown = self.failed.iter().take(REASONS_MAX);
        let mut parts: Vec<String> = shown.map(FailedNode::in_one_line).collect();
        if let Some(more) = self.failed.len().checked_sub(REASONS_MAX + 1) {
            parts.push(format!("and {} more", more + 1));
        }
        parts.join("; ")
    }
}

impl FailedNode {
    fn of(node: &Node, message: String) -> Self {
        Self {
            unique_id: node.unique_id.clone(),
            name: node.name.clone(),
            file: node.original_file_path.clone(),
            message,
            failures: None,
            sample: Vec::new(),
        }
    }

    fn in_one_line(&self) -> String {
        let Self { file, name, .. } = self;
        if let Some(found) = self.failures {
            let rows = if found == 1 { "row fails" } else { "rows fail" };
            return format!("{file}: {found} {rows} test {name}");
        }
        let words: Vec<&str> = self.message.split_whitespace().collect();
        let message: String = words.join(" ").chars().take(MESSAGE_MAX).collect();
        match message.starts_with(file.as_str()) {
            true => message,
            false => format!("{file}: {message}"),
        }
    }
}

/// Why a build could not be carried out at all. Nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The project cannot be read or compiled.
    #[error("{0}")]
    Project(#[from] ProjectError),
    /// The warehouse failed outside of any model or test.
    #[error("publishing failed: {}", describe(.0))]
    Database(#[source] sqlx::Error),
    /// The caller cancelled the build.
    #[error("the build was cancelled")]
    Cancelled,
}

impl From<sqlx::Error> for PublishError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl PublishError {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => is_transient(error),
            Self::Project(_) => false,
            Self::Cancelled => true,
        }
    }
}

/// Builds, tests and publishes what `options` ask for.
///
/// # Errors
/// When the build could not be carried out; a model or a test that fails is an outcome.
pub async fn publish(
    project: &Arc<Project>,
    pool: &PgPool,
    options: &PublishOptions,
) -> Result<BuildOutcome, PublishError> {
    let begin = Instant::now();
    let published = publish_once(project, pool, options).await;
    match published {
        // Whoever asked has the request still, and asks again.
        Ok(_) | Err(PublishError::Cancelled) => {}
        Err(_) => {
            let sources = steps::changed_sources(project, &options.changed);
            if let Err(error) = pending::remember(pool, project, &sources).await {
                tracing::warn!(error = %describe(&error), "what a failed build was for is forgotten");
            }
        }
    }
    published.map(|outcome| BuildOutcome {
        elapsed: begin.elapsed(),
        ..outcome
    })
}

async fn publish_once(
    project: &Arc<Project>,
    pool: &PgPool,
    options: &PublishOptions,
) -> Result<BuildOutcome, PublishError> {
    let mut build = steps::Build::begin(project, pool, options).await?;
    let carried_out = tokio::select! {
        done = build.carry_out() => done,
        () = options.cancel.cancelled() => Err(PublishError::Cancelled),
    };
    let outcome = match carried_out {
        Ok(()) => build.outcome(),
        Err(error) => {
            let backend = build.backend;
            discard(build.into_connection()).await;
            if matches!(error, PublishError::Cancelled) {
                stop_on_server(pool, backend).await;
            }
            return Err(error);
        }
    };
    match outcome.status {
        BuildStatus::Published => commit(build).await?,
        BuildStatus::Unchanged => roll_back(build.into_connection()).await,
        BuildStatus::Failed => {
            let touched = build.touched();
            roll_back(build.into_connection()).await;
            pending::remember(pool, project, &touched).await?;
        }
    }
    Ok(outcome)
}

/// Lets everybody see what was built, and runs what waited for it.
async fn commit(mut build: steps::Build<'_>) -> Result<(), PublishError> {
    let hooks = std::mem::take(&mut build.after_commit);
    let is_marked = build.is_marked;
    let mut conn = build.into_connection();
    fail::fail_point!("transformer::before_commit");
    execute(&mut conn, "commit").await?;
    fail::fail_point!("transformer::after_commit");
    for hook in hooks {
        // What was published stands, whatever becomes of this.
        if let Err(error) = execute(&mut conn, &hook).await {
            tracing::warn!(hook, error = %describe(&error), "a hook after the commit failed");
        }
    }
    if is_marked {
        execute(&mut conn, COUNT_NOW).await?;
        // What hooks have set is nobody else's.
        let _ = conn.close().await;
    }
    Ok(())
}

/// What hooks and templates write no event tells of: whoever watches PostgreSQL's own counters sees it
/// at once, not some seconds later. PostgreSQL 14 has no such function.
const COUNT_NOW: &str = "do $$ begin perform pg_stat_force_next_flush(); \
                         exception when undefined_function then null; end $$";

/// Ends the transaction of a connection that is free.
async fn roll_back(mut conn: PoolConnection<Postgres>) {
    if execute(&mut conn, "rollback").await.is_err() {
        discard(conn).await;
    }
}

/// Gives up a connection that may still be in the middle of a statement: the server rolls back
/// when it closes.
async fn discard(conn: PoolConnection<Postgres>) {
    // An error here means that it is closed already.
    let _ = conn.detach().close_hard().await;
}

/// Ends what a closed connection left running: a server process does not look at its socket in the
/// middle of a statement, and would hold the publish lock until its end.
async fn stop_on_server(pool: &PgPool, backend: i32) {
    let stopped = sqlx::query("select pg_terminate_backend($1)")
        .persistent(false)
        .bind(backend)
        .execute(pool)
        .await;
    if let Err(error) = stopped {
        tracing::warn!(error = %describe(&error), "a cancelled build was not stopped on the server");
    }
}

fn blocked(results: &[NodeResult]) -> bool {
    results.iter().any(|result| result.status.blocks())
}

fn names_with(results: &[NodeResult], status: Status) -> Vec<String> {
    let found: BTreeSet<String> = results
        .iter()
        .filter(|result| result.status == status)
        .map(|result| result.unique_id.clone())
        .collect();
    found.into_iter().collect()
}
