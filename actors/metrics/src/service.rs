//! Answering queries from one state of the model: what the handle does with a snapshot.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::clock::Clock;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;

use crate::api::annotation;
use crate::catalog::Catalog;
use crate::execute::{Rows, Runner};
use crate::model::{Model, ModelError, SecurityContext};
use crate::plan::{self, ColumnKind, Normalized, Plan, QueryError, granularity};
use crate::proof::{Evidence, Lineage, row_proofs};
use crate::query::Query;
use crate::results::Results;
use crate::rollups::Rollups;
use crate::served::Collected;
use crate::standing::Standing;
use crate::survey::{self, Survey};

/// The model that is served, and what its data looks like.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub model: Arc<Model>,
    pub catalog: Arc<Catalog>,
    /// Per time dimension of a cube: the first and last time in its data.
    pub coverage: HashMap<String, (String, String)>,
    /// Grows with each refresh of the data: when it was, in milliseconds.
    pub data_version: u64,
    /// When the data was last refreshed; `None` until it was first looked at.
    pub refreshed: Option<Timestamp>,
}

impl Snapshot {
    /// A model with what a survey of its data found.
    pub(crate) fn surveyed(model: Arc<Model>, found: Survey, refreshed: Timestamp) -> Self {
        Self {
            model,
            catalog: Arc::new(found.catalog),
            coverage: found.coverage,
            data_version: u64::try_from(refreshed.as_millisecond()).unwrap_or_default(),
            refreshed: Some(refreshed),
        }
    }
}

/// Rows, and how they came about.
#[derive(Clone, Debug, Serialize)]
pub struct QueryResult {
    pub rows: Vec<Map<String, Value>>,
    /// Rows without limit and offset, when asked for.
    pub total: Option<u64>,
    /// As asked, with date ranges resolved and defaults filled in.
    pub query: Query,
    /// The same as Cube echoes it.
    pub normalized: Value,
    pub sql: String,
    pub params: Vec<String>,
    pub annotation: Value,
    pub started: Timestamp,
    pub elapsed_ms: u64,
    pub data_version: u64,
    /// The definition's hash of each member that was asked for.
    pub definitions: Map<String, Value>,
    /// SHA-256 over the rows as JSON: a replay compares it.
    pub checksum: String,
    /// What a proof keeps of how the rows came about.
    pub evidence: Evidence,
}

/// Plans and runs queries against a snapshot.
#[derive(Clone)]
pub struct Service {
    pub snapshot: Arc<Snapshot>,
    pub runner: Arc<Runner>,
    pub clock: Clock,
    /// Kept results, and the versions of the tables.
    pub results: Arc<Results>,
    pub rollups: Arc<Rollups>,
    /// What stands behind the tables.
    pub lineage: Option<Arc<dyn Lineage>>,
    /// What the request at hand reads.
    pub(crate) collected: Collected,
    /// Whether the registry would hand out the same now.
    pub(crate) standing: Standing,
    /// Whether rollups are passed by.
    pub(crate) source_only: bool,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("model", &self.snapshot.model.hash)
            .field("data_version", &self.snapshot.data_version)
            .finish_non_exhaustive()
    }
}

/// A planned query with its rows.
pub(crate) struct Answer {
    pub(crate) plan: Plan,
    pub(crate) rows: Rows,
}

/// How long a statement may take where nothing else is said.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

impl Service {
    /// Serves the model under `path` without an actor: for commands that ask once.
    ///
    /// # Errors
    /// Every problem of the model, with file and line.
    pub fn open(path: &Path, pool: PgPool, clock: Clock) -> Result<Self, ModelError> {
        Ok(Self::new(Model::load(path)?, pool, clock))
    }

    /// Serves a model without an actor.
    pub fn new(model: Model, pool: PgPool, clock: Clock) -> Self {
        let model = Arc::new(model);
        let catalog = Arc::new(survey::catalog(&model));
        Self {
            snapshot: Arc::new(Snapshot {
                model,
                catalog,
                ..Snapshot::default()
            }),
            runner: Arc::new(Runner::new(pool, STATEMENT_TIMEOUT)),
            clock,
            results: Arc::default(),
            rollups: Arc::default(),
            lineage: None,
            collected: Collected::default(),
            standing: Standing::default(),
            source_only: false,
        }
    }

