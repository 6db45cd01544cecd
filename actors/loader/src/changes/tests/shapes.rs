//! Tables of every shape: without a key, with values that travel as text, with columns that change.

use super::*;

#[tokio::test]
async fn rows_without_a_key_are_matched_by_all_their_values() {
    let shop = Followed::with(
        "create table log (line text, n numeric, doc json); alter table log replica identity full;
         insert into log values ('a', 1, '{}'), ('a', 1, '{}'), ('a', 1.0, '{}'), (null, null, null)",
    )
    .await;
    shop.catch_up().await;
    for sql in [
        "insert into log values ('a', 1, '{}'), ('b', 2, null), (null, null, null)",
        "delete from log where ctid = (select min(ctid) from log where line = 'a')",
        "update log set n = 3 where line is null",
        "begin; insert into log values ('c', 1, '[]'); update log set line = 'd' where line = 'c';
         delete from log where line = 'b'; commit",
        "truncate log",
        "insert into log values ('e', 5, '1')",
    ] {
        shop.in_source(sql).await;
        shop.catch_up().await;
        shop.assert_equal("log").await;
    }
}

#[tokio::test]
async fn a_table_is_followed_by_the_index_that_names_its_rows() {
    let shop = Followed::with(
        "create table t (a int not null, b text not null, c text); create unique index by_b on t (b, a);
         alter table t replica identity using index by_b; insert into t values (1, 'x', 'one')",
    )
    .await;
    shop.catch_up().await;
    shop.in_source("insert into t values (2, 'y', 'two'); update t set c = 'z' where a = 1")
        .await;
    shop.in_source("update t set b = 'q' where a = 2; insert into t values (3, 'w', ''); delete from t where a = 1")
        .await;
    shop.catch_up().await;
    shop.assert_equal("t").await;
}

#[tokio::test]
async fn values_that_only_travel_as_text_arrive_as_they_are() {
    let shop = Followed::with(
        "create type point2 as (x int, y text); create type mood as enum ('good', 'bad');
         create table t (id int primary key, p point2, m mood, f float8, at timestamptz, i interval, raw bytea, s text);
         insert into t values (1, '(1,a)', 'good', 0.1, '2026-01-02 03:04:05.678901+02', '1 mon 2 days', '\\xff00', e'tab\\tback\\\\slash');",
    )
    .await;
    shop.catch_up().await;
    shop.in_source(
        "insert into t select id + 1, '(2,\"b,c\")', 'bad', 'NaN', 'infinity', i, raw, e'line\\nfeed\\rand \\\\N' from t;
         update t set f = 1e-300 where id = 1; insert into t (id, s) values (3, '\\N'), (4, '')",
    )
    .await;
    shop.catch_up().await;
    shop.assert_equal("t").await;
    assert_eq!(shop.copies("t").await, 1);
}

#[tokio::test]
async fn a_table_whose_columns_change_is_copied_again_and_the_others_are_not() {
    let shop = Followed::with(&format!(
        "{ORDERS} create table other (id int primary key, v int); insert into other values (1, 1)"
    ))
    .await;
    shop.catch_up().await;
    shop.in_source("update orders set amount = 1; alter table orders add added int default 7")
        .await;
    shop.in_source("update orders set added = 8 where id = 2; update other set v = 2")
        .await;
    shop.catch_up().await;
    // Noticed by its change at the latest, and read again at once or by the next catch-up.
    shop.in_source("update orders set added = 9 where id = 3; insert into other values (2, 3)")
        .await;
    shop.catch_up().await;
    for table in ["orders", "other"] {
        shop.assert_equal(table).await;
    }
    assert_eq!(shop.copies("other").await, 1);
    shop.in_source("alter table orders alter amount type text, drop column large; update orders set amount = 'a'")
        .await;
    shop.catch_up().await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
}

#[tokio::test]
async fn deleted_rows_are_marked_where_that_is_asked_for() {
    let shop = Followed::configured(ORDERS, |config| config.soft_delete = true).await;
    shop.catch_up().await;
    shop.in_source("delete from orders where id <= 10").await;
    shop.catch_up().await;
    let marked = "select count(*) from raw.orders where _ab_cdc_deleted_at is not null";
    assert_eq!(one::<i64>(shop.warehouse.pool(), marked).await, 10);
    shop.in_source("insert into orders values (1, 'back', 1, null)")
        .await;
    shop.catch_up().await;
    assert_eq!(one::<i64>(shop.warehouse.pool(), marked).await, 9);
    shop.in_source("truncate orders").await;
    shop.catch_up().await;
    assert_eq!(one::<i64>(shop.warehouse.pool(), marked).await, 50);
}

