//! One row in a source shows in the metrics, with nothing installed in the source.

use serde_json::json;

use crate::support::{PATIENCE, Stack, until};

#[tokio::test]
async fn a_row_inserted_in_a_source_shows_in_the_metrics() {
    let stack = Stack::start().await;
    let source = stack.pool("springs").await;
    let query = json!({
        "measures": ["Production.count"],
        "filters": [{"member": "Production.machineId", "operator": "equals", "values": ["MACHINE-S-01"]}],
    });
    let before = stack.load(query.clone()).await[0]["Production.count"].clone();
    sqlx::query(INSERT_ONE).execute(&source).await.unwrap();
    until("the new row is counted", PATIENCE, || async {
        (stack.load(query.clone()).await[0]["Production.count"] != before).then_some(())
    })
    .await;

    let installed: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_trigger where not tgisinternal)
              + (select count(*) from pg_publication) + (select count(*) from pg_replication_slots)",
    )
    .fetch_one(&source)
    .await
    .unwrap();
    assert_eq!(installed, 0, "nothing may be installed in a source");
}

/// A good unit like an existing one.
pub(crate) const INSERT_ONE: &str = include_str!("bench/one_unit.sql");
