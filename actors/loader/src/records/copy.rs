//! Lines of COPY text into a table, leaving out those that PostgreSQL refuses, each with its reason.

use std::convert::Infallible;

use ballpoint_postgres::copy::{CopyError, copy_in};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

/// A line that the server did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) line: Bytes,
    pub(super) column: Option<String>,
    pub(super) reason: String,
}

/// Runs `copy` with `lines`, whole ones; returns those that were refused. Outside a transaction: a
/// refused line undoes its COPY, and the lines before it are sent again without it. All in all no byte
/// is sent more than twice.
pub(super) async fn copy_lines(
    connection: &mut PgConnection,
    copy: &str,
    lines: Bytes,
) -> Result<Vec<BadLine>, sqlx::Error> {
    let mut bad = Vec::new();
    // The last is the next: what stands before a bad line goes before what stands behind it.
    let mut pending = vec![lines];
    while let Some(part) = pending.pop() {
        if part.is_empty() {
            continue;
        }
        let rows = stream::iter([Ok::<_, Infallible>(part.clone())]).boxed();
        let error = match copy_in(connection, copy, rows).await {
            Ok(_) => continue,
            Err(CopyError::Database(error)) => error,
            Err(CopyError::Source(never)) => match never {},
        };
        let Some((number, column, reason)) = refusal(&error) else {
            return Err(error);
        };
        let Some((before, line, behind)) = number.and_then(|it| split_at_line(&part, it)) else {
            // A server that speaks another language: halves, until one line is left.
            let (first, second) = halves(&part);
            if first.is_empty() || second.is_empty() {
                let line = part.slice(..part.len() - 1);
                bad.push(BadLine {
                    line,
                    column,
                    reason,
                });
            } else {
                pending.push(second);
                pending.push(first);
            }
            continue;
        };
        pending.push(behind);
        pending.push(before);
        bad.push(BadLine {
            line,
            column,
            reason,
        });
    }
    Ok(bad)
}

/// Which line was refused, if that can be read, in which column, and why; `None` when the error is not
/// about a row.
fn refusal(error: &sqlx::Error) -> Option<(Option<usize>, Option<String>, String)> {
    let sqlx::Error::Database(database) = error else {
        return None;
    };
    let code = database.code()?;
    // Data exceptions, violated constraints, and a row or value that is larger than a page or field
    // may be (54000): all of them are about one row.
    if !["22", "23", "54"]
        .iter()
        .any(|class| code.starts_with(class))
    {
        return None;
    }
    let at = database
        .try_downcast_ref::<PgDatabaseError>()
        .and_then(PgDatabaseError::r#where)
        .and_then(place);
    let (number, column) = at.map_or((None, None), |(number, column)| (Some(number), column));
    Some((number, column, database.message().to_owned()))
}

/// `COPY stage, line 57, column age: "x"` as (57, `age`).
fn place(context: &str) -> Option<(usize, Option<String>)> {
    let context = context.lines().find(|line| line.starts_with("COPY "))?;
    let (_, rest) = context.split_once(", line ")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let number = rest[..end].parse().ok()?;
    let column = rest[end..].strip_prefix(", column ").map(|column| {
        let end = column.find(": ").unwrap_or(column.len());
        column[..end].to_owned()
    });
    Some((number, column))
}

/// What stands before line `number` (from 1), the line itself without its end, and what stands behind.
fn split_at_line(lines: &Bytes, number: usize) -> Option<(Bytes, Bytes, Bytes)> {
    let mut start = 0;
    for _ in 1..number {
        start += lines[start..].iter().position(|byte| *byte == b'\n')? + 1;
    }
    let end = start + lines[start..].iter().position(|byte| *byte == b'\n')?;
    Some((
        lines.slice(..start),
        lines.slice(start..end),
        lines.slice(end + 1..),
    ))
}

/// `lines` cut at a line's end about in the middle.
fn halves(lines: &Bytes) -> (Bytes, Bytes) {
    let middle = lines.len() / 2;
    let before = lines[..middle].iter().rposition(|byte| *byte == b'\n');
    let at = before.or_else(|| {
        let behind = lines[middle..].iter().position(|byte| *byte == b'\n');
        behind.map(|at| middle + at)
    });
    let cut = at.map_or(lines.len(), |at| at + 1);
    (lines.slice(..cut), lines.slice(cut..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_context_names_line_and_column() {
        assert_eq!(
            place("COPY stage, line 57, column age: \"x: y\""),
            Some((57, Some("age".to_owned())))
        );
        assert_eq!(
            place("JSON data, line 1: \"\\u0000\nCOPY stage, line 2, column data: \"{}\""),
            Some((2, Some("data".to_owned())))
        );
        assert_eq!(place("COPY stage, line 3"), Some((3, None)));
        assert_eq!(place("SQL function f"), None);
    }

    #[test]
    fn a_line_is_cut_out_with_what_is_around_it() {
        let lines = Bytes::from_static(b"a\nb\nc\n");
        let (before, line, behind) = split_at_line(&lines, 2).expect("is there");
        assert_eq!(
            (&before[..], &line[..], &behind[..]),
            (&b"a\n"[..], &b"b"[..], &b"c\n"[..])
        );
        assert_eq!(split_at_line(&lines, 4), None);
        let (first, second) = halves(&lines);
        assert_eq!((&first[..], &second[..]), (&b"a\n"[..], &b"b\nc\n"[..]));
        let (first, second) = halves(&first);
        assert_eq!((&first[..], second.is_empty()), (&b"a\n"[..], true));
    }
}
