//! One transactional build: all of it or nothing, only what is due, readers never disturbed.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::sync::Arc;

use ballpoint_runtime::segment::TableName;
use ballpoint_transformer::Project;
use ballpoint_transformer::publish::{BuildOutcome, BuildStatus, Changed, PublishOptions, publish};

use crate::support::Workbench;

pub async fn build(bench: &Workbench, project: &Arc<Project>, changed: Changed) -> BuildOutcome {
    publish(
        project,
        bench.database.pool(),
        &PublishOptions::new(changed),
    )
    .await
    .unwrap()
}

pub fn orders() -> Changed {
    Changed::Tables(vec![TableName::new("raw", "orders")])
}

pub fn nothing() -> Changed {
    Changed::Tables(Vec::new())
}

const SUMMARY: &str = "select string_agg(day || ' ' || orders || ' ' || total, ', ' order by day) \
                       from marts.orders_per_day";

#[tokio::test]
async fn a_first_build_publishes_everything_and_leaves_no_shadow() {
    let bench = Workbench::shop().await;
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(outcome.relations.len(), 4);
    assert_eq!(outcome.tests_passed, 11);
    assert_eq!(
        bench.text(SUMMARY).await,
        "2026-01-01 2 13.00, 2026-01-02 1 9.99"
    );
    assert_eq!(
        bench
            .text("select count(*) from pg_class where relname ~ '__ballpoint_(new|fresh)'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn nothing_changed_means_nothing_done() {
    let bench = Workbench::shop().await;
    let project = bench.load();
    build(&bench, &project, Changed::Everything).await;
    let outcome = build(&bench, &project, nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Unchanged);
    assert!(outcome.results.is_empty());
    // A project read again is the same project.
    assert_eq!(
        build(&bench, &bench.load(), nothing()).await.status,
        BuildStatus::Unchanged
    );
}

#[tokio::test]
async fn a_delta_merges_new_rows_into_the_relations_that_are_there() {
    let bench = Workbench::shop().await;
    let project = bench.load();
    build(&bench, &project, Changed::Everything).await;
    let oids = "select string_agg(oid::text, ',' order by oid) from pg_class where relname in ('orders', 'orders_per_day', 'stg_orders')";
    let before = bench.text(oids).await;
    bench.sql("insert into raw.orders values (4, 'fr', 100, '2026-01-02 10:00', '2026-01-03 00:00+00')").await;
    let outcome = build(&bench, &project, orders()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(
        bench.text(SUMMARY).await,
        "2026-01-01 2 13.00, 2026-01-02 2 10.99"
    );
    assert_eq!(bench.text(oids).await, before);
    let merged = outcome
        .results
        .iter()
        .find(|result| result.name == "orders")
        .unwrap();
    assert_eq!(merged.message, "MERGE 1");
}

#[tokio::test]
async fn a_failed_test_publishes_nothing_and_names_what_it_blocked() {
    let bench = Workbench::shop().await;
    let project = bench.load();
    build(&bench, &project, Changed::Everything).await;
    bench.sql("insert into raw.orders values (4, 'xx', 100, '2026-01-02 10:00', '2026-01-03 00:00+00')").await;
    let outcome = build(&bench, &project, orders()).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    let failed: Vec<&str> = outcome
        .failed
        .iter()
        .map(|failed| failed.name.as_str())
        .collect();
    assert_eq!(
        failed,
        ["relationships_stg_orders_country__code__ref_countries_"]
    );
    assert!(
        outcome.failed[0].sample[0].contains("xx"),
        "{:?}",
        outcome.failed[0].sample
    );
    assert!(
        outcome.skipped.contains(&"model.shop.orders".to_owned()),
        "{:?}",
        outcome.skipped
    );
    assert!(!outcome.transient);
    assert_eq!(
        bench.text(SUMMARY).await,
        "2026-01-01 2 13.00, 2026-01-02 1 9.99"
    );
}

#[tokio::test]
async fn a_test_that_cannot_run_is_named_and_those_beside_it_are_judged() {
    let bench = Workbench::shop().await;
    bench.write(
        "tests/broken.sql",
        "select no_such_column from {{ ref('stg_orders') }}",
    );
    // Counted beside the next one, were it not for a column that is not there.
    bench.write(
        "tests/unread.sql",
        "select no_such_name from {{ ref('stg_orders') }} where id is null",
    );
    bench.write(
        "tests/never.sql",
        "select id from {{ ref('stg_orders') }} where id is not null",
    );
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    let mut failed: Vec<(&str, Option<i64>)> = outcome
        .failed
        .iter()
        .map(|failed| (failed.name.as_str(), failed.failures))
        .collect();
    failed.sort_unstable();
    assert_eq!(
        failed,
        [("broken", None), ("never", Some(3)), ("unread", None)]
    );
    let broken = outcome.failed.iter().find(|failed| failed.name == "broken");
    let message = &broken.unwrap().message;
    assert!(message.contains("no_such_column"), "{message}");
    assert!(outcome.tests_passed > 0, "{outcome:?}");
}

#[tokio::test]
async fn what_a_failed_build_was_for_is_built_by_the_next_one() {
    let bench = Workbench::shop().await;
    let project = bench.load();
    build(&bench, &project, Changed::Everything).await;
    bench.sql("insert into raw.orders values (4, 'xx', 100, '2026-01-02 10:00', '2026-01-03 00:00+00')").await;
    build(&bench, &project, orders()).await;
    let other = Changed::Tables(vec![TableName::new("raw", "something_else")]);
    assert_eq!(
        build(&bench, &project, other.clone()).await.status,
        BuildStatus::Failed
    );
    bench
        .sql("update raw.orders set country = 'fr' where id = 4")
        .await;
    assert_eq!(
        build(&bench, &project, other).await.status,
        BuildStatus::Published
    );
    assert_eq!(
        build(&bench, &project, nothing()).await.status,
        BuildStatus::Unchanged
    );
    assert_eq!(bench.text("select count(*) from marts.orders").await, "4");
}

#[tokio::test]
async fn what_a_build_was_for_that_could_not_be_carried_out_is_built_by_the_next_one() {
    let bench = Workbench::shop().await;
    let project = bench.load();
    build(&bench, &project, Changed::Everything).await;
    bench.sql("insert into raw.orders values (4, 'fr', 100, '2026-01-02 10:00', '2026-01-03 00:00+00')").await;
    // Written at the very end of a build, outside of any model or test.
    bench
        .sql("alter table ballpoint.build_state add constraint never check (node_id is null) not valid")
        .await;
    let options = PublishOptions::new(orders());
    publish(&project, bench.database.pool(), &options)
        .await
        .unwrap_err();
    bench
        .sql("alter table ballpoint.build_state drop constraint never")
        .await;
    let next = build(&bench, &project, nothing()).await;
    assert_eq!(next.status, BuildStatus::Published, "{next:?}");
    assert_eq!(bench.text("select count(*) from marts.orders").await, "4");
}

#[tokio::test]
async fn a_test_of_severity_warn_blocks_nothing() {
    let bench = Workbench::shop().await;
    bench
        .sql("update raw.orders set cents = 10 where id = 3")
        .await;
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(outcome.warned, ["positive_orders_per_day_1__total"]);
}

#[tokio::test]
async fn a_post_hook_of_a_build_asks_what_was_just_built() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/counted.sql",
        "{{ config(materialized='table', post_hook=\"create table public.seen as select \
         {{ run_query('select count(*) from ' ~ this)[0][0] }} as rows\") }} \
         select id from {{ ref('orders') }}",
    );
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(bench.text("select rows from public.seen").await, "3");
}

#[tokio::test]
async fn a_changed_model_is_rebuilt_with_what_stands_on_it_and_nothing_else() {
    let bench = Workbench::shop().await;
    build(&bench, &bench.load(), Changed::Everything).await;
    bench.write("models/marts/orders_per_day.sql",
        "select ordered_at::date as day, count(*) as orders, sum(total) as total, max(total) as largest \
         from {{ ref('orders') }} group by 1");
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(
        outcome.relations,
        [TableName::new("marts", "orders_per_day")]
    );
    assert_eq!(
        bench
            .text("select max(largest) from marts.orders_per_day")
            .await,
        "10.50"
    );
}

#[tokio::test]
async fn a_view_that_is_redefined_carries_its_readers_along() {
    let bench = Workbench::shop().await;
    build(&bench, &bench.load(), Changed::Everything).await;
    let view =
        std::fs::read_to_string(bench.folder.path().join("models/staging/stg_orders.sql")).unwrap();
    bench.write(
        "models/staging/stg_orders.sql",
        &format!("{view}\nwhere id <> 3"),
    );
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(
        bench.text("select count(*) from staging.stg_orders").await,
        "2"
    );
    // What the incremental model between them holds is nobody's to throw away.
    let whole = "2026-01-01 2 13.00, 2026-01-02 1 9.99";
    assert_eq!(bench.text(SUMMARY).await, whole);
    let full = PublishOptions {
        full_refresh: true,
        ..PublishOptions::new(nothing())
    };
    publish(&bench.load(), bench.database.pool(), &full)
        .await
        .unwrap();
    assert_eq!(bench.text(SUMMARY).await, "2026-01-01 2 13.00");
}

#[tokio::test]
async fn a_model_that_fails_rolls_everything_back_and_says_why() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/orders_per_day.sql",
        "select no_such_column from {{ ref('orders') }}",
    );
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    assert!(
        outcome.failed[0].message.contains("no_such_column"),
        "{:?}",
        outcome.failed
    );
    assert_eq!(
        bench
            .text("select count(*) from pg_namespace where nspname = 'marts'")
            .await,
        "0"
    );
}