    /// The same with the values and the extent of the data, as the registry's refresh finds them.
    ///
    /// # Errors
    /// [`QueryError::Unavailable`] when the warehouse cannot be reached.
    pub async fn surveyed(&self) -> Result<Self, QueryError> {
        let model = Arc::clone(&self.snapshot.model);
        self.runner.forget();
        let found = survey::survey(&model, &self.runner, &HashSet::new()).await?;
        let snapshot = Snapshot::surveyed(model, found, self.clock.real_now());
        Ok(Self {
            snapshot: Arc::new(snapshot),
            ..self.clone()
        })
    }

    /// Answers a typed query as the owner of the data: what has an access policy stays closed.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(&self, query: &Query) -> Result<QueryResult, QueryError> {
        let started = self.clock.real_now();
        let clock = Instant::now();
        let context = SecurityContext::default();
        let value =
            serde_json::to_value(query).map_err(|error| QueryError::Invalid(error.to_string()))?;
        let (_, mut queries) = plan::normalize(&value, self.clock.business_now())?;
        let normalized = match (queries.pop(), queries.is_empty()) {
            (Some(only), true) => only,
            _ => {
                return Err(QueryError::Invalid(
                    "compareDateRange holds several queries: ask them one by one".to_owned(),
                ));
            }
        };
        let mut service = self.extended(std::slice::from_ref(&normalized), &context)?;
        service.collected = Collected::start();
        let answer = service.answer(&normalized, &context).await?;
        let reads = service.reads_of(&service.collected).await;
        let model = &service.snapshot.model;
        let rows = objects(model, &answer.plan, &answer.rows);
        let elapsed_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let evidence = Evidence {
            policy: answer.plan.row_filters.clone(),
            rollup: answer.plan.rollup.as_ref().map(|it| it.name.clone()),
            tables: self.table_versions(&reads.map(|it| it.relations).unwrap_or_default()),
            rows: row_proofs(&rows, &normalized.query.measures),
        };
        Ok(QueryResult {
            evidence,
            total: answer.rows.total,
            query: normalized.query.clone(),
            normalized: normalized.json.clone(),
            sql: answer.plan.statement.sql(),
            params: answer.plan.statement.params.clone(),
            annotation: annotation::annotation(model, &answer.plan),
            started,
            elapsed_ms,
            data_version: self.snapshot.data_version,
            definitions: definitions(model, &normalized),
            checksum: checksum(&rows),
            rows,
        })
    }

    /// Itself, with the measures that the queries bring along in its model.
    pub(crate) fn extended(
        &self,
        queries: &[Normalized],
        context: &SecurityContext,
    ) -> Result<Self, QueryError> {
        let computed = plan::computed::of(queries.iter().map(|query| &query.query));
        if computed.is_empty() {
            return Ok(self.clone());
        }
        let model = plan::computed::extend(&self.snapshot.model, &computed, context)?;
        Ok(self.with_model(model))
    }

    /// Itself over another model of the same data.
    #[must_use]
    pub fn with_model(&self, model: Model) -> Self {
        let snapshot = Snapshot {
            model: Arc::new(model),
            ..(*self.snapshot).clone()
        };
        Self {
            snapshot: Arc::new(snapshot),
            ..self.clone()
        }
    }

    /// Itself without rollups: every query is answered from the tables that they are built of.
    #[must_use]
    pub fn from_source(&self) -> Self {
        Self {
            source_only: true,
            ..self.clone()
        }
    }

    /// Plans one query and runs it.
    #[tracing::instrument(
        name = "metrics_query",
        skip_all,
        fields(measures = ?normalized.query.measures, data_version = self.snapshot.data_version)
    )]
    pub(crate) async fn answer(
        &self,
        normalized: &Normalized,
        context: &SecurityContext,
    ) -> Result<Answer, QueryError> {
        let plan = self.plan_to_run(normalized, context).await?;
        self.collected.note(&plan);
        if let (Some(rollup), Some(folded)) = (&plan.rollup, &plan.folded)
            && let Some(rows) = rollup.memory.as_ref().and_then(|it| it.answer(folded))
        {
            return Ok(Answer { plan, rows });
        }
        // Boxed: a caller's future need not hold the driver's, which is nested deeper than the compiler follows.
        let ran = Box::pin(self.runner.run(&plan)).await;
        let gone = matches!(&ran, Err(QueryError::Database { code, .. }) if code.as_deref() == Some("42P01"));
        if gone && plan.rollup.is_some() {
            // The rollup gave way to another one since the query was planned.
            self.collected.retract();
            let plan = plan::plan(&self.snapshot.model, normalized, context)?;
            self.collected.note(&plan);
            let rows = Box::pin(self.runner.run(&plan)).await?;
            return Ok(Answer { plan, rows });
        }
        Ok(Answer { plan, rows: ran? })
    }

    /// Plans one query over the rollup that fits, or the source.
    pub(crate) fn plan(
        &self,
        normalized: &Normalized,
        context: &SecurityContext,
    ) -> Result<Plan, QueryError> {
        let (rollups, old) = self.usable_rollups();
        self.plan_over(normalized, context, &rollups, old)
    }

    /// The same, after PostgreSQL was asked where only it knows whether the rollup still fits.
    async fn plan_to_run(
        &self,
        normalized: &Normalized,
        context: &SecurityContext,
    ) -> Result<Plan, QueryError> {
        let plan = self.plan(normalized, context)?;
        let Some(rollup) = &plan.rollup else {
            return Ok(plan);
        };
        if self.rollups.stands(rollup).await {
            return Ok(plan);
        }
        let (mut rollups, mut old) = self.usable_rollups();
        rollups.retain(|it| it.watched.is_none());
        let why = "its tables may have rows that are not in it";
        old.push(plan::Considered {
            rollup: rollup.name.clone(),
            used: false,
            why_not: Some(why.to_owned()),
        });
        self.plan_over(normalized, context, &rollups, old)
    }

    pub(crate) fn usable_rollups(&self) -> (Vec<Arc<plan::Rollup>>, Vec<plan::Considered>) {
        if self.source_only {
            return (Vec::new(), Vec::new());
        }
        let model = &self.snapshot.model;
        self.rollups.usable(&model.hash, &self.results.versions)
    }

    fn plan_over(
        &self,
        normalized: &Normalized,
        context: &SecurityContext,
        rollups: &[Arc<plan::Rollup>],
        old: Vec<plan::Considered>,
    ) -> Result<Plan, QueryError> {
        let model = &self.snapshot.model;
        let mut plan = plan::plan_with(model, normalized, context, rollups)?;
        let of_query = |it: &plan::Considered| {
            let cube = it.rollup.split('.').next().unwrap_or_default();
            plan.cubes.iter().any(|at| model.cubes[*at].name == cube)
        };
        let old: Vec<_> = old.into_iter().filter(of_query).collect();
        plan.considered.extend(old);
        Ok(plan)
    }
}

