//! Tables whose columns change while the log is followed: the stream goes on for the others.

use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(120);
const THREE: &str = "
create table steady (id int primary key, v int);
create table drifting (id int primary key, v int not null);
create table stuck (id int primary key, v bigint);
create table log (line text); alter table log replica identity full; insert into log values ('same')";

/// Follows for ever; ended when dropped.
struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followed {
    async fn following(&self) -> Following {
        self.catch_up().await;
        let follower = self.follower.clone();
        let running = Following(tokio::spawn(async move {
            follower.follow(Until::Forever).await.unwrap();
        }));
        self.until("select 1", |status| status.streaming).await;
        running
    }

    /// Until the warehouse has a row of `sql`, and the stream is in that state.
    async fn until(&self, sql: &str, is_there: impl Fn(&StreamStatus) -> bool) {
        let begun = Instant::now();
        loop {
            let found = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
                .fetch_optional(self.warehouse.pool())
                .await;
            let status = self.follower.status();
            if matches!(&found, Ok(Some(_))) && is_there(&status) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{sql}: {found:?}, {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_goes_on_while_some_tables_drift_and_one_is_quarantined() {
    let shop = Followed::with(THREE).await;
    let following = shop.following().await;
    let opened = shop.follower.status().opened;
    for n in 1..=3 {
        shop.in_source(&format!(
            "begin; alter table drifting add column c{n} int;
             insert into drifting (id, v, c{n}) values ({n}, 0, {n});
             alter table log add column c{n} int; insert into log values ('same'), ('same');
             insert into steady values ({n}, 0); commit;
             update steady set v = {n}; update drifting set v = {n}; insert into log values ('same')"
        ))
        .await;
    }
    shop.in_source(
        "alter table stuck alter v type int; insert into stuck values (1, 1);
         update steady set v = 9 where id = 3",
    )
    .await;
    for table in ["steady", "drifting", "log"] {
        let all = match table {
            "steady" => "select from raw.steady where v = 9",
            "drifting" => "select from raw.drifting where v = 3 and c3 = 3",
            _ => "select from raw.log having count(*) = 10",
        };
        shop.until(all, |_| true).await;
        shop.assert_equal(table).await;
    }
    let is_held = |status: &StreamStatus| status.held.iter().any(|it| it.contains("stuck"));
    shop.until(
        "select from ballpoint.streams where ahead_lsn is null",
        is_held,
    )
    .await;
    // It is published no longer, and the others go on.
    shop.in_source("insert into stuck values (2, 2); update steady set v = 10 where id = 1")
        .await;
    shop.until("select from raw.steady where v = 10", |_| true)
        .await;
    let published =
        "select string_agg(tablename, ' ' order by tablename) from pg_publication_tables";
    let published: String = one(shop.source.pool(), published).await;
    assert_eq!(published, "drifting log steady");
    assert_eq!(shop.follower.status().opened, opened, "it was opened again");
    drop(following);
    shop.catch_up().await;
    for table in ["steady", "drifting", "log"] {
        shop.assert_equal(table).await;
        assert_eq!(shop.copies(table).await, 1, "{table} was copied once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_may_be_null_since_is_widened_in_place() {
    let shop = Followed::with(THREE).await;
    let _following = shop.following().await;
    let opened = shop.follower.status().opened;
    shop.in_source(
        "alter table drifting alter v drop not null;
         begin; insert into steady values (1, 1); insert into drifting values (1, null); commit",
    )
    .await;
    shop.until("select from raw.drifting where v is null", |_| true)
        .await;
    shop.assert_equal("steady").await;
    let told = "select from ballpoint.events where payload->>'type' = 'schema_changed'
                and payload::text like '%nullability%'";
    shop.until(told, |_| true).await;
    assert_eq!(shop.copies("drifting").await, 1);
    assert_eq!(shop.follower.status().opened, opened);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_table_is_copied_beside_the_stream_and_told_of_once_it_has_landed() {
    let shop = Followed::with(THREE).await;
    let _following = shop.following().await;
    shop.in_source("create table new (id int primary key); insert into new values (1)")
        .await;
    let told = "select from ballpoint.events where payload::text like '%table_added%'";
    shop.until(told, |_| true).await;
    let ordered = "select from ballpoint.events added, ballpoint.events landed
        where added.payload::text like '%table_added%' and landed.payload->>'type' = 'table_loaded'
          and landed.payload->>'raw' like '%new%' and landed.id < added.id";
    shop.until(ordered, |_| true).await;
    shop.in_source("insert into new values (2)").await;
    shop.until("select from raw.new where id = 2", |_| true)
        .await;
    // When its copy has landed it joins the others.
    assert_eq!(shop.follower.status().opened, 3);
}

/// More than is kept in memory: read again once the table was looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_of_a_drifting_table_are_read_again_and_not_doubled() {
    let shop = Followed::with(THREE).await;
    let following = shop.following().await;
    shop.in_source(
        "begin; alter table log add column c text;
         insert into log select 'l', repeat('x', 1000) from generate_series(1, 12000); commit;
         insert into steady values (1, 1)",
    )
    .await;
    shop.until("select from raw.log having count(*) = 12001", |_| true)
        .await;
    shop.until("select from raw.steady", |_| true).await;
    drop(following);
    shop.catch_up().await;
    shop.assert_equal("log").await;
    assert_eq!(shop.copies("log").await, 1);
}
