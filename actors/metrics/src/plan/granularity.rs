//! Cutting local times into the buckets of a granularity.

use ballpoint_postgres::ident::quote_literal;
use jiff::Span;
use jiff::civil::{Date, DateTime, Time};

use super::error::QueryError;
use crate::model::{Granularity, Member};

/// The granularities of every time dimension, fine to coarse, with their interval.
pub const STANDARD: [(&str, &str); 8] = [
    ("second", "1 second"),
    ("minute", "1 minute"),
    ("hour", "1 hour"),
    ("day", "1 day"),
    ("week", "1 week"),
    ("month", "1 month"),
    ("quarter", "3 months"),
    ("year", "1 year"),
];

/// The SQL of a local timestamp's bucket.
pub(crate) fn bucket(member: &Member, name: &str, local: &str) -> Result<String, QueryError> {
    if STANDARD.iter().any(|(standard, _)| *standard == name) {
        return Ok(format!("date_trunc({}, {local})", quote_literal(name)));
    }
    Buckets::of(member, name)?.bucket(local)
}

/// An interval as PostgreSQL keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) months: i64,
    pub(crate) days: i64,
    pub(crate) seconds: i64,
}

impl Interval {
    /// `8 hours`, `1 year 2 months`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(2) {
            return None;
        }
        let mut interval = Self::default();
        for pair in words.chunks(2) {
            let count: i64 = pair[0].parse::<i32>().ok()?.into();
            match pair[1].trim_end_matches('s') {
                "second" => interval.seconds += count,
                "minute" => interval.seconds += count * 60,
                "hour" => interval.seconds += count * 3_600,
                "day" => interval.days += count,
                "week" => interval.days += count * 7,
                "month" => interval.months += count,
                "quarter" => interval.months += count * 3,
                "year" => interval.months += count * 12,
                _ => return None,
            }
        }
        Some(interval)
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// With months and days of average length.
    fn average_seconds(self) -> i64 {
        self.months * 2_629_746 + self.days * 86_400 + self.seconds
    }

    fn times(self, count: i64) -> Option<Span> {
        let span = Span::new();
        let span = span.try_months(self.months.checked_mul(count)?).ok()?;
        let span = span.try_days(self.days.checked_mul(count)?).ok()?;
        span.try_seconds(self.seconds.checked_mul(count)?).ok()
    }

    fn sql(self) -> String {
        let Self {
            months,
            days,
            seconds,
        } = self;
        format!("INTERVAL '{months} months {days} days {seconds} seconds'")
    }
}

/// The finest unit that an interval's text names, unless the interval is zero.
pub(crate) fn finest_unit(text: &str) -> Option<&'static str> {
    Interval::parse(text).filter(|interval| !interval.is_zero())?;
    let units: Vec<&str> = text
        .split_whitespace()
        .map(|word| word.trim_end_matches('s'))
        .collect();
    let mut standard = STANDARD.iter().map(|(name, _)| *name);
    // A window of weeks may end on any day.
    let found = standard.find(|name| units.contains(name))?;
    Some(if found == "week" { "day" } else { found })
}

/// The finest unit in the interval of a granularity that the model adds.
pub(crate) fn unit_of_custom(member: &Member, name: &str) -> Option<&'static str> {
    finest_unit(&own(member, name)?.interval)
}

/// Buckets of one length, counted from an origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    origin: DateTime,
    interval: Interval,
}

impl Buckets {
    pub(crate) fn of(member: &Member, name: &str) -> Result<Self, QueryError> {
        let invalid = |what: &str| {
            QueryError::Unplannable(format!(
                "the {what} of granularity \"{name}\" of {} cannot be read",
                member.full_name
            ))
        };
        if let Some((_, interval)) = STANDARD.iter().find(|(standard, _)| *standard == name) {
            return Ok(Self {
                origin: origin_of(None).ok_or_else(|| invalid("origin"))?,
                interval: Interval::parse(interval).ok_or_else(|| invalid("interval"))?,
            });
        }
        let granularity = own(member, name).ok_or_else(|| unknown(member, name))?;
        let origin = origin_of(granularity.origin.as_deref()).ok_or_else(|| invalid("origin"))?;
        let offset = match granularity.offset.as_deref() {
            None => Interval::default(),
            Some(text) => Interval::parse(text).ok_or_else(|| invalid("offset"))?,
        };
        let interval = Interval::parse(&granularity.interval).filter(|i| i.average_seconds() > 0);
        let moved = offset
            .times(1)
            .and_then(|span| origin.checked_add(span).ok());
        Ok(Self {
            origin: moved.ok_or_else(|| invalid("offset"))?,
            interval: interval.ok_or_else(|| invalid("interval"))?,
        })
    }

    fn start(self, number: i64) -> Option<DateTime> {
        self.origin.checked_add(self.interval.times(number)?).ok()
    }

    /// The number of the bucket that holds a time.
    pub(crate) fn index(self, at: DateTime) -> Option<i64> {
        let seconds = at.duration_since(self.origin).as_secs();
        let near = seconds.div_euclid(self.interval.average_seconds());
        (near - 2..=near + 2)
            .rev()
            .find(|number| self.start(*number).is_some_and(|start| start <= at))
    }

    /// The first and last moment of each bucket from `first` to `last`.
    pub(crate) fn series(self, first: i64, last: i64) -> String {
        let (origin, interval) = (self.origin_sql(), self.interval.sql());
        format!(
            "SELECT {origin} + number * {interval} AS date_from, \
             {origin} + (number + 1) * {interval} - INTERVAL '1 millisecond' AS date_to \
             FROM generate_series({first}::int, {last}::int) AS number"
        )
    }

