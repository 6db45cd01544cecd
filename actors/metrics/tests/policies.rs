//! Access policies hold for whatever a query leads to, by whichever name it is asked for.

#![allow(clippy::unwrap_used)]

use ballpoint_metrics::{SecurityContext, Service};
use serde_json::{Value, json};

use crate::support::Shop;

const MODEL: &str = r#"
cubes:
  - name: Bare
    sql_table: marts.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: status, sql: status, type: string}
      - {name: amount, sql: amount, type: number}
    measures: [{name: revenue, type: sum, sql: amount}]
  - name: Guarded
    sql_table: marts.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: customerId, sql: customer_id, type: number}
      - {name: status, sql: status, type: string}
      - {name: listed, sql: status, type: string}
    measures:
      - {name: count, type: count}
      - {name: revenue, type: sum, sql: amount}
      - {name: secret, type: sum, sql: amount}
      - {name: twice, type: number, sql: "{secret} * 2"}
    access_policy:
      - {group: "*", member_level: {includes: [count, listed]}}
      - group: clerks
        member_level: {includes: [count, revenue, twice, status]}
        row_level: {filters: [{member: status, operator: equals, values: [paid]}]}
      - group: listed
        member_level: {includes: [count, revenue, status]}
        row_level: {filters: [{member: status, operator: equals, values: ["{ securityContext.statuses }"]}]}
  - name: People
    sql_table: marts.customers
    joins: [{name: Guarded, relationship: one_to_many, sql: "{CUBE}.id = {Guarded}.customer_id"}]
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: city, sql: city, type: string}
      - {name: loud, sql: "upper({city})", type: string}
      - {name: spent, sql: "{Guarded.revenue}", type: number, sub_query: true}
    measures:
      - {name: count, type: count}
      - {name: theirRevenue, type: number, sql: "{Guarded.revenue}"}
      - {name: lastCity, type: max, sql: "{city}"}
    access_policy:
      - group: "*"
        member_level: {excludes: [city]}
        member_masking: {includes: [city]}
      - group: half
        row_level: {filters: [{member: id, operator: lt, values: ["10"]}]}
  - name: Mine
    sql: "select * from marts.orders where {SECURITY_CONTEXT.status.filter('status')}"
    dimensions: [{name: status, sql: status, type: string}]
    measures: [{name: count, type: count}]
    pre_aggregations: [{name: main, measures: [count], dimensions: [status]}]
views:
  - name: BareView
    cubes: [{join_path: Bare, includes: "*"}]
    access_policy:
      - group: clerks
        row_level: {filters: [{member: status, operator: equals, values: [paid]}]}
"#;

struct Asking {
    shop: Shop,
    service: Service,
}

impl Asking {
    async fn rows(&self, groups: &[&str], query: Value) -> Vec<Value> {
        let claims = json!({ "groups": groups, "statuses": ["paid", "open"], "status": "paid" });
        let context = SecurityContext::from_claims(claims, "groups");
        let reply = self
            .service
            .load(&json!({ "query": query }), &context)
            .await;
        assert_eq!(reply.status, 200, "{groups:?} {query}: {}", reply.body);
        reply.body["data"].as_array().unwrap().clone()
    }

    /// The one value of a measure; `None` where no row is seen.
    async fn value(&self, groups: &[&str], measure: Value) -> Option<String> {
        let name = measure["name"]
            .as_str()
            .or(measure.as_str())
            .unwrap()
            .to_owned();
        let rows = self.rows(groups, json!({ "measures": [measure] })).await;
        rows.first()?[&name].as_str().map(str::to_owned)
    }

    async fn direct(&self, sql: &'static str) -> Option<String> {
        let found = sqlx::query_scalar(sql).fetch_one(self.shop.database.pool());
        found.await.unwrap()
    }
}

#[tokio::test]
async fn whatever_leads_to_a_member_is_under_its_policies() {
    let shop = Shop::with(MODEL).await;
    let looked = |service: &Service| !service.rollups.status().is_empty();
    let service = shop.until("the look", looked).await;
    let asking = Asking { shop, service };
    let paid = "select sum(amount)::text from marts.orders where status = 'paid'";
    let paid = asking.direct(paid).await;
    let brought = json!({ "name": "x", "sql": "sum({BareView.amount})" });
    for measure in [json!("BareView.revenue"), brought, json!("Guarded.revenue")] {
        assert_eq!(
            asking.value(&["clerks"], measure.clone()).await,
            paid,
            "{measure}"
        );
    }
    let listed = "select sum(amount)::text from marts.orders where status in ('paid', 'open')";
    let listed = asking.direct(listed).await;
    let revenue = json!("Guarded.revenue");
    assert_eq!(
        asking.value(&["listed"], revenue.clone()).await,
        listed,
        "a claim with values"
    );
    assert_eq!(
        asking.value(&["clerks", "listed"], revenue).await,
        listed,
        "either policy"
    );
    // What is granted to nobody is not read by another name.
    assert_eq!(
        asking.value(&["clerks"], json!("Guarded.twice")).await,
        None
    );

    let theirs = json!("People.theirRevenue");
    assert_eq!(asking.value(&[], theirs.clone()).await, None);
    assert_eq!(asking.value(&["clerks"], theirs).await, paid);
    let spent = json!({ "dimensions": ["People.id", "People.spent"], "filters": [
        { "member": "People.id", "operator": "equals", "values": ["7"] } ] });
    assert!(asking.rows(&[], spent.clone()).await.is_empty());
    let of_one =
        "select sum(amount)::text from marts.orders where customer_id = 7 and status = 'paid'";
    let of_one = asking.direct(of_one).await;
    let rows = asking.rows(&["clerks"], spent).await;
    assert_eq!(rows[0]["People.spent"].as_str().map(str::to_owned), of_one);
    // Sorting by it tells of it too.
    let sorted =
        json!({ "dimensions": ["Guarded.listed"], "order": [["Guarded.revenue", "desc"]] });
    assert_eq!(asking.rows(&["clerks"], sorted).await.len(), 1);

    let spent = json!({ "dimensions": ["People.id", "People.spent"], "ungrouped": true });
    let people = asking.rows(&["clerks"], spent).await;
    assert_eq!(
        people.len(),
        40,
        "a row for each of them, not for each of their orders"
    );

    let loud = json!({ "dimensions": ["People.loud"] });
    assert_eq!(
        asking.rows(&[], loud).await,
        [json!({ "People.loud": null })]
    );
    assert_eq!(asking.value(&[], json!("People.lastCity")).await, None);
    let city = json!({ "dimensions": ["People.city"] });
    let half = asking.rows(&["half"], city).await;
    assert_eq!(
        half,
        [json!({ "People.city": null })],
        "shown of some rows is not shown of all"
    );

    let status = asking.service.rollups.status();
    let why = status[0].error.as_ref().unwrap();
    assert!(why.contains("Mine reads claims"), "{why}");
    asking.shop.close().await;
}
