//! What one go on one connection does: a node, the tests of a relation, a handful of views.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::PgPool;

use super::connections::{Connections, Held};
use super::failure::{Failure, is_worth_another_try};
use super::{NodeResult, RunOptions, Status, Timing, record_verdict, seconds, skipped};
use crate::catalog::RelationKind;
use crate::compile::{Compiled, Compiler};
use crate::data_tests::{self, Together};
use crate::materialize::{self, Built, ModelBuild};
use crate::project::node::{Node, ResourceType};
use crate::queries::{Within, blocking_compile, compile_on, may_query};
use crate::unit_tests;

/// How often a node is tried when something else than the node is to blame.
const ATTEMPTS_MAX: u32 = 3;

/// Pause before the second attempt; four times that before the third.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// Runs units of nodes.
pub(super) struct Runner {
    pub(super) compiler: Compiler,
    pub(super) pool: PgPool,
    pub(super) connections: Arc<Connections>,
    pub(super) options: RunOptions,
}

/// The end of a session whose transaction a template may have begun: dbt commits behind every node.
const SETTLE: &str = "set client_min_messages to error; commit";

/// A node that is ready to run.
struct Ready {
    compiled: Compiled,
    /// The connection that its template has queried.
    held: Option<Held>,
    /// Whether those queries did more than read: the session is nobody else's then.
    leaves_marks: bool,
}

/// What a node came to.
enum Outcome {
    Built(Built),
    Judged(data_tests::Judged),
    Compared(unit_tests::Compared),
}

impl Runner {
    fn now(&self) -> Timestamp {
        self.options.clock.real_now()
    }

    fn node(&self, id: &str) -> &Node {
        &self.compiler.project.nodes[id]
    }

