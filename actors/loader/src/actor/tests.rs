#![allow(clippy::unwrap_used)]

use ballpoint_runtime::supervision::{ActorSpec, Strategy, SupervisorSpec, Tree, TreeHandle};

use super::*;
use crate::sync::tests::{ORDERS, Pair};

const SOON: Duration = Duration::from_secs(90);

async fn start(pair: Pair) -> (Arc<Pair>, TreeHandle) {
    let pair = Arc::new(pair);
    let args = LoaderArgs {
        loader: pair.loader.clone(),
        reader: Arc::clone(&pair.reader) as Arc<_>,
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
