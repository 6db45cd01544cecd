//! The queue of commands.

use super::*;
use crate::retry::RetryPolicy;
use crate::work::Trigger;

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
        trigger: Trigger::Manual,
        attempt: 1,
        claim: 1,
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
    store.work().complete(&claimed[0]).await.unwrap();
    assert_eq!(claim(&store).await.unwrap().work, sync(&["b"]));
}

#[tokio::test]
async fn work_that_always_fails_is_dead_after_eight_attempts() {
    let (_database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    for attempt in 1..=RetryPolicy::default().attempts {
        let claimed = claim(&store).await.unwrap();
        assert_eq!((claimed.id, claimed.attempt), (id, attempt));
        store
            .work()
            .fail(&claimed, "no such column", Some(Duration::ZERO))
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
    enqueue(&store, &["a"]).await;
    let claimed = claim(&store).await.unwrap();
    store.work().fail(&claimed, "down", None).await.unwrap();
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
    enqueue(&store, &["a"]).await;
    let failing = claim(&store).await.unwrap();
    enqueue(&store, &["b"]).await;
    store.work().fail(&failing, "down", None).await.unwrap();
    let claimed = claim(&store).await.unwrap();
    assert_eq!((claimed.work, claimed.attempt), (sync(&["a", "b"]), 2));
    let states: Vec<String> = rows(&store).await.into_iter().map(|row| row.0).collect();
    assert_eq!(states, ["failed", "running"]);
}

#[tokio::test]
async fn work_that_cannot_succeed_is_given_up_at_once() {
    let (_database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let claimed = claim(&store).await.unwrap();
    store
        .work()
        .abandon(&claimed, "no such table")
        .await
        .unwrap();
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
    for _ in 0..2 * RetryPolicy::default().attempts {
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
async fn a_lease_that_ran_out_counts_as_an_attempt_and_a_restarted_worker_does_not() {
    let (_database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let work = store.work();
    let claimed = work
        .claim("sync", "orders", Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    work.extend(&claimed, LEASE).await.unwrap();
    assert_eq!(work.release_expired().await.unwrap(), 0);
    work.extend(&claimed, Duration::ZERO).await.unwrap();
    assert_eq!(work.release_expired().await.unwrap(), 1);
    assert_eq!(claim(&store).await.unwrap().attempt, 2);
    let restarted = Interruption::Restart;
    assert_eq!(work.reclaim("sync", "stock", restarted).await.unwrap(), 0);
    assert_eq!(work.reclaim("sync", "orders", restarted).await.unwrap(), 1);
    assert_eq!(claim(&store).await.unwrap().attempt, 2);
    work.reclaim("sync", "orders", Interruption::Unrecorded)
        .await
        .unwrap();
    assert_eq!(claim(&store).await.unwrap().attempt, 3);
}

#[tokio::test]
async fn what_a_worker_says_of_a_row_that_was_taken_from_it_changes_nothing() {
    let (_database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let work = store.work();
    let slow = claim(&store).await.unwrap();
    work.reclaim("sync", "orders", Interruption::Restart)
        .await
        .unwrap();
    let next = claim(&store).await.unwrap();
    assert_eq!((next.id, next.attempt), (slow.id, slow.attempt));
    work.complete(&slow).await.unwrap();
    work.fail(&slow, "late", None).await.unwrap();
    work.abandon(&slow, "late").await.unwrap();
    work.extend(&slow, Duration::ZERO).await.unwrap();
    assert_eq!(work.release_expired().await.unwrap(), 0);
    assert_eq!(rows(&store).await[0].0, "running");
    work.complete(&next).await.unwrap();
    assert_eq!(rows(&store).await[0].0, "done");
}

#[tokio::test]
async fn a_retry_that_was_interrupted_is_under_way_and_one_that_backs_off_is_not() {
    let (_database, store) = open().await;
    let id = enqueue(&store, &["a"]).await;
    let work = store.work();
    let first = claim(&store).await.unwrap();
    work.fail(&first, "down", None).await.unwrap();
    assert!(!work.is_under_way(id).await.unwrap());
    sqlx::query("update ballpoint.work set run_after = clock_timestamp()")
        .execute(store.pool())
        .await
        .unwrap();
    claim(&store).await.unwrap();
    store.recover().await.unwrap();
    assert!(work.is_under_way(id).await.unwrap());
}

#[tokio::test]
async fn enqueueing_wakes_who_waits_and_a_rolled_back_command_was_never_there() {
    let (database, store) = open().await;
    let mut wake = store.work().subscribe("sync");
    let mut transaction = database.pool().begin().await.unwrap();
    WorkQueue::enqueue_in(&mut transaction, Trigger::Change, &sync(&[]), &trace(""))
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(claim(&store).await, None);
    enqueue(&store, &[]).await;
    // It is awake already: nothing has to pass, no poll either.
    let awake = tokio::time::timeout(Duration::ZERO, wake.wait()).await;
    assert!(awake.is_ok());
    assert!(claim(&store).await.is_some());
}
