//! Reading a rollup's table into memory, in the forms in which rows are shown.

use ballpoint_postgres::ident::quote;
use serde_json::Value;

use super::memory::{CELLS_MAX, Codes, Columns, Decimals, read_decimal, read_time};
use crate::execute::Runner;
use crate::plan::{Plan, Rollup, Statement};

/// The columns of a rollup; `None` when there are too many cells, or values that are not kept so.
pub(super) async fn load(runner: &Runner, rollup: &Rollup) -> Option<Columns> {
    let sorted = |names: Vec<&String>| {
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.sort_unstable();
        names
    };
    let dimensions = sorted(
        rollup
            .dimensions
            .values()
            .chain(rollup.segments.values())
            .collect(),
    );
    let times: Vec<String> = rollup.times.iter().map(|it| it.column.clone()).collect();
    let exact = rollup
        .measures
        .values()
        .filter(|it| it.kind == "bigint" || it.kind.starts_with("numeric"));
    let measures = sorted(exact.map(|it| &it.column).collect());
    let columns = dimensions.len() * 2 + times.len() + measures.len();
    let rows = usize::try_from(rollup.rows).ok()?;
    if columns == 0 || rows.checked_mul(columns)? > CELLS_MAX {
        return None;
    }
    let mut selected: Vec<String> = dimensions.iter().map(|it| quote(it)).collect();
    // PostgreSQL's own order of the values, whatever its collation.
    selected.extend(
        dimensions
            .iter()
            .map(|it| format!("dense_rank() OVER (ORDER BY {})", quote(it))),
    );
    selected.extend(times.iter().chain(&measures).map(|it| quote(it)));
    let plan = Plan {
        statement: Statement::new(
            format!("SELECT {} FROM {}", selected.join(", "), rollup.relation),
            Vec::new(),
        ),
        ..Plan::default()
    };
    let mut rows = runner.run(&plan).await.ok()?.rows;
    let first_time = dimensions.len() * 2;
    if !times.is_empty() {
        rows.sort_by_cached_key(|row| time(&row[first_time]).unwrap_or(i64::MAX));
    }
    let mut loaded = Columns {
        rows: rows.len(),
        sorted: times.first().cloned(),
        ..Columns::default()
    };
    for (at, name) in dimensions.iter().enumerate() {
        let codes = codes(&rows, at, dimensions.len() + at)?;
        loaded.dimensions.insert(name.clone(), codes);
    }
    for (at, name) in times.iter().enumerate() {
        let values = rows
            .iter()
            .map(|row| time(&row[first_time + at]))
            .collect::<Option<_>>()?;
        loaded.times.insert(name.clone(), values);
    }
    for (at, name) in measures.iter().enumerate() {
        let values = decimals(&rows, first_time + times.len() + at)?;
        loaded.measures.insert(name.clone(), values);
    }
    Some(loaded)
}

/// The last moment for NULL; `None` for what is no time.
fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(i64::MAX),
        Value::String(text) => read_time(text),
        _ => None,
    }
}

fn codes(rows: &[Vec<Value>], value: usize, rank: usize) -> Option<Codes> {
    let mut codes = Codes::default();
    for row in rows {
        let code: u32 = row[rank].as_str()?.parse::<u32>().ok()?.checked_sub(1)?;
        let place = code as usize;
        if codes.values.len() <= place {
            codes.values.resize(place + 1, Value::Null);
        }
        codes.values[place].clone_from(&row[value]);
        codes.codes.push(code);
    }
    Some(codes)
}

fn decimals(rows: &[Vec<Value>], at: usize) -> Option<Decimals> {
    let mut read: Vec<Option<(i128, u8)>> = Vec::with_capacity(rows.len());
    for row in rows {
        read.push(match &row[at] {
            Value::Null => None,
            Value::String(text) => Some(read_decimal(text)?),
            _ => return None,
        });
    }
    let scale = read
        .iter()
        .flatten()
        .map(|(_, shown)| *shown)
        .max()
        .unwrap_or_default();
    let mut decimals = Decimals {
        scale,
        ..Decimals::default()
    };
    for value in read {
        let (value, shown) = match value {
            Some((value, shown)) => {
                let factor = 10_i128.checked_pow(u32::from(scale - shown))?;
                // Far from the end, so that no sum of what is here runs over.
                let value = value
                    .checked_mul(factor)
                    .filter(|it| it.unsigned_abs() < 1 << 96)?;
                (Some(value), shown)
            }
            None => (None, 0),
        };
        decimals.values.push(value);
        decimals.shown.push(shown);
    }
    Some(decimals)
}
