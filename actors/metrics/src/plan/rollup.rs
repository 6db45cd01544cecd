//! Answering from a rollup: whether one holds everything that a query needs, and the statement that
//! reads it instead of the source.
//!
//! A rollup is used only where the answer is the same to the last digit: every member is in it, time
//! is cut at its own buckets, and measures that do not add up are read at its exact grain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::TableName;
use jiff::ToSpan as _;
use jiff::civil::DateTime;
use serde::Serialize;

use super::error::QueryError;
use super::folded::Folded;
use super::normalize::Normalized;
use super::select::Select;
use super::writer::Writer;
use super::{Column, ColumnKind, resolve};
use crate::model::joins::JoinTree;
use crate::model::{Aggregation, MemberId, Model, SecurityContext};
use crate::rollups::{Columns, Watched};

/// A rollup whose table is built.
#[derive(Clone, Debug, Default)]
pub struct Rollup {
    /// `Cube.name`.
    pub name: String,
    /// Quoted, with its schema.
    pub relation: String,
    /// Members and the columns that hold them.
    pub dimensions: HashMap<MemberId, String>,
    pub segments: HashMap<MemberId, String>,
    pub times: Vec<RollupTime>,
    pub measures: HashMap<MemberId, RollupMeasure>,
    /// Columns whose values are equal where their texts are.
    pub plain: HashSet<String>,
    pub tree: JoinTree,
    /// What it was built from, and the versions of that.
    pub reads: Vec<TableName>,
    pub versions: Vec<Option<i64>>,
    /// Those of them that no event tells of, and what PostgreSQL said of these.
    pub watched: Option<Watched>,
    pub rows: u64,
    /// Its columns, when they are few enough to be held.
    pub memory: Option<Arc<Columns>>,
}

/// A time dimension cut to a granularity, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupTime {
    pub member: MemberId,
    pub granularity: String,
    pub column: String,
}

/// A measure's column and its type as SQL spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupMeasure {
    pub column: String,
    pub kind: String,
}

/// A rollup that was looked at for a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    pub rollup: String,
    pub used: bool,
    /// Why it was not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// A rollup to read, and how.
pub(super) struct Kept {
    pub(super) body: String,
    pub(super) rollup: Arc<Rollup>,
    pub(super) folded: Option<Folded>,
}

/// How the members of one query are found in a rollup.
struct Fit {
    /// The column of each dimension and time dimension of the result, and its granularity there.
    times: HashMap<MemberId, RollupTime>,
    /// Whether each row of the rollup is a row of the result.
    exact: bool,
}

/// The joins that a query makes.
///
/// # Errors
/// As planning it.
pub(crate) fn join_tree(
    model: &Model,
    query: &Normalized,
    context: &SecurityContext,
) -> Result<JoinTree, QueryError> {
    let resolved = resolve::resolve(model, query, context)?;
    let writer = Writer::new(model, context, &query.zone, &query.zone_name);
    Ok(Select::new(writer, resolved)?.tree)
}

/// The measures that must be kept for these to be computed, these included.
pub(crate) fn kept_measures(
    model: &Model,
    query: &Normalized,
    measures: &[MemberId],
) -> Result<Vec<MemberId>, QueryError> {
    let context = SecurityContext::default();
    let resolved = resolve::resolve(model, query, &context)?;
    let writer = Writer::new(model, &context, &query.zone, &query.zone_name);
    let select = Select::new(writer, resolved)?;
    let mut kept = Vec::new();
    for &measure in measures {
        select.collect_leaves(select.writer.resolve(measure), &mut kept);
    }
    kept.extend(measures.iter().map(|id| select.writer.resolve(*id)));
    let mut seen = HashSet::new();
    kept.retain(|id| seen.insert(*id));
    Ok(kept)
}

