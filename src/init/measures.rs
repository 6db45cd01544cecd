//! The measures that a table has of its own.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cubes::object;
use super::layout::{Column, Table};
use super::members::said;
use super::names::{self, Taken};
use super::roles::{Role, plain_type, unit};
use super::text::plain;

/// A measure, as its file writes it.
pub(super) struct Measure(pub(super) Map<String, Value>);

impl Measure {
    pub(super) fn synonyms(&self) -> Vec<String> {
        let list = self
            .0
            .get("meta")
            .and_then(|meta| meta["synonyms"].as_array());
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}

/// Counts, and what is made of the table's numbers.
pub(super) fn own_measures(table: &Table, taken: &mut Taken) -> Vec<Measure> {
    let nouns = names::plural(&table.noun);
    let mut out = vec![measure(
        taken.give("count"),
        "count",
        None,
        names::title(&nouns),
        Some(format!("How many {}.", nouns.join(" "))),
        vec![nouns.join(" "), format!("{} count", table.noun.join(" "))],
        Some(&nouns.join(" ")),
    )];
    for column in table.columns.iter().filter(|it| it.role.is_measured()) {
        figures(table, column, taken, &mut out);
    }
    for reference in table.references.iter().filter(|it| it.columns.len() == 1) {
        let many = names::plural(&reference.stem);
        out.push(distinct(
            &reference.stem,
            &many,
            &reference.columns[0],
            taken,
        ));
    }
    for column in &table.columns {
        let (key, referring) = (table.key(), table.references.iter());
        let known = key.contains(&column.name)
            || referring
                .clone()
                .any(|it| it.columns.contains(&column.name));
        let unique = table
            .profile
            .unique
            .iter()
            .any(|set| *set == [column.profile.name.clone()]);
        if let (Role::Key, Some((_, stem)), false) =
            (column.role, column.words.split_last(), known || unique)
            && !stem.is_empty()
        {
            out.push(distinct(stem, &names::plural(stem), &column.name, taken));
        }
    }
    out
}

fn distinct(stem: &[String], many: &[String], column: &str, taken: &mut Taken) -> Measure {
    let said = many.join(" ");
    measure(
        taken.give(&names::camel(
            &[stem.to_vec(), vec!["count".to_owned()]].concat(),
        )),
        "count_distinct",
        Some(column),
        names::title(&[vec!["unique".to_owned()], many.to_vec()].concat()),
        Some(format!("How many different {said} occur.")),
        vec![format!("distinct {said}"), format!("different {said}")],
        Some(&said),
    )
}

/// Sum, average, least and greatest of a column. Its plain name means the sum of what adds up, and
/// the average of what does not.
fn figures(table: &Table, column: &Column, taken: &mut Taken, out: &mut Vec<Measure>) {
    let (words, mut unit) = measured(table, column);
    if plain_type(&column.profile.base_type) == "interval" {
        unit = Some("seconds");
    }
    let named = words.join(" ");
    let mut plain_names = vec![named.clone(), format!("{} {named}", table.noun.join(" "))];
    if words != column.words {
        plain_names.push(column.words.join(" "));
    }
    plain_names.extend(generic(table, &words));
    plain_names.extend(said(column));
    plain_names.extend(worth(table, column));
    let with = |lead: &str| -> Vec<String> {
        plain_names
            .iter()
            .map(|it| format!("{lead} {it}"))
            .collect()
    };
    let about = |how: &str| {
        let comment = column
            .profile
            .comment
            .as_deref()
            .map(|it| format!(" {}", plain(it)));
        Some(format!(
            "{how} {named} of {}.{}",
            names::plural(&table.noun).join(" "),
            comment.unwrap_or_default()
        ))
    };
    let adds_up = column.role == Role::Additive;
    if adds_up {
        let name = taken.give(&names::camel(
            &[vec!["total".to_owned()], words.clone()].concat(),
        ));
        let title = format!("Total {}", names::title(&words));
        let synonyms = [plain_names.clone(), with("total")].concat();
        out.push(measure(
            name,
            "sum",
            Some(&column.name),
            title,
            about("Total"),
            synonyms,
            unit,
        ));
    }
    for (short, lead, aggregate, other) in [
        ("avg", "Average", "avg", "mean"),
        ("min", "Minimum", "min", "least"),
        ("max", "Maximum", "max", "greatest"),
    ] {
        let name = taken.give(&names::camel(
            &[vec![short.to_owned()], words.clone()].concat(),
        ));
        let title = format!("{lead} {}", names::title(&words));
        let mut synonyms = with(&lead.to_lowercase());
        synonyms.extend(with(other));
        if short == "avg" && !adds_up {
            synonyms.extend(plain_names.clone());
        }
        out.push(measure(
            name,
            aggregate,
            Some(&column.name),
            title,
            about(lead),
            synonyms,
            unit,
        ));
    }
}

/// What a column measures, in words, and its unit.
pub(super) fn measured(table: &Table, column: &Column) -> (Vec<String>, Option<&'static str>) {
    let (words, unit) = unit(&column.words);
    // Two columns that differ in their unit alone keep it in their names.
    let alike = table
        .columns
        .iter()
        .filter(|it| super::roles::unit(&it.words).0 == words)
        .count();
    let words = if alike > 1 { &column.words } else { words };
    // "Total Total Amount" is one total too many.
    match words.split_first() {
        Some((first, rest)) if first == "total" && !rest.is_empty() => (rest.to_vec(), unit),
        _ => (words.to_vec(), unit),
    }
}

/// A column `value` of `temperature_readings` is a temperature.
fn generic(table: &Table, words: &[String]) -> Option<String> {
    let general = ["value", "reading", "measurement", "val", "result"];
    let kinds = [
        "reading",
        "readings",
        "measurement",
        "measurements",
        "log",
        "logs",
        "data",
        "value",
        "values",
        "sample",
        "samples",
        "history",
    ];
    let [word] = words else { return None };
    let left: Vec<String> = table
        .noun
        .iter()
        .filter(|it| !kinds.contains(&it.as_str()))
        .cloned()
        .collect();
    (general.contains(&word.as_str()) && !left.is_empty()).then(|| left.join(" "))
}

fn measure(
    name: String,
    aggregate: &str,
    column: Option<&str>,
    title: String,
    description: Option<String>,
    mut synonyms: Vec<String>,
    unit: Option<&str>,
) -> Measure {
    let mut seen = BTreeSet::new();
    synonyms.retain(|it| seen.insert(it.clone()));
    let meta = object(vec![("synonyms", json!(synonyms)), ("unit", json!(unit))]);
    Measure(object(vec![
        ("name", json!(name)),
        ("type", json!(aggregate)),
        ("sql", json!(column)),
        ("title", json!(title)),
        ("description", json!(description)),
        ("meta", json!(meta)),
    ]))
}

/// The one amount of a table is what its rows are worth: "order value".
fn worth(table: &Table, column: &Column) -> Option<String> {
    let is_money = |it: &&Column| {
        let money = ["amount", "revenue", "cost", "turnover", "total"];
        it.role == Role::Additive && it.words.iter().any(|word| money.contains(&word.as_str()))
    };
    let mut amounts = table.columns.iter().filter(is_money);
    let only = amounts.next().filter(|_| amounts.next().is_none())?;
    (only.name == column.name).then(|| format!("{} value", table.noun.join(" ")))
}
