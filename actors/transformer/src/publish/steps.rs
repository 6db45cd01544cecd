//! The steps of one transactional build, in order, on one connection.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::RAW_LOCK;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::definitions::Published;
use super::{
    BuildOutcome, BuildStatus, Changed, FailedNode, PublishError, PublishOptions, blocked,
    definitions, names_with, pending,
};
use crate::catalog::{Catalog, RelationKind};
use crate::compile::Compiler;
use crate::data_tests;
use crate::jinja::context::Globals;
use crate::jinja::relation::Relation;
use crate::materialize::{self, Built, execute};
use crate::project::Project;
use crate::project::node::{Materialization, Node};
use crate::run::{Failure, NodeResult, Status, schemas_of, skipped, waits_for};

/// Tables above this many rows are swapped instead of refilled: dead rows would cost more than a
/// lock of some milliseconds.
const REFILL_ROWS_MAX: f64 = 200_000.0;

/// What is done with a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Build under a shadow name, swap at the end.
    Rebuild,
    /// Merge new rows into the live table.
    Merge,
    /// Replace the rows of the live table.
    Refill,
    /// A view whose data changed by itself.
    Keep,
    /// Nothing that it reads changed.
    Leave,
}

/// A build under way.
pub(super) struct Build<'a> {
    pub(super) project: Arc<Project>,
    pub(super) options: &'a PublishOptions,
    pub(super) conn: PoolConnection<Postgres>,
    pub(super) compiler: Compiler,
    /// The server process that carries it out.
    pub(super) backend: i32,
    pub(super) digests: BTreeMap<String, String>,
    pub(super) published: HashMap<String, Published>,
    /// Relations that earlier builds made of nodes that the project has no more.
    pub(super) gone: HashSet<String>,
    /// Sources and nodes whose data or definition this build changes.
    pub(super) touched: HashSet<String>,
    /// Nodes that read, however far up, a raw table that no source has landed yet. They are left
    /// out: a warehouse whose sources arrive one by one is not a broken one.
    pub(super) waiting: HashSet<String>,
    /// What is swapped at the end, in dependency order.
    pub(super) rebuilt: Vec<String>,
    pub(super) overrides: HashMap<String, Relation>,
    pub(super) results: Vec<NodeResult>,
    pub(super) failed: Vec<FailedNode>,
    /// Hooks that ask to run outside of the transaction.
    pub(super) after_commit: Vec<String>,
    /// Whether hooks or templates did more than read: the session may not be as it was.
    pub(super) is_marked: bool,
}

impl<'a> Build<'a> {
    pub(super) async fn begin(
        project: &Arc<Project>,
        pool: &PgPool,
        options: &'a PublishOptions,
    ) -> Result<Self, PublishError> {
        let mut conn = pool.acquire().await?;
        fail::fail_point!("transformer::before_build");
        // JIT compiles for longer than these statements run. The lock: one build at a time, whoever
        // runs it, and no load commits during one.
        let open = format!("begin; set local jit = off; select pg_advisory_xact_lock({RAW_LOCK});");
        execute(&mut conn, &open).await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .persistent(false)
            .fetch_one(&mut *conn)
            .await?;
        let published = definitions::published(&mut conn).await?;
        let gone = published
            .iter()
            .filter(|(id, _)| !project.nodes.contains_key(*id))
            .map(|(_, was)| was.relation.clone())
            .collect();
        let mut touched = changed_sources(project, &options.changed);
        touched.extend(pending::read(&mut conn).await?);
        let catalog = Catalog::read(&mut conn, &schemas_of(project)).await?;
        let mut globals = Globals::clone(&project.globals);
        globals.vars.extend(options.vars.clone());
        let compiler = Compiler {
            project: project.clone(),
            globals: Arc::new(globals),
            catalog: Arc::new(catalog),
            overrides: Arc::default(),
            queries: None,
            full_refresh: options.full_refresh,
        };
        let absent = absent_sources(project, &compiler.catalog);
        let waiting = absent
            .iter()
            .flat_map(|source| project.graph.descendants(source, None))
            .collect();
        Ok(Self {
            digests: definitions::digests(project),
            touched,
            waiting,
            project: project.clone(),
            options,
            conn,
            compiler,
            backend,
            published,
            gone,
            rebuilt: Vec::new(),
            overrides: HashMap::new(),
            results: Vec::new(),
            failed: Vec::new(),
            after_commit: Vec::new(),
            is_marked: false,
        })
    }

    /// Sources and nodes that the build was about.
    pub(super) fn touched(&self) -> HashSet<String> {
        self.touched.clone()
    }

    pub(super) fn into_connection(self) -> PoolConnection<Postgres> {
        self.conn
    }