impl Select<'_> {
    /// The statement's body over the smallest rollup that fits, and what was thought of each.
    pub(super) fn over_rollups(
        &mut self,
        rollups: &[Arc<Rollup>],
    ) -> Result<(Option<Kept>, Vec<Considered>), QueryError> {
        let mut considered = Vec::new();
        let mut best: Option<(Arc<Rollup>, Fit)> = None;
        let cubes = self.tree.cubes(self.writer.model);
        for rollup in rollups.iter().filter(|it| cubes.contains(&it.tree.root)) {
            match self.fit(rollup) {
                Ok(fit) => {
                    if best.as_ref().is_none_or(|(it, _)| rollup.rows < it.rows) {
                        best = Some((Arc::clone(rollup), fit));
                    }
                }
                Err(why) => considered.push(Considered {
                    rollup: rollup.name.clone(),
                    used: false,
                    why_not: Some(why),
                }),
            }
        }
        let Some((rollup, fit)) = best else {
            return Ok((None, considered));
        };
        considered.push(Considered {
            rollup: rollup.name.clone(),
            used: true,
            why_not: None,
        });
        let times: Vec<RollupTime> = fit.times.values().cloned().collect();
        let folded = self.folded(&rollup, &times);
        let body = self.rollup_body(&rollup, &fit)?;
        let kept = Kept {
            body,
            rollup,
            folded,
        };
        Ok((Some(kept), considered))
    }

    /// Whether a rollup answers the query; if not, why.
    fn fit(&self, rollup: &Rollup) -> Result<Fit, String> {
        let model = self.writer.model;
        if self.writer.ungrouped {
            return Err("an ungrouped query reads rows, not groups".to_owned());
        }
        if !self.writer.masked.is_empty() {
            return Err("values are masked for the caller".to_owned());
        }
        if self.writer.inner_filters.values().any(|it| !it.is_empty()) {
            return Err("policies limit the rows behind a sub-query dimension".to_owned());
        }
        let joins = |edge: &(usize, usize)| rollup.tree.edges.contains(edge);
        if self.tree.root != rollup.tree.root || !self.tree.edges.iter().all(joins) {
            return Err("the query's joins are not those of the rollup".to_owned());
        }
        for segment in &self.segments {
            if !rollup.segments.contains_key(&self.writer.resolve(*segment)) {
                return Err(format!(
                    "segment {} is not in it",
                    model.member(*segment).full_name
                ));
            }
        }
        let times = self.fit_times(rollup)?;
        self.fit_filters(rollup, &times)?;
        let exact = self.is_exact(rollup, &times);
        self.fit_measures(rollup, exact)?;
        Ok(Fit { times, exact })
    }

    /// Finds each time dimension at a granularity that is fine enough, and each other dimension.
    fn fit_times(&self, rollup: &Rollup) -> Result<HashMap<MemberId, RollupTime>, String> {
        let model = self.writer.model;
        let mut wanted: Vec<MemberId> = self.ranges.iter().map(|(id, _, _)| *id).collect();
        for column in &self.dimensions {
            match &column.kind {
                ColumnKind::Time { .. } => wanted.push(column.member),
                _ if rollup
                    .dimensions
                    .contains_key(&self.writer.resolve(column.member)) => {}
                _ => return Err(format!("dimension {} is not in it", column.key)),
            }
        }
        let mut times = HashMap::new();
        for id in wanted {
            let name = &model.member(id).full_name;
            if self.writer.zone_name != "UTC" {
                return Err(format!(
                    "its days are UTC's, the query's are {}'s",
                    self.writer.zone_name
                ));
            }
            let resolved = self.writer.resolve(id);
            let mut kept = rollup.times.iter().filter(|it| it.member == resolved);
            let mut why = format!("time dimension {name} is not in it");
            let found = kept.find(|time| match self.fits_time(resolved, time) {
                Ok(()) => true,
                Err(reason) => {
                    why = reason;
                    false
                }
            });
            times.insert(resolved, found.cloned().ok_or(why)?);
        }
        for column in &self.dimensions {
            let plain = column.kind == ColumnKind::Dimension;
            if plain && times.contains_key(&self.writer.resolve(column.member)) {
                return Err(format!("{} is asked for uncut", column.key));
            }
        }
        Ok(times)
    }

    fn fits_time(&self, member: MemberId, kept: &RollupTime) -> Result<(), String> {
        for column in &self.dimensions {
            let ColumnKind::Time { granularity } = &column.kind else {
                continue;
            };
            let same = self.writer.resolve(column.member) == member;
            if same && !contains(granularity, &kept.granularity) {
                return Err(format!(
                    "a {granularity} is not made of whole {}s",
                    kept.granularity
                ));
            }
        }
        for (id, from, to) in &self.ranges {
            let end = to.checked_add(1.millisecond()).unwrap_or(*to);
            let aligned = begins(*from, &kept.granularity) && begins(end, &kept.granularity);
            if self.writer.resolve(*id) == member && !aligned {
                return Err(format!(
                    "the date range does not begin and end with a {}",
                    kept.granularity
                ));
            }
        }
        Ok(())
    }

    fn fit_filters(
        &self,
        rollup: &Rollup,
        times: &HashMap<MemberId, RollupTime>,
    ) -> Result<(), String> {
        let model = self.writer.model;
        let mut members = Vec::new();
        self.conditions
            .iter()
            .for_each(|it| it.members(&mut members));
        for id in members {
            let resolved = self.writer.resolve(id);
            let is_time = model.member(resolved).value_type() == "time";
            if !rollup.dimensions.contains_key(&resolved) || times.contains_key(&resolved) {
                return Err(format!(
                    "filtered dimension {} is not in it",
                    model.member(id).full_name
                ));
            }
            if is_time && self.writer.zone_name != "UTC" {
                return Err("a filter on time is in another zone than UTC".to_owned());
            }
        }
        Ok(())
    }

    /// Whether the result is grouped by everything that the rollup is.
    fn is_exact(&self, rollup: &Rollup, times: &HashMap<MemberId, RollupTime>) -> bool {
        let shown = |id: &MemberId| {
            self.dimensions
                .iter()
                .any(|column| self.writer.resolve(column.member) == *id)
        };
        let segment = |id: &MemberId| {
            self.segments
                .iter()
                .any(|it| self.writer.resolve(*it) == *id)
        };
        let time = |kept: &RollupTime| {
            times.get(&kept.member) == Some(kept)
                && self.dimensions.iter().any(|column| {
                    column.kind
                        == (ColumnKind::Time {
                            granularity: kept.granularity.clone(),
                        })
                        && self.writer.resolve(column.member) == kept.member
                })
        };
        !self.denied
            && rollup.dimensions.keys().all(shown)
            && rollup.segments.keys().all(segment)
            && rollup.times.iter().all(time)
    }

    fn fit_measures(&self, rollup: &Rollup, exact: bool) -> Result<(), String> {
        let model = self.writer.model;
        for leaf in self.leaves() {
            let member = model.member(leaf);
            let name = &member.full_name;
            let Some(measure) = member.measure() else {
                continue;
            };
            if measure.rolling_window.is_some() || measure.stage.is_some() {
                return Err(format!("{name} is computed over more than a group"));
            }
            if !rollup.measures.contains_key(&leaf) {
                return Err(format!("measure {name} is not in it"));
            }
            let repeated = rollup.tree.multiplies(model, leaf.cube);
            let adds_up = match measure.aggregation {
                Aggregation::Min | Aggregation::Max => true,
                Aggregation::Sum | Aggregation::Count => !repeated,
                _ => false,
            };
            if !adds_up && !exact {
                let why = if repeated {
                    "the rollup's joins repeat its rows"
                } else {
                    "it does not add up"
                };
                return Err(format!(
                    "measure {name} can be read at the rollup's own grain only: {why}"
                ));
            }
        }
        Ok(())
    }

    fn rollup_body(&mut self, rollup: &Rollup, fit: &Fit) -> Result<String, QueryError> {
        let place = |column: &String| format!("r.{}", quote(column));
        let mut columns: HashMap<MemberId, String> = HashMap::new();
        columns.extend(
            rollup
                .dimensions
                .iter()
                .map(|(id, column)| (*id, place(column))),
        );
        columns.extend(
            rollup
                .segments
                .iter()
                .map(|(id, column)| (*id, place(column))),
        );
        columns.extend(
            fit.times
                .iter()
                .map(|(id, time)| (*id, place(&time.column))),
        );
        for (id, kept) in &rollup.measures {
            let regrouped = self.regrouped(*id, kept, fit.exact);
            columns.extend(regrouped.map(|sql| (*id, sql)));
        }
        let outside = std::mem::replace(&mut self.writer.columns, columns);
        let body = self.over_rollup(rollup, fit);
        self.writer.columns = outside;
        body
    }

    fn over_rollup(&mut self, rollup: &Rollup, fit: &Fit) -> Result<String, QueryError> {
        let mut selected = Vec::new();
        for column in self.dimensions.clone() {
            selected.push(self.rollup_column(&column, fit)?);
        }
        for column in self.measures.clone() {
            let sql = self.writer.member(column.member)?;
            selected.push(format!("{sql} AS {}", quote(&column.alias)));
        }
        let filter = self.where_clause()?;
        let group = self.group_clause(self.dimensions.len());
        let having = self.having_clause(" HAVING ")?;
        Ok(format!(
            "SELECT {} FROM {} AS r{filter}{group}{having}",
            selected.join(", "),
            rollup.relation
        ))
    }

    fn rollup_column(&mut self, column: &Column, fit: &Fit) -> Result<String, QueryError> {
        let kept = fit.times.get(&self.writer.resolve(column.member));
        match (&column.kind, kept) {
            (ColumnKind::Time { granularity }, Some(kept)) if *granularity == kept.granularity => {
                Ok(format!(
                    "r.{} AS {}",
                    quote(&kept.column),
                    quote(&column.alias)
                ))
            }
            _ => self.dimension_column(column),
        }
    }

    /// A kept measure aggregated once more, in the type that it has at the source; `None` for one
    /// that is computed from others instead.
    fn regrouped(&self, id: MemberId, kept: &RollupMeasure, exact: bool) -> Option<String> {
        let column = format!("r.{}", quote(&kept.column));
        let aggregation = self
            .writer
            .model
            .member(id)
            .measure()
            .map(|it| it.aggregation);
        Some(match aggregation {
            Some(Aggregation::Sum) => format!("(sum({column}))::{}", kept.kind),
            Some(Aggregation::Count) => format!("(coalesce(sum({column}), 0))::{}", kept.kind),
            Some(Aggregation::Min) => format!("min({column})"),
            Some(Aggregation::Max) => format!("max({column})"),
            // At the exact grain a group is one row.
            _ if exact => format!("((array_agg({column}))[1])"),
            _ => return None,
        })
    }
}

