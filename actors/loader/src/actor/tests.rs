#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use ballpoint_runtime::segment::{Position, Rows, Segment, SourceError, TableSpec};
use ballpoint_runtime::supervision::{ActorSpec, Strategy, SupervisorSpec, Tree, TreeHandle};
use ballpoint_source::PostgresSource;
use futures_util::StreamExt;

use super::*;
use crate::sync::tests::{ORDERS, Pair};

const SOON: Duration = Duration::from_secs(90);

async fn start(pair: Pair) -> (Arc<Pair>, TreeHandle) {
    let reader = Arc::clone(&pair.reader) as Arc<_>;
    start_with(pair, reader).await
}

async fn start_with(pair: Pair, reader: Arc<dyn SourceReader>) -> (Arc<Pair>, TreeHandle) {
    let pair = Arc::new(pair);
    let args = LoaderArgs {
        loader: pair.loader.clone(),
        reader,
    };
    let spec = ActorSpec::new(Loader::name("shop"), Loader, move || args.clone());
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
    let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
    (pair, tree)
}

async fn enqueue(pair: &Pair) {
    let work = WorkKind::Sync {
        source: "shop".to_owned(),
        tables: vec![],
        full_refresh: false,
    };
    pair.loader
        .store()
        .work()
        .enqueue(&work, &TraceContext::default())
        .await
        .unwrap();
}

/// Waits until the newest row of work is in one of `states`.
async fn work_reaches(pair: &Pair, states: &[&str]) -> String {
    let waiting = async {
        loop {
            let newest = pair
                .loader
                .store()
                .work()
                .recent(1)
                .await
                .unwrap()
                .remove(0);
            if states.contains(&newest.state.as_str()) {
                return newest.last_error.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("work ends in time")
}

#[tokio::test]
async fn a_work_row_becomes_rows_events_and_a_status() {
    let (pair, tree) = start(Pair::with(ORDERS).await).await;
    enqueue(&pair).await;
    work_reaches(&pair, &["done"]).await;
    pair.assert_equal("orders").await;
    let events: Vec<Event> = pair
        .loader
        .store()
        .events()
        .recent(10, 0)
        .await
        .unwrap()
        .into_iter()
        .map(|recorded| recorded.event)
        .collect();
    assert!(
        matches!(
            events.as_slice(),
            [
                Event::TableLoaded { rows: 500, .. },
                Event::SyncFinished { rows: 500, .. }
            ]
        ),
        "{events:?}"
    );
    // The row ends first; the actor hears of it a moment later.
    let handle = LoaderHandle::new(tree.scope(), "shop");
    let heard = async {
        loop {
            let status = handle.describe(SOON).await.unwrap();
            if status.syncs > 0 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = tokio::time::timeout(SOON, heard).await.unwrap();
    assert_eq!((status.rows, status.last_error), (500, None));
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_sync_ends_with_the_same_rows() {
    let (pair, tree) = start(Pair::with(ORDERS).await).await;
    for round in 0..5 {
        pair.in_source("insert into orders (customer) select 'n' from generate_series(1, 3000)")
            .await;
        enqueue(&pair).await;
        tokio::time::sleep(Duration::from_millis(15 * round)).await;
        tree.restart("loader.shop").await.unwrap();
        work_reaches(&pair, &["done"]).await;
        pair.assert_equal("orders").await;
    }
}

#[tokio::test]
async fn what_no_retry_can_mend_is_told_once_and_not_retried() {
    let (pair, _tree) = start(Pair::with(ORDERS).await).await;
    let work = WorkKind::Sync {
        source: "shop".to_owned(),
        tables: vec![ballpoint_runtime::segment::TableName::new(
            "public", "nothing",
        )],
        full_refresh: false,
    };
    pair.loader
        .store()
        .work()
        .enqueue(&work, &TraceContext::default())
        .await
        .unwrap();
    let error = work_reaches(&pair, &["dead"]).await;
    assert!(error.contains("public.nothing"), "{error}");
}

/// Sends the first rows of a table and then, while `stalled`, nothing more.
struct Stalling {
    source: Arc<PostgresSource>,
    stalled: AtomicBool,
}

#[async_trait::async_trait]
impl SourceReader for Stalling {
    fn name(&self) -> &str {
        self.source.name()
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        self.source.tables().await
    }

    async fn open(
        &self,
        spec: &TableSpec,
        position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        let segment = self.source.open(spec, position).await?;
        Ok(segment.map(|mut segment| {
            if self.stalled.load(Ordering::Relaxed)
                && let Rows::Stream(rows) = segment.rows
            {
                let stopped = rows.take(1).chain(futures_util::stream::pending());
                segment.rows = Rows::Stream(stopped.boxed());
            }
            segment
        }))
    }
}

#[tokio::test]
async fn a_sync_tells_how_far_it_is_and_is_cancelled_at_once() {
    let pair = Pair::with(ORDERS).await;
    pair.in_source(
        "insert into orders (customer) select repeat('x', 200) from generate_series(1, 3000)",
    )
    .await;
    let reader = Arc::new(Stalling {
        source: Arc::clone(&pair.reader),
        stalled: AtomicBool::new(true),
    });
    let (pair, _tree) = start_with(pair, Arc::clone(&reader) as Arc<_>).await;
    let store = pair.loader.store();
    let mut events = store.events().subscribe();
    enqueue(&pair).await;
    let (run, told) = loop {
        let next = tokio::time::timeout(SOON, events.recv());
        let next = next.await.unwrap().unwrap();
        if let Event::SyncProgress {
            run, rows, bytes, ..
        } = next.event
        {
            assert_eq!(next.id, 0);
            break (run.unwrap(), (rows.unwrap(), bytes));
        }
    };
    assert!(told.0 > 0 && told.1 > 60_000, "{told:?}");
    // Nothing of it is kept: a row a moment would be too many.
    let kept = store.events().recent(100, 0).await.unwrap();
    assert!(
        kept.iter()
            .all(|it| !matches!(it.event, Event::SyncProgress { .. }))
    );
    let run = run.parse().unwrap();
    assert!(store.runs().cancel(run, "cancelled by ada"));
    assert_eq!(work_reaches(&pair, &["dead"]).await, "cancelled by ada");
    let ended = store.runs().get(run).await.unwrap().unwrap();
    assert_eq!(ended.status, "interrupted");
    assert_eq!(ended.error.as_deref(), Some("cancelled by ada"));
    let step = store.runs().steps(run).await.unwrap().remove(0);
    assert_eq!(step.status, "interrupted");
    assert!(!store.runs().cancel(run, "again"), "it has ended");
    reader.stalled.store(false, Ordering::Relaxed);
    enqueue(&pair).await;
    work_reaches(&pair, &["done"]).await;
    pair.assert_equal("orders").await;
}
