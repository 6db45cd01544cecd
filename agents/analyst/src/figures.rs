//! Numbers in words: how a cell is shown, and the check that a text holds no other number.

use std::collections::BTreeSet;

use ballpoint_metrics::catalog::Catalog;
use serde_json::Value;

use crate::answer::Row;

/// The number in a cell; text as Cube returns numbers included.
pub(crate) fn number(cell: Option<&Value>) -> Option<f64> {
    match cell? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A cell as text for people; "none" for null.
pub(crate) fn label(cell: Option<&Value>) -> String {
    match cell {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "none".into(),
        Some(other) => other.to_string(),
    }
}

/// A measure's unit, as the registry gives it.
pub(crate) fn unit(catalog: &Catalog, measure: &str) -> Option<String> {
    let unit = catalog.member(measure)?.meta.get("unit")?.as_str()?;
    Some(unit.to_owned())
}

/// A figure of a measure, rounded as its unit is read.
pub(crate) fn show(catalog: &Catalog, measure: &str, value: f64) -> String {
    let unit = unit(catalog, measure).unwrap_or_default();
    let (decimals, suffix) = match unit.as_str() {
        "percent" | "%" => (2, " %".to_owned()),
        "fraction" => (3, String::new()),
        "currency" => (2, String::new()),
        "currency per unit" => (4, String::new()),
        "seconds" => (2, " s".to_owned()),
        other if other.chars().any(|c| c.is_ascii_digit()) || other.is_empty() => {
            (3, String::new())
        }
        other => (3, format!(" {other}")),
    };
    let whole = value.fract() == 0.0 && !matches!(unit.as_str(), "percent" | "%" | "currency");
    if whole {
        format!("{value:.0}{suffix}")
    } else {
        format!("{value:.decimals$}{suffix}")
    }
}

/// The numbers that a text may hold.
#[derive(Debug, Default)]
pub(crate) struct Stated {
    numbers: BTreeSet<String>,
}

impl Stated {
    /// Everything numeric in a text that is known to be right: a label, a bound, a shown figure.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.numbers.extend(numbers_in(text));
        self
    }

    /// The labels and figures of rows, as they are shown.
    pub(crate) fn rows(&mut self, catalog: &Catalog, rows: &[Row]) -> &mut Self {
        for row in rows {
            for (key, cell) in row {
                self.text(&label(Some(cell)));
                if let Some(value) = number(Some(cell)) {
                    self.text(&show(catalog, key, value));
                }
            }
        }
        self.text(&rows.len().to_string())
    }

    /// The first number of a text that nothing accounts for.
    pub(crate) fn stray(&self, text: &str) -> Option<String> {
        numbers_in(text)
            .into_iter()
            .find(|it| !self.numbers.contains(it))
    }
}

/// The runs of digits in a text, decimal points included.
pub(crate) fn numbers_in(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let inner_point = *c == '.'
            && !current.is_empty()
            && !current.contains('.')
            && chars.get(at + 1).is_some_and(char::is_ascii_digit);
        if c.is_ascii_digit() || inner_point {
            current.push(*c);
        } else if !current.is_empty() {
            out.push(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        out.push(current);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_from_nowhere_is_found() {
        let mut stated = Stated::default();
        stated.text("97.31 % on 2026-03-14");
        assert_eq!(stated.stray("It was 97.31 % on 2026-03-14."), None);
        assert_eq!(stated.stray("It was 99.9 %."), Some("99.9".into()));
    }
}
