//! The store on a real PostgreSQL.

#![allow(clippy::unwrap_used)]

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
            "this warehouse's schema ballpoint is at version 99, this program knows up to 1: \
             use the newer ballpoint, or another warehouse"
        );
    }
    assert_eq!(rows(&store).await.len(), 1);
}

#[tokio::test]
async fn queued_work_of_one_kind_and_scope_is_one_row_and_keeps_the_first_trace() {
    let (_database, store) = open().await;
    let first = enqueue(&store, &["a"]).await;
    let merged = store
        .work()
        .enqueue(&sync(&["b", "a"]), &trace("later"))
        .await
        .unwrap();
    assert_eq!(first, merged);
    let build = WorkKind::Build {
        changed: vec![table("a")],
    };
    assert_ne!(
        store.work().enqueue(&build, &trace("")).await.unwrap(),
        first
    );
    let claimed = claim(&store).await.unwrap();
    let expected = ClaimedWork {
        id: first,
        work: sync(&["a", "b"]),
        trace: trace("t"),
        attempt: 1,
    };
    assert_eq!(claimed, expected);
}

#[tokio::test]
async fn many_writers_at_once_make_one_row_that_holds_all_they_asked_for() {
    let (_database, store) = open().await;
    let names: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
    let commands: Vec<WorkKind> = names.iter().map(|name| sync(&[name])).collect();
    let nothing = trace("");
    let writers = commands
        .iter()
        .map(|command| store.work().enqueue(command, &nothing));
    futures_util::future::try_join_all(writers).await.unwrap();
    let expected: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(claim(&store).await.unwrap().work, sync(&expected));
    assert_eq!(rows(&store).await.len(), 1);
}

#[tokio::test]
async fn one_runs_at_a_time_and_what_is_queued_meanwhile_runs_next() {
    let (_database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let claims = futures_util::future::join_all((0..8).map(|_| claim(&store))).await;
    let claimed: Vec<ClaimedWork> = claims.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    enqueue(&store, &["b"]).await;
    assert_eq!(claim(&store).await, None);
    assert_eq!(
        store.work().claim("sync", "stock", LEASE).await.unwrap(),
        None
    );
    store.work().complete(claimed[0].id).await.unwrap();
    assert_eq!(claim(&store).await.unwrap().work, sync(&["b"]));
}

#[tokio::test]
async fn work_that_always_fails_is_dead_after_eight_attempts() {
    let (_database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    for attempt in 1..=ATTEMPTS_MAX {
        let claimed = claim(&store).await.unwrap();
        assert_eq!((claimed.id, claimed.attempt), (id, attempt));
        store
            .work()
            .fail(id, "no such column", Some(Duration::ZERO))
            .await
            .unwrap();
    }
    assert_eq!(claim(&store).await, None);
    assert_eq!(
        rows(&store).await,
        [("dead".into(), 8, Some("no such column".into()))]
    );
    assert_ne!(enqueue(&store, &["a"]).await, id);
    assert_eq!(claim(&store).await.unwrap().attempt, 1);
}

#[tokio::test]
async fn a_failure_backs_off_and_newer_work_does_not_shorten_it() {
    let (_database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    claim(&store).await.unwrap();
    store.work().fail(id, "down", None).await.unwrap();
    enqueue(&store, &["b"]).await;
    assert_eq!(claim(&store).await, None);
    assert_eq!(
        rows(&store).await,
        [("queued".into(), 1, Some("down".into()))]
    );
}

#[tokio::test]
async fn a_failed_payload_moves_into_the_work_that_was_queued_meanwhile() {
    let (_database, store) = open().await;
    let first = enqueue(&store, &["a"]).await;
    claim(&store).await.unwrap();
    enqueue(&store, &["b"]).await;
    store.work().fail(first, "down", None).await.unwrap();
    let claimed = claim(&store).await.unwrap();
    assert_eq!((claimed.work, claimed.attempt), (sync(&["a", "b"]), 2));
    let states: Vec<String> = rows(&store).await.into_iter().map(|row| row.0).collect();
    assert_eq!(states, ["failed", "running"]);
}

#[tokio::test]
async fn work_that_cannot_succeed_is_given_up_at_once() {
    let (_database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    claim(&store).await.unwrap();
    store.work().abandon(id, "no such table").await.unwrap();
    assert_eq!(rows(&store).await[0].0, "dead");
    assert_eq!(store.work().open_count().await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_kill_the_next_start_runs_the_work_again_without_counting_the_interruption() {
    let (database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    let run = store
        .runs()
        .start("sync", "test", &trace("t"))
        .await
        .unwrap();
    let _step = run.step("public.a").await.unwrap();
    for _ in 0..2 * ATTEMPTS_MAX {
        let claimed = claim(&store).await.unwrap();
        assert_eq!((claimed.id, claimed.attempt), (id, 1));
        // As if the process had ended here.
        let next = Store::open(database.pool().clone()).await.unwrap();
        next.recover().await.unwrap();
    }
    assert_eq!(
        store.runs().recent(1).await.unwrap()[0].status,
        "interrupted"
    );
    assert_eq!(
        store.runs().steps(run.id()).await.unwrap()[0].status,
        "interrupted"
    );
}

#[tokio::test]
async fn a_lease_that_ran_out_and_a_restarted_worker_count_as_attempts() {
    let (_database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let work = store.work();
    let claimed = work
        .claim("sync", "orders", Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    work.extend(claimed.id, LEASE).await.unwrap();
    assert_eq!(work.release_expired().await.unwrap(), 0);
    work.extend(claimed.id, Duration::ZERO).await.unwrap();
    assert_eq!(work.release_expired().await.unwrap(), 1);
    assert_eq!(claim(&store).await.unwrap().attempt, 2);
    assert_eq!(work.reclaim("sync", "stock").await.unwrap(), 0);
    assert_eq!(work.reclaim("sync", "orders").await.unwrap(), 1);
    assert_eq!(claim(&store).await.unwrap().attempt, 3);
    // The first worker was only slow, and reports when the row is not its own any more: harmless.
    work.reclaim("sync", "orders").await.unwrap();
    work.complete(claimed.id).await.unwrap();
    assert_eq!(claim(&store).await.unwrap().attempt, 4);
}

#[tokio::test]
async fn enqueueing_wakes_who_waits_and_a_rolled_back_command_was_never_there() {
    let (database, store) = open().await;
    let mut wake = store.work().subscribe("sync");
    let mut transaction = database.pool().begin().await.unwrap();
    WorkQueue::enqueue_in(&mut transaction, &sync(&[]), &trace(""))
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(claim(&store).await, None);
    enqueue(&store, &[]).await;
    let begun = std::time::Instant::now();
    wake.wait().await;
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert!(claim(&store).await.is_some());
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
    let done = enqueue(&store, &["a"]).await;
    claim(&store).await.unwrap();
    store.work().complete(done).await.unwrap();
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
