//! The tests of a build: judged before the commit, in as few round trips as they can be.

use std::time::Instant;

use super::steps::Build;
use super::{FailedNode, PublishError};
use crate::data_tests::{self, Judged, Together};
use crate::materialize::execute;
use crate::project::node::Node;
use crate::run::{Failure, NodeResult, Status, describe, record_verdict, seconds, skipped};

/// How many of the rows that a test found are reported.
const SAMPLE_ROWS_MAX: u32 = 3;

impl Build<'_> {
    /// Judges tests in one query; `None` if one of them cannot be compiled or run. Asked one by one,
    /// each then tells what is wrong with it.
    pub(super) async fn tests_together(
        &mut self,
        nodes: &[&Node],
    ) -> Result<Option<Vec<NodeResult>>, PublishError> {
        let begin = Instant::now();
        let Ok(together) = self.compiled_together(nodes).await else {
            execute(&mut self.conn, "rollback to savepoint node").await?;
            return Ok(None);
        };
        let Ok(judged) = together.judge(&mut self.conn).await else {
            execute(&mut self.conn, "rollback to savepoint node").await?;
            return Ok(None);
        };
        let share = seconds(begin.elapsed()) / nodes.len() as f64;
        let mut results = Vec::with_capacity(nodes.len());
        for ((node, compiled), judged) in together.tests.into_iter().zip(judged) {
            let mut result = skipped(node);
            self.judge(node, compiled.sql, judged, &mut result).await?;
            result.seconds = share;
            results.push(result);
        }
        Ok(Some(results))
    }

    async fn compiled_together<'n>(&mut self, nodes: &[&'n Node]) -> Result<Together<'n>, Failure> {
        let mut tests = Vec::with_capacity(nodes.len());
        for node in nodes {
            let compiled = self.compile(node).await?;
            tests.push((*node, compiled));
        }
        Together::of(&self.compiler, tests)
    }

    /// Judges one test.
    pub(super) async fn test(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<(), Failure> {
        let compiled = self.compile(node).await?;
        let judged = data_tests::run(&mut self.conn, node, &compiled).await?;
        Ok(self.judge(node, compiled.sql, judged, result).await?)
    }

    /// Notes a verdict, and a few of the rows that a failed test found.
    async fn judge(
        &mut self,
        node: &Node,
        sql: String,
        judged: Judged,
        result: &mut NodeResult,
    ) -> Result<(), sqlx::Error> {
        record_verdict(result, node, judged);
        if result.status == Status::Fail {
            let rows = data_tests::sample(&mut self.conn, &sql, SAMPLE_ROWS_MAX).await;
            let sample = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    // A select that cannot be shown as JSON has failed all the same.
                    execute(&mut self.conn, "rollback to savepoint node").await?;
                    vec![describe(&error)]
                }
            };
            self.failed.push(FailedNode {
                failures: result.failures,
                sample,
                ..FailedNode::of(node, result.message.clone())
            });
        }
        result.compiled = Some(sql);
        Ok(())
    }
}
