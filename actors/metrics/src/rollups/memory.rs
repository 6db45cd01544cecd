//! A small rollup as arrays of columns: what PostgreSQL would answer, without asking it.
//!
//! Values are kept as they are shown. Dimensions are codes in the order that PostgreSQL sorts them
//! in, measures exact decimals, so that groups, sums and orders come out to the last digit.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, Time};
use serde_json::Value;

use crate::execute::Rows;
use crate::plan::folded::{Fold, Folded, Slot, Test};

/// Cells of one rollup; a larger one is read from its table.
pub(super) const CELLS_MAX: usize = 8_000_000;

/// A dimension: a code a row, in the order of the values; NULL is the last.
#[derive(Debug, Default)]
pub(super) struct Codes {
    pub(super) codes: Vec<u32>,
    pub(super) values: Vec<Value>,
}

/// A measure: exact decimals of one scale.
#[derive(Debug, Default)]
pub(super) struct Decimals {
    /// Scaled by ten to the power of `scale`; `None` is NULL.
    pub(super) values: Vec<Option<i128>>,
    /// Digits behind the point that each row shows.
    pub(super) shown: Vec<u8>,
    pub(super) scale: u8,
}

/// The columns of a rollup; rows are sorted by the first time.
#[derive(Debug, Default)]
pub struct Columns {
    pub(super) rows: usize,
    pub(super) dimensions: HashMap<String, Codes>,
    /// Microseconds since 1970; `i64::MAX` is NULL.
    pub(super) times: HashMap<String, Vec<i64>>,
    /// The one that rows are sorted by.
    pub(super) sorted: Option<String>,
    pub(super) measures: HashMap<String, Decimals>,
}

/// Multiplies: keys are numbers already.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A folded measure: the value and the digits to show.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    value: Option<i128>,
    shown: u8,
}

/// A group's sort keys and measures.
struct Group {
    /// A number a dimension: its code, or the bucket of a time.
    key: [i64; KEYS_MAX],
    cells: Vec<Cell>,
}

/// More dimensions are PostgreSQL's.
const KEYS_MAX: usize = 6;
const MICROS: i64 = 1_000_000;

impl Columns {
    /// The rows of a query of this shape; `None` where a column is not here.
    pub(crate) fn answer(&self, shape: &Folded) -> Option<Rows> {
        let keys = shape
            .slots
            .iter()
            .filter(|slot| !matches!(slot, Slot::Measure { .. }))
            .count();
        if keys > KEYS_MAX {
            return None;
        }
        let mut groups = self.groups(shape)?;
        if keys == 0 && groups.is_empty() {
            let cells = vec![Cell::default(); shape.slots.len()];
            groups.push(Group {
                key: [0; KEYS_MAX],
                cells,
            });
        }
        let total = shape.total.then_some(groups.len() as u64);
        groups.sort_unstable_by(|a, b| self.compare(shape, keys, a, b));
        let shown = groups.iter().skip(shape.offset).take(shape.limit);
        let rows = shown
            .map(|group| self.row(shape, group))
            .collect::<Option<_>>()?;
        Some(Rows { rows, total })
    }

    fn groups(&self, shape: &Folded) -> Option<Vec<Group>> {
        let mut readers: Vec<Reader<'_>> = Vec::new();
        let mut folds: Vec<(&Decimals, Fold)> = Vec::new();
        for slot in &shape.slots {
            match slot {
                Slot::Dimension(column) => {
                    readers.push(Reader::Codes(&self.dimensions.get(column)?.codes))
                }
                Slot::Time {
                    column,
                    granularity,
                } => {
                    readers.push(Reader::Time(
                        self.times.get(column)?,
                        granularity,
                        HashMap::default(),
                    ));
                }
                Slot::Measure { column, fold } => folds.push((self.measures.get(column)?, *fold)),
            }
        }
        let tests = shape
            .tests
            .iter()
            .map(|test| self.test(test))
            .collect::<Option<Vec<_>>>()?;
        let mut segments = Vec::new();
        for column in &shape.segments {
            let codes = self.dimensions.get(column)?;
            segments.push((
                codes,
                codes.values.iter().position(|it| *it == Value::Bool(true)),
            ));
        }
        let mut ranges = Vec::new();
        for (column, from, to) in &shape.ranges {
            ranges.push((column, self.times.get(column)?, micros(*from), micros(*to)));
        }
        let (mut first, mut last) = (0, self.rows);
        for (column, values, from, to) in &ranges {
            if Some(*column) == self.sorted.as_ref() {
                first = first.max(values.partition_point(|at| at < from));
                last = last.min(values.partition_point(|at| at < to));
            }
        }
        let mut places: HashMap<[i64; KEYS_MAX], usize, BuildHasherDefault<Spread>> =
            HashMap::default();
        let mut groups: Vec<Group> = Vec::new();
        for row in first..last {
            let in_range = ranges
                .iter()
                .all(|(_, values, from, to)| values[row] >= *from && values[row] < *to);
            let passes = tests
                .iter()
                .all(|(codes, pass)| pass[codes.codes[row] as usize]);
            let chosen = segments
                .iter()
                .all(|(codes, yes)| Some(codes.codes[row] as usize) == *yes);
            if !(in_range && passes && chosen) {
                continue;
            }
            let mut key = [0_i64; KEYS_MAX];
            for (at, reader) in readers.iter_mut().enumerate() {
                key[at] = reader.read(row);
            }
            let place = *places.entry(key).or_insert_with(|| {
                groups.push(Group {
                    key,
                    cells: vec![Cell::default(); folds.len()],
                });
                groups.len() - 1
            });
            for (cell, (column, fold)) in groups[place].cells.iter_mut().zip(&folds) {
                cell.add(column, *fold, row);
            }
        }
        Some(groups)
    }

