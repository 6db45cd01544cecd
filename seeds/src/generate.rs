//! The rows of a source as a stream of COPY text in bounded memory.

use std::iter::FusedIterator;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    calendar::{Hour, Slot, hour_of, start_of},
    parameters::Parameters,
    row::{RowMaker, Unit},
};

/// Chunks are cut after the row that reaches this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Milliseconds in an hour.
const HOUR_MILLIS: u64 = 3_600_000;

/// The hours rows lie in: `[from, to)`, both whole hours, `to` the start of the hour of `now`.
///
/// The hour that is under way has no rows: it is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    first: Hour,
    hours: u64,
}

impl Window {
    /// The window of a source's parameters at `now`.
    pub fn ending_at(parameters: &Parameters, now: Timestamp) -> Self {
        let hours = u64::from(parameters.plan.days) * 24;
        Self {
            first: hour_of(now) - hours.cast_signed(),
            hours,
        }
    }

    /// The first moment in the window.
    pub fn from(&self) -> Timestamp {
        start_of(self.first)
    }

    /// The first moment after the window.
    pub fn to(&self) -> Timestamp {
        start_of(self.first + self.hours.cast_signed())
    }

    /// Whole hours in the window: the row count of one unit an hour.
    pub fn hours(&self) -> u64 {
        self.hours
    }

    /// How many of `rows` fall into hour `at`: spread evenly, exact in total.
    fn units(&self, at: u64, rows: u64) -> u64 {
        let before = |hour: u64| u128::from(hour) * u128::from(rows) / u128::from(self.hours);
        u64::try_from(before(at + 1) - before(at)).expect("not more than all rows")
    }
}

/// Makes `rows` rows for the window ending at `now`, in order of time, ids from 1.
///
/// The same arguments give the same bytes. The format is PostgreSQL's COPY text of
/// [`Parameters::columns`].
pub fn generate(parameters: &Parameters, rows: u64, seed: u64, now: Timestamp) -> CopyChunks {
    let today = hour_of(now).div_euclid(24);
    CopyChunks {
        maker: RowMaker::new(&parameters.plan, seed, today),
        parameters: parameters.clone(),
        window: Window::ending_at(parameters, now),
        rows,
        next_hour: 0,
        slot: None,
        order: Vec::new(),
        next_unit: 0,
        next_id: 1,
    }
}

/// Chunks of COPY text, each of whole lines and about 64 KiB.
#[derive(Debug)]
pub struct CopyChunks {
    parameters: Parameters,
    maker: RowMaker,
    window: Window,
    rows: u64,
    next_hour: u64,
    slot: Option<Slot>,
    /// The units of the hour in order of time, with the place in the hour as a part of 2^32.
    order: Vec<(u32, u64)>,
    next_unit: usize,
    next_id: u64,
}

impl CopyChunks {
    /// Rows made so far.
    pub fn rows_made(&self) -> u64 {
        self.next_id - 1
    }

    /// Goes to the next hour that has units; false when there is none.
    fn advance(&mut self) -> bool {
        while self.next_hour < self.window.hours {
            let at = self.next_hour;
            self.next_hour += 1;
            let units = self.window.units(at, self.rows);
            if units == 0 {
                continue;
            }
            let hour = self.window.first + at.cast_signed();
            self.slot = Some(Slot::at(hour, &self.parameters.plan.calendar));
            self.next_unit = 0;
            if self.order.len() as u64 != units {
                self.order = units_in_order(units);
            }
            return true;
        }
        false
    }
}

impl Iterator for CopyChunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 1024);
        while chunk.len() < CHUNK_BYTES {
            if (self.slot.is_none() || self.next_unit == self.order.len()) && !self.advance() {
                break;
            }
            let Some(slot) = &self.slot else { break };
            let (place, number) = self.order[self.next_unit];
            let millis = u32::try_from((u64::from(place) * HOUR_MILLIS) >> 32)
                .expect("a part of an hour's milliseconds");
            let unit = Unit {
                slot,
                number,
                millis,
            };
            self.maker
                .write(&self.parameters.plan, self.next_id, &unit, &mut chunk);
            self.next_unit += 1;
            self.next_id += 1;
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

impl FusedIterator for CopyChunks {}

/// Unit 0 on the hour, 1 at half past, 2 and 3 at the quarters, and so on (van der Corput's
/// sequence): a unit's moment does not depend on how many others there are, yet all are spread.
fn units_in_order(units: u64) -> Vec<(u32, u64)> {
    let place = |unit: u64| (unit & u64::from(u32::MAX)) as u32;
    let mut order: Vec<_> = (0..units)
        .map(|unit| (place(unit).reverse_bits(), unit))
        .collect();
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests;
