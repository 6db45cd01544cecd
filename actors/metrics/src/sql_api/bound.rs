//! Values that a client bound to a statement, written out as literals: a proof's statement stands
//! alone.

use bytes::Bytes;
use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, date};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use ballpoint_postgres::ident::quote_literal;

/// The moment from which PostgreSQL counts.
const EPOCH: Date = date(2000, 1, 1);

/// A value as a client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The number of its type; 0 where PostgreSQL inferred it.
    pub kind: u32,
    pub is_binary: bool,
    /// `None` is NULL.
    pub value: Option<Bytes>,
}

impl Bound {
    pub(super) fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len) + 16
    }

    /// The value as SQL.
    fn literal(&self) -> Option<String> {
        let literal = match &self.value {
            None => "NULL".to_owned(),
            Some(value) if !self.is_binary => quote_literal(std::str::from_utf8(value).ok()?),
            Some(value) => quote_literal(&text_of(self.kind, value)?),
        };
        Some(match type_name(self.kind) {
            Some(name) => format!("CAST({literal} AS {name})"),
            None => literal,
        })
    }
}

/// As the statement would be written again after it was read.
fn type_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        16 => "BOOLEAN",
        20 => "BIGINT",
        21 => "SMALLINT",
        23 => "INTEGER",
        25 | 1043 => "TEXT",
        700 => "REAL",
        701 => "DOUBLE PRECISION",
        1082 => "DATE",
        1114 => "TIMESTAMP",
        1184 => "TIMESTAMP WITH TIME ZONE",
        1700 => "NUMERIC",
        2950 => "UUID",
        _ => return None,
    })
}

/// A value in PostgreSQL's bytes as text.
fn text_of(kind: u32, value: &[u8]) -> Option<String> {
    let micros = |value: &[u8]| -> Option<DateTime> {
        let micros = i64::from_be_bytes(value.try_into().ok()?);
        let epoch = EPOCH.to_datetime(jiff::civil::Time::midnight());
        epoch.checked_add(micros.microseconds()).ok()
    };
    Some(match kind {
        16 => (value == [1]).to_string(),
        20 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        21 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        19 | 25 | 705 | 1042 | 1043 => std::str::from_utf8(value).ok()?.to_owned(),
        700 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        1082 => {
            let days = i32::from_be_bytes(value.try_into().ok()?);
            EPOCH.checked_add(days.days()).ok()?.to_string()
        }
        1114 => micros(value)?.to_string(),
        1184 => format!("{}Z", micros(value)?),
        2950 => {
            let hex = crate::proof::hex(value);
            (hex.len() == 32).then_some(hex)?
        }
        _ => return None,
    })
}

/// A statement with its values in place.
///
/// # Errors
/// Why it cannot be written so.
pub(super) fn written_out(sql: &str, values: &[Bound]) -> Result<String, String> {
    if values.is_empty() {
        return Ok(sql.to_owned());
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize()
        .map_err(|error| format!("the statement was not read: {error}"))?;
    let mut text = String::with_capacity(sql.len());
    for token in tokens {
        let number = match &token {
            Token::Placeholder(name) => name.strip_prefix('$').and_then(|it| it.parse().ok()),
            _ => None,
        };
        match number {
            None => text.push_str(&token.to_string()),
            Some(number) => {
                let at = usize::checked_sub(number, 1);
                let value = at.and_then(|at| values.get(at)).and_then(Bound::literal);
                let value = value.ok_or_else(|| {
                    format!("value ${number} was bound in a binary form that is not read here")
                })?;
                text.push_str(&value);
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: u32, is_binary: bool, value: &[u8]) -> Bound {
        Bound {
            kind,
            is_binary,
            value: Some(Bytes::copy_from_slice(value)),
        }
    }

    #[test]
    fn values_take_their_places_and_nothing_else_does() {
        let values = [
            bound(0, false, b"O'Brien"),
            bound(1082, true, &9_718_i32.to_be_bytes()),
            bound(23, true, &(-7_i32).to_be_bytes()),
        ];
        let sql = "select '$1', \"$2\" from t where a = $1 and b >= $2 and c = $3";
        let written = written_out(sql, &values).unwrap();
        assert_eq!(
            written,
            "select '$1', \"$2\" from t where a = 'O''Brien' and b >= CAST('2026-08-10' AS DATE) \
             and c = CAST('-7' AS INTEGER)"
        );
        let strange = [bound(600, true, &[0])];
        let why = written_out("select $1", &strange).unwrap_err();
        assert!(why.contains("$1 was bound"), "{why}");
    }
}
