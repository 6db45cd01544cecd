//! kill -9 at random moments, and an abort at each durable step: raw ends equal to the source.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, PgPool};

use crate::freshness::INSERT_ONE;
use crate::support::{Folder, PATIENCE, Stack, StopCluster, until};

const TABLE: &str = "springs_production";

/// Writes into the source until told to stop: new rows, and updates that move the cursor.
struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Writer {
    fn start(pool: PgPool, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut random = StdRng::seed_from_u64(seed);
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let sql = if random.random_bool(0.5) {
                        INSERT_ONE.to_owned()
                    } else {
                        let id = random.random_range(1..2000);
                        format!(
                            "update public.{TABLE} set cycle_time_seconds = cycle_time_seconds + 0.01,
                                 updated_at = clock_timestamp() where id = {id}"
                        )
                    };
                    // The cluster is an orphan now and then; it answers all the same.
                    if sqlx::raw_sql(AssertSqlSafe(sql))
                        .execute(&pool)
                        .await
                        .is_ok()
                    {
                        written += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
                }
                written
            }
        });
        Self { stop, task }
    }

    async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn hash(pool: &PgPool, schema: &str) -> (i64, String) {
    let columns: String = sqlx::query_scalar(AssertSqlSafe(format!(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
         where attrelid = '{schema}.{TABLE}'::regclass and attnum > 0 and not attisdropped
           and attname !~ '^_(airbyte|ab)_'"
    )))
    .fetch_one(pool)
    .await
    .unwrap();
    sqlx::query_as(AssertSqlSafe(format!(
        "select count(*), coalesce(sum(hashtextextended(row({columns})::text, 0)::numeric), 0)::text
         from {schema}.{TABLE}"
    )))
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn raw_becomes_equal_to_the_source(stack: &Stack) {
    let (source, warehouse) = (stack.pool("springs").await, stack.pool("warehouse").await);
    let expected = hash(&source, "public").await;
    until("raw equals the source, row by row", PATIENCE, || async {
        (hash(&warehouse, "raw").await == expected).then_some(())
    })
    .await;
    let doubled: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "select count(*) - count(distinct id) from raw.{TABLE}"
    )))
    .fetch_one(&warehouse)
    .await
    .unwrap();
    assert_eq!(doubled, 0);
    until("the fact has every row of raw", PATIENCE, || async {
        let (fact, raw): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
            "select (select count(*) from marts.fct_production where component_type = 'springs'),
                    (select count(*) from raw.{TABLE})"
        )))
        .fetch_one(&warehouse)
        .await
        .unwrap();
        (fact == raw).then_some(())
    })
    .await;
}

fn launch(data_dir: &Path, abort_at: Option<&str>) -> Stack {
    Stack::launch(data_dir, |command| {
        if let Some(step) = abort_at {
            command.env("BALLPOINT_ABORT_AT", step);
        }
    })
    .leaving_its_cluster()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_at_random_moments_lose_and_double_nothing() {
    const SEED: u64 = 20_260_331;
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let _cluster = StopCluster(data_dir.clone());
    let mut random = StdRng::seed_from_u64(SEED);
    println!("seed {SEED}");
    let mut stack = launch(&data_dir, None);
    // The first kills fall into the start and the first load themselves.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        stack.kill();
        stack = launch(&data_dir, None);
    }
    stack.until_ready().await;
    let writer = Writer::start(stack.pool("springs").await, SEED);
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        stack.kill();
        stack = launch(&data_dir, None);
    }
    let written = writer.finish().await;
    assert!(written > 50, "the writer was at work: {written}");
    stack.until_ready().await;
    raw_becomes_equal_to_the_source(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_at_each_durable_step_loses_and_doubles_nothing() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let _cluster = StopCluster(data_dir.clone());
    let mut stack = launch(&data_dir, None);
    stack.until_ready().await;
    let mut random = StdRng::seed_from_u64(7);
    for step in DURABLE_STEPS {
        let writer = Writer::start(stack.pool("springs").await, random.random());
        stack.kill();
        let mut dying = launch(&data_dir, Some(step));
        let limit = Instant::now() + PATIENCE;
        while !dying.has_ended() {
            assert!(Instant::now() < limit, "the process goes on past {step}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack = launch(&data_dir, None);
        writer.finish().await;
        stack.until_ready().await;
        raw_becomes_equal_to_the_source(&stack).await;
    }
}

/// Each step of the loader and the transformer after which something is durable, or just before.
const DURABLE_STEPS: [&str; 9] = [
    "loader.before_copy",
    "loader.mid_copy",
    "loader.before_checkpoint",
    "loader.before_commit",
    "loader.after_commit",
    "transformer::before_build",
    "transformer::mid_transaction",
    "transformer::before_commit",
    "transformer::after_commit",
];
