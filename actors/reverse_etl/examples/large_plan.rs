//! Plans and applies a large table with few changes and prints what it took:
//! `cargo run -p ballpoint-reverse-etl --example large_plan -- 1000000 10000`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, run by hand"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_reverse_etl::{WriteBacks, WriteBacksConfig};
use ballpoint_runtime::store::Store;
use sqlx::AssertSqlSafe;

const SYNC: &str = "\
syncs:
  - name: large
    model: public.wanted
    source: shop
    table: public.had
    mode: upsert
    key:
      - {column: id, type: bigint}
    columns:
      - {column: name, type: text}
      - {column: score, type: 'numeric(8,2)'}
      - {column: held, type: boolean}
    limits: {max_rows: 10000000, max_changed_percent: 100}
";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|it| it.parse::<u64>().unwrap());
    let rows = arguments.next().unwrap_or(1_000_000);
    let changes = arguments.next().unwrap_or(10_000).max(1);
    let (warehouse, target) = (TestDatabase::create().await, TestDatabase::create().await);
    for (database, table) in [(&warehouse, "wanted"), (&target, "had")] {
        let sql = format!(
            "create table public.{table} (id bigint primary key, name text, score numeric(8,2), held boolean);
             insert into public.{table} select n, 'row ' || n, n % 100, false from generate_series(1, {rows}) n;
             analyze public.{table}"
        );
        let pool = database.pool();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(pool)
            .await
            .unwrap();
    }
    let change = format!(
        "update public.wanted set held = true where id % {} = 0",
        rows / changes
    );
    sqlx::raw_sql(AssertSqlSafe(change))
        .execute(warehouse.pool())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large.yml"), SYNC).unwrap();
    let config = WriteBacksConfig {
        folder: folder.path().to_owned(),
        sources: BTreeMap::from([("shop".to_owned(), target.url().to_owned())]),
    };
    let store = Store::open(warehouse.pool().clone()).await.unwrap();
    let library = WriteBacks::new(store, config);
    let began = Instant::now();
    let plan = library.plan("large", "by hand").await.unwrap();
    println!(
        "planned {rows} rows, {} changed: {:?}",
        plan.counts.changed,
        began.elapsed()
    );
    let hash = plan.hash.clone().unwrap();
    library
        .approve(plan.id, &hash, "by hand", None)
        .await
        .unwrap();
    let began = Instant::now();
    let applied = library.apply(plan.id, "by hand").await.unwrap();
    println!(
        "applied {} rows: {:?}",
        applied.written.unwrap(),
        began.elapsed()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!(
        "largest resident set of this process: {}",
        peak.trim_start_matches("VmHWM:").trim()
    );
}
