//! Who answers: a search for the words of the question, or a recorded model without anybody to check
//! it. The planner and the checked model are Ballpoint's own.

use std::collections::HashMap;

use ballpoint_analyst::answer::{Answer, Behaviour, Row};
use ballpoint_analyst::eval::case::Case;
use ballpoint_llm::testing::{Act, Request, StubModel};
use ballpoint_metrics::query::Query;
use serde_json::{Value, json};

use crate::support::Stack;

const RECORDINGS: &str = include_str!("../../golden/paraphrases/recordings.jsonl");

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Keywords,
    Planner,
    ModelAlone,
    Checked,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keywords => "keyword search",
            Self::Planner => "planner",
            Self::ModelAlone => "model alone",
            Self::Checked => "model, checked by the planner",
        }
    }
}

/// What the model replied to each question, one reply after each repair.
pub(crate) struct Recordings(HashMap<String, Vec<Value>>);

impl Recordings {
    pub(crate) fn read() -> Self {
        let lines = RECORDINGS
            .lines()
            .map(|line| -> Value { serde_json::from_str(line).unwrap() });
        let replies = lines.map(|line| {
            let question = line["question"].as_str().unwrap().to_owned();
            (question, line["replies"].as_array().unwrap().clone())
        });
        Self(replies.collect())
    }

    pub(crate) async fn model(&self) -> StubModel {
        let replies = Self(self.0.clone());
        StubModel::start(move |request| match replies.reply(request) {
            Some(reply) => Act::Complete(reply.clone()),
            None => Act::Status(500, Vec::new(), "not recorded".into()),
        })
        .await
    }

    fn reply(&self, request: &Request) -> Option<&Value> {
        let replies = self.0.get(&request.question())?;
        replies.get(request.repairs()).or(replies.last())
    }

    /// What the replies to these requests cost.
    pub(crate) fn tokens(&self, requests: &[Request]) -> u64 {
        let replies = requests.iter().filter_map(|it| self.reply(it));
        replies
            .filter_map(|it| it["usage"]["total_tokens"].as_u64())
            .sum()
    }

    /// What the first replies to the questions cost.
    pub(crate) fn tokens_of(&self, cases: &[Case]) -> u64 {
        let firsts = cases
            .iter()
            .filter_map(|it| self.0.get(it.turns.last()?)?.first());
        firsts
            .filter_map(|it| it["usage"]["total_tokens"].as_u64())
            .sum()
    }
}

/// The first reply as it is: its query is run, its refusal believed.
pub(crate) async fn by_model(
    stack: &Stack,
    recordings: &Recordings,
    question: &str,
    reason: Option<&str>,
) -> Answer {
    let refusal = Answer {
        behaviour: Behaviour::Refuse,
        reason: reason.map(str::to_owned),
        ..Answer::default()
    };
    let Some(reply) = recordings.0.get(question).and_then(|it| it.first()) else {
        return refusal;
    };
    let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().unwrap_or_default();
    let query = serde_json::from_str::<Query>(arguments).ok();
    match (call["name"].as_str(), query) {
        (Some("query_metrics"), Some(query)) => answered(stack, query).await.unwrap_or(refusal),
        (Some("clarify"), _) => Answer {
            behaviour: Behaviour::Clarify,
            ..Answer::default()
        },
        _ => refusal,
    }
}

/// The members with the words that they are called by.
pub(crate) struct Catalogue {
    measures: Vec<(String, Vec<String>)>,
    dimensions: Vec<(String, Vec<String>)>,
}

pub(crate) async fn catalogue(stack: &Stack) -> Catalogue {
    let (_, meta) = stack.get("/cubejs-api/v1/meta").await;
    let members = |kind: &str| {
        let cubes = meta["cubes"].as_array().unwrap().iter();
        let members = cubes.flat_map(|cube| cube[kind].as_array().unwrap());
        let named = members.map(|member| {
            let mut names = vec![
                member["shortTitle"]
                    .as_str()
                    .unwrap_or_default()
                    .to_lowercase(),
            ];
            let synonyms = member["meta"]["synonyms"].as_array().into_iter().flatten();
            names.extend(synonyms.filter_map(Value::as_str).map(str::to_lowercase));
            (member["name"].as_str().unwrap().to_owned(), names)
        });
        named.collect()
    };
    Catalogue {
        measures: members("measures"),
        dimensions: members("dimensions"),
    }
}

/// The measure and the dimension of its cube whose names the question holds, the longest ones: what
/// a search box over a catalogue finds.
pub(crate) async fn by_keywords(stack: &Stack, catalogue: &Catalogue, question: &str) -> Answer {
    let question = format!(" {} ", question.to_lowercase());
    let longest = |names: &[String]| {
        let found = names
            .iter()
            .filter(|it| question.contains(&format!(" {it} ")));
        found.map(String::len).max()
    };
    let best = |members: &[(String, Vec<String>)], cube: &str| {
        let own = members.iter().filter(|(name, _)| name.starts_with(cube));
        let scored = own.filter_map(|(name, names)| Some((longest(names)?, name.clone())));
        scored
            .max_by_key(|(length, _)| *length)
            .map(|(_, name)| name)
    };
    let Some(measure) = best(&catalogue.measures, "") else {
        return Answer::default();
    };
    let cube = format!("{}.", measure.split_once('.').unwrap().0);
    let dimension = best(&catalogue.dimensions, &cube);
    let query = Query {
        measures: vec![measure],
        dimensions: dimension.into_iter().collect(),
        ..Query::default()
    };
    answered(stack, query).await.unwrap_or_default()
}

async fn answered(stack: &Stack, query: Query) -> Option<Answer> {
    let (_, reply) = stack
        .post("/cubejs-api/v1/load", &json!({ "query": query }))
        .await;
    let rows = reply["data"].as_array()?.iter();
    let rows: Vec<Row> = rows.filter_map(|row| row.as_object().cloned()).collect();
    Some(Answer {
        behaviour: Behaviour::Answer,
        query: Some(query),
        rows,
        ..Answer::default()
    })
}
