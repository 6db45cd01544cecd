//! Change data capture beside PostgreSQL's own subscription, printed: the same burst of single-row
//! transactions, the same two servers, and how long a committed row takes to be seen.
//!
//! `cargo bench -p ballpoint-loader --bench changes`; `make bench-el` runs it too. Nothing is
//! asserted but that both sides end with the same rows: a busy machine prints worse figures.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints and may stop"
)]

use std::time::{Duration, Instant};

use ballpoint_loader::Loader;
use ballpoint_loader::changes::{Follower, Until};
use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use ballpoint_postgres::pool::{PoolOptions, connect};
use ballpoint_postgres::testing::DataDir;
use ballpoint_runtime::segment::SourceReader;
use ballpoint_runtime::store::Store;
use ballpoint_source::{Mode, PostgresSource, PostgresSourceConfig};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

const RUNS: usize = 5;
/// Transactions in a burst; `BALLPOINT_BENCH_BURST` makes it another.
const BURST: u32 = 100_000;
const COMMITS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(5);

/// As wide as the table of the other benchmarks: 27 columns.
const TABLE: &str = "
create table production (
  id bigint primary key, machine_id text, batch text, shift int, operator text, product text,
  m1 numeric(8,3), m2 numeric(8,3), m3 numeric(8,3), m4 numeric(8,3), m5 numeric(8,3), m6 numeric(8,3),
  f1 float8, f2 float8, f3 float8, f4 float8, ok boolean, defects int, grade char(1), note text,
  cost numeric(10,2), energy float8, started timestamptz, ended timestamptz, day date,
  created_at timestamptz, updated_at timestamptz)";

fn row(id: &str) -> String {
    format!(
        "{id}, 'MACHINE-' || {id} % 20, 'B-' || {id} / 100, ({id} % 3)::int, 'op ' || {id} % 40, 'refill',
         1.234, 2.345, 3.456, 4.567, 5.678, 6.789, 0.1, 0.2, 0.3, 0.4, true, 0, 'A', 'nothing to note',
         12.34, 5.5, now(), now(), current_date, now(), now()"
    )
}

#[tokio::main]
async fn main() {
    let bench = Bench::start().await;
    bench.rates().await;
    bench.latencies().await;
}

struct Bench {
    _clusters: Vec<(DataDir, Cluster)>,
    source_url: String,
    source: PgPool,
    warehouse: PgPool,
    native: PgPool,
    follower: Follower,
}

impl Bench {
    async fn start() -> Self {
        let (one, other) = (
            cluster(&["shop"]).await,
            cluster(&["warehouse", "native"]).await,
        );
        let (source_url, warehouse_url) = (one.1.url("shop"), other.1.url("warehouse"));
        let options = || PoolOptions::named("bench");
        let source = connect(&source_url, options()).await.unwrap();
        let warehouse = connect(&warehouse_url, options()).await.unwrap();
        let native = connect(&other.1.url("native"), options()).await.unwrap();
        run(&source, TABLE).await;
        run(&native, TABLE).await;
        run(&source, "create publication native for table production").await;
        run(&native, &format!(
            "create subscription native connection '{source_url}' publication native with (copy_data = false)"
        ))
        .await;
        let store = Store::open(warehouse.clone()).await.unwrap();
        let mut config = PostgresSourceConfig::new("shop", &source_url);
        config.mode = Some(Mode::Cdc);
        let reader = PostgresSource::new(config).unwrap();
        let follower = Follower::new(Loader::new(store, "raw"), reader.changes().unwrap());
        follower.catch_up(&[]).await.unwrap();
        Self {
            _clusters: vec![one, other],
            source_url,
            source,
            warehouse,
            native,
            follower,
        }
    }

    /// Each side catches up with the same backlog, one after the other.
    async fn rates(&self) {
        let asked = std::env::var("BALLPOINT_BENCH_BURST").ok();
        let burst = asked.map_or(BURST, |text| text.parse().unwrap());
        let (mut ours, mut natives) = (Vec::new(), Vec::new());
        for at in 0..RUNS {
            run(&self.native, "alter subscription native disable").await;
            let at = u32::try_from(at).unwrap();
            let (from, to) = (1 + at * burst, (at + 1) * burst);
            write_burst(&self.source_url, from, to).await;
            let measure_native = async {
                let begun = Instant::now();
                run(&self.native, "alter subscription native enable").await;
                until_there(&self.native, "production", to).await;
                begun.elapsed().as_secs_f64()
            };
            let measure_ours = async {
                let begun = Instant::now();
                self.follower.catch_up(&[]).await.unwrap();
                until_there(&self.warehouse, "raw.production", to).await;
                begun.elapsed().as_secs_f64()
            };
            // Who goes first changes: the second finds the log in memory.
            if at % 2 == 0 {
                natives.push(measure_native.await);
                ours.push(measure_ours.await);
            } else {
                ours.push(measure_ours.await);
                natives.push(measure_native.await);
            }
        }
        self.assert_equal().await;
        let rate = |times: &mut Vec<f64>| f64::from(burst) / median(times);
        let (ours_rate, native_rate) = (rate(&mut ours), rate(&mut natives));
        println!(
            "apply, {burst} single-row transactions, median of {RUNS}: ballpoint {ours_rate:.0} tx/s \
             ({:.2} s), native subscription {native_rate:.0} tx/s ({:.2} s): {:.2} x native (bar 1.0); \
             peak RSS {:.0} MiB, harness included",
            median(&mut ours),
            median(&mut natives),
            ours_rate / native_rate,
            peak_rss_mib(),
        );
    }

