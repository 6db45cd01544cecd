//! `answers.yml`: what is true of seeded data under any seed and any row count, ready to check.
//!
//! A fact's SQL is written once against `{{table}}` and checked wherever the rows have got to:
//! at the source, in `raw`, or in the mart that holds all units. Some facts also have a Cube query.
//! Placeholders: `{{table}}`, `{{component}}`, `{{rows}}`, `{{hours}}`, `{{now}}`, `{{from}}`,
//! `{{to}}`, `{{today}}` and `{{today-14}}` (dates, UTC), and what the component's `values` name.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{generate::Window, parameters::Parameters};

/// Why an `answers.yml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("answers.yml:{line}: {message}")]
pub struct AnswersError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// The facts, placeholders not yet replaced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    components: BTreeMap<String, Component>,
    facts: Vec<FactEntry>,
}

/// Where the rows of one component are, as something to select from, and its own placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    source: String,
    raw: String,
    marts: String,
    #[serde(default)]
    values: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FactEntry {
    id: String,
    statement: String,
    /// The components it holds for; one fact each.
    of: Vec<String>,
    sql: Option<String>,
    expect: Option<ExpectEntry>,
    cube: Option<CubeEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum ExpectEntry {
    Between { between: [f64; 2] },
    AtLeast { at_least: f64 },
    Flag(bool),
    Number(serde_norway::Number),
    Text(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CubeEntry {
    query: Value,
    expect: BTreeMap<String, ExpectEntry>,
}

/// Where the rows have got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source's own database.
    Source,
    /// Landed in the warehouse.
    Raw,
    /// The mart with one row per unit.
    Marts,
}

/// How the data was made.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Rows a component.
    pub rows: u64,
    /// The business time it was made at.
    pub now: Timestamp,
    /// The hours it lies in.
    pub window: Window,
}

impl Context {
    /// The context of one filled source; all sources of a project share a window.
    pub fn new(parameters: &Parameters, rows: u64, now: Timestamp) -> Self {
        Self {
            rows,
            now,
            window: Window::ending_at(parameters, now),
        }
    }
}

/// One fact about one component, ready to check.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its name, unique together with the component.
    pub id: String,
    /// The component, which is the name of its source.
    pub component: String,
    /// What is true, in words.
    pub statement: String,
    /// A query of one value.
    pub sql: Option<Check>,
    /// A Cube query of one row.
    pub cube: Option<CubeCheck>,
}

/// SQL and the value it must give.
#[derive(Clone, Debug)]
pub struct Check {
    template: String,
    tables: Component,
    /// The value at every stage.
    pub expect: Expectation,
}

impl Check {
    /// The query at a stage: one row, one column; cast it to text and give it to
    /// [`Expectation::check`].
    pub fn sql(&self, stage: Stage) -> String {
        let table = match stage {
            Stage::Source => &self.tables.source,
            Stage::Raw => &self.tables.raw,
            Stage::Marts => &self.tables.marts,
        };
        self.template.replace("{{table}}", table)
    }
}

/// A Cube query and the members of its one row.
#[derive(Clone, Debug)]
pub struct CubeCheck {
    /// The query, as for `/cubejs-api/v1/load`.
    pub query: Value,
    /// Member and value.
    pub expect: Vec<(String, Expectation)>,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// This number or text; numbers compare by value, within 1e-6.
    Equals(String),
    /// A number in a range, ends included.
    Between(f64, f64),
    /// A number not below this.
    AtLeast(f64),
}

impl Expectation {
    /// Compares with a value as text (`None` is null).
    ///
    /// # Errors
    /// When it differs, with both values in words.
    pub fn check(&self, actual: Option<&str>) -> Result<(), String> {
        let number = actual.and_then(|text| text.parse::<f64>().ok());
        let holds = match self {
            Self::Equals(expected) => match (number, expected.parse::<f64>()) {
                (Some(actual), Ok(expected)) => (actual - expected).abs() < 1e-6,
                _ => actual == Some(expected.as_str()),
            },
            Self::Between(low, high) => number.is_some_and(|n| (*low..=*high).contains(&n)),
            Self::AtLeast(low) => number.is_some_and(|n| n >= *low),
        };
        let actual = actual.unwrap_or("null");
        if holds {
            Ok(())
        } else {
            Err(format!("expected {self}, found {actual}"))
        }
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "{value}"),
            Self::Between(low, high) => write!(f, "{low} to {high}"),
            Self::AtLeast(low) => write!(f, "at least {low}"),
        }
    }
}

