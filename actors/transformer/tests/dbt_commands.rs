//! `ballpoint dbt …` on a small project and a real PostgreSQL.
#![allow(clippy::unwrap_used)]

mod support;

use support::Workbench;

#[tokio::test]
async fn build_makes_every_relation_and_runs_every_test() {
    let bench = Workbench::shop().await;
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("Done. PASS=15 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=15"),
        "{output}"
    );
    assert!(
        output.contains("START sql view model staging.stg_orders"),
        "{output}"
    );
    assert_eq!(bench.text("select count(*) from marts.orders").await, "3");
    assert_eq!(
        bench.text("select string_agg(day || ' ' || orders || ' ' || total, ', ' order by day) from marts.orders_per_day").await,
        "2026-01-01 2 13.00, 2026-01-02 1 9.99"
    );
    assert_eq!(
        bench
            .text("select sum(members) from analytics.countries")
            .await,
        "151"
    );
    let leftovers = "select count(*) from pg_class where relname ~ '__dbt'";
    assert_eq!(bench.text(leftovers).await, "0");
}
