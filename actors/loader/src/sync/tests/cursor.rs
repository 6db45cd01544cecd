//! No row is lost at the boundary of a cursor.

use super::*;

/// `orders` counts as a large table, so that the narrow read is what is tested.
async fn large() -> Pair {
    Pair::configured(ORDERS, |config| config.sweep_pages_max = 0).await
}

/// Syncs until raw equals the source: on a large table rows that hide from both indexes wait until
/// PostgreSQL's counters report them.
async fn settle(pair: &Pair) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        pair.sync().await;
        let hash = "select count(*) || '/' || coalesce(sum(hashtextextended(id || customer
                      || updated_at || amount, 0)), 0) from ";
        let there: String = one(pair.source.pool(), &format!("{hash} orders")).await;
        let here: String = one(pair.warehouse.pool(), &format!("{hash} raw.orders")).await;
        if here == there || Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn late_commit(pair: &Pair) {
    pair.sync().await;
    let mut late = pair.source.pool().begin().await.unwrap();
    sqlx::raw_sql(
        "insert into orders (customer) values ('late'); savepoint s;
         insert into orders (customer) values ('later still'); release s;
         update orders set customer = 'late update', updated_at = now() where id = 7",
    )
    .execute(&mut *late)
    .await
    .unwrap();
    pair.in_source("insert into orders (customer) values ('early')")
        .await;
    let between = pair.sync().await;
    assert_eq!(between.inserted, 1);
    late.commit().await.unwrap();
    settle(pair).await;
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn rows_committed_after_later_rows_were_read_arrive() {
    late_commit(&Pair::with(ORDERS).await).await;
}

#[tokio::test]
async fn rows_committed_late_arrive_in_a_large_table_too() {
    late_commit(&large().await).await;
}

async fn odd_cursors(pair: Pair) {
    pair.sync().await;
    let tie = "insert into orders (customer, updated_at)
               values ('tie', timestamptz '2026-01-01' + interval '500 seconds')";
    pair.in_source(tie).await;
    pair.sync().await;
    pair.in_source(tie).await;
    pair.in_source("insert into orders (customer, updated_at) values ('old', '1999-01-01')")
        .await;
    pair.sync().await;
    pair.assert_equal("orders").await;
    let ahead = "insert into orders (customer, updated_at) values ('mad clock', '2999-01-01')";
    pair.in_source(ahead).await;
    pair.sync().await;
    pair.in_source(
        "update orders set customer = 'after', updated_at = now() where id = 11;
         update orders set customer = 'backdated', updated_at = '1990-01-01' where id = 12",
    )
    .await;
    settle(&pair).await;
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn ties_backdated_rows_and_a_cursor_from_the_future_are_all_read() {
    odd_cursors(Pair::with(ORDERS).await).await;
}

#[tokio::test]
async fn odd_cursors_of_a_large_table_are_all_read() {
    odd_cursors(large().await).await;
}

#[tokio::test]
async fn rows_without_a_key_are_appended_exactly_once() {
    let _open = CRASH_POINTS.read().await;
    let pair = Pair::keyless().await;
    pair.sync().await;
    let mut late = pair.source.pool().begin().await.unwrap();
    sqlx::raw_sql("insert into log values ('late')")
        .execute(&mut *late)
        .await
        .unwrap();
    pair.in_source("insert into log values ('early')").await;
    pair.sync().await;
    late.commit().await.unwrap();
    pair.in_source("insert into log values ('last')").await;
    pair.sync().await;
    pair.sync().await;
    pair.assert_equal("log").await;
}

/// Holds transactions open across syncs, moves the cursor back and forth and collides on it.
async fn writer(pool: PgPool, seed: u64) {
    let mut state = seed;
    for _ in 0..25 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let roll = state >> 33;
        let mut transaction = pool.begin().await.unwrap();
        let set = match roll % 4 {
            0 => "clock_timestamp()".to_owned(),
            1 => "now()".to_owned(),
            2 => "timestamptz '2026-01-01 00:08:20'".to_owned(),
            _ => format!(
                "timestamptz '2026-01-01' + {} * interval '1 s'",
                roll % 9000
            ),
        };
        let id = roll % 500 + 1;
        let sql = format!(
            "insert into orders (customer, updated_at) values ('w{seed} {roll}', {set});
             update orders set customer = 'u{seed} {roll}', updated_at = {set} where id = {id};"
        );
        let written = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await;
        tokio::time::sleep(Duration::from_millis(roll % 7 * 8)).await;
        if written.is_err() || roll.is_multiple_of(6) {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
    }
}

async fn under_writers(pair: Pair) {
    let writers: Vec<_> = (1..=4)
        .map(|seed| tokio::spawn(writer(pair.source.pool().clone(), seed)))
        .collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        pair.sync().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    settle(&pair).await;
    pair.assert_equal("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_concurrent_writers_do_raw_ends_equal_to_the_source() {
    under_writers(Pair::with(ORDERS).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_concurrent_writers_do_a_large_table_ends_equal_too() {
    under_writers(large().await).await;
}

#[tokio::test]
async fn a_truncated_and_refilled_table_is_read_whole() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source("truncate orders; insert into orders (customer) values ('only')")
        .await;
    let report = pair.sync().await;
    assert!(report.replaced);
    pair.assert_equal("orders").await;
}
