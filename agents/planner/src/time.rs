//! Spans of time in running text, resolved against the context's clock.
//!
//! Weeks start on Monday; names of months and days mean the latest one; dates in figures are day
//! first. "Last week" is the calendar week before this one, "last 7 days" the seven days up to
//! yesterday.

mod calendar;
mod parts;
mod points;

use jiff::Zoned;
use jiff::civil::{Date, DateTime, Time};

use crate::frame::{Unit, Window};
use crate::normalise::Token;

pub(crate) use calendar::end_of;
pub(crate) use calendar::{calendar_window, number_word, unit_of, window_before};
use calendar::{month_of, weekday_of};

/// A time expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    Window(Window),
    /// A window said by its first and its last period: "from january to march".
    Span(Window, Window),
    /// The window before the one last spoken of.
    Before(Option<Unit>),
    /// The result is wanted by this unit.
    Step(Unit),
    /// This unit against the one before, as in "month over month".
    OverPrevious(Unit),
    /// A time that has not come yet.
    Future,
}

/// Part of a day with a name, from the registry: "night" is 22:00 to 06:00.
#[derive(Clone, Debug)]
pub(crate) struct DayPart {
    pub(crate) words: Vec<String>,
    pub(crate) from: Time,
    pub(crate) to: Time,
}

pub(crate) struct TimeReader<'a> {
    pub(crate) tokens: &'a [Token],
    pub(crate) now: &'a Zoned,
    pub(crate) day_parts: &'a [DayPart],
    /// Where the data begins, as far as that is known.
    pub(crate) data_from: Option<DateTime>,
}

