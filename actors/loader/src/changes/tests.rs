//! Two real databases: whatever happens in the source, raw equals it once the stream has come past.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::segment::{SourceReader, TableName};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::trace::TraceContext;
use ballpoint_source::{Mode, PostgresSource, PostgresSourceConfig};

use super::*;
use crate::error::SyncError;
use crate::report::SyncReport;
use crate::sync::Loader;
use crate::sync::tests::{CRASH_POINTS, one, run};

mod acting;
mod beside;
mod copies;
mod drift;
mod gaps;
mod proofs;
mod shapes;

/// A source that is followed, and its warehouse.
struct Followed {
    source: TestDatabase,
    warehouse: TestDatabase,
    reader: PostgresSource,
    follower: Follower,
    _loads: tokio::sync::RwLockReadGuard<'static, ()>,
}

impl Followed {
    async fn with(sql: &str) -> Self {
        Self::configured(sql, |_| {}).await
    }

    async fn configured(sql: &str, configure: impl FnOnce(&mut PostgresSourceConfig)) -> Self {
        let _loads = CRASH_POINTS.read().await;
        let (source, warehouse) = (TestDatabase::create().await, TestDatabase::create().await);
        run(source.pool(), sql).await;
        let mut config = PostgresSourceConfig::new("shop", source.url());
        config.mode = Some(Mode::Cdc);
        configure(&mut config);
        let reader = PostgresSource::new(config.clone()).unwrap();
        let follower = follower(&warehouse, config).await;
        Self {
            source,
            warehouse,
            reader,
            follower,
            _loads,
        }
    }

    async fn in_source(&self, sql: &str) {
        run(self.source.pool(), sql).await;
    }

    async fn catch_up(&self) -> FollowReport {
        self.follower.catch_up(&[]).await.unwrap()
    }

    /// Takes the slot away, as soon as no session reads from it.
    async fn drop_slot(&self) {
        let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                    where database = current_database() and not active";
        let left = "select count(*) from pg_replication_slots where database = current_database()";
        while one::<i64>(self.source.pool(), left).await > 0 {
            let _ = sqlx::query(drop).execute(self.source.pool()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn loader(&self) -> Loader {
        let store = Store::open(self.warehouse.pool().clone()).await.unwrap();
        Loader::new(store, "raw")
    }

    async fn try_sync(&self, full_refresh: bool) -> Result<SyncReport, SyncError> {
        let loader = self.loader().await;
        let trace = TraceContext::current();
        Box::pin(loader.sync(&self.reader, &[], full_refresh, &trace)).await
    }

    async fn sync_proving(&self) -> Result<SyncReport, SyncError> {
        let loader = self.loader().await.proving();
        let trace = TraceContext::current();
        Box::pin(loader.sync(&self.reader, &[], false, &trace)).await
    }

    /// Every row of `table`, as text and in order, is the same on both sides.
    async fn assert_equal(&self, table: &str) {
        let columns: Vec<String> = sqlx::query_scalar(
            "select quote_ident(attname) from pg_attribute
             where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum",
        )
        .bind(table)
        .fetch_all(self.source.pool())
        .await
        .unwrap();
        let rows = |from: String| {
            let columns = columns.join(", ");
            format!(
                "select coalesce(string_agg(left(r, 200) || md5(r), E'\\n' order by r), '')
                 from (select row({columns})::text as r from {from}) r"
            )
        };
        let there: String = one(self.source.pool(), &rows(table.to_owned())).await;
        let here: String = one(self.warehouse.pool(), &rows(format!("raw.{table}"))).await;
        assert_eq!(here, there, "raw.{table} differs from the source");
    }

    async fn copies(&self, table: &str) -> i64 {
        let sql = format!("select max(_airbyte_generation_id) from raw.{table}");
        one(self.warehouse.pool(), &sql).await
    }
}

async fn follower(warehouse: &TestDatabase, config: PostgresSourceConfig) -> Follower {
    let reader = PostgresSource::new(config).unwrap();
    let store = Store::open(warehouse.pool().clone()).await.unwrap();
    Follower::new(Loader::new(store, "raw"), reader.changes().unwrap())
}

const ORDERS: &str = "
create table orders (id int primary key, customer text, amount numeric, large text);
alter table orders alter large set storage external;
insert into orders select n, 'c' || n, n / 7.0, repeat('x', 3000) || n from generate_series(1, 50) n;";

#[tokio::test]
async fn every_kind_of_change_lands_with_its_position() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    for sql in [
        "insert into orders values (51, 'new', 'NaN', null)",
        // Unchanged large values are not in the log.
        "update orders set customer = 'changed' where id <= 3",
        "update orders set large = 'short', amount = 1.50 where id = 4",
        "delete from orders where id = 5",
        "update orders set id = 1006 where id = 6",
        "begin; update orders set id = 1007, amount = 7 where id = 7;
         update orders set customer = 'twice' where id = 1007; commit",
        "begin; insert into orders values (60, 'brief', 1, 'y'); delete from orders where id = 60; commit",
        "begin; delete from orders where id = 8; insert into orders values (8, 'again', 8, null); commit",
        "begin; update orders set id = -id; update orders set id = -id + 1; commit",
    ] {
        shop.in_source(sql).await;
        shop.catch_up().await;
        shop.assert_equal("orders").await;
    }
    assert_eq!(shop.copies("orders").await, 1, "it was copied once");
    let unmarked: i64 = one(
        shop.warehouse.pool(),
        "select count(*) from raw.orders where _ab_cdc_lsn is null",
    )
    .await;
    assert_eq!(
        unmarked, 0,
        "every row was changed, and says where in the log"
    );
    shop.in_source("truncate orders; insert into orders values (1, 'after', 1, 'z')")
        .await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
}

#[tokio::test]
async fn many_changes_in_one_catch_up_come_to_the_same() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    for n in 0..40 {
        shop.in_source(&format!(
            "update orders set customer = 'round {n}' where id % 3 = {n} % 3;
             update orders set id = id + 1000 where id = {n};
             delete from orders where id = {n} + 10 and id % 4 = 0;
             insert into orders values ({n} + 5000, 'n', {n}, repeat('q', 4000));
             update orders set amount = {n} where id > 4990"
        ))
        .await;
    }
    shop.in_source(
        "create table late (id int primary key, note text); insert into late values (1, 'a')",
    )
    .await;
    shop.catch_up().await;
    shop.in_source("insert into late values (2, 'b'); update late set note = 'c' where id = 1")
        .await;
    shop.catch_up().await;
    for table in ["orders", "late"] {
        shop.assert_equal(table).await;
        assert_eq!(shop.copies(table).await, 1, "{table} was copied once");
    }
}

#[tokio::test]
async fn a_transaction_larger_than_the_buffer_is_all_or_nothing() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    // About 40 MB in one transaction, of two tables in turns, and one that is undone.
    shop.in_source(
        "create table items (id int primary key, text text);
         begin; insert into orders select n, 'big', n, null from generate_series(100, 20100) n;
         insert into items select n, repeat('i', 1500) from generate_series(1, 20000) n;
         update orders set amount = 0 where id > 1000; delete from items where id % 5 = 0; commit;
         begin; delete from orders; rollback;",
    )
    .await;
    shop.catch_up().await;
    shop.in_source(
        "begin; update items set text = text || 'j'; update orders set amount = 1; commit",
    )
    .await;
    shop.catch_up().await;
    for table in ["orders", "items"] {
        shop.assert_equal(table).await;
    }
}