    /// Runs every step up to the commit, which is the caller's.
    pub(super) async fn carry_out(&mut self) -> Result<(), PublishError> {
        self.create_schemas().await?;
        execute(&mut self.conn, "savepoint node").await?;
        let everything: BTreeSet<String> = self.project.nodes.keys().cloned().collect();
        let waits = waits_for(&self.project, &everything, true);
        let mut ended: HashMap<String, Status> = HashMap::new();
        let project = self.project.clone();
        let order = self.order(&waits);
        let is_test = |id: &String| project.nodes[id].is_test();
        let mut is_begun = false;
        for group in order.chunk_by(|one, next| is_test(one) && is_test(next)) {
            let mut due: Vec<&Node> = Vec::new();
            for id in group {
                let node = &project.nodes[id];
                if self.is_left_out(node) || !self.is_due(node) {
                    continue;
                }
                let waits_in_vain = waits[id]
                    .iter()
                    .any(|other| ended.get(other).is_some_and(|status| status.blocks()));
                if waits_in_vain || self.stands_on_wrong_data(node) {
                    self.results.push(skipped(node));
                    self.touched.insert(id.clone());
                    ended.insert(id.clone(), Status::Skipped);
                } else {
                    due.push(node);
                }
            }
            if !is_begun && !due.is_empty() {
                is_begun = true;
                if !self.run_start().await? {
                    return Ok(());
                }
            }
            for result in self.group(&due).await? {
                ended.insert(result.unique_id.clone(), result.status);
                self.results.push(result);
                fail::fail_point!("transformer::mid_transaction");
            }
        }
        if self.results.is_empty() || blocked(&self.results) {
            return Ok(());
        }
        if self.run_end().await? && self.swap().await? {
            self.record().await?;
        }
        Ok(())
    }

    /// Whether a build has nothing to do with a node. An ephemeral model is part of its readers, and
    /// hands on that something below it changed.
    fn is_left_out(&mut self, node: &Node) -> bool {
        if self.waiting.contains(&node.unique_id) {
            return true;
        }
        match node.materialization {
            Materialization::Ephemeral => {
                self.touch_if_a_parent_is(node);
                true
            }
            // They judge the code and not the data: `dbt test` and `dbt build` run them.
            Materialization::UnitTest | Materialization::Nothing => true,
            _ => false,
        }
    }

    /// Does what is due: one model, or tests with nothing between them.
    async fn group(&mut self, due: &[&Node]) -> Result<Vec<NodeResult>, PublishError> {
        let mut results = Vec::with_capacity(due.len());
        for together in due.chunks(data_tests::TOGETHER_MAX) {
            if together.len() > 1
                && let Some(judged) = self.tests_together(together).await?
            {
                results.extend(judged);
                continue;
            }
            for node in together {
                results.push(self.step(node).await?);
            }
        }
        Ok(results)
    }

    /// Whether a test of something below this model has failed. Wider than dbt's rule for the order,
    /// which leaves out tests that compare with a relation elsewhere in the graph.
    fn stands_on_wrong_data(&self, node: &Node) -> bool {
        let wrong = self.failed.iter().filter_map(|failed| {
            self.project
                .nodes
                .get(&failed.unique_id)?
                .attached_node
                .as_deref()
        });
        let wrong: Vec<&str> = wrong.collect();
        if node.is_test() || wrong.is_empty() {
            return false;
        }
        let below = self.project.graph.ancestors(&node.unique_id, None);
        wrong.iter().any(|id| below.contains(*id))
    }

    async fn create_schemas(&mut self) -> Result<(), PublishError> {
        let schemas: BTreeSet<&str> = self
            .project
            .nodes
            .values()
            .filter(|node| node.is_relation())
            // An existing relation proves its schema.
            .filter(|node| self.compiler.catalog.kind(&node.relation).is_none())
            .map(|node| node.relation.schema.as_str())
            .collect();
        for schema in schemas {
            let schema = ballpoint_postgres::ident::quote(schema);
            execute(
                &mut self.conn,
                &format!("create schema if not exists {schema}"),
            )
            .await?;
        }
        Ok(())
    }

    fn parent_is_touched(&self, node: &Node) -> bool {
        node.depends_on
            .iter()
            .any(|parent| self.touched.contains(parent))
    }

    fn touch_if_a_parent_is(&mut self, node: &Node) {
        if self.parent_is_touched(node) || self.is_redefined(node) {
            self.touched.insert(node.unique_id.clone());
        }
    }

    fn is_redefined(&self, node: &Node) -> bool {
        let built_from = self.published.get(&node.unique_id).map(|was| &was.digest);
        built_from != self.digests.get(&node.unique_id)
            && node.materialization != Materialization::Ephemeral
    }

    fn is_due(&self, node: &Node) -> bool {
        if node.is_test() {
            self.parent_is_touched(node) || self.is_redefined(node)
        } else {
            self.action(node) != Action::Leave
        }
    }