    /// From the commit's acknowledgement to the row in a query on the other server.
    async fn latencies(&self) {
        let follower = self.follower.clone();
        let following = tokio::spawn(async move { follower.follow(Until::Forever).await });
        let mut next = 10_000_000;
        for (name, pool, table) in [
            ("native subscription", &self.native, "production"),
            ("ballpoint", &self.warehouse, "raw.production"),
        ] {
            let mut waits = Vec::new();
            for at in 0..COMMITS * 3 + 50 {
                next += 1;
                let waited = self.one_row(pool, table, next).await;
                // The first ones prepare statements.
                if at >= 50 {
                    waits.push(waited);
                }
                tokio::time::sleep(PAUSE).await;
            }
            waits.sort_by(f64::total_cmp);
            let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
            println!(
                "commit to visible, {} commits {} ms apart, {name}: p50 {:.2} ms, p90 {:.2}, p99 {:.2}, max {:.2}",
                waits.len(),
                PAUSE.as_millis(),
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0),
            );
        }
        println!("bars: p50 5 ms, p99 15 ms");
        following.abort();
    }

    /// Milliseconds.
    async fn one_row(&self, pool: &PgPool, table: &str, id: u32) -> f64 {
        let insert = format!("insert into production select {}", row("$1::bigint"));
        let mut looking = pool.acquire().await.unwrap();
        sqlx::query(AssertSqlSafe(insert))
            .bind(i64::from(id))
            .execute(&self.source)
            .await
            .unwrap();
        let begun = Instant::now();
        let look = format!("select exists (select from {table} where id = $1)");
        loop {
            let there: bool = sqlx::query_scalar(AssertSqlSafe(look.clone()))
                .bind(i64::from(id))
                .fetch_one(&mut *looking)
                .await
                .unwrap();
            if there {
                return begun.elapsed().as_secs_f64() * 1000.0;
            }
        }
    }

    async fn assert_equal(&self) {
        let hash = |table: &str| {
            format!(
                "select count(*) || ' ' || sum(hashtextextended(row(id, machine_id, m1, f1, started, updated_at)::text, 0)::numeric)
                 from {table}"
            )
        };
        let mut hashes = Vec::new();
        for (pool, table) in [
            (&self.source, "production"),
            (&self.native, "production"),
            (&self.warehouse, "raw.production"),
        ] {
            let hash: String = sqlx::query_scalar(AssertSqlSafe(hash(table)))
                .fetch_one(pool)
                .await
                .unwrap();
            hashes.push(hash);
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    }
}

/// Single-row transactions, made in the server by a session of its own: the settings end with it.
async fn write_burst(url: &str, from: u32, to: u32) {
    let mut session = PgConnection::connect(url).await.unwrap();
    // Two statements, because a block commits only outside a transaction, which several at once are.
    for statement in [
        "set synchronous_commit = off".to_owned(),
        format!(
            "do $$ begin for id in {from}..{to} loop
               insert into production select {}; commit; end loop; end $$",
            row("id")
        ),
    ] {
        session.execute(AssertSqlSafe(statement)).await.unwrap();
    }
}

async fn until_there(pool: &PgPool, table: &str, id: u32) {
    let look = format!("select exists (select from {table} where id = {id})");
    loop {
        let there: bool = sqlx::query_scalar(AssertSqlSafe(look.clone()))
            .fetch_one(pool)
            .await
            .unwrap();
        if there {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

/// A server of its own, durable as a user's is.
async fn cluster(databases: &[&str]) -> (DataDir, Cluster) {
    let dir = DataDir::create();
    let databases = databases.iter().map(|name| (*name).to_owned());
    let mut options = ClusterOptions::new(dir.path(), databases);
    options.settings = [
        ("shared_buffers", "512MB"),
        ("max_wal_size", "4GB"),
        ("max_connections", "60"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let cluster = Cluster::open(&options).await.unwrap();
    (dir, cluster)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
