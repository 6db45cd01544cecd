//! A source's schema changes while its log is followed: as in the other modes, and without a new copy
//! where the log tells enough.

use ballpoint_runtime::shape::Hold;

use super::*;

const TWO: &str = "
create table orders (id int primary key, customer varchar(20), amount numeric(8,2) not null);
insert into orders select n, 'c' || n, n from generate_series(1, 50) n;
create table other (id int primary key, v int); insert into other values (1, 1)";

impl Followed {
    async fn policy(sql: &str, word: &'static str) -> Self {
        Self::configured(sql, |config| {
            config.on_schema_change = serde_json::from_value(word.into()).unwrap();
        })
        .await
    }

    async fn sync(&self) -> SyncReport {
        self.try_sync(false).await.unwrap()
    }

    async fn held(&self) -> Vec<(String, Hold)> {
        let held = self.sync().await.held.into_iter();
        held.map(|it| (it.table.name, it.hold)).collect()
    }

    /// What was said of changed schemas, in order.
    async fn told(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select payload::text from ballpoint.events
             where payload->>'type' = 'schema_changed' order by id",
        )
        .fetch_all(self.warehouse.pool())
        .await
        .unwrap()
    }

    async fn events(&self, kind: &str) -> i64 {
        let sql =
            format!("select count(*) from ballpoint.events where payload->>'type' = '{kind}'");
        one(self.warehouse.pool(), &sql).await
    }
}

#[tokio::test]
async fn columns_come_and_go_without_a_new_copy() {
    let shop = Followed::with(TWO).await;
    shop.sync().await;
    // Rows from before each change, from within its transaction, and from after it.
    shop.in_source(
        "update orders set customer = 'before' where id = 1;
         begin; insert into orders values (60, 'within', 6); alter table orders add note text;
         update orders set note = 'within' where id = 60; commit;
         update orders set note = 'after' where id = 2; delete from orders where id = 3",
    )
    .await;
    shop.sync().await;
    shop.assert_equal("orders").await;
    shop.in_source(
        "update orders set amount = 9 where id = 4; alter table orders drop column amount;
         update orders set note = 'later' where id = 5; insert into orders values (61, 'new', 'n')",
    )
    .await;
    shop.sync().await;
    shop.assert_equal("orders").await;
    let kept = "select amount::bigint from raw.orders where id = 10";
    assert_eq!(one::<i64>(shop.warehouse.pool(), kept).await, 10);
    assert_eq!(shop.copies("orders").await, 1, "nothing was copied again");
    let told = shop.told().await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("column_added") && told[1].contains("column_dropped"),
        "{told:?}"
    );
    shop.in_source("alter table orders alter customer type varchar(40)")
        .await;
    shop.sync().await;
    shop.in_source("update orders set customer = repeat('x', 40) where id = 6")
        .await;
    shop.sync().await;
    shop.assert_equal("orders").await;
    assert_eq!(
        shop.copies("orders").await,
        1,
        "its limit was raised in place"
    );
    // What its default says of the rows that are there is not in the log.
    shop.in_source("alter table orders add size int not null default 7")
        .await;
    shop.sync().await;
    shop.assert_equal("orders").await;
    assert_eq!(shop.copies("orders").await, 2);
    // Nor is a default that is no constant, though nothing is left of it.
    shop.in_source(
        "alter table orders add token text default random()::text; alter table orders alter token drop default",
    )
    .await;
    shop.sync().await;
    shop.assert_equal("orders").await;
    assert_eq!(shop.copies("orders").await, 3);
    assert_eq!(shop.copies("other").await, 1);
}

#[tokio::test]
async fn what_the_log_does_not_tell_is_copied_again_and_told() {
    let shop = Followed::with(TWO).await;
    shop.sync().await;
    let mut copies = 1;
    for (sql, words) in [
        (
            "alter table orders rename customer to name",
            "column_renamed",
        ),
        ("alter table orders alter id type bigint", "column_retyped"),
        (
            "alter table orders drop constraint orders_pkey, add primary key (name)",
            "primary_key_changed",
        ),
        (
            "drop table orders; create table orders (id bigint primary key, x text);
             insert into orders values (1, 'x')",
            "table_recreated",
        ),
    ] {
        shop.in_source(&format!(
            "update other set v = v + 1; {sql}; update other set v = v + 1"
        ))
        .await;
        shop.sync().await;
        copies += 1;
        shop.in_source("update other set v = v + 1").await;
        shop.sync().await;
        for table in ["orders", "other"] {
            shop.assert_equal(table).await;
        }
        let told = shop.told().await;
        assert_eq!(told.len(), copies - 1, "{told:?}");
        assert!(told[copies - 2].contains(words), "{told:?}");
    }
    assert_eq!(shop.copies("orders").await, i64::try_from(copies).unwrap());
    assert_eq!(shop.copies("other").await, 1);
}

