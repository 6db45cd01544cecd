//! The types that a sync may write: a closed list, so that what fits is known before anything is
//! written, and a value's text is the same in warehouse and target.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type of the target, with its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Varchar(u32),
    /// `smallint`, `integer` or `bigint`, by its bits.
    Integer(u32),
    /// Precision and scale; without them any number.
    Numeric(Option<(u32, u32)>),
    Double,
    Boolean,
    Date,
    Timestamp,
    Timestamptz,
    Uuid,
    Jsonb,
}

const NAMES: &str = "text, varchar(n), smallint, integer, bigint, numeric, numeric(p,s), \
    double precision, boolean, date, timestamp, timestamptz, uuid, jsonb";

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("type {text:?} cannot be written back; there are {NAMES}");
        let (name, arguments) = match text.trim().split_once('(') {
            Some((name, rest)) => (
                name.trim(),
                Some(rest.strip_suffix(')').ok_or_else(unknown)?),
            ),
            None => (text.trim(), None),
        };
        let numbers: Vec<u32> = arguments
            .map_or(Ok(Vec::new()), |list| {
                list.split(',').map(|n| n.trim().parse()).collect()
            })
            .map_err(|_| unknown())?;
        Ok(match (name, numbers.as_slice()) {
            ("text", []) => Self::Text,
            ("varchar" | "character varying", [n]) if *n > 0 => Self::Varchar(*n),
            ("smallint", []) => Self::Integer(16),
            ("integer" | "int", []) => Self::Integer(32),
            ("bigint", []) => Self::Integer(64),
            ("numeric", []) => Self::Numeric(None),
            ("numeric", [p, s]) if (1..=1000).contains(p) && s <= p => {
                Self::Numeric(Some((*p, *s)))
            }
            ("double precision", []) => Self::Double,
            ("boolean", []) => Self::Boolean,
            ("date", []) => Self::Date,
            ("timestamp" | "timestamp without time zone", []) => Self::Timestamp,
            ("timestamptz" | "timestamp with time zone", []) => Self::Timestamptz,
            ("uuid", []) => Self::Uuid,
            ("jsonb", []) => Self::Jsonb,
            _ => return Err(unknown()),
        })
    }
}

