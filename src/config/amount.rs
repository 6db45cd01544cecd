//! Sizes in bytes: a number, or text such as `64MiB` or `10GB`.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

const FORM: &str = "a number of bytes, or one with its unit such as \"64MiB\" or \"10GB\"";

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let written = Written::deserialize(from).map_err(|_| D::Error::custom(FORM))?;
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => {
                parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &FORM))
            }
        }
    }
}

fn parse(text: &str) -> Option<ByteSize> {
    let text = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1));
    let number: u64 = number.trim().parse().ok()?;
    number.checked_mul(unit).map(ByteSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("64MiB", Some(64 << 20)),
            ("10GB", Some(10_000_000_000)),
            ("10 GB", Some(10_000_000_000)),
            ("4096", Some(4096)),
            ("1 kB", Some(1000)),
            ("ten", None),
            ("-1MB", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(parse(text).map(|it| it.0), bytes, "{text}");
        }
    }
}
