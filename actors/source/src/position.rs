//! Where a table stands, and what to read next so that no row is lost at the boundary.
//!
//! # The argument
//! Let S1 be the snapshot of the previous read and S2 that of this one. A row version visible in S2
//! and not in S1 was written by a transaction that was not finished at S1. Such a transaction has an
//! id ≥ `S1.xmin`, the oldest id in progress at S1 - so has each of its subtransactions, whose ids
//! follow their parent's. (Transactions of the server's other databases cannot write to this one and
//! are left out of `S1.xmin`, or a neighbour's long transaction would hold it back.) Hence **`xmin(row) ≥ S1.xmin` selects every row that S1 did not show**,
//! whatever the row's cursor says: committed late, tied, backdated, set by a clock that ran ahead
//! or back. A few rows that S1 did show may come again; the loader merges by key and leaves equal
//! rows alone. No clock takes part.
//!
//! `xmin` has no index, so testing it reads the table. Small tables are always tested in full
//! (a *sweep*). For large ones the index narrows the read to `cursor ≥ last maximum or key ≥ last
//! maximum` (a *narrow* read), which is all that an application that sets its cursor to the time of
//! the change writes, bar late commits; and PostgreSQL's own statistics tell when that was not all:
//! its counters of inserted and updated rows move past what the reads accounted for, or a
//! transaction that had written to the table was open at S1. Then the next read sweeps from the last
//! sweep's snapshot. Counters are eventual (a backend reports them within seconds of its commit), so
//! on a large table a row that hides from both indexes arrives seconds late, never not at all.
//!
//! `accounted` never exceeds the counter's final value for S2: a narrow read adds only versions
//! written by transactions that began after S1 (each of them is one counted event that S1 had not
//! counted), and only a sweep adopts the counter itself, as it was read *before* S2 was taken.
//!
//! Without a primary key rows are appended and must come exactly once: the window is then
//! `[previous S.xmin, S2.xmin)`, of finished transactions only. What commits later waits for the next.
//!
//! The table is read whole again when positions of two states cannot be compared: another cluster or
//! timeline (restored, failed over), another table or a rewritten one (`TRUNCATE`, `VACUUM FULL`),
//! transaction ids that went back or moved by 2^30, a new column that already holds values.
//!
//! Limits: a deleted row, or the old key of a row whose key changed, stays until a full refresh.

use ballpoint_runtime::segment::{Position, SyncMode};
use serde::{Deserialize, Serialize};

/// Version of the position's form; another one means a full read.
const FORMAT: u32 = 1;
/// Row ids compare on a circle of 2^32; a position older than a quarter of it is renewed.
const TRANSACTIONS_MAX: u64 = 1 << 30;

/// Where one table stands. Opaque to the loader, which keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorPosition {
    pub format: u32,
    /// System identifier and timeline of the cluster.
    pub cluster: String,
    /// Object and file ids of the table.
    pub storage: String,
    pub mode: SyncMode,
    pub columns: Vec<String>,
    pub snapshot: Snapshot,
    /// Rows of transactions below it are loaded, whatever their cursor.
    pub proved_xmin: u64,
    /// The greatest cursor in the table at the snapshot, as text; `None` when empty or not indexed.
    pub cursor_max: Option<String>,
    /// The greatest leading key column at the snapshot, as text.
    pub key_max: Option<String>,
    /// PostgreSQL's counter of changes, as far as reads account for it; `None` where it keeps none.
    pub counter: Option<Counter>,
    /// Rows at the snapshot; full refresh only.
    pub rows: Option<i64>,
    /// A transaction that had written to the table was open at the snapshot.
    pub in_flight: bool,
}

/// The part of `pg_current_snapshot()` that matters here, as 64-bit transaction ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The oldest transaction in progress; all below it are finished.
    pub xmin: u64,
    /// The first id not yet given out.
    pub xmax: u64,
}

/// A counter that restarts from zero whenever its epoch changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    pub epoch: String,
    pub changes: i64,
}

/// The table as it is at the snapshot of this read.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    pub(crate) cluster: String,
    pub(crate) storage: String,
    pub(crate) mode: SyncMode,
    pub(crate) keyed: bool,
    pub(crate) columns: Vec<String>,
    /// Columns that rows older than themselves hold a value in.
    pub(crate) filling_columns: Vec<String>,
    pub(crate) pages: i64,
    /// An estimate.
    pub(crate) rows_about: Option<i64>,
    pub(crate) snapshot: Snapshot,
    /// Read before the snapshot was taken.
    pub(crate) counter: Option<Counter>,
    pub(crate) cursor_max: Option<String>,
    pub(crate) key_max: Option<String>,
    pub(crate) in_flight: bool,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every row.
    Whole { reason: &'static str },
    /// Rows of transactions from `from_xmin` on.
    Sweep { from_xmin: u64 },
    /// Of those, the rows that the indexes on cursor and key lead to.
    Narrow {
        from_xmin: u64,
        cursor_from: Option<String>,
        key_from: Option<String>,
    },
}