impl TimeReader<'_> {
    /// The time expression that starts at a token, with its length in tokens.
    pub(crate) fn at(&self, i: usize) -> Option<(usize, When)> {
        self.ranges(i)
            .or_else(|| self.one_ended(i))
            .or_else(|| self.before(i))
            .or_else(|| self.future(i))
            .or_else(|| self.steps(i))
            .or_else(|| self.point(i).map(|(len, window)| (len, self.past(window))))
    }

    fn past(&self, window: Window) -> When {
        if window.from > self.now.datetime() {
            When::Future
        } else {
            When::Window(window)
        }
    }

    fn word(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| token.text.as_str())
    }

    fn words(&self, i: usize, expected: &[&str]) -> bool {
        expected
            .iter()
            .enumerate()
            .all(|(n, word)| self.word(i + n) == *word)
    }

    fn today(&self) -> Date {
        self.now.date()
    }

    /// "since monday", "between 3 and 9 march", "from a to b", "until friday".
    fn ranges(&self, i: usize) -> Option<(usize, When)> {
        match self.word(i) {
            "since" | "starting" => {
                let skip = if self.word(i + 1) == "from" { 2 } else { 1 };
                let (len, window) = self.point(i + skip)?;
                let to = if window.sub_day {
                    self.now.datetime()
                } else {
                    end_of(self.today())
                };
                Some((
                    len + skip,
                    self.past(Window {
                        to,
                        unit: None,
                        ..window
                    }),
                ))
            }
            "between" | "from" => {
                let (first, start) = self.point(i + 1)?;
                if !matches!(
                    self.word(i + 1 + first),
                    "and" | "to" | "until" | "till" | "through"
                ) {
                    // "between 3 and 9 march" is one span already.
                    let whole = start.unit.is_none() && start.from.date() != start.to.date();
                    return whole.then(|| (1 + first, self.past(start)));
                }
                let (second, end) = self.point(i + 2 + first)?;
                Some((2 + first + second, self.span(start, end)))
            }
            _ => {
                let (first, start) = self.point(i)?;
                if !matches!(self.word(i + first), "to" | "until" | "till" | "through") {
                    return None;
                }
                let (second, end) = self.point(i + first + 1)?;
                Some((first + 1 + second, self.span(start, end)))
            }
        }
    }

    /// All from the start of one window to the end of another.
    fn span(&self, start: Window, end: Window) -> When {
        let periods = start.unit.filter(|unit| *unit > Unit::Day);
        if periods.is_some() && periods == end.unit && start.to < end.from {
            return When::Span(start, end);
        }
        self.past(start.through(end))
    }

    /// "the week before", "the previous one", "the month before that".
    fn before(&self, i: usize) -> Option<(usize, When)> {
        if let Some(unit) = unit_of(self.word(i))
            && self.word(i + 1) == "before"
        {
            if self.word(i + 2) == "last" {
                let window = self.calendar(unit, -2)?;
                return Some((3, When::Window(window)));
            }
            if unit == Unit::Day && self.word(i + 2) == "yesterday" {
                return None;
            }
            let that = usize::from(matches!(self.word(i + 2), "that" | "it"));
            return Some((2 + that, When::Before(Some(unit))));
        }
        let one = matches!(self.word(i + 1), "one" | "period");
        if matches!(self.word(i), "previous" | "prior" | "preceding") && one {
            return Some((2, When::Before(None)));
        }
        None
    }

    fn future(&self, i: usize) -> Option<(usize, When)> {
        let next = matches!(self.word(i), "next" | "coming" | "upcoming");
        if next {
            let counted = usize::from(self.count(i + 1).is_some());
            let named = unit_of(self.word(i + 1 + counted)).is_some()
                || weekday_of(self.word(i + 1)).is_some()
                || month_of(self.word(i + 1)).is_some();
            if named {
                return Some((2 + counted, When::Future));
            }
        }
        (self.word(i) == "tomorrow").then_some((1, When::Future))
    }

    /// "daily", "by week", "day by day", "which month", "week over week".
    fn steps(&self, i: usize) -> Option<(usize, When)> {
        let adverb = match self.word(i) {
            "hourly" => Some(Unit::Hour),
            "daily" => Some(Unit::Day),
            "weekly" => Some(Unit::Week),
            "monthly" => Some(Unit::Month),
            "quarterly" => Some(Unit::Quarter),
            "yearly" | "annual" | "annually" => Some(Unit::Year),
            _ => None,
        };
        if let Some(unit) = adverb {
            return Some((1, When::Step(unit)));
        }
        match self.word(i) {
            "mom" => return Some((1, When::OverPrevious(Unit::Month))),
            "wow" => return Some((1, When::OverPrevious(Unit::Week))),
            "dod" => return Some((1, When::OverPrevious(Unit::Day))),
            "qoq" => return Some((1, When::OverPrevious(Unit::Quarter))),
            "yoy" => return Some((1, When::OverPrevious(Unit::Year))),
            "by" | "per" | "each" | "every" | "which" | "what" | "for" if self.step_noun(i + 1) => {
                let each = usize::from(self.word(i + 1) == "each");
                let unit = unit_of(self.word(i + 1 + each))?;
                return Some((2 + each, When::Step(unit)));
            }
            _ => {}
        }
        let unit = unit_of(self.word(i))?;
        let before = i.checked_sub(1).map_or("", |n| self.word(n));
        let ranked = matches!(
            before,
            "best" | "worst" | "highest" | "lowest" | "biggest" | "busiest"
        );
        if ranked || self.word(i + 1) == "with" {
            return Some((1, When::Step(unit)));
        }
        if unit_of(self.word(i + 2)) == Some(unit) {
            match self.word(i + 1) {
                "by" | "per" | "after" => return Some((3, When::Step(unit))),
                "over" | "on" | "to" => return Some((3, When::OverPrevious(unit))),
                _ => {}
            }
        }
        None
    }

    fn step_noun(&self, i: usize) -> bool {
        let each = usize::from(self.word(i) == "each");
        unit_of(self.word(i + each)).is_some() && self.word(i + each + 1) != "before"
    }

    /// A single window.
    fn point(&self, i: usize) -> Option<(usize, Window)> {
        if matches!(self.word(i), "start" | "beginning") {
            let (len, window) = self.point(i + 1)?;
            return Some((
                len + 1,
                Window {
                    to: end_of(window.from.date()),
                    ..window
                },
            ));
        }
        self.part_of_month(i)
            .or_else(|| self.day_of_week(i))
            .or_else(|| self.to_date(i))
            .or_else(|| self.day_part(i))
            .or_else(|| self.relative_day(i))
            .or_else(|| self.relative_unit(i))
            .or_else(|| self.ago(i))
            .or_else(|| self.written(i))
            .or_else(|| self.named_month(i))
            .or_else(|| self.quarter(i))
            .or_else(|| self.weekday(i))
            .or_else(|| self.bare_year(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::tokens;

    fn read(text: &str) -> Option<When> {
        let now: Zoned = "2026-03-31T10:00:00+00:00[UTC]".parse().unwrap();
        let tokens = tokens(text);
        let night = DayPart {
            words: vec!["night".into()],
            from: "22:00".parse().unwrap(),
            to: "06:00".parse().unwrap(),
        };
        let reader = TimeReader {
            tokens: &tokens,
            now: &now,
            day_parts: &[night],
            data_from: Some("2025-12-31T10:00:00".parse().unwrap()),
        };
        reader
            .at(0)
            .filter(|(len, _)| *len == tokens.len())
            .map(|(_, when)| when)
    }

    fn bounds(text: &str) -> Option<[String; 2]> {
        match read(text)? {
            When::Window(window) => Some(window.bounds()),
            _ => None,
        }
    }

    #[test]
    fn phrases_become_windows() {
        let cases = [
            ("today", "2026-03-31", "2026-03-31"),
            ("so far today", "2026-03-31", "2026-03-31"),
            ("last week", "2026-03-23", "2026-03-29"),
            ("the past 7 days", "2026-03-24", "2026-03-30"),
            ("past 2 months", "2026-01-31", "2026-03-30"),
            ("this month", "2026-03-01", "2026-03-31"),
            ("february", "2026-02-01", "2026-02-28"),
            ("march", "2026-03-01", "2026-03-31"),
            ("december", "2025-12-01", "2025-12-31"),
            ("july 2024", "2024-07-01", "2024-07-31"),
            ("last quarter", "2025-10-01", "2025-12-31"),
            ("since monday", "2026-03-30", "2026-03-31"),
            ("14/03", "2026-03-14", "2026-03-14"),
            ("14th of march", "2026-03-14", "2026-03-14"),
            ("between 3 and 9 march", "2026-03-03", "2026-03-09"),
            ("from 1 february to 10 march", "2026-02-01", "2026-03-10"),
            ("week before last", "2026-03-16", "2026-03-22"),
            ("2 weeks ago", "2026-03-16", "2026-03-22"),
            ("last weekend", "2026-03-28", "2026-03-29"),
            ("last tuesday", "2026-03-24", "2026-03-24"),
            ("month to date", "2026-03-01", "2026-03-31"),
            ("q1 2026", "2026-01-01", "2026-03-31"),
            ("until 9 march", "2025-12-31", "2026-03-09"),
            ("before february", "2025-12-31", "2026-01-31"),
            ("after 9 march", "2026-03-10", "2026-03-31"),
            ("up to yesterday", "2025-12-31", "2026-03-30"),
            ("first week of march", "2026-03-01", "2026-03-07"),
            ("third week of february", "2026-02-15", "2026-02-21"),
            ("last week of february", "2026-02-22", "2026-02-28"),
            ("first 10 days of march", "2026-03-01", "2026-03-10"),
            ("last 3 days of february", "2026-02-26", "2026-02-28"),
            ("second half of february", "2026-02-16", "2026-02-28"),
            ("tuesday of last week", "2026-03-24", "2026-03-24"),
            ("last week on friday", "2026-03-27", "2026-03-27"),
        ];
        for (text, from, to) in cases {
            assert_eq!(
                bounds(text),
                Some([from.to_owned(), to.to_owned()]),
                "{text}"
            );
        }
    }

    #[test]
    fn moments_stay_moments() {
        let last_night = bounds("last night").unwrap();
        assert_eq!(
            last_night,
            ["2026-03-30T22:00:00.000", "2026-03-31T05:59:59.999"]
        );
        let hours = bounds("last 48 hours").unwrap();
        assert_eq!(
            hours,
            ["2026-03-29T10:00:00.000", "2026-03-31T10:00:00.000"]
        );
    }

    #[test]
    fn steps_and_the_future_are_told_apart() {
        assert_eq!(read("day by day"), Some(When::Step(Unit::Day)));
        assert_eq!(read("MoM"), Some(When::OverPrevious(Unit::Month)));
        assert_eq!(read("next month"), Some(When::Future));
        assert_eq!(read("friday of this week"), Some(When::Future));
        assert_eq!(
            read("the week before"),
            Some(When::Before(Some(Unit::Week)))
        );
    }
}
