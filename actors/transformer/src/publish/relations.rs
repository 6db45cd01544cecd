//! What a build does to relations: shadows, refills, the swap.

use std::sync::Arc;
use std::time::Duration;

use super::steps::Build;
use super::{PublishError, definitions, pending};
use crate::catalog::RelationKind;
use crate::compile::Hook;
use crate::materialize::{self, Built, Sender, execute, incremental, seed, suffixed};
use crate::project::node::{Node, ResourceType};
use crate::queries::{blocking_compile, post_hooks_on};
use crate::run::{Failure, NodeResult};

/// Under which a relation stands until it is swapped in.
const SHADOW_SUFFIX: &str = "__ballpoint_new";

/// How long the swap waits for a lock: well under PostgreSQL's `deadlock_timeout` of a second.
const SWAP_LOCK_WAIT: Duration = Duration::from_millis(100);

/// Pause before the second attempt; grows with each.
const SWAP_PAUSE: Duration = Duration::from_millis(5);

/// Attempts until the build is given up for now: some ten seconds.
const SWAP_ATTEMPTS_MAX: u32 = 40;

impl Build<'_> {
    /// Hooks of a node. All of a build is one transaction: what asks to run outside of it runs when
    /// it is committed.
    pub(super) async fn hooks(&mut self, node: &Node, hooks: &[Hook]) -> Result<(), Failure> {
        for hook in hooks {
            match hook.transaction {
                true => {
                    execute(&mut self.conn, &hook.sql).await?;
                }
                false => {
                    let shadow = self.compiler.relation_of(node).to_string();
                    let hook = hook.sql.replace(&shadow, &node.relation.to_string());
                    self.after_commit.push(hook);
                }
            }
        }
        Ok(())
    }

    /// Hooks behind a node, rendered where what it built can be seen.
    pub(super) async fn post_hooks(&mut self, node: &Node) -> Result<(), Failure> {
        let hooks = post_hooks_on(&mut self.conn, &self.compiler, node).await?;
        self.hooks(node, &hooks).await
    }

    pub(super) async fn rebuild(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<Built, Failure> {
        let shadow = suffixed(&node.relation, SHADOW_SUFFIX);
        self.overrides
            .insert(node.unique_id.clone(), shadow.clone());
        self.compiler.overrides = Arc::new(self.overrides.clone());
        let kind = materialize::relation_kind(node);
        let built = if node.resource_type == ResourceType::Seed {
            let file = seed::read(&self.project.root, node).map_err(Failure::lasting)?;
            let comment = self.compiler.comment(Some(node))?;
            let mut sender = Sender::new(&mut self.conn, &comment);
            seed::load(&mut sender, node, &file, &shadow, None, true).await?
        } else {
            let compiled = blocking_compile(&self.compiler, &self.pool, &node.unique_id).await?;
            result.compiled = Some(compiled.sql.clone());
            self.hooks(node, &compiled.pre_hooks).await?;
            let mut sender = Sender::new(&mut self.conn, &compiled.comment);
            if node.is_contracted() {
                materialize::check_contract(&mut sender, node, &compiled.sql).await?;
            }
            let mut sql = materialize::create(node, kind, &shadow, &compiled.sql);
            if kind != RelationKind::View {
                sql.push_str(&materialize::create_indexes(node, &shadow));
                sql.push_str(&format!("analyze {shadow};"));
            }
            let rows = sender.run(&sql).await.map_err(|error| {
                let before = sql.split(&compiled.sql).next().unwrap_or_default();
                error.pointing_at(node, &compiled.sql, before)
            })?;
            let log = &self.compiler.globals.log;
            materialize::finish(&mut sender, node, &shadow, true, log).await?;
            self.post_hooks(node).await?;
            materialize::created(kind, rows)
        };
        self.rebuilt.push(node.unique_id.clone());
        Ok(built)
    }

    /// Replaces the rows of a table by those of its query; `None` when its columns changed.
    pub(super) async fn refill(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<Option<Built>, Failure> {
        let compiled = blocking_compile(&self.compiler, &self.pool, &node.unique_id).await?;
        result.compiled = Some(compiled.sql.clone());
        let target = &node.relation;
        let fresh = "pg_temp.\"__ballpoint_fresh\"";
        let create = format!(
            "create temporary table \"__ballpoint_fresh\" on commit drop as (\n{}\n);",
            compiled.sql
        );
        self.hooks(node, &compiled.pre_hooks).await?;
        execute(&mut self.conn, &create).await?;
        let now = incremental::columns_of(&mut self.conn, fresh).await?;
        let before = incremental::columns_of(&mut self.conn, &target.in_schema()).await?;
        if now != before {
            execute(&mut self.conn, &format!("drop table {fresh}")).await?;
            return Ok(None);
        }
        let names: Vec<String> = now.into_iter().map(|(name, _)| name).collect();
        let columns = incremental::quoted_list(&names);
        execute(&mut self.conn, &format!("delete from {target}")).await?;
        let insert = format!("insert into {target} ({columns}) select {columns} from {fresh}");
        let rows = execute(&mut self.conn, &insert).await?;
        execute(&mut self.conn, &format!("drop table {fresh}")).await?;
        self.post_hooks(node).await?;
        Ok(Some(Built {
            message: format!("SELECT {rows}"),
            rows: Some(rows),
        }))
    }

    /// Puts every shadow in its place. A reader of several relations takes their locks in an order
    /// of its own: rather than wait for it and deadlock, the swap lets go of its locks after a
    /// moment and tries again, so that it is never the reader who fails.
    pub(super) async fn swap(&mut self) -> Result<(), PublishError> {
        if self.rebuilt.is_empty() {
            return Ok(());
        }
        let sql = self.swap_statements();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match execute(&mut self.conn, &sql).await {
                Ok(_) => return Ok(()),
                Err(error) if attempt < SWAP_ATTEMPTS_MAX && is_lock_conflict(&error) => {
                    execute(&mut self.conn, "rollback to savepoint swap").await?;
                    tokio::time::sleep(SWAP_PAUSE * attempt).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn swap_statements(&self) -> String {
        let mut sql = format!(
            "savepoint swap; set local lock_timeout = '{}ms';\n",
            SWAP_LOCK_WAIT.as_millis()
        );
        // Dependents first, so that nothing but strangers' views falls with what they stand on.
        for id in self.rebuilt.iter().rev() {
            let relation = &self.project.nodes[id].relation;
            if let Some(kind) = self.compiler.catalog.kind(relation) {
                sql.push_str(&format!(
                    "drop {} if exists {relation} cascade;\n",
                    kind.name()
                ));
            }
        }
        for id in &self.rebuilt {
            let shadow = &self.overrides[id];
            let identifier = &self.project.nodes[id].relation.identifier;
            sql.push_str(&materialize::rename(shadow, identifier));
        }
        sql
    }

    pub(super) async fn record(&mut self) -> Result<(), PublishError> {
        let built: Vec<(String, String, String)> = self
            .results
            .iter()
            .filter_map(|result| self.project.nodes.get(&result.unique_id))
            .filter(|node| node.is_relation())
            .filter_map(|node| {
                let digest = self.digests.get(&node.unique_id)?.clone();
                Some((node.unique_id.clone(), digest, node.relation.to_string()))
            })
            .collect();
        definitions::record(&mut self.conn, &built).await?;
        pending::clear(&mut self.conn).await?;
        Ok(())
    }
}

/// A lock that could not be had in time, or a deadlock.
fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(|database| database.code());
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
