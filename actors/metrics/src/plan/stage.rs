//! Multi-stage measures: shares, ranks and shifts in time, computed over the grouped result of the
//! measures that they name.

use ballpoint_postgres::ident::{quote, quote_literal};

use super::error::QueryError;
use super::fan_out::leaf_alias;
use super::filters::Condition;
use super::resolve::find;
use super::select::Select;
use super::{Column, ColumnKind};
use crate::model::{Aggregation, Measure, MemberId, Stage, StageFilter, Template, TimeShift};

impl<'a> Select<'a> {
    /// A multi-stage measure by the query's dimensions.
    pub(super) fn stage_part(&mut self, leaf: MemberId) -> Result<String, QueryError> {
        let model = self.writer.model;
        let Some((measure, stage)) = model
            .member(leaf)
            .measure()
            .and_then(|measure| Some((measure, measure.stage.as_ref()?)))
        else {
            return Err(self.misused(leaf, "is not multi-stage"));
        };
        let mut inner = Vec::new();
        let order = stage.order_by.iter().map(|(sql, _)| sql);
        for id in measure
            .sql
            .iter()
            .chain(order)
            .flat_map(|sql| sql.members())
        {
            self.collect_leaves(self.writer.resolve(id), &mut inner);
        }
        if inner.is_empty() {
            return Err(self.misused(leaf, "is multi-stage and names no measure to compute from"));
        }
        let outer = self.dimensions.clone();
        let shifts = (self.writer.shifts.clone(), self.writer.calendar.clone());
        self.add_dimensions(stage);
        for shift in &stage.time_shifts {
            self.shift_time(shift);
        }
        let asked = (self.conditions.clone(), self.ranges.clone());
        if let Some(filter) = &stage.filter {
            self.heed(filter)?;
        }
        let joined = self.parts(&inner);
        (self.conditions, self.ranges) = asked;
        let grouped = std::mem::replace(&mut self.dimensions, outer);
        (self.writer.shifts, self.writer.calendar) = shifts;
        let joined = joined?;
        let mut columns = joined.columns;
        for column in &grouped {
            if column.kind == ColumnKind::Dimension {
                let sql = format!("q_0.{}", quote(&column.alias));
                columns.insert(self.writer.resolve(column.member), sql);
            }
        }
        let outside = std::mem::replace(&mut self.writer.columns, columns);
        let selected = self.staged(leaf, measure, stage, grouped.len());
        self.writer.columns = outside;
        let (keyword, value, group) = selected?;
        let mut shown = self.first_dimensions();
        shown.push(format!("{value} AS {}", leaf_alias(leaf)));
        Ok(format!(
            "{keyword} {} FROM {}{group}",
            shown.join(", "),
            joined.from
        ))
    }

    /// `SELECT`, the measure's value and the grouping, over the parts it is computed from.
    fn staged(
        &mut self,
        leaf: MemberId,
        measure: &Measure,
        stage: &Stage,
        grouped: usize,
    ) -> Result<(&'static str, String, String), QueryError> {
        let is_finer = grouped > self.dimensions.len();
        let group = self.group_clause(self.dimensions.len());
        let partition = self.partition(stage);
        let over = |partition: &[String]| match partition {
            [] => String::new(),
            columns => format!("PARTITION BY {}", columns.join(", ")),
        };
        if measure.aggregation == Aggregation::Rank {
            let mut order = Vec::new();
            for (sql, descending) in &stage.order_by {
                let direction = if *descending { "DESC" } else { "ASC" };
                order.push(format!("{} {direction}", self.writer.template(sql)?));
            }
            let partition = partition.unwrap_or_else(|| self.all_dimensions());
            let order = match order.as_slice() {
                [] => String::new(),
                order => format!(" ORDER BY {}", order.join(", ")),
            };
            let value = format!("rank() OVER ({}{order})", over(&partition));
            return Ok(("SELECT", value, String::new()));
        }
        let value = self.writer.measured_value(leaf, measure)?;
        if measure.aggregation == Aggregation::NumberAgg {
            return Ok(("SELECT", value, group));
        }
        if measure.aggregation.is_calculated() {
            if is_finer {
                let what = "adds dimensions to group by: give it an aggregating type such as sum";
                return Err(self.misused(leaf, what));
            }
            return Ok(("SELECT", value, String::new()));
        }
        let aggregate = match measure.aggregation {
            Aggregation::Sum => format!("sum({value})"),
            Aggregation::Avg => format!("avg({value})"),
            Aggregation::Min => format!("min({value})"),
            Aggregation::Max => format!("max({value})"),
            Aggregation::Count => format!("count({value})"),
            _ if partition.is_some() => {
                let what = "counts distinct values, which group_by and reduce_by cannot do";
                return Err(self.misused(leaf, what));
            }
            _ => format!("count(distinct {value})"),
        };
        Ok(match partition {
            None => ("SELECT", aggregate, group),
            Some(partition) => {
                let keyword = if is_finer {
                    "SELECT DISTINCT"
                } else {
                    "SELECT"
                };
                let value = format!("{aggregate} OVER ({})", over(&partition));
                (keyword, value, String::new())
            }
        })
    }

