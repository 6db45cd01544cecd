//! Who lets what through: approvals, limits, passes, and what ends a plan.

use ballpoint_reverse_etl::{PassEntry, PassOutcome, PlanState, ReverseEtlHandle, WriteBackError};
use ballpoint_runtime::store::{PlanRequest, Plans};

use crate::support::{Bench, SYNC, WRITTEN};

#[tokio::test]
async fn an_approval_is_bound_to_what_was_looked_at() {
    let bench = Bench::new().await;
    let plan = bench.plan().await;
    let error = bench
        .library
        .approve(plan.id, "0000", "bo", None)
        .await
        .unwrap_err();
    assert!(matches!(error, WriteBackError::OtherHash { .. }), "{error}");
    let unapproved = bench.library.apply(plan.id, "bo").await.unwrap_err();
    assert!(
        unapproved
            .to_string()
            .contains("is planned: it cannot be applied"),
        "{unapproved}"
    );
    let hash = plan.hash.unwrap();
    bench
        .library
        .approve(plan.id, &hash, "bo", Some("fine"))
        .await
        .unwrap();
    let again = bench
        .library
        .approve(plan.id, &hash, "cy", None)
        .await
        .unwrap();
    assert_eq!(again.approved_by.as_deref(), Some("bo"));
}

#[tokio::test]
async fn rows_statements_or_file_that_differ_from_the_approval_are_not_applied() {
    for (tamper, what) in [
        (
            "update ballpoint.plan_rows set new = jsonb_set(new, '{score}', '\"1\"') where seq = 1",
            "rows",
        ),
        (
            "update ballpoint.plans set ddl = array['create table public.feedback ()']",
            "rows or statements",
        ),
        (
            "insert into ballpoint.plan_rows select plan_id, 99, kind, '{\"id\":\"q\",\"part\":\"1\"}', old, new from ballpoint.plan_rows where seq = 1",
            "rows",
        ),
    ] {
        let bench = Bench::new().await;
        let plan = bench.approved().await;
        bench.warehouse_sql(tamper).await;
        let error = bench
            .library
            .apply(plan.id, "bo")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(bench.rows().await, None);
        assert_eq!(
            bench.library.get(plan.id).await.unwrap().state,
            PlanState::Failed
        );
    }
    let bench = Bench::new().await;
    let plan = bench.approved().await;
    bench.write(&SYNC.replace("      - {column: note, type: text}\n", ""));
    let error = bench
        .library
        .apply(plan.id, "bo")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("file of its sync was edited"), "{error}");
    assert_eq!(bench.rows().await, None);
}

#[tokio::test]
async fn a_rejected_plan_is_over_and_a_new_one_supersedes_an_open_one() {
    let bench = Bench::new().await;
    let plan = bench.plan().await;
    let rejected = bench
        .library
        .reject(plan.id, "bo", Some("not now"))
        .await
        .unwrap();
    assert_eq!(
        (rejected.state, rejected.comment.as_deref()),
        (PlanState::Rejected, Some("not now"))
    );
    let hash = plan.hash.unwrap();
    let error = bench
        .library
        .approve(plan.id, &hash, "bo", None)
        .await
        .unwrap_err();
    assert!(matches!(error, WriteBackError::State { .. }), "{error}");
    let (older, newer) = (bench.plan().await, bench.plan().await);
    assert_eq!(
        bench.library.get(older.id).await.unwrap().state,
        PlanState::Rejected
    );
    assert_eq!(newer.state, PlanState::Planned);
}

