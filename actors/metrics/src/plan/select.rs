//! Writing the statement.
//!
//! Measures whose rows no join repeats are aggregated together. Those of a cube whose rows are
//! repeated get a sub-query of their own over the distinct keys of that cube; the parts are then
//! put together by their dimensions.

use std::collections::BTreeSet;
use std::sync::Arc;

use ballpoint_postgres::ident::quote;

use super::error::QueryError;
use super::fan_out::Leaf;
use super::filters::Condition;
use super::folded::{Folded, order_of};
use super::needs::{collect_cubes, collect_hints, no_path};
use super::normalize::Normalized;
use super::policies::Masked;
use super::resolve::{Resolved, find};
use super::rolling::WindowRange;
use super::rollup::Rollup;
use super::statement::Statement;
use super::writer::{Asked, Writer};
use super::{Column, ColumnKind, Plan};
use crate::model::joins::JoinTree;
use crate::model::{Aggregation, MemberId, Model, SecurityContext};
use crate::query::Filter;

/// Bound values of one statement, at most: PostgreSQL's protocol counts them in 16 bits.
const VALUES_MAX: usize = 32_767;

pub(crate) fn write(
    model: &Model,
    query: &Normalized,
    context: &SecurityContext,
    resolved: Resolved,
    rollups: &[Arc<Rollup>],
) -> Result<Plan, QueryError> {
    let mut writer = Writer::new(model, context, &query.zone, &query.zone_name);
    writer.ungrouped = query.query.ungrouped.unwrap_or(false);
    writer.inner_filters.clone_from(&resolved.inner_filters);
    let row_filters = resolved.asked_by_policies();
    let is_dated = resolved.is_dated;
    let mut select = Select::new(writer, resolved)?;
    let (kept, considered) = select.over_rollups(rollups)?;
    let (body, rollup, folded) = match kept {
        Some(kept) => (kept.body, Some(kept.rollup), kept.folded),
        None => (select.body()?, None, None),
    };
    let mut text = body.clone();
    let order = select.order_clause();
    text.push_str(&order);
    text.push_str(&format!(" LIMIT {}", query.query.limit.unwrap_or_default()));
    if let Some(offset) = query.query.offset {
        text.push_str(&format!(" OFFSET {offset}"));
    }
    let params = select.writer.params.clone();
    if params.len() > VALUES_MAX {
        return Err(QueryError::Invalid(format!(
            "the query compares with {} values, of {VALUES_MAX} at most",
            params.len()
        )));
    }
    let total = (query.query.total == Some(true)).then(|| {
        let text = format!("SELECT count(*) AS total FROM ({body}) AS original_query");
        Statement::new(text, params.clone())
    });
    let named = |id: &MemberId| model.member(*id).full_name.clone();
    Ok(Plan {
        statement: Statement::new(text, params),
        columns: select
            .dimensions
            .iter()
            .chain(&select.measures)
            .cloned()
            .collect(),
        segments: select.segments.clone(),
        row_filters,
        is_dated,
        total,
        order: select
            .order
            .iter()
            .map(|(id, desc)| (named(id), *desc))
            .collect(),
        cubes: select.tree.cubes(model),
        rollup,
        folded: folded.and_then(|folded| {
            let wanted = |number: Option<u32>| usize::try_from(number.unwrap_or_default()).ok();
            Some(Folded {
                order: order_of(&order)?,
                limit: wanted(query.query.limit)?,
                offset: wanted(query.query.offset)?,
                total: query.query.total == Some(true),
                ..folded
            })
        }),
        considered,
    })
}

/// A statement under construction.
pub(crate) struct Select<'a> {
    pub(crate) writer: Writer<'a>,
    pub(crate) dimensions: Vec<Column>,
    pub(crate) measures: Vec<Column>,
    pub(super) segments: Vec<MemberId>,
    pub(super) ranges: Vec<(MemberId, jiff::civil::DateTime, jiff::civil::DateTime)>,
    /// What rolling windows read instead of the ranges.
    pub(super) windows: Vec<WindowRange>,
    pub(super) conditions: Vec<Condition>,
    pub(super) having: Vec<Condition>,
    order: Vec<(MemberId, bool)>,
    pub(super) tree: JoinTree,
    pub(super) denied: bool,
    tie_breaks: bool,
}