    /// The columns within which a measure is computed; `None` when it names none.
    fn partition(&self, stage: &Stage) -> Option<Vec<String>> {
        let listed = |members: &[MemberId], column: &Column| {
            let member = self.writer.resolve(column.member);
            members.iter().any(|id| self.writer.resolve(*id) == member)
        };
        let kept: Vec<&Column> = match (&stage.group_by, &stage.reduce_by) {
            (None, None) => return None,
            (Some(group), None) => {
                let kept = self.dimensions.iter().filter(|c| listed(group, c));
                kept.collect()
            }
            (group, Some(reduce)) => {
                let kept = self.dimensions.iter().filter(|column| {
                    !listed(reduce, column)
                        && group.as_ref().is_none_or(|group| listed(group, column))
                });
                kept.collect()
            }
        };
        Some(
            kept.iter()
                .map(|c| format!("q_0.{}", quote(&c.alias)))
                .collect(),
        )
    }

    fn all_dimensions(&self) -> Vec<String> {
        let columns = self.dimensions.iter();
        columns
            .map(|c| format!("q_0.{}", quote(&c.alias)))
            .collect()
    }

    fn add_dimensions(&mut self, stage: &Stage) {
        for &id in &stage.add_group_by {
            let known = self.dimensions.iter().any(|column| {
                column.kind == ColumnKind::Dimension
                    && self.writer.resolve(column.member) == self.writer.resolve(id)
            });
            if known {
                continue;
            }
            let member = self.writer.model.member(id);
            self.dimensions.push(Column {
                key: member.full_name.clone(),
                alias: member.alias.clone(),
                member: id,
                kind: ColumnKind::Dimension,
            });
        }
    }

    /// Reads the shifted time instead: of one dimension, or of every one that the query names.
    fn shift_time(&mut self, shift: &TimeShift) {
        let ids: Vec<MemberId> = match shift.dimension {
            Some(id) => vec![self.writer.resolve(id)],
            None => {
                let is_time = |c: &&Column| matches!(c.kind, ColumnKind::Time { .. });
                let shown = self.dimensions.iter().filter(is_time).map(|c| c.member);
                let ranged = self.ranges.iter().map(|(id, _, _)| *id);
                let mut ids: Vec<MemberId> = shown
                    .chain(ranged)
                    .map(|id| self.writer.resolve(id))
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                ids
            }
        };
        let sign = if shift.prior { '+' } else { '-' };
        for id in ids {
            if let Some(sql) = self.calendar_shift(id, shift) {
                self.writer.calendar.insert(id, sql);
                continue;
            }
            let shifted = self.writer.shifts.entry(id).or_default();
            shifted.push_str(&format!(
                " {sign} INTERVAL {}",
                quote_literal(&shift.interval)
            ));
        }
    }

    /// Leaves off the query's filters that a measure does not heed, and adds its own. What policies
    /// ask stays.
    fn heed(&mut self, filter: &StageFilter) -> Result<(), QueryError> {
        let model = self.writer.model;
        let heeds = |writer: &super::writer::Writer<'_>, id: MemberId| {
            let id = writer.resolve(id);
            let lists = |ids: &[MemberId]| ids.iter().any(|listed| writer.resolve(*listed) == id);
            !lists(&filter.exclude) && filter.keep_only.as_ref().is_none_or(|ids| lists(ids))
        };
        let writer = &self.writer;
        self.ranges.retain(|(id, _, _)| heeds(writer, *id));
        self.conditions.retain(|condition| {
            let mut members = Vec::new();
            condition.members(&mut members);
            matches!(condition, Condition::Policy(_)) || members.iter().all(|id| heeds(writer, *id))
        });
        for filter in &filter.include {
            let condition = self
                .writer
                .resolve_filter(filter, &|name| find(model, name))?;
            self.conditions.push(condition);
        }
        Ok(())
    }

    /// What the calendar of a time dimension says of a shift.
    fn calendar_shift(&self, id: MemberId, shift: &TimeShift) -> Option<&'a Template> {
        let dimension = self.writer.model.member(id).dimension()?;
        let known = dimension
            .time_shifts
            .iter()
            .find(|known| match &shift.name {
                Some(name) => known.name.as_ref() == Some(name),
                None => {
                    known.interval.as_ref() == Some(&shift.interval) && known.prior == shift.prior
                }
            });
        known.map(|known| &known.sql)
    }

    pub(super) fn misused(&self, id: MemberId, what: &str) -> QueryError {
        let name = &self.writer.model.member(id).full_name;
        QueryError::Unplannable(format!("'{name}' {what}"))
    }
}
