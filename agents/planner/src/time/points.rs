//! Single windows: days, calendar units, rolling windows, months, dates, parts of days.

use jiff::ToSpan;
use jiff::civil::Date;

use super::TimeReader;
use super::calendar::{
    calendar_window, days, end_of, month_of, number_word, rolling_unit, unit_of, weekday_of,
};
use crate::frame::{Unit, Window};
use crate::normalise::WrittenDate;

impl TimeReader<'_> {
    /// "so far today", "this month so far", "month to date".
    pub(super) fn to_date(&self, i: usize) -> Option<(usize, Window)> {
        let end = end_of(self.today());
        if self.words(i, &["so", "far"]) {
            let (len, window) = self
                .relative_day(i + 2)
                .or_else(|| self.relative_unit(i + 2))?;
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
            return Some((
                len,
                Window {
                    to: end,
                    ..self.calendar(unit, 0)?
                },
            ));
        }
        let (len, window) = self.relative_day(i).or_else(|| self.relative_unit(i))?;
        self.words(i + len, &["so", "far"])
            .then_some((len + 2, Window { to: end, ..window }))
    }

    /// "last night", "this morning", "yesterday afternoon", by the registry's parts of the day.
    pub(super) fn day_part(&self, i: usize) -> Option<(usize, Window)> {
        let back = match self.word(i) {
            "last" | "yesterday" => 1,
            "this" | "today" => 0,
            _ => return None,
        };
        let part = self
            .day_parts
            .iter()
            .find(|part| part.words.iter().any(|w| w == self.word(i + 1)))?;
        let shift = usize::from(self.word(i + 2) == "shift");
        let date = self.today().checked_sub(back.days()).ok()?;
        let crosses = part.to <= part.from;
        let last_day = if crosses { date.tomorrow().ok()? } else { date };
        let to = last_day
            .to_datetime(part.to)
            .checked_sub(1.millisecond())
            .ok()?;
        let window = Window {
            from: date.to_datetime(part.from),
            to,
            sub_day: true,
            unit: Some(Unit::Day),
        };
        Some((2 + shift, window))
    }

    pub(super) fn relative_day(&self, i: usize) -> Option<(usize, Window)> {
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
    pub(super) fn relative_unit(&self, i: usize) -> Option<(usize, Window)> {
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
            let monday = self
                .calendar(Unit::Week, if this { 0 } else { -1 })?
                .from
                .date();
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
    pub(super) fn rolling(&self, unit: Unit, count: i64) -> Option<Window> {
        if unit == Unit::Hour {
            let now = self.now.datetime();
            let hour = now
                .with()
                .minute(0)
                .second(0)
                .subsec_nanosecond(0)
                .build()
                .ok()?;
            let from = hour.checked_sub(count.hours()).ok()?;
            return Some(Window {
                from,
                to: now,
                sub_day: true,
                unit: None,
            });
        }
        let span = match unit {
            Unit::Week => (count * 7).days(),
            Unit::Month => count.months(),
            Unit::Quarter => (count * 3).months(),
            Unit::Year => count.years(),
            Unit::Day | Unit::Hour => count.days(),
        };
        let today = self.today();
        Some(days(
            today.checked_sub(span).ok()?,
            today.yesterday().ok()?,
            None,
        ))
    }

    /// "2 weeks ago".
    pub(super) fn ago(&self, i: usize) -> Option<(usize, Window)> {
        let count = self.count(i)?;
        let unit = unit_of(self.word(i + 1)).filter(|_| self.word(i + 2) == "ago")?;
        Some((3, self.calendar(unit, -count)?))
    }

    pub(super) fn written(&self, i: usize) -> Option<(usize, Window)> {
        let date = self.resolve(self.tokens.get(i)?.date?)?;
        Some((1, days(date, date, Some(Unit::Day))))
    }

    /// "february", "july 2024", "14 march", "march 14 2026", "3 to 9 march".
    pub(super) fn named_month(&self, i: usize) -> Option<(usize, Window)> {
        let day_at = |at: usize| self.count(at).filter(|day| (1..=31).contains(day));
        if let (Some(day), Some(month)) = (day_at(i), month_of(self.word(i + 1))) {
            let year = self.year(i + 2);
            let written = WrittenDate {
                year,
                month,
                day: i8::try_from(day).ok()?,
            };
            let date = self.resolve(written)?;
            return Some((
                2 + usize::from(year.is_some()),
                days(date, date, Some(Unit::Day)),
            ));
        }
        let join = matches!(self.word(i + 1), "to" | "and" | "until");
        let second = i + 1 + usize::from(join);
        if let (Some(first), Some(last), Some(month)) =
            (day_at(i), day_at(second), month_of(self.word(second + 1)))
        {
            let day = |day: i64| -> Option<Date> {
                self.resolve(WrittenDate {
                    year: None,
                    month,
                    day: i8::try_from(day).ok()?,
                })
            };
            return Some((second + 2 - i, days(day(first)?, day(last)?, None)));
        }
        let month = month_of(self.word(i))?;
        if let Some(day) = day_at(i + 1) {
            let year = self.year(i + 2);
            let date = self.resolve(WrittenDate {
                year,
                month,
                day: i8::try_from(day).ok()?,
            })?;
            return Some((
                2 + usize::from(year.is_some()),
                days(date, date, Some(Unit::Day)),
            ));
        }
        let year = self.year(i + 1);
        let first = self.resolve(WrittenDate {
            year,
            month,
            day: 1,
        })?;
        let window = days(first, first.last_of_month(), Some(Unit::Month));
        Some((1 + usize::from(year.is_some()), window))
    }

    pub(super) fn quarter(&self, i: usize) -> Option<(usize, Window)> {
        const NAMED: [&str; 4] = ["first", "second", "third", "fourth"];
        let named = NAMED.iter().position(|it| *it == self.word(i));
        let quarter = match named.filter(|_| self.word(i + 1) == "quarter") {
            Some(at) => i64::try_from(at).ok()? + 1,
            None if self.word(i) == "q" => self.count(i + 1).filter(|it| (1..=4).contains(it))?,
            None => return None,
        };
        let month = i8::try_from(quarter * 3 - 2).ok()?;
        let year = self.year(i + 2);
        let first = self.resolve(WrittenDate {
            year,
            month,
            day: 1,
        })?;
        let last = first.checked_add(2.months()).ok()?.last_of_month();
        Some((
            2 + usize::from(year.is_some()),
            days(first, last, Some(Unit::Quarter)),
        ))
    }

    pub(super) fn weekday(&self, i: usize) -> Option<(usize, Window)> {
        let last = usize::from(matches!(self.word(i), "last" | "this"));
        let weekday = weekday_of(self.word(i + last))?;
        // "on tuesdays" is no single day.
        if self.tokens[i + last].raw.to_lowercase().ends_with('s') {
            return None;
        }
        let today = self.today();
        let back = i64::from(weekday.until(today.weekday()));
        let back = if last == 1 && self.word(i) == "last" && back == 0 {
            7
        } else {
            back
        };
        let date = today.checked_sub(back.days()).ok()?;
        Some((1 + last, days(date, date, Some(Unit::Day))))
    }

    /// "in 2025": a number is a year where a time is expected only.
    pub(super) fn bare_year(&self, i: usize) -> Option<(usize, Window)> {
        let before = i.checked_sub(1).map_or("", |n| self.word(n));
        let year = self
            .year(i)
            .filter(|_| matches!(before, "in" | "for" | "during" | "since" | "year"))?;
        Some((
            1,
            calendar_window(Date::new(year, 1, 1).ok()?, Unit::Year, 0)?,
        ))
    }

    /// The latest such date that is not in the future; the year written, if one is.
    pub(super) fn resolve(&self, written: WrittenDate) -> Option<Date> {
        let year = written.year.unwrap_or(self.today().year());
        let date = Date::new(year, written.month, written.day).ok()?;
        if written.year.is_none() && date > self.today() {
            return Date::new(year - 1, written.month, written.day).ok();
        }
        Some(date)
    }

    pub(super) fn calendar(&self, unit: Unit, offset: i64) -> Option<Window> {
        calendar_window(self.today(), unit, offset)
    }

    pub(super) fn count(&self, i: usize) -> Option<i64> {
        let token = self.tokens.get(i)?;
        match token.text.as_str() {
            "couple" => return Some(2),
            "few" => return Some(3),
            _ => {}
        }
        let number = token.number.or_else(|| number_word(&token.text))?;
        (number.fract() == 0.0 && (0.0..100_000.0).contains(&number)).then_some(number as i64)
    }

    pub(super) fn year(&self, i: usize) -> Option<i16> {
        let year = self.tokens.get(i)?.number?;
        (1970.0..=2100.0).contains(&year).then_some(year as i16)
    }
}