impl<'a> Select<'a> {
    pub(super) fn new(writer: Writer<'a>, resolved: Resolved) -> Result<Self, QueryError> {
        let model = writer.model;
        let (mut conditions, mut having) = (Vec::new(), Vec::new());
        let find = |name: &str| find(model, name);
        for filter in &resolved.row_filters {
            let condition = writer.resolve_filter(filter, &find)?;
            let is_on_measures = writer.is_on_measures(&condition)?;
            let condition = Condition::Policy(Box::new(condition));
            if is_on_measures {
                having.push(condition);
            } else {
                conditions.push(condition);
            }
        }
        for filter in &resolved.filters {
            let condition = writer.resolve_filter(filter, &find)?;
            if writer.is_on_measures(&condition)? {
                having.push(condition);
            } else {
                conditions.push(condition);
            }
        }
        let mut writer = writer;
        for (id, masked) in &resolved.masked {
            let shown = match masked {
                Masked::Unless(filters) => {
                    let filter = Filter::And {
                        and: filters.clone(),
                    };
                    let shown = writer.resolve_filter(&filter, &find)?;
                    Some(Condition::Policy(Box::new(shown)))
                }
                _ => None,
            };
            writer.masked.insert(*id, shown);
        }
        writer.asked = Asked {
            conditions: conditions.clone(),
            ranges: resolved.ranges.clone(),
        };
        let tie_breaks = resolved
            .order
            .as_ref()
            .is_none_or(|order| !order.is_empty());
        let order = resolved
            .order
            .clone()
            .unwrap_or_else(|| default_order(&resolved));
        let mut select = Self {
            writer,
            dimensions: resolved.dimensions,
            measures: resolved.measures,
            segments: resolved.segments,
            ranges: resolved.ranges,
            windows: Vec::new(),
            conditions,
            having,
            order,
            tree: JoinTree::default(),
            denied: resolved.denied,
            tie_breaks,
        };
        select.tree = select.join_tree()?;
        Ok(select)
    }

    /// All members that the statement evaluates.
    pub(super) fn members(&self) -> Vec<MemberId> {
        let mut members: Vec<MemberId> = self
            .measures
            .iter()
            .chain(&self.dimensions)
            .map(|column| column.member)
            .collect();
        members.extend(&self.segments);
        for condition in self.conditions.iter().chain(&self.having) {
            condition.members(&mut members);
        }
        members.extend(self.ranges.iter().map(|(id, _, _)| *id));
        members.extend(self.ordered_measures());
        members
    }

    /// Measures that the order names and the result does not show.
    fn ordered_measures(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.order.iter().map(|(id, _)| *id).filter(|id| {
            self.writer.model.member(*id).measure().is_some()
                && !self.measures.iter().any(|column| column.member == *id)
        })
    }

    fn join_tree(&self) -> Result<JoinTree, QueryError> {
        let model = self.writer.model;
        let mut cubes = Vec::new();
        let mut hints: Vec<Vec<usize>> = Vec::new();
        for id in self.members() {
            collect_hints(model, id, &mut hints);
            collect_cubes(
                model,
                self.writer.resolve(id),
                &mut cubes,
                &mut BTreeSet::new(),
            );
        }
        hints.sort();
        hints.dedup();
        JoinTree::find(model, &cubes, &hints).map_err(|pair| no_path(model, pair))
    }

