//! Proofs run again: the same on data that nobody touched, and whoever tampers is found out.

use axum::http::StatusCode;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::trace::TraceContext;
use serde_json::{Value, json};

use super::support::Stack;

const ANSWERS: usize = 100;

const MEASURES: [&str; 14] = [
    "pass rate",
    "fail rate",
    "defect rate",
    "first pass yield",
    "rework rate",
    "total cost",
    "average oee",
    "average cycle time",
    "average temperature",
    "average humidity",
    "failed units",
    "passed units",
    "average availability",
    "average performance",
];
const BY: [&str; 9] = [
    "",
    "by component",
    "by line",
    "by shift",
    "by machine",
    "last month",
    "by week",
    "by month",
    "by component last month",
];

async fn asked(stack: &Stack) -> Vec<(String, String)> {
    let mut proofs = Vec::new();
    for by in BY {
        for measure in MEASURES {
            let question = format!("{measure} {by}").trim().to_owned();
            let (status, answer) = stack
                .post("/api/ask", &json!({ "question": question }))
                .await;
            assert_eq!(status, StatusCode::OK, "{question}: {answer}");
            if let (Some("answer"), Some(proof)) =
                (answer["behaviour"].as_str(), answer["proof_id"].as_str())
            {
                proofs.push((question, proof.to_owned()));
            }
            if proofs.len() == ANSWERS {
                return proofs;
            }
        }
    }
    panic!("only {} questions were answered", proofs.len());
}

async fn replayed(stack: &Stack, proof: &str) -> Value {
    let path = format!("/api/proofs/{proof}/replay");
    let (status, replayed) = stack.post(&path, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{replayed}");
    replayed
}

#[tokio::test]
async fn a_hundred_answers_replay_to_the_same_rows_and_one_tampered_row_is_named() {
    let stack = Stack::start().await;
    let event = Event::BuildPublished {
        run_id: "a run".to_owned(),
        relations: vec![TableName::new("marts", "fct_production")],
        tests_passed: 0,
        absent: Vec::new(),
    };
    stack
        .store
        .events()
        .publish(event, TraceContext::default())
        .await
        .unwrap();
    let proofs = asked(&stack).await;
    for (question, proof) in &proofs {
        let replayed = replayed(&stack, proof).await;
        assert_eq!(replayed["same"], true, "{question}: {replayed}");
        assert_eq!(replayed["changed"], json!([]), "{question}");
    }

    let (question, proof) = proofs
        .iter()
        .find(|(it, _)| it == "pass rate by component")
        .unwrap();
    let (_, kept) = stack.get(&format!("/api/proofs/{proof}")).await;
    let table = &kept["evidence"][0]["tables"][0];
    assert_eq!(table["table"], "marts.fct_production", "{kept}");
    assert!(table["version"].is_i64(), "{kept}");
    let tamper = "update marts.fct_production set is_passed = not is_passed, \
                  quality_status = case quality_status when 'ok' then 'error' else 'ok' end \
                  where unit_key = (select min(unit_key) from marts.fct_production where component_type = 'springs')";
    let done = sqlx::raw_sql(tamper)
        .execute(stack.store.pool())
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
    let found = replayed(&stack, proof).await;
    let changed = found["changed"].to_string();
    assert_eq!(found["same"], false, "{question}: {found}");
    assert!(
        changed.contains(
            "marts.fct_production were changed by something other than a load or a build"
        ),
        "{changed}"
    );
    assert!(
        changed.contains("springs differs") && !changed.contains("refills differs"),
        "{changed}"
    );
}
