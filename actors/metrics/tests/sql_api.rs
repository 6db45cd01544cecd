//! SQL over cubes: what a client writes gives what the metrics give, and reaches nothing else.

#![allow(clippy::unwrap_used)]

use ballpoint_metrics::{SecurityContext, Service};
use ballpoint_runtime::clock::Clock;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};

use crate::support::{self, Shop};

async fn rows(shop: &Shop, service: &Service, sql: &str) -> Vec<String> {
    let sent = service.translate(sql, &SecurityContext::default()).await;
    let sent = sent.unwrap_or_else(|error| panic!("{sql}: {error} {:?}", error.hint));
    let sent = sent.sql;
    let text = format!("SELECT row_to_json(answer)::text FROM ({sent}) AS answer");
    let rows = sqlx::query(AssertSqlSafe(text))
        .persistent(false)
        .fetch_all(shop.database.pool())
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}\n{sent}\n{error}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// What the warehouse itself gives.
async fn direct(shop: &Shop, sql: &str) -> Vec<String> {
    let text = format!("SELECT row_to_json(answer)::text FROM ({sql}) AS answer");
    let found = sqlx::query_scalar(AssertSqlSafe(text)).persistent(false);
    found.fetch_all(shop.database.pool()).await.unwrap()
}

async fn refused(service: &Service, sql: &str) -> (String, String) {
    let error = service.translate(sql, &SecurityContext::default()).await;
    let error = error.expect_err(sql);
    (
        error.code.to_owned(),
        format!("{} {}", error.message, error.hint.unwrap_or_default()),
    )
}

#[tokio::test]
async fn a_select_over_a_cube_gives_what_the_source_gives() {
    let shop = Shop::open().await;
    let service = shop.service().await;
    for (sql, same_as) in [
        (
            "SELECT status, MEASURE(count) AS n, sum(total) FROM Orders GROUP BY 1 ORDER BY 2 DESC, status LIMIT 5",
            "SELECT status, count(*) AS n, sum(amount) AS total FROM marts.orders GROUP BY 1 ORDER BY 2 DESC, status",
        ),
        (
            "SELECT count(*) FROM \"Orders\" o WHERE o.status IN ('open', 'paid') AND NOT (o.status = 'paid')",
            "SELECT count(*) FROM marts.orders WHERE status = 'open'",
        ),
        (
            "SELECT DATE_TRUNC('month', placedAt) AS month, MEASURE(units) FROM Orders \
             WHERE placedAt >= '2025-12-01' AND placedAt < timestamp '2026-01-15' GROUP BY month ORDER BY 1",
            "SELECT date_trunc('month', placed_at AT TIME ZONE 'UTC') AS month, sum(units) AS units FROM marts.orders \
             WHERE placed_at >= '2025-12-01Z' AND placed_at < '2026-01-15Z' GROUP BY 1 ORDER BY 1",
        ),
        (
            "SELECT upper(status) AS s, MEASURE(total) / MEASURE(count) AS mean FROM Orders GROUP BY upper(status) \
             HAVING MEASURE(count) > 10 ORDER BY s",
            "SELECT upper(status) AS s, sum(amount) / count(*) AS mean FROM marts.orders GROUP BY 1 ORDER BY 1",
        ),
        (
            "SELECT t.status, t.n FROM (SELECT status, MEASURE(count) AS n FROM Orders GROUP BY status) t WHERE t.n > 0 ORDER BY 1",
            "SELECT status, count(*) AS n FROM marts.orders GROUP BY 1 ORDER BY 1",
        ),
        (
            "WITH c AS (SELECT MEASURE(count) AS n FROM Customers) SELECT n + 1 AS m FROM c",
            "SELECT count(*) + 1 AS m FROM marts.customers",
        ),
        (
            "SELECT MEASURE(count) FROM Orders UNION ALL SELECT MEASURE(count) FROM Customers ORDER BY 1",
            "SELECT * FROM (VALUES (40), (600)) t (count)",
        ),
        (
            "SELECT city, vip FROM Customers WHERE city IS NOT NULL AND city LIKE 'P%' ORDER BY id LIMIT 3",
            "SELECT city, vip FROM marts.customers WHERE city LIKE 'P%' ORDER BY id LIMIT 3",
        ),
        (
            "SELECT count(*) FROM Customers WHERE city = 'it''s' OR vip",
            "SELECT count(*) FROM marts.customers WHERE vip",
        ),
    ] {
        let direct = direct(&shop, same_as).await;
        assert_eq!(rows(&shop, &service, sql).await, direct, "{sql}");
    }
    shop.close().await;
}

