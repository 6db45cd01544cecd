//! The rows of a CSV file, with the lines that they stand on.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::lines::open;
use crate::file::FileConfig;
use crate::file::columns::extension;

/// Reads a CSV file row by row.
pub(in crate::file) struct Rows {
    from: csv::Reader<Box<dyn Read + Send>>,
    header: Vec<String>,
    delimiter: u8,
    record: csv::ByteRecord,
    fields: StringRecord,
    /// The first row of a file without a header, which was read to count its columns.
    first: Option<csv::ByteRecord>,
}

/// One row.
pub(in crate::file) enum Row<'a> {
    /// As many as there are columns.
    Fields(&'a StringRecord),
    /// What is wrong, and the row as far as it can be shown.
    Wrong { reason: String, text: String },
}

impl Rows {
    pub(in crate::file) fn open(path: &Path, config: &FileConfig) -> io::Result<Self> {
        let delimiter = config.delimiter.unwrap_or(match extension(path).as_str() {
            "tsv" | "tab" => b'\t',
            "psv" => b'|',
            _ => b',',
        });
        let mut from = ReaderBuilder::new()
            .delimiter(delimiter)
            .quote(config.quote)
            .has_headers(false)
            .flexible(true)
            .from_reader(without_mark(open(path)?)?);
        let mut record = csv::ByteRecord::new();
        let mut header = Vec::new();
        let mut first = None;
        if from.read_byte_record(&mut record)? {
            if config.header {
                let names = record
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).into_owned());
                header = names.collect();
            } else {
                header = vec![String::new(); record.len()];
                first = Some(record.clone());
            }
        }
        Ok(Self {
            from,
            header,
            delimiter,
            record,
            fields: StringRecord::new(),
            first,
        })
    }

    /// The names of the columns, empty where the file does not name them.
    pub(in crate::file) fn header(&self) -> &[String] {
        &self.header
    }

    /// The line that the row returned last begins on, from 1.
    pub(in crate::file) fn line(&self) -> u64 {
        self.record.position().map_or(1, csv::Position::line)
    }

    pub(in crate::file) fn next(&mut self) -> io::Result<Option<Row<'_>>> {
        if let Some(first) = self.first.take() {
            self.record = first;
        } else if !self.from.read_byte_record(&mut self.record)? {
            return Ok(None);
        }
        let (found, wanted) = (self.record.len(), self.header.len());
        if found != wanted {
            let reason = format!("the row has {found} fields, and the file {wanted} columns");
            return Ok(Some(self.wrong(reason)));
        }
        match StringRecord::from_byte_record(std::mem::take(&mut self.record)) {
            Ok(fields) => {
                self.fields = fields;
                self.record.set_position(self.fields.position().cloned());
                Ok(Some(Row::Fields(&self.fields)))
            }
            Err(error) => {
                let field = error.utf8_error().field();
                self.record = error.into_byte_record();
                let name = self.header.get(field).cloned().unwrap_or_default();
                Ok(Some(self.wrong(format!(
                    "field {} {name:?} is not UTF-8",
                    field + 1
                ))))
            }
        }
    }

    fn wrong(&self, reason: String) -> Row<'static> {
        let fields: Vec<_> = self.record.iter().map(String::from_utf8_lossy).collect();
        Row::Wrong {
            reason,
            text: fields.join(&char::from(self.delimiter).to_string()),
        }
    }
}

/// Without the byte order mark that some programs put before UTF-8.
fn without_mark(from: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    if from.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        from.consume(3);
    }
    Ok(Box::new(from))
}
