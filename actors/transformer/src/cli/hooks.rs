//! `on-run-start` and `on-run-end`: statements of the project around the nodes of a command.

use std::sync::Arc;
use std::time::Instant;

use sqlx::PgPool;

use super::session::Session;
use crate::compile::Compiler;
use crate::hook_names;
use crate::materialize::execute;
use crate::project::node::Node;
use crate::run::{Connections, Failure, NodeResult, Status, skipped};

/// When hooks run, in the words of their names and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Start,
    End,
}

/// What hooks need to run.
pub(super) struct Hooks<'a> {
    pub(super) session: &'a Session,
    pub(super) connections: &'a Arc<Connections>,
    pub(super) compiler: &'a Compiler,
    pub(super) pool: &'a PgPool,
}

impl Hooks<'_> {
    /// Runs the hooks one after the other, until one fails. `results` are those of the nodes so far.
    pub(super) async fn run(&self, when: When, results: &[NodeResult]) -> Vec<NodeResult> {
        let project = &self.session.project;
        let hooks = match when {
            When::Start => &project.on_run_start,
            When::End => &project.on_run_end,
        };
        let log = &self.session.log;
        let mut ended: Vec<NodeResult> = Vec::with_capacity(hooks.len());
        for (index, hook) in hooks.iter().enumerate() {
            let head = format!("{} of {}", index + 1, hooks.len());
            log.info(&format!("{head} START hook: {} [RUN]", hook.name));
            let begin = Instant::now();
            let mut result = skipped(hook);
            let done = self.one(hook, when, results, &mut result).await;
            result.seconds = begin.elapsed().as_secs_f64();
            match done {
                Ok(()) => {
                    result.status = Status::Success;
                    result.message = "OK".to_owned();
                    log.info(&format!(
                        "{head} OK hook: {} [OK in {:.2}s]",
                        hook.name, result.seconds
                    ));
                }
                Err(failure) => {
                    result.status = Status::Error;
                    result.transient = failure.transient;
                    result.message = failure.message;
                    log.always(&format!(
                        "{head} ERROR hook: {} [ERROR in {:.2}s]",
                        hook.name, result.seconds
                    ));
                }
            }
            let failed = result.status.blocks();
            ended.push(result);
            if failed {
                break;
            }
        }
        ended
    }

    async fn one(
        &self,
        hook: &Node,
        when: When,
        results: &[NodeResult],
        result: &mut NodeResult,
    ) -> Result<(), Failure> {
        let extra = match when {
            When::Start => Vec::new(),
            When::End => hook_names::at_the_end(&self.session.project, results),
        };
        // Rendering may query, so it has a thread that may wait.
        let compiler = Compiler {
            queries: Some(crate::queries::port(self.pool)),
            ..self.compiler.clone()
        };
        let rendered = hook.clone();
        let task =
            tokio::task::spawn_blocking(move || compiler.compile_hook(&rendered, extra)).await;
        let sql = match task {
            Ok(sql) => sql?,
            Err(error) => return Err(Failure::lasting(error.to_string())),
        };
        result.compiled = Some(sql.clone());
        if sql.trim().is_empty() {
            return Ok(());
        }
        let sql = self.compiler.comment(Some(hook))?.on(&sql);
        let mut held = self.connections.acquire().await?;
        let done = execute(&mut held.conn, &sql).await;
        self.connections.release(held, done.is_ok());
        done?;
        Ok(())
    }
}
