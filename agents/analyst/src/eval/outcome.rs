//! What came out of a case's last turn, and which expectation it meets.

use ballpoint_metrics::query::Query;

use super::case::{Case, Expected, Score};
use super::structural;

/// The parts of an answer that are scored.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `answer`, `clarify` or `refuse`.
    pub behaviour: String,
    pub query: Option<Query>,
    pub companion: Option<Query>,
    pub answer_type: Option<String>,
    /// Members that a definition is about.
    pub members: Vec<String>,
    pub reason: Option<String>,
    pub about: Vec<String>,
    /// Labels of the choices.
    pub options: Vec<String>,
    /// The text of the answer.
    pub text: String,
}

/// A score with what it rests on.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub score: Score,
    pub detail: String,
}

/// Scores an outcome by its parts. `$RESULT:turn1.top1` stands for `top1` in expected filters.
pub fn judge(case: &Case, outcome: &Outcome, top1: Option<&str>) -> Verdict {
    let mut misses = Vec::new();
    for expected in &case.expected {
        match meets(expected, outcome, top1) {
            Ok(()) => {
                return Verdict {
                    score: right(&outcome.behaviour),
                    detail: String::new(),
                };
            }
            Err(miss) => misses.push(miss),
        }
    }
    let score = if outcome.behaviour == "answer" {
        Score::Wrong
    } else {
        Score::Needless
    };
    Verdict {
        score,
        detail: misses.join("; "),
    }
}

/// The score of an outcome that was expected.
pub fn right(behaviour: &str) -> Score {
    match behaviour {
        "clarify" => Score::Clarified,
        "refuse" => Score::Refused,
        _ => Score::Correct,
    }
}

/// Whether an outcome is the expected one, leaving execution aside.
///
/// # Errors
/// What differs.
pub fn meets(expected: &Expected, outcome: &Outcome, top1: Option<&str>) -> Result<(), String> {
    if expected.behaviour != outcome.behaviour {
        let reason = outcome.reason.as_deref().unwrap_or("");
        return Err(format!(
            "{} {reason}, not {}",
            outcome.behaviour, expected.behaviour
        ));
    }
    match expected.behaviour.as_str() {
        "clarify" => clarifies(expected, outcome),
        "refuse" => refuses(expected, outcome),
        _ => answers(expected, outcome, top1),
    }
}

fn clarifies(expected: &Expected, outcome: &Outcome) -> Result<(), String> {
    let named = outcome.about.iter().any(|it| expected.about.contains(it));
    match (named, outcome.options.len() >= 2) {
        (true, true) => Ok(()),
        (false, _) => Err(format!(
            "asks about {:?}, not {:?}",
            outcome.about, expected.about
        )),
        (true, false) => Err("offers no choices".into()),
    }
}

fn refuses(expected: &Expected, outcome: &Outcome) -> Result<(), String> {
    if expected.reason != outcome.reason {
        return Err(format!(
            "refused as {:?}, not {:?}",
            outcome.reason, expected.reason
        ));
    }
    if outcome.query.is_some() {
        return Err("a query ran for a refusal".into());
    }
    let text = outcome.text.to_lowercase();
    let offered = expected
        .offer
        .iter()
        .any(|it| text.contains(&it.to_lowercase()));
    if expected.offer.is_empty() || offered {
        Ok(())
    } else {
        Err(format!("offers none of {:?}", expected.offer))
    }
}

fn answers(expected: &Expected, outcome: &Outcome, top1: Option<&str>) -> Result<(), String> {
    if let Some(kind) = &expected.answer_type {
        if outcome.answer_type.as_ref() != Some(kind) {
            return Err(format!("{:?}, not {kind}", outcome.answer_type));
        }
        if let Some(member) = expected
            .member
            .as_ref()
            .filter(|it| !outcome.members.contains(it))
        {
            return Err(format!("not about {member}"));
        }
    }
    if let Some(query) = &expected.query {
        let actual = outcome.query.as_ref().ok_or("no query")?;
        let mut query = query.clone();
        if let Some(top1) = top1 {
            substitute(&mut query.filters, top1);
        }
        structural::matches(actual, &query)?;
    }
    if let Some(query) = &expected.plus_query {
        let actual = outcome.companion.as_ref().ok_or("no second query")?;
        structural::matches(actual, query)?;
    }
    Ok(())
}

/// Puts the first turn's top member in place of its mark.
pub fn substitute(filters: &mut [ballpoint_metrics::query::Filter], top1: &str) {
    use ballpoint_metrics::query::{Filter, FilterValue};
    for filter in filters {
        if let Filter::Member {
            values: Some(values),
            ..
        } = filter
        {
            for value in values {
                if matches!(value, FilterValue::Text(text) if text.starts_with("$RESULT:")) {
                    *value = FilterValue::Text(top1.to_owned());
                }
            }
        }
    }
}