    /// Which codes of a dimension pass.
    fn test(&self, test: &Test) -> Option<(&Codes, Vec<bool>)> {
        let codes = self.dimensions.get(&test.column)?;
        let is_plain =
            |it: &Option<String>| it.as_deref().is_none_or(|it| it == "true" || it == "false");
        let plain = test.values.iter().all(is_plain);
        let text = |value: &Value| match value {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            // PostgreSQL reads `1` and `yes` as true as well.
            Value::Bool(flag) => plain.then(|| Some(flag.to_string())),
            // A number may be written in several ways.
            _ => None,
        };
        let pass = |value: &Value| Some(test.values.contains(&text(value)?) == test.among);
        Some((codes, codes.values.iter().map(pass).collect::<Option<_>>()?))
    }

    fn compare(&self, shape: &Folded, keys: usize, a: &Group, b: &Group) -> std::cmp::Ordering {
        for (place, descending) in &shape.order {
            let order = if *place < keys {
                a.key[*place].cmp(&b.key[*place])
            } else {
                // NULL is the largest, as in PostgreSQL.
                let rank = |group: &Group| {
                    group.cells[*place - keys]
                        .value
                        .map_or((1, 0), |it| (0, it))
                };
                rank(a).cmp(&rank(b))
            };
            let order = if *descending { order.reverse() } else { order };
            if order.is_ne() {
                return order;
            }
        }
        std::cmp::Ordering::Equal
    }

    fn row(&self, shape: &Folded, group: &Group) -> Option<Vec<Value>> {
        let (mut key, mut cell) = (0, 0);
        let mut row = Vec::with_capacity(shape.slots.len());
        for slot in &shape.slots {
            row.push(match slot {
                Slot::Dimension(column) => {
                    key += 1;
                    let code = usize::try_from(group.key[key - 1]).ok()?;
                    self.dimensions.get(column)?.values.get(code)?.clone()
                }
                Slot::Time { .. } => {
                    key += 1;
                    match group.key[key - 1] {
                        i64::MAX => Value::Null,
                        at => Value::String(text_of(at)?),
                    }
                }
                Slot::Measure { column, fold } => {
                    cell += 1;
                    let scale = self.measures.get(column)?.scale;
                    group.cells[cell - 1].show(*fold, scale)
                }
            });
        }
        Some(row)
    }
}

/// Reads a row's key of one column.
enum Reader<'c> {
    Codes(&'c [u32]),
    /// Buckets that were computed before are remembered: there are few.
    Time(
        &'c [i64],
        &'c str,
        HashMap<i64, i64, BuildHasherDefault<Spread>>,
    ),
}

impl Reader<'_> {
    fn read(&mut self, row: usize) -> i64 {
        match self {
            Self::Codes(codes) => i64::from(codes[row]),
            Self::Time(values, granularity, known) => {
                let at = values[row];
                *known.entry(at).or_insert_with(|| bucket(at, granularity))
            }
        }
    }
}

