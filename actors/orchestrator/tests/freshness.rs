//! Freshness limits on a real PostgreSQL and a business clock that the test drives.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use ballpoint_orchestrator::{Duties, FreshnessLimits, Orchestrator, OrchestratorArgs};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::{Incident, Store};
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_runtime::trace::TraceContext;
use jiff::SignedDuration;

const PATIENCE: Duration = Duration::from_secs(120);

struct Bench {
    _database: TestDatabase,
    store: Store,
    clock: Clock,
    tree: TreeHandle,
}

async fn start(store: &Store, clock: &Clock, duties: Duties) -> TreeHandle {
    let args = OrchestratorArgs {
        store: store.clone(),
        clock: clock.clone(),
        duties,
    };
    let spec = ActorSpec::new(Orchestrator::NAME, Orchestrator, move || args.clone());
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
    Tree::start(Scope::unique(), root, None).await.unwrap()
}

impl Bench {
    /// One source that is landed, fresh, and may be stale for half an hour, six at most.
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let clock = Clock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
        let limits = FreshnessLimits {
            warn_after: Some(Duration::from_secs(1800)),
            error_after: Some(Duration::from_secs(6 * 3600)),
        };
        let duties = Duties {
            sources: vec!["orders".to_owned()],
            freshness: BTreeMap::from([("orders".to_owned(), limits)]),
            ..Duties::default()
        };
        let tree = start(&store, &clock, duties).await;
        let bench = Self {
            _database: database,
            store,
            clock,
            tree,
        };
        // Declared first, landed then.
        bench
            .until(async || bench.store.freshness().all().await.unwrap().len() == 1)
            .await;
        bench
            .publish(Event::SyncFinished {
                source: "orders".into(),
                rows: 1,
            })
            .await;
        bench
    }

    /// Publishes an event and waits until it is handled.
    async fn publish(&self, event: Event) {
        self.store
            .events()
            .publish(event, TraceContext::default())
            .await
            .unwrap();
        let open = "select not exists (select from ballpoint.events where handled_at is null)";
        self.until(async || {
            sqlx::query_scalar::<_, bool>(open)
                .fetch_one(self.store.pool())
                .await
                .unwrap()
        })
        .await;
    }

    async fn until(&self, reached: impl AsyncFn() -> bool) {
        let waiting = async {
            while !reached().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("in time");
    }

    /// The freshness incident, once it is as `wanted`.
    async fn incident(&self, wanted: impl Fn(&Incident) -> bool) -> Incident {
        let find = async || {
            let recent = self.store.incidents().recent(20).await.unwrap();
            recent
                .into_iter()
                .find(|it| it.kind == "freshness" && wanted(it))
        };
        self.until(async || find().await.is_some()).await;
        find().await.unwrap()
    }
}

#[tokio::test]
async fn a_source_that_stays_away_warns_then_fails_and_its_return_ends_it() {
    let bench = Bench::new().await;
    bench
        .publish(Event::SourceUnavailable {
            source: "orders".into(),
            error: "refused".into(),
            retry_in_ms: 500,
        })
        .await;
    bench.clock.advance(SignedDuration::from_mins(31));
    let warned = bench.incident(|it| it.severity == "warning").await;
    assert!(
        warned.error.contains("longer than 30m: it does not answer"),
        "{warned:?}"
    );
    bench.clock.advance(SignedDuration::from_hours(6));
    let failed = bench.incident(|it| it.severity == "error").await;
    assert_eq!(
        (failed.id, failed.count),
        (warned.id, 1),
        "one incident, worse"
    );
    bench
        .publish(Event::SourceRecovered {
            source: "orders".into(),
        })
        .await;
    let ended = bench.incident(|it| it.state == "closed").await;
    assert_eq!(ended.id, warned.id);
}

#[tokio::test]
async fn a_source_with_nothing_new_is_fresh_and_a_change_that_does_not_land_is_not() {
    let bench = Bench::new().await;
    bench.clock.advance(SignedDuration::from_hours(24 * 30));
    bench
        .publish(Event::SourceChanged {
            source: "orders".into(),
            tables: vec![TableName::new("public", "orders")],
        })
        .await;
    bench.clock.advance(SignedDuration::from_mins(45));
    let warned = bench.incident(|it| it.state == "open").await;
    assert!(
        warned.error.starts_with("stale since 2026-03-31 12:0"),
        "from the change, not from the silence before it: {warned:?}"
    );
    bench
        .publish(Event::SyncFinished {
            source: "orders".into(),
            rows: 1,
        })
        .await;
    bench.incident(|it| it.state == "closed").await;
    assert_eq!(bench.store.incidents().recent(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_configured_no_longer_is_no_incident() {
    let bench = Bench::new().await;
    bench
        .publish(Event::SourceUnavailable {
            source: "orders".into(),
            error: "refused".into(),
            retry_in_ms: 500,
        })
        .await;
    for actor in ["loader.orders", "loader.stock", "transformer"] {
        bench
            .publish(Event::ActorChanged {
                actor: actor.into(),
                state: "parked".into(),
                incarnation: 6,
                error: None,
            })
            .await;
    }
    bench
        .publish(Event::PlanChanged {
            plan: "7".into(),
            sync: "scores".into(),
            state: "failed".into(),
            rows: 1,
            error: Some("conflict".into()),
            approved: true,
        })
        .await;
    bench.clock.advance(SignedDuration::from_mins(31));
    bench.incident(|it| it.state == "open").await;
    // The next start: no limit is left, and neither write-backs nor the source `stock`.
    bench.tree.pause(Orchestrator::NAME).await.unwrap();
    let duties = Duties {
        sources: vec!["orders".to_owned()],
        ..Duties::default()
    };
    let _tree = start(&bench.store, &bench.clock, duties).await;
    bench.incident(|it| it.state == "closed").await;
    let open = bench.store.incidents().open().await.unwrap();
    let open: Vec<_> = open.iter().map(|it| (&*it.kind, &*it.subject)).collect();
    let actor = |name| ("actor", name);
    let left = [
        ("source", "orders"),
        actor("loader.orders"),
        actor("transformer"),
    ];
    assert_eq!(open, left);
}
