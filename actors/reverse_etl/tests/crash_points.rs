//! A stop at each durable step, and a start after it: the target is as before or as planned, and the
//! plan says which. The whole program is killed at the same steps in the root's `tests/write_back.rs`.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_reverse_etl::{
    AuditEntry, Plan, PlanState, ReverseEtl, ReverseEtlArgs, ReverseEtlHandle, WriteBackError,
    WriteBacks,
};
use ballpoint_runtime::supervision::{ActorSpec, Scope, Strategy, SupervisorSpec, Tree};
use tokio::sync::Mutex;
use uuid::Uuid;

use support::{Bench, SYNC, WRITTEN};

/// Failpoints are the process's: one test at a time uses them.
static FAILPOINTS: Mutex<()> = Mutex::const_new(());

/// Steps of apply and undo; from the second column on, the transaction has committed.
const STEPS: [(&str, bool); 8] = [
    ("reverse_etl.before_intent", false),
    ("reverse_etl.after_intent", false),
    ("reverse_etl.mid_write", false),
    ("reverse_etl.before_commit", false),
    ("reverse_etl.after_commit", true),
    ("reverse_etl.after_read_back", true),
    ("reverse_etl.before_record", true),
    ("reverse_etl.after_record", true),
];

async fn stopped_at(step: &str, doing: impl Future<Output = bool>) {
    fail::cfg(step, "return").unwrap();
    let failed = doing.await;
    fail::remove(step);
    assert!(failed, "nothing passed {step}");
}

/// An approved plan whose apply stopped at `step`.
async fn apply_stopped_at(step: &str, bench: &Bench) -> Plan {
    let plan = bench.approved().await;
    stopped_at(step, async {
        bench.library.apply(plan.id, "bo").await.is_err()
    })
    .await;
    plan
}

/// What the next start finds, and does first.
async fn resumed(bench: &Bench) -> WriteBacks {
    let library = bench.reopened().await;
    library.resume().await.unwrap();
    library
}

#[tokio::test]
async fn an_apply_that_stops_anywhere_is_done_once_by_the_next_start() {
    let _alone = FAILPOINTS.lock().await;
    let bench = Bench::new().await;
    for (step, committed) in STEPS {
        let plan = apply_stopped_at(step, &bench).await;
        let expected = committed.then_some(WRITTEN);
        assert_eq!(bench.rows().await.as_deref(), expected, "{step}");
        let library = resumed(&bench).await;
        let settled = library.get(plan.id).await.unwrap();
        assert_eq!(
            settled.state,
            PlanState::Applied,
            "{step}: {:?}",
            settled.error
        );
        assert_eq!(
            (settled.written, settled.under_way),
            (Some(5), None),
            "{step}"
        );
        assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN), "{step}");
        assert_eq!(deeds(&library, plan.id, "apply").await, 1, "{step}");
        let again = library.apply(plan.id, "bo").await.unwrap();
        assert_eq!(again.written, Some(0), "{step}");
        library.undo(plan.id, "bo").await.unwrap();
    }
}

#[tokio::test]
async fn an_undo_that_stops_anywhere_is_done_once_by_the_next_start() {
    let _alone = FAILPOINTS.lock().await;
    let bench = Bench::new().await;
    for (step, committed) in STEPS {
        let plan = bench.applied().await;
        stopped_at(step, async {
            bench.library.undo(plan.id, "bo").await.is_err()
        })
        .await;
        let expected = (!committed).then_some(WRITTEN);
        assert_eq!(bench.rows().await.as_deref(), expected, "{step}");
        let library = resumed(&bench).await;
        let settled = library.get(plan.id).await.unwrap();
        assert_eq!(
            settled.state,
            PlanState::Undone,
            "{step}: {:?}",
            settled.error
        );
        assert_eq!(bench.rows().await, None, "{step}");
        assert_eq!(deeds(&library, plan.id, "undo").await, 1, "{step}");
    }
}

#[tokio::test]
async fn a_plan_that_stops_anywhere_is_made_whole_by_the_next_start() {
    let _alone = FAILPOINTS.lock().await;
    for step in [
        "reverse_etl.mid_plan",
        "reverse_etl.before_plan_commit",
        "reverse_etl.after_plan_commit",
    ] {
        let bench = Bench::new().await;
        stopped_at(step, async {
            bench.library.plan("scores", "ana").await.is_err()
        })
        .await;
        let library = resumed(&bench).await;
        let plans = library.list(None, 10).await.unwrap();
        assert_eq!(plans.len(), 1, "{step}");
        assert_eq!(
            (plans[0].state, plans[0].counts.added),
            (PlanState::Planned, 5),
            "{step}"
        );
        assert_eq!(
            library.rows(plans[0].id, None, 0, 10).await.unwrap().len(),
            5,
            "{step}"
        );
        assert_eq!(bench.rows().await, None, "{step}");
    }
}

