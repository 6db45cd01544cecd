//! Questions on a catalogue of one cube a table, each with rows of its own: nouns name rows, or the
//! rows that others refer to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_planner::{Context, DialogueState, Plan, Planner};
use serde_json::{Value, json};

fn member(cube: &str, name: &str, kind: &str, synonyms: &[&str], values: &[&str]) -> MemberInfo {
    let mut meta = json!({ "synonyms": synonyms });
    if kind == "boolean" {
        meta["value_synonyms"] = json!({ "true": [name], "false": [format!("in{name}")] });
    }
    MemberInfo {
        name: format!("{cube}.{name}"),
        title: synonyms.first().copied().unwrap_or(name).to_owned(),
        short_title: synonyms.first().copied().unwrap_or(name).to_owned(),
        member_type: kind.to_owned(),
        meta,
        values: values.iter().map(ToString::to_string).collect(),
        ..MemberInfo::default()
    }
}

fn cube(
    name: &str,
    grain: &str,
    measures: Vec<MemberInfo>,
    dimensions: Vec<MemberInfo>,
) -> CubeInfo {
    CubeInfo {
        name: name.to_owned(),
        title: name.to_owned(),
        measures,
        dimensions,
        meta: json!({ "grain": grain }),
        ..CubeInfo::default()
    }
}

/// Customers order; orders are paid. Both have an amount.
fn planner() -> Planner {
    let names = ["Ann", "Bob"];
    let countries = ["Norway", "Chile"];
    let customers = cube(
        "Customers",
        "customer",
        vec![member("Customers", "count", "count", &["customers"], &[])],
        vec![
            member(
                "Customers",
                "name",
                "string",
                &["customers", "customer name"],
                &names,
            ),
            member(
                "Customers",
                "country",
                "string",
                &["customer country"],
                &countries,
            ),
            member(
                "Customers",
                "active",
                "boolean",
                &["is active"],
                &["false", "true"],
            ),
        ],
    );
    let money = |cube: &str, noun: &str| {
        vec![
            member(
                cube,
                "totalAmount",
                "sum",
                &["amount", "total amount", &format!("{noun} amount")],
                &[],
            ),
            member(cube, "avgAmount", "avg", &["average amount"], &[]),
        ]
    };
    let borrowed = |cube: &str| {
        vec![
            member(
                cube,
                "customer",
                "string",
                &["customers", "customer name"],
                &names,
            ),
            member(cube, "customerCountry", "string", &["country"], &countries),
            member(cube, "at", "time", &[], &[]),
        ]
    };
    let mut orders = borrowed("Orders");
    orders.push(member(
        "Orders",
        "priority",
        "string",
        &["priority"],
        &["high", "low"],
    ));
    let mut measures = vec![member("Orders", "count", "count", &["orders"], &[])];
    measures.extend(money("Orders", "order"));
    measures.push(member(
        "Orders",
        "customerCount",
        "count_distinct",
        &["unique customers"],
        &[],
    ));
    let mut payments = vec![member("Payments", "count", "count", &["payments"], &[])];
    payments.extend(money("Payments", "payment"));
    Planner::new(Catalog {
        cubes: vec![
            customers,
            cube("Orders", "order", measures, orders),
            cube("Payments", "payment", payments, borrowed("Payments")),
        ],
    })
}

fn plan(question: &str) -> Plan {
    let context = Context {
        now: "2026-03-31T10:00:00[UTC]".parse().unwrap(),
        coverage: BTreeMap::new(),
    };
    planner().plan(question, &DialogueState::default(), &context)
}

fn query(question: &str) -> Value {
    match plan(question) {
        Plan::Answer(answer) => serde_json::to_value(answer.query).unwrap(),
        other => panic!("{question}: {other:?}"),
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn nouns_name_the_rows_that_are_counted_and_those_they_are_counted_by() {
    for (question, measure, dimensions) in [
        ("how many customers are there", "Customers.count", vec![]),
        (
            "customers by country",
            "Customers.count",
            vec!["Customers.country"],
        ),
        (
            "how many orders by country",
            "Orders.count",
            vec!["Orders.customerCountry"],
        ),
        (
            "orders by country",
            "Orders.count",
            vec!["Orders.customerCountry"],
        ),
        (
            "top 5 customers by order amount",
            "Orders.totalAmount",
            vec!["Orders.customer"],
        ),
        (
            "how many customers by priority",
            "Orders.customerCount",
            vec!["Orders.priority"],
        ),
        ("average amount of payments", "Payments.avgAmount", vec![]),
        (
            "amount of orders by country",
            "Orders.totalAmount",
            vec!["Orders.customerCountry"],
        ),
    ] {
        let query = query(question);
        assert_eq!(texts(&query["measures"]), [measure], "{question}");
        assert_eq!(texts(&query["dimensions"]), dimensions, "{question}");
    }
}

#[test]
fn a_value_before_a_noun_is_a_filter() {
    for (question, measure, filter, value) in [
        (
            "how many active customers",
            "Customers.count",
            "Customers.active",
            "true",
        ),
        (
            "how many inactive customers",
            "Customers.count",
            "Customers.active",
            "false",
        ),
        (
            "how many high priority orders",
            "Orders.count",
            "Orders.priority",
            "high",
        ),
    ] {
        let query = query(question);
        assert_eq!(texts(&query["measures"]), [measure], "{question}");
        assert_eq!(query["filters"][0]["member"], filter, "{question}");
        assert_eq!(texts(&query["filters"][0]["values"]), [value], "{question}");
        assert!(
            texts(&query["dimensions"]).is_empty(),
            "{question}: {query}"
        );
    }
}

#[test]
fn a_name_that_two_tables_measure_is_asked_about() {
    match plan("amount by country last month") {
        Plan::Clarify(asked) => {
            let cubes: Vec<String> = asked
                .options
                .iter()
                .map(|it| it.frame.measures[0].clone())
                .collect();
            assert_eq!(cubes, ["Orders.totalAmount", "Payments.totalAmount"]);
        }
        other => panic!("{other:?}"),
    }
}
