//! Cube's own REST tests over an e-commerce shop, replayed. They are not in the repository: the
//! folder beside it holds them, or `BALLPOINT_CUBE_ECOMMERCE` names one.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};

use ballpoint_metrics::{SecurityContext, Service};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;

const PASS_MIN: usize = 74;

fn folder() -> PathBuf {
    std::env::var_os("BALLPOINT_CUBE_ECOMMERCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/cube_ecommerce"),
        PathBuf::from,
    )
}

/// A row as text: members in order, numbers as numbers.
fn comparable(row: &Map<String, Value>) -> String {
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<f64>().ok(),
        other => other.as_f64(),
    };
    let mut cells: Vec<String> = row
        .iter()
        .map(|(key, value)| match number(value) {
            Some(number) => format!("{key}={:.6}", number + 0.0),
            None => format!("{key}={value}"),
        })
        .collect();
    cells.sort();
    cells.join(" ")
}

fn rows(data: &Value, is_ordered: bool) -> Vec<String> {
    let rows = data.as_array().unwrap().iter();
    let mut rows: Vec<String> = rows
        .map(|row| comparable(row.as_object().unwrap()))
        .collect();
    if !is_ordered {
        rows.sort();
    }
    rows
}

async fn replay(service: &Service, case: &Value) -> Result<(), String> {
    let query = &case["calls"][0]["query"];
    let context = SecurityContext::default();
    let reply = service.load(&json!({ "query": query }), &context).await;
    if reply.status != 200 {
        return Err(format!("status {}: {}", reply.status, reply.body));
    }
    // Cube's snapshots keep the order of the rows only where the query asks for one.
    let is_ordered = query.get("order").is_some();
    let wanted = rows(&case["snapshots"][0]["value"], is_ordered);
    let ours = rows(&reply.body["data"], is_ordered);
    if wanted != ours {
        let differs = |(a, b): &(&String, &String)| a != b;
        let pair = wanted.iter().zip(&ours).find(differs);
        return Err(format!(
            "{} rows, want {}: {pair:?}",
            ours.len(),
            wanted.len()
        ));
    }
    for assert in case["asserts"].as_array().unwrap() {
        if assert[1] == "total" && assert[2] != reply.body["total"] {
            return Err(format!("total {}, want {}", reply.body["total"], assert[2]));
        }
    }
    Ok(())
}

/// Whether the case's rows are in buckets of a custom granularity that spans months: there Cube puts
/// days into a bucket that begins after them or has ended before them.
fn is_misplaced(case: &Value) -> bool {
    let name = case["name"].as_str().unwrap();
    let spans = ["half_year", "three_months_by_march", "two_mo_by_feb"];
    name.contains("custom granularities") && spans.iter().any(|span| name.contains(span))
}

#[tokio::test]
async fn cubes_own_shop_tests_pass() {
    let folder = folder();
    if !folder.is_dir() {
        println!(
            "skipped: Cube's e-commerce cases are not at {}",
            folder.display()
        );
        return;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let database = TestDatabase::create().await;
    sqlx::raw_sql(AssertSqlSafe(read("dataset.sql")))
        .execute(database.pool())
        .await
        .unwrap();
    let pool = database.pool().clone();
    let correct = Service::open(&folder.join("ecommerce.yaml"), pool, Clock::system()).unwrap();
    let mut model = (*correct.snapshot.model).clone();
    model.epoch_buckets = true;
    let as_cube = correct.with_model(model);
    let cases: Vec<Value> = serde_json::from_str(&read("cases.json")).unwrap();
    let is_rest = |case: &&Value| {
        let snapshots = case["snapshots"].as_array();
        case["calls"][0]["api"] == "load" && snapshots.is_some_and(|s| !s.is_empty())
    };
    let (mut passed, mut counted_as_cube) = (0, 0);
    let (mut misplaced, mut failed) = (Vec::new(), Vec::new());
    for case in cases.iter().filter(is_rest) {
        counted_as_cube += usize::from(replay(&as_cube, case).await.is_ok());
        match replay(&correct, case).await {
            Ok(()) => passed += 1,
            Err(why) if is_misplaced(case) => misplaced.push(format!("{}: {why}", case["name"])),
            Err(why) => failed.push(format!("{}: {why}", case["name"])),
        }
    }
    println!("{passed} pass; {counted_as_cube} where months are counted as Cube counts them");
    println!(
        "days that Cube puts into a wrong bucket:\n{}",
        misplaced.join("\n")
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        counted_as_cube >= PASS_MIN,
        "{counted_as_cube} cases, {PASS_MIN} have to pass"
    );
    assert!(misplaced.len() <= 11, "{}", misplaced.join("\n"));
}
