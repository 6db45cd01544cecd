//! The registry as an actor: what it serves, when it says so, and what a restart costs.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ballpoint_metrics::query::Query;
use ballpoint_metrics::registry::NAME;
use ballpoint_metrics::{
    MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, SecurityContext,
};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::{Store, WorkRow};
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use serde_json::{Value, json};
use tempfile::TempDir;

const MODEL: &str = r#"
cubes:
  - name: Orders
    sql_table: public.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: city, sql: city, type: string}
      - {name: placedAt, sql: placed_at, type: time}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
"#;

/// Looks of 25 ms each: a minute and more, for a machine that is busy with something else.
const PATIENCE_LOOKS: usize = 2400;

struct Stack {
    store: Store,
    tree: TreeHandle,
    handle: MetricRegistryHandle,
    model: TempDir,
    database: TestDatabase,
}

impl Stack {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(
            "CREATE TABLE orders (id int PRIMARY KEY, city text, placed_at timestamptz, amount numeric);
             INSERT INTO orders VALUES (1, 'Pune', '2026-01-01 08:00Z', 10.5),
                                       (2, 'Chennai', '2026-01-02 09:30Z', 4), (3, NULL, NULL, 1)",
        )
        .execute(database.pool())
        .await
        .unwrap();
        let store = Store::open(database.pool().clone()).await.unwrap();
        let model = tempfile::tempdir().unwrap();
        std::fs::write(model.path().join("orders.yml"), MODEL).unwrap();
        let scope = Scope::unique();
        let args = args(model.path(), &database, &store);
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(ActorSpec::new(
            NAME,
            MetricRegistry,
            move || args.clone(),
        ));
        let tree = Tree::start(scope.clone(), root, None).await.unwrap();
        let handle = MetricRegistryHandle::new(&scope);
        Self {
            store,
            tree,
            handle,
            model,
            database,
        }
    }

    async fn count(&self) -> Value {
        let request = json!({ "query": { "measures": ["Orders.count"] } });
        let reply = self
            .handle
            .load(&request, &SecurityContext::default())
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["data"][0]["Orders.count"].clone()
    }

    /// Waits until an event was published.
    async fn event(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..PATIENCE_LOOKS {
            let events = self.store.events().recent(100, 0).await.unwrap();
            if let Some(found) = events.iter().find(|recorded| wanted(&recorded.event)) {
                return found.event.clone();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the event did not come");
    }

    /// Waits until the latest command has come to its end.
    async fn ended(&self) -> WorkRow {
        for _ in 0..PATIENCE_LOOKS {
            let row = self.store.work().recent(1).await.unwrap().remove(0);
            if !matches!(row.state.as_str(), "queued" | "running") {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the command did not end");
    }

    async fn surveyed(&self) {
        for _ in 0..PATIENCE_LOOKS {
            if self.handle.describe().await.unwrap().data_version > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the data was not surveyed");
    }
}

fn args(path: &Path, database: &TestDatabase, store: &Store) -> MetricRegistryArgs {
    MetricRegistryArgs {
        files_every: Duration::from_millis(50),
        ..MetricRegistryArgs::new(
            path,
            database.pool().clone(),
            Some(store.clone()),
            Clock::system(),
        )
    }
}

#[tokio::test]
async fn a_refresh_finds_new_values_and_says_so() {
    let stack = Stack::start().await;
    stack.surveyed().await;
    let values = |catalog: &ballpoint_metrics::catalog::Catalog| {
        catalog.member("Orders.city").unwrap().values.clone()
    };
    assert_eq!(
        values(&stack.handle.catalog().await.unwrap()),
        ["Chennai", "Pune"]
    );
    let coverage = stack
        .handle
        .coverage("Orders.placedAt")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(coverage.0, "2026-01-01T08:00:00.000");
    assert_eq!(coverage.1, "2026-01-02T09:30:00.000");
    sqlx::raw_sql("INSERT INTO orders VALUES (4, 'Goa', now(), 2)")
        .execute(stack.database.pool())
        .await
        .unwrap();
    let before = stack.handle.describe().await.unwrap().data_version;
    stack
        .store
        .work()
        .enqueue(&WorkKind::RefreshMetrics, &TraceContext::default())
        .await
        .unwrap();
    // The event comes first, the end of its row a moment later.
    let refreshed = stack.ended().await;
    assert!(stack.handle.describe().await.unwrap().data_version > before);
    assert_eq!(
        values(&stack.handle.catalog().await.unwrap()),
        ["Chennai", "Goa", "Pune"]
    );
    stack
        .event(|event| matches!(event, Event::MetricsRefreshed { cubes: 1 }))
        .await;
    let work = stack.store.work().recent(10).await.unwrap();
    assert_eq!(work.len(), 1, "{work:?}");
    assert_eq!(refreshed.state, "done", "{refreshed:?}");
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_last_good_text_of_a_broken_file_heals_it_and_is_said() {
    let stack = Stack::start().await;
    stack.surveyed().await;
    let file = stack.model.path().join("orders.yml");
    std::fs::write(&file, MODEL.replace("type: sum,", "type: summ,")).unwrap();
    stack
        .event(|event| matches!(event, Event::MetricsRejected { .. }))
        .await;
    std::fs::write(&file, MODEL).unwrap();
    stack
        .event(|event| matches!(event, Event::MetricsRefreshed { cubes: 1 }))
        .await;
    assert_eq!(stack.handle.describe().await.unwrap().rejected, None);
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_model_and_names_its_line() {
    let stack = Stack::start().await;
    assert_eq!(stack.count().await, json!("3"));
    let broken = MODEL.replace("type: sum, sql: amount", "type: summ, sql: amount");
    std::fs::write(stack.model.path().join("orders.yml"), &broken).unwrap();
    let event = stack
        .event(|event| matches!(event, Event::MetricsRejected { .. }))
        .await;
    let Event::MetricsRejected { error } = event else {
        unreachable!()
    };
    assert_eq!(
        error,
        "orders.yml:11: unknown measure type \"summ\", did you mean \"sum\"?"
    );
    assert_eq!(stack.count().await, json!("3"));
    assert_eq!(
        stack.handle.describe().await.unwrap().rejected.as_deref(),
        Some(error.as_str())
    );
    let better = MODEL.replace("name: total", "name: revenue");
    std::fs::write(stack.model.path().join("orders.yml"), &better).unwrap();
    for _ in 0..PATIENCE_LOOKS {
        if stack
            .handle
            .definition("Orders.revenue")
            .await
            .unwrap()
            .is_some()
        {
            stack.tree.stop(Duration::from_secs(5)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the repaired model was not read");
}

#[tokio::test]
async fn no_question_fails_while_the_registry_is_restarted() {
    let stack = Stack::start().await;
    assert_eq!(stack.count().await, json!("3"));
    let handle = stack.handle.clone();
    let asking = tokio::spawn(async move {
        let query = Query {
            measures: vec!["Orders.total".to_owned()],
            ..Query::default()
        };
        let mut answered = 0;
        for _ in 0..150 {
            let result = handle.query(&query).await.unwrap();
            assert_eq!(result.rows[0]["Orders.total"], json!("15.5"));
            answered += 1;
        }
        answered
    });
    for _ in 0..5 {
        stack.tree.restart(NAME).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(asking.await.unwrap(), 150);
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_answer_carries_what_a_proof_needs() {
    let stack = Stack::start().await;
    let query: Query = serde_json::from_value(json!({
        "measures": ["Orders.total"],
        "timeDimensions": [{
            "dimension": "Orders.placedAt", "granularity": "day",
            "dateRange": ["2026-01-01", "2026-01-02"]
        }],
    }))
    .unwrap();
    let first = stack.handle.query(&query).await.unwrap();
    assert_eq!(first.rows.len(), 2);
    assert_eq!(
        first.rows[0]["Orders.placedAt"],
        json!("2026-01-01T00:00:00.000")
    );
    assert_eq!(
        first.checksum,
        stack.handle.query(&query).await.unwrap().checksum
    );
    let definition = stack
        .handle
        .definition("Orders.total")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.definitions["Orders.total"], definition["hash"]);
    assert_eq!(
        first.params,
        ["2026-01-01T00:00:00.000Z", "2026-01-03T00:00:00.000Z"]
    );
    sqlx::raw_sql("UPDATE orders SET amount = 11 WHERE id = 1")
        .execute(stack.database.pool())
        .await
        .unwrap();
    assert_ne!(
        first.checksum,
        stack.handle.query(&query).await.unwrap().checksum
    );
    stack.tree.stop(Duration::from_secs(5)).await;
}

/// What a build does when it replaces a table, up to its commit.
const SWAP: &str = "CREATE TABLE orders_new (LIKE orders INCLUDING ALL);
    INSERT INTO orders_new SELECT * FROM orders;
    INSERT INTO orders_new VALUES (4, 'Goa', now(), 2);
    DROP TABLE orders; ALTER TABLE orders_new RENAME TO orders";

#[tokio::test]
async fn a_query_that_waits_for_a_swap_sees_the_new_rows() {
    let stack = Stack::start().await;
    for (round, total) in [(0, false), (1, true)] {
        let expected = 4 + round;
        let mut build = stack.database.pool().begin().await.unwrap();
        let swap = SWAP.replace("(4,", &format!("({expected},"));
        sqlx::raw_sql(sqlx::AssertSqlSafe(swap))
            .execute(&mut *build)
            .await
            .unwrap();
        let handle = stack.handle.clone();
        let asking = tokio::spawn(async move {
            let request = json!({ "query": { "dimensions": ["Orders.id"], "total": total } });
            handle.load(&request, &SecurityContext::default()).await
        });
        loop {
            let waits: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
                 WHERE NOT granted AND datname = current_database())",
            )
            .fetch_one(&mut *build)
            .await
            .unwrap();
            if waits || asking.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        build.commit().await.unwrap();
        let reply = asking.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        let rows = reply.body["data"].as_array().unwrap();
        assert_eq!(rows.len(), expected, "{}", reply.body);
        assert_eq!(
            reply.body["total"],
            if total { json!(expected) } else { Value::Null }
        );
    }
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_page_beyond_the_last_row_has_the_total() {
    let stack = Stack::start().await;
    for offset in [0, 2, 50] {
        let request = json!({ "query": {
            "dimensions": ["Orders.id"], "total": true, "offset": offset,
            "filters": [{ "member": "Orders.id", "operator": "gt", "values": ["1"] }],
        } });
        let reply = stack
            .handle
            .load(&request, &SecurityContext::default())
            .await;
        assert_eq!(reply.body["total"], json!(2), "{}", reply.body);
    }
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_first_answer_after_a_restart_knows_the_values_and_the_extent() {
    let stack = Stack::start().await;
    for _ in 0..5 {
        let service = stack.handle.service().await.unwrap();
        let city = service.snapshot.catalog.member("Orders.city").unwrap();
        assert_eq!(city.values, ["Chennai", "Pune"]);
        assert!(service.snapshot.coverage.contains_key("Orders.placedAt"));
        stack.tree.restart(NAME).await.unwrap();
    }
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_refresh_is_announced_when_it_is_served() {
    let stack = Stack::start().await;
    for round in 0..5 {
        let before = stack.handle.service().await.unwrap().snapshot.data_version;
        let mut events = stack.store.events().subscribe();
        let work = stack.store.work();
        work.enqueue(&WorkKind::RefreshMetrics, &TraceContext::default())
            .await
            .unwrap();
        loop {
            let recorded = events.recv().await.unwrap();
            if matches!(recorded.event, Event::MetricsRefreshed { .. }) {
                break;
            }
        }
        let after = stack.handle.service().await.unwrap().snapshot.data_version;
        assert!(after > before, "round {round}");
    }
    stack.tree.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_refresh_without_a_readable_model_ends_and_says_why() {
    let stack = Stack::start().await;
    stack.surveyed().await;
    let file = stack.model.path().join("orders.yml");
    std::fs::write(&file, "cubes: 7").unwrap();
    stack.tree.restart(NAME).await.unwrap();
    let work = stack.store.work();
    work.enqueue(&WorkKind::RefreshMetrics, &TraceContext::default())
        .await
        .unwrap();
    stack
        .event(|event| matches!(event, Event::MetricsRejected { .. }))
        .await;
    let row = stack.ended().await;
    assert_eq!(row.state, "dead", "{row:?}");
    assert!(row.last_error.unwrap().contains("orders.yml"));
    // It stays rejected until the file is mended, and mending it is news.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(stack.handle.describe().await.unwrap().rejected.is_some());
    std::fs::write(&file, MODEL).unwrap();
    stack
        .event(|event| matches!(event, Event::MetricsRefreshed { .. }))
        .await;
    assert_eq!(stack.count().await, json!("3"));
    stack.tree.stop(Duration::from_secs(5)).await;
}
