//! With and without agents: the same questions by a plain search for their words, by the local
//! planner, by a model alone and by a model that the planner checks. Then how fast it is. Prints
//! what `docs/agents-benchmark.md` holds: `make bench-agents`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may stop"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "agents/backends.rs"]
mod backends;
#[path = "agents/speed.rs"]
mod speed;

use std::collections::HashMap;

use backends::{Backend, Recordings};
use ballpoint_analyst::eval::case::{Case, Score};
use ballpoint_analyst::eval::{Summary, evaluate, read_cases};
use ballpoint_metrics::query::Query;
use serde_json::json;
use support::{Folder, Stack};

const PUBLIC: &str = include_str!("../golden/questions/questions.jsonl");
const PARAPHRASES: &str = include_str!("../golden/paraphrases/questions.jsonl");

#[tokio::main]
async fn main() {
    let recordings = Recordings::read();
    let model = recordings.model().await;
    let folder = Folder::new();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        command
            .env("BALLPOINT__LLM__BASE_URL", model.base_url())
            .env("BALLPOINT__LLM__MODEL", "recorded-1")
            .env("BALLPOINT__LLM__API_KEY", "sk-recorded");
    });
    stack.until_ready().await;
    let alone = Backend::ModelAlone;
    let others = [Backend::Keywords, Backend::Planner, Backend::Checked];
    println!("# With and without agents\n");
    println!(
        "Printed by `make bench-agents`: the questions of `tests/golden`, scored as `ballpoint eval` scores them."
    );
    println!(
        "The model is a recording of a competent one; some of its replies were recorded wrong on purpose.\n"
    );
    println!("## The public questions, in the words of the data model\n");
    table(&stack, &recordings, &model, PUBLIC, &others).await;
    println!("\n## Questions in words that the data model does not hold\n");
    let all = [others[0], others[1], alone, others[2]];
    table(&stack, &recordings, &model, PARAPHRASES, &all).await;
    println!("\n## Speed of the local planner\n");
    // Without a model beside it, which would be asked and waited for.
    drop(stack);
    speed::print(&Stack::start().await, PUBLIC).await;
}

async fn table(
    stack: &Stack,
    recordings: &Recordings,
    model: &ballpoint_llm::testing::StubModel,
    file: &str,
    backends: &[Backend],
) {
    let cases = read_cases(file).unwrap();
    println!(
        "| {} questions | right | WRONG | asked back needlessly | refused needlessly | p50 | tokens a question |",
        cases.len()
    );
    println!("|---|---|---|---|---|---|---|");
    for backend in backends {
        let before = model.requests().len();
        let (summary, needless, millis) = run(stack, recordings, &cases, *backend).await;
        let spent: u64 = match backend {
            Backend::ModelAlone => recordings.tokens_of(&cases),
            _ => recordings.tokens(&model.requests()[before..]),
        };
        println!(
            "| {} | {} | {} | {needless} | {} | {} | {} |",
            backend.name(),
            summary.right,
            summary.wrong,
            summary.needless - needless,
            if *backend == Backend::ModelAlone {
                "-".to_owned()
            } else {
                format!("{millis:.1} ms")
            },
            spent / cases.len() as u64,
        );
    }
}

/// How the cases come out, how many of the needless were questions back, and the median of the time.
async fn run(
    stack: &Stack,
    recordings: &Recordings,
    cases: &[Case],
    backend: Backend,
) -> (Summary, usize, f64) {
    let catalogue = backends::catalogue(stack).await;
    let reasons: HashMap<&str, &str> = cases
        .iter()
        .filter_map(|case| {
            let refusal = case.expected.iter().find_map(|it| it.reason.as_deref())?;
            Some((case.turns.last()?.as_str(), refusal))
        })
        .collect();
    let times = std::cell::RefCell::new(Vec::new());
    let ask = async |question: String, conversation: Option<String>| {
        let begun = std::time::Instant::now();
        let answered = match backend {
            Backend::Keywords => backends::by_keywords(stack, &catalogue, &question).await,
            Backend::ModelAlone => {
                let reason = reasons.get(question.as_str()).copied();
                backends::by_model(stack, recordings, &question, reason).await
            }
            Backend::Planner | Backend::Checked => {
                let mut body = json!({ "question": question, "conversation_id": conversation });
                if backend == Backend::Planner {
                    body["backend"] = json!("planner");
                }
                let (status, reply) = stack.post("/api/ask", &body).await;
                assert_eq!(status, 200, "{question}: {reply}");
                serde_json::from_value(reply).unwrap()
            }
        };
        times
            .borrow_mut()
            .push(begun.elapsed().as_secs_f64() * 1000.0);
        Ok::<_, String>(answered)
    };
    let load = async |query: Query| {
        let body = json!({ "query": query });
        let (_, reply) = stack.post("/cubejs-api/v1/load", &body).await;
        if let Some(error) = reply["error"].as_str() {
            return Err(error.to_owned());
        }
        let rows = reply["data"].as_array().cloned().unwrap_or_default();
        Ok(rows
            .into_iter()
            .filter_map(|row| row.as_object().cloned())
            .collect())
    };
    let mut reports = Vec::new();
    for case in cases {
        reports.push(Box::pin(evaluate(case, &ask, &load)).await);
    }
    let summary = Summary::of(&reports);
    let asked = reports
        .iter()
        .filter(|it| it.outcome == Score::Needless && it.behaviour == "clarify");
    (
        summary,
        asked.count(),
        speed::percentile(&mut times.into_inner(), 50),
    )
}
