//! Runs of commands, with their attempts.

use super::*;
use crate::retry::{FailureClass, RetryPolicy};
use crate::work::Trigger;

#[tokio::test]
async fn a_command_is_one_run_with_all_its_attempts() {
    let (_database, store) = open().await;
    let retries = RetryPolicy {
        attempts: 3,
        backoff: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let store = store.with_retries(retries);
    store
        .work()
        .enqueue_as(Trigger::Schedule, &sync(&["a"]), &trace("t"))
        .await
        .unwrap();
    for attempt in 1..=2 {
        let claimed = claim(&store).await.unwrap();
        let run = store.runs().of_work(&claimed, &trace("t")).await.unwrap();
        let _step = run.step("public.a").await.unwrap();
        store
            .work()
            .failed(&claimed, "refused", FailureClass::SourceDown)
            .await
            .unwrap();
        let shown = store.runs().recent(5).await.unwrap().remove(0);
        assert_eq!((&*shown.status, shown.attempt), ("retrying", attempt));
    }
    let claimed = claim(&store).await.unwrap();
    let run = store.runs().of_work(&claimed, &trace("t")).await.unwrap();
    run.add_rows(7);
    let step = run.step("public.a").await.unwrap();
    step.finish(StepStatus::Success, Some(7), None)
        .await
        .unwrap();
    let id = run.id();
    run.finish(RunStatus::Success, None).await.unwrap();
    store.work().complete(&claimed).await.unwrap();
    let runs = store.runs().recent(5).await.unwrap();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = &runs[0];
    assert_eq!(
        (
            &*run.kind,
            &*run.scope,
            &*run.trigger,
            &*run.status,
            run.attempt,
            run.row_count
        ),
        ("sync", "orders", "schedule", "success", 3, Some(7))
    );
    let steps = store.runs().steps(id).await.unwrap();
    let shown: Vec<_> = steps.iter().map(|it| (it.attempt, &*it.status)).collect();
    assert_eq!(shown, [(1, "failed"), (2, "failed"), (3, "success")]);
}

#[tokio::test]
async fn what_no_retry_can_mend_fails_its_run_at_once_and_the_last_attempt_fails_it_too() {
    let (_database, store) = open().await;
    let once = RetryPolicy {
        attempts: 1,
        ..RetryPolicy::default()
    };
    let store = store.with_retries(once);
    for class in [FailureClass::SourceRefuses, FailureClass::SourceDown] {
        enqueue(&store, &["a"]).await;
        let claimed = claim(&store).await.unwrap();
        store.runs().of_work(&claimed, &trace("t")).await.unwrap();
        store
            .work()
            .failed(&claimed, "no right", class)
            .await
            .unwrap();
        let run = store.runs().recent(1).await.unwrap().remove(0);
        assert_eq!(
            (&*run.status, run.error.as_deref()),
            ("failed", Some("no right"))
        );
    }
    assert_eq!(claim(&store).await, None);
}

#[tokio::test]
async fn a_kill_interrupts_a_run_and_the_next_claim_goes_on_with_it() {
    let (database, store) = open().await;
    enqueue(&store, &["a"]).await;
    let claimed = claim(&store).await.unwrap();
    store.runs().of_work(&claimed, &trace("t")).await.unwrap();
    let next = Store::open(database.pool().clone()).await.unwrap();
    next.recover().await.unwrap();
    assert_eq!(
        next.runs().recent(5).await.unwrap()[0].status,
        "interrupted"
    );
    let again = claim(&next).await.unwrap();
    next.runs().of_work(&again, &trace("t")).await.unwrap();
    let runs = next.runs().recent(5).await.unwrap();
    assert_eq!((runs.len(), &*runs[0].status), (1, "running"));
}

#[tokio::test]
async fn steps_that_are_recorded_at_once_keep_their_order() {
    let (_database, store) = open().await;
    let run = store
        .runs()
        .start("build", "test", &trace(""))
        .await
        .unwrap();
    let ended = |name: &str, status| EndedStep {
        name: name.into(),
        status,
        rows: None,
        error: None,
        elapsed: Duration::from_secs(2),
    };
    let steps = [
        ended("model b", StepStatus::Success),
        ended("model a", StepStatus::Skipped),
    ];
    run.record(&steps).await.unwrap();
    run.step("last").await.unwrap();
    let shown = store.runs().steps(run.id()).await.unwrap();
    let names: Vec<_> = shown.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["model b", "model a", "last"]);
    let took = shown[0]
        .finished_at
        .unwrap()
        .duration_since(shown[0].started_at);
    assert!(took.as_millis() >= 2000, "{took:?}");
}

#[tokio::test]
async fn a_run_and_those_of_a_kind_are_found_however_many_came_later() {
    let (database, store) = open().await;
    let run = store.runs().start("sync", "manual", &trace("t")).await;
    let id = run.unwrap().id();
    let later = "insert into ballpoint.runs (id, kind, trigger, started_at)
         select gen_random_uuid(), 'build', 'manual', clock_timestamp() + n * interval '1 second'
         from generate_series(1, 6000) n";
    sqlx::query(later).execute(database.pool()).await.unwrap();
    let found = store.runs().get(id).await.unwrap().unwrap();
    assert_eq!((found.id, &*found.kind), (id, "sync"));
    let syncs = store.runs().recent_of("sync", 10).await.unwrap();
    assert_eq!(syncs, [found]);
    assert_eq!(store.runs().recent_of("build", 10).await.unwrap().len(), 10);
    assert!(store.runs().get(uuid::Uuid::nil()).await.unwrap().is_none());
}