    fn action(&self, node: &Node) -> Action {
        let existing = self.compiler.catalog.kind(&node.relation);
        let wanted = materialize::relation_kind(node);
        let is_new = self.options.full_refresh || self.is_redefined(node);
        let is_due = is_new || self.parent_is_touched(node);
        match node.materialization {
            // What it holds cannot be made again: it is only ever added to.
            Materialization::Snapshot if is_due || existing.is_none() => return Action::Merge,
            Materialization::Snapshot => return Action::Leave,
            // Its rows can be older than anything that it reads. As in dbt, an edit adds to them; who
            // asks for a full refresh, of a model that does not refuse it, starts over.
            Materialization::Incremental if is_due && self.compiler.is_incremental(node) => {
                return Action::Merge;
            }
            Materialization::Incremental if is_due || existing != Some(wanted) => {
                return Action::Rebuild;
            }
            Materialization::Incremental => return Action::Leave,
            _ if is_new || existing != Some(wanted) => return Action::Rebuild,
            _ => {}
        }
        // A view is bound to the very relation it was made over.
        let stands_on_rebuilt = self
            .project
            .graph
            .ancestors(&node.unique_id, None)
            .iter()
            .any(|id| self.overrides.contains_key(id));
        if wanted == RelationKind::View && stands_on_rebuilt {
            return Action::Rebuild;
        }
        if !is_due {
            return Action::Leave;
        }
        match node.materialization {
            Materialization::View => Action::Keep,
            // A refresh would shut readers out until the commit.
            Materialization::MaterializedView => Action::Rebuild,
            _ if self.compiler.catalog.estimated_rows(&node.relation) > REFILL_ROWS_MAX => {
                Action::Rebuild
            }
            _ => Action::Refill,
        }
    }

    /// Builds a model, or judges a test.
    async fn step(&mut self, node: &Node) -> Result<NodeResult, PublishError> {
        let begin = Instant::now();
        let mut result = skipped(node);
        let done = if node.is_test() {
            self.test(node, &mut result).await
        } else {
            self.build(node, &mut result).await
        };
        if let Err(failure) = done {
            // The transaction goes on without what this node did, so that every failure is found.
            execute(&mut self.conn, "rollback to savepoint node").await?;
            result.status = Status::Error;
            result.message = failure.message.clone();
            result.transient = failure.transient;
            self.failed.push(FailedNode::of(node, failure.message));
        }
        result.seconds = crate::run::seconds(begin.elapsed());
        Ok(result)
    }

    async fn build(&mut self, node: &Node, result: &mut NodeResult) -> Result<(), Failure> {
        let mut action = self.action(node);
        // Marked before it is built: when it fails, what is downstream is due too, and is skipped.
        self.touched.insert(node.unique_id.clone());
        let built = match action {
            Action::Keep | Action::Leave => Built {
                message: "KEPT".to_owned(),
                rows: None,
            },
            Action::Rebuild => self.rebuild(node, result).await?,
            Action::Merge => self.merge(node, result).await?,
            Action::Refill => match self.refill(node, result).await? {
                Some(built) => built,
                None => {
                    action = Action::Rebuild;
                    self.rebuild(node, result).await?
                }
            },
        };
        if action != Action::Keep {
            execute(&mut self.conn, "release savepoint node; savepoint node").await?;
        }
        result.status = Status::Success;
        result.message = built.message;
        result.rows = built.rows;
        Ok(())
    }

    pub(super) fn outcome(&mut self) -> BuildOutcome {
        let results = std::mem::take(&mut self.results);
        let failed = std::mem::take(&mut self.failed);
        let status = if results.is_empty() {
            BuildStatus::Unchanged
        } else if blocked(&results) {
            BuildStatus::Failed
        } else {
            BuildStatus::Published
        };
        let relations = match status {
            BuildStatus::Published => results
                .iter()
                .filter_map(|result| self.project.nodes.get(&result.unique_id))
                .filter(|node| node.is_relation())
                .map(|node| table_name(&node.relation))
                .collect(),
            _ => Vec::new(),
        };
        let errors = || results.iter().filter(|result| result.status.blocks());
        let hard = errors().any(|result| result.status != Status::Skipped && !result.transient);
        BuildOutcome {
            status,
            relations,
            tests_passed: names_with(&results, Status::Pass).len() as u64,
            warned: results
                .iter()
                .filter(|result| result.status == Status::Warn)
                .map(|result| result.name.clone())
                .collect(),
            skipped: names_with(&results, Status::Skipped),
            transient: status == BuildStatus::Failed && !hard,
            absent: absent_sources(&self.project, &self.compiler.catalog)
                .iter()
                .filter_map(|id| self.project.sources.get(id))
                .map(|source| table_name(&source.relation))
                .collect(),
            failed,
            results,
            elapsed: std::time::Duration::ZERO,
        }
    }
}

/// Declared sources whose table does not exist.
fn absent_sources(project: &Project, catalog: &Catalog) -> Vec<String> {
    let sources = project.sources.values();
    sources
        .filter(|source| catalog.kind(&source.relation).is_none())
        .map(|source| source.unique_id.clone())
        .collect()
}

fn table_name(relation: &Relation) -> TableName {
    TableName::new(relation.schema.clone(), relation.identifier.clone())
}

pub(super) fn changed_sources(project: &Project, changed: &Changed) -> HashSet<String> {
    let is_changed = |relation: &Relation| match changed {
        Changed::Everything => true,
        Changed::Tables(tables) => tables
            .iter()
            .any(|table| table.schema == relation.schema && table.name == relation.identifier),
    };
    project
        .sources
        .values()
        .filter(|source| is_changed(&source.relation))
        .map(|source| source.unique_id.clone())
        .collect()
}
