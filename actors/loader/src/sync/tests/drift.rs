//! A source's schema changes under a running pipeline: it is followed, or the table waits and the
//! others go on.

use ballpoint_runtime::shape::Hold;
use ballpoint_source::Mode;

use super::*;

async fn events(pair: &Pair, kind: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select payload::text from ballpoint.events where payload->>'type' = $1 order by id",
    )
    .bind(kind)
    .fetch_all(pair.warehouse.pool())
    .await
    .unwrap()
}

async fn columns(pair: &Pair, table: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
         where attrelid = $1::regclass and attnum > 0 and not attisdropped
           and attname !~ '^_a' order by attname",
    )
    .bind(table)
    .fetch_all(pair.warehouse.pool())
    .await
    .unwrap()
}

async fn held(pair: &Pair) -> Vec<(String, Hold)> {
    let report = pair.try_sync(false).await.unwrap();
    let held = report.held.into_iter();
    held.map(|it| (it.table.name, it.hold)).collect()
}

fn policy(config: &mut PostgresSourceConfig, word: &str) {
    config.on_schema_change = serde_json::from_value(word.into()).unwrap();
}

const ITEMS: &str = "
create table items (id int primary key, name varchar(10) not null, price numeric(6,2));
insert into items values (1, 'pen', 1.20), (2, 'cap', 0.10)";

const PEOPLE: &str = "
create table people (id bigint primary key, name varchar(20), note json, size int not null default 1,
                     updated_at timestamptz not null default clock_timestamp());
create index on people (updated_at);
insert into people (id, name, note) select n, 'name ' || n, '{}' from generate_series(1, 500) n";

#[tokio::test]
async fn columns_are_renamed_widened_and_given_up_in_place_and_views_survive() {
    let pair = Pair::with(PEOPLE).await;
    pair.sync().await;
    pair.in_warehouse(
        "create view v as select id, name, note from raw.people;
         create materialized view m as select count(name) from v",
    )
    .await;
    pair.in_source(
        "alter table people rename name to called;
         alter table people alter called type varchar(40);
         alter table people drop column size, drop column note;
         insert into people (id, called) values (501, 'a name of more than twenty letters')",
    )
    .await;
    let report = pair.sync().await;
    assert_eq!((report.inserted, report.replaced), (1, false), "{report:?}");
    pair.assert_equal("people").await;
    let seen: i64 = one(
        pair.warehouse.pool(),
        "select count(*) from v where name is not null",
    )
    .await;
    assert_eq!(seen, 501, "the view reads the renamed column");
    let kept: i64 = one(
        pair.warehouse.pool(),
        "select count(*) from raw.people where note is not null and size = 1",
    )
    .await;
    assert_eq!(kept, 500, "what had landed of a dropped column is kept");
    let told = events(&pair, "schema_changed").await.join("\n");
    for words in [
        "column_renamed",
        "column_retyped",
        "column_dropped",
        "called",
    ] {
        assert!(told.contains(words), "{words} is missing in {told}");
    }
    assert_eq!(events(&pair, "schema_changed").await.len(), 1);
}

#[tokio::test]
async fn a_type_that_grows_with_a_rewrite_is_followed_with_every_old_value() {
    let pair = Pair::with(ITEMS).await;
    pair.sync().await;
    pair.in_warehouse("create view v as select name, price from raw.items")
        .await;
    pair.in_source(
        "alter table items alter id type bigint, alter price type numeric(10,4) using price * 2;
         insert into items values (5000000000, 'far', 1.2345)",
    )
    .await;
    pair.sync().await;
    pair.assert_equal("items").await;
    let types = columns(&pair, "raw.items").await;
    assert_eq!(
        types,
        [
            "id bigint",
            "name character varying(10)",
            "price numeric(10,4)"
        ]
    );
    let seen: i64 = one(pair.warehouse.pool(), "select count(*) from v").await;
    assert_eq!(seen, 3);
}

