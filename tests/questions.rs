//! The public benchmark, asked through `ballpoint eval` as a user would run it.

use serde_json::Value;

use crate::support::{Stack, ballpoint, finish};

#[tokio::test]
async fn the_public_questions_are_answered_and_none_wrongly() {
    let stack = Stack::start().await;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/questions/questions.jsonl"
    );
    let (code, stdout, stderr) = finish(ballpoint(stack.data_dir()).args(["eval", "--json", file]));
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let summary = &lines.last().unwrap()["summary"];
    let wrong: Vec<_> = lines
        .iter()
        .filter(|line| line["outcome"] == "wrong")
        .collect();
    println!("{summary}");
    assert!(wrong.is_empty(), "wrong: {wrong:#?}");
    assert_eq!(summary["cases"], 85, "{summary}");
    assert!(summary["right"].as_u64().unwrap() >= 50, "{summary}");
}
