//! Parts of months and weeks, and windows of which one end is said only.

use jiff::ToSpan;
use jiff::civil::Date;

use super::calendar::{days, end_of, month_of, unit_of, weekday_of};
use super::{TimeReader, When};
use crate::frame::{Unit, Window};

impl TimeReader<'_> {
    /// "until 9 march", "before friday", "after 9 march", "up to yesterday": the open end is that of
    /// the data, or now.
    pub(super) fn one_ended(&self, i: usize) -> Option<(usize, When)> {
        let before = i.checked_sub(1).map_or("", |n| self.word(n));
        // "the week before friday" says a length.
        if unit_of(before).is_some() {
            return None;
        }
        let skip = match self.word(i) {
            "until" | "till" | "before" | "after" => 1,
            "up" if matches!(self.word(i + 1), "to" | "until") => 2,
            _ => return None,
        };
        let (len, said) = self.point(i + skip)?;
        let whole = |from: Date, to: Date| Window {
            sub_day: false,
            ..days(from, to, None)
        };
        let window = match self.word(i) {
            "after" => {
                let from = said.to.date().tomorrow().ok()?;
                whole(from, self.today().max(from))
            }
            "before" => whole(self.data_from?.date(), said.from.date().yesterday().ok()?),
            _ => whole(self.data_from?.date(), said.to.date()),
        };
        (window.from <= window.to).then(|| (len + skip, self.past(window)))
    }

    /// "first week of march", "last 10 days of february", "second half of january 2026".
    pub(super) fn part_of_month(&self, i: usize) -> Option<(usize, Window)> {
        let place = match self.word(i) {
            "first" | "opening" => 1,
            "second" => 2,
            "third" => 3,
            "fourth" => 4,
            "last" | "final" | "closing" => 0,
            _ => return None,
        };
        let counted = self
            .count(i + 1)
            .filter(|_| place < 2 && self.word(i + 2) == "day");
        let (len, span) = match (counted, self.word(i + 1)) {
            (Some(count @ 1..=27), _) => (3, count),
            (None, "week") => (2, 7),
            (None, "half") if place < 3 => (2, 0),
            _ => return None,
        };
        let month_at = i + len;
        month_of(self.word(month_at))?;
        if self.tokens.get(month_at)?.after_break {
            return None;
        }
        let (month_len, month) = self.named_month(month_at)?;
        if month.unit != Some(Unit::Month) {
            return None;
        }
        let (first, last) = (month.from.date(), month.to.date());
        let (from, to) = match (span, place) {
            (0, 1) => (first, first.checked_add(14.days()).ok()?),
            (0, _) => (first.checked_add(15.days()).ok()?, last),
            (_, 0) => (last.checked_sub((span - 1).days()).ok()?, last),
            (_, place) => {
                let from = first.checked_add((span * (place - 1)).days()).ok()?;
                (from, from.checked_add((span - 1).days()).ok()?)
            }
        };
        Some((len + month_len, days(from, to, None)))
    }

    /// "tuesday of last week", "last week on tuesday".
    pub(super) fn day_of_week(&self, i: usize) -> Option<(usize, Window)> {
        let week = |at: usize| -> Option<Window> {
            let back = match self.word(at) {
                "last" | "previous" => -1,
                "this" => 0,
                _ => return None,
            };
            (self.word(at + 1) == "week").then(|| self.calendar(Unit::Week, back))?
        };
        let named = |at: usize| {
            let token = self.tokens.get(at)?;
            // "on tuesdays" is no single day.
            let plural = token.raw.to_lowercase().ends_with('s');
            weekday_of(&token.text).filter(|_| !plural)
        };
        let (len, weekday, window) = if let Some(weekday) = named(i) {
            let on = usize::from(matches!(self.word(i + 1), "in" | "on"));
            (3 + on, weekday, week(i + 1 + on)?)
        } else {
            let window = week(i)?;
            let on = usize::from(self.word(i + 2) == "on");
            if self.tokens.get(i + 2 + on)?.after_break {
                return None;
            }
            (3 + on, named(i + 2 + on)?, window)
        };
        let offset = i64::from(weekday.to_monday_zero_offset());
        let date = window.from.date().checked_add(offset.days()).ok()?;
        Some((
            len,
            Window {
                to: end_of(date),
                ..days(date, date, Some(Unit::Day))
            },
        ))
    }
}
