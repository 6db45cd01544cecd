//! What a pre-aggregation comes to: the planner's own statement, and the columns that hold its members.

use std::collections::HashMap;

use ballpoint_postgres::ident::quote_qualified;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::build::{Builder, RollupError, SCHEMA};
use super::parts::{Parted, parted};
use crate::model::joins::JoinTree;
use crate::model::{
    DimensionKind, MemberId, Model, Part, PreAggregation, SecurityContext, Table, Template,
};
use crate::plan::rollup::{RollupMeasure, RollupTime, join_tree, kept_measures};
use crate::plan::{self, ColumnKind, Normalized, Plan, Rollup};

/// PostgreSQL keeps 63 bytes of a name; a hash and a suffix come after this.
const NAME_BYTES_MAX: usize = 40;

/// A rollup as it will be.
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) hash: String,
    pub(super) sql: String,
    pub(super) rollup: Rollup,
    pub(super) indexes: Vec<Vec<String>>,
    /// How it is refreshed in parts, or why it is not.
    pub(super) parts: Result<Parted, String>,
}

impl Builder<'_> {
    pub(super) fn plan(
        &self,
        cube: usize,
        definition: &PreAggregation,
    ) -> Result<Planned, RollupError> {
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
            None,
            self.now,
        )?;
        let measures = kept_measures(&model, &asked, &definition.measures)?;
        let query = query_of(&model, definition, &measures, &segments, None, self.now)?;
        let tree = join_tree(&model, &query, &context)?;
        let plan = plan::plan(&model, &query, &context)?;
        if !plan.statement.params.is_empty() {
            let why = "its SQL holds values of the caller".to_owned();
            return Err(RollupError::Definition(why));
        }
        if let Some(cube) = asks_the_caller(&model, &tree, &plan) {
            let why = format!("{cube} reads claims of the caller or filters of the query");
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
        let parts = parted(&model, definition, &segments, &measures, &sql, self.now);
        Ok(Planned {
            name,
            table,
            hash,
            sql,
            rollup,
            indexes,
            parts,
        })
    }
}

/// The cube, if any, whose rows or values depend on who asks or what is asked.
fn asks_the_caller<'m>(model: &'m Model, tree: &JoinTree, plan: &Plan) -> Option<&'m str> {
    let asks = |sql: &Template| {
        let asking = |part: &Part| {
            matches!(
                part,
                Part::Claim(_) | Part::ClaimFilter { .. } | Part::FilterParams { .. }
            )
        };
        sql.parts.iter().any(asking)
    };
    let members = plan::reached_anyhow(model, plan.columns.iter().map(|it| it.member));
    let in_members = members
        .iter()
        .find(|id| model.member(**id).templates().into_iter().any(asks));
    let in_tables = || {
        let cubes = tree.cubes(model);
        let behind = members.iter().map(|id| id.cube);
        cubes.into_iter().chain(behind).find(|at| {
            let table = match &model.cubes[*at].table {
                Some(Table::Query(sql)) => asks(sql),
                _ => false,
            };
            table || model.cubes[*at].joins.iter().any(|join| asks(&join.sql))
        })
    };
    let cube = in_members.map(|id| id.cube).or_else(in_tables)?;
    Some(&model.cubes[cube].name)
}

/// What a rollup holds, as a query without limit and order.
pub(super) fn query_of(
    model: &Model,
    definition: &PreAggregation,
    measures: &[MemberId],
    segments: &HashMap<MemberId, MemberId>,
    limit: Option<MemberId>,
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
        "segments": limit.iter().map(name).collect::<Vec<_>>(),
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
