//! A query that somebody else wrote, as a frame: checked against the catalog, names and values
//! levelled. What cannot be held exactly is an error that says how to write it instead.

use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_metrics::query::{DateRange, Filter, FilterValue, Order, Query, TimeDimension};
use jiff::civil::{Date, DateTime};

use crate::Planner;
use crate::decide::checked;
use crate::frame::{Condition, Direction, Frame, Unit, Window, cube_of};
use crate::normalise::tokens;
use crate::plan::{Context, Plan};
use crate::registry::Registry;
use crate::time::{TimeReader, When};

/// More rows than this are not an answer.
const LIMIT_MAX: u32 = 1000;

/// What is wrong with a query, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryFault(pub String);

fn fault<T>(text: impl Into<String>) -> Result<T, QueryFault> {
    Err(QueryFault(text.into()))
}

impl Planner {
    /// The frame of a query.
    ///
    /// # Errors
    /// The first [`QueryFault`].
    pub fn frame_of(&self, query: &Query, context: &Context) -> Result<Frame, QueryFault> {
        let checker = Checker {
            planner: self,
            catalog: self.catalog(),
            context,
        };
        checker.frame(query)
    }

    /// The plan of a frame: its query with chart and notes, or a refusal where there is no data.
    pub fn plan_of(&self, frame: Frame, context: &Context) -> Plan {
        checked(self, frame, context)
    }
}

struct Checker<'a> {
    planner: &'a Planner,
    catalog: &'a Catalog,
    context: &'a Context,
}

