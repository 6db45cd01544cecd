//! A sync that is stopped at each of its durable steps.

use super::*;

/// Whatever step a sync is stopped at, the table has exactly the rows of the intervals up to the state
/// that is kept.
#[tokio::test]
async fn stopped_at_any_step_rows_and_state_agree() {
    let _alone = crate::sync::tests::CRASH_POINTS.write().await;
    for step in [
        "loader.records_taken",
        "loader.records_before_stage",
        "loader.records_before_merge",
        "loader.records_before_commit",
        "loader.records_after_commit",
    ] {
        let warehouse = Warehouse::new().await;
        let users = stream_of("users", StreamWrite::Append, &COLUMNS);
        for reached in 1..4_u64 {
            for action in ["return", "off"] {
                let script = Script {
                    streams: vec![users.clone()],
                    items: Mutex::new(Some(Vec::new())),
                    asked: Mutex::default(),
                };
                let kept = "select coalesce(max(position->>'at'), '0') from ballpoint.checkpoints";
                let from: u64 = warehouse.text(kept).await.parse().unwrap();
                let items = (from..reached)
                    .flat_map(|at| {
                        let line = format!("{}\t{}\t1\tx\n", at - from, at + 1);
                        [lines(0, &line), state(0, at + 1)]
                    })
                    .chain([completed(0)]);
                *script.items.lock().unwrap() = Some(items.collect());
                fail::cfg(step, action).unwrap();
                let trace = TraceContext::default();
                let synced = warehouse.loader.sync(&script, &[], false, &trace).await;
                fail::remove(step);
                assert_eq!(
                    synced.is_ok(),
                    action == "off",
                    "{step} {reached} {synced:?}"
                );
                let agree = "select (select count(*) from raw.users)::text || ' ' ||
                                    (select max(position->>'at') from ballpoint.checkpoints)";
                let there: Option<String> = one(
                    warehouse.database.pool(),
                    "select to_regclass('raw.users')::text",
                )
                .await;
                if there.is_some() {
                    let now = warehouse.text(agree).await;
                    let (rows, at) = now.split_once(' ').unwrap();
                    assert_eq!(rows, at, "{step}");
                }
            }
            let count = "select count(*) || ' ' || count(distinct id) from raw.users";
            assert_eq!(warehouse.text(count).await, format!("{reached} {reached}"));
        }
    }
}
