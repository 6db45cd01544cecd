//! Questions on a catalogue of one cube a table, each with rows of its own: nouns name rows, or the
//! rows that others refer to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_planner::plan::Derive;
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
    let names = ["Ann", "Bob", "Dr. Eva Weber", "Dr. Ida Lang", "Jon Lang"];
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

fn refused(question: &str) -> (Vec<String>, Vec<String>) {
    match plan(question) {
        Plan::Refuse(no) => (no.subject, no.offer),
        other => panic!("{question}: {other:?}"),
    }
}

#[test]
fn what_is_left_out_is_left_out_whatever_noun_stands_before_it() {
    for (question, values) in [
        ("orders excluding priority high", vec!["high"]),
        ("orders without priority high", vec!["high"]),
        ("orders except priority high and low", vec!["high", "low"]),
        ("total order amount excluding high", vec!["high"]),
        ("orders that aren't high priority", vec!["high"]),
    ] {
        let query = query(question);
        let filter = &query["filters"][0];
        assert_eq!(filter["operator"], "notEquals", "{question}: {query}");
        assert_eq!(texts(&filter["values"]), values, "{question}");
        assert!(texts(&query["dimensions"]).is_empty(), "{question}");
    }
    let mixed = query("orders excluding country Norway and priority high");
    for filter in mixed["filters"].as_array().unwrap() {
        assert_eq!(filter["operator"], "notEquals", "{mixed}");
    }
}

#[test]
fn a_negation_that_no_filter_carries_out_is_refused_and_named() {
    for (question, word) in [
        ("how many customers have no orders", "orders"),
        ("customers without orders", "orders"),
        ("which customer is not the worst by order amount", "not"),
        ("order amount not paid", "not"),
        ("orders excluding last month", "excluding"),
        ("orders excluding high Norway", "Norway"),
    ] {
        let plan = plan(question);
        assert!(matches!(plan, Plan::Refuse(_)), "{question}: {plan:?}");
        if word != "not" {
            let (subject, _) = refused(question);
            assert!(subject.join(" ").contains(word), "{question}: {subject:?}");
        }
    }
}

#[test]
fn a_bound_chooses_groups_and_never_narrows_a_total() {
    let (_, offer) = refused("how many customers have order amount below 95");
    assert!(
        offer
            .iter()
            .any(|it| it.contains("with order amount below 95")),
        "{offer:?}"
    );
    for question in [
        "how many customers have more than 3 orders",
        "how many customers by country have more than 3 orders",
        "less than 20 minutes orders",
    ] {
        refused(question);
    }
    for question in [
        "second highest customer by order amount",
        "2nd highest customer by order amount",
    ] {
        match plan(question) {
            Plan::Answer(answer) => {
                let place = Derive::Place {
                    measure: "Orders.totalAmount".into(),
                    place: 2,
                };
                assert_eq!(answer.derive, Some(place), "{question}");
                assert_eq!(answer.query.limit, None, "{question}");
            }
            other => panic!("{question}: {other:?}"),
        }
    }
    let listed = query("customers with order amount below 95");
    assert_eq!(texts(&listed["dimensions"]), ["Orders.customer"]);
    assert_eq!(listed["filters"][0]["operator"], "lt");
}

#[test]
fn the_noun_of_the_rows_behind_a_measure_splits_nothing() {
    let mut catalog = Catalog::clone(planner().catalog());
    let number = member("Orders", "number", "string", &["orders"], &["A", "B"]);
    catalog.cubes[1].dimensions.push(number);
    let planner = Planner::new(catalog);
    let context = Context {
        now: "2026-03-31T10:00:00[UTC]".parse().unwrap(),
        coverage: BTreeMap::new(),
    };
    for question in ["total amount of orders", "total amount of orders by month"] {
        match planner.plan(question, &DialogueState::default(), &context) {
            Plan::Answer(answer) => {
                assert_eq!(answer.query.measures, ["Orders.totalAmount"], "{question}");
                assert!(answer.query.dimensions.is_empty(), "{question}");
            }
            other => panic!("{question}: {other:?}"),
        }
    }
}

#[test]
fn a_name_is_found_with_its_full_stop_and_by_the_part_that_is_its_own() {
    for question in [
        "orders of Dr. Eva Weber",
        "orders of weber",
        "order amount of Eva",
    ] {
        let query = query(question);
        let value = texts(&query["filters"][0]["values"]);
        assert_eq!(value, ["Dr. Eva Weber"], "{question}: {query}");
    }
    let (_, offer) = refused("orders of lang");
    assert!(
        offer.contains(&"Dr. Ida Lang".to_owned()) && offer.contains(&"Jon Lang".to_owned()),
        "{offer:?}"
    );
    assert!(
        offer.iter().all(|it| !it.eq_ignore_ascii_case("lang")),
        "{offer:?}"
    );
}

#[test]
fn a_choice_is_made_by_its_place() {
    let Plan::Clarify(asked) = plan("amount by country last month") else {
        panic!("nothing to choose from")
    };
    let state = DialogueState {
        pending: Some(asked.frame.clone()),
        options: asked.options.clone(),
        ..DialogueState::default()
    };
    let context = Context {
        now: "2026-03-31T10:00:00[UTC]".parse().unwrap(),
        coverage: BTreeMap::new(),
    };
    for (reply, at) in [
        ("the second", 1),
        ("2", 1),
        ("option 2", 1),
        ("the first one please", 0),
        ("the last one", 1),
    ] {
        match planner().plan(reply, &state, &context) {
            Plan::Answer(answer) => assert_eq!(answer.frame, asked.options[at].frame, "{reply}"),
            other => panic!("{reply}: {other:?}"),
        }
    }
}
