//! The narrowest type that holds every value seen.

use jiff::civil;
use serde::{Deserialize, Serialize};

use crate::encode::{is_beyond_bigint, is_integer};

/// What the values of a column have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Guess {
    /// No value yet.
    #[default]
    Nothing,
    Boolean,
    Bigint,
    Numeric,
    Date,
    Timestamp,
    TimestampTz,
    Document,
    Text,
}

impl Guess {
    /// Of a text without quotes around it.
    pub(super) fn of_text(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.first() {
            Some(b't' | b'T' | b'f' | b'F') => {
                let is_boolean =
                    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
                if is_boolean {
                    Self::Boolean
                } else {
                    Self::Text
                }
            }
            Some(b'0'..=b'9' | b'-') => of_digits(text),
            _ => Self::Text,
        }
    }

    /// Of a JSON value as it is written.
    pub(super) fn of_json(json: &str) -> Self {
        match json.as_bytes().first() {
            Some(b'n') | None => Self::Nothing,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'{' | b'[') => Self::Document,
            Some(b'"') => match of_time(json.trim_matches('"')) {
                Some(time) => time,
                None => Self::Text,
            },
            Some(_) if is_beyond_bigint(json) => Self::Numeric,
            Some(_) if is_integer(json) => Self::Bigint,
            Some(_) => Self::Numeric,
        }
    }

    /// What holds the values of both.
    pub(super) fn with(self, other: Self) -> Self {
        use Guess::{Bigint, Date, Document, Nothing, Numeric, Text, Timestamp};
        match (self, other) {
            (one, two) if one == two => one,
            (Nothing, it) | (it, Nothing) => it,
            (Bigint, Numeric) | (Numeric, Bigint) => Numeric,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (Document, _) | (_, Document) => Document,
            _ => Text,
        }
    }

    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Nothing | Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamp => "timestamp without time zone",
            Self::TimestampTz => "timestamp with time zone",
            Self::Document => "jsonb",
        }
    }
}

/// `007` is a code, not a number: it must keep its zeros.
fn of_digits(text: &str) -> Guess {
    if let Some(time) = of_time(text) {
        return time;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || text == "-0" {
        return Guess::Text;
    }
    if is_beyond_bigint(text) {
        Guess::Numeric
    } else if is_integer(text) {
        Guess::Bigint
    } else if is_decimal(digits) {
        Guess::Numeric
    } else {
        Guess::Text
    }
}

/// Digits, perhaps a fraction, perhaps an exponent that PostgreSQL's numeric has room for.
fn is_decimal(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let all_digits = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    let fits = |it: &str| it.parse::<i32>().is_ok_and(|it| it.abs() <= 1000);
    all_digits(whole) && all_digits(fraction) && exponent.is_none_or(fits)
}

/// ISO 8601, and nothing else: a date of another order can be meant in two ways.
fn of_time(text: &str) -> Option<Guess> {
    let bytes = text.as_bytes();
    let dashes = bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-';
    if !dashes || !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let date: civil::Date = date.parse().ok()?;
    // There is no year 0 in PostgreSQL.
    if date.year() < 1 {
        return None;
    }
    let Some(time) = rest.strip_prefix(['T', ' ']) else {
        return rest.is_empty().then_some(Guess::Date);
    };
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    time.parse::<civil::Time>().ok()?;
    match zone {
        "" => Some(Guess::Timestamp),
        "Z" => Some(Guess::TimestampTz),
        zone => is_offset(&zone[1..]).then_some(Guess::TimestampTz),
    }
}

/// `05`, `0530` or `05:30`.
fn is_offset(text: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let shape = matches!((text.len(), text.find(':')), (2 | 4, None) | (5, Some(2)));
    let number = |it: &str| it.parse::<u8>().ok();
    shape
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && number(&digits[..2]).is_some_and(|it| it <= 15)
        && (digits.len() < 4 || number(&digits[2..]).is_some_and(|it| it < 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_the_narrowest_type_that_keeps_it() {
        for (text, guess) in [
            ("true", Guess::Boolean),
            ("FALSE", Guess::Boolean),
            ("t", Guess::Text),
            ("0", Guess::Bigint),
            ("-12", Guess::Bigint),
            ("9223372036854775807", Guess::Bigint),
            ("9223372036854775808", Guess::Numeric),
            ("1.50", Guess::Numeric),
            ("-0.5", Guess::Numeric),
            ("1e5", Guess::Numeric),
            ("1e99999", Guess::Text),
            ("007", Guess::Text),
            ("00.5", Guess::Text),
            ("-", Guess::Text),
            ("1.", Guess::Text),
            (".5", Guess::Text),
            ("+5", Guess::Text),
            ("1,000", Guess::Text),
            ("2026-02-28", Guess::Date),
            ("2026-02-30", Guess::Text),
            ("0000-01-01", Guess::Text),
            ("01/02/2026", Guess::Text),
            ("2026-01-01 10:00", Guess::Timestamp),
            ("2026-01-01T10:00:00.123456", Guess::Timestamp),
            ("2026-01-01T10:00:00Z", Guess::TimestampTz),
            ("2026-01-01 10:00:00+05:30", Guess::TimestampTz),
            ("2026-01-01 10:00:00+99", Guess::Text),
            ("2026-01-01 noon", Guess::Text),
            ("infinity", Guess::Text),
            (" 1", Guess::Text),
        ] {
            assert_eq!(Guess::of_text(text), guess, "{text}");
        }
    }

    #[test]
    fn two_types_become_the_one_that_holds_both() {
        for (one, two, both) in [
            (Guess::Nothing, Guess::Date, Guess::Date),
            (Guess::Bigint, Guess::Numeric, Guess::Numeric),
            (Guess::Date, Guess::Timestamp, Guess::Timestamp),
            (Guess::Timestamp, Guess::TimestampTz, Guess::Text),
            (Guess::Boolean, Guess::Bigint, Guess::Text),
            (Guess::Document, Guess::Text, Guess::Document),
        ] {
            assert_eq!(
                (one.with(two), two.with(one)),
                (both, both),
                "{one:?} {two:?}"
            );
        }
    }

    #[test]
    fn a_json_string_is_no_number() {
        for (json, guess) in [
            ("null", Guess::Nothing),
            ("\"12\"", Guess::Text),
            ("12", Guess::Bigint),
            ("1.0", Guess::Numeric),
            ("\"2026-01-01\"", Guess::Date),
            ("[1]", Guess::Document),
            ("false", Guess::Boolean),
        ] {
            assert_eq!(Guess::of_json(json), guess, "{json}");
        }
    }
}
