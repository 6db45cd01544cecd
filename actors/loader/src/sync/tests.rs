//! Two real databases, a source and a warehouse: what lands equals what was there, whatever happens.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::retry::FailureClass;
use ballpoint_source::{PostgresSource, PostgresSourceConfig};
use sqlx::PgPool;

use super::*;

mod crashes;
mod cursor;
mod drift;
mod proofs;
mod ranges;
mod rejected;
mod shapes;
mod types;

/// Crash points are global to the process: who sets one keeps all other loads away.
pub(crate) static CRASH_POINTS: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// A source and a warehouse of their own.
pub(crate) struct Pair {
    pub(crate) source: TestDatabase,
    pub(crate) warehouse: TestDatabase,
    pub(crate) reader: Arc<PostgresSource>,
    pub(crate) loader: Loader,
    _loads: Option<tokio::sync::RwLockReadGuard<'static, ()>>,
}

pub(crate) const ORDERS: &str = "
create table orders (
  id bigint generated always as identity primary key,
  customer text, amount numeric, note json, mood mood default 'good',
  twice int generated always as (length(customer) * 2) stored,
  updated_at timestamptz not null default clock_timestamp());
create index on orders (updated_at);
insert into orders (customer, amount, note, updated_at)
select 'customer ' || n, case n % 5 when 0 then 'NaN' else n / 7.0 end, json_build_object('n', n),
       timestamptz '2026-01-01' + n * interval '1 second'
from generate_series(1, 500) n;";

impl Pair {
    pub(crate) async fn with(sql: &str) -> Self {
        Self::configured(sql, |_| {}).await
    }

    pub(crate) async fn configured(
        sql: &str,
        configure: impl FnOnce(&mut PostgresSourceConfig),
    ) -> Self {
        let loads = CRASH_POINTS.read().await;
        Self {
            _loads: Some(loads),
            ..Self::unguarded(sql, configure).await
        }
    }

    /// For whoever holds the crash points itself.
    async fn unguarded(sql: &str, configure: impl FnOnce(&mut PostgresSourceConfig)) -> Self {
        let (source, warehouse) = (TestDatabase::create().await, TestDatabase::create().await);
        run(source.pool(), "create type mood as enum ('good', 'bad')").await;
        run(source.pool(), sql).await;
        let mut config = PostgresSourceConfig::new("shop", source.url());
        config.follow_log = false;
        configure(&mut config);
        let reader = Arc::new(PostgresSource::new(config).unwrap());
        let store = Store::open(warehouse.pool().clone()).await.unwrap();
        Self {
            source,
            warehouse,
            reader,
            loader: Loader::new(store, "raw"),
            _loads: None,
        }
    }

    /// A table without a key, appended by its cursor: whatever comes twice shows.
    pub(crate) async fn keyless() -> Self {
        let log = "create table log (line text, at timestamptz not null default now());
                   create index on log (at);
                   insert into log select n::text from generate_series(1, 100) n";
        Self::unguarded(log, |config| {
            let cursor = Some("at".to_owned());
            let table = ballpoint_source::TableConfig {
                cursor,
                ..Default::default()
            };
            config.table = BTreeMap::from([("public.log".to_owned(), table)]);
        })
        .await
    }

    pub(crate) async fn sync(&self) -> TableReport {
        let report = self.try_sync(false).await.unwrap();
        report.tables.into_iter().next().unwrap()
    }

    pub(crate) async fn try_sync(&self, full_refresh: bool) -> Result<SyncReport, SyncError> {
        self.loader
            .sync(
                self.reader.as_ref(),
                &[],
                full_refresh,
                &TraceContext::default(),
            )
            .await
    }

    pub(crate) async fn in_source(&self, sql: &str) {
        run(self.source.pool(), sql).await;
    }

    pub(crate) async fn in_warehouse(&self, sql: &str) {
        run(self.warehouse.pool(), sql).await;
    }

    /// Every column of every row of `table` is the same on both sides.
    pub(crate) async fn assert_equal(&self, table: &str) {
        let columns: Vec<String> = sqlx::query_scalar(
            "select quote_ident(attname) from pg_attribute
             where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attname",
        )
        .bind(table)
        .fetch_all(self.source.pool())
        .await
        .unwrap();
        let hash = |from: String| {
            format!(
                "select count(*) || ' rows, hash ' || coalesce(sum(hashtextextended(row({})::text, 0)), 0)
                 from {from}",
                columns.join(", ")
            )
        };
        let there: String = one(self.source.pool(), &hash(table.to_owned())).await;
        let here: String = one(self.warehouse.pool(), &hash(format!("raw.{table}"))).await;
        assert_eq!(here, there, "raw.{table} differs from the source");
    }
}

