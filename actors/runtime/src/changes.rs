//! How `source` and `loader` meet on a log: committed changes in commit order, undecoded, with the
//! position that they reach.
//!
//! The loader drives. It *attaches* to the source's slot from the position that the warehouse has
//! committed, copies the tables that have no state yet under an exported snapshot, then takes batch
//! after batch; only what the warehouse has committed is confirmed. A change belongs to a table's
//! snapshot if its transaction's commit record lies before the snapshot's LSN, and to the stream
//! otherwise: hence no gap between the two, and nothing twice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::segment::{Checksum, Segment, SourceError, Survey, TableName, TableSpec};

/// A position in a source's write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no log position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log position such as 16/B374D848")]
pub struct LsnError(String);

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || LsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let part = |part: &str| u32::from_str_radix(part, 16).map_err(|_| wrong());
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One value of a [`Tuple`], as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Null,
    /// A large value that the change did not touch: the log does not repeat it.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

/// A row's values, undecoded, in the order of its relation's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// As pgoutput's TupleData after its count: each value a kind (`n`, `u`, `t`, `b`), the last two
    /// with a length and bytes. Checked when it was made.
    data: Bytes,
    columns: u16,
}

impl Tuple {
    /// Checks `data` once, so that reading it cannot fail; returns the tuple and how many bytes it
    /// took. `None` when `data` is not `columns` well-formed values.
    pub fn parse(data: &Bytes, columns: u16) -> Option<(Self, usize)> {
        let mut at = 0;
        for _ in 0..columns {
            let kind = *data.get(at)?;
            at += 1;
            match kind {
                b'n' | b'u' => {}
                b't' | b'b' => {
                    let length: [u8; 4] = data.get(at..at + 4)?.try_into().ok()?;
                    let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
                    at = (at + 4).checked_add(length)?;
                    if at > data.len() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        let tuple = Self {
            data: data.slice(..at),
            columns,
        };
        Some((tuple, at))
    }

    /// The values in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut rest: &[u8] = &self.data;
        std::iter::from_fn(move || {
            let (kind, after) = rest.split_first()?;
            rest = after;
            Some(match kind {
                b'n' => Field::Null,
                b'u' => Field::Unchanged,
                kind => {
                    let (length, after) = rest.split_first_chunk::<4>()?;
                    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                    let (value, after) = after.split_at_checked(length)?;
                    rest = after;
                    match kind {
                        b't' => Field::Text(value),
                        _ => Field::Binary(value),
                    }
                }
            })
        })
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// Its bytes, in the form that [`Tuple::parse`] takes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }
}

/// A table as the log describes it from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub table: TableName,
    pub columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    pub name: String,
    /// Part of what identifies a row in the log.
    pub is_key: bool,
    /// Its type and the modifier of that: see [`ColumnType`](crate::segment::ColumnType).
    pub type_id: u32,
    pub type_modifier: i32,
}

/// The row that a change replaces, as far as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldRow {
    /// All values; else those of the key only, the others null.
    pub is_whole: bool,
    pub tuple: Tuple,
}

/// What happened to a row, or to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert {
        new: Tuple,
    },
    /// `old` is there when the key changed, or when the table's replica identity is *full*.
    Update {
        old: Option<OldRow>,
        new: Tuple,
    },
    Delete {
        old: OldRow,
    },
    Truncate,
}

/// A committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub relation: Arc<Relation>,
    /// Of its transaction's commit record: equal for all of them, and growing from one to the next.
    pub commit_lsn: Lsn,
    pub operation: Operation,
}

impl Change {
    /// About what it takes in memory.
    pub fn size(&self) -> usize {
        let rows = match &self.operation {
            Operation::Insert { new } => new.size(),
            Operation::Update { old, new } => {
                new.size() + old.as_ref().map_or(0, |old| old.tuple.size())
            }
            Operation::Delete { old } => old.tuple.size(),
            Operation::Truncate => 0,
        };
        rows + size_of::<Self>()
    }
}

/// Changes in commit order. Bounded: a large transaction comes in several.
#[derive(Clone, Debug, Default)]
pub struct ChangeBatch {
    pub changes: Vec<Change>,
    /// Where the log stands after them; `None` in the middle of a transaction, which must then not
    /// be committed yet.
    pub end: Option<Lsn>,
    /// When the last of its transactions was committed: microseconds since 1970, the source's clock.
    pub committed_at: Option<i64>,
}

/// Up to where the warehouse has a source's log. Committed with the rows that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    pub slot: String,
    /// The cluster's system identifier.
    pub system: String,
    pub timeline: u32,
    /// The end of the last transaction that is in the warehouse.
    pub end: Lsn,
}

/// How the source answered an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The log can be followed from the position given; of the tables `added` only what is written
    /// from now on.
    Continues { added: Vec<TableName> },
    /// There was no position, and there is no slot: [`ChangeSource::snapshot`] makes it.
    Begins { system: String, timeline: u32 },
    /// Changes after the position are lost, or belong to another history.
    Gap { reason: String },
}

/// A snapshot that stands still while tables are copied under it.
#[async_trait]
pub trait ChangeSnapshot: Send + Sync {
    /// Transactions whose commit record lies before it are in the snapshot, all others are not.
    fn lsn(&self) -> Lsn;

