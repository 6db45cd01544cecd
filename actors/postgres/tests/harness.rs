//! The test harness itself: databases are separate, many at once work.
#![allow(clippy::unwrap_used)]

use ballpoint_postgres::testing::TestDatabase;

#[tokio::test]
async fn each_test_database_is_empty_and_its_own() {
    let (first, second) = tokio::join!(TestDatabase::create(), TestDatabase::create());
    sqlx::query("CREATE TABLE only_here (id int)")
        .execute(first.pool())
        .await
        .unwrap();
    let count = "SELECT count(*) FROM pg_class WHERE relname = 'only_here'";
    let here: i64 = sqlx::query_scalar(count)
        .fetch_one(first.pool())
        .await
        .unwrap();
    let there: i64 = sqlx::query_scalar(count)
        .fetch_one(second.pool())
        .await
        .unwrap();
    assert_eq!((here, there), (1, 0));
}

#[tokio::test]
async fn the_cluster_outlives_the_runtime_of_the_test_that_started_it() {
    let database = TestDatabase::create().await;
    let one: i32 = sqlx::query_scalar("SELECT 1")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(one, 1);
}
