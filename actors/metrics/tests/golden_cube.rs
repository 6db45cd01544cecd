//! Replays what a real Cube answered, in process: the cases of `tests/golden/cube`.
//!
//! Compared as its `conformance.py` does: status, rows (as a set where the query leaves the order
//! open), annotation, total, meta by cube; where Cube answers 500 for a request's fault, any 4xx.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ballpoint_metrics::{ApiReply, SecurityContext, Service};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

/// Cases that must pass; the others belong to features that are not there yet.
const PASS_MIN: usize = 110;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cube")
}

/// Restores a `pg_dump` file: statements as they are, the data by COPY.
async fn restore(connection: &mut PgConnection, dump: &str) {
    let mut statements = String::new();
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('\\') {
            continue;
        }
        if !line.starts_with("COPY ") {
            statements.push_str(line);
            statements.push('\n');
            continue;
        }
        sqlx::raw_sql(AssertSqlSafe(std::mem::take(&mut statements)))
            .execute(&mut *connection)
            .await
            .unwrap();
        let rows: String = lines
            .by_ref()
            .take_while(|row| *row != "\\.")
            .map(|row| format!("{row}\n"))
            .collect();
        let mut copy = connection
            .copy_in_raw(line.trim_end_matches(';'))
            .await
            .unwrap();
        copy.send(rows.as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
    }
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(connection)
        .await
        .unwrap();
}

async fn service(database: &TestDatabase) -> Service {
    let dump = std::fs::read_to_string(golden().join("fixture/pens_marts.sql")).unwrap();
    restore(&mut database.pool().acquire().await.unwrap(), &dump).await;
    // The restore emptied the search path of its session.
    sqlx::raw_sql("RESET ALL")
        .execute(database.pool())
        .await
        .unwrap();
    let clock = Clock::starting_at("2026-08-22T12:00:00Z".parse().unwrap());
    Service::open(&golden().join("model"), database.pool().clone(), clock).unwrap()
}

/// The feature that a case needs.
fn feature(name: &str) -> &'static str {
    let features = [
        ("auth", "authentication (web)"),
        ("acl", "access policies"),
        ("preaggs", "pre-aggregations"),
        ("rolling", "rolling windows"),
        ("mtd", "rolling windows"),
        ("multi_stage", "multi-stage"),
        ("time_shift", "multi-stage"),
        ("meta", "meta"),
        ("err", "errors"),
        ("filter", "filters"),
        ("td_", "time"),
        ("join", "joins"),
        ("view", "views"),
    ];
    features
        .iter()
        .find(|(part, _)| name.contains(part))
        .map_or("queries", |(_, feature)| feature)
}

async fn reply(service: &Service, request: &Value) -> Option<ApiReply> {
    let claims = request.get("claims").cloned().unwrap_or(Value::Null);
    let context = SecurityContext::from_claims(claims, "groups");
    let asked = match (&request["body"], &request["query_string"]) {
        (Value::Object(body), _) => Value::Object(body.clone()),
        (_, Value::Object(query)) => Value::Object(query.clone()),
        _ => json!({}),
    };
    Some(match request["path"].as_str()? {
        "/v1/load" => service.load(&asked, &context).await,
        "/v1/sql" => service.sql(&asked, &context),
        "/v1/dry-run" => service.dry_run(&asked, &context),
        "/v1/meta" => service.meta(&asked, &context),
        _ => return None,
    })
}

/// A case's complaints; empty when it passes.
fn compare(case: &Value, reply: &ApiReply) -> Vec<String> {
    let (wanted, got) = (case["status"].as_u64().unwrap(), u64::from(reply.status));
    let expected = &case["response"];
    let name = case["name"].as_str().unwrap();
    if wanted == 500 {
        return if (400..500).contains(&got) {
            vec![]
        } else {
            vec![format!("status {got}")]
        };
    }
    if wanted / 100 != got / 100 {
        return vec![format!("status {got}, want {wanted}: {}", reply.body)];
    }
    if wanted != 200 {
        let text = expected["error"].as_str().unwrap_or_default();
        let ours = reply.body["error"].as_str().unwrap_or_default();
        return if ours.contains(text) {
            vec![]
        } else {
            vec![format!("{ours:?}, want {text:?}")]
        };
    }
    if case["request"]["path"] == "/v1/load" {
        return compare_load(case, expected, &reply.body);
    }
    if name.starts_with("meta") {
        return compare_meta(expected, &reply.body);
    }
    let missing = |key: &&String| reply.body.get(key.as_str()).is_none();
    let keys = expected
        .as_object()
        .map(|o| o.keys().collect::<Vec<_>>())
        .unwrap_or_default();
    keys.into_iter()
        .filter(missing)
        .map(|key| format!("no key {key}"))
        .collect()
}