    /// Runs one node, again if another transaction or a restart was to blame.
    pub(super) async fn one(&self, id: &str, thread: usize) -> NodeResult {
        let mut attempt = 1;
        loop {
            let mut result = skipped(self.node(id));
            result.thread = thread;
            let begin = Instant::now();
            let ended = self.attempt(id, &mut result).await;
            result.seconds = seconds(begin.elapsed());
            let Err(failure) = ended else {
                return result;
            };
            let again = attempt < ATTEMPTS_MAX
                && !self.options.cancel.is_cancelled()
                && is_worth_another_try(&failure);
            if !again {
                result.status = Status::Error;
                result.transient = failure.transient;
                result.message = failure.message;
                return result;
            }
            tracing::warn!(node = id, attempt, error = %failure.message, "a node is tried again");
            tokio::time::sleep(RETRY_PAUSE * 4_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, id: &str, result: &mut NodeResult) -> Result<(), Failure> {
        let node = self.node(id);
        let begun = self.now();
        let ready = self.ready(node).await;
        let compiled_at = self.now();
        let outcome = match ready {
            Ok(ready) => {
                result.comment.clone_from(&ready.compiled.comment);
                if node.resource_type != ResourceType::Seed {
                    result.compiled = Some(ready.compiled.sql.clone());
                }
                self.with_connection(node, ready, result).await
            }
            Err(failure) => Err(failure),
        };
        result.timing = Some(Timing {
            compile: (begun, compiled_at),
            execute: (compiled_at, self.now()),
        });
        match outcome? {
            Outcome::Built(built) => {
                result.status = Status::Success;
                result.message = built.message;
                result.rows = built.rows;
            }
            Outcome::Judged(judged) => record_verdict(result, node, judged),
            Outcome::Compared(compared) => {
                result.failures = Some(i64::from(!compared.same));
                (result.status, result.message) = match compared.same {
                    true => (Status::Pass, String::new()),
                    false => (Status::Fail, compared.difference),
                };
            }
        }
        Ok(())
    }

    async fn compile(&self, node: &Node) -> Result<Compiled, Failure> {
        match node.resource_type {
            // A unit test compiles the model that it is of; see there.
            ResourceType::UnitTest => Ok(Compiled::default()),
            _ => blocking_compile(&self.compiler, &self.pool, &node.unique_id).await,
        }
    }

    /// Compiles a node; where its template may query, on the connection that builds it, so that the
    /// node finds what its queries made and set there.
    async fn ready(&self, node: &Node) -> Result<Ready, Failure> {
        if node.resource_type == ResourceType::UnitTest
            || !may_query(&self.compiler, &node.unique_id)
        {
            return Ok(Ready {
                compiled: self.compile(node).await?,
                held: None,
                leaves_marks: false,
            });
        }
        let mut held = self.connections.acquire().await?;
        let rendered = compile_on(&mut held.conn, Within::Session, &self.compiler, node).await;
        match rendered {
            Ok(rendered) => Ok(Ready {
                compiled: rendered.what,
                held: Some(held),
                leaves_marks: rendered.leaves_marks,
            }),
            Err(failure) => {
                self.connections.release(held, false);
                Err(failure)
            }
        }
    }

    async fn with_connection(
        &self,
        node: &Node,
        ready: Ready,
        result: &mut NodeResult,
    ) -> Result<Outcome, Failure> {
        let mut held = match ready.held {
            Some(held) => held,
            None => self.connections.acquire().await?,
        };
        let compiled = &ready.compiled;
        let mut done = self.execute(&mut held.conn, node, compiled, result).await;
        if ready.leaves_marks
            && done.is_ok()
            && let Err(error) = materialize::execute(&mut held.conn, SETTLE).await
        {
            done = Err(error.into());
        }
        // A failure in the middle of a transaction leaves it open: the server ends it with the
        // connection, or here.
        let usable = match &done {
            Ok(_) => !ready.leaves_marks,
            Err(failure) if failure.lost => {
                self.connections.forget_idle();
                false
            }
            Err(_) => materialize::execute(&mut held.conn, "rollback")
                .await
                .is_ok(),
        };
        self.connections.release(held, usable);
        done
    }

    async fn execute(
        &self,
        conn: &mut sqlx::PgConnection,
        node: &Node,
        compiled: &Compiled,
        result: &mut NodeResult,
    ) -> Result<Outcome, Failure> {
        match node.resource_type {
            ResourceType::Test => {
                let store = data_tests::stores_failures(node, self.options.store_failures);
                let existing = self.compiler.catalog.kind(&node.relation);
                let judged = match store {
                    true => data_tests::run_and_store(conn, node, compiled, existing).await,
                    false => data_tests::run(conn, node, compiled).await,
                };
                result.statements = Some(data_tests::wrapped(node, &compiled.sql));
                judged.map(Outcome::Judged)
            }
            ResourceType::UnitTest => {
                let compared = unit_tests::run(conn, &self.compiler, &self.pool, node).await?;
                result.compiled = Some(compared.sql.clone());
                Ok(Outcome::Compared(compared))
            }
            _ => {
                let build = ModelBuild {
                    node,
                    compiled,
                    compiler: &self.compiler,
                    existing: self.compiler.catalog.kind(&node.relation),
                };
                let (built, statements) = build.run(conn).await;
                result.statements = Some(statements);
                let built = built?;
                self.compiler
                    .catalog
                    .set(&node.relation, materialize::relation_kind(node));
                Ok(Outcome::Built(built))
            }
        }
    }

    /// Asks the tests of one relation in one query. If that fails, one by one, so that each tells
    /// what is wrong with it.
    pub(super) async fn tests(&self, ids: &[String], thread: usize) -> Vec<NodeResult> {
        let begin = Instant::now();
        let begun = self.now();
        let nodes: Vec<&Node> = ids.iter().map(|id| self.node(id)).collect();
        // `--store-failures`: each keeps what it finds.
        let keeps = self.options.store_failures;
        let kept = |node: &&Node| data_tests::stores_failures(node, keeps);
        if nodes.iter().any(kept) {
            return self.one_by_one(ids, thread).await;
        }
        let compiled = Together::compile(&self.compiler, &self.pool, &nodes).await;
        let Ok(together) = compiled else {
            return self.one_by_one(ids, thread).await;
        };
        let compiled_at = self.now();
        let Ok(mut held) = self.connections.acquire().await else {
            return self.one_by_one(ids, thread).await;
        };
        let judged = together.judge(&mut held.conn).await;
        self.connections.release(held, judged.is_ok());
        let Ok(judged) = judged else {
            return self.one_by_one(ids, thread).await;
        };
        let share = seconds(begin.elapsed()) / ids.len() as f64;
        let timing = Timing {
            compile: (begun, compiled_at),
            execute: (compiled_at, self.now()),
        };
        let tests = together.tests.into_iter().zip(judged);
        let results = tests.map(|((node, compiled), judged)| {
            let mut result = skipped(node);
            record_verdict(&mut result, node, judged);
            result.statements = Some(data_tests::wrapped(node, &compiled.sql));
            (result.compiled, result.comment) = (Some(compiled.sql), compiled.comment);
            (result.thread, result.seconds, result.timing) = (thread, share, Some(timing));
            result
        });
        results.collect()
    }

    /// Makes views in one transaction. If that fails, one by one.
    pub(super) async fn views(&self, ids: &[String], thread: usize) -> Vec<NodeResult> {
        let begin = Instant::now();
        let begun = self.now();
        let mut made: Vec<(Compiled, String)> = Vec::with_capacity(ids.len());
        for id in ids {
            let node = self.node(id);
            let existing = self.compiler.catalog.kind(&node.relation);
            match self.compile(node).await {
                Ok(one) => {
                    let statement = materialize::create_view(node, &one.sql, existing);
                    made.push((one, statement));
                }
                Err(_) => return self.one_by_one(ids, thread).await,
            }
        }
        let compiled_at = self.now();
        // One message is one transaction.
        let statements: String = made
            .iter()
            .map(|(compiled, sql)| compiled.comment.on(sql))
            .collect();
        let Ok(mut held) = self.connections.acquire().await else {
            return self.one_by_one(ids, thread).await;
        };
        let created = materialize::execute(&mut held.conn, &statements).await;
        self.connections.release(held, created.is_ok());
        if created.is_err() {
            return self.one_by_one(ids, thread).await;
        }
        let share = seconds(begin.elapsed()) / ids.len() as f64;
        let timing = Timing {
            compile: (begun, compiled_at),
            execute: (compiled_at, self.now()),
        };
        let results = ids.iter().zip(made).map(|(id, (compiled, statement))| {
            let node = self.node(id);
            self.compiler
                .catalog
                .set(&node.relation, RelationKind::View);
            let mut result = skipped(node);
            result.status = Status::Success;
            result.message = materialize::created(RelationKind::View, 0).message;
            (result.compiled, result.comment) = (Some(compiled.sql), compiled.comment);
            result.statements = Some(statement);
            (result.thread, result.seconds, result.timing) = (thread, share, Some(timing));
            result
        });
        results.collect()
    }

    async fn one_by_one(&self, ids: &[String], thread: usize) -> Vec<NodeResult> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            if self.options.cancel.is_cancelled() {
                let mut result = skipped(self.node(id));
                result.message = super::Halt::Cancelled.reason().to_owned();
                results.push(result);
                continue;
            }
            results.push(self.one(id, thread).await);
        }
        results
    }
}
