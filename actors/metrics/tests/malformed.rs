//! Whatever a client sends gets an answer below 500, and no value of it is ever in the SQL text.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use ballpoint_metrics::execute::Runner;
use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::plan::{normalize, plan};
use ballpoint_metrics::{Model, SecurityContext, Service, Snapshot};
use ballpoint_runtime::clock::Clock;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const MODEL: &str = r#"
cubes:
  - name: Orders
    sql_table: public.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: city, sql: city, type: string}
      - {name: placedAt, sql: placed_at, type: time}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
"#;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn malformed_queries_are_refused_below_500(query in any_json(), multi in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = json!({ "query": query, "queryType": if multi { "multi" } else { "" } });
        let (sql, dry_run) = runtime.block_on(async {
            // Nothing listens there: planning never asks the database.
            let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
            let service = Service {
                snapshot: Arc::new(Snapshot { model: Arc::new(model()), ..Snapshot::default() }),
                runner: Arc::new(Runner::new(pool, Duration::from_secs(1))),
                clock: Clock::system(),
            };
            let context = SecurityContext::default();
            (service.sql(&request, &context), service.dry_run(&request, &context))
        });
        for reply in [sql, dry_run] {
            prop_assert!(reply.status < 500, "{} for {request}", reply.status);
            prop_assert!(reply.status == 200 || reply.body["error"].is_string());
        }
    }

    #[test]
    fn values_of_filters_are_bound(value in "[a-z'\"\\\\;%_$ -]{8,20}", operator in prop::sample::select(vec![
        "equals", "notEquals", "contains", "notContains", "startsWith", "endsWith", "gt",
    ])) {
        let marked = format!("zqx{value}");
        let query = json!({
            "measures": ["Orders.count"],
            "filters": [{ "member": "Orders.city", "operator": operator, "values": [marked] }],
        });
        let (_, queries) = normalize(&query, Timestamp::UNIX_EPOCH).unwrap();
        let plan = plan(&model(), &queries[0], &SecurityContext::default()).unwrap();
        prop_assert!(!plan.statement.sql().contains("zqx"));
        prop_assert_eq!(plan.statement.params.len(), 1);
    }
}
