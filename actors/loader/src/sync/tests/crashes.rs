//! Stopped at every durable step and at random moments, a load leaves all of its rows or none.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::*;

const STEPS: [&str; 5] = [
    "loader.before_copy",
    "loader.mid_copy",
    "loader.before_checkpoint",
    "loader.before_commit",
    "loader.after_commit",
];

/// What must hold at every moment: the checkpoint stands exactly where the rows stand. One ahead of
/// its rows loses them at the next sync; one behind makes a table without a key double them.
async fn assert_rows_and_checkpoint_agree(pair: &Pair, table: &str) {
    let known: Option<i64> = sqlx::query_scalar(
        "select (position->'snapshot'->>'xmax')::bigint from ballpoint.checkpoints",
    )
    .fetch_optional(pair.warehouse.pool())
    .await
    .unwrap();
    let landed: Option<String> = one(
        pair.warehouse.pool(),
        &format!("select to_regclass('raw.{table}')::text"),
    )
    .await;
    assert_eq!(
        known.is_some(),
        landed.is_some(),
        "rows without checkpoint or the reverse"
    );
    let Some(xmax) = known else { return };
    let there: i64 = one(
        pair.source.pool(),
        &format!("select count(*) from {table} where xmin::text::bigint < {xmax}"),
    )
    .await;
    let here: i64 = one(
        pair.warehouse.pool(),
        &format!("select count(*) from raw.{table}"),
    )
    .await;
    assert_eq!(
        here, there,
        "the checkpoint does not stand where the rows stand"
    );
}

/// The crash points are global to the process: nothing else may load meanwhile.
async fn stopped_at_each_step(action: &str) {
    let _alone = CRASH_POINTS.write().await;
    for step in STEPS {
        let pair = Pair::keyless().await;
        for round in 0..3 {
            fail::cfg(step, action).unwrap();
            let sync = AssertUnwindSafe(pair.try_sync(false));
            let stopped = sync.catch_unwind().await;
            fail::remove(step);
            assert!(!matches!(stopped, Ok(Ok(_))), "{step} was not reached");
            assert_rows_and_checkpoint_agree(&pair, "log").await;
            pair.sync().await;
            pair.assert_equal("log").await;
            pair.in_source(&format!("insert into log values ('after {round}')"))
                .await;
        }
    }
}

#[tokio::test]
async fn failing_at_any_step_leaves_rows_and_checkpoint_in_agreement() {
    stopped_at_each_step("return").await;
}

#[tokio::test]
async fn panicking_at_any_step_leaves_rows_and_checkpoint_in_agreement() {
    stopped_at_each_step("panic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_at_random_moments_a_sync_resumes_without_loss_or_double() {
    let pair = Pair::with(ORDERS).await;
    let started = Instant::now();
    pair.sync().await;
    let whole = started.elapsed();
    for step in 0..24_u32 {
        pair.in_source(&format!(
            "insert into orders (customer) select 'r{step} ' || n from generate_series(1, 200) n;
             update orders set amount = {step}, updated_at = clock_timestamp() where id % 9 = {}",
            step % 9
        ))
        .await;
        // Dropping the future is what a kill is to the warehouse: its connection goes away.
        let after = whole * (step % 12) / 12;
        let _ = tokio::time::timeout(after, pair.try_sync(step % 3 == 0)).await;
        if step % 4 == 0 {
            pair.sync().await;
            pair.assert_equal("orders").await;
        }
    }
    pair.sync().await;
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn two_loaders_of_one_table_take_turns() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source("insert into orders (customer) values ('once')")
        .await;
    let (first, second) = tokio::join!(pair.try_sync(false), pair.try_sync(false));
    assert_eq!(first.unwrap().changed() + second.unwrap().changed(), 1);
    pair.assert_equal("orders").await;
}
