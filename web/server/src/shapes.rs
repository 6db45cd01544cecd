//! Shapes of answers that are made elsewhere, for `/api/openapi.json`. Only descriptions: a test
//! holds each against what is really sent.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Why something was not done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    error: String,
    code: Option<String>,
}

/// It was done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done {
    done: bool,
}

impl Done {
    pub(crate) fn new() -> Self {
        Self { done: true }
    }
}

/// An answer, a question back or a refusal.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Answer {
    conversation_id: String,
    /// `answer`, `clarify` or `refuse`.
    behaviour: String,
    answer: String,
    /// In Cube's form, time ranges resolved.
    query: Option<Value>,
    options: Vec<Choice>,
    sql: Option<String>,
    #[schema(value_type = Vec<std::collections::HashMap<String, Value>>)]
    rows: Vec<Value>,
    chart: Option<Chart>,
    freshness: Option<Freshness>,
    /// Who planned: `planner` or `llm`.
    backend: String,
    proof_id: Option<String>,
    trace_id: Option<String>,
    /// Refusals: why.
    #[schema(nullable = false)]
    reason: Option<String>,
    about: Option<Vec<String>>,
    answer_type: Option<String>,
    definition: Option<Vec<Value>>,
    reading: Option<Vec<Value>>,
    cells: Option<Vec<CellReference>>,
    companion: Option<Value>,
    export: Option<Value>,
    follow_ups: Option<Vec<String>>,
    notices: Option<Vec<Value>>,
}

/// A figure of the answer's text, and the cell of its rows that it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct CellReference {
    /// As the text has it.
    figure: String,
    /// Index into the rows.
    row: usize,
    /// Key of the row.
    member: String,
}

/// A conversation with its messages, oldest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Conversation {
    id: String,
    title: String,
    messages: Vec<Message>,
}

/// What was asked, or what was answered.
#[derive(Serialize, ToSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what another crate serializes")]
enum Message {
    User {
        text: String,
        #[schema(value_type = String, format = DateTime)]
        at: jiff::Timestamp,
    },
    Assistant {
        #[schema(value_type = Answer)]
        answer: Value,
        #[schema(value_type = String, format = DateTime)]
        at: jiff::Timestamp,
    },
}

/// What running a proof's query again came to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Replay {
    /// Whether the rows are those of the proof, to the last digit.
    same: bool,
    rows: u64,
    checksum: String,
    /// What is another than when the question was asked, in words.
    changed: Vec<String>,
}

/// A clarifying choice with the query it stands for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Choice {
    label: String,
    query: Value,
    /// The choice as a whole question.
    question: String,
}

/// How to draw the rows.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Chart {
    /// `kpi`, `line`, `bar`, `grouped_bar`, `pareto` or `table`.
    r#type: String,
    title: String,
    x: Option<Axis>,
    series: Option<Axis>,
    y: Vec<Axis>,
}

/// A key of the rows with its name and unit.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Axis {
    key: String,
    title: String,
    unit: Option<String>,
}

/// How current the data is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Freshness {
    data_from: Option<String>,
    data_to: Option<String>,
    refreshed_at: Option<String>,
    data_version: u64,
}

/// What is to be done to a table of a source, and what became of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Plan {
    id: String,
    sync: String,
    source: String,
    table: String,
    mode: String,
    /// `sync`, or `proposal` where an agent or a person proposed it.
    origin: String,
    /// `planned`, `approved`, `rejected`, `applied`, `undone` or `failed`.
    state: String,
    /// What is being done at this moment: `plan`, `apply` or `undo`.
    under_way: Option<String>,
    hash: Option<String>,
    requested_by: String,
    reason: String,
    evidence: Value,
    counts: Counts,
    ddl: Vec<String>,
    error: Option<String>,
    approved_by: Option<String>,
    approved_at: Option<String>,
    comment: Option<String>,
    written: Option<i64>,
    read_back: Option<Value>,
    created_at: String,
    applied_at: Option<String>,
    undone_at: Option<String>,
}

/// What became of a request in words: a plan that waits for approval, or why there is none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Proposed {
    plan: Option<Plan>,
    refusal: Option<String>,
    rule: Option<String>,
    words: Option<Vec<String>>,
}

/// How many rows a plan is about.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Counts {
    added: i64,
    changed: i64,
    removed: i64,
    unchanged: i64,
    invalid: i64,
    skipped: i64,
}

/// What somebody did about a plan.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct Deed {
    #[schema(value_type = String, format = DateTime)]
    at: jiff::Timestamp,
    who: String,
    /// `plan`, `approve`, `reject`, `apply`, `undo`, and what became of them.
    action: String,
    sync: String,
    plan_id: Option<String>,
    detail: Value,
}

/// One row of a plan; values are PostgreSQL's text of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
pub(crate) struct PlanRow {
    seq: i64,
    key: Value,
    /// `added`, `changed`, `removed` or `invalid`.
    kind: String,
    old: Option<Value>,
    new: Option<Value>,
    problem: Option<String>,
}

/// An actor and what it supervises.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what another crate serializes")]
#[schema(no_recursion)]
pub(crate) struct Actor {
    name: String,
    /// `starting`, `running`, `backoff`, `parked`, `paused` or `stopped`.
    state: String,
    incarnation: u64,
    restarts: u64,
    uptime_ms: Option<u64>,
    queue: u64,
    last_error: Option<String>,
    children: Vec<Actor>,
}
