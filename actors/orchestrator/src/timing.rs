//! When a schedule is due: a cron expression in a time zone.
//!
//! Five fields, on the wall clock of the zone. Where the clock is put forward, a time that does not
//! exist is due right after the gap, once. Where it is put back, a time that comes twice is due the
//! first time only. An expression that goes on through the day (a `*` or step as minute or hour)
//! follows elapsed time instead, as in Vixie cron: every real hour has its turn.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Times that were missed are counted up to here.
const MISSED_MAX: u32 = 1000;

/// The wall clock times of a schedule.
#[derive(Clone, PartialEq)]
pub struct Timing {
    expression: String,
    zone_name: String,
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error(
        "`{expression}` is no cron expression ({reason}); it has five fields, minute hour \
         day-of-month month day-of-week, such as `0 6 * * mon-fri`"
    )]
    Expression { expression: String, reason: String },
    #[error("`{expression}` never comes")]
    Never { expression: String },
    #[error("there is no time zone `{name}`; IANA's names look like `Europe/Berlin`")]
    Zone { name: String },
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone_name)
    }
}

impl Timing {
    /// Reads an expression and the name of a zone.
    ///
    /// # Errors
    /// Says what is wrong with which of them.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, TimingError> {
        let cron = cron(expression)?;
        let timing = Self {
            expression: expression.to_owned(),
            zone_name: zone.to_owned(),
            cron,
            zone: self::zone(zone)?,
        };
        match timing.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(timing),
            None => Err(TimingError::Never {
                expression: expression.to_owned(),
            }),
        }
    }

    /// The expression, as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The zone's name, as it was written.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The first time after `moment`; none when the calendar ends first.
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = moment.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&moment, false).ok()?;
        Some(next.timestamp())
    }

    /// Of the times from `first` (which is one) up to `now`, the latest, and how many came before it.
    pub fn latest(&self, first: Timestamp, now: Timestamp) -> (Timestamp, u32) {
        let (mut latest, mut missed) = (first, 0);
        while let Some(next) = self.after(latest).filter(|next| *next <= now) {
            latest = next;
            missed += 1;
            if missed >= MISSED_MAX {
                let now = now.to_zoned(self.zone.clone());
                let last = self.cron.find_previous_occurrence(&now, true);
                return (last.map_or(latest, |it| it.timestamp()), missed);
            }
        }
        (latest, missed)
    }
}

/// Reads a cron expression alone.
///
/// # Errors
/// Says what is wrong with it.
pub fn cron(expression: &str) -> Result<Cron, TimingError> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser
        .parse(expression)
        .map_err(|error| TimingError::Expression {
            expression: expression.to_owned(),
            reason: error.to_string().trim_end_matches('.').to_lowercase(),
        })
}

/// Finds a time zone.
///
/// # Errors
/// When there is none of that name.
pub fn zone(name: &str) -> Result<TimeZone, TimingError> {
    TimeZone::get(name).map_err(|_| TimingError::Zone {
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The times after `from`, in the zone's own words.
    fn times(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let timing = Timing::parse(expression, zone).unwrap();
        let first: Timestamp = from.parse().unwrap();
        let later = std::iter::successors(Some(first), |at| timing.after(*at));
        later
            .skip(1)
            .take(count)
            .map(|at| {
                at.to_zoned(timing.zone.clone())
                    .strftime("%m-%d %H:%M %Z")
                    .to_string()
            })
            .collect()
    }

    #[test]
    fn a_time_that_the_clock_skips_is_due_right_after_the_gap_and_once() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 4),
            [
                "03-28 02:30 CET",
                "03-29 03:00 CEST",
                "03-30 02:30 CEST",
                "03-31 02:30 CEST"
            ]
        );
        assert_eq!(
            times("30 2 * * *", "America/New_York", "2026-03-06T12:00:00Z", 4),
            [
                "03-07 02:30 EST",
                "03-08 03:00 EDT",
                "03-09 02:30 EDT",
                "03-10 02:30 EDT"
            ]
        );
    }

    #[test]
    fn a_time_that_comes_twice_is_due_the_first_time_only() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3),
            ["10-24 02:30 CEST", "10-25 02:30 CEST", "10-26 02:30 CET"]
        );
        assert_eq!(
            times("30 1 * * *", "America/New_York", "2026-10-30T12:00:00Z", 3),
            ["10-31 01:30 EDT", "11-01 01:30 EDT", "11-02 01:30 EST"]
        );
    }

    #[test]
    fn a_schedule_of_every_hour_keeps_to_elapsed_hours() {
        assert_eq!(
            times("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 3),
            ["03-29 01:00 CET", "03-29 03:00 CEST", "03-29 04:00 CEST"]
        );
        assert_eq!(
            times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3),
            ["10-25 02:00 CEST", "10-25 02:00 CET", "10-25 03:00 CET"]
        );
    }

    #[test]
    fn a_morning_stays_at_its_wall_clock_time_all_year() {
        let six = |from: &str| times("0 6 * * mon-fri", "Europe/Berlin", from, 1);
        assert_eq!(six("2026-01-01T12:00:00Z"), ["01-02 06:00 CET"]);
        assert_eq!(six("2026-07-03T12:00:00Z"), ["07-06 06:00 CEST"]);
    }

    #[test]
    fn of_the_times_that_passed_the_latest_is_made_up_for() {
        let timing = Timing::parse("0 * * * *", "UTC").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let latest = timing.latest(at("2026-01-01T00:00:00Z"), at("2026-01-01T05:30:00Z"));
        assert_eq!(latest, (at("2026-01-01T05:00:00Z"), 5));
        let minutely = Timing::parse("* * * * *", "UTC").unwrap();
        let latest = minutely.latest(at("2020-01-01T00:00:00Z"), at("2026-01-01T05:30:10Z"));
        assert_eq!(latest, (at("2026-01-01T05:30:00Z"), MISSED_MAX));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_its_reason() {
        let refused =
            |expression: &str, zone: &str| Timing::parse(expression, zone).unwrap_err().to_string();
        for wrong in ["0 25 * * *", "* * * *", "0 0 6 * * *", "soon", ""] {
            let error = refused(wrong, "UTC");
            assert!(error.contains("five fields"), "{wrong}: {error}");
        }
        assert_eq!(refused("0 0 30 2 *", "UTC"), "`0 0 30 2 *` never comes");
        assert!(refused("0 6 * * *", "Europe/Nowhere").contains("IANA"));
    }
}
