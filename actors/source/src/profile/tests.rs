#![allow(clippy::unwrap_used)]

use ballpoint_postgres::testing::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool};

use super::constraints::listed_in;
use super::{DatabaseProfile, TableProfile, profile};

async fn database(sql: &str) -> TestDatabase {
    let database = TestDatabase::create().await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(database.pool())
        .await
        .unwrap();
    database
}

async fn profiled(url: &str) -> DatabaseProfile {
    profile("shop", url, &|_| {}).await.unwrap()
}

fn table<'a>(profile: &'a DatabaseProfile, name: &str) -> &'a TableProfile {
    let found = profile.tables.iter().find(|it| it.table.name == name);
    found.unwrap_or_else(|| panic!("no table {name} in {profile:?}"))
}

#[tokio::test]
async fn keys_comments_values_and_extents_are_found() {
    let database = database(
        "create type state as enum ('open', 'paid', 'lost');
         create domain price as numeric(8,2) check (value >= 0);
         create table customers (
           id int generated always as identity primary key,
           email text unique not null,
           country text check (country in ('DE', 'FR', 'O''X')));
         create table orders (
           id bigserial, line int, customer_id int references customers, state state, total price,
           ordered_at timestamptz not null, note text, tags text[], extra jsonb, primary key (id, line));
         comment on table orders is 'What  was
           ordered';
         comment on column orders.total is 'Without tax';
         create table parts (id int primary key, made date) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (1000);
         create view v as select 1;
         create table hollow ();
         insert into customers (email, country) select n || '@x', 'DE' from generate_series(1, 60) n;
         insert into orders (line, customer_id, state, total, ordered_at)
           select 1, n, 'paid', n * 1.5, timestamptz '2026-01-01Z' + n * interval '1 day'
           from generate_series(1, 10) n;
         insert into parts select n, date '2026-01-01' from generate_series(0, 99) n;",
    )
    .await;
    let profile = profiled(database.url()).await;
    let names: Vec<&str> = profile
        .tables
        .iter()
        .map(|it| it.table.name.as_str())
        .collect();
    assert_eq!(names, ["customers", "hollow", "orders", "parts"]);
    assert_eq!(profile.views.len(), 1);

    let orders = table(&profile, "orders");
    assert_eq!(orders.comment.as_deref(), Some("What was ordered"));
    assert_eq!(orders.primary_key, ["id", "line"]);
    assert_eq!(orders.foreign_keys[0].columns, ["customer_id"]);
    assert_eq!(
        orders.foreign_keys[0].target,
        table(&profile, "customers").oid
    );
    assert_eq!(orders.foreign_keys[0].target_columns, ["id"]);
    let total = orders.column("total").unwrap();
    assert_eq!(
        (total.landed_type.as_str(), total.base_type.as_str()),
        ("numeric(8,2)", "numeric(8,2)")
    );
    assert_eq!(total.comment.as_deref(), Some("Without tax"));
    assert_eq!(
        (total.min.as_deref(), total.max.as_deref()),
        (Some("1.50"), Some("15.00"))
    );
    let state = orders.column("state").unwrap();
    assert_eq!(state.enum_labels, ["open", "paid", "lost"]);
    assert_eq!(state.values, ["paid"]);
    assert!(orders.column("id").unwrap().generated);
    assert_eq!(orders.column("note").unwrap().filled, Some(0));
    assert!(orders.sample_complete);
    assert_eq!(orders.rows_estimated, 10);

    let customers = table(&profile, "customers");
    assert_eq!(customers.unique, [["email"]]);
    assert!(
        customers.column("email").unwrap().values.is_empty(),
        "60 values are not named"
    );
    assert_eq!(customers.column("email").unwrap().distinct, Some(60));
    assert_eq!(
        customers.column("country").unwrap().checked_values,
        ["DE", "FR", "O'X"]
    );
    assert_eq!(table(&profile, "parts").rows_estimated, 100);
}

#[test]
fn only_a_plain_list_of_a_check_constraint_is_taken() {
    let list = "CHECK (((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))";
    assert_eq!(listed_in(list).unwrap(), ["a", "b"]);
    for more in [
        "CHECK ((x > 0))",
        "CHECK (((x = ANY (ARRAY['a'::text])) OR (x ~~ 'z%'::text)))",
        "CHECK ((NOT (x = ANY (ARRAY['a'::text]))))",
    ] {
        assert_eq!(listed_in(more), None, "{more}");
    }
}

