//! What a model can say beyond the recorded cases: policies, masks, default filters, Jinja, measures
//! of a query's own, calendars; planned without a database, or run on one.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::{Model, SecurityContext, Service};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use serde_json::{Value, json};

const SHOP: &str = r#"
{% set parts = ["north", "south"] %}
cubes:
  - name: orders
    sql: >
      SELECT * FROM orders WHERE {FILTER_PARAMS.orders.placed_at.filter('placed_at')}
      AND {SECURITY_CONTEXT.region.filter('region')}
    joins:
      - {name: items, relationship: one_to_many, sql: "{CUBE}.id = {items}.order_id"}
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: city, sql: city, type: string, mask: "***"}
      - {name: status, sql: status, type: string}
      - name: placed_at
        sql: placed_at
        type: time
        granularities:
          - {name: half_year, interval: 6 months, origin: "2024-01-01"}
          - {name: fiscal, sql: "{CUBE}.placed_at - INTERVAL '3 months'"}
    measures:
      - {name: count, type: count}
      - {name: revenue, type: sum, sql: amount, mask: -1}
      {% for part in parts %}
      - {name: revenue_{{ part }}, type: sum, sql: amount, filters: [{sql: "{CUBE}.region = '{{ part }}'"}]}
      {% endfor %}
      - {name: running, type: running_total, sql: amount}
      - name: revenue_all_cities
        multi_stage: true
        type: sum
        sql: "{revenue}"
        grain: {exclude: [city]}
      - name: revenue_any_status
        multi_stage: true
        type: sum
        sql: "{revenue}"
        filter: {exclude: [status]}
      - name: average_city
        multi_stage: true
        type: avg
        sql: "{revenue}"
        add_group_by: [city]
    access_policy:
      - group: "*"
        conditions: [{if: "{ not security_context.blocked }"}]
        member_level: {excludes: [revenue, city]}
        member_masking: {includes: [revenue, city]}
      - group: owners
        member_level: {includes: "*"}
  - name: items
    sql_table: items
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: price, sql: price, type: number}
      - {name: kind, sql: kind, type: string}
    measures:
      - {name: count, type: count}
views:
  - name: shop
    cubes:
      - {join_path: orders, includes: [count, revenue, status, placed_at]}
      - {join_path: orders.items, prefix: true, includes: [kind]}
    default_filters:
      - {member: status, operator: equals, values: [paid]}
    folders:
      - name: Outer
        includes: [count, {name: Inner, includes: [status]}, {join_path: orders.items}]
"#;

const ROWS: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, city text, region text, status text, placed_at timestamptz, amount numeric);
    INSERT INTO orders VALUES
      (1, 'Pune', 'north', 'paid', '2026-01-05 10:00Z', 10), (2, 'Pune', 'south', 'open', '2026-02-05 10:00Z', 20),
      (3, 'Goa', 'south', 'paid', '2026-02-06 10:00Z', 30);
    CREATE TABLE items (id int PRIMARY KEY, order_id int, kind text, price numeric);
    INSERT INTO items VALUES (1, 1, 'a', 4), (2, 1, 'b', 6), (3, 2, 'a', 20), (4, 3, 'a', 15), (5, 3, 'a', 15);";

fn compile(text: &str) -> Result<Model, ballpoint_metrics::ModelError> {
    Model::compile(&[SourceFile {
        name: "shop.yml".to_owned(),
        text: text.to_owned(),
    }])
}

fn caller(claims: Value) -> SecurityContext {
    SecurityContext::from_claims(claims, "groups")
}

fn owner() -> SecurityContext {
    caller(json!({ "groups": ["owners"] }))
}

/// The statement of a query, or the status and text of what is said instead. Nothing listens where
/// it would be run.
fn planned(query: Value, context: &SecurityContext) -> Result<String, (u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let reply = runtime.block_on(async {
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        let service = Service::new(compile(SHOP).unwrap(), pool, clock);
        service.sql(&json!({ "query": query }), context)
    });
    match reply.body["sql"]["sql"][0].as_str() {
        Some(sql) => Ok(sql.to_owned()),
        None => Err((reply.status, reply.body["error"].to_string())),
    }
}

struct Shop {
    _database: TestDatabase,
    service: Service,
}

