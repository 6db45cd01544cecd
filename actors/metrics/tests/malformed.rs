//! Whatever a client sends gets an answer below 500, and no value of it is ever in the SQL text.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test reads how many cases it is asked for"
)]

use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::plan::{normalize, plan};
use ballpoint_metrics::{ApiReply, Model, SecurityContext, Service};
use ballpoint_runtime::clock::Clock;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const MODEL: &str = r#"
cubes:
  - name: Orders
    sql_table: public.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: city, sql: city, type: string}
      - {name: placedAt, sql: placed_at, type: time}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
    segments:
      - {name: big, sql: "{CUBE}.amount > 100"}
"#;

/// In every text that a test makes up, and in nothing else.
const MARK: &str = "zqx";

fn model() -> Model {
    let file = SourceFile {
        name: "orders.yml".to_owned(),
        text: MODEL.to_owned(),
    };
    Model::compile(&[file]).unwrap()
}

/// JSON of any shape, often with words of the query language in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("Orders.count".to_owned()),
        Just("Orders.city".to_owned()),
        Just("Orders.placedAt".to_owned()),
        Just("equals".to_owned()),
        Just("last 7 days".to_owned()),
        Just("2026-01-01".to_owned()),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("measures"),
        Just("dimensions"),
        Just("timeDimensions"),
        Just("dimension"),
        Just("filters"),
        Just("member"),
        Just("operator"),
        Just("values"),
        Just("order"),
        Just("limit"),
        Just("offset"),
        Just("dateRange"),
        Just("granularity"),
        Just("timezone"),
        Just("or"),
        Just("and"),
        Just("segments"),
        Just("compareDateRange"),
        Just("x"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// A query in which nothing is wrong, with a word of everything.
fn valid() -> Value {
    json!({
        "measures": ["Orders.count", { "name": "share", "sql": "{Orders.total} / 2 + sum(Orders.id)" }],
        "dimensions": ["Orders.city"],
        "segments": ["Orders.big"],
        "timeDimensions": [{
            "dimension": "Orders.placedAt", "granularity": "day", "dateRange": "last week",
        }],
        "filters": [
            { "member": "Orders.city", "operator": "contains", "values": ["Pune"] },
            { "or": [
                { "member": "Orders.id", "operator": "gt", "values": ["1"] },
                { "and": [{ "member": "Orders.placedAt", "operator": "afterDate", "values": ["2026-01-01"] }] },
            ] },
            { "member": "Orders.total", "operator": "gte", "values": ["3"] },
        ],
        "order": [["Orders.city", "asc"]],
        "limit": 10, "offset": 5, "total": true, "timezone": "Asia/Kolkata",
        "responseFormat": "compact",
    })
}

/// Every place of a value, as pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), out);
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                places(item, &format!("{at}/{key}"), out);
            }
        }
        _ => {}
    }
}

/// The valid query with some of its values replaced by others, or by texts that want out of their
/// quotes.
fn nearly_valid() -> impl Strategy<Value = Value> {
    let mut all = Vec::new();
    places(&valid(), "", &mut all);
    let hostile =
        "[a-z0-9'\"\\\\;%_$(){}. -]{0,16}".prop_map(|text| Value::from(format!("{MARK}{text}")));
    let measure = "[a-z'();*+ -]{0,12}".prop_map(
        |text| json!({ "name": "own", "sql": format!("{{Orders.total}} + '{MARK}{text}") }),
    );
    let other = prop_oneof![4 => hostile, 2 => measure, 2 => any_json()];
    prop::collection::vec((prop::sample::select(all), other), 0..4).prop_map(|changes| {
        let mut query = valid();
        for (place, value) in changes {
            // A former change may have taken the place away.
            if let Some(found) = query.pointer_mut(&place) {
                *found = value;
            }
        }
        query
    })
}

/// 600 of each, or what `BALLPOINT_FUZZ_CASES` says.
fn cases() -> u32 {
    let asked = std::env::var("BALLPOINT_FUZZ_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(600)
}

fn replies(query: &Value, multi: bool) -> [ApiReply; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let request = json!({ "query": query, "queryType": if multi { "multi" } else { "" } });
    runtime.block_on(async {
        // Nothing listens there: planning never asks the database.
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let service = Service::new(model(), pool, Clock::system());
        let context = SecurityContext::default();
        [
            service.sql(&request, &context),
            service.dry_run(&request, &context),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn malformed_queries_are_refused_below_500(query in any_json(), multi in any::<bool>()) {
        for reply in replies(&query, multi) {
            prop_assert!(reply.status < 500, "{} for {query}", reply.status);
            prop_assert!(reply.status == 200 || reply.body["error"].is_string());
        }
    }

    #[test]
    fn no_text_of_a_query_is_in_its_statement(query in nearly_valid(), multi in any::<bool>()) {
        let [sql, dry_run] = replies(&query, multi);
        for reply in [&sql, &dry_run] {
            prop_assert!(reply.status < 500, "{} for {query}", reply.status);
            prop_assert!(reply.status == 200 || reply.body["error"].is_string());
        }
        if sql.status == 200 {
            let statements = match &sql.body {
                Value::Array(all) => all.clone(),
                one => vec![one.clone()],
            };
            for statement in statements {
                let text = statement["sql"]["sql"][0].as_str().unwrap();
                prop_assert!(!text.contains(MARK), "{query}: {text}");
            }
        }
    }

    #[test]
    fn values_of_filters_are_bound(value in "[a-z'\"\\\\;%_$ -]{8,20}", operator in prop::sample::select(vec![
        "equals", "notEquals", "contains", "notContains", "startsWith", "endsWith", "gt",
    ])) {
        let marked = format!("{MARK}{value}");
        let query = json!({
            "measures": ["Orders.count"],
            "filters": [{ "member": "Orders.city", "operator": operator, "values": [marked] }],
        });
        let (_, queries) = normalize(&query, Timestamp::UNIX_EPOCH).unwrap();
        let plan = plan(&model(), &queries[0], &SecurityContext::default()).unwrap();
        prop_assert!(!plan.statement.sql().contains(MARK));
        prop_assert_eq!(plan.statement.params.len(), 1);
    }
}

#[test]
fn the_query_that_is_changed_has_nothing_wrong_with_it() {
    let [sql, dry_run] = replies(&valid(), false);
    assert_eq!((sql.status, dry_run.status), (200, 200), "{}", sql.body);
}
