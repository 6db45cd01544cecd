//! How fast the planner plans, and a question is answered over the stream.

use std::time::Instant;

use ballpoint_analyst::eval::read_cases;
use ballpoint_metrics::model::Model;
use ballpoint_metrics::survey::catalog;
use ballpoint_planner::{Context, DialogueState, Planner};
use serde_json::json;

use crate::support::{NOW, Stack};

const ROUNDS: usize = 5;
const CONVERSATIONS: usize = 200;

pub(crate) async fn print(stack: &Stack, questions: &str) {
    let cases = read_cases(questions).unwrap();
    let single = cases.iter().filter(|it| it.turns.len() == 1);
    let questions: Vec<String> = single.map(|it| it.turns[0].clone()).collect();
    println!("| what | measured | bar |\n|---|---|---|");
    let mut planned = plan(stack, &questions).await;
    println!(
        "| question to query, p50 | {:.2} ms | 1 ms |",
        percentile(&mut planned, 50)
    );
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for question in &questions {
            let (byte, end) = streamed(stack, question, None).await;
            first.push(byte);
            whole.push(end);
        }
    }
    println!(
        "| question to first streamed byte, p50 | {:.1} ms | 10 ms |",
        percentile(&mut first, 50)
    );
    println!(
        "| question to complete streamed answer, p50 | {:.1} ms | 15 ms |",
        percentile(&mut whole, 50)
    );
    let conversations = (0..CONVERSATIONS).map(|n| {
        let question = &questions[n % questions.len()];
        async move {
            streamed(stack, question, Some(format!("bench-{n}")))
                .await
                .1
        }
    });
    let mut crowd = futures_util::future::join_all(conversations).await;
    println!(
        "| {CONVERSATIONS} conversations at once, p99 | {:.0} ms | 500 ms |",
        percentile(&mut crowd, 99)
    );
}

/// Milliseconds from question to plan, against the shipped model with the values of its data.
async fn plan(stack: &Stack, questions: &[String]) -> Vec<f64> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("warehouse/metrics");
    let mut catalog = catalog(&Model::load(&folder).unwrap());
    for member in catalog.cubes.iter_mut().flat_map(|it| &mut it.dimensions) {
        if matches!(member.member_type.as_str(), "string" | "boolean") && !member.primary_key {
            let query = json!({ "dimensions": [member.name], "limit": 500 });
            let rows = stack.load(query).await;
            let values = rows.iter().filter_map(|row| row[&member.name].as_str());
            member.values = values.map(str::to_owned).collect();
        }
    }
    let planner = Planner::new(catalog);
    let context = Context {
        now: NOW
            .parse::<jiff::Timestamp>()
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC),
        coverage: std::collections::BTreeMap::new(),
    };
    let state = DialogueState::default();
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        for question in questions {
            let begun = Instant::now();
            std::hint::black_box(planner.plan(question, &state, &context));
            out.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    out
}

/// Milliseconds to the first and to the last byte of a streamed answer.
async fn streamed(stack: &Stack, question: &str, conversation: Option<String>) -> (f64, f64) {
    let body = json!({ "question": question, "conversation_id": conversation });
    let begun = Instant::now();
    let mut reply = stack.stream("/api/chat/stream", &body).await;
    let mut first = None;
    while let Some(bytes) = reply.chunk().await.unwrap() {
        if !bytes.is_empty() {
            first.get_or_insert(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    (
        first.unwrap_or_default(),
        begun.elapsed().as_secs_f64() * 1000.0,
    )
}

/// The value that so many percent of these do not exceed.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(at).copied().unwrap_or_default()
}
