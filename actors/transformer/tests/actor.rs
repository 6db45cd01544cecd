//! The actor on a real store: work rows in, publishes and events out, edits noticed.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::{RecordedEvent, Store};
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use ballpoint_transformer::actor::{
    Transformer, TransformerArgs, TransformerHandle, TransformerStatus,
};
use tokio::sync::broadcast::Receiver;

use crate::support::Workbench;

struct Stack {
    bench: Workbench,
    store: Store,
    tree: TreeHandle,
    handle: TransformerHandle,
    events: Receiver<RecordedEvent>,
}

const PATIENCE: Duration = Duration::from_secs(90);

impl Stack {
    async fn start() -> Self {
        let bench = Workbench::shop().await;
        let store = Store::open(database(&bench).pool().clone()).await.unwrap();
        let args = TransformerArgs {
            store: store.clone(),
            project: bench.options(),
            clock: Clock::system(),
        };
        let events = store.events().subscribe();
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(ActorSpec::new(
            Transformer::NAME,
            Transformer,
            move || args.clone(),
        ));
        let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
        let handle = TransformerHandle::new(tree.scope());
        Self {
            bench,
            store,
            tree,
            handle,
            events,
        }
    }

    async fn build(&self, changed: Vec<TableName>) {
        let work = WorkKind::Build { changed };
        self.store
            .work()
            .enqueue(&work, &TraceContext::default())
            .await
            .unwrap();
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .unwrap()
            .unwrap()
            .event
    }

    /// The status once it holds.
    async fn status(&self, holds: impl Fn(&TransformerStatus) -> bool) -> TransformerStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.handle.describe(PATIENCE).await.unwrap();
            if holds(&status) || tokio::time::Instant::now() > deadline {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn database(bench: &Workbench) -> &TestDatabase {
    &bench.database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_row_is_published_and_said() {
    let mut stack = Stack::start().await;
    stack.build(Vec::new()).await;
    let Event::BuildPublished {
        relations,
        tests_passed,
        run_id,
        absent,
    } = stack.event().await
    else {
        panic!("no build was published")
    };
    assert_eq!((relations.len(), tests_passed), (4, 11));
    assert!(absent.is_empty());
    let run = &stack.store.runs().recent(1).await.unwrap()[0];
    assert_eq!(run_id, run.id.to_string());
    let status = stack.status(|status| status.published == 1).await;
    assert_eq!((status.published, status.tests), (1, 11));
    let rows = stack.store.work().recent(10).await.unwrap();
    assert!(rows.iter().all(|row| row.state == "done"), "{rows:?}");
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_test_is_said_by_its_name_and_the_next_good_row_heals_it() {
    let mut stack = Stack::start().await;
    stack.build(Vec::new()).await;
    stack.event().await;
    stack
        .bench
        .sql("insert into raw.orders values (9, 'xx', 100, '2026-01-02', now())")
        .await;
    stack.build(vec![TableName::new("raw", "orders")]).await;
    let Event::BuildFailed {
        failed,
        skipped,
        reason,
        ..
    } = stack.event().await
    else {
        panic!("no build failed")
    };
    assert_eq!(
        failed,
        ["relationships_stg_orders_country__code__ref_countries_"]
    );
    assert!(skipped.contains(&"model.shop.orders".to_owned()));
    let test = &failed[0];
    assert!(
        reason.starts_with("models/") && reason.ends_with(&format!(": 1 row fails test {test}")),
        "{reason}"
    );
    stack.bench.sql("delete from raw.orders where id = 9").await;
    stack.build(vec![TableName::new("raw", "orders")]).await;
    assert!(matches!(stack.event().await, Event::BuildPublished { .. }));
    let status = stack.status(|status| status.failing.is_empty()).await;
    assert_eq!((status.published, status.failed), (2, 1));
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_built_and_a_broken_edit_is_said_with_its_line() {
    let mut stack = Stack::start().await;
    stack.build(Vec::new()).await;
    stack.event().await;
    stack
        .bench
        .write("models/marts/broken.sql", "select 1\n{% if %}");
    let status = stack.status(|status| status.project_error.is_some()).await;
    let error = status.project_error.unwrap();
    assert!(error.starts_with("models/marts/broken.sql:2"), "{error}");
    stack
        .bench
        .write("models/marts/broken.sql", "select 1 as one");
    assert!(matches!(stack.event().await, Event::BuildPublished { .. }));
    assert_eq!(stack.bench.text("select one from marts.broken").await, "1");
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_its_file_and_is_over_once_its_model_is_as_before() {
    let mut stack = Stack::start().await;
    stack.build(Vec::new()).await;
    stack.event().await;
    stack
        .bench
        .write("models/marts/wrong.sql", "select no_such_column");
    let Event::BuildFailed { reason, .. } = stack.event().await else {
        panic!("no build failed")
    };
    let what = "models/marts/wrong.sql: column \"no_such_column\" does not exist (SQLSTATE 42703)";
    assert!(reason.starts_with(what), "{reason}");
    assert!(reason.ends_with("models/marts/wrong.sql:1:8"), "{reason}");
    let model = stack
        .bench
        .options()
        .project_dir
        .join("models/marts/wrong.sql");
    std::fs::remove_file(model).unwrap();
    assert!(matches!(stack.event().await, Event::BuildPublished { .. }));
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_with_nothing_to_do_says_that_what_failed_is_gone() {
    let mut stack = Stack::start().await;
    stack.build(Vec::new()).await;
    stack.event().await;
    // A build for nothing fails outside of any model: no table is left to be built.
    let rename = "alter table ballpoint.build_pending rename column";
    stack
        .bench
        .sql(&format!("{rename} source_id to away"))
        .await;
    stack.build(vec![TableName::new("raw", "of_nobody")]).await;
    assert!(matches!(stack.event().await, Event::BuildFailed { .. }));
    stack
        .bench
        .sql(&format!("{rename} away to source_id"))
        .await;
    stack.build(vec![TableName::new("raw", "of_nobody")]).await;
    let Event::BuildPublished { relations, .. } = stack.event().await else {
        panic!("the failure is not over")
    };
    assert!(relations.is_empty());
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_build_finishes_the_row() {
    let mut stack = Stack::start().await;
    stack
        .bench
        .write("models/marts/slow.sql", "select 1 as nap from pg_sleep(1)");
    stack.build(Vec::new()).await;
    stack.status(|status| status.building).await;
    stack.tree.restart(Transformer::NAME).await.unwrap();
    assert!(matches!(stack.event().await, Event::BuildPublished { .. }));
    assert_eq!(
        stack.bench.text("select count(*) from marts.orders").await,
        "3"
    );
    stack.tree.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_the_end_of_a_build_does_not_wedge_the_queue() {
    let mut stack = Stack::start().await;
    stack
        .bench
        .sql("alter table ballpoint.events rename to events_away")
        .await;
    stack.build(Vec::new()).await;
    let status = stack.status(|status| status.last_error.is_some()).await;
    assert!(status.last_error.is_some(), "{status:?}");
    stack
        .bench
        .sql("alter table ballpoint.events_away rename to events")
        .await;
    stack.build(vec![TableName::new("raw", "orders")]).await;
    assert!(matches!(stack.event().await, Event::BuildPublished { .. }));
    stack.tree.stop(PATIENCE).await;
}