#[tokio::test]
async fn a_large_table_is_sampled_not_scanned() {
    let database = database(
        "create table big (id int, kind text);
         insert into big select n, 'k' || n % 3 from generate_series(1, 400000) n;
         analyze big;",
    )
    .await;
    let profile = profiled(database.url()).await;
    let big = table(&profile, "big");
    assert!(!big.sample_complete);
    assert!(
        (1..=20_000).contains(&big.sampled_rows),
        "{}",
        big.sampled_rows
    );
    assert_eq!(big.column("kind").unwrap().values, ["k0", "k1", "k2"]);
    assert!(
        big.column("id").unwrap().distinct.unwrap() > 300_000,
        "by the statistics"
    );
    assert!((390_000..410_000).contains(&big.rows_estimated));
}

/// Everything that a write would move: catalogue rows and per-table counters.
async fn traces(pool: &PgPool) -> (String, String) {
    let catalogue = "select md5(string_agg(t, '|' order by t)) from (
        select 'c' || c.oid || c.relname || coalesce(c.relacl::text, '') || c.relfilenode || c.relhasindex from pg_class c
          where c.relnamespace = 'public'::regnamespace
        union all select 'p' || oid || proname from pg_proc where pronamespace = 'public'::regnamespace
        union all select 's' || slot_name from pg_replication_slots where database = current_database()
        union all select 'b' || pubname from pg_publication) x(t)";
    let written =
        "select string_agg(relname || ':' || n_tup_ins || ',' || n_tup_upd || ',' || n_tup_del, '|'
        order by relname) from pg_stat_user_tables";
    let text = |sql: &'static str| async move {
        let found: Option<String> = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        found.unwrap_or_default()
    };
    (text(catalogue).await, text(written).await)
}

#[tokio::test]
async fn a_role_that_can_only_read_is_enough_and_leaves_no_trace() {
    let database = database(
        "create table open (id int primary key, v text);
         create table secret (id int primary key);
         create schema hidden;
         create table hidden.t (id int);
         insert into open select n, 'x' from generate_series(1, 100) n;",
    )
    .await;
    let role = format!("reader_{}", uuid_like(database.url()));
    let grants = format!(
        "create role {role} login password 'p@:/?#ß %'; grant select on open to {role};
         revoke create on schema public from public;"
    );
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(database.pool())
        .await
        .unwrap();
    let url = as_role(database.url(), &role, "p%40%3A%2F%3F%23%C3%9F%20%25");
    let reader = PgPool::connect(&url).await.unwrap();
    let refused = sqlx::query("create table public.x ()")
        .execute(&reader)
        .await;
    assert!(refused.is_err(), "the role cannot write");
    reader.close().await;

    // What was filled in is counted late: the counters are compared once they have heard of it.
    let before = loop {
        let traces = traces(database.pool()).await;
        if traces.1.contains("open:100,") {
            break traces;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let profile = profiled(&url).await;
    assert_eq!(traces(database.pool()).await, before);
    let names = |list: &[ballpoint_runtime::segment::TableName]| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&profile.unreadable), ["hidden.t", "public.secret"]);
    assert_eq!(profile.tables.len(), 1);
    assert_eq!(table(&profile, "open").rows_estimated, 100);
    let cleanup = format!("drop owned by {role}; drop role {role}");
    sqlx::raw_sql(AssertSqlSafe(cleanup))
        .execute(database.pool())
        .await
        .unwrap();
}

/// The unique part of a test database's name.
fn uuid_like(url: &str) -> String {
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    name.trim_start_matches("test_").to_owned()
}

/// `url` with another user and (percent-encoded) password.
fn as_role(url: &str, role: &str, password: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("postgres://{role}:{password}@{host}")
}

#[tokio::test]
async fn an_unreachable_database_is_said_without_its_password() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("postgres://u:hidden@{dead}/shop");
    let error = profile("shop", &url, &|_| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not reachable") && error.contains(&dead.to_string()),
        "{error}"
    );
    assert!(!error.contains("hidden"), "{error}");
    let error = profile("shop", "mysql://x", &|_| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("postgres://"), "{error}");
}
