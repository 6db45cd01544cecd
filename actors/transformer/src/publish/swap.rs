//! The end of a build: shadows take the places of what readers see, and what they were built from is
//! written down.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ballpoint_postgres::dependents::{self, Dependent, ViewError};
use sqlx::PgConnection;

use super::steps::Build;
use super::{FailedNode, PublishError, definitions, pending};
use crate::jinja::relation::Relation;
use crate::materialize::{self, execute};
use crate::run::{Status, describe};

/// How long the swap waits for a lock: well under PostgreSQL's `deadlock_timeout` of a second.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Pause before the second attempt; grows with each.
const PAUSE: Duration = Duration::from_millis(5);

/// Attempts until the build is given up for now: some ten seconds.
const ATTEMPTS_MAX: u32 = 40;

/// Attempts while something hangs on a relation that is no view, or only just came.
const HUNG_ATTEMPTS_MAX: u32 = 3;

/// Why a swap did not happen.
enum Undone {
    Database(sqlx::Error),
    /// A view cannot be taken down, or does not fit what takes the place of what it read.
    View(ViewError),
    /// A view of this build reads what is replaced, and not what replaces it.
    Shadow(Dependent),
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ViewError> for Undone {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

impl Undone {
    /// Whether another attempt may do better.
    fn is_worth_another(&self, attempt: u32) -> bool {
        let error = match self {
            Self::Database(error) | Self::View(ViewError { source: error, .. }) => error,
            Self::Shadow(_) => return false,
        };
        let code = error.as_database_error().and_then(|it| it.code());
        match code.as_deref() {
            // A lock that could not be had in time, or a deadlock.
            Some("55P03" | "40P01") => attempt < ATTEMPTS_MAX,
            // Something hangs on what is dropped.
            Some("2BP01") => attempt < HUNG_ATTEMPTS_MAX,
            _ => false,
        }
    }
}

impl Build<'_> {
    /// Puts every shadow in its place; false, and the build fails, if a view of somebody else reads
    /// what is no more. A reader of several relations takes their locks in an order of its own:
    /// rather than wait for it and deadlock, the swap lets go of its locks after a moment and tries
    /// again, so that it is never the reader who fails.
    pub(super) async fn swap(&mut self) -> Result<bool, PublishError> {
        if self.rebuilt.is_empty() {
            return Ok(true);
        }
        let limit = LOCK_WAIT.as_millis();
        let begin = format!("set local lock_timeout = '{limit}ms'; savepoint swap");
        execute(&mut self.conn, &begin).await?;
        let mut let_go = BTreeSet::new();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let live = self.live().await?;
            let undone = match self.exchange(&live, &let_go).await {
                Ok(()) => return Ok(true),
                Err(undone) => undone,
            };
            execute(&mut self.conn, "rollback to savepoint swap").await?;
            match undone {
                undone if undone.is_worth_another(attempt) => {
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                // Let go once: it may be the dropping that fails.
                Undone::View(view)
                    if self.is_gone(&view)
                        && let_go.insert((view.schema.clone(), view.name.clone())) =>
                {
                    tracing::info!(view = %view, "a view of a model that is gone is dropped");
                }
                Undone::View(ViewError {
                    schema,
                    name,
                    on,
                    source,
                }) => {
                    let reason = format!("cannot be made again: {}", describe(&source));
                    let advice = "change or drop that view first";
                    self.refuse(live.get(&on), &format!("{schema}.{name}"), &reason, advice);
                    return Ok(false);
                }
                Undone::Shadow(view) => {
                    let reason = "would read what is replaced";
                    let advice = "let its model say ref() instead of the name";
                    let name = format!("{}.{}", view.schema, view.name);
                    self.refuse(live.get(&view.on), &name, reason, advice);
                    return Ok(false);
                }
                Undone::Database(error) => return Err(error.into()),
            }
        }
    }

    /// What readers see of what was built anew: unique ids by object id.
    async fn live(&mut self) -> Result<HashMap<i64, String>, sqlx::Error> {
        let relations = self
            .rebuilt
            .iter()
            .map(|id| &self.project.nodes[id].relation);
        let (schemas, names): (Vec<&str>, Vec<&str>) = relations
            .map(|relation| (relation.schema.as_str(), relation.identifier.as_str()))
            .unzip();
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "select c.oid::int8, r.number from unnest($1::text[], $2::text[]) \
             with ordinality as r (schema, name, number) \
             join pg_namespace n on n.nspname = r.schema \
             join pg_class c on c.relnamespace = n.oid and c.relname = r.name",
        )
        .persistent(false)
        .bind(schemas)
        .bind(names)
        .fetch_all(&mut *self.conn)
        .await?;
        let with_id = rows.into_iter().filter_map(|(oid, number)| {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            Some((oid, self.rebuilt.get(index)?.clone()))
        });
        Ok(with_id.collect())
    }

