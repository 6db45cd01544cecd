//! What an hour says about the rows in it: date, weekend, night.

use jiff::{SignedDuration, Timestamp, civil::Date, civil::Weekday, tz::TimeZone};

use crate::parameters::Calendar;

/// Hours since 1970-01-01T00:00Z.
pub(crate) type Hour = i64;

/// One hour of production.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) hour: Hour,
    /// UTC days since 1970-01-01.
    pub(crate) day: i64,
    pub(crate) hour_of_day: u8,
    pub(crate) day_of_year: u16,
    pub(crate) weekend: bool,
    pub(crate) night: bool,
    /// `2026-03-31 09`, the part of a timestamp all rows of the hour share.
    pub(crate) prefix: String,
}

impl Slot {
    pub(crate) fn at(hour: Hour, calendar: &Calendar) -> Self {
        let civil = start_of(hour).to_zoned(TimeZone::UTC).datetime();
        let hour_of_day = civil.hour().cast_unsigned();
        Self {
            hour,
            day: hour.div_euclid(24),
            hour_of_day,
            day_of_year: civil.date().day_of_year().cast_unsigned(),
            weekend: calendar
                .weekend
                .iter()
                .any(|day| is_day(civil.date(), *day)),
            night: within(hour_of_day, calendar.night.from, calendar.night.to),
            prefix: format!("{} {hour_of_day:02}", civil.date()),
        }
    }
}

/// The hour a moment lies in.
pub(crate) fn hour_of(time: Timestamp) -> Hour {
    time.as_second().div_euclid(3_600)
}

/// The first moment of an hour; hours beyond the calendar end on its edge.
pub(crate) fn start_of(hour: Hour) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .saturating_add(SignedDuration::from_hours(hour))
        .unwrap_or(Timestamp::MAX)
}

/// Whether `hour` lies in `[from, to)`, around midnight when `from > to`.
pub(crate) fn within(hour: u8, from: u8, to: u8) -> bool {
    if from <= to {
        (from..to).contains(&hour)
    } else {
        hour >= from || hour < to
    }
}

fn is_day(date: Date, day: crate::parameters::Day) -> bool {
    use crate::parameters::Day;
    let weekday = match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    };
    date.weekday() == weekday
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parameters::{Day, Night};

    fn slot(time: &str) -> Slot {
        let calendar = Calendar {
            weekend: vec![Day::Saturday, Day::Sunday],
            night: Night { from: 22, to: 6 },
        };
        Slot::at(hour_of(time.parse().unwrap()), &calendar)
    }

    #[test]
    fn a_saturday_night_is_weekend_and_night() {
        let slot = slot("2026-03-28T23:59:59Z");
        assert!(slot.weekend && slot.night);
        assert_eq!((slot.hour_of_day, slot.day_of_year), (23, 87));
        assert_eq!(slot.prefix, "2026-03-28 23");
    }

    #[test]
    fn six_in_the_morning_is_no_longer_night() {
        assert!(slot("2026-03-31T05:00:00Z").night);
        assert!(!slot("2026-03-31T06:00:00Z").night);
    }
}
