//! The store on a real PostgreSQL.

#![allow(clippy::unwrap_used)]

mod incidents;
mod runs;
mod work;

use std::time::Duration;

use ballpoint_postgres::testing::TestDatabase;
use serde_json::json;

use super::*;
use crate::event::Event;
use crate::segment::{Position, TableName};
use crate::trace::TraceContext;
use crate::work::WorkKind;

const LEASE: Duration = Duration::from_secs(60);

async fn open() -> (TestDatabase, Store) {
    let database = TestDatabase::create().await;
    let store = Store::open(database.pool().clone()).await.unwrap();
    (database, store)
}

fn table(name: &str) -> TableName {
    TableName::new("public", name)
}

fn sync(tables: &[&str]) -> WorkKind {
    let tables = tables.iter().map(|name| table(name)).collect();
    WorkKind::Sync {
        source: "orders".into(),
        tables,
        full_refresh: false,
    }
}

fn trace(text: &str) -> TraceContext {
    TraceContext(text.into())
}

async fn enqueue(store: &Store, tables: &[&str]) -> i64 {
    store
        .work()
        .enqueue(&sync(tables), &trace("t"))
        .await
        .unwrap()
}

async fn claim(store: &Store) -> Option<ClaimedWork> {
    store.work().claim("sync", "orders", LEASE).await.unwrap()
}

/// State, attempt and last error of each row, oldest first.
async fn rows(store: &Store) -> Vec<(String, i32, Option<String>)> {
    let mut rows = store.work().recent(100).await.unwrap();
    rows.reverse();
    rows.into_iter()
        .map(|row| (row.state, row.attempt, row.last_error))
        .collect()
}

