//! Questions whose queries a person has checked, kept beside the data model. One that is asked in
//! their words is answered by that query, and the answer says who checked it.

use ballpoint_llm::Planned;
use ballpoint_metrics::query::Query;
use ballpoint_planner::{Context, Plan, Planner};
use serde::Deserialize;

/// The list of a project: `questions.yml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedQuestions {
    pub questions: Vec<VerifiedQuestion>,
}

/// A question, other wordings of it, and the query that answers all of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedQuestion {
    pub question: String,
    #[serde(default)]
    pub also: Vec<String>,
    /// In Cube's form; date ranges may be phrases ("last week").
    pub query: Query,
    pub verified_by: String,
}

impl VerifiedQuestions {
    /// The verified question that is asked, in whatever case and punctuation.
    pub fn find(&self, question: &str) -> Option<&VerifiedQuestion> {
        let asked = plain(question);
        let says = |it: &&VerifiedQuestion| {
            let mut wordings = std::iter::once(&it.question).chain(&it.also);
            wordings.any(|wording| plain(wording) == asked)
        };
        self.questions.iter().find(says)
    }
}

impl VerifiedQuestion {
    /// Its query as a plan; `None` where the data model no longer holds it.
    pub(crate) fn planned(&self, planner: &Planner, context: &Context) -> Option<Planned> {
        match planner.frame_of(&self.query, context) {
            Ok(frame) => match planner.plan_of(frame, context) {
                plan @ (Plan::Answer(_) | Plan::Refuse(_)) => Some(Planned::local(plan)),
                Plan::Meta(_) | Plan::Clarify(_) => None,
            },
            Err(fault) => {
                tracing::warn!(question = self.question, %fault, "a verified question no longer holds");
                None
            }
        }
    }
}

/// Lower case, one space between words, no punctuation at the end.
fn plain(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let joined = words.join(" ");
    joined.trim_end_matches(['?', '.', '!', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_found_in_each_of_its_wordings_and_in_no_other() {
        let list = serde_json::json!({ "questions": [{
            "question": "How much did we scrap last week?",
            "also": ["weekly scrap figure"],
            "query": { "measures": ["Production.failedUnits"] },
            "verified_by": "quality",
        }]});
        let list: VerifiedQuestions = serde_json::from_value(list).unwrap();
        for question in ["how much did  we scrap last week", "Weekly scrap figure!"] {
            assert!(list.find(question).is_some(), "{question}");
        }
        assert!(list.find("how much did we scrap last month").is_none());
    }
}
