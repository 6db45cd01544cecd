//! The answers that hold no figures of their own: a question back, a refusal.

use ballpoint_metrics::catalog::Catalog;
use ballpoint_planner::DialogueState;
use ballpoint_planner::plan::{Clarification, Question, Refusal};
use serde_json::json;

use crate::answer::{Answer, Behaviour, ChoiceOffered};
use crate::narrate::moment;
use crate::wording::{CLARIFICATIONS, REFUSALS, say};

/// More offers than this are not read.
const OFFER_MAX: usize = 16;

/// A question back, with the dialogue that waits for its answer.
pub(crate) fn clarify(
    catalog: &Catalog,
    plan: Clarification,
    state: &DialogueState,
    base: Answer,
) -> (Answer, DialogueState) {
    let text = match &plan.question {
        Question::WhichMetric => say(CLARIFICATIONS, "which_metric", &[]),
        Question::WhichMeaning { word } => say(CLARIFICATIONS, "which_meaning", &[("word", word)]),
        Question::WhichMember { word, noun } => say(
            CLARIFICATIONS,
            "which_member",
            &[("word", word), ("noun", noun)],
        ),
        Question::WhichBreakdown { measure } => {
            say(CLARIFICATIONS, "which_breakdown", &[("measure", measure)])
        }
        Question::DidYouMean { word } => say(CLARIFICATIONS, "did_you_mean", &[("word", word)]),
        Question::WhichReading => say(CLARIFICATIONS, "which_reading", &[]),
    };
    let labels: Vec<&str> = plan.options.iter().map(|it| it.label.as_str()).collect();
    let definition = plan.options.iter().filter_map(|it| {
        let member = catalog.member(it.query.measures.first()?)?;
        Some(json!({ "member": member.name, "description": member.description }))
    });
    let answer = Answer {
        behaviour: Behaviour::Clarify,
        answer: format!("{text} {}", labels.join(" | ")),
        definition: definition.collect(),
        options: plan
            .options
            .iter()
            .map(|it| ChoiceOffered {
                label: it.label.clone(),
                query: it.query.clone(),
                question: it.label.clone(),
            })
            .collect(),
        about: plan.about,
        reading: plan.reading,
        ..base
    };
    let state = DialogueState {
        pending: Some(plan.frame),
        options: plan.options,
        ..state.clone()
    };
    (answer, state)
}

/// A refusal with its reason and what can be asked instead.
pub(crate) fn refuse(plan: Refusal, base: Answer) -> Answer {
    let bound =
        |at: Option<jiff::civil::DateTime>| at.map_or(String::new(), |it| moment(&it.to_string()));
    let (from, to) = (
        bound(plan.coverage.map(|it| it.from)),
        bound(plan.coverage.map(|it| it.to)),
    );
    let subject = plan
        .subject
        .iter()
        .map(|it| format!("\"{it}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let variables = [("subject", subject.as_str()), ("from", &from), ("to", &to)];
    let mut text = say(REFUSALS, plan.reason.name(), &variables);
    if !plan.offer.is_empty() {
        let offer = plan
            .offer
            .iter()
            .take(OFFER_MAX)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        text.push(' ');
        text.push_str(&say(REFUSALS, "offer", &[("offer", &offer)]));
    }
    Answer {
        behaviour: Behaviour::Refuse,
        answer: text,
        reason: Some(plan.reason.name().to_owned()),
        reading: plan.reading,
        ..base
    }
}
