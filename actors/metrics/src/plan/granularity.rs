//! Cutting local times into the buckets of a granularity.

use ballpoint_postgres::ident::quote_literal;
use jiff::civil::{Date, DateTime, Time};

use super::error::QueryError;
use crate::model::Member;

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
    let own = member
        .dimension()
        .map(|d| d.granularities.as_slice())
        .unwrap_or_default();
    let Some(granularity) = own.iter().find(|granularity| granularity.name == name) else {
        return Err(QueryError::Unplannable(format!(
            "Granularity \"{name}\" does not exist in dimension {}",
            member.full_name
        )));
    };
    let origin = origin_of(granularity.origin.as_deref()).ok_or_else(|| {
        QueryError::Unplannable(format!(
            "the origin of granularity \"{name}\" of {} is not a date or time",
            member.full_name
        ))
    })?;
    let offset = granularity.offset.as_deref().unwrap_or("0 days");
    match months_of(&granularity.interval) {
        Some(months) => Ok(month_buckets(local, months, origin, offset)),
        None => {
            let origin = quote_literal(&origin.to_string());
            Ok(format!(
                "date_bin(INTERVAL {}, {local}, TIMESTAMP {origin} + INTERVAL {})",
                quote_literal(&granularity.interval),
                quote_literal(offset)
            ))
        }
    }
}

/// Buckets of whole months counted on the calendar, so that a half-year is never 180 days.
fn month_buckets(local: &str, months: i64, origin: DateTime, offset: &str) -> String {
    let first = origin.date().first_of_month().to_datetime(Time::midnight());
    let into_month = origin.duration_since(first).as_secs();
    let shift = format!(
        "(INTERVAL '{into_month} seconds' + INTERVAL {})",
        quote_literal(offset)
    );
    let start = i64::from(first.year()) * 12 + i64::from(first.month()) - 1;
    let shifted = format!("({local} - {shift})");
    let month = format!(
        "(extract(year from {shifted}) * 12 + extract(month from {shifted}) - 1 - {start})"
    );
    format!(
        "(TIMESTAMP {} + make_interval(months => (floor({month} / {months}) * {months})::int) + {shift})",
        quote_literal(&first.to_string())
    )
}

/// 2024-01-01 began a year on a Monday: where nothing is said, every interval counts from there.
fn origin_of(text: Option<&str>) -> Option<DateTime> {
    let Some(text) = text else {
        return Date::new(2024, 1, 1).ok()?.at(0, 0, 0, 0).into();
    };
    let text = text.trim();
    if text.len() == 4 {
        return Date::new(text.parse().ok()?, 1, 1)
            .ok()?
            .at(0, 0, 0, 0)
            .into();
    }
    if text.len() == 7 {
        return format!("{text}-01")
            .parse::<Date>()
            .ok()?
            .at(0, 0, 0, 0)
            .into();
    }
    text.replace(' ', "T")
        .parse()
        .ok()
        .or_else(|| text.parse::<Date>().ok()?.at(0, 0, 0, 0).into())
}

/// The whole months of an interval, when it is nothing else.
fn months_of(interval: &str) -> Option<i64> {
    let words: Vec<&str> = interval.split_whitespace().collect();
    words.chunks(2).try_fold(0_i64, |sum, pair| {
        let count: i64 = pair.first()?.parse().ok()?;
        let unit = match pair.get(1)?.trim_end_matches('s') {
            "month" => 1,
            "quarter" => 3,
            "year" => 12,
            _ => return None,
        };
        Some(sum + count * unit)
    })
}

/// Roughly how long an interval is, to tell fine from coarse.
pub(crate) fn seconds_of(member: &Member, name: &str) -> i64 {
    let own = member
        .dimension()
        .map(|d| d.granularities.as_slice())
        .unwrap_or_default();
    let interval = STANDARD
        .iter()
        .find(|(standard, _)| *standard == name)
        .map(|(_, interval)| *interval)
        .or_else(|| {
            own.iter()
                .find(|g| g.name == name)
                .map(|g| g.interval.as_str())
        })
        .unwrap_or_default();
    let words: Vec<&str> = interval.split_whitespace().collect();
    words
        .chunks(2)
        .map(|pair| {
            let count: i64 = pair[0].parse().unwrap_or(0);
            let unit = match pair.get(1).map_or("", |unit| unit.trim_end_matches('s')) {
                "second" => 1,
                "minute" => 60,
                "hour" => 3_600,
                "day" => 86_400,
                "week" => 604_800,
                "month" => 2_629_746,
                "quarter" => 7_889_238,
                _ => 31_556_952,
            };
            count * unit
        })
        .sum()
}
