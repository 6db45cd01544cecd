//! Date phrases: `today`, `last 7 days`, `from 2 weeks ago to yesterday`, `july 2026`, ISO dates.
//!
//! The ranges are Cube's, except where Cube does not read what is written: a range between two
//! phrases covers both ends, and a month or a year alone is the whole month or year.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};

/// Local time with milliseconds, as Cube writes it.
pub const LOCAL_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%3f";

/// An inclusive range of local times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: DateTime,
    pub to: DateTime,
}

impl Range {
    fn unit(at: DateTime, step: Step) -> Option<Self> {
        let from = step.start(at)?;
        let next = from.checked_add(step.span(1)).ok()?;
        Some(Self {
            from,
            to: next.checked_sub(1.millisecond()).ok()?,
        })
    }

    /// Both ends as text.
    pub fn texts(&self) -> [String; 2] {
        [local_text(self.from), local_text(self.to)]
    }
}

pub fn local_text(at: DateTime) -> String {
    at.strftime(LOCAL_FORMAT).to_string()
}

/// The instant of a local time, as PostgreSQL reads it.
pub fn utc_text(at: DateTime, zone: &TimeZone) -> Option<String> {
    let instant = at.to_zoned(zone.clone()).ok()?.timestamp();
    Some(instant.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

/// A calendar unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Step {
    fn parse(word: &str) -> Option<Self> {
        Some(match word.trim_end_matches('s') {
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => return None,
        })
    }

    fn span(self, count: i64) -> Span {
        let span = Span::new();
        let spanned = match self {
            Self::Second => span.try_seconds(count),
            Self::Minute => span.try_minutes(count),
            Self::Hour => span.try_hours(count),
            Self::Day => span.try_days(count),
            Self::Week => span.try_weeks(count),
            Self::Month => span.try_months(count),
            Self::Quarter => span.try_months(count.saturating_mul(3)),
            Self::Year => span.try_years(count),
        };
        spanned.unwrap_or_default()
    }

    fn start(self, at: DateTime) -> Option<DateTime> {
        let date = at.date();
        let midnight = |date: Date| date.to_datetime(Time::midnight());
        Some(match self {
            Self::Second => at.with().subsec_nanosecond(0).build().ok()?,
            Self::Minute => at.with().second(0).subsec_nanosecond(0).build().ok()?,
            Self::Hour => at
                .with()
                .minute(0)
                .second(0)
                .subsec_nanosecond(0)
                .build()
                .ok()?,
            Self::Day => midnight(date),
            Self::Week => {
                let back = i64::from(date.weekday().to_monday_zero_offset());
                midnight(date.checked_sub(back.days()).ok()?)
            }
            Self::Month => midnight(date.first_of_month()),
            Self::Quarter => {
                let month = (date.month() - 1) / 3 * 3 + 1;
                midnight(Date::new(date.year(), month, 1).ok()?)
            }
            Self::Year => midnight(date.first_of_year()),
        })
    }
}

/// Resolves a phrase against `now` in `zone`; `None` when it is not understood.
pub fn parse_phrase(phrase: &str, now: Timestamp, zone: &TimeZone) -> Option<Range> {
    let text = phrase.trim().to_lowercase();
    let now = now.to_zoned(zone.clone());
    if let Some((from, to)) = text
        .strip_prefix("from ")
        .and_then(|rest| rest.split_once(" to "))
    {
        let exact = exact_step(&text);
        let from = single(from.trim(), &now, exact)?;
        let to = single(to.trim(), &now, exact)?;
        return (from.from <= to.to).then_some(Range {
            from: from.from,
            to: to.to,
        });
    }
    single(&text, &now, exact_step(&text))
}

/// A point said with an hour, minute or second covers that; otherwise its day.
fn exact_step(text: &str) -> Step {
    [
        (Step::Second, "second"),
        (Step::Minute, "minute"),
        (Step::Hour, "hour"),
    ]
    .into_iter()
    .find(|(_, word)| text.contains(word))
    .map_or(Step::Day, |(step, _)| step)
}

fn single(text: &str, now: &Zoned, exact: Step) -> Option<Range> {
    let words: Vec<&str> = text.split_whitespace().collect();
    relative_unit(&words, now)
        .or_else(|| counted_units(&words, now))
        .or_else(|| named_day(&words, now))
        .or_else(|| distance(&words, now, exact))
        .or_else(|| weekday(&words, now))
        .or_else(|| month_or_year(&words, now))
        .or_else(|| iso(text, now.time_zone()))
}

/// `this month`, `last week`, `next day`; what follows is left aside, as Cube does.
fn relative_unit(words: &[&str], now: &Zoned) -> Option<Range> {
    let [direction, unit, ..] = words else {
        return None;
    };
    let step = Step::parse(unit)?;
    let shift = match *direction {
        "this" => 0,
        "last" => -1,
        "next" => 1,
        _ => return None,
    };
    shifted(now, step, shift).and_then(|at| Range::unit(at, step))
}

/// `last 7 days` ends with the day before, `next 2 weeks` begins with the week after.
fn counted_units(words: &[&str], now: &Zoned) -> Option<Range> {
    let [direction, count, unit, ..] = words else {
        return None;
    };
    let (count, step) = (
        count.parse::<u32>().ok().filter(|n| *n > 0)?,
        Step::parse(unit)?,
    );
    let count = i64::from(count);
    let (first, last) = match *direction {
        "last" => (-count, -1),
        "next" => (1, count),
        _ => return None,
    };
    let first = Range::unit(shifted(now, step, first)?, step)?;
    let last = Range::unit(shifted(now, step, last)?, step)?;
    Some(Range {
        from: first.from,
        to: last.to,
    })
}

fn shifted(now: &Zoned, step: Step, count: i64) -> Option<DateTime> {
    let span = step.span(count);
    if matches!(step, Step::Second | Step::Minute | Step::Hour) {
        return now.checked_add(span).ok().map(|at| at.datetime());
    }
    now.datetime().checked_add(span).ok()
}

fn named_day(words: &[&str], now: &Zoned) -> Option<Range> {
    let [word] = words else { return None };
    let shift = match *word {
        "today" | "now" => 0,
        "yesterday" => -1,
        "tomorrow" => 1,
        _ => return None,
    };
    Range::unit(shifted(now, Step::Day, shift)?, Step::Day)
}

/// `2 days ago`, `a week ago`, `3 hours from now`, `in 2 days`; `past 7 days` is the day seven days
/// ago, as in Cube.
fn distance(words: &[&str], now: &Zoned, exact: Step) -> Option<Range> {
    let (count, unit, sign) = match words {
        [count, unit, "ago"] => (count, unit, -1),
        [count, unit, "from", "now"] | ["in", count, unit] => (count, unit, 1),
        ["past", count, unit] => (count, unit, -1),
        _ => return None,
    };
    let count = match *count {
        "a" | "an" | "one" => 1,
        digits => digits.parse::<i64>().ok()?,
    };
    Range::unit(
        shifted(now, Step::parse(unit)?, count.checked_mul(sign)?)?,
        exact,
    )
}

fn weekday(words: &[&str], now: &Zoned) -> Option<Range> {
    let (direction, name) = match words {
        [direction @ ("last" | "next" | "this"), name] => (*direction, *name),
        [name] => ("last", *name),
        _ => return None,
    };
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let day = DAYS.iter().find(|(day, _)| *day == name)?.1;
    let nth = if direction == "last" { -1 } else { 1 };
    let date = now.date().nth_weekday(nth, day).ok()?;
    Range::unit(date.to_datetime(Time::midnight()), Step::Day)
}

/// `july 2026`, `2026`, `jan 1`, `jan 1 2026`: a month, a year or a day.
fn month_or_year(words: &[&str], now: &Zoned) -> Option<Range> {
    let at = |year: i16, month: i8, day: i8, step: Step| {
        Range::unit(
            Date::new(year, month, day)
                .ok()?
                .to_datetime(Time::midnight()),
            step,
        )
    };
    let year = |word: &str| {
        (word.len() == 4)
            .then(|| word.parse::<i16>().ok())
            .flatten()
    };
    match words {
        [word] => match year(word) {
            Some(year) => at(year, 1, 1, Step::Year),
            None => at(
                closest_year(now, month(word)?, 1),
                month(word)?,
                1,
                Step::Month,
            ),
        },
        [name, second] => match year(second) {
            Some(year) => at(year, month(name)?, 1, Step::Month),
            None => {
                let (month, day) = (month(name)?, day_of_month(second)?);
                at(closest_year(now, month, day), month, day, Step::Day)
            }
        },
        [name, day, last] => at(year(last)?, month(name)?, day_of_month(day)?, Step::Day),
        _ => None,
    }
}

fn day_of_month(word: &str) -> Option<i8> {
    word.trim_end_matches([',', 's', 't', 'n', 'd', 'r', 'h'])
        .parse()
        .ok()
}

/// A month from its name or its first three letters.
fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.trim_end_matches(['.', ',']);
    let found = MONTHS.iter().position(|month| {
        *month == word
            || (word.len() == 3 && month.starts_with(word))
            || word == "sept" && *month == "september"
    })?;
    i8::try_from(found + 1).ok()
}

