//! Results that are kept: served as they were while their tables stand, and followed while they do not.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_metrics::{SecurityContext, Served};
use ballpoint_runtime::segment::TableName;
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};

use crate::support::{self, Shop};

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

async fn load(shop: &Shop, query: Value) -> Served {
    let request = json!({ "query": query });
    let raw = request.to_string();
    let nobody = SecurityContext::default();
    let served = shop.handle.load_served(&raw, || Ok(request), &nobody).await;
    assert_eq!(
        served.status,
        200,
        "{}",
        String::from_utf8_lossy(&served.body)
    );
    served
}

fn value(served: &Served, key: &str) -> Value {
    let body: Value = serde_json::from_slice(&served.body).unwrap();
    body["data"][0][key].clone()
}

/// Waits until nothing moves any more: the first look at the data is over.
async fn settled(shop: &Shop) {
    shop.rolled_up(&["Orders.byDay", "Orders.exact", "Orders.withLines"])
        .await;
    let known = |service: &ballpoint_metrics::Service| service.snapshot.data_version > 0;
    shop.until("the first look", known).await;
}

#[tokio::test]
async fn a_result_is_kept_until_its_own_tables_are_written() {
    let shop = Shop::open().await;
    settled(&shop).await;
    let orders = || load(&shop, json!({ "measures": ["Orders.count"] }));
    let customers = || load(&shop, json!({ "measures": ["Customers.count"] }));
    orders().await;
    customers().await;
    let (first, again) = (orders().await, orders().await);
    assert!(first.hit && again.hit && customers().await.hit);
    assert_eq!(first.body, again.body);
    // The same query in other words is the same query.
    let reworded = load(
        &shop,
        json!({ "measures": ["Orders.count"], "dimensions": [] }),
    )
    .await;
    assert_eq!(
        value(&reworded, "Orders.count"),
        value(&first, "Orders.count")
    );

    shop.execute("INSERT INTO marts.orders VALUES (9001, 1, 'open', 1, 1, 1, now())")
        .await;
    assert!(orders().await.hit, "nobody said so yet");
    shop.written(&["orders"]).await;
    let mut after = orders().await;
    for _ in 0..support::PATIENCE_LOOKS {
        if after.body != first.body {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        after = orders().await;
    }
    assert_eq!(value(&after, "Orders.count"), json!("601"));
    assert!(customers().await.hit, "its table was not written");
    shop.close().await;
}

#[tokio::test]
async fn nothing_is_kept_across_callers_clocks_or_tables_that_nobody_tells_of() {
    let model = support::MODEL.replace(
        "cubes:\n",
        "cubes:
  - name: Recent
    sql: select * from marts.orders where placed_at < now()
    dimensions: [{name: id, sql: id, type: number, primary_key: true}]
    measures: [{name: count, type: count}]
  - name: Foreign
    sql_table: public.untold
    measures: [{name: count, type: count}]
  - name: Guarded
    sql_table: marts.orders
    dimensions: [{name: status, sql: status, type: string}]
    measures: [{name: count, type: count}]
    access_policy:
      - group: '*'
        row_level: {filters: [{member: status, operator: equals, values: ['{securityContext.status}']}]}
",
    );
    let shop = Shop::with(&model).await;
    shop.execute("CREATE TABLE public.untold (id int)").await;
    settled(&shop).await;
    for cube in ["Recent", "Foreign"] {
        let query = json!({ "measures": [format!("{cube}.count")] });
        load(&shop, query.clone()).await;
        assert!(!load(&shop, query).await.hit, "{cube}");
    }
    let request = json!({ "query": { "measures": ["Guarded.count"] } });
    let raw = request.to_string();
    let asked = async |status: &str| {
        let context = SecurityContext::from_claims(json!({ "status": status }), "groups");
        let request = request.clone();
        shop.handle
            .load_served(&raw, || Ok(request), &context)
            .await
    };
    let (open, paid) = (asked("open").await, asked("nothing").await);
    assert_eq!(
        (value(&open, "Guarded.count"), value(&paid, "Guarded.count")),
        (json!("200"), json!("0"))
    );
    assert!(asked("open").await.hit && asked("nothing").await.hit);
    assert_eq!(value(&asked("nothing").await, "Guarded.count"), json!("0"));
    shop.close().await;
}

async fn next(replies: &mut (impl Stream<Item = Served> + Unpin)) -> Served {
    let next = tokio::time::timeout(PATIENCE, replies.next()).await;
    next.expect("a reply in time").expect("the stream goes on")
}

#[tokio::test]
async fn a_live_query_is_told_of_changes_of_its_own_data_and_of_nothing_else() {
    let shop = Shop::open().await;
    settled(&shop).await;
    let request = json!({ "query": { "measures": ["Customers.count"] } });
    let replies = shop.handle.watch(request, SecurityContext::default());
    let mut replies = Box::pin(replies);
    assert_eq!(
        value(&next(&mut replies).await, "Customers.count"),
        json!("40")
    );

    // Another table is written, and its own without any other row: no news.
    shop.written(&["orders"]).await;
    shop.written(&["customers"]).await;
    // Rows that change the result.
    shop.execute("INSERT INTO marts.customers VALUES (77, 'Oslo', false)")
        .await;
    shop.written(&["customers"]).await;
    let told = next(&mut replies).await;
    assert_eq!(
        value(&told, "Customers.count"),
        json!("41"),
        "nothing in between"
    );
    shop.close().await;
}

#[tokio::test]
async fn a_result_that_is_not_kept_can_be_proved_all_the_same() {
    let model = "
cubes:
  - name: Recent
    sql: select * from marts.orders where placed_at < now()
    dimensions: [{name: status, sql: status, type: string}]
    measures: [{name: count, type: count}]
";
    let shop = Shop::with(model).await;
    let orders = [TableName::new("marts", "orders")];
    let known =
        |service: &ballpoint_metrics::Service| service.results.versions.of(&orders).is_some();
    let service = shop.until("the events", known).await;
    let query = json!({ "measures": ["Recent.count"], "dimensions": ["Recent.status"] });
    let (first, second) = (load(&shop, query.clone()).await, load(&shop, query).await);
    assert!(!first.hit && !second.hit, "it depends on the clock");
    let id = |served: &Served| String::from_utf8(served.proof.clone().unwrap().into()).unwrap();
    let proof = service.proof_of(&id(&first)).await.unwrap();
    let table = &proof["evidence"][0]["tables"][0];
    assert_eq!(table["table"], "marts.orders", "{proof}");
    assert!(table["version"].is_i64(), "{proof}");
    let now = service.prove_load(&proof).await.unwrap();
    assert_eq!(now["checksum"], proof["checksum"]);
    shop.close().await;
}

#[tokio::test]
async fn a_renewed_token_finds_its_results_and_who_wants_none_gets_none() {
    let shop = Shop::open().await;
    settled(&shop).await;
    let load = async |request: Value, made_at: u32| {
        let claims = json!({ "sub": "ann", "iat": made_at, "exp": made_at + 60, "jti": made_at });
        let caller = SecurityContext::from_claims(claims, "groups");
        let raw = request.to_string();
        shop.handle.load_served(&raw, || Ok(request), &caller).await
    };
    let request =
        json!({ "query": { "measures": ["Orders.count"], "dimensions": ["Orders.status"] } });
    load(request.clone(), 1).await;
    assert!(load(request.clone(), 2).await.hit, "the same caller's");
    let mut fresh = request;
    fresh["cache"] = json!("no-cache");
    for _ in 0..2 {
        assert!(!load(fresh.clone(), 3).await.hit);
    }
    shop.close().await;
}
