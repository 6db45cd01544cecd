#![allow(clippy::unwrap_used)]

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::segment::SyncMode;
use futures_util::TryStreamExt;

use super::*;
use crate::config::{Mode, TableConfig};

async fn source(database: &TestDatabase, sql: &'static str) -> PostgresSource {
    sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
    let mut config = PostgresSourceConfig::new("shop", database.url());
    config.follow_log = false;
    PostgresSource::new(config).unwrap()
}

#[tokio::test]
async fn explain_mode_says_which_and_why() {
    let database = TestDatabase::create().await;
    let source = source(
        &database,
        "create table a (id int primary key, updated_at timestamptz not null);
         create index on a (updated_at); create table b (x int)",
    )
    .await;
    let followed = PostgresSourceConfig::new("shop", database.url());
    let followed = PostgresSource::new(followed).unwrap();
    let (choices, _) = followed.explain_mode().await.unwrap();
    assert_eq!(choices[0].mode, SyncMode::Cdc, "{choices:?}");
    assert_eq!(
        choices[1].mode,
        SyncMode::FullRefresh,
        "no row of it is named: {choices:?}"
    );
    let (choices, _) = source.explain_mode().await.unwrap();
    assert!(matches!(&choices[0].mode, SyncMode::Incremental { cursor } if cursor == "updated_at"));
    assert!(
        choices[0].reason.contains("indexed"),
        "{}",
        choices[0].reason
    );
    assert_eq!(choices[1].mode, SyncMode::FullRefresh);
    assert!(
        choices[1].reason.contains("no primary key"),
        "{}",
        choices[1].reason
    );
}

#[tokio::test]
async fn what_the_configuration_gets_wrong_is_said_with_what_to_do() {
    let database = TestDatabase::create().await;
    source(
        &database,
        "create table a (id int primary key, changed timestamptz)",
    )
    .await;
    let error_of = async |change: fn(&mut PostgresSourceConfig)| {
        let mut config = PostgresSourceConfig::new("shop", database.url());
        change(&mut config);
        let source = PostgresSource::new(config).unwrap();
        match source.survey().await {
            // The others can be read: it waits alone.
            Ok(survey) => survey.troubled[0].reason.clone(),
            Err(error) => {
                assert!(!error.is_transient(), "{error}");
                error.to_string()
            }
        }
    };
    let missing = error_of(|config| config.tables = vec!["public.orders".to_owned()]).await;
    assert!(
        missing.contains("public.orders does not exist"),
        "{missing}"
    );
    let none = error_of(|config| config.tables = vec!["sales.*".to_owned()]).await;
    assert!(none.contains("matches"), "{none}");
    let cursor = error_of(|config| {
        let table = TableConfig {
            cursor: Some("chnaged".to_owned()),
            ..Default::default()
        };
        config.table.insert("public.a".to_owned(), table);
    })
    .await;
    assert!(
        cursor.contains("\"chnaged\"") && cursor.contains("id, changed"),
        "{cursor}"
    );
    let mode = error_of(|config| config.mode = Some(Mode::Incremental)).await;
    assert!(mode.contains("cursor"), "{mode}");
}

#[tokio::test]
async fn a_table_that_may_not_be_read_names_the_grant() {
    let database = TestDatabase::create().await;
    let role = format!("shop_{}", std::process::id());
    let sql = format!("create table a (id int primary key); create role {role} login password 'p'");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(database.pool())
        .await
        .unwrap();
    let (_, rest) = database.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:p@{rest}");
    let source = PostgresSource::new(PostgresSourceConfig::new("shop", url)).unwrap();
    let survey = source.survey().await.unwrap();
    let reason = &survey.troubled[0].reason;
    assert!(reason.contains("GRANT SELECT"), "{reason}");
}

#[tokio::test]
async fn reading_leaves_no_transaction_open_in_the_source() {
    let database = TestDatabase::create().await;
    let source = source(
        &database,
        "create table a (id int primary key, t text);
         insert into a select n, repeat('x', 1000) from generate_series(1, 5000) n",
    )
    .await;
    let spec = source.tables().await.unwrap().remove(0);
    let whole = source.open(&spec, None).await.unwrap().unwrap();
    let Rows::Stream(rows) = whole.rows else {
        panic!("a small table comes in one stream");
    };
    let bytes: Vec<bytes::Bytes> = rows.try_collect().await.unwrap();
    assert!(bytes.iter().map(bytes::Bytes::len).sum::<usize>() > 5_000_000);
    let dropped = source.open(&spec, None).await.unwrap().unwrap();
    drop(dropped);
    let open = "select count(*) from pg_stat_activity where application_name = 'ballpoint/shop'
                and datname = current_database() and xact_start is not null";
    for _ in 0..2400 {
        let count: i64 = sqlx::query_scalar(open)
            .fetch_one(database.pool())
            .await
            .unwrap();
        if count == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("a transaction stayed open in the source");
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_unavailable_and_its_password_unsaid() {
    let config = PostgresSourceConfig::new("shop", "postgres://u:secret@127.0.0.1:1/d");
    let error = PostgresSource::new(config)
        .unwrap()
        .tables()
        .await
        .unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("secret"),
        "{text}"
    );
    let config = PostgresSourceConfig::new("shop", "mysql://u:secret@h/d");
    let text = PostgresSource::new(config).unwrap_err().to_string();
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_consumer_that_does_not_read_makes_the_source_wait() {
    let database = TestDatabase::create().await;
    let source = source(
        &database,
        "create table a (id int primary key, t text);
         insert into a select n, repeat('x', 1000) from generate_series(1, 20000) n",
    )
    .await;
    let spec = source.tables().await.unwrap().remove(0);
    let segment = source.open(&spec, None).await.unwrap().unwrap();
    let Rows::Stream(mut rows) = segment.rows else {
        panic!("a small table comes in one stream");
    };
    let sent = segment.sent.unwrap();
    let first = rows.try_next().await.unwrap().unwrap();
    assert!(first.len() < 80 * 1024, "{}", first.len());
    // Until the server waits for somebody to take what it sends.
    let waits = "select count(*) from pg_stat_activity where application_name = 'ballpoint/shop'
                 and datname = current_database() and wait_event = 'ClientWrite'";
    for _ in 0..2400 {
        let count: i64 = sqlx::query_scalar(waits)
            .fetch_one(database.pool())
            .await
            .unwrap();
        if count == 1 {
            let taken = sent.load(std::sync::atomic::Ordering::Relaxed);
            assert!(taken < 700, "{taken} rows of 1 KiB wait in memory");
            let rest: Vec<bytes::Bytes> = rows.try_collect().await.unwrap();
            assert!(rest.iter().map(bytes::Bytes::len).sum::<usize>() > 19_000_000);
            let all = sent.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(all, 20_000);
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the source never waited");
}