#[tokio::test]
async fn joins_that_repeat_rows_change_no_sum() {
    let model = support::MODEL.to_owned()
        + "
views:
  - name: sales
    cubes:
      - {join_path: Orders, includes: [count, total, status]}
      - {join_path: Orders.Lines, includes: [product, quantity]}
";
    let shop = Shop::with(&model).await;
    let service = shop.service().await;
    let sql =
        "SELECT product, MEASURE(total) FROM sales WHERE product <> 'cap' GROUP BY 1 ORDER BY 1";
    let same_as = "SELECT product, sum(amount) AS total FROM \
                   (SELECT DISTINCT product, o.id, amount FROM marts.orders o JOIN marts.lines l ON l.order_id = o.id \
                    WHERE product <> 'cap') x GROUP BY 1 ORDER BY 1";
    let direct = direct(&shop, same_as).await;
    assert_eq!(rows(&shop, &service, sql).await, direct);
    shop.close().await;
}

#[tokio::test]
async fn a_star_is_every_member_that_a_row_has() {
    let model = "
cubes:
  - name: Orders
    sql_table: marts.orders
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true, public: true}
      - {name: status, sql: status, type: string}
      - {name: placedAt, sql: placed_at, type: time}
    measures:
      - {name: count, type: count}
      - {name: total, type: sum, sql: amount}
      - {name: half, type: number, sql: '{total} / 2'}
      - {name: soFar, type: sum, sql: amount, rolling_window: {trailing: unbounded}}
      - {name: place, type: rank, multi_stage: true, order_by: [{sql: '{total}', dir: desc}]}
      - {name: placed, type: number, sql: '{place} + 1', multi_stage: true}
      - {name: middle, type: number, sql: 'percentile_cont(0.5) WITHIN GROUP (ORDER BY {CUBE}.amount)'}
      - {name: above, type: number, sql: '{total} - {middle}'}
    segments:
      - {name: heavy, sql: weight > 1}
views:
  - {name: sales, cubes: [{join_path: Orders, includes: [id, total, soFar]}]}
";
    let shop = Shop::with(model).await;
    let service = shop.service().await;
    for (sql, same_as) in [
        (
            "SELECT * FROM Orders ORDER BY id LIMIT 3",
            "SELECT id, status, placed_at AT TIME ZONE 'UTC' AS \"placedAt\", 1 AS count, amount AS total, amount / 2 AS half \
             FROM marts.orders ORDER BY id LIMIT 3",
        ),
        (
            "SELECT s.* FROM sales s WHERE id < 4 ORDER BY id",
            "SELECT id, amount AS total FROM marts.orders WHERE id < 4 ORDER BY id",
        ),
    ] {
        let direct = direct(&shop, same_as).await;
        assert_eq!(rows(&shop, &service, sql).await, direct, "{sql}");
    }
    shop.close().await;
}

#[tokio::test]
async fn over_http_an_answer_is_lines_the_columns_first() {
    let shop = Shop::open().await;
    let service = shop.service().await;
    let nobody = SecurityContext::default();
    let lines = async |sql: &str, zone: &str| -> Vec<Value> {
        let answer = service.answer_sql(sql, zone, &nobody).await.unwrap();
        let read = |line: Bytes| serde_json::from_slice(&line).unwrap();
        answer.lines.map(read).collect().await
    };
    let sql = "SELECT status, MEASURE(count) AS n, true AS yes FROM Orders GROUP BY 1 ORDER BY 1;";
    let counted = lines(sql, "UTC").await;
    let schema = json!([
        { "name": "status", "column_type": "String" },
        { "name": "n", "column_type": "Int64" },
        { "name": "yes", "column_type": "Boolean" },
    ]);
    assert_eq!(counted[0]["schema"], schema);
    assert_eq!(counted[1]["data"][0], json!(["open", "200", true]));
    assert_eq!(counted.len(), 2);
    let none = lines(
        "SELECT status FROM Orders WHERE status = 'none' -- nobody",
        "UTC",
    )
    .await;
    assert_eq!(none[1], json!({ "data": [] }));
    let many = lines("SELECT n FROM generate_series(1, 2500) AS n", "UTC").await;
    let lots = many[1..]
        .iter()
        .map(|line| line["data"].as_array().unwrap().len());
    assert_eq!(lots.collect::<Vec<_>>(), [1000, 1000, 500]);
    let failed = lines(
        "SELECT 1 / (n - 1500) AS x FROM generate_series(1, 2500) AS n",
        "UTC",
    )
    .await;
    assert_eq!(failed.last().unwrap()["error"], "division by zero");

    let sql = "SELECT DATE_TRUNC('day', placedAt) AS day, MEASURE(count) AS n FROM Orders GROUP BY 1 ORDER BY 1";
    let same_as = "SELECT to_char(date_trunc('day', placed_at AT TIME ZONE 'Asia/Kolkata'), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS') AS day, \
                   count(*)::text AS n FROM marts.orders GROUP BY 1 ORDER BY 1";
    let found = &lines(sql, "Asia/Kolkata").await[1]["data"];
    let found = found.as_array().unwrap().iter();
    let found = found.map(|row| json!({ "day": row[0], "n": row[1] }).to_string());
    assert_eq!(found.collect::<Vec<_>>(), direct(&shop, same_as).await);
    for refused in [
        "SHOW server_version",
        "SELECT 1; SELECT 2",
        "",
        "SELECT nothing FROM Orders",
    ] {
        assert!(
            service.answer_sql(refused, "UTC", &nobody).await.is_err(),
            "{refused}"
        );
    }
    shop.close().await;
}

