//! A question's meaning with its time resolved: what a query is made from and a follow-up patches.

use ballpoint_metrics::query::{DateRange, Filter, Order, Query, TimeDimension};
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{ChartKind, Derive};

/// What to measure, by what, for which rows, over which window. Members by full name, of one cube.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    pub measures: Vec<String>,
    pub dimensions: Vec<String>,
    pub filters: Vec<Condition>,
    /// The time dimension that windows and steps apply to.
    pub time: Option<String>,
    pub window: Option<Window>,
    /// A second window, compared with the first.
    pub against: Option<Window>,
    pub granularity: Option<Unit>,
    pub order: Vec<(String, Direction)>,
    pub limit: Option<u32>,
    pub derive: Option<Derive>,
    pub chart: Option<ChartKind>,
}

/// `member operator values`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub member: String,
    pub operator: String,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Asc,
    Desc,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

/// A calendar unit; also the granularities of a time dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }
}

/// A span of time, both ends inclusive, in the plant's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from: DateTime,
    pub to: DateTime,
    /// The ends are moments, not days.
    pub sub_day: bool,
    /// The calendar unit it was said in, for "the one before".
    pub unit: Option<Unit>,
}

impl Window {
    /// The bounds as a query carries them: days, or moments where the window is finer than days.
    pub fn bounds(&self) -> [String; 2] {
        if self.sub_day {
            let text = |at: DateTime| at.strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string();
            [text(self.from), text(self.to)]
        } else {
            [self.from.date().to_string(), self.to.date().to_string()]
        }
    }

    /// From the start of this one to the end of another.
    pub fn through(self, last: Self) -> Self {
        Self {
            from: self.from,
            to: last.to,
            sub_day: false,
            unit: None,
        }
    }

    /// Number of days touched.
    pub fn days(&self) -> i32 {
        self.from
            .date()
            .until(self.to.date())
            .map_or(0, |span| span.get_days())
            + 1
    }
}

impl Frame {
    /// The Cube query of this frame.
    pub fn query(&self) -> Query {
        Query {
            measures: self.measures.clone(),
            dimensions: self.dimensions.clone(),
            filters: self
                .filters
                .iter()
                .map(|it| Filter::member(&it.member, &it.operator, &it.values))
                .collect(),
            time_dimensions: self.time_dimensions(),
            order: self.query_order(),
            limit: self.limit,
            ..Query::default()
        }
    }

    fn time_dimensions(&self) -> Vec<TimeDimension> {
        let Some(time) = &self.time else {
            return Vec::new();
        };
        if self.window.is_none() && self.granularity.is_none() {
            return Vec::new();
        }
        let range = |window: &Window| DateRange::Bounds(window.bounds().to_vec());
        let compare = self.against.as_ref().zip(self.window.as_ref());
        vec![TimeDimension {
            dimension: time.clone(),
            granularity: self.granularity.map(|unit| unit.name().to_owned()),
            date_range: self
                .window
                .as_ref()
                .filter(|_| compare.is_none())
                .map(range),
            compare_date_range: compare.map(|(old, new)| vec![range(new), range(old)]),
        }]
    }

    fn query_order(&self) -> Option<Order> {
        if self.order.is_empty() {
            return None;
        }
        let entries = self
            .order
            .iter()
            .map(|(member, direction)| (member.clone(), Value::from(direction.name())));
        Some(Order::Map(entries.collect()))
    }

    /// The cube all members are of.
    pub fn cube(&self) -> Option<&str> {
        let first = self.measures.first().or(self.dimensions.first())?;
        Some(cube_of(first))
    }

    /// Sets what a member must equal, in place of any former condition on it.
    pub fn set_filter(&mut self, condition: Condition) {
        self.filters.retain(|it| it.member != condition.member);
        self.filters.push(condition);
    }
}

/// The cube's part of a full member name.
pub fn cube_of(member: &str) -> &str {
    member.split_once('.').map_or(member, |(cube, _)| cube)
}

/// The member's part of a full member name.
pub fn local(member: &str) -> &str {
    member.split_once('.').map_or(member, |(_, name)| name)
}