impl Checker<'_> {
    fn frame(&self, query: &Query) -> Result<Frame, QueryFault> {
        let Some(first) = query.measures.first() else {
            return fault("`measures` is empty: name at least one measure");
        };
        let cube = self.cube(first)?;
        if !query.segments.is_empty() || query.offset.is_some() || query.ungrouped.is_some() {
            return fault(
                "use measures, dimensions, timeDimensions, filters, order and limit only",
            );
        }
        let measures = self.members(cube, &query.measures, &cube.measures, "measure")?;
        let dimensions = self.members(cube, &query.dimensions, &cube.dimensions, "dimension")?;
        if let Some(time) = dimensions.iter().find(|it| self.kind(it) == Some("time")) {
            return fault(format!("{time} is a time: put it into timeDimensions"));
        }
        let mut frame = Frame {
            measures,
            dimensions,
            ..Frame::default()
        };
        for filter in &query.filters {
            frame.filters.push(self.condition(cube, filter)?);
        }
        self.time(cube, &query.time_dimensions, &mut frame)?;
        self.order(query, &mut frame)?;
        self.applies(&frame)?;
        Ok(frame)
    }

    fn cube(&self, member: &str) -> Result<&CubeInfo, QueryFault> {
        match self.catalog.cube(cube_of(member)) {
            Some(cube) => Ok(cube),
            None => {
                let names: Vec<&str> = self
                    .catalog
                    .cubes
                    .iter()
                    .map(|it| it.name.as_str())
                    .collect();
                fault(format!(
                    "there is no {member}: a member is written Cube.member, the cubes are {}",
                    names.join(", ")
                ))
            }
        }
    }

    fn kind(&self, name: &str) -> Option<&str> {
        self.catalog.member(name).map(|it| it.member_type.as_str())
    }

    /// The names of members of one cube, once each.
    fn members(
        &self,
        cube: &CubeInfo,
        names: &[String],
        list: &[MemberInfo],
        noun: &str,
    ) -> Result<Vec<String>, QueryFault> {
        let mut out: Vec<String> = Vec::new();
        for name in names {
            if !list.iter().any(|it| it.name == *name) {
                return fault(format!(
                    "{name} is no {noun} of {}; its {noun}s are {}",
                    cube.name,
                    list.iter()
                        .map(|it| it.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
            if !out.contains(name) {
                out.push(name.clone());
            }
        }
        Ok(out)
    }

    fn condition(&self, cube: &CubeInfo, filter: &Filter) -> Result<Condition, QueryFault> {
        let Filter::Member {
            member,
            operator,
            values,
        } = filter
        else {
            return fault(
                "no `and` and `or` in filters: list conditions, or several values of one",
            );
        };
        let found = cube
            .measures
            .iter()
            .chain(&cube.dimensions)
            .find(|it| it.name == *member);
        let Some(info) = found else {
            return fault(format!("{member} is no member of {}", cube.name));
        };
        let values: Vec<String> = values.iter().flatten().map(text).collect();
        let is_measure = cube.measures.iter().any(|it| it.name == *member);
        let numeric = is_measure || info.member_type == "number";
        let allowed: &[&str] = match (numeric, info.member_type.as_str()) {
            (true, _) => &["equals", "notEquals", "gt", "gte", "lt", "lte"],
            (false, "time") => &[],
            (false, _) => &["equals", "notEquals", "set", "notSet"],
        };
        if info.member_type == "time" {
            return fault(format!(
                "put the time {member} into timeDimensions, as dateRange"
            ));
        }
        if !allowed.contains(&operator.as_str()) {
            return fault(format!(
                "{member} cannot be filtered by {operator}; use one of {}",
                allowed.join(", ")
            ));
        }
        let needs_none = matches!(operator.as_str(), "set" | "notSet");
        if needs_none != values.is_empty() {
            return fault(format!(
                "the filter {member} {operator} has the wrong number of values"
            ));
        }
        let level = |value: String| {
            if numeric {
                number(member, value)
            } else {
                known(info, value)
            }
        };
        Ok(Condition {
            member: member.clone(),
            operator: operator.clone(),
            values: values.into_iter().map(level).collect::<Result<_, _>>()?,
        })
    }

    fn time(
        &self,
        cube: &CubeInfo,
        times: &[TimeDimension],
        frame: &mut Frame,
    ) -> Result<(), QueryFault> {
        let time = match times {
            [] => return Ok(()),
            [one] => one,
            _ => return fault("use one entry of timeDimensions"),
        };
        let known = cube
            .dimensions
            .iter()
            .any(|it| it.name == time.dimension && it.member_type == "time");
        if !known {
            let names: Vec<&str> = cube
                .dimensions
                .iter()
                .filter(|it| it.member_type == "time")
                .map(|it| it.name.as_str())
                .collect();
            return fault(format!(
                "{} is no time of {}; its times are: {}",
                time.dimension,
                cube.name,
                names.join(", ")
            ));
        }
        frame.time = Some(time.dimension.clone());
        frame.granularity = match time.granularity.as_deref() {
            None => None,
            Some(name) => match UNITS.iter().find(|unit| unit.name() == name) {
                Some(unit) => Some(*unit),
                None => return fault(format!("{name} is no granularity; use hour to year")),
            },
        };
        match (&time.date_range, time.compare_date_range.as_deref()) {
            (Some(_), Some(_)) => return fault("give dateRange or compareDateRange, not both"),
            (Some(range), None) => frame.window = Some(self.window(range)?),
            (None, Some([new, old])) => {
                frame.window = Some(self.window(new)?);
                frame.against = Some(self.window(old)?);
            }
            (None, Some(_)) => return fault("compareDateRange holds two ranges"),
            (None, None) if frame.granularity.is_none() => {
                return fault("an entry of timeDimensions has a dateRange or a granularity");
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn window(&self, range: &DateRange) -> Result<Window, QueryFault> {
        let phrase = |text: &str| {
            let tokens = tokens(text);
            let reader = TimeReader {
                tokens: &tokens,
                now: &self.context.now,
                day_parts: &self.planner.lexicon.day_parts,
                data_from: self.context.data_from(),
            };
            match reader.at(0) {
                Some((len, When::Window(window))) if len == tokens.len() => Some(window),
                Some((len, When::Span(first, last))) if len == tokens.len() => {
                    Some(first.through(last))
                }
                _ => None,
            }
        };
        let wrong = |text: &str| {
            fault(format!(
                "the date range {text:?} cannot be read; write [\"YYYY-MM-DD\", \"YYYY-MM-DD\"]"
            ))
        };
        let window = match range {
            DateRange::Phrase(text) => match phrase(text) {
                Some(window) => window,
                None => return wrong(text),
            },
            DateRange::Bounds(bounds) => match bounds.as_slice() {
                [only] => match between(only, only) {
                    Some(window) => window,
                    None => return wrong(only),
                },
                [from, to] => match between(from, to) {
                    Some(window) => window,
                    None => return wrong(&bounds.join(" - ")),
                },
                _ => return wrong(&bounds.join(" - ")),
            },
        };
        if window.from > window.to {
            return fault("a date range begins before it ends");
        }
        Ok(window)
    }

    fn order(&self, query: &Query, frame: &mut Frame) -> Result<(), QueryFault> {
        let entries: Vec<(String, String)> = match &query.order {
            None => Vec::new(),
            Some(Order::List(list)) => list.clone(),
            Some(Order::Map(map)) => map
                .iter()
                .map(|(name, way)| (name.clone(), way.as_str().unwrap_or_default().to_owned()))
                .collect(),
        };
        for (name, way) in entries {
            let direction = match way.as_str() {
                "asc" => Direction::Asc,
                "desc" => Direction::Desc,
                _ => return fault("an order is `asc` or `desc`"),
            };
            if frame.time.as_ref() == Some(&name) {
                // A course over time is in order anyway.
                continue;
            }
            if !frame.measures.contains(&name) && !frame.dimensions.contains(&name) {
                return fault(format!("{name} is ordered by, but not in the query"));
            }
            frame.order.push((name, direction));
        }
        frame.limit = query.limit;
        match query.limit {
            Some(limit) if !(1..=LIMIT_MAX).contains(&limit) => {
                fault(format!("a limit is between 1 and {LIMIT_MAX}"))
            }
            Some(_) if frame.order.is_empty() => {
                fault("a limit needs an order: which rows come first?")
            }
            _ => Ok(()),
        }
    }

    /// What exists for some members only is not asked of others.
    fn applies(&self, frame: &Frame) -> Result<(), QueryFault> {
        let registry = Registry {
            catalog: self.catalog,
        };
        let members = frame.measures.iter().chain(&frame.dimensions);
        for member in members {
            if !registry.applies(member, &frame.filters) {
                let only = registry.only(member).map(|it| it.values.join(", "));
                return fault(format!(
                    "{member} exists for {} only",
                    only.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}

const UNITS: [Unit; 6] = [
    Unit::Hour,
    Unit::Day,
    Unit::Week,
    Unit::Month,
    Unit::Quarter,
    Unit::Year,
];

fn text(value: &FilterValue) -> String {
    match value {
        FilterValue::Text(text) => text.clone(),
        FilterValue::Number(number) => number.to_string(),
        FilterValue::Bool(flag) => flag.to_string(),
        FilterValue::Null => String::new(),
    }
}

fn number(member: &str, value: String) -> Result<String, QueryFault> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(value),
        _ => fault(format!("{member} is a number; {value:?} is none")),
    }
}

/// A value as the data writes it; one that is not in the data finds nothing and says nothing.
fn known(member: &MemberInfo, value: String) -> Result<String, QueryFault> {
    let flags = ["true", "false"].map(str::to_owned);
    let values: &[String] = if member.member_type == "boolean" {
        &flags
    } else {
        &member.values
    };
    if values.is_empty() || values.contains(&value) {
        return Ok(value);
    }
    let lower = value.to_lowercase();
    match values.iter().find(|it| it.to_lowercase() == lower) {
        Some(found) => Ok(found.clone()),
        None => fault(format!(
            "{} has no {value:?}; its values are {}",
            member.name,
            values
                .iter()
                .take(60)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// From the first moment of one bound to the last of the other; both are days, or both moments.
fn between(from: &str, to: &str) -> Option<Window> {
    if let (Ok(first), Ok(last)) = (from.parse::<Date>(), to.parse::<Date>())
        && from.len() == 10
        && to.len() == 10
    {
        let end = crate::time::end_of(last);
        return Some(Window {
            from: first.to_datetime(jiff::civil::Time::midnight()),
            to: end,
            sub_day: false,
            unit: None,
        });
    }
    let moment = |text: &str| text.trim_end_matches('Z').parse::<DateTime>().ok();
    Some(Window {
        from: moment(from)?,
        to: moment(to)?,
        sub_day: true,
        unit: None,
    })
}
