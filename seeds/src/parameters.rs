//! `generator.yml`: every key it may hold, read with the line of whatever is wrong.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::plan::Plan;

/// The files of one source, from a folder or embedded in the program.
#[derive(Clone, Debug)]
pub struct SeedFiles {
    /// Where they are from, as messages name it: `seeds/<source>`.
    pub directory: String,
    /// Creates the table when it is not there.
    pub schema_sql: String,
    /// The parameters of its rows.
    pub generator_yml: String,
}

/// Checked parameters, ready to generate; cheap to clone.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub(crate) plan: Arc<Plan>,
}

impl Parameters {
    /// Reads and checks `generator.yml`.
    ///
    /// # Errors
    /// When it is not YAML, holds an unknown key, or contradicts itself; the message starts with
    /// file and line.
    pub fn parse(files: &SeedFiles) -> Result<Self, ParametersError> {
        let file = format!("{}/generator.yml", files.directory);
        let text = &files.generator_yml;
        let document: Document = serde_norway::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            ParametersError {
                file: file.clone(),
                line,
                message: error.to_string(),
            }
        })?;
        let plan = Plan::compile(document).map_err(|problem| ParametersError {
            file,
            line: line_of(text, &problem.near),
            message: problem.message,
        })?;
        Ok(Self {
            plan: Arc::new(plan),
        })
    }

    /// The table the rows are for, as written: `schema.table`.
    pub fn table(&self) -> &str {
        &self.plan.table
    }

    /// The columns of a row in the order of the COPY stream, `id` first.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once("id").chain(self.plan.columns.iter().map(|column| column.name.as_str()))
    }
}

/// Why a `generator.yml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ParametersError {
    /// The file, as named by [`SeedFiles::directory`].
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// The first line that holds each of `near` in turn: `["columns:", "name: oee"]`.
fn line_of(text: &str, near: &[String]) -> usize {
    let mut line = 1;
    let mut wanted = near.iter();
    let mut next = wanted.next();
    for (number, content) in text.lines().enumerate() {
        while next.is_some_and(|needle| holds_word(content, needle)) {
            line = number + 1;
            next = wanted.next();
        }
    }
    line
}

/// Whether `content` holds `needle` and the word does not go on after it.
fn holds_word(content: &str, needle: &str) -> bool {
    content.match_indices(needle).any(|(at, _)| {
        let after = content[at + needle.len()..].chars().next();
        !after.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

/// The whole of `generator.yml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) table: String,
    pub(crate) window: WindowLength,
    pub(crate) calendar: Calendar,
    pub(crate) failure: Failure,
    pub(crate) columns: Vec<ColumnEntry>,
    #[serde(default)]
    pub(crate) episodes: Vec<EpisodeEntry>,
}

/// How far back the rows reach.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowLength {
    pub(crate) days: u16,
}

/// Which hours count as weekend and night (UTC).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calendar {
    pub(crate) weekend: Vec<Day>,
    pub(crate) night: Night,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Hours `[from, to)`, around midnight when `from > to`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Night {
    pub(crate) from: u8,
    pub(crate) to: u8,
}

/// How often units fail, and how it shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    /// Share of units, 0..1; `weekend` and `night` are added to it.
    pub(crate) rate: f64,
    #[serde(default)]
    pub(crate) weekend: f64,
    #[serde(default)]
    pub(crate) night: f64,
    /// Ranges of measurements of every failed unit.
    #[serde(default)]
    pub(crate) measurements: BTreeMap<String, [f64; 2]>,
    /// One of these per failed unit.
    pub(crate) defects: BTreeMap<String, DefectEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DefectEntry {
    pub(crate) weight: u32,
    /// Ranges of the measurements the defect shows in.
    #[serde(default)]
    pub(crate) measurements: BTreeMap<String, [f64; 2]>,
}

/// A column: its name and exactly one of the other keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnEntry {
    pub(crate) name: String,
    pub(crate) time: Option<TimeOf>,
    pub(crate) shares: Option<BTreeMap<String, u32>>,
    pub(crate) lookup: Option<Lookup>,
    pub(crate) batch: Option<Batch>,
    pub(crate) hours: Option<Vec<HourRange>>,
    pub(crate) numbered: Option<Numbered>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) defect: Option<bool>,
    pub(crate) flag: Option<Flag>,
    pub(crate) between: Option<Between>,
    pub(crate) swing: Option<Swing>,
    pub(crate) product: Option<Product>,
}

/// Which moment a time column holds; a generated row has only one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimeOf {
    Inspected,
}