/// Whether every bucket of `coarse` is made of whole buckets of `fine`.
pub(crate) fn contains(coarse: &str, fine: &str) -> bool {
    const CHAIN: [&str; 7] = [
        "second", "minute", "hour", "day", "month", "quarter", "year",
    ];
    let rank = |name: &str| CHAIN.iter().position(|it| *it == name);
    match (coarse, fine) {
        _ if coarse == fine => true,
        ("week", fine) => rank(fine).is_some_and(|at| at <= 3),
        (coarse, fine) => match (rank(coarse), rank(fine)) {
            (Some(coarse), Some(fine)) => fine <= coarse,
            _ => false,
        },
    }
}

/// Whether a bucket begins at this moment.
fn begins(at: DateTime, granularity: &str) -> bool {
    let midnight = at.hour() == 0 && at.minute() == 0 && at.second() == 0;
    let whole = at.subsec_nanosecond() == 0;
    whole
        && match granularity {
            "second" => true,
            "minute" => at.second() == 0,
            "hour" => at.minute() == 0 && at.second() == 0,
            "day" => midnight,
            "week" => midnight && at.weekday() == jiff::civil::Weekday::Monday,
            "month" => midnight && at.day() == 1,
            "quarter" => midnight && at.day() == 1 && (at.month() - 1) % 3 == 0,
            "year" => midnight && at.day() == 1 && at.month() == 1,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_made_of_days_and_months_are_not_made_of_weeks() {
        assert!(contains("week", "day") && contains("year", "month") && contains("day", "day"));
        assert!(!contains("month", "week") && !contains("day", "month"));
        assert!(
            !contains("half_year", "day"),
            "what is not known is not claimed"
        );
    }

    #[test]
    fn a_range_fits_only_where_buckets_begin() {
        let at = |text: &str| text.parse::<DateTime>().expect("a date");
        assert!(begins(at("2026-08-01T00:00:00"), "month"));
        assert!(begins(at("2026-08-24T00:00:00"), "week"), "a Monday");
        assert!(!begins(at("2026-08-01T00:00:00"), "quarter"));
        assert!(!begins(at("2026-08-01T00:00:00.001"), "second"));
    }
}
