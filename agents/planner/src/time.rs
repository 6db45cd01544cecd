//! Spans of time in running text, resolved against the context's clock.
//!
//! Weeks start on Monday; names of months and days mean the latest one; dates in figures are day
//! first. "Last week" is the calendar week before this one, "last 7 days" the seven days up to
//! yesterday.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{ToSpan, Zoned};

use crate::frame::{Unit, Window};
use crate::normalise::{Token, WrittenDate};

/// A time expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    Window(Window),
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
}

impl TimeReader<'_> {
    /// The time expression that starts at a token, with its length in tokens.
    pub(crate) fn at(&self, i: usize) -> Option<(usize, When)> {
        self.ranges(i)
            .or_else(|| self.before(i))
            .or_else(|| self.future(i))
            .or_else(|| self.steps(i))
            .or_else(|| self.point(i).map(|(len, window)| (len, self.past(window))))
    }

    fn past(&self, window: Window) -> When {
        if window.from > self.now.datetime() { When::Future } else { When::Window(window) }
    }

    fn word(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| token.text.as_str())
    }

    fn words(&self, i: usize, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(n, word)| self.word(i + n) == *word)
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
                Some((len + skip, self.past(Window { to, unit: None, ..window })))
            }
            "between" | "from" => {
                let (first, start) = self.point(i + 1)?;
                if !matches!(self.word(i + 1 + first), "and" | "to" | "until" | "till" | "through") {
                    // "between 3 and 9 march" is one span already.
                    let whole = start.unit.is_none() && start.from.date() != start.to.date();
                    return whole.then(|| (1 + first, self.past(start)));
                }
                let (second, end) = self.point(i + 2 + first)?;
                let window = Window { from: start.from, to: end.to, sub_day: false, unit: None };
                Some((2 + first + second, self.past(window)))
            }
            _ => {
                let (first, start) = self.point(i)?;
                if !matches!(self.word(i + first), "to" | "until" | "till" | "through") {
                    return None;
                }
                let (second, end) = self.point(i + first + 1)?;
                let window = Window { from: start.from, to: end.to, sub_day: false, unit: None };
                Some((first + 1 + second, self.past(window)))
            }
        }
    }

    /// "the week before", "the previous one", "the month before that".
    fn before(&self, i: usize) -> Option<(usize, When)> {
        if let Some(unit) = unit_of(self.word(i)) {
            if self.word(i + 1) == "before" {
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
        let ranked = matches!(before, "best" | "worst" | "highest" | "lowest" | "biggest" | "busiest");
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
            return Some((len + 1, Window { to: end_of(window.from.date()), ..window }));
        }
        self.to_date(i)
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

    /// "in 2025": a number is a year where a time is expected only.
    fn bare_year(&self, i: usize) -> Option<(usize, Window)> {
        let before = i.checked_sub(1).map_or("", |n| self.word(n));
        let year = self.year(i).filter(|_| matches!(before, "in" | "for" | "during" | "since" | "year"))?;
        Some((1, calendar_window(Date::new(year, 1, 1).ok()?, Unit::Year, 0)?))
    }

    /// "so far today", "this month so far", "month to date".
    fn to_date(&self, i: usize) -> Option<(usize, Window)> {
        let end = end_of(self.today());
        if self.words(i, &["so", "far"]) {
            let (len, window) = self.relative_day(i + 2).or_else(|| self.relative_unit(i + 2))?;
            return Some((len + 2, Window { to: end, ..window }));
        }
        let unit = match self.word(i) {
            "ytd" => Some((1, Unit::Year)),
            "mtd" => Some((1, Unit::Month)),
            "wtd" => Some((1, Unit::Week)),
            word if self.words(i + 1, &["to", "date"]) => unit_of(word).map(|unit| (3, unit)),
            _ => None,
        };
        if let Some((len, unit)) = unit {
            return Some((len, Window { to: end, ..self.calendar(unit, 0)? }));
        }
        let (len, window) = self.relative_day(i).or_else(|| self.relative_unit(i))?;
        self.words(i + len, &["so", "far"]).then_some((len + 2, Window { to: end, ..window }))
    }

    /// "last night", "this morning", "yesterday afternoon", by the registry's parts of the day.
    fn day_part(&self, i: usize) -> Option<(usize, Window)> {
        let back = match self.word(i) {
            "last" | "yesterday" => 1,
            "this" | "today" => 0,
            _ => return None,
        };
        let part = self.day_parts.iter().find(|part| part.words.iter().any(|w| w == self.word(i + 1)))?;
        let shift = usize::from(self.word(i + 2) == "shift");
        let date = self.today().checked_sub(back.days()).ok()?;
        let crosses = part.to <= part.from;
        let last_day = if crosses { date.tomorrow().ok()? } else { date };
        let to = last_day.to_datetime(part.to).checked_sub(1.millisecond()).ok()?;
        let window = Window { from: date.to_datetime(part.from), to, sub_day: true, unit: Some(Unit::Day) };
        Some((2 + shift, window))
    }

    fn relative_day(&self, i: usize) -> Option<(usize, Window)> {
        let today = self.today();
        let (len, date) = match self.word(i) {
            "today" => (1, today),
            "yesterday" => (1, today.yesterday().ok()?),
            "day" if self.words(i + 1, &["before", "yesterday"]) => {
                (3, today.checked_sub(2.days()).ok()?)
            }
            _ => return None,
        };
        Some((len, days(date, date, Some(Unit::Day))))
    }

    /// "this week", "last month", "past 7 days", "last 48 hours".
    fn relative_unit(&self, i: usize) -> Option<(usize, Window)> {
        let word = self.word(i);
        let last = matches!(word, "last" | "past" | "previous" | "prior" | "trailing");
        let this = matches!(word, "this" | "current");
        if !last && !this {
            return None;
        }
        if let Some(count) = self.count(i + 1).filter(|_| last) {
            let (unit, each) = rolling_unit(self.word(i + 2))?;
            return Some((3, self.rolling(unit, count * each)?));
        }
        if self.word(i + 1) == "weekend" {
            let monday = self.calendar(Unit::Week, if this { 0 } else { -1 })?.from.date();
            let saturday = monday.checked_add(5.days()).ok()?;
            return Some((2, days(saturday, saturday.tomorrow().ok()?, None)));
        }
        if self.word(i + 1) == "fortnight" && last {
            return Some((2, self.rolling(Unit::Day, 14)?));
        }
        let unit = unit_of(self.word(i + 1))?;
        if last && (unit == Unit::Hour || matches!(word, "past" | "trailing")) {
            return Some((2, self.rolling(unit, 1)?));
        }
        let back = if this { 0 } else { -1 };
        // "last day" and "this day" are yesterday and today.
        Some((2, self.calendar(unit, back)?))
    }

    /// The N units up to yesterday; hours up to now, from the start of an hour.
    fn rolling(&self, unit: Unit, count: i64) -> Option<Window> {
        if unit == Unit::Hour {
            let now = self.now.datetime();
            let hour = now.with().minute(0).second(0).subsec_nanosecond(0).build().ok()?;
            let from = hour.checked_sub(count.hours()).ok()?;
            return Some(Window { from, to: now, sub_day: true, unit: None });
        }
        let span = match unit {
            Unit::Week => (count * 7).days(),
            Unit::Month => count.months(),
            Unit::Quarter => (count * 3).months(),
            Unit::Year => count.years(),
            Unit::Day | Unit::Hour => count.days(),
        };
        let today = self.today();
        Some(days(today.checked_sub(span).ok()?, today.yesterday().ok()?, None))
    }

    /// "2 weeks ago".
    fn ago(&self, i: usize) -> Option<(usize, Window)> {
        let count = self.count(i)?;
        let unit = unit_of(self.word(i + 1)).filter(|_| self.word(i + 2) == "ago")?;
        Some((3, self.calendar(unit, -count)?))
    }

    fn written(&self, i: usize) -> Option<(usize, Window)> {
        let date = self.resolve(self.tokens.get(i)?.date?)?;
        Some((1, days(date, date, Some(Unit::Day))))
    }

    /// "february", "july 2024", "14 march", "march 14 2026", "3 to 9 march".
    fn named_month(&self, i: usize) -> Option<(usize, Window)> {
        let day_at = |at: usize| self.count(at).filter(|day| (1..=31).contains(day));
        if let (Some(day), Some(month)) = (day_at(i), month_of(self.word(i + 1))) {
            let year = self.year(i + 2);
            let written = WrittenDate { year, month, day: i8::try_from(day).ok()? };
            let date = self.resolve(written)?;
            return Some((2 + usize::from(year.is_some()), days(date, date, Some(Unit::Day))));
        }
        let join = matches!(self.word(i + 1), "to" | "and" | "until");
        let second = i + 1 + usize::from(join);
        if let (Some(first), Some(last), Some(month)) =
            (day_at(i), day_at(second), month_of(self.word(second + 1)))
        {
            let day = |day: i64| -> Option<Date> {
                self.resolve(WrittenDate { year: None, month, day: i8::try_from(day).ok()? })
            };
            return Some((second + 2 - i, days(day(first)?, day(last)?, None)));
        }
        let month = month_of(self.word(i))?;
        if let Some(day) = day_at(i + 1) {
            let year = self.year(i + 2);
            let date = self.resolve(WrittenDate { year, month, day: i8::try_from(day).ok()? })?;
            return Some((2 + usize::from(year.is_some()), days(date, date, Some(Unit::Day))));
        }
        let year = self.year(i + 1);
        let first = self.resolve(WrittenDate { year, month, day: 1 })?;
        let window = days(first, first.last_of_month(), Some(Unit::Month));
        Some((1 + usize::from(year.is_some()), window))
    }

    fn quarter(&self, i: usize) -> Option<(usize, Window)> {
        if self.word(i) != "q" {
            return None;
        }
        let quarter = self.count(i + 1).filter(|it| (1..=4).contains(it))?;
        let month = i8::try_from(quarter * 3 - 2).ok()?;
        let year = self.year(i + 2);
        let first = self.resolve(WrittenDate { year, month, day: 1 })?;
        let last = first.checked_add(2.months()).ok()?.last_of_month();
        Some((2 + usize::from(year.is_some()), days(first, last, Some(Unit::Quarter))))
    }

    fn weekday(&self, i: usize) -> Option<(usize, Window)> {
        let last = usize::from(matches!(self.word(i), "last" | "this"));
        let weekday = weekday_of(self.word(i + last))?;
        // "on tuesdays" is no single day.
        if self.tokens[i + last].raw.to_lowercase().ends_with('s') {
            return None;
        }
        let today = self.today();
        let back = i64::from(weekday.until(today.weekday()));
        let back = if last == 1 && self.word(i) == "last" && back == 0 { 7 } else { back };
        let date = today.checked_sub(back.days()).ok()?;
        Some((1 + last, days(date, date, Some(Unit::Day))))
    }

    /// The latest such date that is not in the future; the year written, if one is.
    fn resolve(&self, written: WrittenDate) -> Option<Date> {
        let year = written.year.unwrap_or(self.today().year());
        let date = Date::new(year, written.month, written.day).ok()?;
        if written.year.is_none() && date > self.today() {
            return Date::new(year - 1, written.month, written.day).ok();
        }
        Some(date)
    }

    fn calendar(&self, unit: Unit, offset: i64) -> Option<Window> {
        calendar_window(self.today(), unit, offset)
    }

    fn count(&self, i: usize) -> Option<i64> {
        let token = self.tokens.get(i)?;
        match token.text.as_str() {
            "couple" => return Some(2),
            "few" => return Some(3),
            _ => {}
        }
        let number = token.number.or_else(|| number_word(&token.text))?;
        (number.fract() == 0.0 && (0.0..100_000.0).contains(&number)).then_some(number as i64)
    }

    fn year(&self, i: usize) -> Option<i16> {
        let year = self.tokens.get(i)?.number?;
        (1970.0..=2100.0).contains(&year).then_some(year as i16)
    }
}

/// The calendar unit around a date, moved by whole units.
pub(crate) fn calendar_window(date: Date, unit: Unit, offset: i64) -> Option<Window> {
    let monday = i64::from(date.weekday().to_monday_zero_offset());
    let first = match unit {
        Unit::Hour | Unit::Day => date.checked_add(offset.days()).ok()?,
        Unit::Week => date.checked_sub(monday.days()).ok()?.checked_add((offset * 7).days()).ok()?,
        Unit::Month => date.first_of_month().checked_add(offset.months()).ok()?,
        Unit::Quarter => {
            let month = (date.month() - 1) / 3 * 3 + 1;
            Date::new(date.year(), month, 1).ok()?.checked_add((offset * 3).months()).ok()?
        }
        Unit::Year => Date::new(date.year(), 1, 1).ok()?.checked_add(offset.years()).ok()?,
    };
    let last = match unit {
        Unit::Hour | Unit::Day => first,
        Unit::Week => first.checked_add(6.days()).ok()?,
        Unit::Month => first.last_of_month(),
        Unit::Quarter => first.checked_add(2.months()).ok()?.last_of_month(),
        Unit::Year => first.last_of_year(),
    };
    Some(days(first, last, Some(unit)))
}

/// The window just before another one, of the same length or calendar unit.
pub(crate) fn window_before(window: &Window, unit: Option<Unit>) -> Option<Window> {
    if let Some(unit) = unit.or(window.unit) {
        return calendar_window(window.from.date(), unit, -1);
    }
    let length = i64::from(window.days());
    let last = window.from.date().yesterday().ok()?;
    Some(days(last.checked_sub((length - 1).days()).ok()?, last, None))
}

fn days(from: Date, to: Date, unit: Option<Unit>) -> Window {
    Window { from: from.at(0, 0, 0, 0), to: end_of(to), sub_day: false, unit }
}

fn end_of(date: Date) -> DateTime {
    date.at(23, 59, 59, 999_000_000)
}

pub(crate) fn unit_of(word: &str) -> Option<Unit> {
    Some(match word {
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        "month" => Unit::Month,
        "quarter" => Unit::Quarter,
        "year" => Unit::Year,
        _ => return None,
    })
}

fn rolling_unit(word: &str) -> Option<(Unit, i64)> {
    if word == "fortnight" {
        return Some((Unit::Day, 14));
    }
    let short = match word {
        "h" => "hour",
        "d" => "day",
        other => other,
    };
    unit_of(short).map(|unit| (unit, 1))
}

fn month_of(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january", "february", "march", "april", "may", "june", "july", "august", "september",
        "october", "november", "december",
    ];
    let full = MONTHS.iter().position(|month| *month == word);
    let short = || MONTHS.iter().position(|month| word.len() == 3 && month.starts_with(word));
    let at = full.or_else(short).or_else(|| (word == "sept").then_some(8))?;
    i8::try_from(at + 1).ok()
}

