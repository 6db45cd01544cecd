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
    a_case_that_was_right_before_fails_the_run(&stack, &stdout);
    assert!(summary["right"].as_u64().unwrap() >= 84, "{summary}");
    assert!(summary["needless"].as_u64().unwrap() <= 1, "{summary}");
    a_verified_question_says_who_checked_it(&stack).await;
    statistics_are_told_of_the_rows(&stack).await;
}

/// An unanswerable question that the baseline calls right.
fn a_case_that_was_right_before_fails_the_run(stack: &Stack, baseline: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let lost =
        r#"{"id": "a02", "turns": ["total gizmos made"], "expected": [{"behaviour": "answer"}]}"#;
    let (cases, baseline) = (file("cases.jsonl", lost), file("before.jsonl", baseline));
    let run = |with: bool| {
        let mut command = ballpoint(stack.data_dir());
        command.args(["eval", "--json"]).arg(&cases);
        if with {
            command.arg("--baseline").arg(&baseline);
        }
        finish(&mut command)
    };
    assert_eq!(run(false).0, 0, "a refusal alone is no failure");
    let (code, stdout, stderr) = run(true);
    assert_eq!(code, 1, "{stdout} {stderr}");
    assert!(stdout.contains(r#""regressions":["a02"]"#), "{stdout}");
}

async fn a_verified_question_says_who_checked_it(stack: &Stack) {
    let answer = stack.ask("which machine needs attention?").await;
    assert_eq!(answer["notices"][0]["code"], "verified", "{answer}");
    assert_eq!(answer["query"]["limit"], 5, "{answer}");
    let other = stack.ask("which machine has the lowest pass rate").await;
    assert!(other["notices"].is_null(), "{other}");
}

async fn statistics_are_told_of_the_rows(stack: &Stack) {
    for (question, said) in [
        ("control chart of pass rate for springs", "p chart"),
        (
            "is the cycle time of springs in statistical control",
            "X-mR chart",
        ),
        ("which machines are outliers in OEE", "Tukey's fences"),
        ("correlation between humidity and pass rate", "Pearson's r"),
        (
            "what drove the change in scrap last week",
            "Contribution of each component",
        ),
        ("second highest scrap machine", "In place 2"),
        (
            "how many machines have a pass rate below 95 %",
            "Number of different values",
        ),
        ("scrap this month", "so far are partial"),
    ] {
        let answer = stack.ask(question).await;
        let text = answer["answer"].as_str().unwrap();
        assert!(text.contains(said), "{question}: {text}");
    }
    let answer = stack.ask("pass rate by component").await;
    let cell = &answer["cells"][0];
    let row = &answer["rows"][usize::try_from(cell["row"].as_u64().unwrap()).unwrap()];
    assert!(
        row[cell["member"].as_str().unwrap()].is_string(),
        "{answer}"
    );
}
