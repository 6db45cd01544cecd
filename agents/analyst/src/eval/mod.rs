//! The benchmark: questions with the outcomes that are right, scored by what was answered.
//!
//! A case's turns are asked in one conversation and its last answer is scored: by its parts, and
//! where they differ by the rows, since two queries may say the same. An answer whose rows are not
//! its query's, or whose text holds a number from nowhere, is wrong whatever was expected.

pub mod case;
pub mod execution;
pub mod outcome;
pub mod structural;

use std::collections::BTreeSet;

use ballpoint_metrics::query::Query;
use serde::Serialize;

use crate::answer::{Answer, Behaviour, Row};
use case::{Case, Expected, Score};
use outcome::{Outcome, Verdict};

/// A line that is no case.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no benchmark case: {source}")]
pub struct CaseError {
    pub line: usize,
    #[source]
    pub source: serde_json::Error,
}

/// How a case came out.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    pub id: String,
    pub outcome: Score,
    pub points: i32,
    /// The last turn.
    pub question: String,
    pub behaviour: String,
    pub answer: String,
    /// Why it is not right.
    pub detail: String,
}

/// All cases together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub cases: usize,
    /// Correct, clarified or refused as expected.
    pub right: usize,
    pub correct: usize,
    pub wrong: usize,
    pub clarified: usize,
    pub refused: usize,
    pub needless: usize,
    /// Right minus wrong.
    pub score: i64,
}

impl Summary {
    /// Sums reports up.
    pub fn of(reports: &[CaseReport]) -> Self {
        let count = |score| reports.iter().filter(|it| it.outcome == score).count();
        let (correct, clarified, refused) = (
            count(Score::Correct),
            count(Score::Clarified),
            count(Score::Refused),
        );
        Self {
            cases: reports.len(),
            right: correct + clarified + refused,
            correct,
            wrong: count(Score::Wrong),
            clarified,
            refused,
            needless: count(Score::Needless),
            score: reports.iter().map(|it| i64::from(it.points)).sum(),
        }
    }
}

/// Reads a benchmark file's text: a case a line, blank lines left out.
///
/// # Errors
/// [`CaseError`] with the number of the line.
pub fn read_cases(text: &str) -> Result<Vec<Case>, CaseError> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            serde_json::from_str(line).map_err(|source| CaseError {
                line: n + 1,
                source,
            })
        })
        .collect()
}

/// Asks a case's turns through `ask` (question, conversation id) and scores the last answer; `run`
/// gives a query's rows.
pub async fn evaluate(
    case: &Case,
    ask: &impl AsyncFn(String, Option<String>) -> Result<Answer, String>,
    run: &impl AsyncFn(Query) -> Result<Vec<Row>, String>,
) -> CaseReport {
    let mut answers: Vec<Answer> = Vec::new();
    for turn in &case.turns {
        let conversation = answers.last().map(|it| it.conversation_id.clone());
        match ask(turn.clone(), conversation).await {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                let verdict = Verdict {
                    score: Score::Needless,
                    detail: error,
                };
                return report(case, &Answer::default(), verdict);
            }
        }
    }
    let top1 = answers.first().and_then(top_member);
    let answer = answers.pop().unwrap_or_default();
    let verdict = verdict(case, &answer, top1.as_deref(), run).await;
    report(case, &answer, verdict)
}

fn report(case: &Case, answer: &Answer, verdict: Verdict) -> CaseReport {
    CaseReport {
        id: case.id.clone(),
        outcome: verdict.score,
        points: verdict.score.points(),
        question: case.turns.last().cloned().unwrap_or_default(),
        behaviour: answer.behaviour.name().to_owned(),
        answer: answer.answer.clone(),
        detail: verdict.detail,
    }
}

/// The first row's member of the first dimension.
fn top_member(answer: &Answer) -> Option<String> {
    let dimension = answer.query.as_ref()?.dimensions.first()?;
    answer
        .rows
        .first()?
        .get(dimension)?
        .as_str()
        .map(str::to_owned)
}

