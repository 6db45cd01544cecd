//! A build that dies at each of its crash points leaves all of it or nothing, and the next one
//! ends where a build without the crash would have.
#![allow(clippy::unwrap_used)]

mod support;

use ballpoint_transformer::publish::{BuildStatus, Changed, PublishOptions, publish};
use support::Workbench;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_leaves_all_of_the_build_or_nothing() {
    let scenario = fail::FailScenario::setup();
    for (point, visible) in [
        ("transformer::before_build", "0"),
        ("transformer::mid_transaction", "0"),
        ("transformer::before_commit", "0"),
        ("transformer::after_commit", "1"),
    ] {
        let bench = Workbench::shop().await;
        fail::cfg(point, "panic").unwrap();
        let (project, pool) = (bench.load(), bench.database.pool().clone());
        let crashed = tokio::spawn(async move {
            publish(&project, &pool, &PublishOptions::new(Changed::Everything)).await
        });
        assert!(crashed.await.unwrap_err().is_panic(), "{point}");
        fail::remove(point);
        let seen = "select count(*) from pg_class where relname = 'orders_per_day'";
        assert_eq!(bench.text(seen).await, visible, "{point}");
        let options = PublishOptions::new(Changed::Everything);
        let again = publish(&bench.load(), bench.database.pool(), &options)
            .await
            .unwrap();
        assert_eq!(again.status, BuildStatus::Published, "{point}");
        assert_eq!(
            bench.text("select count(*) from marts.orders").await,
            "3",
            "{point}"
        );
    }
    scenario.teardown();
}
