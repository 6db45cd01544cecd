//! Rollups: the same answer with and without them, over random queries; the source while they are old.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it covered"
)]

use ballpoint_metrics::{SecurityContext, Service};
use serde_json::{Value, json};

use crate::support::Shop;
use crate::support::dice::Dice;

const QUERIES: u64 = 400;

/// A query over members of which the rollups hold many and not all.
fn query(dice: &mut Dice) -> Value {
    const MEASURES: [&str; 12] = [
        "Orders.count",
        "Orders.total",
        "Orders.units",
        "Orders.least",
        "Orders.most",
        "Orders.mean",
        "Orders.kinds",
        "Orders.paid",
        "Orders.paidShare",
        "Orders.perUnit",
        "Orders.halves",
        "Lines.quantity",
    ];
    const DIMENSIONS: [&str; 4] = [
        "Orders.status",
        "Customers.city",
        "Lines.product",
        "Customers.vip",
    ];
    const GRANULARITIES: [&str; 5] = ["day", "week", "month", "quarter", "year"];
    let mut measures = dice.drawn(&MEASURES, 3);
    if measures.is_empty() {
        measures.push("Orders.count");
    }
    let few = if dice.roll(4) == 0 {
        &DIMENSIONS[..]
    } else {
        &DIMENSIONS[..2]
    };
    let mut query = json!({ "measures": measures, "dimensions": dice.drawn(few, 2) });
    let mut time = json!({ "dimension": "Orders.placedAt" });
    if dice.roll(3) > 0 {
        time["granularity"] = json!(dice.one(&GRANULARITIES));
    }
    if dice.roll(2) == 0 {
        let from = 1 + dice.roll(28);
        let whole = json!([format!("2025-12-{from:02}"), "2026-01-10"]);
        let uneven = json!([format!("2025-12-{from:02}T07:30:00"), "2026-01-10"]);
        time["dateRange"] = if dice.roll(5) == 0 { uneven } else { whole };
    }
    if time.get("granularity").or(time.get("dateRange")).is_some() && dice.roll(4) > 0 {
        query["timeDimensions"] = json!([time]);
    }
    let mut filters = Vec::new();
    if dice.roll(3) == 0 {
        let operator = dice.one(&["equals", "notEquals", "contains"]);
        let values = dice.drawn(&["open", "paid", "e"], 2);
        if !values.is_empty() {
            filters
                .push(json!({ "member": "Orders.status", "operator": operator, "values": values }));
        }
    }
    if dice.roll(4) == 0 {
        let operator = dice.one(&["set", "notSet"]);
        filters.push(json!({ "member": "Customers.city", "operator": operator }));
    }
    if dice.roll(5) == 0 {
        filters.push(json!({ "member": "Orders.count", "operator": "gt", "values": ["12"] }));
    }
    let of = |cube: &str, query: &Value| query.to_string().contains(cube);
    if of("Lines.", &query)
        && (of("Customers.", &query) || !filters.is_empty())
        && !of("Orders.", &query)
    {
        // Only orders lead to both of the others.
        query["measures"]
            .as_array_mut()
            .unwrap()
            .push(json!("Orders.count"));
    }
    query["filters"] = json!(filters);
    if dice.roll(5) == 0 {
        query["segments"] = json!(["Orders.heavy"]);
    }
    if dice.roll(4) == 0 {
        query["total"] = json!(true);
        query["limit"] = json!(3);
    }
    if dice.roll(8) == 0 {
        query["timezone"] = json!("Asia/Kolkata");
    }
    query
}

async fn rows(service: &Service, query: &Value) -> Value {
    let request = json!({ "query": query });
    let reply = service.load(&request, &SecurityContext::default()).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.body);
    let mut rows = reply.body["data"].clone();
    if query.get("limit").is_none() {
        // Equal values of a measure keep no order among them.
        let rows = rows.as_array_mut().unwrap();
        rows.sort_by_key(Value::to_string);
    }
    json!([rows, reply.body["total"]])
}