async fn verdict(
    case: &Case,
    answer: &Answer,
    top1: Option<&str>,
    run: &impl AsyncFn(Query) -> Result<Vec<Row>, String>,
) -> Verdict {
    if let Err(detail) = integrity(case, answer, run).await {
        return Verdict {
            score: Score::Wrong,
            detail,
        };
    }
    let outcome = outcome_of(answer);
    let by_parts = outcome::judge(case, &outcome, top1);
    if by_parts.score != Score::Wrong {
        return by_parts;
    }
    for expected in &case.expected {
        if equivalent(expected, answer, top1, run).await {
            return Verdict {
                score: Score::Correct,
                detail: String::new(),
            };
        }
    }
    by_parts
}

/// What must hold of any answer: rows are its query's rows, figures are accounted for.
async fn integrity(
    case: &Case,
    answer: &Answer,
    run: &impl AsyncFn(Query) -> Result<Vec<Row>, String>,
) -> Result<(), String> {
    if answer.behaviour != Behaviour::Answer {
        return Ok(());
    }
    if let Some(query) = &answer.query {
        let mut rerun = Vec::new();
        for one in split(query) {
            rerun.extend(run(one).await?);
        }
        execution::holds(answer, &rerun)?;
    }
    // Answers about the data speak of more than rows.
    if answer.answer_type.is_some() {
        return Ok(());
    }
    let stray = execution::stray_figure(&case.turns.join(" "), answer);
    stray.map_or(Ok(()), |number| {
        Err(format!(
            "the text holds {number}, which nothing accounts for"
        ))
    })
}

/// A query that compares periods, as one query a period.
fn split(query: &Query) -> Vec<Query> {
    let ranges = query
        .time_dimensions
        .first()
        .and_then(|it| it.compare_date_range.clone());
    let Some(ranges) = ranges else {
        return vec![query.clone()];
    };
    let one = |range| {
        let mut one = query.clone();
        if let Some(time) = one.time_dimensions.first_mut() {
            time.compare_date_range = None;
            time.date_range = Some(range);
        }
        one
    };
    ranges.into_iter().map(one).collect()
}

/// Whether the answer's rows are those of an expected query in one of its windows.
async fn equivalent(
    expected: &Expected,
    answer: &Answer,
    top1: Option<&str>,
    run: &impl AsyncFn(Query) -> Result<Vec<Row>, String>,
) -> bool {
    let (Some(query), Some(actual)) = (&expected.query, &answer.query) else {
        return false;
    };
    let parts = expected.answer_type.is_none() && expected.plus_query.is_none();
    let compares = query
        .time_dimensions
        .iter()
        .any(|it| !it.compared().is_empty());
    let grouping = |list: &[String]| list.iter().collect::<BTreeSet<_>>().len();
    if !parts || compares || grouping(&actual.dimensions) != grouping(&query.dimensions) {
        return false;
    }
    let mut query = query.clone();
    if let Some(top1) = top1 {
        outcome::substitute(&mut query.filters, top1);
    }
    for candidate in query.queries() {
        if let Ok(rows) = run(candidate).await
            && execution::same_rows(&answer.rows, &rows, &query).is_ok()
        {
            return true;
        }
    }
    false
}

fn outcome_of(answer: &Answer) -> Outcome {
    let members = answer
        .definition
        .iter()
        .filter_map(|it| it.get("member")?.as_str());
    Outcome {
        behaviour: answer.behaviour.name().to_owned(),
        query: answer.query.clone(),
        companion: answer.companion.as_ref().map(|it| it.query.clone()),
        answer_type: answer.answer_type.clone(),
        members: members.map(str::to_owned).collect(),
        reason: answer.reason.clone(),
        about: answer.about.clone(),
        options: answer.options.iter().map(|it| it.label.clone()).collect(),
        text: answer.answer.clone(),
    }
}
