//! What a query over a rollup comes to, where it is plain enough to be answered from columns in
//! memory: groups, sums, equalities, a range of time. Everything else is PostgreSQL's.

use jiff::ToSpan as _;
use jiff::civil::DateTime;

use super::filters::Condition;
use super::rollup::{Rollup, RollupTime};
use super::select::Select;
use super::{Column, ColumnKind};
use crate::model::{Aggregation, MemberId};

/// A query in terms of a rollup's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The columns of the result.
    pub slots: Vec<Slot>,
    pub tests: Vec<Test>,
    /// `from <= column < to`.
    pub ranges: Vec<(String, DateTime, DateTime)>,
    /// Columns that must be true.
    pub segments: Vec<String>,
    /// Columns of the result to sort by, and whether from the top.
    pub order: Vec<(usize, bool)>,
    pub limit: usize,
    pub offset: usize,
    pub total: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    Dimension(String),
    Time { column: String, granularity: String },
    Measure { column: String, fold: Fold },
}

/// How kept values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    Sum,
    /// As a sum, and 0 where there is nothing.
    Count,
    Least,
    Most,
}

/// A condition on a dimension: its value is, or is not, one of these; `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub column: String,
    pub among: bool,
    pub values: Vec<Option<String>>,
}

impl Select<'_> {
    /// The query over the columns of a rollup that fits; `None` where PostgreSQL has to look.
    pub(super) fn folded(&self, rollup: &Rollup, times: &[RollupTime]) -> Option<Folded> {
        if self.denied || !self.having.is_empty() {
            return None;
        }
        let time = |id: MemberId| times.iter().find(|it| it.member == self.writer.resolve(id));
        let mut slots = Vec::new();
        for column in self.dimensions.iter().chain(&self.measures) {
            slots.push(self.slot(rollup, column, time(column.member))?);
        }
        let mut tests = Vec::new();
        for condition in &self.conditions {
            tests.push(self.test(rollup, condition)?);
        }
        let mut ranges = Vec::new();
        for (id, from, to) in &self.ranges {
            let end = to.checked_add(1.millisecond()).ok()?;
            ranges.push((time(*id)?.column.clone(), *from, end));
        }
        let segment = |id: &MemberId| rollup.segments.get(&self.writer.resolve(*id)).cloned();
        Some(Folded {
            slots,
            tests,
            ranges,
            segments: self.segments.iter().map(segment).collect::<Option<_>>()?,
            order: Vec::new(),
            limit: 0,
            offset: 0,
            total: false,
        })
    }

    fn slot(&self, rollup: &Rollup, column: &Column, time: Option<&RollupTime>) -> Option<Slot> {
        let id = self.writer.resolve(column.member);
        Some(match &column.kind {
            ColumnKind::Dimension => Slot::Dimension(rollup.dimensions.get(&id)?.clone()),
            ColumnKind::Time { granularity } => Slot::Time {
                column: time?.column.clone(),
                granularity: granularity.clone(),
            },
            ColumnKind::Measure => {
                let kept = rollup.measures.get(&id)?;
                let fold = match self.writer.model.member(id).measure()?.aggregation {
                    Aggregation::Sum => Fold::Sum,
                    Aggregation::Count => Fold::Count,
                    Aggregation::Min => Fold::Least,
                    Aggregation::Max => Fold::Most,
                    _ => return None,
                };
                // Integers of 8 bytes and numerics are shown as text; others have forms of their own.
                let exact = kept.kind == "bigint" || kept.kind.starts_with("numeric");
                let column = kept.column.clone();
                exact.then_some(Slot::Measure { column, fold })?
            }
        })
    }

    fn test(&self, rollup: &Rollup, condition: &Condition) -> Option<Test> {
        let Condition::Member {
            id,
            operator,
            values,
        } = condition
        else {
            return None;
        };
        let id = self.writer.resolve(*id);
        let kind = self.writer.model.member(id).value_type();
        if !matches!(kind, "string" | "boolean") {
            return None;
        }
        let column = rollup.dimensions.get(&id)?.clone();
        if !rollup.plain.contains(&column) {
            return None;
        }
        let (among, values) = match operator.as_str() {
            "equals" | "in" => (true, values.clone()),
            "notEquals" | "notIn" => (false, values.clone()),
            "notSet" => (true, vec![None]),
            "set" => (false, vec![None]),
            _ => return None,
        };
        Some(Test {
            column,
            among,
            values,
        })
    }
}

/// The places and directions of an ORDER BY that names nothing but places.
pub(super) fn order_of(clause: &str) -> Option<Vec<(usize, bool)>> {
    let Some(items) = clause.trim().strip_prefix("ORDER BY ") else {
        return clause.trim().is_empty().then(Vec::new);
    };
    let read = |item: &str| {
        let (place, direction) = item.trim().split_once(' ')?;
        let place = place.parse::<usize>().ok()?.checked_sub(1)?;
        match direction {
            "ASC" => Some((place, false)),
            "DESC" => Some((place, true)),
            _ => None,
        }
    };
    items.split(',').map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_by_places_is_read_and_any_other_is_left_to_postgresql() {
        assert_eq!(order_of(""), Some(vec![]));
        let both = Some(vec![(1, true), (0, false)]);
        assert_eq!(order_of(" ORDER BY 2 DESC, 1 ASC"), both);
        assert_eq!(order_of(" ORDER BY 2 DESC NULLS LAST"), None);
        assert_eq!(order_of(" ORDER BY sum(x) ASC"), None);
    }
}
