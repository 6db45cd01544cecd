//! What to ask next: suggestions after an answer, whole questions for the choices of a question
//! back. Whatever is suggested is a question which the local planner reads.

use ballpoint_planner::{Context, DialogueState, Plan, Planner};

use crate::answer::{Answer, Behaviour};

/// More suggestions than this are not read.
const SUGGESTIONS_MAX: usize = 4;

/// Adds to an answer what can be asked next; `state` is the dialogue's after it, `offer` what a
/// refusal names instead.
pub(crate) fn add(
    planner: &Planner,
    context: &Context,
    state: &DialogueState,
    offer: &[String],
    answer: &mut Answer,
) {
    match answer.behaviour {
        Behaviour::Answer if answer.query.is_some() && answer.answer_type.is_none() => {
            if let Some(frame) = &state.last {
                answer.follow_ups = planner.follow_ups(frame, state, context);
            }
        }
        Behaviour::Answer => {}
        Behaviour::Clarify => {
            for (option, choice) in answer.options.iter_mut().zip(&state.options) {
                if let Some(question) = planner.question(&choice.frame, state, context) {
                    option.question = question;
                }
            }
        }
        Behaviour::Refuse => {
            let answered =
                |it: &&String| matches!(planner.plan(it, state, context), Plan::Answer(_));
            let offers = offer.iter().filter(answered).take(SUGGESTIONS_MAX);
            answer.follow_ups = offers.cloned().collect();
        }
    }
}
