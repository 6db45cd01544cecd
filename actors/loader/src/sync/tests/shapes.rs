//! Full refreshes, dependent views, changed columns, large tables, the extraction clock.

use super::*;

const ITEMS: &str = "create table items (name text, price numeric(6,2));
                     insert into items values ('pen', 1.20), ('cap', 0.10)";

#[tokio::test]
async fn a_full_refresh_table_follows_inserts_updates_and_deletes() {
    let pair = Pair::with(ITEMS).await;
    assert!(pair.sync().await.replaced);
    for change in [
        "insert into items values ('ink', 3)",
        "update items set price = 9.99 where name = 'pen'",
        "delete from items where name = 'cap'",
    ] {
        pair.in_source(change).await;
        assert!(pair.sync().await.replaced, "{change} was not noticed");
        pair.assert_equal("items").await;
        assert_eq!(
            pair.sync().await.changed(),
            0,
            "nothing changed since {change}"
        );
    }
}

#[tokio::test]
async fn a_swap_keeps_views_grants_and_comments() {
    let pair = Pair::with(ITEMS).await;
    pair.sync().await;
    let role = format!("reader_{}", std::process::id());
    pair.in_warehouse(&format!(
        "create role {role}; create schema staging;
         create view staging.stg_items as select name, price from raw.items;
         create view staging.dear as select * from staging.stg_items where price > 1;
         create materialized view staging.names as select name from raw.items;
         create index names_by_name on staging.names (name);
         grant select on staging.stg_items to {role}; grant select on raw.items to {role};
         comment on view staging.dear is 'above one';
         create index items_by_name on raw.items (name)"
    ))
    .await;
    pair.in_source("insert into items values ('gold pen', 900)")
        .await;
    pair.sync().await;
    let dear: i64 = one(pair.warehouse.pool(), "select count(*) from staging.dear").await;
    let names: i64 = one(pair.warehouse.pool(), "select count(*) from staging.names").await;
    assert_eq!((dear, names), (2, 3));
    let kept: bool = one(
        pair.warehouse.pool(),
        &format!(
            "select has_table_privilege('{role}', 'staging.stg_items', 'select')
                and has_table_privilege('{role}', 'raw.items', 'select')
                and obj_description('staging.dear'::regclass) = 'above one'
                and to_regclass('staging.names_by_name') is not null
                and to_regclass('raw.items_by_name') is not null"
        ),
    )
    .await;
    assert!(kept, "grants, comments or indexes were lost in the swap");
    pair.in_warehouse(&format!("drop owned by {role}; drop role {role}"))
        .await;
}

#[tokio::test]
async fn readers_see_the_old_table_or_the_new_one_and_never_none() {
    let pair = Pair::with(ITEMS).await;
    pair.sync().await;
    let pool = pair.warehouse.pool().clone();
    let reading = tokio::spawn(async move {
        for _ in 0..200 {
            let rows: i64 = one(&pool, "select count(*) from raw.items").await;
            assert!(rows >= 2, "a reader saw {rows} rows");
        }
    });
    while !reading.is_finished() {
        pair.in_source("insert into items values ('more', 1)").await;
        pair.sync().await;
    }
    reading.await.unwrap();
}

#[tokio::test]
async fn a_column_added_in_the_source_is_added_and_a_dropped_one_stays() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source(
        "alter table orders add column colour text;
         insert into orders (customer, colour) values ('painter', 'blue')",
    )
    .await;
    let report = pair.sync().await;
    assert_eq!((report.inserted, report.replaced), (1, false));
    pair.assert_equal("orders").await;
    pair.in_source("alter table orders add column size int default 5")
        .await;
    assert!(
        pair.sync().await.replaced,
        "old rows hold the new column's default"
    );
    pair.assert_equal("orders").await;
    pair.in_source(
        "alter table orders drop column colour; insert into orders (customer) values ('x')",
    )
    .await;
    assert_eq!(pair.sync().await.inserted, 1);
    pair.try_sync(true).await.unwrap();
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn a_large_table_is_streamed_in_bounded_memory() {
    let pair = Pair::with(
        "create table big (id bigint primary key, filler text, updated_at timestamptz not null);
         create index on big (updated_at);
         insert into big select n, repeat(md5(n::text), 20), now() from generate_series(1, 120000) n",
    )
    .await;
    let before = peak_kib();
    let report = pair.sync().await;
    let grown = peak_kib() - before;
    assert_eq!(report.inserted, 120_000);
    assert!(report.bytes > 70_000_000, "{} bytes", report.bytes);
    assert!(
        grown < 32 * 1024,
        "peak memory grew by {grown} KiB over {} bytes",
        report.bytes
    );
    pair.assert_equal("big").await;
}

fn peak_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const BOTH: &str = "(select _airbyte_extracted_at as at from raw.orders
                     union all select _airbyte_extracted_at from raw.parts) u";

/// Fails when rows appear whose extraction time an earlier look had already passed.
async fn watch_extraction_times(pool: PgPool) {
    let mut seen: (i64, i64) = (0, 0);
    for _ in 0..150 {
        let look =
            format!("select (extract(epoch from max(at)) * 1000000)::bigint, count(*) from {BOTH}");
        let now: (i64, i64) = sqlx::query_as(AssertSqlSafe(look))
            .fetch_one(&pool)
            .await
            .unwrap();
        let passed = format!(
            "select count(*) from {BOTH} where at <= timestamptz 'epoch' + {} * interval '1 microsecond'",
            seen.0
        );
        let passed: i64 = one(&pool, &passed).await;
        assert_eq!(
            passed, seen.1,
            "a commit brought a time that was already passed"
        );
        seen = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extraction_times_follow_the_order_of_commits_over_all_sources() {
    let pair = Pair::with(ORDERS).await;
    let other = TestDatabase::create().await;
    run(
        other.pool(),
        "create table parts (id int primary key, updated_at timestamptz not null);
         create index on parts (updated_at)",
    )
    .await;
    let mut parts = PostgresSourceConfig::new("parts", other.url());
    parts.follow_log = false;
    let parts = PostgresSource::new(parts).unwrap();
    pair.sync().await;
    let trace = TraceContext::default();
    pair.loader.sync(&parts, &[], false, &trace).await.unwrap();
    let watch = tokio::spawn(watch_extraction_times(pair.warehouse.pool().clone()));
    let mut id = 0;
    while !watch.is_finished() {
        id += 1;
        pair.in_source("insert into orders (customer) values ('o')")
            .await;
        run(
            other.pool(),
            &format!("insert into parts values ({id}, now())"),
        )
        .await;
        let orders = pair.loader.sync(pair.reader.as_ref(), &[], false, &trace);
        let parts = pair.loader.sync(&parts, &[], false, &trace);
        let (orders, parts) = tokio::join!(orders, parts);
        orders.unwrap();
        parts.unwrap();
    }
    watch.await.unwrap();
}

#[tokio::test]
async fn a_load_that_widens_waits_for_a_build_without_shutting_it_out() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source(
        "alter table orders add column colour text; insert into orders (colour) values ('red')",
    )
    .await;
    let mut build = pair.warehouse.pool().begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(ballpoint_runtime::store::RAW_LOCK)
        .execute(&mut *build)
        .await
        .unwrap();
    let loading = pair.sync();
    let reading = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let read = "set local lock_timeout = '20s'; select count(*) from raw.orders";
        sqlx::raw_sql(read).execute(&mut *build).await.unwrap();
        build.commit().await.unwrap();
    };
    let (report, ()) = tokio::join!(loading, reading);
    assert_eq!(report.inserted, 1);
    pair.assert_equal("orders").await;
}
