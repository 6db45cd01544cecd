//! Access policies hold for whatever a query leads to, by whichever name it is asked for.

#![allow(clippy::unwrap_used)]

use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::{Model, ModelError, SecurityContext, Service};
use ballpoint_runtime::clock::Clock;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

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

    /// The same over the SQL API.
    async fn sql_value(&self, groups: &[&str], sql: &str) -> Option<String> {
        let context = SecurityContext::from_claims(json!({ "groups": groups }), "groups");
        let sent = self.service.translate(sql, &context).await.unwrap().sql;
        let found = sqlx::query_scalar(AssertSqlSafe(sent));
        found.fetch_one(self.shop.database.pool()).await.unwrap()
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
    let seen = "select string_agg(distinct city, ' ') from marts.customers where id < 10";
    let seen = asking.direct(seen).await.unwrap();
    let mut cities: Vec<&str> = half
        .iter()
        .filter_map(|it| it["People.city"].as_str())
        .collect();
    cities.sort_unstable();
    assert_eq!(cities.join(" "), seen, "of these rows and no others");
    assert_eq!(
        half.iter().filter(|it| it["People.city"].is_null()).count(),
        1
    );
    let loud = json!({ "dimensions": ["People.id", "People.loud"], "filters": [
        { "member": "People.city", "operator": "equals", "values": ["Pune"] } ] });
    let loud = asking.rows(&["half"], loud).await;
    assert!(
        loud.iter().all(|it| it["People.loud"] == "PUNE"),
        "{loud:?}"
    );
    assert_eq!(
        loud.len(),
        2,
        "a filter finds what is seen: of 4 and 8, not of the other Punes"
    );
    let last = asking.value(&["half"], json!("People.lastCity")).await;
    let greatest = "select max(city) from marts.customers where id < 10";
    assert_eq!(last, asking.direct(greatest).await);

    // What more is granted of one member opens no rows of another.
    let count = "select count(*)::text from marts.orders where status = 'paid'";
    let both = json!({ "measures": ["Guarded.count", "Guarded.revenue"] });
    let both = asking.rows(&["clerks"], both).await;
    assert_eq!(
        both[0]["Guarded.count"].as_str().map(str::to_owned),
        asking.direct(count).await
    );
    let sql = "SELECT MEASURE(\"theirRevenue\")::text AS x FROM People";
    assert_eq!(asking.sql_value(&["clerks"], sql).await, paid);

    let status = asking.service.rollups.status();
    let why = status[0].error.as_ref().unwrap();
    assert!(why.contains("Mine reads claims"), "{why}");
    asking.shop.close().await;
}

/// A cube whose one policy is this, and another that extends it.
fn guarded(policy: &str) -> Result<Model, ModelError> {
    let text = format!(
        "cubes:
  - name: base
    sql_table: marts.orders
    dimensions:
      - {{name: status, sql: status, type: string}}
      - {{name: at, sql: placed_at, type: time}}
    measures: [{{name: count, type: count}}, {{name: secret, type: sum, sql: amount}}]
    segments: [{{name: heavy, sql: weight > 1}}]
    access_policy:
      - {policy}
  - {{name: child, extends: base}}
views:
  - {{name: seen, cubes: [{{join_path: base, includes: [count, status]}}]}}
"
    );
    Model::compile(&[SourceFile {
        name: "guarded.yml".to_owned(),
        text,
    }])
}

/// What a load of one measure would run with, in March 2026; the status and text of a refusal.
fn values(policy: &str, measure: &str, claims: &Value) -> Result<(String, Value), (u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let model = guarded(policy).unwrap();
    let context = SecurityContext::from_claims(claims.clone(), "groups");
    let query = json!({ "query": { "measures": [measure] } });
    let reply = runtime.block_on(async {
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        Service::new(model, pool, clock).sql(&query, &context)
    });
    let sql = &reply.body["sql"]["sql"];
    match sql[0].as_str() {
        Some(text) => Ok((text.to_owned(), sql[1].clone())),
        None => Err((reply.status, reply.body["error"].to_string())),
    }
}