impl fmt::Display for ColumnType {
    /// As PostgreSQL's `format_type` spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Varchar(n) => write!(f, "character varying({n})"),
            Self::Integer(16) => f.write_str("smallint"),
            Self::Integer(32) => f.write_str("integer"),
            Self::Integer(_) => f.write_str("bigint"),
            Self::Numeric(None) => f.write_str("numeric"),
            Self::Numeric(Some((p, s))) => write!(f, "numeric({p},{s})"),
            Self::Double => f.write_str("double precision"),
            Self::Boolean => f.write_str("boolean"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp without time zone"),
            Self::Timestamptz => f.write_str("timestamp with time zone"),
            Self::Uuid => f.write_str("uuid"),
            Self::Jsonb => f.write_str("jsonb"),
        }
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl ColumnType {
    /// Whether a warehouse column of this type (without its modifier) can be written into it. Only
    /// kindred types are: everything else is a cast that the model should say.
    pub(crate) fn accepts(self, warehouse: &str) -> bool {
        const NUMBERS: [&str; 6] = [
            "smallint",
            "integer",
            "bigint",
            "numeric",
            "double precision",
            "real",
        ];
        match self {
            Self::Text | Self::Varchar(_) => {
                ["text", "character varying", "character", "name", "uuid"].contains(&warehouse)
                    || NUMBERS[..3].contains(&warehouse)
            }
            Self::Integer(_) | Self::Numeric(_) | Self::Double => NUMBERS.contains(&warehouse),
            Self::Jsonb => ["jsonb", "json"].contains(&warehouse),
            Self::Boolean | Self::Date | Self::Timestamp | Self::Timestamptz | Self::Uuid => {
                warehouse == self.to_string()
            }
        }
    }

    /// SQL that is true where the value of `expression`, which is not null, fits.
    pub(crate) fn fits(self, expression: &str) -> Option<String> {
        let finite = |then: String| {
            format!(
                "case when ({expression})::text in ('NaN', 'Infinity', '-Infinity') then false \
                 else {then} end"
            )
        };
        match self {
            Self::Varchar(n) => Some(format!("char_length(({expression})::text) <= {n}")),
            Self::Integer(bits) => {
                let max = (1_u64 << (bits - 1)) - 1;
                Some(finite(format!(
                    "({expression})::numeric = trunc(({expression})::numeric) \
                     and ({expression})::numeric between -{max} - 1 and {max}"
                )))
            }
            Self::Numeric(Some((p, s))) => Some(finite(format!(
                "abs(round(({expression})::numeric, {s})) < power(10::numeric, {})",
                p - s
            ))),
            // JSON text may hold an escape that jsonb cannot.
            Self::Jsonb => Some(format!("({expression})::text !~ '\\\\u0000'")),
            _ => None,
        }
    }

    /// SQL for the text that a value which fits has in the target: the same on both sides.
    pub(crate) fn text(self, expression: &str) -> String {
        match self {
            // 1.0 and 1.00 are one number.
            Self::Numeric(None) => format!("trim_scale(({expression})::numeric)::text"),
            other => format!("(({expression})::{other})::text"),
        }
    }

    /// Whether a text given from outside is a value of this type.
    pub(crate) fn is_literal(self, text: &str) -> bool {
        match self {
            Self::Text => !text.contains('\0'),
            Self::Varchar(n) => {
                !text.contains('\0')
                    && u32::try_from(text.chars().count()).is_ok_and(|chars| chars <= n)
            }
            Self::Integer(16) => text.parse::<i16>().is_ok(),
            Self::Integer(32) => text.parse::<i32>().is_ok(),
            Self::Integer(_) => text.parse::<i64>().is_ok(),
            Self::Boolean => ["true", "false"].contains(&text),
            Self::Numeric(limits) => is_decimal(text, limits),
            Self::Double => text.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Uuid => uuid::Uuid::parse_str(text).is_ok(),
            Self::Jsonb => serde_json::from_str::<serde_json::Value>(text).is_ok(),
            // Moments are computed by models; nobody says them in words yet.
            Self::Date | Self::Timestamp | Self::Timestamptz => false,
        }
    }
}

fn is_decimal(text: &str, limits: Option<(u32, u32)>) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let room = limits.map_or(usize::MAX, |(p, s)| (p - s) as usize);
    plain(whole) && plain(fraction) && whole.trim_start_matches('0').len() <= room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_both_spellings_and_written_as_postgresql_does() {
        for (given, shown) in [
            ("varchar(20)", "character varying(20)"),
            ("numeric(6, 2)", "numeric(6,2)"),
            ("timestamptz", "timestamp with time zone"),
            ("int", "integer"),
            ("boolean", "boolean"),
        ] {
            let parsed: ColumnType = given.parse().expect("a type");
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(parsed), "its own spelling is read back");
        }
        for wrong in [
            "money",
            "varchar",
            "numeric(2,3)",
            "numeric(a)",
            "text; drop",
        ] {
            assert!(wrong.parse::<ColumnType>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_kindred_types_are_accepted() {
        let numeric = ColumnType::Numeric(Some((5, 2)));
        assert!(numeric.accepts("bigint") && !numeric.accepts("text"));
        assert!(ColumnType::Boolean.accepts("boolean") && !ColumnType::Boolean.accepts("integer"));
    }

    #[test]
    fn literals_are_held_against_the_type() {
        let numeric = ColumnType::Numeric(Some((4, 2)));
        assert!(numeric.is_literal("-99.5") && !numeric.is_literal("100"));
        assert!(ColumnType::Boolean.is_literal("true") && !ColumnType::Boolean.is_literal("yes"));
        assert!(
            ColumnType::Varchar(3).is_literal("abc") && !ColumnType::Varchar(3).is_literal("abcd")
        );
        assert!(!ColumnType::Integer(16).is_literal("40000"));
    }
}
