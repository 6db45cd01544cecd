//! The spine's figures, printed: `make bench`. Medians over several runs of the release binary on a
//! real PostgreSQL; nothing is asserted, so a busy machine prints worse figures and fails nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may stop"
)]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use support::{Folder, NOW, Stack, ballpoint, finish};

const SOURCES: [&str; 3] = ["refills", "bodies", "springs"];
const NEW_ROWS: u32 = 350;

#[tokio::main]
async fn main() {
    cold_and_second_start().await;
    one_pass().await;
    freshness().await;
    questions().await;
}

async fn cold_and_second_start() {
    for seed in ["42", "7", "1"] {
        let folder = Folder::new();
        let data_dir = folder.path().join("data");
        let begun = Instant::now();
        let mut stack = Stack::launch(&data_dir, |command| {
            command.args(["--seed", seed]);
        });
        stack.until_ready().await;
        let answer = stack.ask("pass rate by component").await;
        let cold = begun.elapsed();
        assert_eq!(answer["behaviour"], "answer", "{answer}");
        for _ in 0..50 {
            stack.ask("pass rate by component").await;
        }
        let rss = peak_rss_mib(stack.pid());
        stack.stop();
        let begun = Instant::now();
        let stack = Stack::launch(&data_dir, |_| {});
        stack.until_ready().await;
        stack.ask("pass rate by component").await;
        println!(
            "cold start to an answer, seed {seed:>2}: {:.2} s (bar 10 s); second start: {:.2} s (bar 2 s); \
             peak RSS {rss:.0} MiB (bar 150 MiB)",
            cold.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
        );
    }
}

/// `VmHWM` of `/proc/<pid>/status`: the most this process ever held.
fn peak_rss_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

async fn one_pass() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let (code, _, stderr) = finish(ballpoint(&data_dir).args(["run", "--now", NOW]));
    assert_eq!(code, 0, "{stderr}");
    let (mut with_rows, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        insert_rows(&data_dir).await;
        with_rows.push(timed_run(&data_dir, 3 * u64::from(NEW_ROWS)));
        verify_marts(&data_dir).await;
        without.push(timed_run(&data_dir, 0));
    }
    println!(
        "ballpoint run, {NEW_ROWS} new rows in each of 3 sources, whole process: median {:.3} s (bar 1 s)",
        median(&mut with_rows).as_secs_f64()
    );
    println!(
        "ballpoint run, nothing new, whole process: median {:.3} s",
        median(&mut without).as_secs_f64()
    );
}

async fn open(data_dir: &Path) -> Cluster {
    let databases = SOURCES.into_iter().chain(["warehouse"]);
    Cluster::open(&ClusterOptions::new(data_dir, databases))
        .await
        .unwrap()
}

async fn insert_rows(data_dir: &Path) {
    let cluster = open(data_dir).await;
    for source in SOURCES {
        let pool = PgPool::connect(&cluster.url(source)).await.unwrap();
        let table = format!("public.{source}_production");
        let columns: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
             where attrelid = '{table}'::regclass and attnum > 0 and attname not in ('id', 'updated_at', 'operator_id', 'cycle_time_seconds')"
        )))
        .fetch_one(&pool)
        .await
        .unwrap();
        // Recent units once more, each by another operator in its own time: a batch is not repeated.
        let sql = format!(
            "insert into {table} ({columns}, updated_at, operator_id, cycle_time_seconds)
             select {columns}, (select max(updated_at) from {table}) + interval '1 second',
                    'OP-' || lpad((1 + (id * 7) % 30)::text, 3, '0'), cycle_time_seconds + 0.01
             from {table} order by id desc limit {NEW_ROWS}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }
    cluster.stop().await.unwrap();
}

fn timed_run(data_dir: &Path, rows: u64) -> Duration {
    let begun = Instant::now();
    let (code, stdout, stderr) = finish(ballpoint(data_dir).args(["run", "--json", "--now", NOW]));
    let elapsed = begun.elapsed();
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["rows_loaded"], rows, "{report}");
    elapsed
}

/// The fact holds exactly the sources' rows: count and an order-independent checksum per source.
async fn verify_marts(data_dir: &Path) {
    let cluster = open(data_dir).await;
    let warehouse = PgPool::connect(&cluster.url("warehouse")).await.unwrap();
    const CHECK: &str = "count(*), coalesce(sum(hashtextextended(row(machine_id, batch_id, operator_id, \
         cycle_time_seconds, oee, quality_status, updated_at)::text, 0)::numeric), 0)::text";
    for source in SOURCES {
        let own = PgPool::connect(&cluster.url(source)).await.unwrap();
        let expected: (i64, String) = sqlx::query_as(AssertSqlSafe(format!(
            "select {CHECK} from public.{source}_production"
        )))
        .fetch_one(&own)
        .await
        .unwrap();
        let found: (i64, String) = sqlx::query_as(AssertSqlSafe(format!(
            "select {CHECK} from marts.fct_production where component_type = '{source}'"
        )))
        .fetch_one(&warehouse)
        .await
        .unwrap();
        assert_eq!(expected, found, "{source}");
        own.close().await;
    }
    warehouse.close().await;
    cluster.stop().await.unwrap();
}

async fn freshness() {
    let stack = Stack::start().await;
    let source = stack.pool("springs").await;
    let query = json!({"measures": ["Production.count"]});
    let mut times = Vec::new();
    for i in 0..20_u64 {
        // Not in step with the watcher.
        tokio::time::sleep(Duration::from_millis(300 + i * 37 % 200)).await;
        let before = stack.load(query.clone()).await;
        sqlx::query(include_str!("one_unit.sql"))
            .execute(&source)
            .await
            .unwrap();
        let begun = Instant::now();
        while stack.load(query.clone()).await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "a row inserted in a source shows in /cubejs-api/v1/load: p50 {} ms, p95 {} ms, max {} ms over 20 (bar p95 2000 ms)",
        times[9].as_millis(),
        times[18].as_millis(),
        times[19].as_millis()
    );
}

async fn questions() {
    let stack = Stack::start().await;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/questions/questions.jsonl"
    );
    let (code, stdout, stderr) = finish(ballpoint(stack.data_dir()).args(["eval", "--json", file]));
    assert_eq!(code, 0, "{stderr}");
    println!("questions: {}", stdout.lines().last().unwrap_or_default());
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
