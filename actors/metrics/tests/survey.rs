//! What a look at the data finds for dimensions that stand for those of other cubes.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use ballpoint_metrics::Model;
use ballpoint_metrics::execute::Runner;
use ballpoint_metrics::model::SourceFile;
use ballpoint_metrics::survey::survey;
use ballpoint_postgres::testing::TestDatabase;

const MODEL: &str = r#"
cubes:
  - name: Customers
    sql_table: public.customers
    public: false
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: country, sql: country, type: string}
      - {name: secret, sql: country, type: string, public: false}
      - {name: signedUpAt, sql: signed_up_at, type: time}
  - name: Orders
    sql_table: public.orders
    joins:
      - {name: Customers, relationship: many_to_one, sql: "{CUBE}.customer_id = {Customers}.id"}
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: customerCountry, sql: "{Customers.country}", type: string}
      - {name: customerSince, sql: "{Customers.signedUpAt}", type: time}
      - {name: shout, sql: "upper({Customers.country})", type: string}
    measures:
      - {name: count, type: count}
"#;

#[tokio::test]
async fn a_dimension_has_the_values_and_the_extent_of_the_one_it_stands_for() {
    let database = TestDatabase::create().await;
    sqlx::raw_sql(
        "create table customers (id int, country text, signed_up_at timestamptz);
         create table orders (id int, customer_id int);
         insert into customers values (1, 'DE', '2026-01-01Z'), (2, 'FR', '2026-02-01Z')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let file = SourceFile {
        name: "model.yml".to_owned(),
        text: MODEL.to_owned(),
    };
    let model = Model::compile(&[file]).unwrap();
    let runner = Runner::new(database.pool().clone(), Duration::from_secs(30));
    let found = survey(&model, &runner, &HashSet::new()).await.unwrap();
    let values = |name: &str| found.catalog.member(name).unwrap().values.clone();
    assert_eq!(values("Orders.customerCountry"), ["DE", "FR"]);
    assert!(
        values("Orders.shout").is_empty(),
        "an expression is looked up in no other cube"
    );
    let (from, to) = &found.coverage["Orders.customerSince"];
    assert!(
        from.starts_with("2026-01-01") && to.starts_with("2026-02-01"),
        "{from} {to}"
    );
    assert!(
        found.catalog.cube("Customers").is_none(),
        "what is private stays so"
    );
}
