//! Copies that are interrupted, and copies beside the stream.

use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(120);
/// Lets `$1` ranges of a copy land, and holds the others while somebody holds the lock.
const HOLD: &str = "
create or replace function public.hold() returns trigger language plpgsql set lock_timeout = 0 as $$
begin
  if (select count(*) from ballpoint.landed_ranges) >= RANGES then
    perform pg_advisory_xact_lock_shared(4711);
  end if;
  return new;
end $$;
create or replace trigger hold before insert on ballpoint.landed_ranges
  for each row execute function public.hold();";

/// About 130 pages; `large` lies outside its row, and the log does not repeat it.
const WIDE: &str = "
create table wide (id int primary key, v int not null default 0, filler text not null, large text);
alter table wide alter large set storage external;
insert into wide select n, 0, repeat('x', 300), case when n % 100 = 0 then repeat('y', 3000) || n end
from generate_series(1, 3000) n;";

/// The same rows without a key.
const UNKEYED: &str = "
create table wide as select n as id, 0 as v, repeat('x', 300) as filler from generate_series(1, 3000) n;
alter table wide replica identity full;";

/// A source whose larger tables are copied in ranges.
async fn in_ranges(sql: &str) -> Followed {
    Followed::configured(sql, |config| config.range_pages = 16).await
}