#[tokio::test]
async fn what_the_target_no_longer_remembers_is_told_by_its_rows() {
    let _alone = FAILPOINTS.lock().await;
    let other_cluster = "update ballpoint.plans set intent_system = '1'";
    let forgotten = "update ballpoint.plans set intent_xid = intent_xid + 4000000000";
    for lost in [other_cluster, forgotten] {
        for (step, _) in [STEPS[1], STEPS[4]] {
            let bench = Bench::new().await;
            let plan = apply_stopped_at(step, &bench).await;
            bench.warehouse_sql(lost).await;
            let library = resumed(&bench).await;
            let settled = library.get(plan.id).await.unwrap();
            assert_eq!(
                settled.state,
                PlanState::Applied,
                "{step}: {:?}",
                settled.error
            );
            assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN), "{step}");
        }
        let bench = Bench::new().await;
        let plan = apply_stopped_at("reverse_etl.after_commit", &bench).await;
        bench.warehouse_sql(lost).await;
        bench
            .target_sql("update public.feedback set score = 1 where id = 'b'")
            .await;
        let library = resumed(&bench).await;
        let settled = library.get(plan.id).await.unwrap();
        assert_eq!(settled.state, PlanState::Failed);
        let error = settled.error.unwrap();
        assert!(error.contains("it is not known whether"), "{error}");
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_asked_keeps_only_its_own_source_waiting() {
    let _alone = FAILPOINTS.lock().await;
    let bench = Bench::new().await;
    let plan = apply_stopped_at("reverse_etl.after_commit", &bench).await;
    bench
        .target_sql("alter function pg_catalog.txid_status(bigint) rename to txid_status_away")
        .await;
    let yard = TestDatabase::create().await;
    let others = SYNC
        .replace("syncs:\n", "")
        .replace("name: scores", "name: others")
        .replace("source: shop", "source: yard");
    bench.write(&format!("{SYNC}{others}"));
    let sources = [("shop", &bench.target), ("yard", &yard)];
    let library = bench.with_sources(&sources).await;
    let handle = ReverseEtlHandle::new(library.clone());
    let asked = tokio::spawn(async move { handle.plan("others", "cy").await });
    let of_others = async || {
        let plans = library.list(Some("others"), 1).await.unwrap();
        plans.into_iter().next()
    };
    while of_others().await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = library.resume().await.unwrap_err();
    assert!(matches!(error, WriteBackError::UnderWay { .. }), "{error}");
    let planned = of_others().await.unwrap();
    assert_eq!(planned.state, PlanState::Planned, "{:?}", planned.error);
    let waiting = library.get(plan.id).await.unwrap();
    assert_eq!(
        (waiting.state, waiting.under_way.as_deref()),
        (PlanState::Approved, Some("apply")),
        "nobody knows what became of it"
    );
    bench
        .target_sql("alter function pg_catalog.txid_status_away(bigint) rename to txid_status")
        .await;
    bench.reopened().await.resume().await.unwrap();
    let settled = library.get(plan.id).await.unwrap();
    assert_eq!(settled.state, PlanState::Applied, "{:?}", settled.error);
    asked.abort();
}

#[tokio::test]
async fn a_plan_whose_source_left_the_configuration_ends_with_that_reason() {
    let _alone = FAILPOINTS.lock().await;
    for (step, state, said) in [
        (
            "reverse_etl.before_intent",
            PlanState::Approved,
            "source shop of plan",
        ),
        (
            "reverse_etl.after_commit",
            PlanState::Failed,
            "it is not known whether",
        ),
    ] {
        let bench = Bench::new().await;
        let plan = apply_stopped_at(step, &bench).await;
        let library = bench.with_sources(&[]).await;
        let resumed = tokio::time::timeout(Duration::from_secs(60), library.resume());
        resumed.await.expect("it comes to an end").unwrap();
        let ended = library.get(plan.id).await.unwrap();
        let error = ended.error.unwrap();
        assert!(error.contains(said), "{step}: {error}");
        assert_eq!((ended.state, ended.under_way), (state, None), "{step}");
        let failures = deeds(&library, plan.id, "apply failed").await;
        assert_eq!(failures, 1, "{step}: tried once");
    }
}

#[tokio::test]
async fn a_plan_that_was_moved_on_while_it_was_carried_out_says_so() {
    let _alone = FAILPOINTS.lock().await;
    let bench = Bench::new().await;
    let plan = apply_stopped_at("reverse_etl.after_commit", &bench).await;
    bench
        .warehouse_sql("update ballpoint.plans set state = 'rejected'")
        .await;
    let library = resumed(&bench).await;
    let settled = library.get(plan.id).await.unwrap();
    let error = settled.error.unwrap();
    assert!(error.contains("became rejected while"), "{error}");
    assert_eq!(settled.under_way, None);
    assert_eq!(deeds(&library, plan.id, "apply").await, 0);
}

/// How often a plan's deed was noted.
async fn deeds(library: &WriteBacks, plan: Uuid, action: &str) -> usize {
    let deeds = library.history(None, 100).await.unwrap();
    let same = |deed: &&AuditEntry| deed.action == action && deed.plan_id == Some(plan);
    deeds.iter().filter(same).count()
}

/// The actor over the library, as `up` runs it.
#[tokio::test]
async fn the_actor_carries_out_what_the_handle_asks_for_and_what_a_kill_left() {
    let _alone = FAILPOINTS.lock().await;
    let bench = Bench::new().await;
    let plan = apply_stopped_at("reverse_etl.after_commit", &bench).await;
    let library = bench.reopened().await;
    let handle = ReverseEtlHandle::new(library.clone());
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(ActorSpec::new(
        ReverseEtl::NAME,
        ReverseEtl,
        move || ReverseEtlArgs {
            library: library.clone(),
        },
    ));
    let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
    let settled = until(&handle, plan.id, PlanState::Applied).await;
    assert_eq!(settled.written, Some(5));
    let undone = handle.undo(plan.id, "cy").await.unwrap();
    assert_eq!(undone.state, PlanState::Undone, "{:?}", undone.error);
    let planned = handle.plan("scores", "cy").await.unwrap();
    assert_eq!(
        (planned.state, planned.counts.added),
        (PlanState::Planned, 5)
    );
    tree.stop(Duration::from_secs(5)).await;
}

async fn until(handle: &ReverseEtlHandle, id: Uuid, state: PlanState) -> Plan {
    for _ in 0..3000 {
        let plan = handle.get(id).await.unwrap();
        if plan.state == state {
            return plan;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("plan {id} does not become {}", state.name());
}
