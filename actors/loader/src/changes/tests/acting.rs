//! The actor: changes land by themselves, also after it was ended in the middle.

use std::time::Instant;

use ballpoint_source::config::GapPolicy;
use ractor::{Actor, ActorRef};

use super::*;
use crate::changes::actor::{Stream, StreamArgs, StreamMsg};

const PATIENCE: Duration = Duration::from_secs(60);

async fn started(shop: &Followed) -> (ActorRef<StreamMsg>, tokio::task::JoinHandle<()>) {
    let args = StreamArgs {
        loader: shop.loader().await,
        source: shop.reader.changes().unwrap(),
    };
    Actor::spawn(None, Stream, args).await.unwrap()
}

async fn until_raw_says(shop: &Followed, sql: &str, expected: i64) {
    let begun = Instant::now();
    loop {
        let found: Result<i64, _> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(shop.warehouse.pool())
            .await;
        if found.as_ref().is_ok_and(|found| *found == expected) {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{sql}: {found:?}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn changes_land_by_themselves_and_go_on_with_the_next_incarnation() {
    let shop = Followed::with(ORDERS).await;
    let (actor, ended) = started(&shop).await;
    until_raw_says(&shop, "select count(*) from raw.orders", 50).await;
    shop.in_source("delete from orders where id <= 20").await;
    until_raw_says(&shop, "select count(*) from raw.orders", 30).await;
    let status = ractor::call!(actor, |reply| StreamMsg::Describe { reply }).unwrap();
    assert!(status.streaming && status.tables == 1, "{status:?}");
    assert!(
        status.slot.starts_with("ballpoint_") && status.slot.ends_with("_shop"),
        "{status:?}"
    );
    actor.kill();
    ended.await.unwrap();
    shop.in_source("update orders set amount = 1").await;
    let (actor, ended) = started(&shop).await;
    until_raw_says(
        &shop,
        "select count(*) from raw.orders where amount = 1",
        30,
    )
    .await;
    assert_eq!(shop.copies("orders").await, 1);
    // Models follow what landed.
    let told = "select count(*) from ballpoint.events where payload->>'type' = 'table_loaded'
                and payload->>'rows' = '30'";
    until_raw_says(&shop, told, 1).await;
    actor.stop(None);
    ended.await.unwrap();
}

/// A refused gap fails every attempt, until somebody asks for a new copy.
#[tokio::test]
async fn what_fails_is_told_once_and_so_is_that_it_works_again() {
    let shop = Followed::configured(ORDERS, |config| config.on_gap = GapPolicy::Refuse).await;
    shop.catch_up().await;
    shop.drop_slot().await;
    let (actor, ended) = started(&shop).await;
    let told = |kind: &str| {
        format!("select count(*) from ballpoint.events where payload->>'type' = '{kind}'")
    };
    until_raw_says(&shop, &told("sync_failed"), 1).await;
    actor.stop(None);
    ended.await.unwrap();
    // The next process meets the same failure, and somebody knows of it.
    let (actor, ended) = started(&shop).await;
    let begun = Instant::now();
    loop {
        let status = ractor::call!(actor, |reply| StreamMsg::Describe { reply }).unwrap();
        if status.failures >= 3 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_raw_says(&shop, &told("sync_failed"), 1).await;
    shop.try_sync(true).await.unwrap();
    until_raw_says(&shop, &told("sync_finished"), 1).await;
    shop.assert_equal("orders").await;
    actor.stop(None);
    ended.await.unwrap();
}