/// Builds that readers look on at; half of them fail a test.
const BUILDS: u32 = 50;

#[tokio::test]
async fn readers_never_miss_a_relation_or_see_half_a_build_or_a_failed_one() {
    let bench = Workbench::shop().await;
    build(&bench, &bench.load(), Changed::Everything).await;
    let pool = bench.database.pool().clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let reader = tokio::spawn(async move {
        let mut looks = 0_u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            // Every mart in one statement; rows of the country 'xx' fail a test.
            let (same, wrong, rows): (bool, i64, i64) = sqlx::query_as(
                "select (select coalesce(sum(total), 0) from marts.orders)
                          = (select coalesce(sum(total), 0) from marts.orders_per_day)
                        and (select count(*) from marts.orders)
                          = (select coalesce(sum(orders), 0) from marts.orders_per_day),
                        (select count(*) from marts.orders where country = 'xx'),
                        (select count(*) from marts.orders)",
            )
            .persistent(false)
            .fetch_one(&pool)
            .await
            .unwrap();
            assert!(same, "a reader saw half a build");
            assert_eq!(wrong, 0, "a reader saw a build that failed");
            assert!(rows > 0, "a reader saw an empty table");
            looks += 1;
        }
        looks
    });
    for round in 0..BUILDS {
        let id = 100 + round;
        let country = if round % 2 == 0 { "xx" } else { "de" };
        bench.sql(&format!("delete from raw.orders where country = 'xx'; insert into raw.orders values ({id}, '{country}', 500, '2026-01-05', now())")).await;
        let full = PublishOptions {
            full_refresh: round % 5 == 1,
            ..PublishOptions::new(orders())
        };
        let outcome = publish(&bench.load(), bench.database.pool(), &full)
            .await
            .unwrap();
        assert_eq!(
            outcome.status == BuildStatus::Failed,
            country == "xx",
            "{outcome:?}"
        );
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let looks = reader.await.unwrap();
    assert!(looks > 10, "{looks} looks are too few to say anything");
}

#[tokio::test]
async fn a_cancelled_build_leaves_nothing_and_frees_the_lock() {
    let bench = Workbench::shop().await;
    bench.write("models/marts/slow.sql", "select 1 as nap from pg_sleep(30)");
    let options = PublishOptions::new(Changed::Everything);
    let cancel = options.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        cancel.cancel();
    });
    let error = publish(&bench.load(), bench.database.pool(), &options)
        .await
        .unwrap_err();
    assert!(error.is_transient());
    bench.write("models/marts/slow.sql", "select 1 as nap");
    assert_eq!(
        build(&bench, &bench.load(), Changed::Everything)
            .await
            .status,
        BuildStatus::Published
    );
}