#[tokio::test]
async fn limits_refuse_and_the_refused_plan_can_be_looked_at() {
    let bench = Bench::new().await;
    bench.write(&SYNC.replace("max_rows: 1000", "max_rows: 4"));
    let error = bench.refusal().await;
    assert_eq!(
        error.to_string(),
        "the plan writes 5 rows, sync scores allows 4 (limits.max_rows)"
    );
    let plan = bench
        .library
        .list(Some("scores"), 1)
        .await
        .unwrap()
        .remove(0);
    assert_eq!((plan.state, plan.counts.added), (PlanState::Failed, 5));
    assert_eq!(
        bench
            .library
            .rows(plan.id, None, 0, 10)
            .await
            .unwrap()
            .len(),
        4,
        "no more rows are kept than the sync may write"
    );
    let hash = plan.hash.unwrap();
    let refused = bench
        .library
        .approve(plan.id, &hash, "bo", None)
        .await
        .unwrap_err();
    assert!(matches!(refused, WriteBackError::State { .. }), "{refused}");
    bench.write(&SYNC.replace("max_changed_percent: 100", "max_changed_percent: 30"));
    bench.applied().await;
    bench
        .warehouse_sql("update marts.scores set score = 1 where id in ('a', 'b')")
        .await;
    let error = bench.refusal().await.to_string();
    assert!(
        error.starts_with("the plan changes 60.0 % of the 5 rows of public.feedback"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pass_plans_once_and_applies_only_what_is_approved() {
    let bench = Bench::new().await;
    let outcomes = |entries: Vec<ballpoint_reverse_etl::PassEntry>| -> Vec<(PassOutcome, i64)> {
        entries
            .iter()
            .map(|entry| (entry.outcome, entry.rows))
            .collect()
    };
    let first = outcomes(bench.library.pass("run").await.unwrap());
    assert_eq!(first, [(PassOutcome::Planned, 5)]);
    let second = outcomes(bench.library.pass("run").await.unwrap());
    assert_eq!(
        second,
        [(PassOutcome::NothingNew, 0)],
        "the same plan is open already"
    );
    assert_eq!(bench.rows().await, None);
    let plans = bench.library.list(None, 10).await.unwrap();
    assert_eq!(plans.len(), 1);
    bench.approve(&plans[0]).await;
    let third = outcomes(bench.library.pass("run").await.unwrap());
    assert_eq!(third, [(PassOutcome::Applied, 5)]);
    assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN));
    let fourth = outcomes(bench.library.pass("run").await.unwrap());
    assert_eq!(fourth, [(PassOutcome::NothingNew, 0)]);
    bench.write(&SYNC.replace("    limits:", "    approval: automatic\n    limits:"));
    bench
        .warehouse_sql("update marts.scores set score = 1 where id = 'b'")
        .await;
    let fifth = outcomes(bench.library.pass("run").await.unwrap());
    assert_eq!(
        fifth,
        [(PassOutcome::Planned, 1), (PassOutcome::Applied, 1)]
    );
}

#[tokio::test]
async fn what_goes_beyond_a_limit_is_kept_once_and_refused_each_time() {
    let bench = Bench::new().await;
    bench.write(&SYNC.replace("max_rows: 1000", "max_rows: 4"));
    for pass in ["first", "second"] {
        let entries = bench.library.pass("run").await.unwrap();
        assert_eq!(entries[0].outcome, PassOutcome::Failed, "{pass}");
        let error = PassEntry::failures(&entries).unwrap();
        assert!(error.contains("sync scores allows 4"), "{pass}: {error}");
        assert_eq!(bench.library.list(None, 10).await.unwrap().len(), 1);
    }
    bench.write(&SYNC.replace("max_rows: 1000", "max_rows: 5"));
    let entries = bench.library.pass("run").await.unwrap();
    assert_eq!(entries[0].outcome, PassOutcome::Planned);
}

#[tokio::test]
async fn ended_plans_lose_their_rows_after_a_month_and_keep_their_counts() {
    let bench = Bench::new().await;
    let rejected = bench.plan().await;
    bench.library.reject(rejected.id, "bo", None).await.unwrap();
    let applied = bench.applied().await;
    let kept = async |id| bench.library.rows(id, None, 0, 10).await.unwrap().len();
    bench.library.store().prune().await.unwrap();
    assert_eq!(kept(rejected.id).await, 5);
    bench
        .warehouse_sql(
            "update ballpoint.plans set created_at = created_at - interval '31 days',
                 approved_at = approved_at - interval '31 days',
                 applied_at = applied_at - interval '31 days'",
        )
        .await;
    bench.library.store().prune().await.unwrap();
    assert_eq!(kept(rejected.id).await, 0);
    assert_eq!(kept(applied.id).await, 5, "an undo needs them");
    let ended = bench.library.get(rejected.id).await.unwrap();
    assert_eq!(ended.counts.added, 5);
    let deeds = bench.library.history(None, 10).await.unwrap();
    let of_rejected = deeds.iter().filter(|it| it.plan_id == Some(rejected.id));
    assert_eq!(of_rejected.count(), 2);
}

#[tokio::test]
async fn a_plan_that_is_being_carried_out_is_not_rejected() {
    let bench = Bench::new().await;
    let plan = bench.approved().await;
    let plans = bench.library.store().plans();
    let asked = plans.ask(plan.id, PlanState::Approved, PlanRequest::Apply, "bo");
    assert!(asked.await.unwrap());
    // As somebody decides who looked at the plan before.
    let mut connection = bench.warehouse.pool().acquire().await.unwrap();
    let to = (&[PlanState::Approved][..], PlanState::Rejected);
    let decided = Plans::decide_in(&mut connection, plan.id, to, None, "cy", None);
    assert!(!decided.await.unwrap());
    bench.library.resume().await.unwrap();
    let applied = bench.library.get(plan.id).await.unwrap();
    assert_eq!(applied.state, PlanState::Applied);
}

#[tokio::test]
async fn a_pass_goes_on_when_whoever_asked_for_it_has_gone() {
    let bench = Bench::new().await;
    let handle = ReverseEtlHandle::new(bench.library.clone());
    let mut pass = Box::pin(handle.pass("run"));
    let begun = std::future::poll_fn(|context| {
        std::task::Poll::Ready(pass.as_mut().poll(context).is_pending())
    });
    assert!(begun.await, "it cannot have ended at once");
    drop(pass);
    for _ in 0..3000 {
        let plans = bench.library.list(None, 10).await.unwrap();
        if plans.iter().any(|it| it.state == PlanState::Planned) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the pass ended with its asker");
}

#[tokio::test]
async fn a_target_that_is_away_leaves_the_approval_standing() {
    let bench = Bench::new().await;
    let plan = bench.approved().await;
    bench
        .target_sql("create schema held; create table held.x ()")
        .await;
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(bench.target.pool())
        .await
        .unwrap();
    bench
        .warehouse_sql(&format!("alter database {name} allow_connections false"))
        .await;
    bench
        .warehouse_sql(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        ))
        .await;
    bench.library.apply(plan.id, "bo").await.unwrap_err();
    let standing = bench.library.get(plan.id).await.unwrap();
    assert_eq!(standing.state, PlanState::Approved);
    assert!(standing.error.is_some());
    bench
        .warehouse_sql(&format!("alter database {name} allow_connections true"))
        .await;
    let applied = bench.library.apply(plan.id, "bo").await.unwrap();
    assert_eq!(applied.state, PlanState::Applied);
    assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN));
}

#[tokio::test]
async fn reads_work_without_the_actor() {
    let bench = Bench::new().await;
    let plan = bench.plan().await;
    let handle = ReverseEtlHandle::new(bench.library.clone());
    assert_eq!(handle.get(plan.id).await.unwrap(), plan);
    assert_eq!(handle.waiting().await.unwrap(), 1);
    assert_eq!(handle.syncs().unwrap()[0].name, "scores");
}