    /// The statement without order and limit.
    fn body(&mut self) -> Result<String, QueryError> {
        let model = self.writer.model;
        let cubes = self.tree.cubes(model).into_iter();
        self.writer.multiplied = cubes
            .filter(|cube| self.tree.multiplies(model, *cube))
            .collect();
        let kinds: Vec<Leaf> = self
            .leaves()
            .iter()
            .map(|leaf| self.leaf_kind(*leaf))
            .collect();
        let is_special = |kind: &Leaf| matches!(kind, Leaf::Rolling | Leaf::Stage);
        if self.writer.ungrouped && kinds.iter().any(is_special) {
            return Err(QueryError::Unplannable(
                "an ungrouped query can not have rolling windows or multi-stage measures"
                    .to_owned(),
            ));
        }
        if self.writer.ungrouped || kinds.iter().all(|kind| *kind == Leaf::Plain) {
            return self.single();
        }
        self.combined()
    }

    /// The measures that aggregate rows, behind the selected, filtered and ordered ones.
    pub(super) fn leaves(&self) -> Vec<MemberId> {
        let mut wanted: Vec<MemberId> = self.measures.iter().map(|column| column.member).collect();
        for condition in &self.having {
            condition.members(&mut wanted);
        }
        wanted.extend(self.ordered_measures());
        let mut leaves = Vec::new();
        for id in wanted {
            self.collect_leaves(self.writer.resolve(id), &mut leaves);
        }
        leaves
    }

    pub(super) fn collect_leaves(&self, id: MemberId, leaves: &mut Vec<MemberId>) {
        let model = self.writer.model;
        let Some(measure) = model.member(id).measure() else {
            return;
        };
        let calculation = measure.sql.as_ref().filter(|sql| {
            measure.aggregation.is_calculated()
                && measure.rolling_window.is_none()
                && measure.stage.is_none()
                && sql.cubes().next().is_none()
                && sql.members().next().is_some()
                && sql
                    .members()
                    .all(|inner| model.member(inner).measure().is_some())
        });
        match calculation {
            Some(sql) => {
                for inner in sql.members() {
                    self.collect_leaves(self.writer.resolve(inner), leaves);
                }
            }
            None if !leaves.contains(&id) => leaves.push(id),
            None => {}
        }
    }

    /// Whether repeated rows leave the measure's value as it is.
    pub(super) fn is_safe_when_repeated(&self, id: MemberId) -> bool {
        let model = self.writer.model;
        let Some(measure) = model.member(id).measure() else {
            return true;
        };
        match measure.aggregation {
            Aggregation::CountDistinct
            | Aggregation::CountDistinctApprox
            | Aggregation::Min
            | Aggregation::Max => true,
            Aggregation::Count => {
                measure.sql.is_none() && !model.cubes[id.cube].primary_key.is_empty()
            }
            _ => false,
        }
    }

    /// One SELECT over the joined tables.
    fn single(&mut self) -> Result<String, QueryError> {
        // First, because it makes the columns of sub-queries known.
        let from = self.joined_tables()?;
        let mut columns = Vec::new();
        for column in self.dimensions.clone() {
            columns.push(self.dimension_column(&column)?);
        }
        for column in self.measures.clone() {
            columns.push(self.measure_column(&column)?);
        }
        let filter = self.where_clause()?;
        let group = self.group_clause(self.dimensions.len());
        let having = self.having_clause(" HAVING ")?;
        Ok(format!(
            "SELECT {} FROM {from}{filter}{group}{having}",
            columns.join(", ")
        ))
    }

    pub(super) fn dimension_column(&mut self, column: &Column) -> Result<String, QueryError> {
        if let Some(mask) = self.writer.mask(column.member)? {
            return Ok(format!("{mask} AS {}", quote(&column.alias)));
        }
        let sql = match &column.kind {
            ColumnKind::Time { granularity } => {
                self.writer.at_granularity(column.member, granularity)?
            }
            _ => self.writer.shown_dimension(column.member)?,
        };
        Ok(format!("{sql} AS {}", quote(&column.alias)))
    }

    pub(super) fn measure_column(&mut self, column: &Column) -> Result<String, QueryError> {
        let sql = match self.writer.mask(column.member)? {
            Some(mask) => mask,
            None => self.writer.member(column.member)?,
        };
        Ok(format!("{sql} AS {}", quote(&column.alias)))
    }

