//! A kill at each durable step of a fire: it is neither lost nor doubled.

#![allow(clippy::unwrap_used)]

use ballpoint_orchestrator::{ScheduleSpec, Timing, declare, fire_due};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::store::Store;
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Fires what is due; a panic stands for a kill: whatever was not committed is gone.
async fn look(store: &Store, specs: &[ScheduleSpec], now: Timestamp) -> Option<u64> {
    let (store, specs) = (store.clone(), specs.to_vec());
    let look = tokio::spawn(async move {
        fire_due(&store, &specs, &["orders".to_owned()], now)
            .await
            .unwrap()
    });
    look.await.ok()
}

#[tokio::test]
async fn a_kill_between_a_fire_and_its_commands_neither_loses_nor_doubles_it() {
    let spec = ScheduleSpec {
        name: "nightly".into(),
        timing: Timing::parse("0 6 * * *", "Europe/Berlin").unwrap(),
        full_refresh: false,
    };
    let specs = [spec];
    let due = at("2026-01-02T05:00:30Z");
    for (step, survives) in [
        ("orchestrator::after_fire_row", false),
        ("orchestrator::before_fire_commit", false),
        ("orchestrator::after_fire_commit", true),
    ] {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        declare(&store, &specs, at("2026-01-01T12:00:00Z"))
            .await
            .unwrap();
        fail::cfg(step, "panic").unwrap();
        assert_eq!(look(&store, &specs, due).await, None, "killed {step}");
        fail::remove(step);
        let enqueued = store.work().recent(5).await.unwrap().len();
        assert_eq!(enqueued, usize::from(survives), "{step}");
        // The next process, with the same configuration.
        let store = Store::open(database.pool().clone()).await.unwrap();
        store.recover().await.unwrap();
        declare(&store, &specs, due).await.unwrap();
        assert_eq!(
            look(&store, &specs, due).await,
            Some(u64::from(!survives)),
            "{step}"
        );
        assert_eq!(look(&store, &specs, due).await, Some(0), "{step}");
        assert_eq!(store.work().recent(5).await.unwrap().len(), 1, "{step}");
        let runs = store.runs().recent(5).await.unwrap();
        assert_eq!((runs.len(), &*runs[0].scope), (1, "nightly"), "{step}");
    }
}
