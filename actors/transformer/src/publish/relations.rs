//! What a build does to relations: shadows, merges, refills.

use std::sync::Arc;

use ballpoint_postgres::dependents;

use super::steps::Build;
use crate::catalog::RelationKind;
use crate::compile::Compiled;
use crate::jinja::relation::Relation;
use crate::materialize::{self, Built, Sender, execute, incremental, seed, suffixed};
use crate::project::node::{Materialization, Node, ResourceType};
use crate::run::{Failure, NodeResult};

/// Under which a relation stands until it is swapped in.
pub(super) const SHADOW_SUFFIX: &str = "__ballpoint_new";

impl Build<'_> {
    /// From here on the node is read, and changed, under its shadow name.
    async fn in_shadow(&mut self, node: &Node) -> Result<Relation, Failure> {
        let shadow = suffixed(&node.relation, SHADOW_SUFFIX);
        if let Some(left) = self.compiler.catalog.kind(&shadow) {
            // Of something that was committed and should not have been.
            let drop = materialize::drop_if_exists(left, &shadow);
            execute(&mut self.conn, &drop).await?;
        }
        self.overrides
            .insert(node.unique_id.clone(), shadow.clone());
        self.compiler.overrides = Arc::new(self.overrides.clone());
        Ok(shadow)
    }

    /// A relation stands under its shadow name, and is swapped in at the end.
    fn stands(&mut self, node: &Node, shadow: &Relation) {
        let kind = materialize::relation_kind(node);
        self.compiler.catalog.set(shadow, kind);
        self.rebuilt.push(node.unique_id.clone());
    }

    pub(super) async fn rebuild(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<Built, Failure> {
        let shadow = self.in_shadow(node).await?;
        let mut compiled = self.compile(node).await?;
        for hook in &mut compiled.pre_hooks {
            // Nothing stands under the shadow name yet: they mean what readers see.
            let (name, live) = (&shadow.identifier, &node.relation.identifier);
            hook.sql = hook.sql.replace(name.as_str(), live);
        }
        self.hooks(&compiled.pre_hooks).await?;
        let built = match node.resource_type {
            ResourceType::Seed => {
                let file = seed::read(&self.project.root, node).map_err(Failure::lasting)?;
                let mut sender = Sender::new(&mut self.conn, &compiled.comment);
                seed::load(&mut sender, node, &file, &shadow, None, true).await?
            }
            _ => {
                result.compiled = Some(compiled.sql.clone());
                self.create(node, &shadow, &compiled).await?
            }
        };
        let mut sender = Sender::new(&mut self.conn, &compiled.comment);
        let log = &self.compiler.globals.log;
        materialize::finish(&mut sender, node, &shadow, true, log).await?;
        self.post_hooks(node).await?;
        self.stands(node, &shadow);
        Ok(built)
    }

    async fn create(
        &mut self,
        node: &Node,
        shadow: &Relation,
        compiled: &Compiled,
    ) -> Result<Built, Failure> {
        let kind = materialize::relation_kind(node);
        let mut sender = Sender::new(&mut self.conn, &compiled.comment);
        if node.is_contracted() {
            materialize::check_contract(&mut sender, node, &compiled.sql).await?;
        }
        let mut sql = materialize::create(node, kind, shadow, &compiled.sql);
        if kind != RelationKind::View {
            sql.push_str(&materialize::create_indexes(node, shadow));
            sql.push_str(&format!("analyze {shadow};"));
        }
        let rows = sender.run(&sql).await.map_err(|error| {
            let before = sql.split(&compiled.sql).next().unwrap_or_default();
            error.pointing_at(node, &compiled.sql, before)
        })?;
        Ok(materialize::created(kind, rows))
    }

    /// Adds to what is there: new rows of an incremental model, new versions of a snapshot.
    pub(super) async fn merge(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<Built, Failure> {
        let compiled = self.compile(node).await?;
        result.compiled = Some(compiled.sql.clone());
        self.hooks(&compiled.pre_hooks).await?;
        let mut sender = Sender::new(&mut self.conn, &compiled.comment);
        if node.is_contracted() {
            materialize::check_contract(&mut sender, node, &compiled.sql).await?;
        }
        let built = match node.materialization {
            Materialization::Snapshot => self.snapshot(node, &compiled).await?,
            _ => {
                let live = &node.relation;
                let staged = incremental::stage(&mut sender, node, live, &compiled.sql).await?;
                let target = match staged.alters() {
                    true => self.copy(node).await?,
                    false => live.clone(),
                };
                let mut sender = Sender::new(&mut self.conn, &compiled.comment);
                incremental::merge_staged(&mut sender, node, &target, staged).await?
            }
        };
        let stands_at = self.compiler.relation_of(node);
        let mut sender = Sender::new(&mut self.conn, &compiled.comment);
        let log = &self.compiler.globals.log;
        materialize::finish(&mut sender, node, &stands_at, false, log).await?;
        self.post_hooks(node).await?;
        Ok(built)
    }

    async fn snapshot(&mut self, node: &Node, compiled: &Compiled) -> Result<Built, Failure> {
        let existing = self.compiler.catalog.kind(&node.relation);
        let mut target = node.clone();
        if existing.is_some() {
            let live = node.relation.in_schema();
            let known = incremental::columns_of(&mut self.conn, &live).await?;
            let given = incremental::columns_of_query(&mut self.conn, &compiled.sql).await?;
            if incremental::outgrows(&known, &given) {
                target.relation = self.copy(node).await?;
            }
        }
        let mut sender = Sender::new(&mut self.conn, &compiled.comment);
        materialize::take_snapshot(&mut sender, &target, &compiled.sql, existing).await
    }

    /// Copies a live table under its shadow name, with everything that it has, to be altered there:
    /// the lock of an `alter table` would keep readers out of the live one until the commit.
    async fn copy(&mut self, node: &Node) -> Result<Relation, Failure> {
        let live = &node.relation;
        let (oid, unlogged, owner): (i64, bool, Option<String>) = sqlx::query_as(
            "select oid::int8, relpersistence = 'u', \
             case when relowner <> current_user::regrole then pg_get_userbyid(relowner)::text end \
             from pg_class where oid = $1::regclass",
        )
        .persistent(false)
        .bind(live.in_schema())
        .fetch_one(&mut *self.conn)
        .await?;
        let shadow = self.in_shadow(node).await?;
        let unlogged = if unlogged { "unlogged " } else { "" };
        let copy = format!(
            "create {unlogged}table {shadow} (like {live} including all);
             insert into {shadow} select * from {live}; analyze {shadow};"
        );
        execute(&mut self.conn, &copy).await?;
        let name = shadow.to_string();
        let rights = dependents::rights(&mut self.conn, oid, "table", &name, owner).await?;
        execute(&mut self.conn, &rights.join(";\n")).await?;
        self.stands(node, &shadow);
        Ok(shadow)
    }

    /// Replaces the rows of a table by those of its query; `None`, with nothing done, when its columns
    /// changed.
    pub(super) async fn refill(
        &mut self,
        node: &Node,
        result: &mut NodeResult,
    ) -> Result<Option<Built>, Failure> {
        let waiting_hooks = self.after_commit.len();
        let compiled = self.compile(node).await?;
        result.compiled = Some(compiled.sql.clone());
        let target = &node.relation;
        let fresh = "pg_temp.\"__ballpoint_fresh\"";
        let create = format!(
            "create temporary table \"__ballpoint_fresh\" on commit drop as (\n{}\n);",
            compiled.sql
        );
        self.hooks(&compiled.pre_hooks).await?;
        execute(&mut self.conn, &create).await?;
        let now = incremental::columns_of(&mut self.conn, fresh).await?;
        let before = incremental::columns_of(&mut self.conn, &target.in_schema()).await?;
        if now != before {
            // Its hooks run again, with what is built instead.
            execute(&mut self.conn, "rollback to savepoint node").await?;
            self.after_commit.truncate(waiting_hooks);
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
}