    /// The SQL of a local timestamp's bucket as Cube counts: by seconds, a month having 30 days.
    pub(crate) fn bucket_by_epoch(self, local: &str) -> String {
        let (origin, interval) = (self.origin_sql(), self.interval.sql());
        format!(
            "({origin} + {interval} * floor(extract(epoch from ({local} - {origin})) \
             / extract(epoch from {interval})))"
        )
    }

    fn origin_sql(self) -> String {
        format!("TIMESTAMP {}", quote_literal(&self.origin.to_string()))
    }

    /// The SQL of a local timestamp's bucket.
    fn bucket(self, local: &str) -> Result<String, QueryError> {
        let Interval {
            months,
            days,
            seconds,
        } = self.interval;
        Ok(match (months, days, seconds) {
            (0, _, _) => format!(
                "date_bin({}, {local}, {})",
                self.interval.sql(),
                self.origin_sql()
            ),
            (months, 0, 0) if self.origin.day() == 1 => self.month_buckets(local, months),
            _ => self.mixed_buckets(local),
        })
    }

    /// Buckets of whole months counted on the calendar, so that a half-year is never 180 days.
    fn month_buckets(self, local: &str, months: i64) -> String {
        let first = self.origin.date().to_datetime(Time::midnight());
        let into_day = self.origin.duration_since(first).as_secs();
        let start = i64::from(first.year()) * 12 + i64::from(first.month()) - 1;
        let shift = format!("INTERVAL '{into_day} seconds'");
        let (shifted, back) = match into_day {
            0 => (local.to_owned(), String::new()),
            _ => (format!("({local} - {shift})"), format!(" + {shift}")),
        };
        let month = format!(
            "(extract(year from {shifted}) * 12 + extract(month from {shifted}) - 1 - {start})"
        );
        format!(
            "(TIMESTAMP {} + make_interval(months => (floor({month} / {months}) * {months})::int){back})",
            quote_literal(&first.to_string())
        )
    }

    /// Buckets of months and days: counted by their average length, then corrected by one.
    fn mixed_buckets(self, local: &str) -> String {
        let (origin, interval) = (self.origin_sql(), self.interval.sql());
        let near = format!(
            "floor(extract(epoch from ({local} - {origin})) / {})",
            self.interval.average_seconds()
        );
        let start = |by: i64| format!("({origin} + ({near} + {by}) * {interval})");
        format!(
            "CASE WHEN {next} <= {local} THEN {next} WHEN {this} <= {local} THEN {this} ELSE {last} END",
            next = start(1),
            this = start(0),
            last = start(-1)
        )
    }
}

fn own<'m>(member: &'m Member, name: &str) -> Option<&'m Granularity> {
    let own = member.dimension().map(|d| d.granularities.as_slice());
    own.unwrap_or_default()
        .iter()
        .find(|granularity| granularity.name == name)
}

fn unknown(member: &Member, name: &str) -> QueryError {
    QueryError::Unplannable(format!(
        "Granularity \"{name}\" does not exist in dimension {}",
        member.full_name
    ))
}

/// 2024-01-01 began a year on a Monday: where nothing is said, every interval counts from there.
fn origin_of(text: Option<&str>) -> Option<DateTime> {
    let Some(text) = text else {
        return Date::new(2024, 1, 1).ok()?.at(0, 0, 0, 0).into();
    };
    let text = text.trim();
    let first = |date: String| Some(date.parse::<Date>().ok()?.at(0, 0, 0, 0));
    match text.len() {
        4 => first(format!("{text}-01-01")),
        7 => first(format!("{text}-01")),
        _ => text
            .replace(' ', "T")
            .trim_end_matches(['Z', 'z'])
            .parse()
            .ok()
            .or_else(|| first(text.to_owned())),
    }
}

/// Roughly how long an interval is, to tell fine from coarse.
pub(crate) fn seconds_of(member: &Member, name: &str) -> i64 {
    let standard = STANDARD.iter().find(|(standard, _)| *standard == name);
    let interval = standard
        .map(|(_, interval)| *interval)
        .or_else(|| own(member, name).map(|granularity| granularity.interval.as_str()));
    interval
        .and_then(Interval::parse)
        .map_or(i64::MAX, Interval::average_seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn buckets(interval: &str, origin: &str) -> Buckets {
        Buckets {
            origin: origin_of(Some(origin)).unwrap(),
            interval: Interval::parse(interval).unwrap(),
        }
    }

    #[test]
    fn a_time_is_in_the_bucket_that_begins_before_it_and_ends_after() {
        for (interval, origin) in [
            ("6 months", "2024-01-01"),
            ("3 month 3 days 3 hours", "2020-03-15"),
            ("1 month", "2024-01-31"),
            ("8 hours", "2026-01-01 06:00:00"),
        ] {
            let buckets = buckets(interval, origin);
            let mut at: DateTime = "2015-01-01T00:00:00".parse().unwrap();
            while at.year() < 2031 {
                let number = buckets.index(at).unwrap();
                let (start, next) = (buckets.start(number), buckets.start(number + 1));
                assert!(
                    start.unwrap() <= at && at < next.unwrap(),
                    "{interval}: {at}"
                );
                at = at.checked_add(Span::new().hours(41)).unwrap();
            }
        }
    }

    #[test]
    fn an_interval_is_counted_in_its_finest_unit() {
        assert_eq!(finest_unit("7 days"), Some("day"));
        assert_eq!(finest_unit("2 month"), Some("month"));
        assert_eq!(finest_unit("1 year 36 hours"), Some("hour"));
        assert_eq!(finest_unit("0 day"), None);
    }
}
