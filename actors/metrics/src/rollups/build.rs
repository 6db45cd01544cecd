//! Building rollups: the planner's own statement over the source, kept as a table.
//!
//! A table is built beside the one that is read and takes its place in one transaction, together with
//! the row that says what it was built from. One whose definition and tables did not change is found
//! again after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use ballpoint_runtime::segment::TableName;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::load::load;
use super::watched::{Watch, Watched};
use super::{RollupStatus, Rollups, State};
use crate::execute::Runner;
use crate::model::joins::JoinTree;
use crate::model::{
    DimensionKind, MemberId, Model, Part, PreAggregation, SecurityContext, Template,
};
use crate::plan::rollup::{RollupMeasure, RollupTime, join_tree, kept_measures};
use crate::plan::{self, ColumnKind, Normalized, Plan, QueryError, Rollup};
use crate::results::Results;

/// Where the tables are.
pub const SCHEMA: &str = "ballpoint_rollups";

/// PostgreSQL keeps 63 bytes of a name; a hash and a suffix come after this.
const NAME_BYTES_MAX: usize = 40;

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

/// A rollup as it will be.
struct Planned {
    name: String,
    table: String,
    hash: String,
    sql: String,
    rollup: Rollup,
    indexes: Vec<Vec<String>>,
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
        let built_at = match found {
            Some((rows, at)) => {
                planned.rollup.rows = rows;
                at
            }
            None => {
                planned.rollup.rows = self.build(&planned).await?;
                self.now
            }
        };
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
            partitions: None,
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