#[tokio::test]
async fn an_answer_over_http_is_proved_by_its_last_line_and_by_no_line_before() {
    let shop = Shop::open().await;
    let service = shop.rolled_up(&["Orders.byDay"]).await;
    let nobody = SecurityContext::default();
    let sql = "SELECT status, MEASURE(count) AS n FROM Orders GROUP BY 1 HAVING status <> 'sent'";
    let answer = service.answer_sql(sql, "UTC", &nobody).await.unwrap();
    let id = answer.proof.unwrap();
    let lines: Vec<Bytes> = answer.lines.collect().await;
    assert_eq!(lines.len(), 2);
    let proof = service.proof_of(&id).await.unwrap();
    assert_eq!(
        (&proof["statement"], &proof["rows"]),
        (&json!(sql), &json!(2))
    );
    let part = &proof["evidence"][0];
    assert!(
        part["rollup"].as_str().unwrap().starts_with("Orders."),
        "{proof}"
    );
    let version = |of: &Value| of["tables"].as_array().unwrap()[0]["version"].is_i64();
    assert!(version(part), "{proof}");
    let mut names: Vec<&str> = part["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["row"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["status = open", "status = paid"]);
    let members: Vec<&Value> = proof["definition"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["member"])
        .collect();
    assert_eq!(members, ["Orders.count", "Orders.status"]);

    let again = service.prove_sql(&proof).await.unwrap();
    assert_eq!(again["checksum"], proof["checksum"]);
    shop.execute("UPDATE marts.orders SET status = 'paid' WHERE id = 3")
        .await;
    let now = service.from_source().prove_sql(&proof).await.unwrap();
    assert_ne!(now["checksum"], proof["checksum"]);

    let failing = "SELECT 1 / (MEASURE(count) - 200) AS x FROM Orders GROUP BY status";
    let answer = service.answer_sql(failing, "UTC", &nobody).await.unwrap();
    let lines: Vec<Bytes> = answer.lines.collect().await;
    assert!(lines.last().unwrap().starts_with(b"{\"error\""));
    let none = service.proof_of(&answer.proof.unwrap()).await;
    assert!(none.is_none(), "what failed has no rows to prove");
    let plain = service.answer_sql("SELECT 1 AS one", "UTC", &nobody).await;
    assert_eq!(plain.unwrap().proof, None, "no cube, no proof");
    shop.close().await;
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_a_reason() {
    let shop = Shop::open().await;
    let service = shop.service().await;
    for (sql, code, says) in [
        (
            "SELECT * FROM marts.orders",
            "42P01",
            "did you mean \"Orders\"?",
        ),
        ("SELECT * FROM marts/**/./**/orders", "42P01", "not served"),
        (
            "SELECT (SELECT count(*) FROM marts.orders) FROM pg_class",
            "42P01",
            "not served",
        ),
        (
            "SELECT status FROM Orders WHERE id IN (SELECT order_id FROM marts.lines)",
            "0A000",
            "sub-query",
        ),
        (
            "SELECT o.status FROM Orders o JOIN marts.lines l ON true",
            "0A000",
            "one cube",
        ),
        (
            "WITH x AS (SELECT * FROM marts.lines) SELECT count(*) FROM Orders",
            "42P01",
            "marts.lines",
        ),
        ("INSERT INTO Orders VALUES (1)", "25006", "only reads"),
        ("SELECT 1; DROP TABLE marts.orders", "25006", "DROP"),
        ("COPY marts.orders TO STDOUT", "25006", "COPY"),
        (
            "WITH x AS (UPDATE pg_database SET datname = '' RETURNING 1) SELECT 1",
            "25006",
            "UPDATE",
        ),
        ("SELECT 1 AS a INTO TEMP zz", "25006", "INTO"),
        ("BEGIN; DELETE FROM pg_class", "25006", "DELETE"),
        ("BEGIN READ/* */WRITE", "25006", "READ WRITE"),
        ("START TRANSACTION READ WRITE", "25006", "READ WRITE"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "25006",
            "READ WRITE",
        ),
        ("SELECT rolpassword FROM pg_authid", "42501", "pg_authid"),
        ("SET search_path TO marts", "42501", "search_path"),
        ("SET LOCAL search_path TO marts", "42501", "search_path"),
        ("SET SESSION ROLE postgres", "42501", "role"),
        (
            "SELECT query_to_xml('select 1', true, true, '')",
            "42501",
            "query_to_xml",
        ),
        (
            "SELECT set_config('search_path', 'marts', false)",
            "42501",
            "set_config",
        ),
        ("SELECT most_common_vals FROM pg_stats", "42501", "pg_stats"),
        ("SELECT 1 FROM U&\"m\\0061rts\".orders", "0A000", "escapes"),
        ("SELECT nothing FROM Orders", "42703", "does not exist"),
        (
            "SELECT statos FROM Orders",
            "42703",
            "did you mean \"status\"?",
        ),
        (
            "SELECT status, count FROM Orders GROUP BY status",
            "42803",
            "MEASURE(count)",
        ),
        (
            "SELECT placedAt, MEASURE(count) FROM Orders",
            "42803",
            "GROUP BY",
        ),
        ("SELECT avg(total) FROM Orders", "42803", "MEASURE(total)"),
        ("SELECT sum(id) FROM Orders", "42803", "dimension"),
        (
            "SELECT status FROM Orders WHERE MEASURE(count) > 1",
            "42803",
            "HAVING",
        ),
        ("SELECT status FROM Orders WHERE", "42601", "not read"),
    ] {
        let (found, message) = refused(&service, sql).await;
        assert!(
            found == code && message.contains(says),
            "{sql}: {found} {message}"
        );
    }
    for fine in [
        "",
        "BEGIN",
        "SHOW server_version",
        "SET application_name TO 'x'",
        "select version()",
    ] {
        assert_eq!(
            service
                .translate(fine, &SecurityContext::default())
                .await
                .unwrap()
                .sql,
            fine
        );
    }
    shop.close().await;
}

/// Each operator of a chain is one level more; a stack that overflows ends the whole process.
#[tokio::test]
async fn a_chain_of_any_length_is_answered() {
    let shop = Shop::open().await;
    let service = shop.service().await;
    let chain = |link: &str| {
        format!(
            "SELECT status FROM Orders WHERE true{}",
            link.repeat(20_000)
        )
    };
    for link in [
        " OR status = 'a'",
        " IS NULL",
        " UNION SELECT 1",
        "::text",
        " AND NOT true",
    ] {
        let (code, says) = refused(&service, &chain(link)).await;
        assert_eq!(
            (code.as_str(), says.contains("1000 at most")),
            ("54001", true),
            "{says}"
        );
    }
    let listed = format!(
        "SELECT status FROM Orders WHERE status IN ('a'{})",
        ", 'b'".repeat(20_000)
    );
    let context = SecurityContext::default();
    assert!(service.translate(&listed, &context).await.is_ok());
    shop.close().await;
}

#[tokio::test]
async fn access_policies_hold_for_sql_too() {
    let model = support::MODEL.replace(
        "cubes:\n",
        "cubes:
  - name: Guarded
    sql_table: marts.orders
    dimensions:
      - {name: status, sql: status, type: string}
      - {name: weight, sql: weight, type: number}
    measures: [{name: count, type: count}, {name: secret, type: sum, sql: amount}]
    access_policy:
      - group: clerks
        member_level: {includes: [count, status]}
        row_level: {filters: [{member: status, operator: equals, values: ['{securityContext.status}']}]}
",
    ) + "
views:
  - {name: behind, cubes: [{join_path: Guarded, includes: '*'}]}
";
    let shop = Shop::with(&model).await;
    let service = shop.service().await;
    let clerk =
        SecurityContext::from_claims(json!({ "groups": ["clerks"], "status": "paid" }), "groups");
    for sql in [
        "SELECT MEASURE(count) AS n FROM Guarded",
        "SELECT MEASURE(count) AS n FROM Guarded WHERE status = 'paid' OR true",
        "SELECT MEASURE(count) AS n FROM behind WHERE length(status) > 0",
        "SELECT sum(n) AS n FROM (SELECT upper(status) AS s, MEASURE(count) AS n FROM behind GROUP BY 1) t",
    ] {
        let sent = service
            .translate(sql, &clerk)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .sql;
        let text = format!("SELECT n::text FROM ({sent}) AS answer");
        let found: String = sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_one(shop.database.pool())
            .await
            .unwrap();
        assert_eq!(found, "200", "{sql}");
    }
    for hidden in [
        "SELECT MEASURE(secret) FROM Guarded",
        "SELECT weight FROM Guarded",
        "SELECT status FROM Guarded WHERE weight > 1",
        "SELECT status FROM behind WHERE weight > 1",
        "SELECT MEASURE(count) FROM Guarded GROUP BY weight * 2",
    ] {
        let error = service.translate(hidden, &clerk).await.expect_err(hidden);
        assert_eq!(error.code, "42501", "{hidden}: {error}");
    }
    let nobody = service
        .translate(
            "SELECT MEASURE(count) FROM Guarded",
            &SecurityContext::default(),
        )
        .await;
    assert_eq!(nobody.unwrap_err().code, "42501");
    shop.close().await;
}

#[tokio::test]
async fn the_catalogue_shows_cubes_as_tables_with_types_and_comments() {
    let shop = Shop::open().await;
    let service = shop.service().await;
    service.publish_tables(shop.database.pool()).await.unwrap();
    service.publish_tables(shop.database.pool()).await.unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select column_name::text, data_type::text from information_schema.columns
         where table_schema = 'cubes' and table_name = 'Orders' order by ordinal_position",
    )
    .fetch_all(shop.database.pool())
    .await
    .unwrap();
    let of = |name: &str| {
        columns
            .iter()
            .find(|(it, _)| it == name)
            .map(|(_, kind)| kind.as_str())
    };
    assert_eq!(of("status"), Some("text"));
    assert_eq!(of("count"), Some("bigint"));
    assert_eq!(of("total"), Some("numeric"));
    assert_eq!(of("placedAt"), Some("timestamp without time zone"));
    shop.execute("drop schema cubes cascade; create schema cubes")
        .await;
    let taken = service.publish_tables(shop.database.pool()).await;
    assert!(taken.unwrap_err().to_string().contains("somebody else"));
    shop.close().await;
}

#[tokio::test]
async fn nothing_is_run_but_reading_and_for_no_longer_than_the_role_may() {
    let shop = Shop::open().await;
    let alter = "do $$ begin execute format('alter database %I set statement_timeout = 60000',
                 current_database()); end $$";
    shop.execute(alter).await;
    let options = shop.database.pool().connect_options();
    let pool = sqlx::PgPool::connect_with((*options).clone())
        .await
        .unwrap();
    let model = (*shop.service().await.snapshot.model).clone();
    let service = ballpoint_metrics::Service::new(model, pool, Clock::system());
    for (sql, code, says) in [
        (
            "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
            "25006",
            "CREATE",
        ),
        ("EXPLAIN ANALYZE EXECUTE before", "25006", "EXECUTE"),
        (
            "SELECT public.to_letter('all')",
            "42501",
            "public.to_letter",
        ),
        (
            "SELECT relname, n_live_tup FROM pg_stat_user_tables",
            "42501",
            "pg_stat_user_tables",
        ),
        ("SET statement_timeout = 0", "42501", "60000 ms"),
        (
            "SET SESSION statement_timeout TO '2min'",
            "42501",
            "60000 ms",
        ),
        ("SET statement_timeout=1; SELECT 1", "42501", "alone"),
    ] {
        let (found, message) = refused(&service, sql).await;
        assert!(
            found == code && message.contains(says),
            "{sql}: {found} {message}"
        );
    }
    for fine in [
        "SET statement_timeout = '5s'",
        "SET statement_timeout TO DEFAULT",
        "SELECT pg_catalog.lower(relname) FROM pg_class",
        "SELECT \"update\" FROM (SELECT 1 AS \"update\") AS t",
    ] {
        let nobody = SecurityContext::default();
        assert_eq!(service.translate(fine, &nobody).await.unwrap().sql, fine);
    }
    shop.close().await;
}
