//! One model, seed or snapshot, with its hooks, as `dbt run` builds it.

use super::{
    Built, Sender, contract, create, create_as, create_indexes, created, drop_if_exists, finish,
    incremental, materialized_view, relation_kind, seed, snapshot, suffixed, swap,
};
use crate::catalog::RelationKind;
use crate::compile::{Compiled, Compiler, Hook};
use crate::project::config;
use crate::project::node::{Materialization, Node, ResourceType};
use crate::queries::{Within, post_hooks_on};
use crate::run::Failure;

/// PostgreSQL's `invalid_table_definition`: a view cannot be replaced by one with other columns.
const OTHER_COLUMNS: &str = "42P16";

/// A node that is about to be built.
pub(crate) struct ModelBuild<'a> {
    pub(crate) node: &'a Node,
    /// Compiled but for its post-hooks.
    pub(crate) compiled: &'a Compiled,
    pub(crate) compiler: &'a Compiler,
    /// What stands at the node's relation.
    pub(crate) existing: Option<RelationKind>,
}

/// The statement that makes a view, in the place of what is there.
pub(crate) fn create_view(node: &Node, sql: &str, existing: Option<RelationKind>) -> String {
    let relation = &node.relation;
    match existing {
        None => create_as(RelationKind::View, relation, sql),
        // What stands on it stays, and nobody sees it missing.
        Some(RelationKind::View) => {
            format!("create or replace view {relation} as (\n{sql}\n);\n")
        }
        Some(kind) => {
            let mut statement = drop_if_exists(kind, relation);
            statement.push_str(&create_as(RelationKind::View, relation, sql));
            statement
        }
    }
}