impl Cell {
    fn add(&mut self, column: &Decimals, fold: Fold, row: usize) {
        let Some(value) = column.values[row] else {
            return;
        };
        let shown = column.shown[row];
        (self.value, self.shown) = match (self.value, fold) {
            (None, _) => (Some(value), shown),
            (Some(sum), Fold::Sum | Fold::Count) => (Some(sum + value), self.shown.max(shown)),
            (Some(best), Fold::Least) if value < best => (Some(value), shown),
            (Some(best), Fold::Most) if value > best => (Some(value), shown),
            (kept, _) => (kept, self.shown),
        };
    }

    fn show(self, fold: Fold, scale: u8) -> Value {
        match self.value {
            Some(value) => Value::String(decimal(value, scale, self.shown)),
            None if fold == Fold::Count => Value::String("0".to_owned()),
            None => Value::Null,
        }
    }
}

/// A decimal with so many digits behind the point.
fn decimal(value: i128, scale: u8, shown: u8) -> String {
    let value = value / 10_i128.pow(u32::from(scale - shown));
    let (sign, digits) = (
        if value < 0 { "-" } else { "" },
        value.unsigned_abs().to_string(),
    );
    if shown == 0 {
        return format!("{sign}{digits}");
    }
    let shown = usize::from(shown);
    let digits = format!("{digits:0>width$}", width = shown + 1);
    let (whole, part) = digits.split_at(digits.len() - shown);
    format!("{sign}{whole}.{part}")
}

/// Text as PostgreSQL writes a number: its digits, and how many stand behind the point.
pub(super) fn read_decimal(text: &str) -> Option<(i128, u8)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let value = format!("{whole}{part}").parse::<i128>().ok()?;
    (part.len() <= 20).then_some((value, u8::try_from(part.len()).ok()?))
}

/// Microseconds since 1970 of a time as rows show it.
pub(super) fn read_time(text: &str) -> Option<i64> {
    text.parse::<DateTime>().ok().map(micros)
}

fn micros(at: DateTime) -> i64 {
    let epoch = Date::constant(1970, 1, 1).to_datetime(Time::midnight());
    let since = at.duration_since(epoch);
    since.as_secs() * MICROS + i64::from(since.subsec_micros())
}

fn moment(micros: i64) -> Option<DateTime> {
    let epoch = Date::constant(1970, 1, 1).to_datetime(Time::midnight());
    epoch.checked_add(micros.microseconds()).ok()
}

fn text_of(micros: i64) -> Option<String> {
    Some(
        moment(micros)?
            .strftime("%Y-%m-%dT%H:%M:%S.%3f")
            .to_string(),
    )
}

/// The start of the bucket that a moment falls into.
fn bucket(at: i64, granularity: &str) -> i64 {
    if at == i64::MAX {
        return at;
    }
    let Some(moment) = moment(at) else { return at };
    let date = moment.date();
    let start = match granularity {
        "second" => return at.div_euclid(MICROS) * MICROS,
        "minute" => return at.div_euclid(60 * MICROS) * 60 * MICROS,
        "hour" => return at.div_euclid(3600 * MICROS) * 3600 * MICROS,
        "day" => date,
        "week" => date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days()),
        "month" => date.first_of_month(),
        "quarter" => Date::new(date.year(), (date.month() - 1) / 3 * 3 + 1, 1).unwrap_or(date),
        "year" => date.first_of_year(),
        // The rollup's own buckets.
        _ => return at,
    };
    micros(start.to_datetime(Time::midnight()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_come_out_as_they_went_in() {
        for text in ["0", "-0.05", "12.30", "-7", "123456789012345678901.5"] {
            let (value, shown) = read_decimal(text).unwrap();
            assert_eq!(decimal(value, shown, shown), text);
        }
        assert_eq!(decimal(1230, 2, 1), "12.3");
        assert!(read_decimal("NaN").is_none() && read_decimal("1e5").is_none());
    }

    #[test]
    fn buckets_are_those_of_the_calendar() {
        let at = |text: &str| read_time(text).unwrap();
        let cut = |text: &str, granularity: &str| text_of(bucket(at(text), granularity)).unwrap();
        assert_eq!(
            cut("2026-08-22T13:45:10.250", "hour"),
            "2026-08-22T13:00:00.000"
        );
        assert_eq!(
            cut("2026-08-22T13:45:10.250", "week"),
            "2026-08-17T00:00:00.000"
        );
        assert_eq!(
            cut("2026-08-22T13:45:10.250", "quarter"),
            "2026-07-01T00:00:00.000"
        );
        assert_eq!(
            cut("1969-12-31T23:59:59.000", "day"),
            "1969-12-31T00:00:00.000"
        );
    }
}
