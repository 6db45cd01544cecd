//! The answer object, as `POST /api/ask` and `ask --json` give it.

use ballpoint_metrics::query::Query;
use ballpoint_planner::plan::Reading;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row of a result, under the query's member names.
pub type Row = Map<String, Value>;

/// An answer, a question back or a refusal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub conversation_id: String,
    pub behaviour: Behaviour,
    /// The text.
    pub answer: String,
    /// In Cube's form, time ranges resolved.
    pub query: Option<Query>,
    /// The clarifying choices.
    pub options: Vec<ChoiceOffered>,
    pub sql: Option<String>,
    pub rows: Vec<Row>,
    pub chart: Option<ChartSpec>,
    pub freshness: Option<Freshness>,
    /// Who planned: `planner`.
    pub backend: String,
    pub proof_id: Option<String>,
    pub trace_id: Option<String>,
    /// Refusals: why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Clarifications: the open slots.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub about: Vec<String>,
    /// Answers without figures: `definition`, `coverage`, `explain_query`, `export`, …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer_type: Option<String>,
    /// The registry's definitions of the measures.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub definition: Vec<Value>,
    /// What each stretch of the question was taken for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reading: Vec<Reading>,
    /// The cells that the figures of the text are.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cells: Vec<CellReference>,
    /// The second result that the rows were held against.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub companion: Option<Companion>,
    /// The rows as a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub export: Option<Export>,
    /// Questions to ask next; the planner reads each of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub follow_ups: Vec<String>,
    /// What a reader must know of how the answer came about.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notices: Vec<Notice>,
}

/// A figure of the text and the cell that it is. Figures that are worked out have none: their
/// sentence says of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellReference {
    /// The figure as the text has it.
    pub figure: String,
    /// Index into the rows.
    pub row: usize,
    /// Key of the row.
    pub member: String,
}

/// Something about the answer that is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `info` or `warning`.
    pub level: String,
    pub code: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    Answer,
    Clarify,
    #[default]
    Refuse,
}

impl Behaviour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Clarify => "clarify",
            Self::Refuse => "refuse",
        }
    }
}

/// A choice with the query it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceOffered {
    pub label: String,
    pub query: Query,
    /// The choice as a whole question; the label where only the conversation makes sense of it.
    #[serde(default)]
    pub question: String,
}

/// How to draw the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChartSpec {
    /// `kpi`, `line`, `bar`, `grouped_bar`, `pareto` or `table`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    /// Key of the rows on the x axis.
    pub x: Option<Axis>,
    /// Key that tells the series apart, besides the measures.
    pub series: Option<Axis>,
    pub y: Vec<Axis>,
}

/// A key of the rows with its name and unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    pub key: String,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
}

/// How current the data is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    /// First and last moment in the data, UTC.
    pub data_from: Option<String>,
    pub data_to: Option<String>,
    /// When the registry last looked at the data.
    pub refreshed_at: Option<String>,
    pub data_version: u64,
}

/// A query beside the main one, with its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Companion {
    pub query: Query,
    pub rows: Vec<Row>,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    pub format: String,
    pub content: String,
}