fn compare_load(case: &Value, expected: &Value, got: &Value) -> Vec<String> {
    let many = |body: &Value| match body.get("results") {
        Some(Value::Array(results)) => results.clone(),
        _ => vec![body.clone()],
    };
    let mut why = Vec::new();
    for key in ["queryType", "pivotQuery"] {
        if expected.get(key) != got.get(key) {
            why.push(format!(
                "{key}: {:?}, want {:?}",
                got.get(key),
                expected.get(key)
            ));
        }
    }
    for (want, have) in many(expected).iter().zip(&many(got)) {
        let ordered = case["ordered"].as_bool().unwrap_or(false);
        if rows(&want["data"], ordered) != rows(&have["data"], ordered) {
            let text = |value: &Value| value.to_string().chars().take(500).collect::<String>();
            why.push(format!(
                "data: {}, want {}",
                text(&have["data"]),
                text(&want["data"])
            ));
        }
        for key in ["annotation", "total", "query"] {
            if want.get(key) != have.get(key) {
                why.push(format!(
                    "{key}: {:?}, want {:?}",
                    have.get(key),
                    want.get(key)
                ));
            }
        }
    }
    why
}

/// Rows as comparable texts, whatever their format.
fn rows(data: &Value, ordered: bool) -> Vec<String> {
    let members = |data: &Value| -> Vec<String> {
        data["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.as_str().unwrap().into())
            .collect()
    };
    let objects: Vec<BTreeMap<String, Value>> = match data {
        Value::Array(rows) => rows
            .iter()
            .map(|row| row.as_object().unwrap().clone().into_iter().collect())
            .collect(),
        data if data.get("dataset").is_some() => data["dataset"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                members(data)
                    .into_iter()
                    .zip(row.as_array().unwrap().clone())
                    .collect()
            })
            .collect(),
        data => {
            let columns = data["columns"].as_array().unwrap();
            let count = columns
                .first()
                .map_or(0, |column| column.as_array().unwrap().len());
            (0..count)
                .map(|at| {
                    let cells = columns.iter().map(|column| column[at].clone());
                    members(data).into_iter().zip(cells).collect()
                })
                .collect()
        }
    };
    let mut texts: Vec<String> = objects
        .iter()
        .map(|row| serde_json::to_string(row).unwrap())
        .collect();
    if !ordered {
        texts.sort();
    }
    texts
}

fn compare_meta(expected: &Value, got: &Value) -> Vec<String> {
    let by_name = |body: &Value| -> Map<String, Value> {
        let cubes = body["cubes"].as_array().cloned().unwrap_or_default();
        cubes
            .into_iter()
            .map(|c| (c["name"].as_str().unwrap().to_owned(), c))
            .collect()
    };
    let (want, have) = (by_name(expected), by_name(got));
    let mut why = Vec::new();
    for name in want.keys().chain(have.keys()) {
        let (Some(a), Some(b)) = (want.get(name), have.get(name)) else {
            why.push(format!("cube {name} is in one of both"));
            continue;
        };
        for (key, value) in a.as_object().unwrap() {
            if key == "connectedComponent" || key == "fileName" || b.get(key) == Some(value) {
                continue;
            }
            let differs = |(x, y): &(&Value, &Value)| x != y;
            let pair = match (value, b.get(key)) {
                (Value::Array(x), Some(Value::Array(y))) => x
                    .iter()
                    .zip(y)
                    .find(differs)
                    .map(|(x, y)| format!("{y}, want {x}")),
                _ => None,
            };
            why.push(format!("{name}.{key}: {}", pair.unwrap_or_default()));
        }
    }
    why
}

#[tokio::test]
async fn the_recorded_answers_of_cube_are_ours_too() {
    let database = TestDatabase::create().await;
    let service = service(&database).await;
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden().join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (mut passed, mut elsewhere) = (0, Vec::new());
    let mut failed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let name = case["name"].as_str().unwrap().to_owned();
        if name.starts_with("auth") || case["request"]["raw"].is_string() {
            elsewhere.push(name);
            continue;
        }
        let Some(reply) = reply(&service, &case["request"]).await else {
            elsewhere.push(name);
            continue;
        };
        let why = compare(&case, &reply);
        if why.is_empty() {
            passed += 1;
        } else {
            let why: String = why.join("; ").chars().take(900).collect();
            failed
                .entry(feature(&name))
                .or_default()
                .push(format!("{name}: {why}"));
        }
    }
    println!(
        "{passed} pass; answered by the web server: {}",
        elsewhere.join(", ")
    );
    for (feature, cases) in &failed {
        println!("{feature}:");
        cases.iter().for_each(|case| println!("  {case}"));
    }
    assert!(
        passed >= PASS_MIN,
        "{passed} cases pass, {PASS_MIN} did before"
    );
}