#[tokio::test]
async fn two_programs_that_start_at_once_migrate_once_and_a_third_changes_nothing() {
    let database = TestDatabase::create().await;
    let opening = || Store::open(database.pool().clone());
    let (one, two) = tokio::join!(opening(), opening());
    one.unwrap();
    enqueue(&two.unwrap(), &[]).await;
    assert_eq!(rows(&opening().await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_warehouse_of_a_newer_version_is_refused_in_one_line_and_left_alone() {
    let (database, store) = open().await;
    enqueue(&store, &[]).await;
    let known: i64 = sqlx::query_scalar("select max(version) from ballpoint._sqlx_migrations")
        .fetch_one(database.pool())
        .await
        .unwrap();
    sqlx::query(
        "insert into ballpoint._sqlx_migrations (version, description, success, checksum, execution_time)
         values (99, 'later', true, '', 0)",
    )
    .execute(database.pool())
    .await
    .unwrap();
    for _ in 0..2 {
        let error = Store::open(database.pool().clone()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "this warehouse's schema ballpoint is at version 99, this program knows up to {known}: \
                 use the newer ballpoint, or another warehouse"
            )
        );
    }
    assert_eq!(rows(&store).await.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_is_there_exactly_if_its_transaction_was_committed() {
    let (database, store) = open().await;
    let position = |n: i64| Position(json!({"cursor": "2026-01-01", "n": n}));
    let put = async |n: i64, commit: bool| {
        let mut transaction = database.pool().begin().await.unwrap();
        Checkpoints::put_in(&mut transaction, "orders", &table("a"), &position(n))
            .await
            .unwrap();
        if commit {
            transaction.commit().await
        } else {
            transaction.rollback().await
        }
        .unwrap();
    };
    put(1, false).await;
    assert_eq!(
        store
            .checkpoints()
            .get("orders", &table("a"))
            .await
            .unwrap(),
        None
    );
    put(1, true).await;
    put(2, true).await;
    put(3, false).await;
    assert_eq!(
        store
            .checkpoints()
            .get("orders", &table("a"))
            .await
            .unwrap(),
        Some(position(2))
    );
    let all = store.checkpoints().all().await.unwrap();
    assert_eq!((all.len(), &all[0].position), (1, &position(2)));
}

#[tokio::test]
async fn an_event_is_a_row_first_and_a_broadcast_second() {
    let (database, store) = open().await;
    let mut events = store.events().subscribe();
    let event = Event::SourceRecovered {
        source: "orders".into(),
    };
    let mut transaction = database.pool().begin().await.unwrap();
    let lost = EventBus::record_in(&mut transaction, event.clone(), trace("t"))
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    assert!(events.try_recv().is_err());
    let published = store
        .events()
        .publish(event.clone(), trace("t"))
        .await
        .unwrap();
    let received = events.recv().await.unwrap();
    assert_eq!(received, published);
    assert!(received.id > lost.id && received.at.as_second() > 1_500_000_000);
    assert_eq!(
        store.events().recent(10, 0).await.unwrap(),
        std::slice::from_ref(&published)
    );
    assert_eq!(store.events().recent(10, published.id).await.unwrap(), []);
    assert_eq!(store.work().open_count().await.unwrap(), 1);
}

#[tokio::test]
async fn handled_events_are_not_read_again_and_an_unreadable_one_holds_up_nothing() {
    let (database, store) = open().await;
    sqlx::query(
        "insert into ballpoint.events (payload) values ('{\"type\": \"from_the_future\"}')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let event = Event::SourceRecovered {
        source: "orders".into(),
    };
    let published = store.events().publish(event, trace("t")).await.unwrap();
    let mut transaction = database.pool().begin().await.unwrap();
    let unhandled = EventBus::unhandled_in(&mut transaction, 10).await.unwrap();
    assert_eq!(unhandled, std::slice::from_ref(&published));
    EventBus::mark_handled_in(&mut transaction, &[published.id])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.work().open_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_run_is_recorded_with_its_steps() {
    let (_database, store) = open().await;
    let run = store
        .runs()
        .start("build", "schedule", &trace("t"))
        .await
        .unwrap();
    let id = run.id();
    let loaded = run.step("model a").await.unwrap();
    let skipped = run.step("model b").await.unwrap();
    loaded
        .finish(StepStatus::Failed, Some(3), Some("3 rows fail"))
        .await
        .unwrap();
    skipped
        .finish(StepStatus::Skipped, None, None)
        .await
        .unwrap();
    run.finish(RunStatus::Failed, Some("1 of 2 failed"))
        .await
        .unwrap();
    let runs = store.runs().recent(5).await.unwrap();
    assert_eq!(
        (runs.len(), runs[0].id, runs[0].status.as_str()),
        (1, id, "failed")
    );
    assert!(runs[0].finished_at.unwrap() >= runs[0].started_at);
    let steps = store.runs().steps(id).await.unwrap();
    let shown: Vec<_> = steps
        .iter()
        .map(|s| (&*s.name, &*s.status, s.row_count))
        .collect();
    assert_eq!(
        shown,
        [("model a", "failed", Some(3)), ("model b", "skipped", None)]
    );
}

#[tokio::test]
async fn messages_keep_their_order_and_any_character_also_when_written_at_once() {
    let (_database, store) = open().await;
    let conversations = store.conversations();
    let odd = json!({"z": "a\u{0}b", "a": 1.5});
    assert_eq!(conversations.append("c", "user", &odd).await.unwrap(), 1);
    let content = json!("hello");
    let writers = (0..10).map(|_| conversations.append("c", "assistant", &content));
    let mut written: Vec<i32> = futures_util::future::try_join_all(writers).await.unwrap();
    written.sort_unstable();
    assert_eq!(written, (2..=11).collect::<Vec<i32>>());
    let messages = conversations.messages("c", 100).await.unwrap();
    assert_eq!(
        (messages.len(), messages[0].content.to_string()),
        (11, odd.to_string())
    );
    let last = conversations.messages("c", 2).await.unwrap();
    assert_eq!(
        last.iter().map(|message| message.seq).collect::<Vec<i32>>(),
        [10, 11]
    );
    assert_eq!(conversations.recent(5).await.unwrap()[0].messages, 11);
    assert_eq!(conversations.messages("unknown", 5).await.unwrap(), []);
}

#[tokio::test]
async fn a_proof_is_kept_and_never_rewritten() {
    let (_database, store) = open().await;
    store
        .proofs()
        .put("p", &json!({"sql": "select 1"}))
        .await
        .unwrap();
    store.proofs().put("p", &json!({})).await.unwrap();
    assert_eq!(
        store.proofs().get("p").await.unwrap(),
        Some(json!({"sql": "select 1"}))
    );
    assert_eq!(store.proofs().get("q").await.unwrap(), None);
}

#[tokio::test]
async fn pruning_forgets_old_history_and_nothing_that_is_open() {
    let (database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let done = claim(&store).await.unwrap();
    store.work().complete(&done).await.unwrap();
    let queued = enqueue(&store, &["b"]).await;
    let event = Event::SourceRecovered {
        source: "orders".into(),
    };
    let open_event = store
        .events()
        .publish(event.clone(), trace(""))
        .await
        .unwrap();
    let handled = store.events().publish(event, trace("")).await.unwrap();
    let mut connection = database.pool().acquire().await.unwrap();
    EventBus::mark_handled_in(&mut connection, &[handled.id])
        .await
        .unwrap();
    store
        .runs()
        .start("sync", "test", &trace(""))
        .await
        .unwrap();
    store.prune().await.unwrap();
    assert_eq!(
        (
            rows(&store).await.len(),
            store.runs().recent(5).await.unwrap().len()
        ),
        (2, 1)
    );
    for statement in [
        "update ballpoint.work set updated_at = now() - interval '8 days'",
        "update ballpoint.events set at = now() - interval '8 days'",
        "update ballpoint.runs set started_at = now() - interval '31 days'",
    ] {
        sqlx::query(statement)
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    store.prune().await.unwrap();
    let left: Vec<i64> = store
        .work()
        .recent(5)
        .await
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(left, [queued]);
    let events = store.events().recent(5, 0).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.id).collect::<Vec<i64>>(),
        [open_event.id]
    );
    assert_eq!(store.runs().recent(5).await.unwrap(), []);
}
