//! Reading the bodies of PostgreSQL's messages.

use std::io;

use ballpoint_metrics::sql_api::Bound;
use bytes::Bytes;

use super::wire;

/// What is left of a message's body.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that is cut off")
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (found, rest) = self.0.split_first_chunk::<N>().ok_or_else(short)?;
        self.0 = rest;
        Ok(*found)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> io::Result<&'a str> {
        let (text, rest) = wire::text(self.0)?;
        self.0 = rest;
        Ok(text)
    }

    /// `S` and a statement's name, or `P` and a portal's.
    pub(super) fn kind_and_name(&mut self) -> io::Result<(u8, &'a str)> {
        let [kind] = self.take()?;
        Ok((kind, self.text()?))
    }

    /// Whether values are in bytes: one for all, or one for each.
    pub(super) fn formats(&mut self) -> io::Result<Vec<bool>> {
        let count = self.u16()?;
        (0..count).map(|_| Ok(self.u16()? == 1)).collect()
    }

    /// The values of a statement with values of these types.
    pub(super) fn values(&mut self, kinds: &[u32]) -> io::Result<Vec<Bound>> {
        let binary = self.formats()?;
        let count = usize::from(self.u16()?);
        let mut values = Vec::new();
        for at in 0..count {
            let value = match usize::try_from(self.u32()?.cast_signed()) {
                Err(_) => None,
                Ok(length) => {
                    let (value, rest) = self.0.split_at_checked(length).ok_or_else(short)?;
                    self.0 = rest;
                    Some(Bytes::copy_from_slice(value))
                }
            };
            values.push(Bound {
                kind: kinds.get(at).copied().unwrap_or_default(),
                is_binary: is_binary(&binary, at),
                value,
            });
        }
        Ok(values)
    }

    /// Names, types and whether they come in bytes.
    pub(super) fn columns(&mut self) -> io::Result<Vec<(String, u32, bool)>> {
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let name = self.text()?.to_owned();
            // The table, and the column's number there.
            let _: [u8; 6] = self.take()?;
            let kind = self.u32()?;
            // Its size, and what the type was declared with.
            let _: [u8; 6] = self.take()?;
            columns.push((name, kind, self.u16()? == 1));
        }
        Ok(columns)
    }
}

/// One format is for all, none means texts.
pub(super) fn is_binary(formats: &[bool], at: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all,
        each => each.get(at).copied().unwrap_or_default(),
    }
}
