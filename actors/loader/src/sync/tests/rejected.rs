//! A value that cannot be landed costs its row and nothing else: loaded + rejected = read.

use ballpoint_source::Mode;

use super::*;

type Rejected = (String, Option<String>, Option<String>, String, String);

async fn rejected(pair: &Pair) -> Vec<Rejected> {
    sqlx::query_as(
        "select \"table\", key, \"column\", reason, \"row\" from raw._rejected order by key",
    )
    .fetch_all(pair.warehouse.pool())
    .await
    .unwrap()
}

fn adds_up(report: &TableReport) {
    let sum = report.inserted + report.updated + report.unchanged + report.rejected;
    assert_eq!(report.read, sum, "{report:?}");
}

#[tokio::test]
async fn rows_with_a_value_over_the_limit_are_set_aside_and_come_when_they_fit() {
    let pair = Pair::configured(ORDERS, |config| config.max_value_bytes = 100_000).await;
    pair.in_source(
        "update orders set customer = repeat('x', 100001) where id = 7;
         update orders set customer = repeat('y', 100000) where id = 8;
         update orders set note = (select json_agg(n) from generate_series(1, 60000) n) where id = 9",
    )
    .await;
    let report = pair.sync().await;
    assert_eq!(
        (report.read, report.inserted, report.rejected),
        (500, 498, 2)
    );
    adds_up(&report);
    let kept = rejected(&pair).await;
    let named: Vec<_> = kept
        .iter()
        .map(|it| (it.0.as_str(), it.1.as_deref(), it.2.as_deref()))
        .collect();
    let expected = [
        ("public.orders", Some("7"), Some("customer")),
        ("public.orders", Some("9"), Some("note")),
    ];
    assert_eq!(named, expected);
    assert!(
        kept[0].3.contains("100000") && kept[0].4.contains("xxx"),
        "{kept:?}"
    );
    assert!(
        kept.iter().all(|it| it.4.len() < 2000),
        "the row's text is cut"
    );
    pair.in_source("update orders set customer = 'short', updated_at = now() where id = 7")
        .await;
    let later = pair.sync().await;
    assert_eq!((later.inserted, later.rejected), (1, 0), "{later:?}");
}

#[tokio::test]
async fn a_replaced_table_s_rejected_rows_are_those_of_its_last_read() {
    let pair = Pair::configured(
        "create table t (id int primary key, x text);
         insert into t values (1, 'a'), (2, repeat('b', 5000))",
        |config| {
            config.max_value_bytes = 1000;
            config.mode = Some(Mode::FullRefresh);
        },
    )
    .await;
    for _ in 0..2 {
        pair.try_sync(true).await.unwrap();
        assert_eq!(rejected(&pair).await.len(), 1);
    }
    pair.in_source("update t set x = 'b' where id = 2").await;
    let report = pair.sync().await;
    adds_up(&report);
    assert_eq!(rejected(&pair).await, []);
    pair.assert_equal("t").await;
}

/// A trigger stands for whatever a warehouse may refuse.
const REFUSING: &str = "
create function refuse() returns trigger language plpgsql as $$ begin
  if new.customer like 'bad%' then raise exception 'not % here', new.customer
    using errcode = '22023', column = 'customer'; end if; return new; end $$;
create trigger refuse before insert or update on raw.orders for each row execute function refuse()";

#[tokio::test]
async fn refused_rows_are_bisected_out_of_a_merge() {
    let pair = Pair::with(ORDERS).await;
    pair.sync().await;
    pair.in_warehouse(REFUSING).await;
    pair.in_source(
        "insert into orders (customer)
         select case when n in (1, 777, 3000) then 'bad ' else 'good ' end || n
         from generate_series(1, 3000) n;
         update orders set customer = 'bad update', updated_at = now() where id = 5",
    )
    .await;
    let report = pair.sync().await;
    assert_eq!(
        (
            report.read,
            report.inserted,
            report.updated,
            report.rejected
        ),
        (3001, 2997, 0, 4),
        "{report:?}"
    );
    let kept = rejected(&pair).await;
    assert_eq!(kept.len(), 4);
    assert!(
        kept.iter().all(|it| it.2.as_deref() == Some("customer")),
        "{kept:?}"
    );
    assert!(
        kept.iter()
            .any(|it| it.1.as_deref() == Some("5") && it.4.contains("bad update"))
    );
    let rows: i64 = one(pair.warehouse.pool(), "select count(*) from raw.orders").await;
    assert_eq!(rows, 3497);
    assert_eq!(pair.sync().await.read, 0, "the checkpoint has moved on");
}

#[tokio::test]
async fn rows_that_break_a_configured_key_are_bisected_out_of_a_full_load() {
    let pair = Pair::configured(
        "create table t (a int, b text, at timestamptz not null default now());
         insert into t select n, 'x' || n from generate_series(1, 5000) n;
         insert into t values (42, 'again'), (null, 'no key')",
        |config| {
            let table = ballpoint_source::TableConfig {
                cursor: Some("at".to_owned()),
                primary_key: vec!["a".to_owned()],
                ..Default::default()
            };
            config.table = BTreeMap::from([("public.t".to_owned(), table)]);
        },
    )
    .await;
    let report = pair.sync().await;
    assert_eq!(
        (report.read, report.inserted, report.rejected),
        (5002, 5000, 2)
    );
    adds_up(&report);
    let kept = rejected(&pair).await;
    assert!(kept.iter().any(|it| it.4.contains("again")), "{kept:?}");
    assert!(
        kept.iter()
            .any(|it| it.2.as_deref() == Some("a") && it.4.contains("no key"))
    );
}