pub(crate) async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

pub(crate) async fn one<T>(pool: &PgPool, sql: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_full_load_equals_the_source_in_every_column() {
    let pair = Pair::with(ORDERS).await;
    let report = pair.sync().await;
    assert_eq!(
        (report.read, report.inserted, report.replaced),
        (500, 500, true)
    );
    assert!(report.bytes > 10_000, "{report:?}");
    pair.assert_equal("orders").await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
         where attrelid = 'raw.orders'::regclass and attnum > 0 order by attnum",
    )
    .fetch_all(pair.warehouse.pool())
    .await
    .unwrap();
    assert_eq!(
        columns,
        [
            "id bigint",
            "customer text",
            "amount numeric",
            "note json",
            "mood text",
            "twice integer",
            "updated_at timestamp with time zone",
            "_airbyte_extracted_at timestamp with time zone",
            "_airbyte_generation_id bigint",
            "_ab_cdc_lsn pg_lsn",
            "_ab_cdc_deleted_at timestamp with time zone",
        ]
    );
}

#[tokio::test]
async fn a_sync_with_nothing_new_does_nothing() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    let extracted = "select max(_airbyte_extracted_at)::text from raw.orders";
    let before: String = one(pair.warehouse.pool(), extracted).await;
    for _ in 0..3 {
        let again = pair.sync().await;
        assert_eq!((again.read, again.changed(), again.replaced), (0, 0, false));
    }
    assert_eq!(
        one::<String>(pair.warehouse.pool(), extracted).await,
        before
    );
    let events: i64 = one(
        pair.warehouse.pool(),
        "select count(*) from ballpoint.events",
    )
    .await;
    assert_eq!(events, 1);
}

#[tokio::test]
async fn only_changed_rows_are_read_and_written() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source(
        "insert into orders (customer) select 'new ' || n from generate_series(1, 30) n;
         update orders set amount = 1.0, updated_at = clock_timestamp() where id <= 20;
         update orders set amount = 1.00, updated_at = updated_at where id = 3",
    )
    .await;
    let report = pair.sync().await;
    assert_eq!(
        (report.read, report.inserted, report.updated),
        (50, 30, 20),
        "{report:?}"
    );
    pair.assert_equal("orders").await;
    let newer: i64 = one(
        pair.warehouse.pool(),
        "select count(*) from raw.orders where _airbyte_extracted_at >
           (select min(_airbyte_extracted_at) from raw.orders)",
    )
    .await;
    assert_eq!(newer, 50);
}

#[tokio::test]
async fn rows_rewritten_with_equal_values_are_left_alone() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source("update orders set customer = customer where id <= 40")
        .await;
    let report = pair.sync().await;
    assert_eq!(
        (report.read, report.changed(), report.unchanged),
        (40, 0, 40)
    );
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn an_unreachable_source_fails_in_one_line_and_changes_nothing() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    let config = PostgresSourceConfig::new("shop", "postgres://u:secret@127.0.0.1:1/none");
    let gone = PostgresSource::new(config).unwrap();
    let error = pair
        .loader
        .sync(&gone, &[], false, &TraceContext::default())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), FailureClass::SourceDown, "{text}");
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("secret"),
        "{text}"
    );
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn a_table_that_the_source_does_not_have_is_named() {
    let pair = Pair::with(ORDERS).await;
    let asked = [TableName::new("public", "odrers")];
    let error = pair
        .loader
        .sync(
            pair.reader.as_ref(),
            &asked,
            false,
            &TraceContext::default(),
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("public.odrers") && error.contains("public.orders"),
        "{error}"
    );
}

#[tokio::test]
async fn progress_is_told_as_bytes_and_at_last_as_rows() {
    let pair = Pair::with(ORDERS).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let loader = pair.loader.clone().with_progress(Arc::new(move |progress| {
        sink.lock().unwrap().push(progress.clone())
    }));
    loader
        .sync(pair.reader.as_ref(), &[], false, &TraceContext::default())
        .await
        .unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() >= 2 && told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    assert_eq!(told.last().unwrap().rows, Some(500));
}