/// SHA-256 over rows as JSON text.
pub fn checksum(rows: &[Map<String, Value>]) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for row in rows {
        for (key, value) in row {
            hasher.update(format!("{key}={value}\n"));
        }
        hasher.update("\n");
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn definitions(model: &Model, normalized: &Normalized) -> Map<String, Value> {
    let query = &normalized.query;
    let times = query.time_dimensions.iter().map(|time| &time.dimension);
    let names = query
        .measures
        .iter()
        .chain(&query.dimensions)
        .chain(&query.segments)
        .chain(times);
    names
        .filter_map(|name| {
            let member = model.member(model.find(name)?);
            Some((name.clone(), Value::String(member.hash.clone())))
        })
        .collect()
}

/// Keys of the result in order: the columns, then each time dimension by its finest granularity.
pub(crate) fn keys(model: &Model, plan: &Plan) -> Vec<(String, usize)> {
    let mut keys: Vec<(String, usize)> = plan
        .columns
        .iter()
        .enumerate()
        .map(|(at, c)| (c.key.clone(), at))
        .collect();
    let mut finest: Vec<(String, i64, usize)> = Vec::new();
    for (at, column) in plan.columns.iter().enumerate() {
        let ColumnKind::Time { granularity } = &column.kind else {
            continue;
        };
        let member = model.member(column.member);
        let seconds = granularity::seconds_of(member, granularity);
        match finest
            .iter_mut()
            .find(|(name, _, _)| *name == member.full_name)
        {
            Some(found) if found.1 > seconds => (found.1, found.2) = (seconds, at),
            Some(_) => {}
            None => finest.push((member.full_name.clone(), seconds, at)),
        }
    }
    for (name, _, at) in finest {
        if !keys.iter().any(|(key, _)| *key == name) {
            keys.push((name, at));
        }
    }
    keys
}

/// Rows as objects under Cube's keys.
pub(crate) fn objects(model: &Model, plan: &Plan, rows: &Rows) -> Vec<Map<String, Value>> {
    let keys = keys(model, plan);
    rows.rows
        .iter()
        .map(|row| {
            keys.iter()
                .map(|(key, at)| (key.clone(), row[*at].clone()))
                .collect()
        })
        .collect()
}
