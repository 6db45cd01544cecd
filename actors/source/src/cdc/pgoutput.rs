//! The messages of PostgreSQL's `pgoutput` plugin, protocol version 1 (PostgreSQL docs, "Logical
//! Replication Message Formats"). Rows stay bytes. Malformed input is an error, never a panic.

use ballpoint_runtime::changes::{Lsn, OldRow, Tuple};
use bytes::{Buf, Bytes};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Begin {
        /// Of the commit record.
        commit_lsn: Lsn,
        /// Microseconds since 2000-01-01.
        committed_at: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: Lsn,
        end: Lsn,
        committed_at: i64,
    },
    Relation(RelationMessage),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<OldRow>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: OldRow,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// A type that is not built in is about to be used.
    Type {
        oid: u32,
        schema: String,
        name: String,
    },
    /// The transaction was first committed on another server.
    Origin {
        name: String,
    },
    /// Written by `pg_logical_emit_message`.
    Logical {
        prefix: String,
        content: Bytes,
    },
}

/// A table as it is from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationMessage {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `d`efault, `n`othing, `f`ull, `i`ndex.
    pub identity: u8,
    pub columns: Vec<ColumnMessage>,
}

/// A column of a [`RelationMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMessage {
    pub is_key: bool,
    pub name: String,
    pub type_oid: u32,
    pub type_mod: i32,
}

/// Bytes that are no message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the log cannot be read: {0}")]
pub struct DecodeError(pub &'static str);

const TORN: DecodeError = DecodeError("it ends too early");

/// Reads one message.
///
/// # Errors
/// When `message` is not exactly one message of the protocol.
pub fn decode(mut message: Bytes) -> Result<Message, DecodeError> {
    let rest = &mut message;
    let decoded = match u8_of(rest)? {
        b'B' => Message::Begin {
            commit_lsn: lsn(rest)?,
            committed_at: i64_of(rest)?,
            xid: u32_of(rest)?,
        },
        b'C' => {
            u8_of(rest)?;
            Message::Commit {
                commit_lsn: lsn(rest)?,
                end: lsn(rest)?,
                committed_at: i64_of(rest)?,
            }
        }
        b'R' => Message::Relation(relation(rest)?),
        b'I' => {
            let relation = u32_of(rest)?;
            expect(rest, b'N')?;
            let new = tuple(rest)?;
            Message::Insert { relation, new }
        }
        b'U' => update(rest)?,
        b'D' => {
            let relation = u32_of(rest)?;
            let old = old_row(rest)?.ok_or(DecodeError("a deletion names no row"))?;
            Message::Delete { relation, old }
        }
        b'T' => truncate(rest)?,
        b'Y' => Message::Type {
            oid: u32_of(rest)?,
            schema: text(rest)?,
            name: text(rest)?,
        },
        b'O' => {
            lsn(rest)?;
            Message::Origin { name: text(rest)? }
        }
        b'M' => {
            u8_of(rest)?;
            lsn(rest)?;
            let prefix = text(rest)?;
            let length = usize::try_from(u32_of(rest)?).map_err(|_| TORN)?;
            Message::Logical {
                prefix,
                content: take(rest, length)?,
            }
        }
        _ => return Err(DecodeError("its kind is not known")),
    };
    match message.is_empty() {
        true => Ok(decoded),
        false => Err(DecodeError("bytes are left over")),
    }
}

fn relation(rest: &mut Bytes) -> Result<RelationMessage, DecodeError> {
    let oid = u32_of(rest)?;
    let (schema, name) = (text(rest)?, text(rest)?);
    let identity = u8_of(rest)?;
    let count = u16_of(rest)?;
    let mut columns = Vec::with_capacity(usize::from(count).min(rest.len()));
    for _ in 0..count {
        columns.push(ColumnMessage {
            is_key: u8_of(rest)? & 1 == 1,
            name: text(rest)?,
            type_oid: u32_of(rest)?,
            type_mod: i32_of(rest)?,
        });
    }
    // Relations of pg_catalog have an empty name for their schema.
    let schema = if schema.is_empty() {
        "pg_catalog".to_owned()
    } else {
        schema
    };
    Ok(RelationMessage {
        oid,
        schema,
        name,
        identity,
        columns,
    })
}

fn update(rest: &mut Bytes) -> Result<Message, DecodeError> {
    let relation = u32_of(rest)?;
    let old = old_row(rest)?;
    expect(rest, b'N')?;
    let new = tuple(rest)?;
    Ok(Message::Update { relation, old, new })
}

/// The row that was there: its key (`K`) or all of it (`O`); `None` when the new one follows at once.
fn old_row(rest: &mut Bytes) -> Result<Option<OldRow>, DecodeError> {
    let is_whole = match rest.first() {
        Some(b'K') => false,
        Some(b'O') => true,
        Some(_) => return Ok(None),
        None => return Err(TORN),
    };
    rest.advance(1);
    let tuple = tuple(rest)?;
    Ok(Some(OldRow { is_whole, tuple }))
}

fn truncate(rest: &mut Bytes) -> Result<Message, DecodeError> {
    let count = u32_of(rest)?;
    u8_of(rest)?;
    let fits = usize::try_from(count).is_ok_and(|count| count <= rest.len() / 4);
    if !fits {
        return Err(TORN);
    }
    let relations = (0..count).map(|_| u32_of(rest)).collect::<Result<_, _>>()?;
    Ok(Message::Truncate { relations })
}

fn tuple(rest: &mut Bytes) -> Result<Tuple, DecodeError> {
    let count = u16_of(rest)?;
    let (tuple, taken) = Tuple::parse(rest, count).ok_or(DecodeError("a row's values are torn"))?;
    rest.advance(taken);
    Ok(tuple)
}

fn expect(rest: &mut Bytes, kind: u8) -> Result<(), DecodeError> {
    match u8_of(rest)? == kind {
        true => Ok(()),
        false => Err(DecodeError("a row is missing")),
    }
}

/// A text that ends with a zero byte.
fn text(rest: &mut Bytes) -> Result<String, DecodeError> {
    let length = rest.iter().position(|byte| *byte == 0).ok_or(TORN)?;
    let bytes = rest.split_to(length);
    rest.advance(1);
    String::from_utf8(bytes.into()).map_err(|_| DecodeError("a name is not UTF-8"))
}

fn take(rest: &mut Bytes, length: usize) -> Result<Bytes, DecodeError> {
    match length <= rest.len() {
        true => Ok(rest.split_to(length)),
        false => Err(TORN),
    }
}

fn lsn(rest: &mut Bytes) -> Result<Lsn, DecodeError> {
    rest.try_get_u64().map(Lsn).map_err(|_| TORN)
}

fn u8_of(rest: &mut Bytes) -> Result<u8, DecodeError> {
    rest.try_get_u8().map_err(|_| TORN)
}

fn u16_of(rest: &mut Bytes) -> Result<u16, DecodeError> {
    rest.try_get_u16().map_err(|_| TORN)
}

fn u32_of(rest: &mut Bytes) -> Result<u32, DecodeError> {
    rest.try_get_u32().map_err(|_| TORN)
}

fn i32_of(rest: &mut Bytes) -> Result<i32, DecodeError> {
    rest.try_get_i32().map_err(|_| TORN)
}

fn i64_of(rest: &mut Bytes) -> Result<i64, DecodeError> {
    rest.try_get_i64().map_err(|_| TORN)
}

#[cfg(test)]
mod tests;