impl CursorPosition {
    /// Reads what a loader kept; `None` for a form this version does not know.
    pub fn parse(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone())
            .ok()
            .filter(|p: &Self| p.format == FORMAT)
    }

    pub(crate) fn to_position(&self) -> Position {
        Position(serde_json::to_value(self).expect("a struct of strings and numbers is JSON"))
    }

    /// Writes the number of rows into a position that was made before they were counted.
    pub(crate) fn note_rows(position: &mut Position, rows: u64) {
        position.0["rows"] = rows.into();
    }

    /// Whether keeping `self` in place of `next` loses nothing.
    pub(crate) fn still_stands(&self, next: &Self) -> bool {
        let mut aged = self.clone();
        let elapsed = next.snapshot.xmax.saturating_sub(self.proved_xmin);
        aged.snapshot = next.snapshot;
        aged.proved_xmin = next.proved_xmin;
        aged == *next && !self.in_flight && elapsed < TRANSACTIONS_MAX
    }
}

impl Present {
    /// Decides what to read after `previous`. `sweep_allowed` paces sweeps of large tables.
    pub(crate) fn reading_after(
        &self,
        previous: Option<&CursorPosition>,
        sweep_pages_max: i64,
        sweep_allowed: bool,
    ) -> Reading {
        let Some(previous) = previous else {
            return Reading::Whole {
                reason: "it was never read",
            };
        };
        if let Some(reason) = self.incomparable(previous) {
            return Reading::Whole { reason };
        }
        let sweep = Reading::Sweep {
            from_xmin: previous.proved_xmin,
        };
        let small = self.pages <= sweep_pages_max;
        if small || !self.keyed || !matches!(self.mode, SyncMode::Incremental { .. }) {
            return sweep;
        }
        let (cursor_from, key_from) = (previous.cursor_max.clone(), previous.key_max.clone());
        if cursor_from.is_none() || key_from.is_none() {
            return sweep;
        }
        if sweep_allowed && self.sweep_is_due(previous) {
            return sweep;
        }
        Reading::Narrow {
            from_xmin: previous.snapshot.xmin,
            cursor_from,
            key_from,
        }
    }

    fn incomparable(&self, previous: &CursorPosition) -> Option<&'static str> {
        let fills = |name: &String| !previous.columns.contains(name);
        if previous.cluster != self.cluster {
            Some("its server was replaced, restored or failed over")
        } else if previous.storage != self.storage {
            Some("it was recreated, truncated or rewritten")
        } else if previous.mode != self.mode {
            Some("its mode changed")
        } else if self.snapshot.xmax < previous.snapshot.xmin {
            Some("its server went back in time")
        } else if self.snapshot.xmax - previous.proved_xmin >= 2 * TRANSACTIONS_MAX {
            Some("its last read is too many transactions ago")
        } else if self.filling_columns.iter().any(fills) {
            Some("a new column already holds values")
        } else {
            None
        }
    }

    /// Whether narrow reads may have missed a row since the last sweep.
    fn sweep_is_due(&self, previous: &CursorPosition) -> bool {
        previous.in_flight || counter_moved(previous.counter.as_ref(), self.counter.as_ref())
    }

    /// The position after `reading`; `fresh` counts the rows read of transactions that began after
    /// the previous snapshot.
    pub(crate) fn position(
        self,
        previous: Option<&CursorPosition>,
        reading: &Reading,
        fresh: i64,
        rows: Option<i64>,
    ) -> CursorPosition {
        let narrow = matches!(reading, Reading::Narrow { .. });
        let before = previous.filter(|_| !matches!(reading, Reading::Whole { .. }));
        let proved_xmin = match before {
            Some(before) if narrow => before.proved_xmin,
            _ => self.snapshot.xmin,
        };
        CursorPosition {
            format: FORMAT,
            cluster: self.cluster,
            storage: self.storage,
            mode: self.mode,
            columns: self.columns,
            snapshot: self.snapshot,
            proved_xmin,
            cursor_max: self.cursor_max,
            key_max: self.key_max,
            counter: account(
                before.and_then(|b| b.counter.as_ref()),
                self.counter,
                fresh,
                narrow,
            ),
            rows,
            in_flight: self.in_flight,
        }
    }
}

