//! The API that the page stands on, on a running system: the graph is whole, a write-back goes its
//! way, a run can be opened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::Stack;

fn items(body: &Value, key: &str) -> Vec<Value> {
    body[key].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_source_reaches_a_metric_and_a_write_back() {
    let stack = Stack::start().await;
    let (status, lineage) = stack.get("/api/lineage").await;
    assert_eq!(status, 200, "{lineage}");
    let kinds: BTreeMap<String, String> = items(&lineage, "nodes")
        .iter()
        .map(|node| (text(&node["id"]), text(&node["kind"])))
        .collect();
    let mut leads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for edge in items(&lineage, "edges") {
        let (from, to) = (text(&edge["from"]), text(&edge["to"]));
        leads.entry(from).or_default().push(to);
    }
    for source in ["source.refills", "source.bodies", "source.springs"] {
        let (mut reached, mut pending) = (BTreeSet::new(), vec![source.to_owned()]);
        while let Some(id) = pending.pop() {
            for next in leads.get(&id).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    pending.push(next.clone());
                }
            }
        }
        for kind in ["raw", "model", "metric", "write_back"] {
            let found = reached.iter().any(|id| kinds[id] == kind);
            assert!(found, "{source} reaches no {kind}: {reached:?}");
        }
    }
    for node in items(&lineage, "nodes") {
        assert_eq!(node["status"], "ok", "{node}");
        if node["kind"] != "write_back" {
            assert!(node["fresh_at"].is_string(), "{node}");
        }
    }
    let (_, runs) = stack.get("/api/runs?kind=build&limit=1").await;
    let run = &items(&runs, "items")[0];
    assert_eq!(run["kind"], "build");
    let (status, one) = stack.get(&format!("/api/runs/{}", text(&run["id"]))).await;
    assert_eq!(status, 200, "{one}");
    assert!(!items(&one, "steps").is_empty(), "{one}");
}

#[tokio::test]
async fn a_write_back_is_planned_looked_at_approved_applied_and_undone() {
    let stack = Stack::start().await;
    let nothing = json!({});
    let (status, plan) = stack
        .post("/api/write-backs/refills_quality_feedback/plan", &nothing)
        .await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["state"], "planned", "{plan}");
    let at = |step: &str| format!("/api/write-backs/plans/{}{step}", text(&plan["id"]));
    let (_, bootstrap) = stack.get("/api/bootstrap").await;
    assert_eq!(bootstrap["write_backs_waiting"], 1);

    let added = plan["counts"]["added"].as_u64().unwrap();
    assert!(added > 3);
    let (mut seen, mut after) = (0, 0);
    loop {
        let page = format!("/rows?kind=added&limit=50&after={after}");
        let (status, page) = stack.get(&at(&page)).await;
        assert_eq!(status, 200, "{page}");
        seen += items(&page, "items").len() as u64;
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, added, "every row of the plan can be looked at");

    let wrong = json!({ "hash": "another" });
    let (status, refused) = stack.post(&at("/approve"), &wrong).await;
    assert_eq!(status, 409, "{refused}");
    let (status, refused) = stack.post(&at("/apply"), &nothing).await;
    assert_eq!(status, 409, "{refused}");
    let approval = json!({ "hash": plan["hash"], "comment": "looks right" });
    let (status, approved) = stack.post(&at("/approve"), &approval).await;
    assert_eq!(
        (status, &approved["approved_by"]),
        (200, &json!("owner")),
        "{approved}"
    );
    let (status, applied) = stack.post(&at("/apply"), &nothing).await;
    assert_eq!(
        (status, &applied["state"]),
        (200, &json!("applied")),
        "{applied}"
    );
    let source = stack.pool("refills").await;
    let count = "select count(*) from public.quality_feedback";
    let written: i64 = sqlx::query_scalar(count).fetch_one(&source).await.unwrap();
    assert_eq!(u64::try_from(written).unwrap(), added);
    let (status, undone) = stack.post(&at("/undo"), &nothing).await;
    assert_eq!(
        (status, &undone["state"]),
        (200, &json!("undone")),
        "{undone}"
    );
    let left: i64 = sqlx::query_scalar(count)
        .fetch_one(&source)
        .await
        .unwrap_or(0);
    assert_eq!(left, 0);

    let (status, _) = stack.post("/api/write-backs/nothing/plan", &nothing).await;
    assert_eq!(status, 404);
    let (status, _) = stack.get("/api/write-backs/plans/nothing").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_request_in_words_becomes_a_plan_with_its_reason_or_a_refusal_with_its_own() {
    let stack = Stack::start().await;
    let propose = |request: &str| json!({ "request": request });
    let request = propose("hold refill batches with more than 5 % ink leaks");
    let (status, outcome) = stack.post("/api/write-backs/propose", &request).await;
    assert_eq!(status, 200, "{outcome}");
    assert_eq!(outcome["plan"]["origin"], "proposal", "{outcome}");
    assert!(!text(&outcome["plan"]["reason"]).is_empty(), "{outcome}");
    let request = propose("delete every batch");
    let (status, outcome) = stack.post("/api/write-backs/propose", &request).await;
    assert_eq!(status, 200, "{outcome}");
    assert!(!text(&outcome["refusal"]).is_empty(), "{outcome}");
}
