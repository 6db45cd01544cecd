//! A JSON record as a line of COPY text, its values as the source wrote them.
//!
//! Numbers and documents pass through as text, so no digit is lost. Whether a text fits its column is
//! PostgreSQL's to say when it takes the line; what it refuses goes to `_rejected`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use ballpoint_runtime::records::push_copy_text;
use ballpoint_runtime::segment::Column;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How a column's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    /// Documents, as they are.
    Json,
    /// Everything else has a text form that PostgreSQL reads.
    Text,
}

/// Writes the records of one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    kinds: Vec<Kind>,
    places: HashMap<String, usize>,
}

/// What a record held beside its columns' values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Columns whose integer is too large for a bigint: they must be numeric from here on.
    pub(crate) too_large: Vec<usize>,
    /// A property that no column takes.
    pub(crate) unknown: Option<String>,
}

impl Encoder {
    /// For columns of these types, fed by the properties `names`, one a column.
    pub(crate) fn new(columns: &[Column], names: impl IntoIterator<Item = String>) -> Self {
        let kinds = columns
            .iter()
            .map(|column| match column.sql_type.as_str() {
                "bigint" => Kind::Integer,
                "jsonb" => Kind::Json,
                _ => Kind::Text,
            })
            .collect();
        let places = names.into_iter().enumerate().map(|(at, name)| (name, at));
        Self {
            kinds,
            places: places.collect(),
        }
    }

    /// Appends the line of `record` to `line`: the interval, then each column.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub(crate) fn encode(
        &mut self,
        line: &mut Vec<u8>,
        interval: u64,
        record: &RawValue,
    ) -> Result<Encoded, serde_json::Error> {
        let fields = Fields(self);
        let mut reader = serde_json::Deserializer::from_str(record.get());
        let (values, unknown) = reader.deserialize_map(fields)?;
        let mut encoded = Encoded {
            too_large: Vec::new(),
            unknown,
        };
        line.extend_from_slice(interval.to_string().as_bytes());
        for (at, value) in values.into_iter().enumerate() {
            line.push(b'\t');
            match value {
                None => line.extend_from_slice(b"\\N"),
                Some(value) => {
                    if !push_value(line, self.kinds[at], value.get()) {
                        encoded.too_large.push(at);
                    }
                }
            }
        }
        line.push(b'\n');
        for at in &encoded.too_large {
            self.kinds[*at] = Kind::Text;
        }
        Ok(encoded)
    }
}

/// Appends one value; false when it is an integer that no bigint holds.
fn push_value(line: &mut Vec<u8>, kind: Kind, json: &str) -> bool {
    if json == "null" {
        line.extend_from_slice(b"\\N");
        return true;
    }
    match kind {
        Kind::Json => push_copy_text(line, json),
        Kind::Text => push_copy_text(line, &plain(json)),
        Kind::Integer => {
            let text = plain(json);
            let whole = whole(&text);
            push_copy_text(line, &whole);
            return !is_beyond_bigint(&whole);
        }
    }
    true
}

/// A JSON string's content; any other value's text as it is.
fn plain(json: &str) -> Cow<'_, str> {
    if !json.starts_with('"') {
        return Cow::Borrowed(json);
    }
    let inner = &json[1..json.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str::<String>(json).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// `100.0` is an integer to JSON Schema, and a float to whoever wrote it.
fn whole(text: &str) -> Cow<'_, str> {
    if let Some((digits, zeros)) = text.split_once('.')
        && !digits.is_empty()
        && zeros.bytes().all(|byte| byte == b'0')
    {
        return Cow::Borrowed(digits);
    }
    /// Above, a float does not know each integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if text.contains(['e', 'E'])
        && let Ok(float) = text.parse::<f64>()
        && float.fract() == 0.0
        && float.abs() < EXACT
    {
        return Cow::Owned(format!("{float:.0}"));
    }
    Cow::Borrowed(text)
}

pub(crate) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether it is an integer and too large.
pub(crate) fn is_beyond_bigint(text: &str) -> bool {
    is_integer(text) && text.parse::<i64>().is_err()
}

/// Collects a record's values by column.
struct Fields<'e>(&'e Encoder);

/// A property's name, borrowed from the line where it can be.
#[derive(serde::Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = (Vec<Option<&'de RawValue>>, Option<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.kinds.len()];
        let mut unknown = None;
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            match self.0.places.get(name.as_ref()) {
                Some(at) => values[*at] = Some(value),
                None if unknown.is_none() => unknown = Some(name.into_owned()),
                None => {}
            }
        }
        Ok((values, unknown))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line_of(types: &[(&str, &str)], record: &str) -> (String, Encoded) {
        let columns: Vec<Column> = types
            .iter()
            .map(|(name, sql_type)| Column {
                name: (*name).to_owned(),
                sql_type: (*sql_type).to_owned(),
                not_null: false,
            })
            .collect();
        let names = types.iter().map(|(name, _)| (*name).to_owned());
        let mut encoder = Encoder::new(&columns, names);
        let record: Box<RawValue> = serde_json::from_str(record).unwrap();
        let mut line = Vec::new();
        let encoded = encoder.encode(&mut line, 3, &record).unwrap();
        (String::from_utf8(line).unwrap(), encoded)
    }

    #[test]
    fn values_are_written_as_they_were_sent() {
        let types = [
            ("n", "numeric"),
            ("i", "bigint"),
            ("t", "text"),
            ("j", "jsonb"),
            ("b", "boolean"),
            ("missing", "text"),
        ];
        let record = r#"{"n": 12345678901234567890.123456789, "i": 100.0, "t": "a\tb\\ \u00fc",
                         "j": {"k": [1.10, "x\ny"]}, "b": true}"#;
        let (line, encoded) = line_of(&types, record);
        assert_eq!(
            line,
            "3\t12345678901234567890.123456789\t100\ta\\tb\\\\ ü\t{\"k\": [1.10, \"x\\\\ny\"]}\ttrue\t\\N\n"
        );
        assert_eq!(encoded, Encoded::default());
    }

    #[test]
    fn nulls_texts_in_number_columns_and_documents_in_text_columns_keep_their_text() {
        let types = [("n", "numeric"), ("i", "bigint"), ("t", "text")];
        let (line, _) = line_of(&types, r#"{"n": null, "i": "seven", "t": {"a": 1}}"#);
        assert_eq!(line, "3\t\\N\tseven\t{\"a\": 1}\n");
    }

    #[test]
    fn an_integer_beyond_bigint_and_a_property_without_column_are_told() {
        let (line, encoded) = line_of(
            &[("i", "bigint"), ("j", "bigint")],
            r#"{"i": 9223372036854775808, "j": -9223372036854775808, "more": 1}"#,
        );
        assert_eq!(line, "3\t9223372036854775808\t-9223372036854775808\n");
        assert_eq!(encoded.too_large, [0]);
        assert_eq!(encoded.unknown.as_deref(), Some("more"));
        let (line, _) = line_of(&[("i", "bigint")], r#"{"i": 1e3}"#);
        assert_eq!(line, "3\t1000\n");
    }
}