    fn plan(&self, cube: usize, definition: &PreAggregation) -> Result<Planned, RollupError> {
        let name = definition.full_name(self.model, cube);
        if definition.kind != "rollup" {
            let why = format!("a pre-aggregation of type {} is not built", definition.kind);
            return Err(RollupError::Definition(why));
        }
        let mut model = self.model.open_to_all();
        let mut segments: HashMap<MemberId, MemberId> = HashMap::new();
        for &segment in &definition.segments {
            let parts = vec![Part::Member(segment)];
            let sql = Template {
                parts,
                ..Template::default()
            };
            segments.insert(
                model.add_dimension(segment.cube, DimensionKind::Boolean, sql),
                segment,
            );
        }
        let context = SecurityContext::default();
        let asked = query_of(
            &model,
            definition,
            &definition.measures,
            &segments,
            self.now,
        )?;
        let measures = kept_measures(&model, &asked, &definition.measures)?;
        let query = query_of(&model, definition, &measures, &segments, self.now)?;
        let tree = join_tree(&model, &query, &context)?;
        let plan = plan::plan(&model, &query, &context)?;
        if !plan.statement.params.is_empty() {
            let why = "its SQL holds values of the caller".to_owned();
            return Err(RollupError::Definition(why));
        }
        let sql = plan.statement.sql();
        let hash: String = Sha256::digest(sql.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let table = table_name(&name, &hash);
        let rollup = rollup_of(&name, &table, &plan, &segments, tree);
        let column = |id: &MemberId| {
            let time = rollup.times.iter().find(|it| it.member == *id);
            let measure = rollup.measures.get(id).map(|it| it.column.clone());
            let dimension = rollup.dimensions.get(id).cloned();
            dimension.or(measure).or(time.map(|it| it.column.clone()))
        };
        let declared = definition.indexes.iter();
        let mut indexes: Vec<Vec<String>> = declared
            .map(|(_, members)| members.iter().filter_map(column).collect())
            .collect();
        indexes.extend(rollup.times.iter().map(|it| vec![it.column.clone()]));
        indexes.retain(|columns| !columns.is_empty());
        Ok(Planned {
            name,
            table,
            hash,
            sql,
            rollup,
            indexes,
        })
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

    async fn build(&self, planned: &Planned) -> Result<u64, sqlx::Error> {
        let reader: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(self.runner.pool())
            .await?;
        let mut transaction = self.owner.begin().await?;
        let prepare = format!(
            "create schema if not exists {SCHEMA};
             create table if not exists {SCHEMA}._built (name text primary key, hash text not null,
                 versions text not null, row_count bigint not null, built_at timestamptz not null);
             set local timezone = 'UTC'"
        );
        sqlx::raw_sql(AssertSqlSafe(prepare))
            .execute(&mut *transaction)
            .await?;
        let (new, old) = (
            quote_qualified(SCHEMA, &format!("{}__new", planned.table)),
            quote_qualified(SCHEMA, &planned.table),
        );
        let mut sql = format!(
            "drop table if exists {new}; create table {new} as {};",
            planned.sql
        );
        for columns in &planned.indexes {
            let columns: Vec<String> = columns.iter().map(|it| quote(it)).collect();
            sql.push_str(&format!("create index on {new} ({});", columns.join(", ")));
        }
        sql.push_str(&format!(
            "analyze {new}; drop table if exists {old}; alter table {new} rename to {};
             grant usage on schema {SCHEMA} to {reader}; grant select on {old} to {reader};
             insert into {SCHEMA}._built
             select {name}, {hash}, {versions}, count(*), clock_timestamp() from {old}
             on conflict (name) do update set hash = excluded.hash, versions = excluded.versions,
                 row_count = excluded.row_count, built_at = excluded.built_at;",
            quote(&planned.table),
            reader = quote(&reader),
            name = quote_literal(&planned.table),
            hash = quote_literal(&planned.hash),
            versions = quote_literal(&versions_text(&planned.rollup)),
        ));
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
        let count = format!("select row_count from {SCHEMA}._built where name = $1");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .persistent(false)
            .bind(&planned.table)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(u64::try_from(rows).unwrap_or_default())
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
                   where nspname = $1 and relkind = 'r' and relname <> '_built'";
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
                "drop table if exists {relation}; delete from {SCHEMA}._built where name = {}",
                quote_literal(&table)
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

fn shown(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.name)
}

fn versions_text(rollup: &Rollup) -> String {
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

/// What a rollup holds, as a query without limit and order.
fn query_of(
    model: &Model,
    definition: &PreAggregation,
    measures: &[MemberId],
    segments: &HashMap<MemberId, MemberId>,
    now: Timestamp,
) -> Result<Normalized, RollupError> {
    let name = |id: &MemberId| model.member(*id).full_name.clone();
    let mut dimensions: Vec<String> = definition.dimensions.iter().map(name).collect();
    let mut own: Vec<&MemberId> = segments.keys().collect();
    own.sort_unstable();
    dimensions.extend(own.into_iter().map(name));
    let times = definition.times.iter();
    let times: Vec<_> = times
        .map(|(id, granularity)| json!({ "dimension": name(id), "granularity": granularity }))
        .collect();
    let query = json!({
        "measures": measures.iter().map(name).collect::<Vec<_>>(),
        "dimensions": dimensions,
        "timeDimensions": times,
        "timezone": "UTC",
    });
    let (_, mut queries) = plan::normalize(&query, now)?;
    let mut query = queries
        .pop()
        .ok_or_else(|| RollupError::Definition("it holds nothing".to_owned()))?;
    query.query.limit = Some(u32::MAX);
    query.order = Some(Vec::new());
    Ok(query)
}

fn rollup_of(
    name: &str,
    table: &str,
    plan: &Plan,
    segments: &HashMap<MemberId, MemberId>,
    tree: JoinTree,
) -> Rollup {
    let mut rollup = Rollup {
        name: name.to_owned(),
        relation: quote_qualified(SCHEMA, table),
        tree,
        ..Rollup::default()
    };
    for column in &plan.columns {
        let alias = column.alias.clone();
        match &column.kind {
            ColumnKind::Measure => {
                let measure = RollupMeasure {
                    column: alias,
                    kind: String::new(),
                };
                rollup.measures.insert(column.member, measure);
            }
            ColumnKind::Time { granularity } => rollup.times.push(RollupTime {
                member: column.member,
                granularity: granularity.clone(),
                column: alias,
            }),
            ColumnKind::Dimension => match segments.get(&column.member) {
                Some(segment) => drop(rollup.segments.insert(*segment, alias)),
                None => drop(rollup.dimensions.insert(column.member, alias)),
            },
        }
    }
    rollup
}

/// A name of its own for each definition, readable and short enough.
fn table_name(name: &str, hash: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(NAME_BYTES_MAX)
        .collect();
    format!("{plain}_{}", &hash[..8])
}
