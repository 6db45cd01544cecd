//! A slot that does not fit the warehouse's position: never a silent continuation.

use ballpoint_source::config::GapPolicy;

use crate::changes::looking::{Known, News};
use crate::changes::slot::Urgency;

use super::*;

async fn slot(shop: &Followed) -> String {
    let sql =
        "select slot_name::text from pg_replication_slots where database = current_database()";
    one(shop.source.pool(), sql).await
}

async fn gaps(shop: &Followed) -> Vec<String> {
    sqlx::query_scalar(
        "select payload->>'reason' from ballpoint.events where payload->>'type' = 'log_gap' order by id",
    )
    .fetch_all(shop.warehouse.pool())
    .await
    .unwrap()
}

async fn closed_gaps(shop: &Followed) -> i64 {
    let sql = "select count(*) from ballpoint.events where payload->>'type' = 'gap_closed'";
    one(shop.warehouse.pool(), sql).await
}

/// Changes that no slot keeps.
async fn lose_changes(shop: &Followed) {
    shop.drop_slot().await;
    shop.in_source("update orders set amount = 99; delete from orders where id > 40")
        .await;
}

#[tokio::test]
async fn a_missing_slot_is_a_gap_that_one_new_copy_closes() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    lose_changes(&shop).await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    assert_eq!(shop.copies("orders").await, 2);
    let said = gaps(&shop).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("is missing") && said[0].contains("ballpoint_"),
        "{said:?}"
    );
    shop.in_source("update orders set amount = 100").await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    assert_eq!(gaps(&shop).await.len(), 1);
    assert_eq!(closed_gaps(&shop).await, 1);
    assert_eq!(shop.copies("orders").await, 2);
}

#[tokio::test]
async fn a_slot_that_somebody_moved_on_and_a_publication_that_is_gone_are_gaps() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    // On disk at its commit: a slot moves no further than the log that is.
    shop.in_source(
        "begin; set local synchronous_commit = on; update orders set amount = 5; commit",
    )
    .await;
    let name = slot(&shop).await;
    shop.in_source(&format!(
        "select pg_replication_slot_advance('{name}', pg_current_wal_lsn())"
    ))
    .await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    let said = gaps(&shop).await;
    assert!(said[0].contains("was moved to"), "{said:?}");
    let name = slot(&shop).await;
    shop.in_source(&format!(
        "drop publication {name}; update orders set amount = 6"
    ))
    .await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    let said = gaps(&shop).await;
    assert!(said[1].contains("publication"), "{said:?}");
}

#[tokio::test]
async fn a_gap_can_be_refused_until_somebody_asks_for_a_new_copy() {
    let shop = Followed::configured(ORDERS, |config| config.on_gap = GapPolicy::Refuse).await;
    shop.catch_up().await;
    lose_changes(&shop).await;
    for _ in 0..2 {
        let refused = shop.follower.catch_up(&[]).await.unwrap_err().to_string();
        assert!(
            refused.contains("is missing") && refused.contains("--full-refresh"),
            "{refused}"
        );
    }
    assert_eq!(shop.copies("orders").await, 1, "the last good rows stay");
    assert_eq!(closed_gaps(&shop).await, 0);
    assert!(shop.follower.status().gap.is_some());
    assert_eq!(
        gaps(&shop).await.len(),
        1,
        "one gap, however often it is met"
    );
    // Somebody who has never heard of the gap.
    shop.try_sync(true).await.unwrap();
    shop.assert_equal("orders").await;
    assert_eq!(closed_gaps(&shop).await, 1);
    shop.catch_up().await;
    assert_eq!(shop.follower.status().gap, None);
    assert_eq!(closed_gaps(&shop).await, 1);
}

async fn strict(shop: &Followed) -> Follower {
    let mut config = PostgresSourceConfig::new("shop", shop.source.url());
    config.mode = Some(Mode::Cdc);
    config.max_slot_wal = Some(1);
    follower(&shop.warehouse, config).await
}