#[tokio::test]
async fn a_table_that_refuses_its_changes_waits_and_the_others_go_on() {
    let shop = Followed::with(&format!(
        "{ORDERS} create table other (id int primary key, v int); insert into other values (1, 1)"
    ))
    .await;
    shop.catch_up().await;
    // Somebody's constraint in the warehouse.
    run(
        shop.warehouse.pool(),
        "alter table raw.orders add constraint small check (amount < 1000);",
    )
    .await;
    shop.in_source("update orders set amount = 5000 where id = 1; update other set v = 2")
        .await;
    let _ = shop.follower.catch_up(&[]).await;
    shop.in_source("update other set v = 3").await;
    let _ = shop.follower.catch_up(&[]).await;
    for table in ["orders", "other"] {
        shop.assert_equal(table).await;
    }
    assert_eq!(shop.copies("other").await, 1);
}

#[tokio::test]
async fn a_table_that_cannot_be_copied_says_when_it_is_tried_again() {
    let shop = Followed::with(ORDERS).await;
    shop.loader().await.prepare().await.unwrap();
    let in_the_way = "create view raw.orders as select 1 as id";
    run(shop.warehouse.pool(), in_the_way).await;
    shop.follower.catch_up(&[]).await.unwrap_err();
    let held = shop.follower.status().held;
    assert!(held[0].contains("next try at 20"), "{held:?}");
    run(shop.warehouse.pool(), "drop view raw.orders").await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
}

#[tokio::test]
async fn a_new_row_that_is_there_already_counts_once() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let there = "create table public.one as select * from raw.orders where id = 1; update public.one set id = 51;
                 insert into raw.orders select * from public.one";
    sqlx::raw_sql(there)
        .execute(shop.warehouse.pool())
        .await
        .unwrap();
    shop.in_source(
        "create table other (id int primary key); insert into orders values (51, 'n', 1, null), (52, 'n', 1, null)",
    )
    .await;
    let report = shop.catch_up().await;
    let orders = report.tables.iter().find(|it| it.table.name == "orders");
    assert_eq!(orders.map(|it| (it.read, it.updated)), Some((2, 2)));
    shop.assert_equal("orders").await;
}

#[tokio::test]
async fn rows_with_a_value_over_the_limit_are_rejected_until_they_fit() {
    let log = "create table log (line text); alter table log replica identity full";
    let shop = Followed::configured(&format!("{ORDERS} {log}"), |config| {
        config.max_value_bytes = 5_000;
    })
    .await;
    shop.catch_up().await;
    shop.in_source(
        "insert into orders values (51, 'new', 1, repeat('x', 5001)), (52, 'new', 1, repeat('x', 5000));
         update orders set large = repeat('y', 6000) where id in (1, 2, 3);
         insert into log values (repeat('l', 5001)), ('short')",
    )
    .await;
    let report = shop.catch_up().await;
    let of = |name: &str| {
        let mut tables = report.tables.iter();
        let table = tables.find(|it| it.table.name == name).unwrap();
        (table.read, table.updated, table.rejected)
    };
    assert_eq!((of("orders"), of("log")), ((8, 4, 4), (2, 1, 1)));
    shop.in_source(
        "update orders set customer = 'still' where id = 1; update orders set large = 'short' where id = 2;
         delete from orders where id = 3",
    )
    .await;
    shop.catch_up().await;
    let rejected = "select string_agg(concat_ws(' ', \"table\", key, \"column\"), ', ' order by \"table\", key)
                    from raw._rejected where reason like '%max_value_bytes = 5000'";
    let rejected: String = one(shop.warehouse.pool(), rejected).await;
    assert_eq!(
        rejected,
        "public.log line, public.orders 1 large, public.orders 51 large"
    );
    shop.in_source(
        "delete from orders where length(large) > 5000; delete from log where length(line) > 5000",
    )
    .await;
    shop.catch_up().await;
    for table in ["orders", "log"] {
        shop.assert_equal(table).await;
    }
}