fn weekday_of(word: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let short = |day: &str| word.len() >= 3 && word.len() <= 4 && day.starts_with(word);
    // "sun" and "sat" are also ordinary words, "mon" and the rest are not.
    DAYS.iter().find(|(day, _)| *day == word || short(day)).map(|(_, weekday)| *weekday)
}

/// Small numbers in words; "one" is an article more often than a number.
pub(crate) fn number_word(word: &str) -> Option<f64> {
    const WORDS: [&str; 11] =
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let at = WORDS.iter().position(|it| *it == word)?;
    f64::from(u8::try_from(at + 2).ok()?).into()
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
        let reader = TimeReader { tokens: &tokens, now: &now, day_parts: &[night] };
        reader.at(0).filter(|(len, _)| *len == tokens.len()).map(|(_, when)| when)
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
        ];
        for (text, from, to) in cases {
            assert_eq!(bounds(text), Some([from.to_owned(), to.to_owned()]), "{text}");
        }
    }

    #[test]
    fn moments_stay_moments() {
        let last_night = bounds("last night").unwrap();
        assert_eq!(last_night, ["2026-03-30T22:00:00.000", "2026-03-31T05:59:59.999"]);
        let hours = bounds("last 48 hours").unwrap();
        assert_eq!(hours, ["2026-03-29T10:00:00.000", "2026-03-31T10:00:00.000"]);
    }

    #[test]
    fn steps_and_the_future_are_told_apart() {
        assert_eq!(read("day by day"), Some(When::Step(Unit::Day)));
        assert_eq!(read("MoM"), Some(When::OverPrevious(Unit::Month)));
        assert_eq!(read("next month"), Some(When::Future));
        assert_eq!(read("the week before"), Some(When::Before(Some(Unit::Week))));
    }
}