async fn until<T>(pool: &sqlx::PgPool, sql: &str, expected: impl Fn(&T) -> bool)
where
    T: std::fmt::Debug + Send + Unpin,
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let begun = Instant::now();
    loop {
        let found: T = one(pool, sql).await;
        if expected(&found) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{sql}: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What `run` does, held in the middle of a copy.
struct Held<T> {
    running: tokio::task::JoinHandle<T>,
    lock: sqlx::pool::PoolConnection<sqlx::Postgres>,
}

impl<T: Send + 'static> Held<T> {
    /// Begins it, and waits until so many ranges have landed.
    async fn after(
        shop: &Followed,
        ranges: i64,
        run: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        shop.loader().await.prepare().await.unwrap();
        let hold = HOLD.replace("RANGES", &ranges.to_string());
        sqlx::raw_sql(sqlx::AssertSqlSafe(hold))
            .execute(shop.warehouse.pool())
            .await
            .unwrap();
        let mut lock = shop.warehouse.pool().acquire().await.unwrap();
        let take = sqlx::query("select pg_advisory_lock(4711)");
        take.execute(&mut *lock).await.unwrap();
        let running = tokio::spawn(run);
        let landed = "select count(*) from ballpoint.landed_ranges";
        until(shop.warehouse.pool(), landed, |landed: &i64| {
            *landed >= ranges
        })
        .await;
        Self { running, lock }
    }

    /// Lets it go on.
    async fn release(mut self) -> tokio::task::JoinHandle<T> {
        let give = sqlx::query("select pg_advisory_unlock(4711)");
        give.execute(&mut *self.lock).await.unwrap();
        self.running
    }

    /// Ends it there, as a kill would.
    async fn kill(self) {
        self.running.abort();
        let running = self.release().await;
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// Ends a first copy after three ranges.
async fn killed_between_ranges(shop: &Followed) {
    let follower = shop.follower.clone();
    let catch_up = async move { follower.catch_up(&[]).await };
    Held::after(shop, 3, Box::pin(catch_up)).await.kill().await;
}

async fn kept(shop: &Followed) -> u64 {
    let report = shop.catch_up().await;
    let of_wide = report
        .tables
        .iter()
        .find(|it| it.table.name == "wide")
        .unwrap();
    of_wide.kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_copy_goes_on_with_the_ranges_that_are_missing() {
    let shop = in_ranges(WIDE).await;
    killed_between_ranges(&shop).await;
    // Row versions move to other pages, from landed ranges and into them.
    shop.in_source(
        "update wide set v = 1, large = null where id % 7 = 0; delete from wide where id % 11 = 0;
         insert into wide select n, 2, 'late', repeat('z', 2500) from generate_series(4000, 4100) n;
         update wide set id = id + 10000, large = 'moved' where id % 13 = 0;
         update wide set filler = 'again', large = 'b' where id in (1, 2999)",
    )
    .await;
    assert!(kept(&shop).await > 0);
    shop.assert_equal("wide").await;
    assert_eq!(shop.copies("wide").await, 1);
    shop.in_source("update wide set v = 3 where large is not null; truncate wide; insert into wide values (1, 1, 'f', 'l')")
        .await;
    shop.catch_up().await;
    shop.assert_equal("wide").await;
    assert_eq!(
        shop.copies("wide").await,
        1,
        "nothing had to be copied again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_change_without_its_row_makes_the_table_be_copied_from_the_beginning() {
    let shop = in_ranges(WIDE).await;
    killed_between_ranges(&shop).await;
    // The first ranges have landed, and have room now; new rows fill the last page, so that new versions
    // of the rows before it go to where there is room, before their own ranges are read.
    let begun = Instant::now();
    let emptied = "select count(*) from wide where id % 100 = 0 and ctid < '(16,0)'";
    shop.in_source("delete from wide where id <= 200").await;
    for n in 0.. {
        shop.in_source("vacuum wide").await;
        let fill = format!(
            "insert into wide select {n} * 100 + m, 0, repeat('x', 300), null from generate_series(20001, 20048) m;
             update wide set v = v + 1 where id % 100 = 0 and id between 1500 and 2900"
        );
        shop.in_source(&fill).await;
        if one::<i64>(shop.source.pool(), emptied).await > 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no row moves");
    }
    assert!(
        kept(&shop).await > 0,
        "it had been copied with the ranges that were there"
    );
    shop.assert_equal("wide").await;
    assert_eq!(shop.copies("wide").await, 2, "and then once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replaying_cannot_mend_begins_anew() {
    for (sql, change, copies) in [
        // Whose row has the old key by the time of the second snapshot cannot be told.
        (WIDE, "update wide set id = 9000 where id = 3000", 2),
        (
            WIDE,
            "truncate wide; insert into wide select n, 5, repeat('w', 300), null from generate_series(1, 900) n",
            1,
        ),
        (
            WIDE,
            "alter table wide drop column large; alter table wide add column large text",
            1,
        ),
        (
            UNKEYED,
            "delete from wide where id % 3 = 0; insert into wide values (1, 1, 'n'), (1, 1, 'n'); update wide set v = 1",
            1,
        ),
    ] {
        let shop = in_ranges(sql).await;
        killed_between_ranges(&shop).await;
        shop.in_source(change).await;
        let kept = kept(&shop).await;
        assert_eq!(kept > 0, copies == 2, "{change}: {kept} rows kept");
        shop.assert_equal("wide").await;
        assert_eq!(shop.copies("wide").await, copies, "{change}");
    }
}

const BESIDE: &str = "
create table orders (id int primary key, amount int); insert into orders values (1, 0);
create table log (line text); alter table log replica identity full; insert into log values ('first');";

/// A copy of `wide` at work beside the stream of the others, which have run ahead.
async fn copied_beside(shop: &Followed) -> Held<()> {
    shop.catch_up().await;
    let forget = "delete from ballpoint.checkpoints where table_name = 'wide'";
    run(shop.warehouse.pool(), forget).await;
    let follower = shop.follower.clone();
    let follow = async move {
        follower.follow(Until::Forever).await.unwrap();
    };
    let following = Held::after(shop, 2, Box::pin(follow)).await;
    assert_eq!(shop.follower.status().copying, ["public.wide"]);
    let stood: String = one(
        shop.warehouse.pool(),
        "select end_lsn::text from ballpoint.streams",
    )
    .await;
    shop.in_source("update wide set v = 7 where id % 50 = 0; delete from wide where id = 5")
        .await;
    for n in 1..=3 {
        shop.in_source(&format!(
            "update orders set amount = {n}; insert into log values ('same')"
        ))
        .await;
        until(
            shop.warehouse.pool(),
            "select amount from raw.orders",
            |it: &i32| *it == n,
        )
        .await;
    }
    let status = shop.follower.status();
    assert!(status.streaming && status.tables == 3, "{status:?}");
    let ahead = "select end_lsn::text || ' ' || (ahead_lsn > end_lsn) from ballpoint.streams";
    let stands: String = one(shop.warehouse.pool(), ahead).await;
    assert_eq!(
        stands,
        format!("{stood} true"),
        "the position waits for the copy"
    );
    let confirmed = format!(
        "select confirmed_flush_lsn <= '{stood}'::pg_lsn from pg_replication_slots
         where database = current_database() and not temporary"
    );
    assert!(
        one::<bool>(shop.source.pool(), &confirmed).await,
        "and so does the slot"
    );
    following
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_table_is_copied_the_changes_of_the_others_flow() {
    let shop = in_ranges(&format!("{WIDE}{BESIDE}")).await;
    let following = copied_beside(&shop).await.release().await;
    let rejoined = "select count(*) from ballpoint.streams where ahead_lsn is null";
    until(shop.warehouse.pool(), rejoined, |it: &i64| *it == 1).await;
    shop.in_source("insert into log values ('last'); update wide set v = 8 where id = 50")
        .await;
    let last = "select count(*) from raw.log where line = 'last'";
    until(shop.warehouse.pool(), last, |it: &i64| *it == 1).await;
    following.abort();
    let _ = following.await;
    shop.catch_up().await;
    for (table, copies) in [("wide", 2), ("orders", 1), ("log", 1)] {
        shop.assert_equal(table).await;
        assert_eq!(shop.copies(table).await, copies, "{table}");
    }
    assert_eq!(shop.follower.status().copying, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ahead_when_a_copy_was_killed_is_neither_lost_nor_doubled() {
    let shop = in_ranges(&format!("{WIDE}{BESIDE}")).await;
    copied_beside(&shop).await.kill().await;
    shop.in_source("update orders set amount = 9; insert into log values ('same')")
        .await;
    assert!(
        kept(&shop).await > 0,
        "the position, and with it the ranges, were kept"
    );
    for table in ["wide", "orders", "log"] {
        shop.assert_equal(table).await;
    }
    assert_eq!(shop.copies("log").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_into_ranges_that_landed_empty_are_replayed() {
    let shop = in_ranges(WIDE).await;
    // Pages without a row that can be seen, which new rows will fill.
    shop.in_source("delete from wide where id <= 1500").await;
    shop.in_source("vacuum wide").await;
    killed_between_ranges(&shop).await;
    shop.in_source(
        "insert into wide select n, 7, repeat('n', 300), null from generate_series(1, 1000) n",
    )
    .await;
    shop.catch_up().await;
    shop.assert_equal("wide").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_from_before_a_new_column_are_not_replayed_over_rows_that_have_it() {
    let shop = in_ranges(WIDE).await;
    killed_between_ranges(&shop).await;
    shop.in_source(
        "update wide set v = 1 where id < 100; alter table wide add column added text default 'x'",
    )
    .await;
    Held::after(&shop, 3, {
        let follower = shop.follower.clone();
        Box::pin(async move { follower.catch_up(&[]).await })
    })
    .await
    .kill()
    .await;
    shop.catch_up().await;
    shop.assert_equal("wide").await;
}

/// As one whose commit was under way when its follower lost the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_seen_after_the_stream_has_moved_on_counts_for_nothing() {
    let shop = Followed::with(ORDERS).await;
    shop.catch_up().await;
    shop.in_source("update orders set amount = 4").await;
    shop.catch_up().await;
    let late = "update ballpoint.checkpoints set position = position || '{\"state\": \"copied\"}'";
    sqlx::query(late)
        .execute(shop.warehouse.pool())
        .await
        .unwrap();
    shop.in_source("create table other (a int primary key); insert into other values (1)")
        .await;
    shop.catch_up().await;
    shop.in_source("update orders set amount = 5").await;
    shop.catch_up().await;
    shop.assert_equal("orders").await;
    assert_eq!(shop.copies("orders").await, 2);
}

/// PostgreSQL shows a table that was written anew since a snapshot as empty under it, and reads the others by
/// their present columns.
#[tokio::test]
async fn a_table_that_changed_since_a_snapshot_is_not_read_under_it() {
    let shop = Followed::with(ORDERS).await;
    let source = shop.reader.changes().unwrap();
    for change in [
        "truncate orders",
        "alter table orders alter amount type text",
        "alter table orders rename customer to name",
        "alter table orders drop column amount; alter table orders add amount text",
        "drop table orders; create table orders (id int primary key)",
    ] {
        let spec = source.survey().await.unwrap().tables.remove(0);
        let snapshot = source.snapshot(None).await.unwrap();
        assert!(snapshot.open(&spec, snapshot.lsn()).await.is_ok());
        shop.in_source(change).await;
        let Err(error) = snapshot.open(&spec, snapshot.lsn()).await else {
            panic!("{change}: its rows are read");
        };
        assert!(error.is_transient(), "{change}: {error}");
    }
}