impl Shop {
    async fn open() -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(ROWS).execute(database.pool()).await.unwrap();
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        let service = Service::new(compile(SHOP).unwrap(), database.pool().clone(), clock);
        Self {
            _database: database,
            service,
        }
    }

    async fn rows(&self, query: Value, context: &SecurityContext) -> Value {
        let reply = self.service.load(&json!({ "query": query }), context).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["data"].clone()
    }
}

#[tokio::test]
async fn measures_of_every_kind_have_the_values_that_the_rows_give() {
    let shop = Shop::open().await;
    let all = owner();
    // Joins repeat orders; sums do not.
    let rows = shop
        .rows(
            json!({
                "measures": ["orders.revenue", "orders.revenue_north",
                    { "name": "per_item", "sql": "{orders.revenue} / NULLIF(items.count, 0)" },
                    { "name": "spread", "sql": "max(items.price) - min(items.price)" },
                    { "name": "listed", "sql": "sum(items.price)" }],
                "dimensions": ["orders.city"], "order": [["orders.city", "asc"]],
            }),
            &all,
        )
        .await;
    let number = |row: &Value, key: &str| row[key].as_str().unwrap().parse::<f64>().unwrap();
    let row = |city: &str| {
        let rows = rows.as_array().unwrap().iter();
        rows.clone().find(|row| row["orders.city"] == city).unwrap()
    };
    let (goa, pune) = (row("Goa"), row("Pune"));
    assert_eq!(
        (number(goa, "orders.revenue"), number(goa, "listed")),
        (30.0, 30.0)
    );
    assert_eq!(
        (number(pune, "orders.revenue"), number(pune, "listed")),
        (30.0, 30.0)
    );
    assert_eq!(
        (number(goa, "per_item"), number(pune, "per_item")),
        (15.0, 10.0)
    );
    assert_eq!((number(goa, "spread"), number(pune, "spread")), (0.0, 16.0));
    assert_eq!(number(pune, "orders.revenue_north"), 10.0);
    // Shares, finer groups, filters that a measure does not heed, running totals.
    let rows = shop
        .rows(
            json!({
                "measures": ["orders.revenue", "orders.revenue_all_cities", "orders.average_city",
                    "orders.revenue_any_status"],
                "dimensions": ["orders.city"], "order": [["orders.city", "asc"]],
                "filters": [{ "member": "orders.status", "operator": "equals", "values": ["paid"] }],
            }),
            &all,
        )
        .await;
    assert_eq!(number(&rows[1], "orders.revenue"), 10.0);
    assert_eq!(number(&rows[1], "orders.revenue_all_cities"), 40.0);
    assert_eq!(number(&rows[1], "orders.revenue_any_status"), 30.0);
    let rows = shop
        .rows(json!({ "measures": ["orders.average_city"] }), &all)
        .await;
    assert_eq!(number(&rows[0], "orders.average_city"), 30.0);
    let time = json!({
        "dimension": "orders.placed_at", "granularity": "month",
        "dateRange": ["2026-01-01", "2026-03-31"],
    });
    let query = json!({ "measures": ["orders.running"], "timeDimensions": [time] });
    let rows = shop.rows(query, &all).await;
    let running: Vec<f64> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| number(row, "orders.running"))
        .collect();
    assert_eq!(running, [10.0, 60.0, 60.0]);
    // Claims and what the query filters by reach the cube's own SQL.
    let south = caller(json!({ "groups": ["owners"], "region": "south" }));
    let rows = shop
        .rows(json!({ "measures": ["orders.count"] }), &south)
        .await;
    assert_eq!(rows, json!([{ "orders.count": "2" }]));
}

