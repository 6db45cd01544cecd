//! The metrics' figures, printed: `make bench-metrics`. The release binary over HTTP beside an axum
//! echo on the same machine in the same minute, and rollups over ten million rows in this process.
//! Nothing is asserted, so a busy machine prints worse figures and fails nothing; the load is printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints and may stop"
)]

#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use axum::routing::get;
use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::plan;
use ballpoint_metrics::{
    MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, Model, SecurityContext, Service,
    registry,
};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{ActorSpec, Scope, Strategy, SupervisorSpec, Tree};
use ballpoint_runtime::trace::TraceContext;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::{Folder, Stack};

/// Rows of the fact table; `BALLPOINT_BENCH_ROWS` asks for fewer.
const FACTS: u64 = 10_000_000;
const RUNS: usize = 200;

#[tokio::main]
async fn main() {
    println!(
        "load average {}",
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    compile();
    cache_hits().await;
    rollups().await;
    println!(
        "load average {}",
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
}

fn median(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1000.0;
    (ms(times.len() / 2), ms(times.len() * 99 / 100))
}

/// A hundred cubes of a dozen members, joined in a chain.
fn compile() {
    let files: Vec<SourceFile> = (0..100)
        .map(|at| {
            let next = (at + 1) % 100;
            let text = format!(
                "cubes:\n  - name: Cube{at}\n    sql_table: marts.t{at}\n    joins:\n      - {{name: Cube{next}, relationship: many_to_one, sql: \"{{CUBE}}.next = {{Cube{next}}}.id\"}}\n    dimensions:\n      - {{name: id, sql: id, type: number, primary_key: true}}\n{}    measures:\n      - {{name: count, type: count}}\n{}",
                (0..6).map(|n| format!("      - {{name: d{n}, sql: d{n}, type: string}}\n")).collect::<String>(),
                (0..4).map(|n| format!("      - {{name: m{n}, sql: \"{{CUBE}}.m{n} * 100.0 / nullif({{CUBE}}.d{n}, 0)\", type: sum}}\n")).collect::<String>(),
            );
            SourceFile { name: format!("cube{at}.yml"), text }
        })
        .collect();
    let times = (0..15).map(|_| {
        let begun = Instant::now();
        assert_eq!(Model::compile(&files).unwrap().cubes.len(), 100);
        begun.elapsed()
    });
    println!(
        "compile of 100 cubes: median {:.1} ms (bar 20 ms)",
        median(times.collect()).0
    );
}

/// What `wrk` found: requests a second, the median and the 99th percentile.
fn wrk(url: &str, token: &str, connections: u32) -> (f64, String, String) {
    let found = Command::new("wrk")
        .args(["-t1", "-d5s", "--latency", &format!("-c{connections}")])
        .args(["-H", &format!("Authorization: Bearer {token}"), url])
        .output()
        .expect("wrk is installed: tools/setup bench");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let after = |mark: &str| {
        let line = text
            .lines()
            .find(|line| line.trim().starts_with(mark))
            .expect(mark);
        line.split_whitespace().last().unwrap().to_owned()
    };
    (
        after("Requests/sec:").parse().unwrap(),
        after("50%"),
        after("99%"),
    )
}

async fn cache_hits() {
    let folder = Folder::new();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        command.env("BALLPOINT__AUTH__REQUESTS_PER_SECOND", "10000000");
    });
    stack.until_ready().await;
    let query = json!({
        "measures": ["Production.count", "Production.passRate"], "dimensions": ["Production.componentType"],
        "timeDimensions": [{ "dimension": "Production.productionDate", "granularity": "day", "dateRange": ["2026-03-01", "2026-03-31"] }],
    });
    let rows = stack.load(query.clone()).await.len();
    let url = format!(
        "{}/cubejs-api/v1/load?query={}",
        stack.base,
        encoded(&query.to_string())
    );
    let body = reqwest::Client::new()
        .get(&url)
        .bearer_auth(&stack.token)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let echo = format!(
        "http://{}/echo?query={}",
        listener.local_addr().unwrap(),
        encoded(&query.to_string())
    );
    let same = body.clone();
    let router = axum::Router::new().route("/echo", get(move || async move { same.clone() }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    println!(
        "cache hit of {rows} rows, {} bytes; beside it an axum handler that returns the same bytes:",
        body.len()
    );
    for connections in [1, 32] {
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push((
                wrk(&url, &stack.token, connections),
                wrk(&echo, "", connections),
            ));
        }
        all.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
        let ((ours, p50, p99), (theirs, echo_p50, _)) = &all[1];
        println!(
            "  {connections:>2} connections: {ours:.0} req/s, p50 {p50}, p99 {p99}; axum {theirs:.0} req/s, p50 {echo_p50}; ratio {:.2} (bars: p50 0.2 ms at 1, 20,000 req/s at 32)",
            ours / theirs
        );
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

const MODEL: &str = r#"
cubes:
  - name: Facts
    sql_table: marts.facts
    dimensions:
      - {name: component, sql: component, type: string}
      - {name: line, sql: line, type: string}
      - {name: machine, sql: machine, type: string}
      - {name: at, sql: at, type: time}
    measures:
      - {name: count, type: count}
      - {name: passed, type: sum, sql: passed}
      - {name: cost, type: sum, sql: cost}
      - {name: passRate, type: number, sql: "100.0 * {passed} / nullif({count}, 0)"}
    pre_aggregations:
      - name: main
        measures: [count, passed, cost]
        dimensions: [component, line, machine]
        time_dimension: at
        granularity: day
"#;

async fn timed(service: &Service, query: &Value) -> (f64, f64) {
    let request = json!({ "query": query });
    let nobody = SecurityContext::default();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let reply = service.load(&request, &nobody).await;
        times.push(begun.elapsed());
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    median(times)
}

async fn rollups() {
    let facts: u64 = std::env::var("BALLPOINT_BENCH_ROWS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(FACTS);
    let database = TestDatabase::create().await;
    let sql = format!(
        "create schema marts; create unlogged table marts.facts as
         select timestamptz '2024-09-01 00:00Z' + (i % 730) * interval '1 day' + (i % 86400) * interval '1 second' as at,
                'component' || i % 3 as component, 'line' || i % 7 as line, 'machine' || i % 5 as machine,
                (i % 10 > 0)::int as passed, ((i % 997) * 0.01)::numeric(10, 2) as cost
         from generate_series(1, {facts}) i; analyze marts.facts"
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(database.pool())
        .await
        .unwrap();
    let store = Store::open(database.pool().clone()).await.unwrap();
    let relations = vec![TableName::new("marts", "facts")];
    let event = Event::BuildPublished {
        run_id: String::new(),
        relations,
        tests_passed: 0,
        absent: Vec::new(),
    };
    store
        .events()
        .publish(event, TraceContext::default())
        .await
        .unwrap();
    let folder = Folder::new();
    std::fs::write(folder.path().join("facts.yml"), MODEL).unwrap();
    let scope = Scope::unique();
    let args = MetricRegistryArgs::new(
        folder.path(),
        database.pool().clone(),
        Some(store),
        Clock::system(),
    );
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(ActorSpec::new(
        registry::NAME,
        MetricRegistry,
        move || args.clone(),
    ));
    let tree = Tree::start(scope.clone(), root, None).await.unwrap();
    let handle = MetricRegistryHandle::new(&scope);
    let service = loop {
        let service = handle.service().await.unwrap();
        if service.rollups.status().iter().any(|it| it.rows.is_some()) {
            break service;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let status = service.rollups.status();
    println!(
        "rollup of {facts} rows: {} rows, built in {} ms, in memory: {}",
        status[0].rows.unwrap(),
        status[0].build_ms.unwrap_or_default(),
        status[0].in_memory
    );
    let query = |measures: Value, range: Value| {
        json!({
            "measures": measures, "dimensions": ["Facts.component"],
            "timeDimensions": [{ "dimension": "Facts.at", "granularity": "day", "dateRange": range }],
        })
    };
    let range = json!(["2026-07-01", "2026-07-31"]);
    let memory = timed(
        &service,
        &query(json!(["Facts.count", "Facts.cost"]), range.clone()),
    )
    .await;
    println!(
        "in-memory rollup, 31 days, planning and JSON included: p50 {:.2} ms, p99 {:.2} ms (bar 0.5 ms)",
        memory.0, memory.1
    );
    let table = timed(
        &service,
        &query(
            json!(["Facts.count", "Facts.passRate", "Facts.cost"]),
            range.clone(),
        ),
    )
    .await;
    println!(
        "PostgreSQL rollup, 31 days, with a calculated measure: p50 {:.2} ms, p99 {:.2} ms (bar 3 ms)",
        table.0, table.1
    );
    planning(
        &service,
        &query(
            json!(["Facts.count", "Facts.passRate", "Facts.cost"]),
            range,
        ),
    );
    tree.stop(Duration::from_secs(10)).await;
}

/// What a miss costs beside its SQL: reading, normalizing and planning.
fn planning(service: &Service, query: &Value) {
    let nobody = SecurityContext::default();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let (_, queries) = plan::normalize(query, service.clock.business_now()).unwrap();
        let planned = plan::plan(&service.snapshot.model, &queries[0], &nobody).unwrap();
        assert!(!planned.statement.sql().is_empty());
        times.push(begun.elapsed());
    }
    let (p50, p99) = median(times);
    println!("planner overhead on a miss: p50 {p50:.3} ms, p99 {p99:.3} ms (bar 0.5 ms)");
}
