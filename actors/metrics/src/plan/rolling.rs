//! Rolling windows: measures that look back, ahead or to the start of a period from each point of a
//! series of times.

use ballpoint_postgres::ident::{quote, quote_literal};
use jiff::civil::DateTime;

use super::error::QueryError;
use super::fan_out::leaf_alias;
use super::granularity::{self, Buckets, Interval};
use super::select::Select;
use super::{Column, ColumnKind};
use crate::model::{Aggregation, MemberId, RollingWindow};

/// Points of a series at most; more rows than this no client gets.
const POINTS_MAX: i64 = 50_000;
/// The time of a window's rows, in its sub-query.
const ROLLED_AT: &str = "rolled_at";

/// A condition on the rows that a window reads.
#[derive(Clone, Debug)]
pub(crate) struct WindowRange {
    time: MemberId,
    window: RollingWindow,
    from: DateTime,
    to: DateTime,
    /// All that some point between both ends can see, rather than what the end sees.
    whole: bool,
}

/// The points at which a window is looked at.
struct Series {
    column: Column,
    /// The time dimension, resolved.
    member: MemberId,
    granularity: String,
    from: DateTime,
    to: DateTime,
    sql: String,
}

impl Select<'_> {
    /// A measure with a rolling window by the query's dimensions.
    pub(super) fn rolling_part(&mut self, leaf: MemberId) -> Result<String, QueryError> {
        let model = self.writer.model;
        let Some((measure, window)) = model
            .member(leaf)
            .measure()
            .and_then(|measure| Some((measure, measure.rolling_window.clone()?)))
        else {
            return Err(self.misused(leaf, "has no rolling window"));
        };
        let Some(series) = self.series()? else {
            return self.single_window(leaf, &window);
        };
        let (base, value) = match measure.aggregation {
            Aggregation::Count | Aggregation::Sum => {
                (self.grouped_base(leaf, &window, &series)?, "sum")
            }
            Aggregation::Min => (self.grouped_base(leaf, &window, &series)?, "min"),
            Aggregation::Max => (self.grouped_base(leaf, &window, &series)?, "max"),
            Aggregation::Avg => (self.plain_base(leaf, &window, &series)?, "avg"),
            Aggregation::CountDistinct | Aggregation::CountDistinctApprox => {
                (self.plain_base(leaf, &window, &series)?, "count distinct")
            }
            _ => {
                let what = "has a rolling window, which needs an aggregating type such as sum";
                return Err(self.misused(leaf, what));
            }
        };
        let column = format!("base.{}", leaf_alias(leaf));
        let value = match (value, measure.aggregation) {
            // As every other window, one without rows has no value.
            ("count distinct", Aggregation::CountDistinctApprox) => {
                format!("NULLIF(count(DISTINCT {column}), 0)")
            }
            ("count distinct", _) => format!("count(DISTINCT {column})"),
            (name, _) => format!("{name}({column})"),
        };
        let mut shown = Vec::new();
        for column in &self.dimensions {
            let sql = self.series_column(column, &series)?;
            shown.push(format!("{sql} AS {}", quote(&column.alias)));
        }
        shown.push(format!("{value} AS {}", leaf_alias(leaf)));
        let range = WindowRange {
            time: series.member,
            window,
            from: series.from,
            to: series.to,
            whole: false,
        };
        let points = ("series.date_from", "series.date_to");
        let on = self.bounds(&range, &format!("base.{ROLLED_AT}"), points)?;
        let group = self.group_clause(self.dimensions.len());
        Ok(format!(
            "SELECT {} FROM ({}) AS series LEFT JOIN ({base}) AS base ON {on}{group}",
            shown.join(", "),
            series.sql,
        ))
    }

    /// The series that the finest granularity of the query makes of its date range.
    fn series(&self) -> Result<Option<Series>, QueryError> {
        let model = self.writer.model;
        let mut finest: Option<(i64, &Column, &str)> = None;
        let mut spans = Vec::new();
        for column in &self.dimensions {
            let ColumnKind::Time { granularity } = &column.kind else {
                continue;
            };
            let member = self.writer.resolve(column.member);
            let range = self
                .ranges
                .iter()
                .find(|(id, _, _)| self.writer.resolve(*id) == member);
            let Some((_, from, to)) = range else {
                return Err(QueryError::Unplannable(
                    "Time series queries without dateRange aren't supported".to_owned(),
                ));
            };
            spans.push((*from, *to));
            let seconds = granularity::seconds_of(model.member(column.member), granularity);
            if finest.is_none_or(|(least, _, _)| seconds < least) {
                finest = Some((seconds, column, granularity));
            }
        }
        let Some((_, column, granularity)) = finest else {
            return Ok(None);
        };
        spans.dedup();
        let [(from, to)] = spans.as_slice() else {
            return Err(QueryError::Unplannable(
                "Can't build query for time dimensions with different date ranges".to_owned(),
            ));
        };
        let buckets = Buckets::of(model.member(column.member), granularity)?;
        let bounds = buckets.index(*from).zip(buckets.index(*to));
        let Some((first, last)) = bounds.filter(|(first, last)| first <= last) else {
            return Err(QueryError::invalid("a date is out of range"));
        };
        if last - first >= POINTS_MAX {
            return Err(QueryError::Unplannable(format!(
                "the date range holds {} points at granularity '{granularity}': ask for a shorter \
                 range or a coarser granularity",
                last - first + 1
            )));
        }
        Ok(Some(Series {
            member: self.writer.resolve(column.member),
            column: column.clone(),
            granularity: granularity.to_owned(),
            from: *from,
            to: *to,
            sql: buckets.series(first, last),
        }))
    }

    fn series_column(&self, column: &Column, series: &Series) -> Result<String, QueryError> {
        match &column.kind {
            ColumnKind::Time { granularity }
                if self.writer.resolve(column.member) == series.member =>
            {
                if *granularity == series.granularity {
                    return Ok("series.date_from".to_owned());
                }
                let member = self.writer.model.member(column.member);
                granularity::bucket(member, granularity, "series.date_from")
            }
            _ => Ok(format!("base.{}", quote(&column.alias))),
        }
    }

    /// What can be put together of parts: aggregated by the finer of the series' and the window's
    /// granularity first.
    fn grouped_base(
        &mut self,
        leaf: MemberId,
        window: &RollingWindow,
        series: &Series,
    ) -> Result<String, QueryError> {
        self.inside(window, series, |select| match select.is_repeated(leaf) {
            true => select.keyed_part(leaf.cube, &[leaf]),
            false => select.part(&[leaf], "base__", |select| select.joined_tables()),
        })
    }

    /// What has to be aggregated at once: its rows.
    fn plain_base(
        &mut self,
        leaf: MemberId,
        window: &RollingWindow,
        series: &Series,
    ) -> Result<String, QueryError> {
        if self.is_repeated(leaf) {
            let what = "has a rolling window whose rows joins repeat, which an average cannot have";
            return Err(self.misused(leaf, what));
        }
        let model = self.writer.model;
        self.inside(window, series, |select| {
            let outside = std::mem::replace(&mut select.writer.prefix, "base__".to_owned());
            let from = select.joined_tables()?;
            let mut columns = Vec::new();
            for column in select.dimensions.clone() {
                columns.push(select.dimension_column(&column)?);
            }
            let Some(measure) = model.member(leaf).measure() else {
                return Err(select.misused(leaf, "is not a measure"));
            };
            let value = select.writer.measured_value(leaf, measure)?;
            columns.push(format!("{value} AS {}", leaf_alias(leaf)));
            let filter = select.where_clause()?;
            select.writer.prefix = outside;
            Ok(format!("SELECT {} FROM {from}{filter}", columns.join(", ")))
        })
    }

    /// Runs `write` with the window's time for a dimension, and its bounds for a range.
    fn inside(
        &mut self,
        window: &RollingWindow,
        series: &Series,
        write: impl FnOnce(&mut Self) -> Result<String, QueryError>,
    ) -> Result<String, QueryError> {
        let is_series = |select: &Self, column: &Column| {
            matches!(column.kind, ColumnKind::Time { .. })
                && select.writer.resolve(column.member) == series.member
        };
        let mut dimensions = self.dimensions.clone();
        dimensions.retain(|column| !is_series(self, column));
        dimensions.push(Column {
            key: ROLLED_AT.to_owned(),
            alias: ROLLED_AT.to_owned(),
            member: series.column.member,
            kind: ColumnKind::Time {
                granularity: self.base_granularity(window, series),
            },
        });
        let mut ranges = self.ranges.clone();
        ranges.retain(|(id, _, _)| self.writer.resolve(*id) != series.member);
        let windows = vec![WindowRange {
            time: series.member,
            window: window.clone(),
            from: series.from,
            to: series.to,
            whole: true,
        }];
        self.windowed(dimensions, ranges, windows, write)
    }

    fn windowed(
        &mut self,
        dimensions: Vec<Column>,
        ranges: Vec<(MemberId, DateTime, DateTime)>,
        windows: Vec<WindowRange>,
        write: impl FnOnce(&mut Self) -> Result<String, QueryError>,
    ) -> Result<String, QueryError> {
        let dimensions = std::mem::replace(&mut self.dimensions, dimensions);
        let ranges = std::mem::replace(&mut self.ranges, ranges);
        let windows = std::mem::replace(&mut self.windows, windows);
        let inside = std::mem::replace(&mut self.writer.inside_window, true);
        let written = write(self);
        self.dimensions = dimensions;
        self.ranges = ranges;
        self.windows = windows;
        self.writer.inside_window = inside;
        written
    }

    fn base_granularity(&self, window: &RollingWindow, series: &Series) -> String {
        let member = self.writer.model.member(series.column.member);
        let finest = match window {
            RollingWindow::Fixed {
                trailing, leading, ..
            } => {
                let bounds = trailing.iter().chain(leading);
                let units = bounds.filter_map(|text| granularity::finest_unit(text));
                units.min_by_key(|unit| granularity::seconds_of(member, unit))
            }
            RollingWindow::ToDate { granularity } => Some(granularity.as_str()),
            RollingWindow::RunningTotal => None,
        };
        let seconds = |name: &str| granularity::seconds_of(member, name);
        let own = granularity::unit_of_custom(member, &series.granularity);
        let coarsest = match own {
            // The model's buckets may begin at any time of any day.
            Some(_) if !self.writer.model.counts_as_cube() => return "second".to_owned(),
            Some(unit) => unit.to_owned(),
            None => series.granularity.clone(),
        };
        match finest {
            Some(unit) if seconds(unit) < seconds(&coarsest) => unit.to_owned(),
            _ => coarsest,
        }
    }

    /// Without a granularity there is one window, at the end of the date range.
    fn single_window(
        &mut self,
        leaf: MemberId,
        window: &RollingWindow,
    ) -> Result<String, QueryError> {
        let windows = self.ranges.iter().map(|(time, from, to)| WindowRange {
            time: *time,
            window: window.clone(),
            from: *from,
            to: *to,
            whole: false,
        });
        let windows = windows.collect();
        let dimensions = self.dimensions.clone();
        self.windowed(dimensions, Vec::new(), windows, |select| {
            match select.is_repeated(leaf) {
                true => select.keyed_part(leaf.cube, &[leaf]),
                false => select.part(&[leaf], "window__", |select| select.joined_tables()),
            }
        })
    }

    /// The window's bounds on its time dimension, in local time.
    pub(super) fn window_condition(
        &mut self,
        range: &WindowRange,
    ) -> Result<Option<String>, QueryError> {
        let sql = self.writer.member(range.time)?;
        let field = if self.writer.is_local(range.time) {
            sql
        } else {
            self.writer.localized(&sql)
        };
        // A value that no bound uses must not be bound.
        const FROM: &str = "\u{2}from";
        const TO: &str = "\u{2}to";
        let mut bounds = self.bounds(range, &field, (FROM, TO))?;
        for (place, at) in [(FROM, range.from), (TO, range.to)] {
            if bounds.contains(place) {
                let bound = self.writer.bind(super::dates::local_text(at));
                bounds = bounds.replace(place, &format!("{bound}::timestamp"));
            }
        }
        Ok((bounds != "TRUE").then_some(format!("({bounds})")))
    }

    fn bounds(
        &mut self,
        range: &WindowRange,
        field: &str,
        (from, to): (&str, &str),
    ) -> Result<String, QueryError> {
        let moved = |point: &str, sign: char, by: &str| match Interval::parse(by) {
            Some(interval) if interval.is_zero() => point.to_owned(),
            _ => format!("{point} {sign} INTERVAL {}", quote_literal(by)),
        };
        let mut conditions = Vec::new();
        match &range.window {
            RollingWindow::Fixed {
                trailing,
                leading,
                from_start,
            } => {
                if let Some(trailing) = trailing {
                    let start = if range.whole || *from_start { from } else { to };
                    let sign = if *from_start { ">=" } else { ">" };
                    conditions.push(format!("{field} {sign} {}", moved(start, '-', trailing)));
                }
                if let Some(leading) = leading {
                    let end = if range.whole || !*from_start {
                        to
                    } else {
                        from
                    };
                    let sign = if *from_start { "<" } else { "<=" };
                    conditions.push(format!("{field} {sign} {}", moved(end, '+', leading)));
                }
            }
            RollingWindow::ToDate { granularity } => {
                let member = self.writer.model.member(range.time);
                let start = granularity::bucket(member, granularity, from)?;
                conditions.push(format!("{field} >= {start}"));
                conditions.push(format!("{field} <= {to}"));
            }
            RollingWindow::RunningTotal => {
                let start = self.writer.bind(super::dates::local_text(range.from));
                conditions.push(format!("{field} >= {start}::timestamp"));
                conditions.push(format!("{field} <= {to}"));
            }
        }
        Ok(match conditions.as_slice() {
            [] => "TRUE".to_owned(),
            conditions => conditions.join(" AND "),
        })
    }
}