    pub(super) fn group_clause(&self, dimensions: usize) -> String {
        if self.writer.ungrouped || dimensions == 0 {
            return String::new();
        }
        let numbers: Vec<String> = (1..=dimensions).map(|number| number.to_string()).collect();
        format!(" GROUP BY {}", numbers.join(", "))
    }

    pub(super) fn having_clause(&mut self, keyword: &str) -> Result<String, QueryError> {
        let mut parts = Vec::new();
        for condition in self.having.clone() {
            parts.push(self.writer.condition(&condition)?);
        }
        if parts.is_empty() {
            return Ok(String::new());
        }
        if self.writer.ungrouped {
            return Err(QueryError::Unplannable(
                "an ungrouped query can not be filtered by a measure".to_owned(),
            ));
        }
        Ok(format!("{keyword}{}", parts.join(" AND ")))
    }

    pub(super) fn joined_tables(&mut self) -> Result<String, QueryError> {
        let mut from = self.writer.table(self.tree.root)?;
        let model = self.writer.model;
        for (cube, index) in self.tree.edges.clone() {
            let join = &model.cubes[cube].joins[index];
            let table = self.writer.table(join.to)?;
            let condition = self.writer.unmasked(|it| it.template(&join.sql))?;
            from.push_str(&format!(" LEFT JOIN {table} ON {condition}"));
        }
        for id in self.sub_query_dimensions() {
            from.push_str(&self.sub_query_join(id)?);
        }
        Ok(from)
    }

    pub(super) fn where_clause(&mut self) -> Result<String, QueryError> {
        let mut parts = Vec::new();
        if self.denied {
            parts.push("(1 = 0)".to_owned());
        }
        for (id, from, to) in self.ranges.clone() {
            let sql = self.writer.member(id)?;
            parts.push(self.writer.in_range(id, &sql, from, to)?);
        }
        for window in self.windows.clone() {
            parts.extend(self.window_condition(&window)?);
        }
        for segment in self.segments.clone() {
            parts.push(self.writer.member(segment)?);
        }
        for condition in self.conditions.clone() {
            parts.push(self.writer.condition(&condition)?);
        }
        let clause = parts.join(" AND ");
        Ok(if clause.is_empty() {
            clause
        } else {
            format!(" WHERE {clause}")
        })
    }

    /// By position where the column is shown, by expression for other measures.
    fn order_clause(&mut self) -> String {
        let shown: Vec<&Column> = self.dimensions.iter().chain(&self.measures).collect();
        let mut parts = Vec::new();
        let mut used = BTreeSet::new();
        for (id, descending) in &self.order {
            let direction = if *descending { "DESC" } else { "ASC" };
            if let Some(at) = shown.iter().position(|column| column.member == *id)
                && used.insert(at)
            {
                parts.push(format!("{} {direction}", at + 1));
            }
        }
        // Equal rows keep one order from run to run, and so does what a limit cuts off.
        if self.tie_breaks {
            for at in 0..self.dimensions.len() {
                if used.insert(at) {
                    parts.push(format!("{} ASC", at + 1));
                }
            }
        }
        if parts.is_empty() {
            String::new()
        } else {
            format!(" ORDER BY {}", parts.join(", "))
        }
    }
}

/// Cube's: by the first time dimension, else by the first measure from the top, else by the first
/// dimension.
fn default_order(resolved: &Resolved) -> Vec<(MemberId, bool)> {
    let time = resolved
        .dimensions
        .iter()
        .find(|column| matches!(column.kind, ColumnKind::Time { .. }));
    if let Some(column) = time {
        return vec![(column.member, false)];
    }
    match (resolved.measures.first(), resolved.dimensions.first()) {
        (Some(measure), Some(_)) => vec![(measure.member, true)],
        (None, Some(dimension)) => vec![(dimension.member, false)],
        _ => Vec::new(),
    }
}