/// Giving it up would only make the next round of copies as long.
#[tokio::test]
async fn a_slot_over_its_budget_is_kept_while_what_copies_held_back_is_read() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let strict = strict(&shop).await;
    shop.in_source("update orders set amount = 7").await;
    let ran_ahead = "update ballpoint.checkpoints c set position = position
        || jsonb_build_object('snapshot_lsn', (end_lsn + 1)::text) from ballpoint.streams s";
    run(shop.warehouse.pool(), ran_ahead).await;
    strict.guard(Urgency::AfterReading).await.unwrap();
    for (is_draining, is_given_up) in [(true, false), (false, true)] {
        let known = Known {
            look: strict.look().await.unwrap().into(),
            followed: Vec::new(),
            is_asked_for: false,
            is_draining,
        };
        let news = strict.news(known).await.unwrap();
        assert_eq!(matches!(news, News::OverBudget), is_given_up);
    }
    slot(&shop).await;
    strict.guard(Urgency::Now).await.unwrap();
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    assert_eq!(one::<i64>(shop.source.pool(), slots).await, 0);
}

#[tokio::test]
async fn a_slot_over_its_budget_is_given_up_and_its_tables_copied_again() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    shop.in_source("update orders set amount = 7").await;
    let strict = strict(&shop).await;
    strict.guard(Urgency::AfterReading).await.unwrap();
    let store = Store::open(shop.warehouse.pool().clone()).await.unwrap();
    let streams = store.streams().all().await.unwrap();
    let lag = streams[0].lag.expect("it was looked at");
    assert!(lag.retained_bytes > 1 && lag.bytes > 1, "{lag:?}");
    assert!(lag.retained_bytes >= lag.bytes, "{lag:?}");
    assert_eq!(lag.seconds, None, "nobody reads the slot");
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    assert_eq!(
        one::<i64>(shop.source.pool(), slots).await,
        0,
        "it is given up"
    );
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    assert_eq!(shop.copies("orders").await, 2);
}

/// Nobody writes into the source: it is heard that its log has gone on.
#[tokio::test]
async fn the_slot_of_an_idle_source_moves_on_while_others_fill_the_log() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let follower = shop.follower.clone();
    let following = tokio::spawn(async move { follower.follow(Until::Forever).await });
    // The warehouse is another database of the same server.
    let warehouse = shop.warehouse.pool();
    let sql = "create table public.noise as select repeat('x', 100) from generate_series(1, 10000)";
    run(warehouse, sql).await;
    let written: String = one(warehouse, "select pg_current_wal_lsn()::text").await;
    let sql = format!(
        "select confirmed_flush_lsn >= '{written}'::pg_lsn from pg_replication_slots
         where database = current_database()"
    );
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !one::<bool>(shop.source.pool(), &sql).await {
        assert!(!following.is_finished(), "{:?}", following.await);
        assert!(
            std::time::Instant::now() < deadline,
            "the slot stays before {written}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    following.abort();
}

#[tokio::test]
async fn an_idle_source_lets_its_slot_move_on() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let at = || async {
        let sql = "select confirmed_flush_lsn::text from pg_replication_slots
                   where database = current_database()";
        one::<String>(shop.source.pool(), sql).await
    };
    let before = at().await;
    // Changes of tables that nobody follows.
    shop.in_source("create unlogged table idle (a int)").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while at().await == before {
        shop.catch_up().await;
        assert!(
            std::time::Instant::now() < deadline,
            "the slot stays at {before}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_table_that_somebody_took_out_of_the_publication_is_copied_again() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let publication: String = one(
        shop.source.pool(),
        "select pubname::text from pg_publication",
    )
    .await;
    let forget =
        format!("alter publication {publication} drop table orders; update orders set amount = 7");
    shop.in_source("create table other (a int primary key)")
        .await;
    shop.catch_up().await;
    shop.in_source(&forget).await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
}
