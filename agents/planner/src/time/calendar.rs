//! Calendar units, windows around dates, and the names of months, days and small numbers.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Weekday};

use crate::frame::{Unit, Window};

/// The calendar unit around a date, moved by whole units.
pub(crate) fn calendar_window(date: Date, unit: Unit, offset: i64) -> Option<Window> {
    let monday = i64::from(date.weekday().to_monday_zero_offset());
    let first = match unit {
        Unit::Hour | Unit::Day => date.checked_add(offset.days()).ok()?,
        Unit::Week => date
            .checked_sub(monday.days())
            .ok()?
            .checked_add((offset * 7).days())
            .ok()?,
        Unit::Month => date.first_of_month().checked_add(offset.months()).ok()?,
        Unit::Quarter => {
            let month = (date.month() - 1) / 3 * 3 + 1;
            Date::new(date.year(), month, 1)
                .ok()?
                .checked_add((offset * 3).months())
                .ok()?
        }
        Unit::Year => Date::new(date.year(), 1, 1)
            .ok()?
            .checked_add(offset.years())
            .ok()?,
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
    Some(days(
        last.checked_sub((length - 1).days()).ok()?,
        last,
        None,
    ))
}

pub(super) fn days(from: Date, to: Date, unit: Option<Unit>) -> Window {
    Window {
        from: from.at(0, 0, 0, 0),
        to: end_of(to),
        sub_day: false,
        unit,
    }
}

pub(crate) fn end_of(date: Date) -> DateTime {
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

pub(super) fn rolling_unit(word: &str) -> Option<(Unit, i64)> {
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

pub(super) fn month_of(word: &str) -> Option<i8> {
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
    let full = MONTHS.iter().position(|month| *month == word);
    let short = || {
        MONTHS
            .iter()
            .position(|month| word.len() == 3 && month.starts_with(word))
    };
    let at = full
        .or_else(short)
        .or_else(|| (word == "sept").then_some(8))?;
    i8::try_from(at + 1).ok()
}

pub(super) fn weekday_of(word: &str) -> Option<Weekday> {
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
    DAYS.iter()
        .find(|(day, _)| *day == word || short(day))
        .map(|(_, weekday)| *weekday)
}

/// Small numbers in words; "one" is an article more often than a number.
pub(crate) fn number_word(word: &str) -> Option<f64> {
    const WORDS: [&str; 11] = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    ];
    let at = WORDS.iter().position(|it| *it == word)?;
    f64::from(u8::try_from(at + 2).ok()?).into()
}
