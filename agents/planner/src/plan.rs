//! What the planner takes and gives, as values: the question's context, the dialogue so far, and
//! the plan with the trace of how each word was read.

use std::collections::BTreeMap;

use ballpoint_metrics::query::Query;
use jiff::{Zoned, civil};
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Unit};

/// What a question is read against besides its words. Everything is given: the planner reads no
/// clock and no database.
#[derive(Clone, Debug)]
pub struct Context {
    /// Business time in the zone in which people say "yesterday".
    pub now: Zoned,
    /// First and last moment with data, by the full name of a time dimension.
    pub coverage: BTreeMap<String, Coverage>,
}

impl Context {
    /// Where the data begins in whichever time dimension begins first.
    pub(crate) fn data_from(&self) -> Option<civil::DateTime> {
        self.coverage.values().map(|it| it.from).min()
    }
}

/// The span of the data in one time dimension, both ends inclusive, in the context's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub from: civil::DateTime,
    pub to: civil::DateTime,
}

/// What the conversation has said so far, as far as the next question may lean on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DialogueState {
    /// The last answered question.
    #[serde(default)]
    pub last: Option<Frame>,
    /// The first row of its result, by member: what "its" and "that machine" mean.
    #[serde(default)]
    pub head: BTreeMap<String, String>,
    /// A question that waits for a clarification: what was understood of it.
    #[serde(default)]
    pub pending: Option<Frame>,
    /// The choices last offered.
    #[serde(default)]
    pub options: Vec<Choice>,
}

/// What to do with a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "behaviour", rename_all = "snake_case")]
pub enum Plan {
    /// Run a query and explain its rows.
    Answer(Box<QueryPlan>),
    /// Answer from the registry or the last answer, without a new figure.
    Meta(MetaPlan),
    /// Ask back once, with choices.
    Clarify(Box<Clarification>),
    /// Say why not, and what can be asked instead.
    Refuse(Refusal),
}

/// A question understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryPlan {
    pub query: Query,
    /// A second query whose result the first is held against, such as the overall average.
    pub companion: Option<Query>,
    pub chart: Option<ChartKind>,
    pub derive: Option<Derive>,
    pub notes: Vec<Note>,
    pub reading: Vec<Reading>,
    pub frame: Frame,
}

/// The kinds of chart that an answer can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    Kpi,
    Line,
    Bar,
    GroupedBar,
    Pareto,
    Table,
}

/// A calculation over the returned cells which the question asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Derive {
    /// The first measure as a share of the second, row by row.
    Ratio { part: String, whole: String },
    /// Each row's share of the measure's sum; `of` is the row asked about.
    ShareOfSum { measure: String, of: Vec<String> },
    /// Each row against the companion's value; rows beyond `threshold` are named.
    VersusOverall {
        measure: String,
        threshold: Option<f64>,
        above: bool,
    },
    /// The last period against the one before.
    Delta { measure: String },
    /// The row at this place of the order asked for, counted from 1.
    Place { measure: String, place: usize },
    /// How many groups there are, told apart by this key of the rows.
    GroupCount { key: String },
    /// How far two measures move together, over the rows.
    Correlation { x: String, y: String },
    /// Whether a series is in statistical control. With `counts`, the measure is a share of so many
    /// rows.
    ControlChart {
        measure: String,
        counts: Option<String>,
    },
    /// Whether single values stay within the limits that the registry gives.
    Capability {
        measure: String,
        lower: Option<f64>,
        upper: Option<f64>,
    },
    /// Rows that lie far from the others.
    Outliers { measure: String },
    /// What each group adds to the change between two periods. With `weight`, the measure is a mean
    /// or share over so many rows.
    Drivers {
        measure: String,
        weight: Option<String>,
    },
    /// The direction of a series, first to last.
    Direction { measure: String },
    /// How a member of the companion's breakdown stands among the others: no cause is claimed.
    Standing {
        measure: String,
        dimension: String,
        value: String,
        low: bool,
    },
}

/// Something the reader of the answer must be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The window reaches beyond the data.
    CoverageGap {
        from: civil::DateTime,
        to: civil::DateTime,
    },
    /// The window is not over yet.
    PeriodGoesOn,
    /// The first or the last step of a series is only partly in the window or the data.
    PartialSteps { unit: Unit, first: bool, last: bool },
    /// An everyday word was taken for this measure.
    MetricAssumed { word: String, member: String },
    /// A word was read as another one.
    Spelling { word: String, read_as: String },
    /// A sentence of the question asked to change the answer, not for one.
    InstructionIgnored { text: String },
    /// The answer is not in the unit that was asked for.
    OtherUnit { asked: String },
}

/// What a stretch of the question was taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub words: String,
    pub taken_for: String,
}

/// A question about the data or about the last answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetaPlan {
    #[serde(flatten)]
    pub kind: MetaKind,
    pub reading: Vec<Reading>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer_type", rename_all = "snake_case")]
pub enum MetaKind {
    /// The registry's own definition of these members.
    Definition { members: Vec<String> },
    /// From when to when there is data.
    Coverage,
    /// What can be asked.
    Catalog,
    /// The members of one dimension.
    Values { dimension: String },
    /// How the last answer was made.
    ExplainQuery { frame: Box<Frame> },
    /// The last answer as a file.
    Export { frame: Box<Frame> },
    /// Start the conversation anew.
    Reset,
}

/// One question back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clarification {
    /// The open slots: `metric`, `time`, or a dimension's noun.
    pub about: Vec<String>,
    pub question: Question,
    /// Two to four complete queries.
    pub options: Vec<Choice>,
    pub reading: Vec<Reading>,
    /// What was understood, for the answer to the question to complete.
    pub frame: Frame,
}

/// What is asked back; the wording is the analyst's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// No measure was named.
    WhichMetric,
    /// This word can mean several measures.
    WhichMeaning { word: String },
    /// This word names several members.
    WhichMember { word: String, noun: String },
    /// A superlative without anything to rank.
    WhichBreakdown { measure: String },
    /// A word is not known, but near to known ones.
    DidYouMean { word: String },
    /// The whole question can be read in these ways.
    WhichReading,
}

/// A choice offered with a clarifying question: a complete query and its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub label: String,
    pub query: Query,
    pub frame: Frame,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: Reason,
    /// What the reason is about: the unknown word, the member that does not apply.
    pub subject: Vec<String>,
    /// What can be asked instead.
    pub offer: Vec<String>,
    pub coverage: Option<Coverage>,
    pub reading: Vec<Reading>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    NoMetric,
    NoMember,
    NoForecast,
    NoData,
    NotApplicable,
    NoTimeDimension,
    Unsafe,
    WriteAction,
    OutOfScope,
    UnsupportedLanguage,
    Unsupported,
}

impl Reason {
    /// The name used on the wire and in template files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoMetric => "no_metric",
            Self::NoMember => "no_member",
            Self::NoForecast => "no_forecast",
            Self::NoData => "no_data",
            Self::NotApplicable => "not_applicable",
            Self::NoTimeDimension => "no_time_dimension",
            Self::Unsafe => "unsafe",
            Self::WriteAction => "write_action",
            Self::OutOfScope => "out_of_scope",
            Self::UnsupportedLanguage => "unsupported_language",
            Self::Unsupported => "unsupported",
        }
    }
}