#[tokio::test]
async fn a_narrowed_table_keeps_its_last_good_rows_until_it_fits_again() {
    let pair = Pair::with(ITEMS).await;
    pair.in_source("create table others (a int); insert into others values (1)")
        .await;
    pair.try_sync(false).await.unwrap();
    pair.in_source(
        "alter table items alter name type varchar(5);
         insert into items values (3, 'ink', 3);
         insert into others values (2)",
    )
    .await;
    let report = pair.try_sync(false).await.unwrap();
    assert_eq!(report.held.len(), 1, "{report:?}");
    assert_eq!(report.held[0].hold, Hold::Quarantined);
    assert!(report.held[0].reason.contains("\"name\""), "{report:?}");
    pair.assert_equal("others").await;
    let rows: i64 = one(pair.warehouse.pool(), "select count(*) from raw.items").await;
    assert_eq!(rows, 2);
    for _ in 0..2 {
        assert_eq!(held(&pair).await.len(), 1);
    }
    assert_eq!(events(&pair, "table_held").await.len(), 1, "told once");
    pair.in_source("alter table items alter name type varchar(10)")
        .await;
    assert_eq!(held(&pair).await, []);
    pair.assert_equal("items").await;
    assert_eq!(events(&pair, "table_released").await.len(), 1);
}

#[tokio::test]
async fn beside_a_drifting_and_a_quarantined_table_the_third_keeps_its_pace() {
    let pair = Pair::with(ORDERS).await;
    pair.in_source(
        "create table drifting (id int primary key, a int);
         create table stuck (id int primary key, a bigint)",
    )
    .await;
    pair.try_sync(false).await.unwrap();
    pair.in_source("alter table stuck alter a type smallint")
        .await;
    for round in 0..6 {
        pair.in_source(&format!(
            "alter table drifting add column c{round} int;
             insert into drifting values ({round});
             insert into stuck values ({round}, 1);
             insert into orders (customer) values ('round {round}')"
        ))
        .await;
        let report = pair.try_sync(false).await.unwrap();
        let orders = report.tables.iter().find(|it| it.table.name == "orders");
        // Each round brings its one row, in the sync of that round, whatever the others do.
        assert_eq!(
            orders.map(|it| (it.read, it.inserted)),
            Some((1, 1)),
            "{report:?}"
        );
        assert_eq!(report.held.len(), 1, "{report:?}");
        pair.assert_equal("orders").await;
        pair.assert_equal("drifting").await;
    }
    let stuck: i64 = one(pair.warehouse.pool(), "select count(*) from raw.stuck").await;
    assert_eq!(stuck, 0, "it keeps what it had");
    assert_eq!(events(&pair, "table_held").await.len(), 1);
}

#[tokio::test]
async fn a_full_refresh_takes_a_quarantined_table_as_it_is() {
    let pair = Pair::with(ITEMS).await;
    pair.sync().await;
    pair.in_source("alter table items alter price type int")
        .await;
    assert_eq!(held(&pair).await.len(), 1);
    pair.try_sync(true).await.unwrap();
    assert_eq!(held(&pair).await, []);
    pair.assert_equal("items").await;
    assert!(
        columns(&pair, "raw.items")
            .await
            .contains(&"price integer".to_owned())
    );
}

#[tokio::test]
async fn a_column_dropped_and_made_again_holds_no_value_of_the_old_one() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source("alter table orders drop column customer cascade, add column customer text")
        .await;
    pair.sync().await;
    pair.assert_equal("orders").await;
    // Once more, with a load in between that sees it gone.
    pair.in_source("update orders set customer = 'x'").await;
    pair.sync().await;
    pair.in_source("alter table orders drop column customer")
        .await;
    pair.sync().await;
    pair.in_source("alter table orders add column customer text")
        .await;
    pair.sync().await;
    pair.assert_equal("orders").await;
}

