//! Twenty corruptions planted in the sources: each fails a named dbt test, blocks what is
//! downstream, and the last good numbers stay.

use ballpoint_seeds::corruptions::{Corruption, Corruptions};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{PATIENCE, Stack, until};

#[tokio::test]
async fn each_corruption_fails_a_named_test_and_the_last_good_numbers_stay() {
    let corruptions = Corruptions::parse(include_str!("../seeds/corruptions.yml"))
        .unwrap()
        .corruptions;
    assert!(corruptions.len() >= 20, "{}", corruptions.len());
    let stack = Stack::start().await;
    let warehouse = stack.pool("warehouse").await;
    for corruption in &corruptions {
        let good = numbers(&stack).await;
        let source = stack.pool(&corruption.source).await;
        let before = last_event(&warehouse).await;
        run(&source, &corruption.plant).await;
        let failed = build_after(&warehouse, before, "build_failed", corruption).await;
        let failed: Vec<String> = serde_json::from_value(failed["failed"].clone()).unwrap();
        for test in &corruption.fails {
            let named = failed.iter().any(|f| f.contains(test.as_str()));
            assert!(
                named,
                "{}: {test} must fail, failed {failed:?}",
                corruption.name
            );
        }
        assert_eq!(
            numbers(&stack).await,
            good,
            "{}: the last good numbers stay",
            corruption.name
        );

        let before = last_event(&warehouse).await;
        run(&source, &corruption.repair).await;
        build_after(&warehouse, before, "build_published", corruption).await;
    }
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn last_event(warehouse: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(max(id), 0) from ballpoint.events")
        .fetch_one(warehouse)
        .await
        .unwrap()
}

async fn build_after(warehouse: &PgPool, after: i64, kind: &str, of: &Corruption) -> Value {
    until(&format!("{}: {kind}", of.name), PATIENCE, || async {
        let payload: Option<String> = sqlx::query_scalar(
            "select payload::text from ballpoint.events
             where id > $1 and payload->>'type' = $2 order by id desc limit 1",
        )
        .bind(after)
        .bind(kind)
        .fetch_optional(warehouse)
        .await
        .unwrap();
        payload.map(|text| serde_json::from_str(&text).unwrap())
    })
    .await
}

async fn numbers(stack: &Stack) -> Vec<Value> {
    stack
        .load(json!({
            "measures": ["Production.count", "Production.passRate", "Production.avgOee", "Production.totalCost"],
            "dimensions": ["Production.componentType"],
            "order": {"Production.componentType": "asc"},
        }))
        .await
}