#[tokio::test]
async fn a_table_that_does_not_fit_waits_with_its_last_good_rows_until_it_is_mended_or_accepted() {
    let shop = Followed::with(TWO).await;
    shop.sync().await;
    let narrow = "alter table orders alter amount type int; update orders set amount = 1;
                  update other set v = 2";
    shop.in_source(narrow).await;
    let quarantined = vec![("orders".to_owned(), Hold::Quarantined)];
    for _ in 0..2 {
        assert_eq!(shop.held().await, quarantined);
    }
    shop.assert_equal("other").await;
    let last_good = "select count(*) from raw.orders where amount = id";
    assert_eq!(one::<i64>(shop.warehouse.pool(), last_good).await, 50);
    assert_eq!(
        (shop.told().await.len(), shop.events("table_held").await),
        (1, 1)
    );
    shop.in_source("alter table orders alter amount type numeric(8,2)")
        .await;
    assert_eq!(shop.held().await, []);
    shop.assert_equal("orders").await;
    assert_eq!(shop.events("table_released").await, 1);
    shop.in_source(narrow).await;
    assert_eq!(shop.held().await, quarantined);
    assert_eq!(shop.try_sync(true).await.unwrap().held, []);
    shop.assert_equal("orders").await;
    assert_eq!(shop.events("table_released").await, 2);
}

#[tokio::test]
async fn a_policy_may_be_to_ask_first_or_to_leave_out() {
    let shop = Followed::policy(TWO, "pause").await;
    shop.sync().await;
    shop.in_source("alter table orders add note text; update other set v = 5; create table new (id int primary key)")
        .await;
    let mut paused = shop.held().await;
    paused.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = ["new", "orders"].map(|name| (name.to_owned(), Hold::Paused));
    assert_eq!(paused, expected);
    shop.assert_equal("other").await;
    assert_eq!(shop.try_sync(true).await.unwrap().held, []);
    for table in ["orders", "new"] {
        shop.assert_equal(table).await;
    }

    let shop = Followed::policy(TWO, "ignore").await;
    shop.sync().await;
    shop.in_source("alter table orders add note text default 'n'; create table new (id int primary key);
                    update orders set amount = 3, note = 'm'; insert into orders values (70, 'c', 7, 'n')")
        .await;
    assert_eq!(shop.held().await, [("new".to_owned(), Hold::Ignored)]);
    let rows = "select count(*) from raw.orders where amount = 3 or id = 70";
    assert_eq!(one::<i64>(shop.warehouse.pool(), rows).await, 51);
    let ignored = "select count(*) from pg_attribute where attrelid = 'raw.orders'::regclass
                   and attname = 'note'";
    assert_eq!(one::<i64>(shop.warehouse.pool(), ignored).await, 0);
    assert_eq!(shop.copies("orders").await, 1);
}

#[tokio::test]
async fn a_new_table_is_told_of_and_a_dropped_one_keeps_its_rows_and_nothing_beside_them() {
    let shop = Followed::with(TWO).await;
    shop.sync().await;
    shop.in_source("create table new (id int primary key); insert into new values (1)")
        .await;
    shop.sync().await;
    shop.assert_equal("new").await;
    assert!(shop.told().await[0].contains("table_added"));
    let beside = crate::replace::beside(&TableName::new("raw", "orders"));
    run(
        shop.warehouse.pool(),
        &format!("create table raw.{beside} (id int)"),
    )
    .await;
    shop.in_source("drop table orders; update other set v = 8")
        .await;
    for _ in 0..2 {
        assert_eq!(shop.held().await, [("orders".to_owned(), Hold::Gone)]);
    }
    shop.assert_equal("other").await;
    let left = format!("select to_regclass('raw.{beside}') is null");
    assert!(
        one::<bool>(shop.warehouse.pool(), &left).await,
        "{beside} is left"
    );
    assert_eq!(
        one::<i64>(shop.warehouse.pool(), "select count(*) from raw.orders").await,
        50
    );
    assert_eq!(shop.told().await.len(), 2);
}
