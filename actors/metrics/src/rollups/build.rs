//! Building rollups: the planner's own statement over the source, kept as a table.
//!
//! A table is built beside the one that is read and takes its place in one transaction, together with
//! the row that says what it was built from. One whose definition and tables did not change is found
//! again after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ballpoint_postgres::ident::{quote_literal, quote_qualified};
use ballpoint_runtime::segment::TableName;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::load::load;
use super::planned::Planned;
use super::watched::{Watch, Watched};
use super::{RollupStatus, Rollups, State};
use crate::execute::Runner;
use crate::model::{Model, PreAggregation};
use crate::plan::{QueryError, Rollup};
use crate::results::Results;

/// Where the tables are.
pub const SCHEMA: &str = "ballpoint_rollups";

/// Why there is no rollup.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    #[error("{0}")]
    Definition(String),
    #[error("it cannot be planned: {0}")]
    Plan(#[from] QueryError),
    #[error("the events of the pipeline were not read yet")]
    TooEarly,
    #[error(
        "nothing tells when {0} changes: no load and no build has written it, and the warehouse \
         does not count its rows (PostgreSQL 15 or later with track_counts does)"
    )]
    Unknown(String),
    #[error("it depends on the clock, on chance or on a function of its own")]
    Unsteady,
    #[error("the warehouse refused: {0}")]
    Database(#[from] sqlx::Error),
}

/// Builds the rollups of a model.
pub struct Builder<'a> {
    pub model: &'a Model,
    /// Who owns the tables.
    pub owner: &'a PgPool,
    /// Who reads them.
    pub runner: &'a Runner,
    pub results: &'a Results,
    pub now: Timestamp,
}

impl Rollups {
    /// Builds what is missing or old, and serves it; what fails says why and stops nothing.
    pub async fn refresh(&self, builder: &Builder<'_>) {
        let mut state = State {
            model: builder.model.hash.clone(),
            watch: Some(builder.watch()),
            ..State::default()
        };
        for (cube, definition) in declared(builder.model) {
            let name = definition.full_name(builder.model, cube);
            match builder.one(cube, definition).await {
                Ok((rollup, status)) => {
                    state.ready.push(Arc::new(rollup));
                    state.shown.push(status);
                }
                Err(error) => {
                    tracing::info!(rollup = name, %error, "a rollup is not kept");
                    state.shown.push(RollupStatus {
                        name,
                        relation: None,
                        rows: None,
                        built_at: None,
                        build_ms: None,
                        partitions: None,
                        whole_because: None,
                        in_memory: false,
                        error: Some(error.to_string()),
                    });
                }
            }
        }
        if !state.shown.is_empty() {
            let kept: Vec<String> = state.ready.iter().map(|it| it.relation.clone()).collect();
            if let Err(error) = builder.drop_others(&kept).await {
                tracing::warn!(%error, "tables of former rollups were not dropped");
            }
        }
        self.replace(state);
    }
}

