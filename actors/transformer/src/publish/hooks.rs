//! What a build renders and runs around relations: hooks of nodes, hooks of the run.

use std::sync::Arc;

use minijinja::value::Value;

use super::relations::SHADOW_SUFFIX;
use super::steps::Build;
use super::{FailedNode, PublishError};
use crate::compile::{Compiled, Hook};
use crate::hook_names;
use crate::materialize::execute;
use crate::project::node::Node;
use crate::queries::{Within, compile_on, post_hooks_on, run_hook_on};
use crate::run::{Failure, Status, skipped};
use crate::sql_text::{reworded_literals, within_a_transaction};

impl Build<'_> {
    /// Compiles a node where everything can be seen that the build has made. What is built under a
    /// shadow name says of itself, in texts, how it will be called.
    pub(super) async fn compile(&mut self, node: &Node) -> Result<Compiled, Failure> {
        let rendered = compile_on(&mut self.conn, Within::Build, &self.compiler, node).await?;
        self.is_marked |= rendered.leaves_marks;
        let mut compiled = rendered.what;
        compiled.sql = self.told(&compiled.sql);
        Ok(compiled)
    }

    /// A statement whose literals name what it is about as readers will.
    fn told(&self, sql: &str) -> String {
        reworded_literals(sql, SHADOW_SUFFIX, &|text| self.published(text)).into_owned()
    }

    /// A text with the names that will hold instead of the shadows'.
    fn published(&self, text: &str) -> String {
        let mut shadows: Vec<(&str, &str)> = self
            .overrides
            .iter()
            .map(|(id, shadow)| {
                let name = &self.project.nodes[id].relation.identifier;
                (shadow.identifier.as_str(), name.as_str())
            })
            .collect();
        // A name may end as another one does.
        shadows.sort_by_key(|(shadow, _)| std::cmp::Reverse(shadow.len()));
        let mut text = text.to_owned();
        for (shadow, name) in shadows {
            text = text.replace(shadow, name);
        }
        text
    }

    /// Hooks of a node. All of a build is one transaction: what asks to run outside of it runs when
    /// it is committed, under the names that hold then.
    pub(super) async fn hooks(&mut self, hooks: &[Hook]) -> Result<(), Failure> {
        self.is_marked |= !hooks.is_empty();
        for hook in hooks {
            if hook.transaction {
                self.run_hook(&hook.sql).await?;
                continue;
            }
            self.after_commit.push(self.published(&hook.sql));
        }
        Ok(())
    }

    async fn run_hook(&mut self, sql: &str) -> Result<(), Failure> {
        let sql = self.told(sql);
        let in_the_hook = |mut failure: Failure| {
            failure.message = format!("{}\n  in the hook: {sql}", failure.message);
            failure
        };
        let kept = within_a_transaction(&sql)
            .map_err(Failure::lasting)
            .map_err(in_the_hook)?;
        if !kept.trim().is_empty() {
            let done = execute(&mut self.conn, &kept).await;
            done.map_err(|error| in_the_hook(error.into()))?;
        }
        Ok(())
    }

    /// Hooks behind a node, rendered where what it built can be seen.
    pub(super) async fn post_hooks(&mut self, node: &Node) -> Result<(), Failure> {
        self.is_marked |= node.has_hooks("post-hook");
        let hooks = post_hooks_on(&mut self.conn, Within::Build, &self.compiler, node).await?;
        self.hooks(&hooks).await
    }

    /// `on-run-start`, before the first node that is due.
    pub(super) async fn run_start(&mut self) -> Result<bool, PublishError> {
        let project = Arc::clone(&self.project);
        self.hooks_of_the_run(&project.on_run_start, &[]).await
    }

    /// `on-run-end`, while what was built stands under its shadow names still: they may take their
    /// time, and readers wait for the swap alone.
    pub(super) async fn run_end(&mut self) -> Result<bool, PublishError> {
        let project = Arc::clone(&self.project);
        if project.on_run_end.is_empty() {
            return Ok(true);
        }
        let names = hook_names::at_the_end(&project, &self.results);
        self.hooks_of_the_run(&project.on_run_end, &names).await
    }

    /// Runs hooks one after the other; false, and the build fails, if one of them does.
    async fn hooks_of_the_run(
        &mut self,
        hooks: &[Node],
        names: &[(String, Value)],
    ) -> Result<bool, PublishError> {
        self.is_marked |= !hooks.is_empty();
        for hook in hooks {
            if let Err(failure) = self.hook_of_the_run(hook, names.to_vec()).await {
                self.failed
                    .push(FailedNode::of(hook, failure.message.clone()));
                let mut result = skipped(hook);
                result.status = Status::Error;
                result.transient = failure.transient;
                result.message = failure.message;
                self.results.push(result);
                return Ok(false);
            }
            execute(&mut self.conn, "release savepoint node; savepoint node").await?;
        }
        Ok(true)
    }

    async fn hook_of_the_run(
        &mut self,
        hook: &Node,
        names: Vec<(String, Value)>,
    ) -> Result<(), Failure> {
        let within = Within::Build;
        let sql = run_hook_on(&mut self.conn, within, &self.compiler, hook, names).await?;
        self.run_hook(&sql).await
    }
}
