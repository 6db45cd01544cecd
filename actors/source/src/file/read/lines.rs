//! A file's bytes, and its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

const BUFFER_BYTES: usize = 64 * 1024;
/// Longer ones are no records; they are refused without being held.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Of a line that is refused for its length, so much is kept.
const SHOWN_BYTES: usize = 200;

/// The file's content, out of its compression where its name says that it is compressed.
pub(in crate::file) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    let is_compressed = path
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("gz"));
    Ok(match is_compressed {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(file),
    })
}

/// The lines of a file.
pub(in crate::file) struct Lines {
    from: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    /// Of the line returned last, from 1.
    pub(in crate::file) number: u64,
}

/// One line, without its end.
pub(in crate::file) enum Line<'a> {
    Whole(&'a [u8]),
    /// Its beginning.
    TooLong(String),
}

impl Lines {
    pub(in crate::file) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            from: BufReader::with_capacity(BUFFER_BYTES, open(path)?),
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line that is not blank.
    pub(in crate::file) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.from)
                .take(limit)
                .read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.len() > LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                let shown = String::from_utf8_lossy(&self.line[..SHOWN_BYTES]).into_owned();
                self.skip_line()?;
                return Ok(Some(Line::TooLong(shown)));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        Ok(Some(Line::Whole(self.line.trim_ascii())))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        self.line = Vec::new();
        loop {
            let buffer = self.from.fill_buf()?;
            let (length, end) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.from.consume(length);
            if end {
                return Ok(());
            }
        }
    }
}
