//! Proofs run again: the same on data that nobody touched, and whoever tampers is found out.

use std::time::Duration;

use axum::http::StatusCode;
use ballpoint_metrics::Service;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{OWNER, PATIENCE, Stack, metrics_folder, text};

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

/// Says, as a build does, that the mart was written.
async fn built(stack: &Stack) {
    let event = Event::BuildPublished {
        run_id: "a run".to_owned(),
        relations: vec![TableName::new("marts", "fct_production")],
        tests_passed: 0,
        absent: Vec::new(),
    };
    let published = stack.store.events().publish(event, TraceContext::default());
    published.await.unwrap();
}

/// Turns the verdict on one unit around, behind everybody's back.
async fn tamper(stack: &Stack) {
    let sql = "update marts.fct_production set is_passed = not is_passed, \
               quality_status = case quality_status when 'ok' then 'error' else 'ok' end \
               where unit_key = (select min(unit_key) from marts.fct_production where component_type = 'springs')";
    let done = sqlx::raw_sql(sql)
        .execute(stack.store.pool())
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
}

fn assert_the_row_is_named(found: &Value) {
    let changed = found["changed"].to_string();
    assert_eq!(found["same"], false, "{found}");
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

#[tokio::test]
async fn a_hundred_answers_replay_to_the_same_rows_and_one_tampered_row_is_named() {
    let stack = Stack::start().await;
    built(&stack).await;
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
    tamper(&stack).await;
    let found = replayed(&stack, proof).await;
    assert_the_row_is_named(&found);
    assert!(
        !found["changed"].to_string().contains("rollup"),
        "{question}: {found}"
    );
}

/// The shipped model of units, with what its pass rate is made of kept in advance.
fn rolled_up_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(metrics_folder().join("production.yml")).unwrap();
    let rollup = "
    pre_aggregations:
      - {name: byComponent, measures: [passedUnits, count], dimensions: [componentType]}
";
    std::fs::write(folder.path().join("production.yml"), text + rollup).unwrap();
    folder
}

#[tokio::test]
async fn a_rollup_that_nobody_touched_does_not_vouch_for_a_table_that_somebody_did() {
    let model = rolled_up_model();
    let stack = Stack::with_model(model.path()).await;
    built(&stack).await;
    let before = stack.app.metrics.service().await.unwrap();
    let (kind, trace) = (WorkKind::RefreshMetrics, TraceContext::default());
    stack.store.work().enqueue(&kind, &trace).await.unwrap();
    let ready = async {
        let usable = |service: &Service| {
            let model = &service.snapshot.model.hash;
            let usable = service.rollups.usable(model, &service.results.versions).0;
            !usable.is_empty() && service.snapshot.data_version > before.snapshot.data_version
        };
        while !usable(&stack.app.metrics.service().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let question = json!({ "question": "pass rate by component" });
    let (_, answer) = stack.post("/api/ask", &question).await;
    let proof = answer["proof_id"].as_str().unwrap();
    let (_, kept) = stack.get(&format!("/api/proofs/{proof}")).await;
    assert_eq!(
        kept["evidence"][0]["rollup"], "Production.byComponent",
        "{kept}"
    );
    let unchanged = replayed(&stack, proof).await;
    assert_eq!(unchanged["same"], true, "{unchanged}");
    assert_eq!(unchanged["changed"], json!([]));

    tamper(&stack).await;
    let found = replayed(&stack, proof).await;
    assert_the_row_is_named(&found);
    let says = "rollup Production.byComponent and its source differ";
    assert!(found["changed"].to_string().contains(says), "{found}");
}

#[tokio::test]
async fn a_load_names_its_proof_which_is_kept_once_it_is_asked_for() {
    let stack = Stack::start().await;
    built(&stack).await;
    let request = json!({ "query": {
        "measures": ["Production.passRate"], "dimensions": ["Production.componentType"],
    } });
    let load = async || {
        let path = "/cubejs-api/v1/load";
        let reply = stack.send(Stack::with_body(path, OWNER, &request)).await;
        text(reply.headers(), "x-ballpoint-proof").to_owned()
    };
    let proof = async {
        let mut before = load().await;
        loop {
            // Until the registry has heard of the build, nothing is kept and each is another.
            let now = load().await;
            if std::mem::replace(&mut before, now.clone()) == now {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let proof = tokio::time::timeout(PATIENCE, proof).await.unwrap();
    let (status, kept) = stack.get(&format!("/api/proofs/{proof}")).await;
    assert_eq!(status, StatusCode::OK, "{kept}");
    let table = &kept["evidence"][0]["tables"][0]["table"];
    assert_eq!(*table, "marts.fct_production", "{kept}");
    assert_eq!(kept["definition"][0]["member"], "Production.passRate");
    let unchanged = replayed(&stack, &proof).await;
    assert_eq!(unchanged["same"], true, "{unchanged}");
    assert_eq!(unchanged["changed"], json!([]));
    tamper(&stack).await;
    assert_the_row_is_named(&replayed(&stack, &proof).await);
    let (status, _) = stack
        .get("/api/proofs/00000000000000000000000000000000")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
