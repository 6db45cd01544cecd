//! What a reading selects: counted first, where that can spare the copy, then as a COPY statement.

use ballpoint_postgres::ident::{quote, quote_literal};
use ballpoint_runtime::records::RefusedRow;
use ballpoint_runtime::segment::{SyncMode, TableSpec, WriteMode};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::catalog::SourceTable;
use crate::oversize;
use crate::position::{CursorPosition, Present, Reading};

/// Whether each version of a row comes exactly once, because nothing merges it.
pub(crate) fn appends(spec: &TableSpec) -> bool {
    spec.primary_key.is_empty() || spec.options.append
}

/// A segment whose rows do not flow yet.
pub(crate) struct Opened {
    pub(crate) spec: TableSpec,
    pub(crate) write: WriteMode,
    pub(crate) position: CursorPosition,
    /// `None`: there are no rows, only the position moves.
    pub(crate) copy: Option<String>,
    /// Of the table.
    pub(crate) pages: i64,
    /// About how many rows the copy has.
    pub(crate) expected: Option<u64>,
    /// Rows that are not read, because a value is too long.
    pub(crate) refused: Vec<RefusedRow>,
    /// The position takes the number of rows when they have been read.
    pub(crate) rows_unknown: bool,
}

/// Counts what `reading` selects and decides whether anything must be copied.
pub(crate) async fn open(
    connection: &mut PgConnection,
    table: &mut SourceTable,
    spec: TableSpec,
    present: Present,
    previous: Option<&CursorPosition>,
    reading: &Reading,
) -> Result<Option<Opened>, sqlx::Error> {
    let full_refresh = spec.mode == SyncMode::FullRefresh;
    let (pages, rows_about) = (present.pages, present.rows_about);
    let condition = condition(&spec, reading, &present);
    let counted = counted(
        connection,
        table,
        full_refresh,
        &condition,
        previous,
        reading,
    );
    let (selected, fresh, total) = counted.await?;
    let recounted = total.is_some() && previous.is_some_and(|previous| previous.rows != total);
    let reshaped = previous.is_some_and(|previous| previous.columns != present.columns);
    let changed = selected > 0 || recounted || (full_refresh && reshaped);
    let position = present.position(previous, reading, fresh, total);
    let write = match reading {
        // Each refresh is a generation of its own beside the earlier ones.
        _ if full_refresh && spec.options.append => WriteMode::Append,
        Reading::Whole { .. } => WriteMode::Replace,
        _ if full_refresh => WriteMode::Replace,
        _ if appends(&spec) => WriteMode::Append,
        _ => WriteMode::Merge,
    };
    if !changed {
        if previous.is_some_and(|previous| previous.still_stands(&position)) {
            return Ok(None);
        }
        // An empty merge: a replacement by no rows would empty the table.
        let write = if write == WriteMode::Replace {
            WriteMode::Append
        } else {
            write
        };
        return Ok(Some(Opened {
            spec,
            write,
            position,
            copy: None,
            pages,
            expected: Some(0),
            refused: Vec::new(),
            rows_unknown: false,
        }));
    }
    let condition = if full_refresh {
        "true".to_owned()
    } else {
        condition
    };
    let refused = oversize::set_aside(connection, table, &spec, &condition).await?;
    Ok(Some(Opened {
        copy: Some(copy_out(table, &condition)),
        refused,
        expected: expected(selected, total, rows_about),
        spec,
        write,
        position,
        pages,
        rows_unknown: full_refresh && total.is_none(),
    }))
}

/// What a copy brings: all, where they were counted; what was selected; or an estimate of all.
fn expected(selected: i64, total: Option<i64>, rows_about: Option<i64>) -> Option<u64> {
    let counted = total.or(Some(selected).filter(|it| *it < i64::MAX));
    counted.or(rows_about).map(i64::unsigned_abs)
}

/// How many rows a reading selects, how many of them are new since the previous one, and how many
/// there are at all, where that is looked at.
async fn counted(
    connection: &mut PgConnection,
    table: &SourceTable,
    full_refresh: bool,
    condition: &str,
    previous: Option<&CursorPosition>,
    reading: &Reading,
) -> Result<(i64, i64, Option<i64>), sqlx::Error> {
    match (reading, previous) {
        // All are copied, and counted on their way.
        (Reading::Whole { .. }, _) | (_, None) => Ok((i64::MAX, 0, None)),
        (_, Some(previous)) => {
            let newer = format!("age(xmin) <= age({})", xid(previous.snapshot.xmax));
            let what = format!(
                "count(*) filter (where {condition}), count(*) filter (where {condition} and {newer})"
            );
            // A full refresh also counts every row: a deleted one leaves no new row behind.
            let sql = if full_refresh {
                format!("select {what}, count(*) from {}", table.quoted())
            } else {
                format!(
                    "select count(*), count(*) filter (where {newer}), null::bigint from {} where {condition}",
                    table.quoted()
                )
            };
            sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_one(connection)
                .await
        }
    }
}

/// The rows of `reading`, as SQL. `age()` compares transaction ids on their circle, against the
/// newest one given out when this transaction first asked.
fn condition(spec: &TableSpec, reading: &Reading, present: &Present) -> String {
    let appends = appends(spec) && spec.mode != SyncMode::FullRefresh;
    let oldest_open = xid(present.snapshot.xmin);
    match reading {
        Reading::Whole { .. } if appends => {
            format!("not (age(xmin) between 0 and age({oldest_open}))")
        }
        Reading::Whole { .. } => "true".to_owned(),
        Reading::Sweep { from_xmin } if appends => format!(
            "age(xmin) <= age({}) and age(xmin) > age({oldest_open})",
            xid(*from_xmin)
        ),
        Reading::Sweep { from_xmin } => format!("age(xmin) <= age({})", xid(*from_xmin)),
        Reading::Narrow {
            from_xmin,
            cursor_from,
            key_from,
        } => {
            let cursor = match &spec.mode {
                SyncMode::Incremental { cursor } => Some(cursor),
                SyncMode::FullRefresh | SyncMode::Cdc => None,
            };
            let bounds = [(cursor, cursor_from), (spec.primary_key.first(), key_from)];
            let bounds: Vec<String> = bounds
                .into_iter()
                .filter_map(|(column, from)| Some((column?, from.as_ref()?)))
                .map(|(column, from)| format!("{} >= {}", quote(column), quote_literal(from)))
                .collect();
            format!(
                "({}) and age(xmin) <= age({})",
                bounds.join(" or "),
                xid(*from_xmin)
            )
        }
    }
}

/// A 64-bit transaction id as the 32-bit one that rows carry.
fn xid(id: u64) -> String {
    format!("'{}'::xid", id & u64::from(u32::MAX))
}

/// The rows that fulfil `condition`, in the form in which they travel.
pub(crate) fn copy_out(table: &SourceTable, condition: &str) -> String {
    format!(
        "COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT binary)",
        table.select_list(),
        table.quoted(),
        table.where_fits(condition),
    )
}
