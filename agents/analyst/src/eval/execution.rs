//! Whether two queries say the same, by their rows; whether an answer's rows and figures hold.

use ballpoint_metrics::query::Query;
use serde_json::Value;

use super::case::ExpectedQuery;
use crate::answer::{Answer, Row};
use crate::figures::{label, number, numbers_in};

/// Relative difference below which two figures are the same.
const TOLERANCE: f64 = 1e-6;

/// Whether an answer's rows are those of an expected query, in any order unless one is expected.
///
/// # Errors
/// What differs.
pub fn same_rows(actual: &[Row], expected: &[Row], query: &ExpectedQuery) -> Result<(), String> {
    let keys = keys(query);
    let project = |row: &Row| -> Vec<Value> {
        keys.iter()
            .map(|key| row.get(key).cloned().unwrap_or(Value::Null))
            .collect()
    };
    if let Some(missing) = actual
        .first()
        .and_then(|row| keys.iter().find(|it| !row.contains_key(*it)))
    {
        return Err(format!("the rows have no {missing}"));
    }
    let (mut have, mut want): (Vec<_>, Vec<_>) = (
        actual.iter().map(project).collect(),
        expected.iter().map(project).collect(),
    );
    if let Some((member, direction)) = query.order.as_ref().and_then(|it| it.iter().next()) {
        ordered(actual, member, direction)?;
        if actual.len() == 1 && query.limit.is_none() {
            want.truncate(1);
        }
    }
    if have.len() != want.len() {
        return Err(format!("{} rows, not {}", have.len(), want.len()));
    }
    let text = |row: &Vec<Value>| {
        row.iter()
            .map(|it| label(Some(it)))
            .collect::<Vec<_>>()
            .join("\u{1}")
    };
    have.sort_by_key(text);
    want.sort_by_key(text);
    match have
        .iter()
        .zip(&want)
        .find(|(a, b)| !a.iter().zip(*b).all(|(a, b)| same_cell(a, b)))
    {
        Some((a, b)) => Err(format!("a row is {a:?}, not {b:?}")),
        None => Ok(()),
    }
}

/// The keys under which the expected members are in a row.
fn keys(query: &ExpectedQuery) -> Vec<String> {
    let times = query.time_dimensions.iter().filter_map(|time| {
        time.granularity
            .as_ref()
            .map(|step| format!("{}.{step}", time.dimension))
    });
    query
        .dimensions
        .iter()
        .cloned()
        .chain(times)
        .chain(query.measures.iter().cloned())
        .collect()
}

fn ordered(rows: &[Row], member: &str, direction: &str) -> Result<(), String> {
    let values: Vec<f64> = rows
        .iter()
        .filter_map(|row| number(row.get(member)))
        .collect();
    let sorted = values.windows(2).all(|pair| match direction {
        "desc" => pair[0] >= pair[1],
        _ => pair[0] <= pair[1],
    });
    if sorted {
        Ok(())
    } else {
        Err(format!("not ordered by {member} {direction}"))
    }
}

fn same_cell(a: &Value, b: &Value) -> bool {
    match (number(Some(a)), number(Some(b))) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0),
        _ => label(Some(a)) == label(Some(b)),
    }
}

/// Whether the rows of an answer are those of its query, row by row.
///
/// # Errors
/// What differs.
pub fn holds(answer: &Answer, rerun: &[Row]) -> Result<(), String> {
    if answer.rows.len() != rerun.len() {
        return Err(format!(
            "{} rows, its query gives {}",
            answer.rows.len(),
            rerun.len()
        ));
    }
    let same = |a: &Row, b: &Row| {
        b.iter()
            .all(|(key, cell)| a.get(key).is_some_and(|it| same_cell(it, cell)))
    };
    let unmatched = answer
        .rows
        .iter()
        .find(|row| !rerun.iter().any(|it| same(row, it)));
    unmatched.map_or(Ok(()), |row| {
        Err(format!("a row that its query does not give: {row:?}"))
    })
}