impl Builder<'_> {
    async fn one(
        &self,
        cube: usize,
        definition: &PreAggregation,
    ) -> Result<(Rollup, RollupStatus), RollupError> {
        let mut planned = self.plan(cube, definition)?;
        let epoch = self.results.versions.epoch();
        let statements = vec![planned.sql.clone()];
        let reads = self.results.reads(self.runner.pool(), statements).await?;
        if !reads.steady {
            return Err(RollupError::Unsteady);
        }
        if reads.relations.is_empty() {
            return Err(RollupError::Unknown("what it reads".to_owned()));
        }
        // The versions come first: rows that land while it is built make it old, never wrong.
        let versions = self.results.versions.each(&reads.relations);
        planned.rollup.versions = versions.ok_or(RollupError::TooEarly)?;
        planned.rollup.watched = self.watched(&reads.relations).await?;
        planned.rollup.reads.clone_from(&reads.relations);
        tracing::debug!(rollup = planned.name, epoch, "a rollup is looked at");
        let clock = Instant::now();
        let found = self.found(&planned).await?;
        let (mut built_at, mut partitions) = (self.now, None);
        match found {
            Some((rows, at)) => (planned.rollup.rows, built_at) = (rows, at),
            None => (planned.rollup.rows, partitions) = self.build(&planned).await?,
        }
        self.read_types(&mut planned).await?;
        // What cannot be held is read from the table.
        planned.rollup.memory = load(self.runner, &planned.rollup).await.map(Arc::new);
        let elapsed = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = RollupStatus {
            name: planned.name,
            relation: Some(format!("{SCHEMA}.{}", planned.table)),
            rows: Some(planned.rollup.rows),
            built_at: Some(built_at),
            build_ms: found.is_none().then_some(elapsed),
            partitions,
            whole_because: planned.parts.err(),
            in_memory: planned.rollup.memory.is_some(),
            error: None,
        };
        Ok((planned.rollup, status))
    }

    fn watch(&self) -> Watch {
        Watch::new(self.owner, self.runner.pool())
    }

    /// What PostgreSQL says of the relations that no event tells of.
    async fn watched(&self, relations: &[TableName]) -> Result<Option<Watched>, RollupError> {
        let unknown = self.results.versions.unknown(relations);
        let tables: Vec<TableName> = unknown.into_iter().cloned().collect();
        if tables.is_empty() {
            return Ok(None);
        }
        let look = self.watch().look(&tables).await?;
        if !look.is_counted {
            let names: Vec<String> = tables.iter().map(shown).collect();
            return Err(RollupError::Unknown(names.join(", ")));
        }
        let state = look.state;
        Ok(Some(Watched { tables, state }))
    }

    /// The rows and the age of the table, when it was built from these very versions.
    async fn found(&self, planned: &Planned) -> Result<Option<(u64, Timestamp)>, sqlx::Error> {
        let exists: bool = sqlx::query_scalar(
            "select to_regclass($1) is not null and to_regclass($2) is not null",
        )
        .bind(format!("{SCHEMA}._built"))
        .bind(&planned.rollup.relation)
        .fetch_one(self.owner)
        .await?;
        if !exists {
            return Ok(None);
        }
        let sql = format!(
            "select row_count, (extract(epoch from built_at) * 1000000)::bigint
             from {SCHEMA}._built where name = $1 and hash = $2 and versions = $3"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(&planned.table)
            .bind(&planned.hash)
            .bind(versions_text(&planned.rollup))
            .fetch_optional(self.owner)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (rows, micros): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let at = Timestamp::from_microsecond(micros).unwrap_or_default();
        Ok(Some((u64::try_from(rows).unwrap_or_default(), at)))
    }

    /// The types that the measures have, so that a sum of sums has the type of the sum.
    async fn read_types(&self, planned: &mut Planned) -> Result<(), sqlx::Error> {
        let sql = "select attname::text, format_type(atttypid, atttypmod) from pg_attribute
                   where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";
        let rows: Vec<(String, String)> = sqlx::query_as(sql)
            .bind(&planned.rollup.relation)
            .fetch_all(self.owner)
            .await?;
        let kinds: HashMap<String, String> = rows.into_iter().collect();
        let is_plain = |kind: &str| {
            matches!(kind, "text" | "boolean") || kind.starts_with("character varying")
        };
        let plain = kinds.iter().filter(|(_, kind)| is_plain(kind));
        planned.rollup.plain = plain.map(|(column, _)| column.clone()).collect();
        for measure in planned.rollup.measures.values_mut() {
            if let Some(kind) = kinds.get(&measure.column) {
                measure.kind.clone_from(kind);
            }
        }
        Ok(())
    }

    /// Drops the tables of rollups that are not declared any more, or are by another definition.
    async fn drop_others(&self, kept: &[String]) -> Result<(), sqlx::Error> {
        let sql = "select relname::text from pg_class join pg_namespace on pg_namespace.oid = relnamespace
                   where nspname = $1 and relkind = 'r'
                     and relname not in ('_built', '_partitions')";
        let tables: Vec<String> = sqlx::query_scalar(sql)
            .bind(SCHEMA)
            .fetch_all(self.owner)
            .await?;
        for table in tables {
            let relation = quote_qualified(SCHEMA, &table);
            if kept.contains(&relation) {
                continue;
            }
            let sql = format!(
                "drop table if exists {relation}; delete from {SCHEMA}._built where name = {name};
                 delete from {SCHEMA}._partitions where name = {name}",
                name = quote_literal(&table)
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(self.owner)
                .await?;
        }
        Ok(())
    }
}

/// Every pre-aggregation with its cube.
fn declared(model: &Model) -> Vec<(usize, &PreAggregation)> {
    let mut all = Vec::new();
    for (at, cube) in model.cubes.iter().enumerate() {
        all.extend(cube.pre_aggregations.iter().map(|it| (at, it)));
    }
    all
}

pub(super) fn shown(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.name)
}

pub(super) fn versions_text(rollup: &Rollup) -> String {
    let pairs = rollup.reads.iter().zip(&rollup.versions);
    let mut texts: Vec<String> = pairs
        .map(|(it, version)| match version {
            Some(version) => format!("{} {version}", shown(it)),
            None => shown(it),
        })
        .collect();
    texts.extend(rollup.watched.iter().map(|it| it.state.clone()));
    texts.join("\n")
}