/// The year in which the day lies nearest to now.
fn closest_year(now: &Zoned, month: i8, day: i8) -> i16 {
    let today = now.date();
    [today.year() - 1, today.year(), today.year() + 1]
        .into_iter()
        .filter_map(|year| Some((Date::new(year, month, day).ok()?, year)))
        .min_by_key(|(date, _)| {
            today
                .until((Unit::Day, *date))
                .map_or(i32::MAX, |span| span.get_days().abs())
        })
        .map_or(today.year(), |(_, year)| year)
}

/// An ISO date is its day, a timestamp itself; one with a zone is converted to `zone`.
pub fn iso(text: &str, zone: &TimeZone) -> Option<Range> {
    let text = text.trim();
    if text.len() == 10 {
        let date: Date = text.parse().ok()?;
        return Range::unit(date.to_datetime(Time::midnight()), Step::Day);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.len() < 13 {
        return None;
    }
    let upper = text.to_uppercase();
    if let Ok(instant) = upper.parse::<Timestamp>() {
        let at = instant.to_zoned(zone.clone()).datetime();
        return Some(Range { from: at, to: at });
    }
    let at: DateTime = upper.parse().ok()?;
    Some(Range { from: at, to: at })
}

/// A pair as clients send it: each end an ISO date, a timestamp or a phrase.
pub fn parse_pair(from: &str, to: &str, now: Timestamp, zone: &TimeZone) -> Result<Range, String> {
    let end = |text: &str| {
        iso(text, zone)
            .or_else(|| parse_phrase(text, now, zone))
            .ok_or_else(|| text.to_owned())
    };
    Ok(Range {
        from: end(from)?.from,
        to: end(to)?.to,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn range(phrase: &str) -> Option<[String; 2]> {
        let now: Timestamp = "2026-08-22T12:00:00Z".parse().unwrap();
        parse_phrase(phrase, now, &TimeZone::UTC).map(|range| range.texts())
    }

    #[test]
    fn ranges_between_phrases_cover_both_ends() {
        let both = range("from yesterday to today").unwrap();
        assert_eq!(both, ["2026-08-21T00:00:00.000", "2026-08-22T23:59:59.999"]);
        let both = range("from last month to today").unwrap();
        assert_eq!(both, ["2026-07-01T00:00:00.000", "2026-08-22T23:59:59.999"]);
    }

    #[test]
    fn a_month_or_year_alone_is_all_of_it() {
        assert_eq!(
            range("July 2026").unwrap(),
            ["2026-07-01T00:00:00.000", "2026-07-31T23:59:59.999"]
        );
        assert_eq!(
            range("2026").unwrap(),
            ["2026-01-01T00:00:00.000", "2026-12-31T23:59:59.999"]
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for phrase in [
            "last blue moon",
            "ytd",
            "previous month",
            "",
            "last -1 days of",
            "2026-13-45",
        ] {
            assert_eq!(range(phrase), None, "{phrase}");
        }
    }
}