    /// The rows of a table. Changes from `replayed_from` on will be replayed over them: ranges that an
    /// interrupted attempt of the same `replayed_from` has landed may therefore stay, though they are
    /// of an earlier snapshot.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn open(&self, spec: &TableSpec, replayed_from: Lsn) -> Result<Segment, SourceError>;

    /// What a table holds in the snapshot, over its columns.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn checksum(&self, spec: &TableSpec) -> Result<Checksum, SourceError>;
}

/// The stream of a slot.
#[async_trait]
pub trait ChangeStream: Send {
    /// The next changes; after `patience` without any an empty batch with the position reached.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when the stream broke: it is opened again from the last position.
    async fn next(&mut self, patience: Duration) -> Result<ChangeBatch, SourceError>;

    /// Tells the source that everything up to `end` is durable in the warehouse.
    fn confirm(&self, end: Lsn);

    /// Whether it brings rows of `specs` in a form that fits them; else it has to be opened again.
    fn carries(&self, specs: &[TableSpec]) -> bool;
}

/// How much of its log a slot holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotLag {
    /// Between the source's present position and what was confirmed.
    pub bytes: u64,
    /// Since the server last had what was confirmed as its newest, 0 where nothing is waiting; `None`
    /// where nobody reads the slot: it is not known then.
    pub seconds: Option<f64>,
    /// Kept on the source's disk for this slot.
    pub retained_bytes: u64,
}

/// What a gap leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// Every followed table is copied again, once.
    #[default]
    Resnapshot,
    /// Nothing is followed until somebody has looked.
    Refuse,
}

/// What is configured for following a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowPolicy {
    pub on_gap: OnGap,
    /// Log that the source may keep for us, in bytes; `None`: as much as it takes.
    pub max_slot_wal: Option<u64>,
}

/// A source whose log can be followed.
#[async_trait]
pub trait ChangeSource: Send + Sync + 'static {
    /// The source's name in the configuration.
    fn name(&self) -> &str;

    /// What is configured for it.
    fn policy(&self) -> FollowPolicy {
        FollowPolicy::default()
    }

    /// What the source has now; those of its tables that are kept by their changes are
    /// [`SyncMode::Cdc`](crate::segment::SyncMode::Cdc).
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] is retried by the caller, the others are configuration.
    async fn survey(&self) -> Result<Survey, SourceError>;

    /// Where its log ends now: what is committed later lies after it.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn log_end(&self) -> Result<Lsn, SourceError>;

    /// Whether the rows that were there when `columns` were added had no value in them.
    /// `is_rewritten`: all rows may have been written anew since, and that with values.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn came_empty(
        &self,
        table: &TableName,
        columns: &[&str],
        is_rewritten: bool,
    ) -> Result<bool, SourceError>;

    /// Publishes `tables` and compares the slot with `from`. Without a position, a slot of that name
    /// is a leftover and is dropped.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn attach(
        &self,
        slot: &str,
        tables: &[TableName],
        from: Option<&StreamPosition>,
    ) -> Result<Attached, SourceError>;

    /// Publishes exactly `tables` while the slot's stream is read; returns those that were not
    /// published before. `None`: the publication is gone, which [`ChangeSource::attach`] says more of.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn publish(
        &self,
        slot: &str,
        tables: &[TableName],
    ) -> Result<Option<Vec<TableName>>, SourceError>;

    /// Exports a snapshot; with a name it is that of a new slot, which from then on keeps the log.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn snapshot(&self, slot: Option<&str>) -> Result<Box<dyn ChangeSnapshot>, SourceError>;

    /// Opens the stream of `slot` from `from`, in a form that fits `specs`: what is followed of each table.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn stream(
        &self,
        slot: &str,
        from: Lsn,
        specs: &[TableSpec],
    ) -> Result<Box<dyn ChangeStream>, SourceError>;

    /// Writes a message into the source's log and returns where: a stream that has come past it has
    /// everything that was committed before.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn mark(&self) -> Result<Lsn, SourceError>;

    /// How far the slot is behind; `None` when there is no such slot.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn lag(&self, slot: &str) -> Result<Option<SlotLag>, SourceError>;

    /// Removes what was installed in the source under that name.
    ///
    /// # Errors
    /// As [`ChangeSource::survey`].
    async fn retire(&self, slot: &str) -> Result<(), SourceError>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_log_position_reads_what_it_writes() {
        for (text, value) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            let lsn: Lsn = text.parse().unwrap();
            assert_eq!((lsn.0, lsn.to_string().as_str()), (value, text));
        }
        for wrong in ["", "16", "16/", "x/1", "1/2/3", "100000000/0"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tuple_gives_its_values_and_a_torn_one_is_refused() {
        let data = Bytes::from_static(b"nut\0\0\0\x02hib\0\0\0\x01\x07rest");
        let (tuple, taken) = Tuple::parse(&data, 4).unwrap();
        assert_eq!(taken, 15);
        let fields: Vec<_> = tuple.fields().collect();
        assert_eq!(
            fields,
            [
                Field::Null,
                Field::Unchanged,
                Field::Text(b"hi"),
                Field::Binary(&[7])
            ]
        );
        for cut in 0..taken {
            assert!(Tuple::parse(&data.slice(..cut), 4).is_none(), "{cut}");
        }
        assert!(Tuple::parse(&Bytes::from_static(b"t\xff\xff\xff\xff"), 1).is_none());
        assert!(Tuple::parse(&Bytes::from_static(b"x"), 1).is_none());
    }
}