#[tokio::test]
async fn the_answer_is_the_same_with_and_without_a_rollup() {
    let shop = Shop::open().await;
    let service = shop
        .rolled_up(&["Orders.byDay", "Orders.exact", "Orders.withLines"])
        .await;
    let source = service.without_rollups();
    let mut dice = Dice(2026);
    let (mut used, mut reasons) = (
        std::collections::BTreeMap::new(),
        std::collections::BTreeSet::new(),
    );
    for number in 0..QUERIES {
        let query = query(&mut dice);
        let request = json!({ "query": query });
        let considered = service
            .explain(&request, &SecurityContext::default())
            .unwrap();
        for it in considered {
            match it.why_not {
                None => *used.entry(it.rollup).or_insert(0_u64) += 1,
                Some(why) => drop(reasons.insert(why)),
            }
        }
        let (with, without) = (rows(&service, &query).await, rows(&source, &query).await);
        assert_eq!(with, without, "query {number}: {query}");
    }
    println!("of {QUERIES} queries answered by: {used:?}; reasons against: {reasons:#?}");
    let answered: u64 = used.values().sum();
    assert!(
        answered * 4 > QUERIES && used.len() == 3,
        "the test must reach rollups: {used:?}"
    );
    shop.close().await;
}

/// What a delta may do to the orders: add, change, move in time, lose.
const CHANGES: [(&str, usize); 5] = [
    (
        "INSERT INTO marts.orders SELECT 9100 + i, 1 + i, 'late', 7.5, 2, 1.5, timestamptz '2025-12-24 10:00Z' \
         FROM generate_series(1, 5) i",
        1,
    ),
    (
        "UPDATE marts.orders SET amount = amount + 1 WHERE placed_at < '2025-11-22Z'",
        1,
    ),
    (
        "UPDATE marts.orders SET placed_at = '2026-01-05 12:00Z' WHERE id = 9101",
        2,
    ),
    (
        "UPDATE marts.orders SET placed_at = NULL WHERE id = 9102",
        2,
    ),
    (
        "DELETE FROM marts.orders WHERE id = 9103; \
         INSERT INTO marts.orders VALUES (9103, 4, 'swapped', 1, 1, 1, '2025-12-24 10:00Z')",
        1,
    ),
];

#[tokio::test]
async fn only_the_partitions_that_were_touched_are_built_and_the_answers_stay_the_same() {
    let shop = Shop::open().await;
    let names = ["Orders.byDay", "Orders.exact", "Orders.withLines"];
    shop.rolled_up(&names).await;
    let mut dice = Dice(7);
    let by_day = |service: &Service| service.rollups.status()[0].clone();
    for (change, touched) in CHANGES {
        shop.execute(change).await;
        let before = shop.service().await.rollups.status()[0].built_at;
        shop.written(&["orders"]).await;
        shop.refreshed().await;
        let again = |service: &Service| by_day(service).built_at != before;
        shop.until("the refresh", again).await;
        let service = shop.rolled_up(&names).await;
        let status = by_day(&service);
        assert_eq!(
            status.partitions.unwrap().0,
            touched,
            "{change}: {status:?}"
        );
        assert_eq!(status.whole_because, None);
        let source = service.without_rollups();
        for _ in 0..40 {
            let query = query(&mut dice);
            let (with, without) = (rows(&service, &query).await, rows(&source, &query).await);
            assert_eq!(with, without, "{change}: {query}");
        }
    }
    // Another table decides on no partition.
    shop.execute("UPDATE marts.customers SET city = 'Oslo' WHERE id = 3")
        .await;
    let before = by_day(&shop.service().await).built_at;
    shop.written(&["customers"]).await;
    shop.refreshed().await;
    let again = |service: &Service| by_day(service).built_at != before;
    let service = shop.until("the refresh", again).await;
    let (written, all) = by_day(&service).partitions.unwrap();
    assert_eq!(written, all);
    let whole = &service.rollups.status()[2];
    let why = whole.whole_because.as_ref().unwrap();
    assert!(why.contains("partition_granularity"), "{why}");
    shop.close().await;
}