/// Whether the counter shows changes that no read accounted for.
pub(crate) fn counter_moved(accounted: Option<&Counter>, now: Option<&Counter>) -> bool {
    match (accounted, now) {
        (Some(accounted), Some(now)) => {
            accounted.epoch != now.epoch || now.changes > accounted.changes
        }
        // Without a counter nothing tells; a narrow read is then never enough.
        (_, None) => true,
        (None, Some(_)) => true,
    }
}

fn account(
    before: Option<&Counter>,
    now: Option<Counter>,
    fresh: i64,
    narrow: bool,
) -> Option<Counter> {
    let now = now?;
    let Some(before) = before.filter(|before| before.epoch == now.epoch) else {
        return Some(now).filter(|_| !narrow);
    };
    let expected = before.changes + fresh;
    let changes = if narrow {
        expected
    } else {
        expected.max(now.changes)
    };
    Some(Counter {
        epoch: now.epoch,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(xmin: u64, xmax: u64, changes: i64, pages: i64) -> Present {
        Present {
            cluster: "1/1".to_owned(),
            storage: "1/1".to_owned(),
            mode: SyncMode::Incremental {
                cursor: "c".to_owned(),
            },
            keyed: true,
            columns: vec!["c".to_owned()],
            filling_columns: Vec::new(),
            pages,
            rows_about: None,
            snapshot: Snapshot { xmin, xmax },
            counter: Some(Counter {
                epoch: "e".to_owned(),
                changes,
            }),
            cursor_max: Some("m".to_owned()),
            key_max: Some("9".to_owned()),
            in_flight: false,
        }
    }

    fn first() -> CursorPosition {
        let whole = Reading::Whole { reason: "" };
        present(10, 10, 100, 1).position(None, &whole, 0, None)
    }

    #[test]
    fn a_small_table_is_swept_and_a_large_one_read_narrowly() {
        let previous = first();
        let small = present(20, 20, 100, 5).reading_after(Some(&previous), 10, true);
        assert_eq!(small, Reading::Sweep { from_xmin: 10 });
        let large = present(20, 20, 100, 50).reading_after(Some(&previous), 10, true);
        assert!(
            matches!(large, Reading::Narrow { from_xmin: 10, .. }),
            "{large:?}"
        );
    }

    #[test]
    fn a_counter_past_what_reads_account_for_makes_a_sweep_due() {
        let previous = first();
        let now = present(20, 20, 103, 50);
        let narrow = now.reading_after(Some(&previous), 10, false);
        let swept = now.reading_after(Some(&previous), 10, true);
        assert_eq!(swept, Reading::Sweep { from_xmin: 10 });
        // Paced: the narrow read saw two of three; the third keeps the sweep due.
        let next = now.position(Some(&previous), &narrow, 2, None);
        assert_eq!(next.proved_xmin, 10);
        let due = present(30, 30, 103, 50).reading_after(Some(&next), 10, true);
        assert_eq!(due, Reading::Sweep { from_xmin: 10 });
    }

    #[test]
    fn rows_read_before_the_counter_reports_them_are_not_read_twice() {
        let previous = first();
        let lagging = present(20, 20, 100, 50);
        let narrow = lagging.reading_after(Some(&previous), 10, true);
        let next = lagging.position(Some(&previous), &narrow, 5, None);
        let reported = present(21, 21, 105, 50).reading_after(Some(&next), 10, true);
        assert!(matches!(reported, Reading::Narrow { .. }), "{reported:?}");
    }

    #[test]
    fn states_that_cannot_be_compared_are_read_whole() {
        let previous = first();
        let mut restored = present(20, 20, 100, 1);
        restored.cluster = "2/1".to_owned();
        let mut truncated = present(20, 20, 100, 1);
        truncated.storage = "1/2".to_owned();
        let rewound = present(5, 5, 100, 1);
        let ancient = present(1 << 33, 1 << 33, 100, 1);
        let mut filled = present(20, 20, 100, 1);
        filled.filling_columns = vec!["added".to_owned()];
        for state in [restored, truncated, rewound, ancient, filled] {
            let reading = state.reading_after(Some(&previous), 10, true);
            assert!(matches!(reading, Reading::Whole { .. }), "{state:?}");
        }
    }

    #[test]
    fn a_position_survives_its_json_and_an_unknown_form_is_none() {
        let position = first();
        assert_eq!(
            CursorPosition::parse(&position.to_position()),
            Some(position)
        );
        assert_eq!(
            CursorPosition::parse(&Position(serde_json::json!({"format": 9}))),
            None
        );
    }
}