#[tokio::test]
async fn every_day_of_sixteen_years_is_in_its_own_half_year() {
    let shop = Shop::open().await;
    let days = "TRUNCATE orders; INSERT INTO orders (id, placed_at)
        SELECT row_number() OVER (), day FROM generate_series(timestamptz '2015-01-01Z', '2030-12-31Z', '1 day') AS day";
    sqlx::raw_sql(days)
        .execute(shop.service.runner.pool())
        .await
        .unwrap();
    let query = json!({
        "dimensions": ["orders.id"], "limit": 10_000,
        "timeDimensions": [
            { "dimension": "orders.placed_at", "granularity": "half_year" },
            { "dimension": "orders.placed_at", "granularity": "day" },
        ],
    });
    let rows = shop.rows(query, &owner()).await;
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 5_844);
    for row in rows {
        let (day, half) = (
            row["orders.placed_at.day"].as_str().unwrap(),
            row["orders.placed_at.half_year"].as_str().unwrap(),
        );
        let begins = if day[5..7] < *"07" { "01" } else { "07" };
        assert_eq!(
            half,
            format!("{}-{begins}-01T00:00:00.000", &day[..4]),
            "{day}"
        );
    }
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_cancelled_in_the_database() {
    let shop = Shop::open().await;
    let slow = compile(
        "cubes: [{name: slow, sql: \"SELECT 1 AS id, pg_sleep(600)::text AS x\", measures: [{name: count, type: count}]}]",
    );
    let service = shop.service.with_model(slow.unwrap());
    let pool = service.runner.pool().clone();
    let asked = tokio::spawn(async move {
        let query = json!({ "query": { "measures": ["slow.count"] } });
        service.load(&query, &SecurityContext::default()).await
    });
    let sleeping = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' \
            AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()";
        sqlx::query_scalar(count).fetch_one(&pool).await.unwrap()
    };
    while sleeping().await == 0 {
        assert!(!asked.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked.abort();
    while sleeping().await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn masked_members_are_shown_masked_and_cannot_be_guessed_by_filters() {
    let query = json!({
        "measures": ["orders.revenue"], "dimensions": ["orders.city"],
        "filters": [{ "member": "orders.city", "operator": "equals", "values": ["Pune"] }],
    });
    let anybody = planned(query.clone(), &caller(json!({}))).unwrap();
    assert!(anybody.contains("'***' AS \"orders__city\""), "{anybody}");
    assert!(anybody.contains("-1 AS \"orders__revenue\""), "{anybody}");
    assert!(anybody.contains("('***' = $"), "{anybody}");
    let owners = planned(query, &owner()).unwrap();
    assert!(
        !owners.contains("***") && owners.contains("sum("),
        "{owners}"
    );
    // Nor do expressions of the query's own see through.
    let own = json!({ "measures": [{ "name": "x", "sql": "{orders.revenue} + 0" }] });
    let (status, error) = planned(own, &caller(json!({}))).unwrap_err();
    assert_eq!(status, 403, "{error}");
}

#[test]
fn a_policy_whose_condition_does_not_hold_applies_to_nobody() {
    let query = json!({ "measures": ["orders.count"] });
    let blocked = caller(json!({ "blocked": true }));
    assert_eq!(planned(query.clone(), &blocked).unwrap_err().0, 403);
    assert!(planned(query, &caller(json!({ "blocked": false }))).is_ok());
}

#[test]
fn a_views_default_filter_holds_until_the_query_says_otherwise() {
    let sql = |filters: Value| {
        let query = json!({ "measures": ["shop.count"], "filters": filters });
        planned(query, &owner()).unwrap()
    };
    assert!(sql(json!([])).contains(".status = $"));
    let set = json!([{ "member": "shop.status", "operator": "set" }]);
    assert!(!sql(set).contains(".status = $"));
}

#[test]
fn folders_hold_folders_and_what_a_join_path_brings() {
    let model = compile(SHOP).unwrap();
    let shop = model.cube("shop").unwrap();
    let all = json!(["shop.count", "shop.status", "shop.items_kind"]);
    assert_eq!(shop.folders, [json!({ "name": "Outer", "members": all })]);
    assert_eq!(shop.nested_folders[0]["members"][1]["name"], "Inner");
}

#[test]
fn a_queries_own_measure_is_read_by_a_grammar_of_its_own() {
    let wrong = [
        ("{orders.revenue}; DROP TABLE orders", "unexpected \";\""),
        ("pg_sleep(10)", "the function \"pg_sleep\" is not allowed"),
        ("{orders.city}", "is a dimension: put it into an aggregate"),
        (
            "sum({orders.revenue})",
            "is a measure: it is aggregated already",
        ),
        ("1 + 1", "names no member"),
        ("{orders.revenue} +", "it ends too early"),
        ("{orders.revenu}", "Nearest: orders.revenue"),
        ("sum(sum(orders.id))", "an aggregate is inside another"),
        (
            "'it''s' || (SELECT 1)",
            "neither a function nor Cube.member",
        ),
    ];
    for (sql, said) in wrong {
        let query = json!({ "measures": [{ "name": "own", "sql": sql }] });
        let (status, error) = planned(query, &owner()).unwrap_err();
        assert!(error.replace("\\\"", "\"").contains(said), "{sql}: {error}");
        assert_eq!(status, 400, "{sql}");
    }
    let query = json!({ "measures": [{
        "name": "own",
        "sql": "CASE WHEN {orders.count} > 2 THEN round(orders.revenue / 3, 2) ELSE -1 END",
    }] });
    let sql = planned(query, &owner()).unwrap();
    assert!(sql.contains("CASE WHEN") && !sql.contains("> 2"), "{sql}");
}

#[test]
fn what_cannot_be_read_says_where() {
    for (text, wanted) in [
        (
            "cubes:\n  - name: a\n    sql_table: {{ nobody }}\n",
            "shop.yml:3: Jinja",
        ),
        (
            "cubes:\n  - name: a\n    sql_table: t\n    access_policy: [{member_level: {includes: '*'}}]\n",
            "needs a \"group\"",
        ),
        (
            "cubes:\n  - name: a\n    sql: \"SELECT 1 WHERE {FILTER_PARAMS.a.b.filter('x')}\"\n",
            "unknown reference {a.b}",
        ),
    ] {
        let error = compile(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

const SALES: &str = r#"
cubes:
  - name: sales
    sql: >
      SELECT * FROM (VALUES (1, 'paid', 100, timestamptz '2026-01-30 20:00Z'),
      (2, 'new', 300, '2026-02-10 00:00Z'), (3, 'new', 10, '2026-02-28 19:00Z')) v(id, status, amount, at)
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: big, sql: "{CUBE}.status = 'paid' OR {CUBE}.amount > 200", type: boolean}
      - {name: at, sql: at, type: time}
      - {name: later, sql: "{CUBE}.at + interval '1 day'", type: time}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
      - name: before
        multi_stage: true
        type: number
        sql: "{total}"
        time_shift: [{time_dimension: at, interval: 1 month, type: prior}]
"#;

#[tokio::test]
async fn a_dimension_is_one_operand_and_a_month_is_one_of_the_query_s_zone() {
    let database = TestDatabase::create().await;
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let service = Service::new(compile(SALES).unwrap(), database.pool().clone(), clock);
    let load = async |query: Value| {
        let (request, nobody) = (json!({ "query": query }), SecurityContext::default());
        let reply = service.load(&request, &nobody).await;
        (reply.status, reply.body)
    };
    for (filter, count) in [
        (json!({ "member": "sales.big", "operator": "set" }), "3"),
        (json!({ "member": "sales.big", "operator": "notSet" }), "0"),
        (
            json!({ "member": "sales.big", "operator": "equals", "values": ["true"] }),
            "2",
        ),
        (
            json!({ "member": "sales.big", "operator": "notEquals", "values": ["true"] }),
            "1",
        ),
    ] {
        let (_, body) = load(json!({ "measures": ["sales.count"], "filters": [filter] })).await;
        assert_eq!(body["data"][0]["sales.count"], count, "{filter}: {body}");
    }
    let day = json!({ "dimension": "sales.later", "granularity": "day", "dateRange": ["2026-02-11", "2026-02-11"] });
    let (_, body) = load(json!({ "measures": ["sales.count"], "timeDimensions": [day] })).await;
    assert_eq!(body["data"][0]["sales.count"], "1", "{body}");
    // 31 January in Kolkata, at half past one, is the 30th still in UTC; a month on it is 28 February.
    let month = json!({ "dimension": "sales.at", "granularity": "month", "dateRange": ["2026-02-01", "2026-03-31"] });
    let query = json!({ "measures": ["sales.total", "sales.before"], "timeDimensions": [month], "timezone": "Asia/Kolkata" });
    let (_, body) = load(query).await;
    let of = |at: usize, name: &str| body["data"][at][name].as_str().map(str::to_owned);
    assert_eq!(of(0, "sales.before").as_deref(), Some("100"), "{body}");
    assert_eq!(of(1, "sales.before").as_deref(), Some("300"), "{body}");
    let values: Vec<String> = (0..40_000).map(|it| it.to_string()).collect();
    let many = json!([{ "member": "sales.id", "operator": "equals", "values": values }]);
    let (status, body) = load(json!({ "measures": ["sales.count"], "filters": many })).await;
    assert_eq!(status, 400);
    let says = "the query compares with 40000 values, of 32767 at most";
    assert!(body["error"].as_str().unwrap().contains(says), "{body}");
}
