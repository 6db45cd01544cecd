//! What statements queries become: their joins, filters, time zones and defaults.

#![allow(clippy::unwrap_used)]

use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::plan::{Plan, normalize, plan};
use ballpoint_metrics::{Model, QueryError, SecurityContext};
use jiff::Timestamp;
use serde_json::{Value, json};

const MODEL: &str = r#"
cubes:
  - name: Orders
    sql_table: shop.orders
    joins:
      - {name: Customers, relationship: many_to_one, sql: "{CUBE}.customer_id = {Customers.id}"}
      - {name: Items, relationship: one_to_many, sql: "{CUBE}.id = {Items}.order_id"}
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: placedAt, sql: placed_at, type: time, granularities: [{name: half, interval: 6 months}]}
    measures:
      - {name: count, type: count}
      - {name: revenue, type: sum, sql: amount}
      - {name: paid, type: sum, sql: amount, filters: [{sql: "{CUBE}.paid"}]}
      - {name: open, type: number, sql: "{revenue} - {paid}"}
      - {name: half, type: number, sql: "{open} / 2"}
  - name: Customers
    sql_table: shop.customers
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: city, sql: city, type: string}
    measures:
      - {name: count, type: count}
  - name: Items
    sql_table: shop.items
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
    measures:
      - {name: quantity, type: sum, sql: quantity}
  - name: Alone
    sql_table: shop.alone
    measures:
      - {name: count, type: count}
"#;

fn planned(query: Value) -> Result<Plan, QueryError> {
    let file = SourceFile {
        name: "shop.yml".to_owned(),
        text: MODEL.to_owned(),
    };
    let model = Model::compile(&[file]).unwrap();
    let now: Timestamp = "2026-08-22T12:00:00Z".parse().unwrap();
    let (_, queries) = normalize(&query, now)?;
    plan(&model, &queries[0], &SecurityContext::default())
}

fn sql(query: Value) -> String {
    planned(query).unwrap().statement.sql()
}

#[test]
fn a_measure_by_a_joined_dimension_is_one_select() {
    assert_eq!(
        sql(json!({ "measures": ["Orders.revenue"], "dimensions": ["Customers.city"] })),
        "SELECT \"customers\".city AS \"customers__city\", sum(\"orders\".amount) AS \"orders__revenue\" \
         FROM shop.orders AS \"orders\" LEFT JOIN shop.customers AS \"customers\" \
         ON \"orders\".customer_id = \"customers\".id GROUP BY 1 ORDER BY 2 DESC, 1 ASC LIMIT 10000"
    );
}

#[test]
fn a_difference_inside_a_quotient_keeps_its_parentheses() {
    let text = sql(json!({ "measures": ["Orders.half"] }));
    assert!(
        text.contains(
            "(sum(\"orders\".amount) - sum(CASE WHEN (\"orders\".paid) THEN \"orders\".amount END)) / 2"
        ),
        "{text}"
    );
}

#[test]
fn rows_that_a_join_repeats_are_summed_once_by_their_key() {
    let text = sql(json!({
        "measures": ["Orders.revenue", "Items.quantity"], "dimensions": ["Customers.city"],
    }));
    assert!(text.contains("SELECT DISTINCT"), "{text}");
    assert!(
        text.contains("keys.key_0 = \"orders_key__orders\".id"),
        "{text}"
    );
    assert!(text.contains("IS NOT DISTINCT FROM"), "{text}");
}

#[test]
fn a_range_is_bound_in_utc_and_ends_before_the_next_millisecond() {
    let plan = planned(json!({
        "measures": ["Orders.count"],
        "timezone": "Asia/Kolkata",
        "timeDimensions": [{
            "dimension": "Orders.placedAt", "granularity": "day", "dateRange": "today"
        }],
    }))
    .unwrap();
    assert_eq!(
        plan.statement.params,
        ["2026-08-21T18:30:00.000Z", "2026-08-22T18:30:00.000Z"]
    );
    let text = plan.statement.sql();
    assert!(
        text.contains(
            "date_trunc('day', (\"orders\".placed_at::timestamptz AT TIME ZONE 'Asia/Kolkata'))"
        ),
        "{text}"
    );
    assert!(
        text.contains(">= $1::timestamptz AND \"orders\".placed_at < $2::timestamptz"),
        "{text}"
    );
}

#[test]
fn half_years_are_counted_in_months() {
    let text = sql(json!({
        "measures": ["Orders.count"],
        "timeDimensions": [{ "dimension": "Orders.placedAt", "granularity": "half" }],
    }));
    assert!(text.contains("make_interval(months =>"), "{text}");
    assert!(!text.contains("EPOCH"), "{text}");
}

#[test]
fn every_operator_of_cube_is_written() {
    let cases = [
        ("equals", json!(["a"]), "(\"customers\".city = $1)"),
        (
            "equals",
            json!(["a", null]),
            "(\"customers\".city IN ($1) OR \"customers\".city IS NULL)",
        ),
        (
            "notEquals",
            json!(["a", "b"]),
            "(\"customers\".city NOT IN ($1, $2) OR \"customers\".city IS NULL)",
        ),
        (
            "contains",
            json!(["a"]),
            "(\"customers\".city ILIKE '%' || $1 || '%')",
        ),
        (
            "notStartsWith",
            json!(["a"]),
            "(\"customers\".city NOT ILIKE $1 || '%' OR \"customers\".city IS NULL)",
        ),
        (
            "notEndsWith",
            json!(["a"]),
            "(\"customers\".city NOT ILIKE '%' || $1 OR \"customers\".city IS NULL)",
        ),
        ("gte", json!(["a"]), "(\"customers\".city >= $1)"),
        ("set", json!(null), "(\"customers\".city IS NOT NULL)"),
        ("notSet", json!(null), "(\"customers\".city IS NULL)"),
    ];
    for (operator, values, wanted) in cases {
        let text = sql(json!({
            "measures": ["Customers.count"],
            "filters": [{ "member": "Customers.city", "operator": operator, "values": values }],
        }));
        assert!(text.contains(wanted), "{operator}: {text}");
    }
}

#[test]
fn what_cannot_be_planned_says_why_and_what_is_near() {
    let cases = [
        (
            json!({ "measures": ["Orders.revenu"] }),
            "'revenu' not found for path 'Orders.revenu'. Nearest: Orders.revenue",
        ),
        (
            json!({ "measures": ["Orders.count", "Alone.count"] }),
            "Can't find join path to join 'Orders', 'Alone'",
        ),
        (
            json!({ "measures": ["Orders.count"], "limit": 50001 }),
            "Error: The query limit has been exceeded.",
        ),
        (
            json!({ "measures": ["Orders.count"], "timezone": "Mars/Base" }),
            "Invalid query format: unknown time zone \"Mars/Base\"",
        ),
        (
            json!({ "measures": ["Orders.count"], "filters": [
                { "member": "Customers.city", "operator": "equal", "values": ["x"] }
            ] }),
            "Invalid query format: \"filters[0]\" does not match any of the allowed types: unknown \
             operator \"equal\", did you mean \"equals\"?",
        ),
        (
            json!({ "measures": ["Orders.count"], "dimensions": ["Orders.id"] }),
            "Error: You requested hidden member: 'Orders__id'.",
        ),
    ];
    for (query, wanted) in cases {
        let error = planned(query).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}
