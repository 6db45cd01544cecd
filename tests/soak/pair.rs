//! A source with tables of every kind, its warehouse, and the comparison of the two.

use std::time::{Duration, Instant};

use ballpoint_postgres::testing::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool};

pub(crate) const TABLES: [&str; 4] = ["orders", "items", "log", "indexed"];

/// Keys of one and several columns, values that the log leaves out, no key at all, an index for a key.
const SCHEMA: &str = "
create table orders (id int primary key, customer text, amount numeric, large text, at timestamptz);
alter table orders alter large set storage external;
create table items (order_id int, line int, note text, primary key (order_id, line));
create table log (line text, n int); alter table log replica identity full;
create table indexed (a int not null, b text); create unique index by_a on indexed (a);
alter table indexed replica identity using index by_a;
insert into orders select n, 'c' || n, n / 7.0, repeat('x', 2500) || n, now() from generate_series(1, 1500) n;
insert into items select n / 5, n % 5, 'i' || n from generate_series(1, 4000) n;
insert into log select 'l' || n % 50, n % 7 from generate_series(1, 2000) n;
insert into indexed select n, 'b' from generate_series(1, 300) n;";

/// The two databases of a run.
pub(crate) struct Pair {
    pub(crate) source: TestDatabase,
    pub(crate) warehouse: TestDatabase,
}

impl Pair {
    pub(crate) async fn create() -> Self {
        let (source, warehouse) = (TestDatabase::create().await, TestDatabase::create().await);
        sqlx::raw_sql(SCHEMA).execute(source.pool()).await.unwrap();
        Self { source, warehouse }
    }

    /// Drops the slot of the source behind the warehouse's back. False when there is none, or none
    /// that the warehouse knows of.
    pub(crate) async fn drop_slot(&self) -> bool {
        let known: i64 = sqlx::query_scalar("select count(*) from ballpoint.streams")
            .fetch_one(self.warehouse.pool())
            .await
            .unwrap_or_default();
        let begun = Instant::now();
        loop {
            let dropped = sqlx::query(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                 where database = current_database() and not temporary",
            )
            .execute(self.source.pool())
            .await;
            match dropped {
                Ok(done) => return done.rows_affected() > 0 && known > 0,
                // The server has not noticed yet that its reader was killed.
                Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("the slot cannot be dropped: {error}"),
            }
        }
    }

    /// Waits until every table has been copied and is streaming.
    pub(crate) async fn until_all_are_followed(&self, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let streaming: i64 = sqlx::query_scalar(
                "select count(*) from ballpoint.checkpoints where position->>'state' = 'streaming'",
            )
            .fetch_one(self.warehouse.pool())
            .await
            .unwrap_or_default();
            if usize::try_from(streaming) == Ok(TABLES.len()) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(format!("{streaming} tables are followed after {limit:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a table be copied again, while nobody follows.
    pub(crate) async fn forget(&self, table: &str) {
        sqlx::query("delete from ballpoint.checkpoints where table_name = $1")
            .bind(table)
            .execute(self.warehouse.pool())
            .await
            .unwrap();
    }

    /// Every row of every table is there once; each table was copied once, and once more for a gap.
    pub(crate) async fn compare(&self, gaps: i64) -> Result<(), String> {
        for table in TABLES {
            let there = hash(self.source.pool(), "public", table).await;
            let here = hash(self.warehouse.pool(), "raw", table).await;
            if there != here {
                return Err(format!("{table}: {there:?} in the source, {here:?} in raw"));
            }
        }
        let said: i64 = sqlx::query_scalar(
            "select count(*) from ballpoint.events where payload->>'type' = 'log_gap'",
        )
        .fetch_one(self.warehouse.pool())
        .await
        .unwrap();
        // A life that ends after it has told of a gap, and before it has forgotten the stream, leaves
        // that to the next one.
        if (gaps == 0 && said > 0) || said < gaps {
            return Err(format!("{said} gaps were told of, {gaps} were made"));
        }
        Ok(())
    }
}

/// Rows and a checksum over all their columns that no order changes.
async fn hash(pool: &PgPool, schema: &str, table: &str) -> (i64, String) {
    let columns: String = sqlx::query_scalar(AssertSqlSafe(format!(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
         where attrelid = '{schema}.{table}'::regclass and attnum > 0 and not attisdropped
           and attname !~ '^_(airbyte|ab)_'"
    )))
    .fetch_one(pool)
    .await
    .unwrap();
    sqlx::query_as(AssertSqlSafe(format!(
        "select count(*), coalesce(sum(hashtextextended(row({columns})::text, 0)::numeric), 0)::text
         from {schema}.{table}"
    )))
    .fetch_one(pool)
    .await
    .unwrap()
}