/// The first number in an answer's text that is no cell, no share, difference or sum of cells, no
/// count, and no part of the question, its query or the definitions.
pub fn stray_figure(question: &str, answer: &Answer) -> Option<String> {
    let known = known_texts(question, answer);
    let figures = figures(answer);
    numbers_in(&answer.answer).into_iter().find(|text| {
        let decimals = text.split_once('.').map_or(0, |(_, part)| part.len());
        let precision = 0.5 * 10f64.powi(-i32::try_from(decimals).unwrap_or(0)) + 1e-9;
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        let is_figure = figures
            .iter()
            .any(|it| (it.abs() - value).abs() <= precision);
        !is_figure && !known.contains(text)
    })
}

/// Numbers that stand in texts which are given: the question, the query, labels, definitions.
fn known_texts(question: &str, answer: &Answer) -> Vec<String> {
    let query = |it: &Query| serde_json::to_string(it).unwrap_or_default();
    let mut texts = vec![question.to_owned()];
    texts.extend(answer.query.iter().map(query));
    texts.extend(answer.options.iter().map(|it| it.label.clone()));
    texts.extend(answer.definition.iter().map(Value::to_string));
    texts.extend(answer.chart.iter().map(|it| it.title.clone()));
    if let Some(freshness) = &answer.freshness {
        texts.extend(
            freshness
                .data_from
                .iter()
                .chain(&freshness.data_to)
                .cloned(),
        );
    }
    let rows = answer
        .rows
        .iter()
        .chain(answer.companion.iter().flat_map(|it| &it.rows));
    texts.extend(
        rows.flat_map(|row| row.values())
            .map(|cell| label(Some(cell))),
    );
    texts.iter().flat_map(|text| numbers_in(text)).collect()
}

/// Cells, and what may be said of them: sums, differences, shares, counts.
fn figures(answer: &Answer) -> Vec<f64> {
    let mut out: Vec<f64> = Vec::new();
    let count = |len: usize| u32::try_from(len).map_or(f64::MAX, f64::from);
    out.push(count(answer.rows.len()));
    let keys: Vec<&String> = answer
        .rows
        .first()
        .map(|row| row.keys().collect())
        .unwrap_or_default();
    let column = |rows: &[Row], key: &str| -> Vec<f64> {
        rows.iter().filter_map(|row| number(row.get(key))).collect()
    };
    let overall = answer.companion.as_ref();
    for key in &keys {
        let cells = column(&answer.rows, key);
        let others = overall.map(|it| column(&it.rows, key)).unwrap_or_default();
        let sum: f64 = cells.iter().sum();
        out.push(sum);
        for cell in &cells {
            out.push(*cell);
            out.push(100.0 * cell);
            if sum != 0.0 {
                out.push(100.0 * cell / sum);
            }
            out.extend(cells.iter().chain(&others).map(|it| cell - it));
        }
    }
    if let Some(companion) = overall {
        let cells = companion.rows.iter().flat_map(|row| row.values());
        out.extend(cells.filter_map(|cell| number(Some(cell))));
    }
    for row in &answer.rows {
        let cells: Vec<f64> = row.values().filter_map(|cell| number(Some(cell))).collect();
        for part in &cells {
            out.extend(
                cells
                    .iter()
                    .filter(|it| **it != 0.0)
                    .map(|whole| 100.0 * part / whole),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    fn answer(text: &str) -> Answer {
        let rows = [
            json!({"C.k": "a", "C.n": "97.314"}),
            json!({"C.k": "b", "C.n": "95"}),
        ];
        Answer {
            answer: text.into(),
            rows: rows
                .iter()
                .map(|it| it.as_object().unwrap().clone())
                .collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn cells_differences_and_counts_may_be_said_and_nothing_else() {
        assert_eq!(
            stray_figure("", &answer("2 rows: a 97.31, b 95, apart by 2.31.")),
            None
        );
        assert_eq!(
            stray_figure("", &answer("It is 99.9.")),
            Some("99.9".into())
        );
    }

    #[test]
    fn rows_that_the_query_does_not_give_do_not_hold() {
        let given = answer("");
        assert!(holds(&given, &given.rows).is_ok());
        let mut forged = given.clone();
        forged.rows[0].insert("C.n".into(), json!("99"));
        assert!(holds(&forged, &given.rows).is_err());
    }
}