impl Answers {
    /// Reads `answers.yml`.
    ///
    /// # Errors
    /// When it is not YAML, holds an unknown key or names an unknown component.
    pub fn parse(text: &str) -> Result<Self, AnswersError> {
        let answers: Self = serde_norway::from_str(text).map_err(|error| AnswersError {
            line: error.location().map_or(1, |location| location.line()),
            message: error.to_string(),
        })?;
        for fact in &answers.facts {
            let line = || {
                let needle = format!("id: {}", fact.id);
                1 + text
                    .lines()
                    .position(|line| line.trim_end().ends_with(&needle))
                    .unwrap_or(0)
            };
            let problem = |message| AnswersError {
                line: line(),
                message,
            };
            if let Some(component) = fact
                .of
                .iter()
                .find(|name| !answers.components.contains_key(*name))
            {
                return Err(problem(format!("`{component}` is no component")));
            }
            if fact.sql.is_some() != fact.expect.is_some() {
                return Err(problem("`sql` and `expect` go together".to_owned()));
            }
        }
        Ok(answers)
    }

    /// All facts for data made in this way.
    pub fn facts(&self, context: &Context) -> Vec<Fact> {
        let of_entry = |entry: &FactEntry| -> Vec<Fact> {
            entry
                .of
                .iter()
                .map(|component| self.fact(entry, component, context))
                .collect()
        };
        self.facts.iter().flat_map(of_entry).collect()
    }

    fn fact(&self, entry: &FactEntry, component: &str, context: &Context) -> Fact {
        let mut values = placeholders(component, context);
        let own = &self.components[component];
        values.extend(
            own.values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let fill = |text: &str| substitute(text, &values);
        Fact {
            id: entry.id.clone(),
            component: component.to_owned(),
            statement: fill(&entry.statement),
            sql: entry
                .sql
                .as_ref()
                .zip(entry.expect.as_ref())
                .map(|(sql, expect)| Check {
                    template: fill(sql),
                    tables: own.clone(),
                    expect: expectation(expect, &fill),
                }),
            cube: entry.cube.as_ref().map(|cube| CubeCheck {
                query: substitute_json(&cube.query, &fill),
                expect: cube
                    .expect
                    .iter()
                    .map(|(member, expect)| (member.clone(), expectation(expect, &fill)))
                    .collect(),
            }),
        }
    }
}

fn expectation(entry: &ExpectEntry, fill: &impl Fn(&str) -> String) -> Expectation {
    match entry {
        ExpectEntry::Between {
            between: [low, high],
        } => Expectation::Between(*low, *high),
        ExpectEntry::AtLeast { at_least } => Expectation::AtLeast(*at_least),
        ExpectEntry::Flag(flag) => Expectation::Equals(flag.to_string()),
        ExpectEntry::Number(number) => Expectation::Equals(number.to_string()),
        ExpectEntry::Text(text) => Expectation::Equals(fill(text)),
    }
}

fn placeholders(component: &str, context: &Context) -> Vec<(String, String)> {
    let window = context.window;
    let today = context.now.to_zoned(TimeZone::UTC).date();
    // A day more than the window has: facts may speak of the day before it.
    let days_back = i64::try_from(window.hours() / 24 + 1).unwrap_or_default();
    let days = (1..=days_back).map(|days| {
        let date = today.saturating_sub(days.days());
        (format!("today-{days}"), date.to_string())
    });
    [
        ("component", component.to_owned()),
        ("rows", context.rows.to_string()),
        ("hours", window.hours().to_string()),
        ("now", context.now.to_string()),
        ("from", window.from().to_string()),
        ("to", window.to().to_string()),
        ("today", today.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .chain(days)
    .collect()
}

fn substitute(text: &str, values: &[(String, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

fn substitute_json(value: &Value, fill: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text)),
        Value::Array(items) => items
            .iter()
            .map(|item| substitute_json(item, fill))
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), substitute_json(member, fill)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_compare_by_value_and_text_as_it_is() {
        let number = Expectation::Equals("2160".to_owned());
        assert_eq!(number.check(Some("2160.000")), Ok(()));
        assert_eq!(
            number.check(Some("2161")),
            Err("expected 2160, found 2161".to_owned())
        );
        assert!(Expectation::Equals("ok".to_owned()).check(None).is_err());
        assert_eq!(Expectation::Between(0.0, 1.0).check(Some("1")), Ok(()));
    }

    #[test]
    fn a_fact_about_an_unknown_component_is_refused_with_its_line() {
        let text = "components: {}\nfacts:\n  - id: count\n    statement: x\n    of: [caps]\n";
        let error = Answers::parse(text).unwrap_err();
        assert_eq!(error.to_string(), "answers.yml:3: `caps` is no component");
    }
}