#[test]
fn a_policy_is_read_as_cube_reads_it_and_a_wrong_one_is_refused_where_it_stands() {
    for member in [
        "status",
        "CUBE.status",
        "\"{CUBE}.status\"",
        "\"{CUBE.status}\"",
    ] {
        let policy = format!(
            "{{group: '*', row_level: {{filters: [{{member: {member}, operator: equals, values: [paid]}}]}}}}"
        );
        for measure in ["base.count", "child.count", "seen.count"] {
            let (_, bound) = values(&policy, measure, &json!({})).unwrap();
            assert_eq!(bound, json!(["paid"]), "{member} {measure}");
        }
    }
    let rows = |filter: &str| format!("{{group: '*', row_level: {{filters: [{filter}]}}}}");
    for (policy, says) in [
        (
            rows("{member: statuss, operator: equals, values: [x]}"),
            "did you mean \"status\"?",
        ),
        (
            rows("{member: status, operator: equal, values: [x]}"),
            "did you mean \"equals\"?",
        ),
        (
            rows("{member: status, operator: equals, values: []}"),
            "needs \"values\"",
        ),
        (
            rows("{member: status, operator: inDateRange, values: [today]}"),
            "not a time dimension",
        ),
        (rows("{member: heavy, operator: set}"), "is a segment"),
        (
            rows("{member: status, operator: equals, values: ['{ status }']}"),
            "is no claim",
        ),
        (rows("{or: []}"), "need filters"),
        (
            "{group: '*', member_level: {includes: [cont]}}".to_owned(),
            "no member \"cont\"",
        ),
        (
            "{group: '*', member_level: {excludes: [secrt]}}".to_owned(),
            "no member \"secrt\"",
        ),
        (
            "{group: '*', member_masking: {includes: [secret]}}".to_owned(),
            "needs a \"member_level\"",
        ),
    ] {
        let error = guarded(&policy).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.starts_with("guarded.yml:"),
            "{policy}: {error}"
        );
    }
    let none = "{group: '*', member_level: {excludes: '*'}}";
    assert_eq!(values(none, "base.count", &json!({})).unwrap_err().0, 403);
}

#[test]
fn claims_in_a_policy_are_values_lists_parts_of_texts_and_dates() {
    let rows = |member: &str, operator: &str, value: &str| {
        format!(
            "{{group: '*', row_level: {{filters: [{{member: {member}, operator: {operator}, values: ['{value}']}}]}}}}"
        )
    };
    let bound = |policy: &str, claims: Value| values(policy, "base.count", &claims);
    let listed = rows("status", "equals", "{ securityContext.is }");
    let two = bound(&listed, json!({ "is": ["paid", "new"] })).unwrap();
    assert_eq!(two.1, json!(["paid", "new"]));
    let (sql, none) = bound(&listed, json!({ "is": [] })).unwrap();
    assert!(sql.contains("FALSE") && none == json!([]), "{sql}");
    let (status, error) = bound(&listed, json!({})).unwrap_err();
    assert!(status == 403 && error.contains("has no"), "{error}");
    let part = rows("status", "equals", "x-{ securityContext.is }");
    assert_eq!(bound(&part, json!({ "is": 7 })).unwrap().1, json!(["x-7"]));
    let dated = rows("at", "inDateRange", "last month");
    let dates = bound(&dated, json!({})).unwrap().1.to_string();
    assert!(
        dates.contains("2026-02-01") && dates.contains("2026-03-01"),
        "{dates}"
    );
}

#[test]
fn nobody_is_told_the_name_of_what_he_may_not_see() {
    let policy = "{group: '*', member_level: {excludes: [secret]}}";
    let (_, error) = values(policy, "base.secre", &json!({})).unwrap_err();
    assert!(!error.contains("secret"), "{error}");
    let (_, error) = values(policy, "base.coun", &json!({})).unwrap_err();
    assert!(error.contains("base.count"), "{error}");
}