#[tokio::test]
async fn an_old_rollup_is_not_read_and_is_built_again() {
    let shop = Shop::open().await;
    let names = ["Orders.byDay", "Orders.exact", "Orders.withLines"];
    shop.rolled_up(&names).await;
    let query = json!({ "measures": ["Orders.count"], "dimensions": ["Orders.status"] });
    shop.execute("INSERT INTO marts.orders VALUES (9001, 1, 'lost', 1, 1, 1, now())")
        .await;
    shop.written(&["orders"]).await;
    let old = |service: &Service| {
        let (_, old) = service
            .rollups
            .usable(&service.snapshot.model.hash, &service.results.versions);
        old.len() == 3
    };
    let service = shop.until("the event", old).await;
    let found = rows(&service, &query).await;
    assert!(
        found.to_string().contains("lost"),
        "the source is read meanwhile: {found}"
    );
    let request = json!({ "query": query });
    let why = service
        .explain(&request, &SecurityContext::default())
        .unwrap();
    let why = why.iter().find(|it| it.rollup == "Orders.byDay").unwrap();
    assert!(
        why.why_not.as_ref().unwrap().contains("being built again"),
        "{why:?}"
    );
    // A build is followed by a look at the data.
    shop.refreshed().await;
    let service = shop.rolled_up(&names).await;
    assert_eq!(rows(&service, &query).await, found);
    let status = service.rollups.status();
    assert!(status.iter().all(|it| it.build_ms.is_some()), "{status:?}");
    shop.close().await;
}

#[tokio::test]
async fn a_rollup_that_cannot_be_kept_says_why_and_breaks_nothing() {
    let model = "
cubes:
  - name: Foreign
    sql_table: public.foreign_table
    dimensions: [{name: kind, sql: kind, type: string}]
    measures: [{name: count, type: count}]
    pre_aggregations:
      - {name: original, type: original_sql}
  - name: Catalogue
    sql_table: pg_catalog.pg_namespace
    measures: [{name: count, type: count}]
    pre_aggregations: [{name: main, measures: [count]}]
  - name: Recent
    sql: select * from marts.orders where placed_at < now()
    measures: [{name: count, type: count}]
    pre_aggregations: [{name: main, measures: [count]}]
";
    let shop = Shop::with(model).await;
    let looked = |service: &Service| {
        let status = service.rollups.status();
        let why = status.first().and_then(|it| it.error.clone());
        why.is_some_and(|why| why.contains("original_sql"))
    };
    let service = shop.until("the look", looked).await;
    let status = service.rollups.status();
    let why = |at: usize| status[at].error.clone().unwrap();
    assert!(why(0).contains("original_sql"), "{status:?}");
    assert!(why(1).contains("what it reads changes"), "{status:?}");
    assert!(why(2).contains("clock"), "{status:?}");
    let query = json!({ "measures": ["Foreign.count"], "dimensions": ["Foreign.kind"] });
    assert_eq!(rows(&service, &query).await, json!([[], null]));
    shop.close().await;
}

#[tokio::test]
async fn rows_that_somebody_else_writes_are_never_missed() {
    let model = "
cubes:
  - name: Foreign
    sql_table: public.foreign_table
    dimensions: [{name: kind, sql: kind, type: string}]
    measures: [{name: count, type: count}]
    pre_aggregations: [{name: main, measures: [count], dimensions: [kind]}]
";
    let shop = Shop::with(model).await;
    let service = shop.rolled_up(&["Foreign.main"]).await;
    let query = json!({ "measures": ["Foreign.count"], "dimensions": ["Foreign.kind"] });
    let used = async |service: &Service| {
        let request = json!({ "query": query });
        let reply = service.load(&request, &SecurityContext::default()).await;
        reply.body["usedPreAggregations"]
            .to_string()
            .contains("Foreign.main")
    };
    assert!(used(&service).await, "nobody else is there");
    let url = shop.database.url();
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(url)
        .await
        .unwrap();
    for kind in ["ink", "nib"] {
        let insert = sqlx::query("INSERT INTO public.foreign_table VALUES ($1)").bind(kind);
        insert.execute(&mut other).await.unwrap();
        let found = rows(&service, &query).await.to_string();
        assert!(found.contains(kind), "at once, while it is there: {found}");
    }
    assert!(!used(&service).await, "it may write more");
    sqlx::Connection::close(other).await.unwrap();
    // A query after its last commit finds the rollup old, and has it built again.
    for look in 0.. {
        let found = rows(&service, &query).await.to_string();
        assert!(found.contains("ink") && found.contains("nib"), "{found}");
        if used(&service).await {
            break;
        }
        assert!(look < crate::support::PATIENCE_LOOKS, "never built again");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    shop.execute("TRUNCATE public.foreign_table").await;
    assert_eq!(rows(&service, &query).await, json!([[], null]));
    shop.close().await;
}
