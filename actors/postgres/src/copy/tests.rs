//! COPY against a real server: nothing lost, memory bounded, no connection left in a lie.

use std::{io, time::Duration};

use futures_util::TryStreamExt;
use sqlx::{Connection, Executor, PgPool, Row};

use super::*;
use crate::{
    pool::{PoolOptions, connect},
    testing::TestDatabase,
};

const OUT: &str = "COPY source TO STDOUT";
const IN: &str = "COPY target FROM STDIN";
const CHECKSUM: &str =
    "SELECT count(*)::text || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM";

async fn database_of(rows: u32) -> TestDatabase {
    let database = TestDatabase::create().await;
    let sql = format!(
        "CREATE TABLE source AS SELECT i AS id, repeat(md5(i::text), 6) AS text FROM generate_series(1, {rows}) i; \
         CREATE TABLE target (LIKE source)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(database.pool())
        .await
        .unwrap();
    database
}

async fn pool_of_one(database: &TestDatabase) -> PgPool {
    let options = PoolOptions {
        max_connections: 1,
        ..PoolOptions::named("copy-test")
    };
    connect(database.url(), options).await.unwrap()
}

async fn checksum(database: &TestDatabase, table: &str) -> String {
    let sql = sqlx::AssertSqlSafe(format!("{CHECKSUM} {table} t"));
    sqlx::query_scalar(sql)
        .fetch_one(database.pool())
        .await
        .unwrap()
}

fn rows(chunks: Vec<Result<&'static str, io::Error>>) -> BoxStream<'static, io::Result<Bytes>> {
    stream::iter(chunks)
        .map_ok(|text| Bytes::from_static(text.as_bytes()))
        .boxed()
}

#[tokio::test]
async fn a_hundred_thousand_rows_arrive_as_they_left() {
    let database = database_of(100_000).await;
    let sizes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let connection = database.pool().acquire().await.unwrap();
    let stream = copy_out(connection, OUT.to_owned())
        .inspect_ok(move |chunk| seen.lock().unwrap().push(chunk.len()))
        .boxed();
    let mut target = database.pool().begin().await.unwrap();
    let count = copy_in(&mut target, IN, stream).await.unwrap();
    target.commit().await.unwrap();
    assert_eq!(count, 100_000);
    assert_eq!(
        checksum(&database, "source").await,
        checksum(&database, "target").await
    );

    let sizes = sizes.lock().unwrap();
    let (last, full) = sizes.split_last().unwrap();
    assert!(
        full.iter()
            .all(|size| (CHUNK_BYTES..CHUNK_BYTES + 1024).contains(size)),
        "{sizes:?}"
    );
    assert!(*last <= CHUNK_BYTES + 1024);
}

#[tokio::test]
async fn the_server_waits_for_a_slow_consumer() {
    // 20 MB: more than the sockets' buffers and the chunks in flight together.
    let database = database_of(100_000).await;
    let connection = database.pool().acquire().await.unwrap();
    let mut stream = copy_out(connection, OUT.to_owned());
    stream.next().await.unwrap().unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COPY source TO STDOUT' \
                   AND wait_event = 'ClientWrite' AND datname = current_database()";
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        let count: i64 = sqlx::query_scalar(waiting)
            .fetch_one(database.pool())
            .await
            .unwrap();
        if count == 1 {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the server never had to wait"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read: usize = stream
        .map_ok(|chunk| chunk.len())
        .try_fold(0, async |a, b| Ok(a + b))
        .await
        .unwrap();
    assert!(read > 15_000_000, "the rest still comes: {read}");
}

#[tokio::test]
async fn a_stream_that_is_dropped_stops_the_server_and_frees_the_pool() {
    let database = database_of(100_000).await;
    let pool = pool_of_one(&database).await;
    let mut stream = copy_out(pool.acquire().await.unwrap(), OUT.to_owned());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let answer: i32 = sqlx::query_scalar("SELECT 42")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(answer, 42);
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY source%' \
                   AND state = 'active' AND datname = current_database()";
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        let count: i64 = sqlx::query_scalar(copying)
            .fetch_one(database.pool())
            .await
            .unwrap();
        if count == 0 {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the server goes on copying"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_copy_that_cannot_start_is_an_error_and_spoils_no_connection() {
    let database = database_of(1).await;
    let pool = pool_of_one(&database).await;
    for (sql, code) in [
        ("COPY missing TO STDOUT", "42P01"),
        ("COPY source TO STDOU", "42601"),
    ] {
        let stream = copy_out(pool.acquire().await.unwrap(), sql.to_owned());
        let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(
            error.as_database_error().unwrap().code().as_deref(),
            Some(code)
        );
        let answer: i32 = sqlx::query_scalar("SELECT 42")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(answer, 42);
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_not_the_end_of_the_rows() {
    let database = database_of(1).await;
    let pool = pool_of_one(&database).await;
    let sql = "COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 9000) i) TO STDOUT";
    let stream = copy_out(pool.acquire().await.unwrap(), sql.to_owned());
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(
        error.as_database_error().unwrap().code().as_deref(),
        Some("22012")
    );
}

#[tokio::test]
async fn a_source_error_keeps_nothing_and_leaves_the_connection_usable() {
    let database = database_of(0).await;
    let mut connection = database.pool().acquire().await.unwrap();
    let failing = rows(vec![Ok("1\ta\n"), Err(io::Error::other("source is gone"))]);
    let error = copy_in(&mut connection, IN, failing).await.unwrap_err();
    assert!(
        matches!(&error, CopyError::Source(e) if e.to_string() == "source is gone"),
        "{error}"
    );
    let count = sqlx::query_scalar("SELECT count(*) FROM target")
        .fetch_one(&mut *connection)
        .await;
    assert_eq!(count.ok(), Some(0_i64));
}

#[tokio::test]
async fn a_bad_row_is_named_by_its_line_and_leaves_the_connection_usable() {
    let database = database_of(0).await;
    let mut connection = database.pool().acquire().await.unwrap();
    let error = copy_in(&mut connection, IN, rows(vec![Ok("1\ta\n"), Ok("x\tb\n")])).await;
    let Err(CopyError::Database(error)) = error else {
        panic!("the row was taken")
    };
    let error = error.as_database_error().unwrap();
    let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    assert!(error.r#where().unwrap().contains("line 2"), "{error:?}");
    let count = sqlx::query_scalar("SELECT count(*) FROM target")
        .fetch_one(&mut *connection)
        .await;
    assert_eq!(count.ok(), Some(0_i64));
}

#[tokio::test]
async fn a_bad_row_and_a_source_error_together_never_mix_up_answers() {
    let database = database_of(0).await;
    let mut connection = connect_alone(&database).await;
    let failing = stream::iter(["x\tb\n", ""]).then(async |text| {
        // The server has refused the row before the source fails.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if text.is_empty() {
            Err(io::Error::other("gone"))
        } else {
            Ok(Bytes::from_static(text.as_bytes()))
        }
    });
    let error = copy_in(&mut connection, IN, failing.boxed())
        .await
        .unwrap_err();
    assert!(matches!(error, CopyError::Source(_)), "{error}");
    for expected in 1..4_i32 {
        // The simple protocol: it is the one that would take another query's answer for its own.
        let sql = sqlx::AssertSqlSafe(format!("SELECT {expected}"));
        if let Ok(row) = sqlx::raw_sql(sql).fetch_one(&mut connection).await {
            assert_eq!(
                row.get::<i32, _>(0),
                expected,
                "the answer to another query"
            );
        }
    }
}

#[tokio::test]
async fn a_copy_that_is_cancelled_keeps_nothing_and_frees_the_pool() {
    let database = database_of(0).await;
    let pool = pool_of_one(&database).await;
    let mut transaction = pool.begin().await.unwrap();
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(b"1\ta\n")))
        .then(async |row| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            row
        })
        .boxed();
    let copy = copy_in(&mut transaction, IN, endless);
    tokio::time::timeout(Duration::from_millis(100), copy)
        .await
        .unwrap_err();
    drop(transaction);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM target")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 0);
}

async fn connect_alone(database: &TestDatabase) -> PgConnection {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    connection.execute("SELECT 1").await.unwrap();
    connection
}