#[tokio::test]
async fn changes_that_are_made_while_tables_are_copied_are_neither_lost_nor_doubled() {
    let log = "create table log (at int, line text); alter table log replica identity full;
               insert into log select n, 'l' from generate_series(1, 20000) n;";
    let shop = Followed::with(&format!("{ORDERS} {log}")).await;
    let pool = shop.source.pool().clone();
    let writing = tokio::spawn(async move {
        for n in 0..150 {
            let sql = format!(
                "insert into log values ({n}, 'new'); update orders set amount = {n} where id = {n} % 50;
                 insert into orders values (1000 + {n}, 'c', {n}, null)"
            );
            run(&pool, &sql).await;
        }
    });
    shop.catch_up().await;
    writing.await.unwrap();
    shop.catch_up().await;
    for table in ["orders", "log"] {
        shop.assert_equal(table).await;
        assert_eq!(shop.copies(table).await, 1);
    }
}

#[tokio::test]
async fn two_followers_of_one_source_do_not_get_in_each_others_way() {
    let shop = Followed::with(ORDERS).await;
    let mut config = PostgresSourceConfig::new("shop", shop.source.url());
    config.mode = Some(Mode::Cdc);
    let other = follower(&shop.warehouse, config).await;
    let following = tokio::spawn(async move { other.follow(Until::Forever).await });
    for n in 0..5 {
        shop.in_source(&format!("update orders set amount = {n}"))
            .await;
        shop.catch_up().await;
        shop.assert_equal("orders").await;
    }
    following.abort();
}

#[tokio::test]
async fn a_table_that_is_not_followed_any_more_leaves_nothing_in_the_source() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    let installed = "select (select count(*) from pg_publication)
        + (select count(*) from pg_replication_slots where database = current_database())";
    assert_eq!(one::<i64>(shop.source.pool(), installed).await, 2);
    let mut config = PostgresSourceConfig::new("shop", shop.source.url());
    config.mode = Some(Mode::FullRefresh);
    follower(&shop.warehouse, config)
        .await
        .catch_up(&[])
        .await
        .unwrap();
    assert_eq!(one::<i64>(shop.source.pool(), installed).await, 0);
}