#[tokio::test]
async fn dropped_renamed_and_new_tables_are_told_and_the_rest_goes_on() {
    let pair = Pair::with(ITEMS).await;
    pair.in_source("create table others (a int); create table third (b int)")
        .await;
    pair.try_sync(false).await.unwrap();
    pair.in_source(
        "drop table items; alter table others rename to moved; insert into third values (1);
         create table fresh (c int); insert into fresh values (7)",
    )
    .await;
    let gone = held(&pair).await;
    let names: Vec<&str> = gone.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["items", "others"]);
    assert!(gone.iter().all(|it| it.1 == Hold::Gone));
    for table in ["moved", "third", "fresh"] {
        pair.assert_equal(table).await;
    }
    let rows: i64 = one(pair.warehouse.pool(), "select count(*) from raw.items").await;
    assert_eq!(rows, 2, "the last good rows stay");
    let told = events(&pair, "schema_changed").await.join("\n");
    for words in ["table_dropped", "table_renamed", "table_added", "moved"] {
        assert!(told.contains(words), "{words} is missing in {told}");
    }
    pair.in_source(ITEMS).await;
    assert_eq!(held(&pair).await.len(), 1, "the table is there again");
    pair.assert_equal("items").await;
}

#[tokio::test]
async fn a_recreated_table_and_a_new_key_are_followed() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_source("drop table orders").await;
    pair.in_source(ORDERS).await;
    assert!(pair.sync().await.replaced);
    pair.assert_equal("orders").await;
    pair.in_source(
        "alter table orders drop constraint orders_pkey, add primary key (customer);
         insert into orders (customer) values ('keyed by name')",
    )
    .await;
    pair.sync().await;
    pair.assert_equal("orders").await;
    let told = events(&pair, "schema_changed").await.join("\n");
    assert!(
        told.contains("table_recreated") && told.contains("primary_key_changed"),
        "{told}"
    );
}

#[tokio::test]
async fn pause_waits_for_somebody_at_any_change_and_for_new_tables() {
    let pair = Pair::configured(ITEMS, |config| policy(config, "pause")).await;
    pair.sync().await;
    pair.in_source("alter table items add column size int; create table fresh (a int)")
        .await;
    let mut paused = held(&pair).await;
    paused.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("fresh".to_owned(), Hold::Paused),
        ("items".to_owned(), Hold::Paused),
    ];
    assert_eq!(paused, expected);
    assert_eq!(columns(&pair, "raw.items").await.len(), 3);
    // Somebody has looked.
    pair.try_sync(true).await.unwrap();
    assert_eq!(held(&pair).await, []);
    pair.assert_equal("items").await;
    pair.assert_equal("fresh").await;
}

#[tokio::test]
async fn ignore_leaves_new_columns_and_tables_out_and_loads_the_rest() {
    for mode in [Some(Mode::FullRefresh), None] {
        let pair = Pair::configured(ORDERS, |config| {
            policy(config, "ignore");
            config.mode = mode;
        })
        .await;
        pair.sync().await;
        pair.in_source(
            "alter table orders add column size int default 5; create table fresh (a int);
             insert into orders (customer) values ('new')",
        )
        .await;
        for _ in 0..2 {
            let left_out = held(&pair).await;
            assert_eq!(left_out, [("fresh".to_owned(), Hold::Ignored)]);
        }
        let rows: i64 = one(pair.warehouse.pool(), "select count(*) from raw.orders").await;
        assert_eq!(rows, 501);
        let types = columns(&pair, "raw.orders").await;
        assert!(!types.contains(&"size integer".to_owned()), "{types:?}");
        let told = events(&pair, "schema_changed").await;
        assert_eq!(told.len(), 2, "each is told once: {told:?}");
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_read_as_configured_keeps_the_others_from_nothing() {
    let pair = Pair::configured(ITEMS, |config| {
        let table = ballpoint_source::TableConfig {
            cursor: Some("changed_at".to_owned()),
            ..Default::default()
        };
        config.table = BTreeMap::from([("public.items".to_owned(), table)]);
        config.tables = vec!["public.*".to_owned(), "public.nowhere".to_owned()];
    })
    .await;
    pair.in_source("create table others (a int); insert into others values (1)")
        .await;
    let report = pair.try_sync(false).await.unwrap();
    pair.assert_equal("others").await;
    let reasons: Vec<&str> = report.held.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().any(|it| it.contains("\"changed_at\"")));
    assert!(
        reasons
            .iter()
            .any(|it| it.contains("public.nowhere does not exist"))
    );
    pair.in_source("alter table items add column changed_at timestamptz default now()")
        .await;
    assert_eq!(held(&pair).await.len(), 1, "it can be read now");
    pair.assert_equal("items").await;
}
