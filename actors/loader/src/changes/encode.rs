//! Rows of the log as COPY data, values byte for byte as they came.

use ballpoint_runtime::changes::{Field, Lsn, Tuple};
use bytes::{BufMut, Bytes, BytesMut};

/// What one send takes: PostgreSQL reads it at once, and memory stays small.
const CHUNK_BYTES: usize = 256 * 1024;

/// COPY BINARY's signature, flags and header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = b"\xff\xff";
/// Between PostgreSQL's epoch and 1970, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The form in which a stream's values come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Binary,
    Text,
}

impl Format {
    /// That of the first value; a row of nulls has none, and fits either.
    pub(super) fn of<'a>(tuples: impl IntoIterator<Item = &'a Tuple>) -> Self {
        let fields = tuples.into_iter().flat_map(Tuple::fields);
        for field in fields {
            match field {
                Field::Binary(_) => return Self::Binary,
                Field::Text(_) => return Self::Text,
                Field::Null | Field::Unchanged => {}
            }
        }
        Self::Binary
    }

    /// As COPY's option.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Binary => "FORMAT binary",
            Self::Text => "FORMAT text",
        }
    }
}

/// A value of our own beside a row's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own<'a> {
    Small(i16),
    Big(i64),
    Lsn(Lsn),
    /// Microseconds since 1970.
    Time(i64),
    /// One bit a column.
    Bits(&'a [u8]),
}

/// COPY data in the making.
pub(super) struct Rows {
    format: Format,
    chunks: Vec<Bytes>,
    buffer: BytesMut,
    count: u64,
}

impl Rows {
    pub(super) fn new(format: Format) -> Self {
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES / 16);
        if format == Format::Binary {
            buffer.put_slice(HEADER);
        }
        Self {
            format,
            chunks: Vec::new(),
            buffer,
            count: 0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a row: values of ours, the tuple's, more of ours. An unchanged value goes as null.
    pub(super) fn push(&mut self, before: &[Own<'_>], tuple: &Tuple, after: &[Own<'_>]) {
        self.count += 1;
        match self.format {
            Format::Binary => self.push_binary(before, tuple, after),
            Format::Text => self.push_text(before, tuple, after),
        }
        if self.buffer.len() >= CHUNK_BYTES {
            self.chunks.push(self.buffer.split().freeze());
        }
    }

    fn push_binary(&mut self, before: &[Own<'_>], tuple: &Tuple, after: &[Own<'_>]) {
        let columns = before.len() + tuple.len() + after.len();
        // PostgreSQL has 1,600 columns at most.
        self.buffer
            .put_i16(i16::try_from(columns).unwrap_or(i16::MAX));
        before
            .iter()
            .for_each(|own| put_binary(&mut self.buffer, *own));
        for field in tuple.fields() {
            match field {
                Field::Null | Field::Unchanged => self.buffer.put_i32(-1),
                Field::Binary(value) | Field::Text(value) => {
                    let length = i32::try_from(value.len()).expect("it came with such a length");
                    self.buffer.put_i32(length);
                    self.buffer.put_slice(value);
                }
            }
        }
        after
            .iter()
            .for_each(|own| put_binary(&mut self.buffer, *own));
    }

    fn push_text(&mut self, before: &[Own<'_>], tuple: &Tuple, after: &[Own<'_>]) {
        let mut first = true;
        let mut separate = |buffer: &mut BytesMut| {
            if !std::mem::take(&mut first) {
                buffer.put_u8(b'\t');
            }
        };
        for own in before {
            separate(&mut self.buffer);
            put_text(&mut self.buffer, *own);
        }
        for field in tuple.fields() {
            separate(&mut self.buffer);
            match field {
                Field::Null | Field::Unchanged => self.buffer.put_slice(b"\\N"),
                Field::Binary(value) | Field::Text(value) => escape(&mut self.buffer, value),
            }
        }
        for own in after {
            separate(&mut self.buffer);
            put_text(&mut self.buffer, *own);
        }
        self.buffer.put_u8(b'\n');
    }

    /// The data, trailer included.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if self.format == Format::Binary {
            self.buffer.put_slice(TRAILER);
        }
        if !self.buffer.is_empty() {
            self.chunks.push(self.buffer.freeze());
        }
        self.chunks
    }
}

fn put_binary(buffer: &mut BytesMut, own: Own<'_>) {
    match own {
        Own::Small(value) => {
            buffer.put_i32(2);
            buffer.put_i16(value);
        }
        Own::Big(value) => {
            buffer.put_i32(8);
            buffer.put_i64(value);
        }
        Own::Lsn(value) => {
            buffer.put_i32(8);
            buffer.put_u64(value.0);
        }
        Own::Time(micros) => {
            buffer.put_i32(8);
            buffer.put_i64(micros - EPOCH_MICROS);
        }
        Own::Bits(bits) => {
            buffer.put_i32(i32::try_from(bits.len()).unwrap_or(i32::MAX));
            buffer.put_slice(bits);
        }
    }
}

fn put_text(buffer: &mut BytesMut, own: Own<'_>) {
    let text = match own {
        Own::Small(value) => value.to_string(),
        Own::Big(value) => value.to_string(),
        Own::Lsn(value) => value.to_string(),
        // Never used: rows in text form are staged, and get their time in SQL.
        Own::Time(micros) => micros.to_string(),
        Own::Bits(bits) => {
            let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\\\\x{hex}")
        }
    };
    buffer.put_slice(text.as_bytes());
}

/// COPY's text form: the characters that mean something to it get a backslash.
fn escape(buffer: &mut BytesMut, value: &[u8]) {
    for byte in value {
        match byte {
            b'\\' => buffer.put_slice(b"\\\\"),
            b'\t' => buffer.put_slice(b"\\t"),
            b'\n' => buffer.put_slice(b"\\n"),
            b'\r' => buffer.put_slice(b"\\r"),
            byte => buffer.put_u8(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tuple(data: &'static [u8], columns: u16) -> Tuple {
        Tuple::parse(&Bytes::from_static(data), columns).unwrap().0
    }

    #[test]
    fn binary_rows_pass_on_the_bytes_of_the_log() {
        let mut rows = Rows::new(Format::Binary);
        let row = tuple(b"b\0\0\0\x04\0\0\0\x07nu", 3);
        rows.push(&[Own::Small(1)], &row, &[Own::Lsn(Lsn(9))]);
        let data = rows.finish().concat();
        let row = b"\0\x05\0\0\0\x02\0\x01\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\xff\xff\xff\xff\
                    \0\0\0\x08\0\0\0\0\0\0\0\x09";
        assert_eq!(data, [HEADER, row, TRAILER].concat());
    }

    #[test]
    fn text_rows_are_escaped() {
        let mut rows = Rows::new(Format::Text);
        let row = tuple(b"t\0\0\0\x06a\tb\\\n\rnt\0\0\0\0", 3);
        rows.push(&[Own::Small(2), Own::Bits(&[0xA0])], &row, &[]);
        let expected = b"2\t\\\\xa0\ta\\tb\\\\\\n\\r\t\\N\t\n";
        assert_eq!(rows.finish().concat(), expected);
        assert_eq!(Format::of([&row]), Format::Text);
    }
}
