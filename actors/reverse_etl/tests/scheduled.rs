//! What a schedule asks of the actor: a pass over every sync.

use std::time::Duration;

use ballpoint_reverse_etl::{PlanState, ReverseEtl, ReverseEtlArgs};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::{Store, WorkRow};
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::{Trigger, WorkKind};

use crate::support::{Bench, WRITTEN};

const PATIENCE: Duration = Duration::from_secs(120);

async fn start(bench: &Bench) -> (Store, TreeHandle) {
    let library = bench.reopened().await;
    let store = library.store().clone();
    let actor = ActorSpec::new(ReverseEtl::NAME, ReverseEtl, move || ReverseEtlArgs {
        library: library.clone(),
    });
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(actor);
    (
        store,
        Tree::start(Scope::unique(), root, None).await.unwrap(),
    )
}

/// Asks for a pass as a schedule does, and says how its command ended.
async fn pass(store: &Store) -> WorkRow {
    let (work, trace) = (WorkKind::WriteBack { pass: true }, TraceContext::default());
    let queue = store.work();
    let id = queue.enqueue_as(Trigger::Schedule, &work, &trace).await;
    let id = id.unwrap();
    let ended = async {
        loop {
            let rows = queue.recent(50).await.unwrap();
            let row = rows.into_iter().find(|row| row.id == id).unwrap();
            if !matches!(row.state.as_str(), "queued" | "running") {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("in time")
}

#[tokio::test]
async fn a_scheduled_pass_plans_every_sync_and_writes_what_is_approved() {
    let bench = Bench::new().await;
    let (store, tree) = start(&bench).await;
    assert_eq!(pass(&store).await.state, "done");
    let plans = bench.library.list(None, 10).await.unwrap();
    assert_eq!((plans.len(), plans[0].state), (1, PlanState::Planned));
    assert_eq!(plans[0].requested_by, "schedule");
    assert_eq!(bench.rows().await, None, "nobody approved it");
    bench.approve(&plans[0]).await;
    assert_eq!(pass(&store).await.state, "done");
    assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN));
    tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_write_back_that_fails_in_a_pass_fails_its_command_and_is_told() {
    let bench = Bench::new().await;
    let plan = bench.approved().await;
    // Somebody made the table meanwhile, with a row that the plan adds.
    bench
        .target_sql(
            "create table public.feedback (id varchar(10), part integer, score numeric(5,2),
                 held boolean, note text, primary key (id, part));
             insert into public.feedback values ('a', 1, 0, false, 'theirs')",
        )
        .await;
    let (store, tree) = start(&bench).await;
    let ended = pass(&store).await;
    assert_eq!(ended.state, "dead");
    let error = ended.last_error.unwrap();
    assert!(error.contains("scores: "), "{error}");
    let events = store.events().recent(100, 0).await.unwrap();
    let told = events.iter().any(|it| match &it.event {
        Event::PlanChanged {
            plan: id,
            error,
            approved,
            ..
        } => *id == plan.id.to_string() && error.is_some() && *approved,
        _ => false,
    });
    assert!(told, "{events:?}");
    tree.stop(Duration::from_secs(5)).await;
}