/// A value that follows from another column's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lookup {
    pub(crate) of: String,
    pub(crate) values: BTreeMap<String, String>,
}

/// A number that goes up by one every so many hours since 1970.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    pub(crate) prefix: String,
    pub(crate) digits: u8,
    pub(crate) every_hours: u32,
}

/// A value for the UTC hours `[from, to)`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HourRange {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) value: String,
}

/// Evenly one of `count` numbered names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbered {
    pub(crate) prefix: String,
    pub(crate) digits: u8,
    pub(crate) count: u32,
}

/// The words for good and failed units.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    pub(crate) good: String,
    pub(crate) failed: String,
}

/// True for a share of all units, but only where a condition holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flag {
    pub(crate) share: f64,
    /// Only good units.
    pub(crate) only: Option<Only>,
    /// Only units for which this other flag is false.
    pub(crate) unless: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Only {
    Good,
}

/// Evenly from a range; `weekend` and `night` are added to the value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Between {
    pub(crate) range: [f64; 2],
    pub(crate) decimals: u8,
    #[serde(default)]
    pub(crate) weekend: f64,
    #[serde(default)]
    pub(crate) night: f64,
    /// Other ranges for some values of another column.
    pub(crate) by: Option<RangesBy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangesBy {
    pub(crate) column: String,
    pub(crate) ranges: BTreeMap<String, [f64; 2]>,
}

/// A daily and a yearly wave around a mean; amplitudes in the column's unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Swing {
    pub(crate) mean: f64,
    pub(crate) daily: f64,
    pub(crate) yearly: f64,
    pub(crate) warmest_hour: f64,
    pub(crate) warmest_day: f64,
    pub(crate) decimals: u8,
}

/// The product of other columns, from their stored (rounded) values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Product {
    pub(crate) of: Vec<String>,
    pub(crate) decimals: u8,
}

/// A stretch of days in which some units differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EpisodeEntry {
    pub(crate) name: String,
    /// From the first to, not including, the second number of UTC days before today.
    pub(crate) days_ago: [i64; 2],
    /// Which units: values of category columns; all when absent.
    #[serde(default, rename = "where")]
    pub(crate) filter: BTreeMap<String, String>,
    pub(crate) failure_rate: Option<f64>,
    /// The one defect of its failed units.
    pub(crate) defect: Option<String>,
    /// Defects its failed units do not have.
    #[serde(default)]
    pub(crate) without_defects: Vec<String>,
    /// Columns multiplied by a factor.
    #[serde(default)]
    pub(crate) scale: BTreeMap<String, f64>,
    pub(crate) lift: Option<Lift>,
    #[serde(default)]
    pub(crate) drift: BTreeMap<String, Drift>,
}

/// Raises a product through its factors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lift {
    pub(crate) product: String,
    pub(crate) by: f64,
    pub(crate) at_most: f64,
}

/// A column's level on each day of the episode.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drift {
    pub(crate) levels: Vec<f64>,
    pub(crate) spread: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(edit: impl Fn(&str) -> String) -> String {
        let original = include_str!("../springs/generator.yml");
        let files = SeedFiles {
            directory: "seeds/springs".to_owned(),
            schema_sql: String::new(),
            generator_yml: edit(original),
        };
        Parameters::parse(&files).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let message = parse(|text| text.replace("  rate: 0.02\n", "  rates: 0.02\n"));
        assert!(
            message.starts_with("seeds/springs/generator.yml:10: "),
            "{message}"
        );
        assert!(message.contains("unknown field `rates`"), "{message}");
    }

    #[test]
    fn a_factor_that_is_no_column_is_refused_with_its_line() {
        let text = include_str!("../springs/generator.yml");
        let line = 1 + text
            .lines()
            .position(|line| line.contains("name: oee"))
            .unwrap();
        let message = parse(|text| text.replace("[availability,", "[availabilty,"));
        assert_eq!(
            message,
            format!(
                "seeds/springs/generator.yml:{line}: column `oee`: `availabilty` is no column with numbers"
            )
        );
    }

    #[test]
    fn a_range_the_wrong_way_round_is_refused() {
        let message = parse(|text| text.replace("[980, 1030]", "[1030, 980]"));
        assert!(
            message.contains("the range ends below its start"),
            "{message}"
        );
    }

    #[test]
    fn an_episode_with_an_unknown_defect_is_refused() {
        let message = parse(|text| {
            text.replace(
                "without_defects: [dimension_out_of_spec",
                "without_defects: [dimension",
            )
        });
        assert!(
            message.contains("episode `wire wear`: no defect is called `dimension`"),
            "{message}"
        );
    }
}
