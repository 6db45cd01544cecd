//! Questions in words that the local planner does not know, answered with a model beside it: the
//! recorded replies of a competent one, some of them wrong or hostile on purpose.

use std::collections::HashMap;
use std::process::Command;

use ballpoint_llm::testing::{Act, StubModel};
use serde_json::Value;

use crate::support::{Folder, Stack, ballpoint, finish};

const QUESTIONS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/paraphrases/questions.jsonl"
);
const PUBLIC: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/questions/questions.jsonl"
);
const RECORDINGS: &str = include_str!("golden/paraphrases/recordings.jsonl");

/// Replays what was recorded for a question, one reply after each repair; the last one for good.
async fn recorded_model() -> StubModel {
    let mut recordings: HashMap<String, Vec<Value>> = HashMap::new();
    for line in RECORDINGS.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let replies = line["replies"].as_array().unwrap().clone();
        recordings.insert(line["question"].as_str().unwrap().to_owned(), replies);
    }
    StubModel::start(move |request| {
        let replies = recordings.get(&request.question());
        let at = request.repairs();
        let reply = replies.and_then(|all| all.get(at).or(all.last()));
        reply.map_or_else(
            || Act::Status(500, Vec::new(), "not recorded".into()),
            |it| Act::Complete(it.clone()),
        )
    })
    .await
}

fn with_model(command: &mut Command, base_url: &str) {
    command
        .env("BALLPOINT__LLM__BASE_URL", base_url)
        .env("BALLPOINT__LLM__MODEL", "recorded-1")
        .env("BALLPOINT__LLM__API_KEY", "sk-recorded");
}

fn eval(stack: &Stack, base_url: &str, backend: &str, file: &str) -> (Value, Vec<Value>) {
    let mut command = ballpoint(stack.data_dir());
    with_model(&mut command, base_url);
    let (_, stdout, stderr) = finish(command.args(["eval", "--json", "--backend", backend, file]));
    let mut lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.pop().unwrap_or_else(|| panic!("{stderr}"));
    (last["summary"].clone(), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_competent_model_adds_right_answers_and_no_wrong_one() {
    let model = recorded_model().await;
    let folder = Folder::new();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        with_model(command, &model.base_url());
    });
    stack.until_ready().await;
    let count = |summary: &Value, key: &str| summary[key].as_u64().unwrap();
    let (alone, _) = eval(&stack, &model.base_url(), "planner", QUESTIONS);
    assert!(
        model.requests().is_empty(),
        "the planner alone asks no model"
    );
    let (helped, lines) = eval(&stack, &model.base_url(), "llm", QUESTIONS);
    let off: Vec<&Value> = lines
        .iter()
        .filter(|it| it["points"].as_i64() < Some(1))
        .collect();
    println!("planner alone: {alone}\nwith a model:  {helped}");
    for line in &off {
        println!(
            "{} {} {}: {} [{}]",
            line["id"], line["outcome"], line["question"], line["detail"], line["answer"]
        );
    }
    assert_eq!(count(&alone, "wrong"), 0, "{alone}");
    assert_eq!(count(&helped, "wrong"), 0, "{off:#?}");
    let gained = count(&helped, "right") - count(&alone, "right");
    assert!(
        gained >= 40,
        "{gained} gained of {}",
        count(&helped, "cases")
    );
    // What the planner reads is answered as before, and costs no request.
    let before = model.requests().len();
    let (public, _) = eval(&stack, &model.base_url(), "llm", PUBLIC);
    println!(
        "public questions with a model: {public}, {} requests",
        model.requests().len() - before
    );
    assert_eq!(count(&public, "wrong"), 0, "{public}");
    assert!(count(&public, "right") >= 80, "{public}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_who_read_it_and_a_failing_model_is_named() {
    let model = recorded_model().await;
    let folder = Folder::new();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        with_model(command, &model.base_url());
    });
    stack.until_ready().await;
    let read = stack
        .ask("how many springs went in the bin yesterday")
        .await;
    assert_eq!(read["backend"], "llm", "{read}");
    assert_eq!(read["notices"][0]["code"], "read_by_model", "{read}");
    let known = stack.ask("pass rate by component last week").await;
    assert_eq!(known["backend"], "planner", "{known}");
    assert!(known["notices"].is_null(), "{known}");
    let failing = stack.ask("how many gizmos were fettled yesterday").await;
    assert_eq!(failing["backend"], "planner", "{failing}");
    assert_eq!(failing["behaviour"], "refuse", "{failing}");
    assert_eq!(failing["notices"][0]["code"], "model_failed", "{failing}");
    let text = failing.to_string() + &read.to_string();
    assert!(!text.contains("sk-recorded"), "{text}");
}

#[test]
fn a_model_that_is_not_configured_cannot_be_asked() {
    let folder = Folder::new();
    let (code, _, stderr) = finish(ballpoint(&folder.path().join("data")).args([
        "eval",
        "--backend",
        "llm",
        QUESTIONS,
    ]));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("[llm]"), "{stderr}");
}

#[test]
fn a_model_that_cannot_be_reached_like_this_is_refused_at_the_start() {
    let folder = Folder::new();
    for (name, value, said) in [
        (
            "BALLPOINT__LLM__BASE_URL",
            "api.example.com",
            "llm.base_url",
        ),
        ("BALLPOINT__LLM__MODEL", " ", "llm.model"),
        ("BALLPOINT__LLM__API_KEY", " ", "llm.api_key is empty"),
        ("BALLPOINT__LLM__TIMEOUT_SECS", "0", "llm.timeout_secs"),
    ] {
        let mut command = ballpoint(&folder.path().join("data"));
        with_model(&mut command, "http://127.0.0.1:9/v1");
        let (code, _, stderr) = finish(command.env(name, value).arg("check"));
        assert_eq!(code, 2, "{name}: {stderr}");
        assert!(
            stderr.contains(said) && !stderr.contains("sk-recorded"),
            "{name}: {stderr}"
        );
    }
}