    async fn exchange(
        &mut self,
        live: &HashMap<i64, String>,
        let_go: &BTreeSet<(String, String)>,
    ) -> Result<(), Undone> {
        let oids: Vec<i64> = live.keys().copied().collect();
        let views = dependents::collect(&mut self.conn, &oids).await?;
        let (shadows, views): (Vec<Dependent>, Vec<Dependent>) =
            views.into_iter().partition(|view| self.is_shadow(view));
        if let Some(view) = shadows.into_iter().next() {
            return Err(Undone::Shadow(view));
        }
        let keys = foreign_keys(&mut self.conn, &oids).await?;
        dependents::drop_all(&mut self.conn, &views).await?;
        let statements = self.statements(&keys);
        execute(&mut self.conn, &statements).await?;
        let of_others: Vec<Dependent> = views
            .into_iter()
            .filter(|view| !live.contains_key(&view.oid))
            .filter(|view| !let_go.contains(&(view.schema.clone(), view.name.clone())))
            .collect();
        dependents::create_all(&mut self.conn, &of_others).await?;
        Ok(())
    }

    /// Whether a view that reads what is dropped was built by this very build.
    fn is_shadow(&self, view: &Dependent) -> bool {
        let mut shadows = self.overrides.values();
        shadows.any(|shadow| shadow.schema == view.schema && shadow.identifier == view.name)
    }

    fn statements(&self, foreign_keys: &[String]) -> String {
        let mut sql: String = foreign_keys.concat();
        // Views that hang on one of them are gone by now: nothing falls that is not named.
        for id in &self.rebuilt {
            let relation = &self.project.nodes[id].relation;
            if let Some(kind) = self.compiler.catalog.kind(relation) {
                sql.push_str(&format!("drop {} if exists {relation};\n", kind.name()));
            }
        }
        for id in &self.rebuilt {
            let shadow = &self.overrides[id];
            let identifier = &self.project.nodes[id].relation.identifier;
            sql.push_str(&materialize::rename(shadow, identifier));
        }
        sql
    }

    /// Whether a view is what a model left behind that is in the project no more.
    fn is_gone(&self, view: &ViewError) -> bool {
        let relation = self.rebuilt.first().map(|id| Relation {
            schema: view.schema.clone(),
            identifier: view.name.clone(),
            ..self.project.nodes[id].relation.clone()
        });
        relation.is_some_and(|relation| self.gone.contains(&relation.to_string()))
    }

    /// Fails the build: readers keep what they have.
    fn refuse(&mut self, replaced: Option<&String>, view: &str, reason: &str, advice: &str) {
        let project = self.project.clone();
        let Some(node) = replaced.and_then(|id| project.nodes.get(id)) else {
            return;
        };
        let message = format!(
            "{} is not replaced: the view {view} reads it and {reason}; {advice}",
            node.relation
        );
        let mut results = self.results.iter_mut();
        if let Some(result) = results.find(|result| result.unique_id == node.unique_id) {
            result.status = Status::Error;
            result.message.clone_from(&message);
        }
        self.failed.push(FailedNode::of(node, message));
    }

    /// Writes down what was built, and what judged it, from what.
    pub(super) async fn record(&mut self) -> Result<(), PublishError> {
        let results = self.results.iter();
        let built: Vec<(String, String, String)> = results
            .filter_map(|result| {
                let node = self.project.nodes.get(&result.unique_id)?;
                let digest = self.digests.get(&node.unique_id)?.clone();
                Some((node.unique_id.clone(), digest, node.relation.to_string()))
            })
            .collect();
        definitions::record(&mut self.conn, &built).await?;
        pending::clear(&mut self.conn).await?;
        Ok(())
    }
}

/// The statements that drop the foreign keys to relations from others, which fall with them.
async fn foreign_keys(conn: &mut PgConnection, oids: &[i64]) -> Result<Vec<String>, sqlx::Error> {
    let oids: Vec<String> = oids.iter().map(i64::to_string).collect();
    sqlx::query_scalar(
        "select format(E'alter table %s drop constraint %I;\\n', conrelid::regclass, conname) \
         from pg_constraint where contype = 'f' and confrelid = any($1::oid[]) \
         and conrelid <> confrelid and conparentid = 0",
    )
    .persistent(false)
    .bind(oids)
    .fetch_all(conn)
    .await
}
