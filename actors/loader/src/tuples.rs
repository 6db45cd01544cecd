//! COPY BINARY taken apart into rows and put together again. No value is decoded: only lengths are
//! read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of an extension that nobody writes.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// Why a stream is no COPY BINARY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source's rows are not COPY BINARY: {0}")]
pub(crate) struct Malformed(&'static str);

/// Cuts chunks of any size into rows.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pending: BytesMut,
    begun: bool,
    ended: bool,
}

impl Splitter {
    /// The rows that are complete with `chunk`: each its field count and fields.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Bytes>, Malformed> {
        self.pending.extend_from_slice(chunk);
        if !self.begun && !self.begin()? {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        while !self.ended {
            match row_length(&self.pending)? {
                Row::Here(length) => rows.push(self.pending.split_to(length).freeze()),
                Row::Incomplete => break,
                Row::Trailer => self.ended = true,
            }
        }
        Ok(rows)
    }

    /// The stream has ended; it must have said so itself.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        match self.ended {
            true => Ok(()),
            false => Err(Malformed("its end is missing")),
        }
    }

    fn begin(&mut self) -> Result<bool, Malformed> {
        if self.pending.len() < HEADER_BYTES {
            return Ok(false);
        }
        if !self.pending.starts_with(SIGNATURE) {
            return Err(Malformed("its signature is another"));
        }
        let mut length = &self.pending[HEADER_BYTES - 4..HEADER_BYTES];
        let extension = length.get_u32() as usize;
        if self.pending.len() < HEADER_BYTES + extension {
            return Ok(false);
        }
        self.pending.advance(HEADER_BYTES + extension);
        self.begun = true;
        Ok(true)
    }
}

enum Row {
    Here(usize),
    Incomplete,
    Trailer,
}

fn row_length(bytes: &[u8]) -> Result<Row, Malformed> {
    let Some(mut count) = bytes.get(..2) else {
        return Ok(Row::Incomplete);
    };
    let fields = match count.get_i16() {
        -1 => return Ok(Row::Trailer),
        fields if fields < 0 => return Err(Malformed("a row has fewer than no fields")),
        fields => fields,
    };
    let mut at = 2;
    for _ in 0..fields {
        let Some(mut length) = bytes.get(at..at + 4) else {
            return Ok(Row::Incomplete);
        };
        at += 4 + usize::try_from(length.get_i32()).unwrap_or(0);
    }
    Ok(match at <= bytes.len() {
        true => Row::Here(at),
        false => Row::Incomplete,
    })
}

/// A complete COPY BINARY of these rows.
pub(crate) fn join(rows: &[Bytes]) -> Bytes {
    let size = rows.iter().map(Bytes::len).sum::<usize>();
    let mut joined = BytesMut::with_capacity(HEADER_BYTES + size + 2);
    joined.put_slice(SIGNATURE);
    joined.put_bytes(0, 8);
    for row in rows {
        joined.put_slice(row);
    }
    joined.put_i16(-1);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rows() -> Vec<Bytes> {
        [
            &b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"[..],
            &b"\0\0"[..],
            &b"\0\x01\0\0\0\0"[..],
        ]
        .map(Bytes::from_static)
        .to_vec()
    }

    #[test]
    fn what_was_joined_is_split_into_the_same_rows_whatever_the_chunks() {
        let whole = join(&rows());
        for size in 1..=whole.len() {
            let mut splitter = Splitter::default();
            let mut split = Vec::new();
            for chunk in whole.chunks(size) {
                split.extend(splitter.push(chunk).unwrap());
            }
            splitter.end().unwrap();
            assert_eq!(split, rows(), "chunks of {size}");
        }
    }

    #[test]
    fn what_ends_early_or_is_something_else_is_refused() {
        let whole = join(&rows());
        let mut cut = Splitter::default();
        cut.push(&whole[..whole.len() - 2]).unwrap();
        assert!(cut.end().is_err());
        assert!(
            Splitter::default()
                .push(b"id,name\n1,pen and ink and more")
                .is_err()
        );
    }
}
