//! Frames of PostgreSQL's protocol 3: a byte that says what it is, a length, and the rest.

use std::io;

use ballpoint_metrics::sql_api::SqlError;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// No client sends more in one message.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a start-up packet may hold.
const STARTUP_BYTES_MAX: usize = 10_000;

/// A message with its kind.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// Reads a message; `None` at the end of the stream.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<Option<Frame>> {
    let kind = match from.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let body = read_body(from, most).await?;
    Ok(Some(Frame { kind, body }))
}

/// Reads a start-up packet, which has no kind.
pub(super) async fn read_startup(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    read_body(from, STARTUP_BYTES_MAX).await
}

async fn read_body(from: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Bytes> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if !(4..=most).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of an impossible length",
        ));
    }
    let mut body = BytesMut::zeroed(length - 4);
    from.read_exact(&mut body).await?;
    Ok(body.freeze())
}

/// A message as bytes.
pub(super) fn frame(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(kind);
    out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    out.put_slice(body);
    out.freeze()
}

/// An error as PostgreSQL sends it.
pub(super) fn error(severity: &str, error: &SqlError) -> Bytes {
    let mut body = BytesMut::new();
    let mut field = |kind: u8, text: &str| {
        body.put_u8(kind);
        // A zero would end the field.
        body.put_slice(text.replace('\0', " ").as_bytes());
        body.put_u8(0);
    };
    field(b'S', severity);
    field(b'V', severity);
    field(b'C', error.code);
    field(b'M', &error.message);
    if let Some(hint) = &error.hint {
        field(b'H', hint);
    }
    body.put_u8(0);
    frame(b'E', &body)
}

/// Writes and sends.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// The text up to the zero that ends it, and what follows.
pub(super) fn text(body: &[u8]) -> io::Result<(&str, &[u8])> {
    let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(|| invalid("a text without an end"))?;
    let text =
        std::str::from_utf8(&body[..end]).map_err(|_| invalid("a text that is not UTF-8"))?;
    Ok((text, &body[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_read_as_it_was_written_and_a_huge_one_is_refused() {
        let written = frame(b'Q', b"select 1\0");
        let read_back = read(&mut &written[..], 100).await.unwrap().unwrap();
        assert_eq!(
            (read_back.kind, &read_back.body[..]),
            (b'Q', &b"select 1\0"[..])
        );
        assert_eq!(text(&read_back.body).unwrap(), ("select 1", &b""[..]));
        assert!(read(&mut &written[..], 8).await.is_err());
        assert!(read(&mut &b""[..], 8).await.unwrap().is_none());
    }
}
