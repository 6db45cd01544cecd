//! Rows on their way, counted and hashed.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::proof::{ROWS_MAX, RowProof, hex};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// PostgreSQL's text.
    Text,
    /// PostgreSQL's bytes.
    Binary,
    /// Cube's text.
    Json,
}

impl Form {
    /// What reads the numbered column in this form.
    pub(super) fn read(self, at: usize) -> String {
        match self {
            // What the type writes, whatever a cast to text would say.
            Self::Text => {
                format!("CASE WHEN c{at} IS NULL THEN NULL ELSE format('%s', c{at}) END")
            }
            Self::Binary | Self::Json => format!("c{at}"),
        }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub form: Form,
    /// Whether its value tells people which row it is.
    pub names_row: bool,
}

impl Column {
    /// As PostgreSQL's protocol describes it: by the number of its type.
    pub fn described(name: &str, kind: u32, is_binary: bool) -> Self {
        const NUMBERS: [u32; 7] = [20, 21, 23, 26, 700, 701, 1700];
        const TEXTS: [u32; 6] = [18, 19, 25, 705, 1042, 1043];
        let names_row = match is_binary {
            true => TEXTS.contains(&kind),
            false => !NUMBERS.contains(&kind),
        };
        Self {
            name: name.to_owned(),
            form: if is_binary { Form::Binary } else { Form::Text },
            names_row,
        }
    }

    /// One of which nothing is known but its place.
    pub fn unknown(at: usize, is_binary: bool) -> Self {
        Self {
            name: format!("column {}", at + 1),
            form: if is_binary { Form::Binary } else { Form::Text },
            names_row: false,
        }
    }

    /// As lines of JSON have it: by the name of its type.
    pub(super) fn of_json(name: &str, kind: &str) -> Self {
        const NUMBERS: [&str; 7] = ["INT2", "INT4", "INT8", "OID", "FLOAT4", "FLOAT8", "NUMERIC"];
        Self {
            name: name.to_owned(),
            form: Form::Json,
            names_row: !NUMBERS.contains(&kind),
        }
    }
}

/// What is known of the rows that went by. Their order is not: without an ORDER BY it says nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: u64,
    /// Of all rows' checksums.
    sum: u128,
    /// Each row, while they are few.
    proofs: Vec<RowProof>,
    /// How many rows have a name already.
    named: HashMap<String, u32>,
}

impl Tally {
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn proofs(&self) -> &[RowProof] {
        &self.proofs
    }

    pub(super) fn checksum(&self) -> String {
        hex(&self.sum.to_be_bytes())
    }

    pub(super) fn bytes(&self) -> usize {
        let proofs = self.proofs.iter().map(|it| it.row.len() * 2 + 160);
        proofs.sum()
    }

    /// Takes note of a row: the number of its values, and each with its length.
    pub(super) fn add(&mut self, columns: &[Column], row: &[u8]) {
        self.rows += 1;
        let hash = Sha256::digest(row);
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
        if self.rows > ROWS_MAX as u64 {
            self.proofs = Vec::new();
            self.named = HashMap::new();
            return;
        }
        let cells = cells(row);
        let shown = columns.iter().zip(&cells).filter(|(it, _)| it.names_row);
        let texts: Vec<String> = shown
            .map(|(column, cell)| {
                let text = cell.map_or("null".into(), String::from_utf8_lossy);
                format!("{} = {text}", column.name)
            })
            .collect();
        let mut name = match texts.is_empty() {
            true => format!("number {}", self.rows),
            false => texts.join(", "),
        };
        let before = self.named.entry(name.clone()).or_default();
        *before += 1;
        if *before > 1 {
            name = format!("{name} ({before})");
        }
        self.proofs.push(RowProof {
            row: name,
            checksum: hex(&half),
        });
    }
}

/// A row in the form in which PostgreSQL sends it.
pub(super) fn row_of(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = Vec::new();
    row.extend_from_slice(&u16::try_from(cells.len()).unwrap_or(u16::MAX).to_be_bytes());
    for cell in cells {
        match cell {
            Some(bytes) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                row.extend_from_slice(&length.to_be_bytes());
                row.extend_from_slice(bytes);
            }
            None => row.extend_from_slice(&u32::MAX.to_be_bytes()),
        }
    }
    row
}

/// The values of such a row; what is cut off has none.
fn cells(row: &[u8]) -> Vec<Option<&[u8]>> {
    let mut cells = Vec::new();
    let mut rest = row.get(2..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            cells.push(None);
            rest = after;
            continue;
        };
        let Some((cell, after)) = after.split_at_checked(length) else {
            break;
        };
        cells.push(Some(cell));
        rest = after;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_by_what_names_them_and_counted_in_any_order() {
        let columns = [
            Column::described("city", 25, true),
            Column::described("n", 20, true),
        ];
        let row = |city: Option<&'static str>, n: &'static [u8]| {
            row_of(&[city.map(str::as_bytes), Some(n)])
        };
        let rows = [
            row(Some("Pune"), &[0, 1]),
            row(None, &[0, 2]),
            row(Some("Pune"), &[0, 3]),
        ];
        let (mut there, mut back) = (Tally::default(), Tally::default());
        rows.iter().for_each(|it| there.add(&columns, it));
        rows.iter().rev().for_each(|it| back.add(&columns, it));
        let names: Vec<&str> = there.proofs().iter().map(|it| it.row.as_str()).collect();
        assert_eq!(names, ["city = Pune", "city = null", "city = Pune (2)"]);
        assert_eq!((there.checksum(), 3), (back.checksum(), back.rows()));
        let mut other = Tally::default();
        rows[..2].iter().for_each(|it| other.add(&columns, it));
        assert_ne!(there.checksum(), other.checksum());
    }
}