impl ModelBuild<'_> {
    /// Builds it; and what was sent, for `target/run`. After a failure the transaction may be open.
    pub(crate) async fn run(
        &self,
        conn: &mut sqlx::PgConnection,
    ) -> (Result<Built, Failure>, String) {
        let mut sender = Sender::new(conn, &self.compiled.comment);
        let built = match (incremental::Strategy::of(self.node), self.is_plain()) {
            (Err(failure), _) => Err(failure),
            (Ok(_), true) => self.in_one_message(&mut sender).await,
            (Ok(_), false) => self.step_by_step(&mut sender).await,
        };
        (built, sender.sent)
    }

    /// Whether there is nothing to do but the statements that make the relation.
    fn is_plain(&self) -> bool {
        let Compiled {
            pre_hooks,
            incremental,
            ..
        } = self.compiled;
        matches!(
            self.node.materialization,
            Materialization::View | Materialization::Table | Materialization::Incremental
        ) && self.node.resource_type == ResourceType::Model
            && !incremental
            && pre_hooks.is_empty()
            && !self.node.has_hooks("post-hook")
            && !self.node.is_contracted()
            && !finish::is_asked_for(self.node)
    }

    /// One message is one transaction and one round trip.
    async fn in_one_message(&self, sender: &mut Sender<'_>) -> Result<Built, Failure> {
        let kind = relation_kind(self.node);
        let plain_view =
            kind == RelationKind::View && config::text(&self.node.config, "sql_header").is_none();
        if !plain_view {
            let rows = self.send(sender, &self.replacing()).await?;
            return Ok(created(kind, rows));
        }
        let statement = create_view(self.node, &self.compiled.sql, self.existing);
        match self.send(sender, &statement).await {
            Err(failure) if failure.code.as_deref() == Some(OTHER_COLUMNS) => {
                self.send(sender, &self.replacing()).await?;
            }
            sent => {
                sent?;
            }
        }
        Ok(created(kind, 0))
    }

    /// Sends statements with the compiled query in them.
    async fn send(&self, sender: &mut Sender<'_>, statements: &str) -> Result<u64, Failure> {
        let sql = &self.compiled.sql;
        sender.run(statements).await.map_err(|error| {
            let before = match sql.is_empty() {
                true => "",
                false => statements.split(sql.as_str()).next().unwrap_or_default(),
            };
            error.pointing_at(self.node, sql, before)
        })
    }

    /// The statements that put a new relation in the place of what is there.
    fn replacing(&self) -> String {
        let (node, kind) = (self.node, relation_kind(self.node));
        let relation = &node.relation;
        let finished = |at| match kind {
            RelationKind::View => String::new(),
            _ => create_indexes(node, at),
        };
        match self.existing {
            None => create(node, kind, relation, &self.compiled.sql) + &finished(relation),
            Some(existing) if kind == RelationKind::View => {
                drop_if_exists(existing, relation)
                    + &create(node, kind, relation, &self.compiled.sql)
            }
            Some(existing) => {
                let fresh = suffixed(relation, "__dbt_tmp");
                drop_if_exists(kind, &fresh)
                    + &create(node, kind, &fresh, &self.compiled.sql)
                    + &finished(&fresh)
                    + &swap(relation, existing, &fresh)
            }
        }
    }

    async fn step_by_step(&self, sender: &mut Sender<'_>) -> Result<Built, Failure> {
        let pre = &self.compiled.pre_hooks;
        self.hooks(sender, pre, false).await?;
        sender.run("begin").await?;
        self.hooks(sender, pre, true).await?;
        let built = self.build(sender).await?;
        let replaced = self.existing.is_none() || !self.keeps_the_relation();
        let log = &self.compiler.globals.log;
        finish(sender, self.node, &self.node.relation, replaced, log).await?;
        let session = Within::Session;
        let post = &post_hooks_on(sender.conn, session, self.compiler, self.node).await?;
        self.hooks(sender, post, true).await?;
        sender.run("commit").await?;
        self.hooks(sender, post, false).await?;
        Ok(built)
    }

    /// Whether the relation that is there stays, with what was granted on it.
    fn keeps_the_relation(&self) -> bool {
        match self.node.materialization {
            Materialization::Incremental => self.compiled.incremental,
            Materialization::Snapshot => true,
            Materialization::Seed | Materialization::MaterializedView => {
                !self.compiler.full_refresh
            }
            _ => false,
        }
    }

    async fn hooks(
        &self,
        sender: &mut Sender<'_>,
        hooks: &[Hook],
        transaction: bool,
    ) -> Result<(), Failure> {
        for hook in hooks.iter().filter(|hook| hook.transaction == transaction) {
            sender.run(&hook.sql).await.map_err(|mut failure| {
                failure.message = format!("{}\n  in the hook: {}", failure.message, hook.sql);
                failure
            })?;
        }
        Ok(())
    }

    async fn build(&self, sender: &mut Sender<'_>) -> Result<Built, Failure> {
        let (node, sql) = (self.node, &self.compiled.sql);
        match node.materialization {
            Materialization::Seed => {
                let mut file =
                    seed::read(&self.compiler.project.root, node).map_err(Failure::lasting)?;
                file.is_left_out = self.compiler.is_without_rows();
                let refresh = self.compiler.full_refresh;
                seed::load(sender, node, &file, &node.relation, self.existing, refresh).await
            }
            Materialization::Snapshot => snapshot::build(sender, node, sql, self.existing).await,
            Materialization::MaterializedView => {
                let full = config::flag(&node.config, "full_refresh")
                    .unwrap_or(self.compiler.full_refresh);
                materialized_view::build(sender, node, sql, self.existing, full).await
            }
            _ => {
                if node.is_contracted() {
                    contract::check(sender, node, sql).await?;
                }
                if self.compiled.incremental {
                    return incremental::merge_into(sender, node, &node.relation, sql).await;
                }
                let rows = self.send(sender, &self.replacing()).await?;
                Ok(
                    match node.is_contracted() && relation_kind(node).is_table() {
                        true => Built::rows("INSERT 0", rows),
                        false => created(relation_kind(node), rows),
                    },
                )
            }
        }
    }
}
