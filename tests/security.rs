//! Who may do what on a running system, and that no secret leaves it.

use std::fs;
use std::process::Stdio;

use ballpoint_postgres::testing::TestDatabase;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::bad_input::project;
use crate::support::{Folder, Stack, ballpoint, finish};

/// Stands in every place where a secret can stand.
const MARKER: &str = "marker-7f3a9c-secret";
const VIEWER: &str = "the-token-of-the-wall-screen";
const OPERATOR: &str = "the-token-of-the-shift-leader";

/// The shipped project with tokens, a signing secret, and a source that nobody answers for.
fn configured() -> (Folder, String) {
    let folder = Folder::new();
    let shipped =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ballpoint.toml")).unwrap();
    // A port that no other test can be given.
    let dead = "127.0.0.1:1";
    let toml = format!(
        "{shipped}
[auth]
jwt_secret = \"{MARKER}-signs\"

[auth.tokens.wall]
role = \"viewer\"
token = \"{VIEWER}\"

[auth.tokens.shift]
role = \"operator\"
token = \"{OPERATOR}\"

[auth.tokens.spare]
role = \"admin\"
token = \"{MARKER}-token\"

[sources.orders]
kind = \"postgres\"
url = \"postgres://u:{MARKER}@{dead}/shop\"
schema = \"raw_orders\"
"
    );
    project(folder.path(), Some(&toml));
    let path = folder.path().display().to_string();
    (folder, path)
}

/// Claims, signed.
fn signed(claims: &Value, secret: &str) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let signed = format!(
        "{}.{}",
        encode(head.to_string()),
        encode(claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn tokens_have_their_roles_claims_their_door_and_no_secret_is_shown() {
    let (folder, path) = configured();
    let log = folder.path().join("log");
    let stderr = fs::File::create(&log).unwrap();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        command
            .args(["--project", &path])
            .stderr(Stdio::from(stderr));
    });
    stack.until_ready().await;
    let http = reqwest::Client::new();
    let at = |path: &str| format!("{}{path}", stack.base);

    assert_eq!(
        status(http.get(at("/api/runs")).bearer_auth(VIEWER)).await,
        200
    );
    assert_eq!(
        status(http.post(at("/api/run")).bearer_auth(VIEWER)).await,
        403
    );
    let restart = at("/api/actors/chat/restart");
    assert_eq!(status(http.post(&restart).bearer_auth(VIEWER)).await, 403);
    assert_eq!(status(http.post(&restart).bearer_auth(OPERATOR)).await, 200);

    let good = signed(&json!({ "groups": [] }), &format!("{MARKER}-signs"));
    let bad = signed(&json!({ "groups": [] }), "another secret");
    let load = || {
        let query = json!({ "query": { "measures": ["Production.count"] } });
        http.post(at("/cubejs-api/v1/load")).json(&query)
    };
    assert_eq!(status(load().header("authorization", &good)).await, 200);
    assert_eq!(status(load().header("authorization", &bad)).await, 403);
    assert_eq!(
        status(http.get(at("/api/runs")).bearer_auth(&good)).await,
        401
    );

    let _ = stack
        .post("/api/sync", &json!({ "sources": ["orders"] }))
        .await;
    let mut shown = Vec::new();
    for path in [
        "/api/status",
        "/api/bootstrap",
        "/api/actors",
        "/api/lineage",
        "/api/runs?limit=100",
        "/api/incidents",
        "/api/schedules",
        "/api/write-backs",
        "/readyz",
        "/health",
    ] {
        let reply = http
            .get(at(path))
            .bearer_auth(OPERATOR)
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        shown.push((path, reply.text().await.unwrap()));
    }
    let incidents = &shown[5].1;
    let runs = &shown[4].1;
    assert!(
        runs.contains("orders"),
        "the error path was taken: {runs} {incidents}"
    );
    for (path, text) in &shown {
        assert!(!text.contains(MARKER), "{path} shows a secret: {text}");
        assert!(!text.contains("postgres://"), "{path} shows a url: {text}");
    }
    let events: Vec<String> = sqlx::query_scalar("select payload::text from ballpoint.events")
        .fetch_all(&stack.pool("warehouse").await)
        .await
        .unwrap();
    assert!(events.iter().any(|event| event.contains("orders")));
    assert!(!events.iter().any(|event| event.contains(MARKER)));
    let (_, whole) = stack.get("/api/status").await;
    assert!(
        whole["databases"]["orders"]
            .as_str()
            .unwrap()
            .contains(MARKER),
        "the owner may"
    );
    drop(stack);
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains(MARKER), "the log shows a secret: {log}");
}

#[test]
fn commands_that_fail_show_no_secret() {
    let (folder, path) = configured();
    let data_dir = folder.path().join("data");
    let refused = |arguments: &[&str]| {
        let mut command = ballpoint(&data_dir);
        let (code, stdout, stderr) = finish(command.args(["--project", &path]).args(arguments));
        assert_ne!(code, 0, "{arguments:?} must fail: {stdout}{stderr}");
        assert!(
            !format!("{stdout}{stderr}").contains(MARKER),
            "{arguments:?}: {stdout}{stderr}"
        );
        stderr
    };
    assert!(refused(&["check"]).contains("orders"));
    assert!(refused(&["sync", "orders"]).contains("orders"));
    for broken in [
        format!("[warehouse]\nurl = \"postgres://u:{MARKER}@h:notaport/db\"\n"),
        format!("[warehouse]\nurl = \"postgres://u:{MARKER}@127.0.0.1:1/db\"\n"),
        format!(
            "[auth]\nmode = \"none\"\n[auth.tokens.a]\nrole = \"viewer\"\ntoken = \"{MARKER}\"\n"
        ),
        format!("[auth.tokens.a]\nrole = \"viewer\"\ntoken = \" {MARKER}\"\n"),
    ] {
        fs::write(folder.path().join("ballpoint.toml"), broken).unwrap();
        refused(&["run"]);
    }
}

#[tokio::test]
async fn queries_run_as_a_role_that_sees_the_models_and_nothing_of_ours() {
    let stack = Stack::start().await;
    stack.ask("pass rate by component").await;
    let warehouse = stack.pool("warehouse").await;
    let users: Vec<String> = sqlx::query_scalar(
        "select distinct usename::text from pg_stat_activity
         where application_name = 'ballpoint queries'",
    )
    .fetch_all(&warehouse)
    .await
    .unwrap();
    assert_eq!(users, ["ballpoint_query"]);
    let allowed = |of: &str, schema: &str| {
        let sql = format!(
            "select {of}(has_table_privilege('ballpoint_query', c.oid, 'select')
                        and has_schema_privilege('ballpoint_query', relnamespace, 'usage'))
             from pg_class c join pg_namespace n on n.oid = relnamespace
             where nspname = '{schema}' and relkind in ('r', 'v')"
        );
        sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(sql)).fetch_one(&warehouse)
    };
    // Each of these was made, and swapped in, after the role.
    assert_eq!(allowed("bool_and", "marts").await.unwrap(), Some(true));
    assert_eq!(allowed("bool_or", "ballpoint").await.unwrap(), Some(false));
    let writes: bool = sqlx::query_scalar(
        "select bool_or(has_table_privilege('ballpoint_query', pg_class.oid, 'insert, update, delete, truncate'))
         from pg_class join pg_namespace n on n.oid = relnamespace
         where relkind in ('r', 'v') and nspname <> 'pg_catalog'",
    )
    .fetch_one(&warehouse)
    .await
    .unwrap();
    assert!(!writes);
}

/// A project of a warehouse and metrics alone.
fn metrics_project(folder: &Folder, url: &str) {
    let metrics = folder.path().join("metrics");
    fs::create_dir_all(&metrics).unwrap();
    let toml = format!("[warehouse]\nurl = \"{url}\"\n[metrics]\npath = \"metrics\"\n");
    fs::write(folder.path().join("ballpoint.toml"), toml).unwrap();
    let cube =
        "cubes: [{name: Sales, sql_table: shop.sales, measures: [{name: count, type: count}]}]\n";
    fs::write(metrics.join("sales.yml"), cube).unwrap();
}

#[tokio::test]
async fn a_configured_warehouse_is_queried_by_such_a_role_or_by_its_user_and_check_says_which() {
    let server = TestDatabase::create().await;
    let name = format!("limited_{}", uuid::Uuid::new_v4().simple());
    for sql in [
        format!("create role {name} login password 'pw'"),
        format!("create database {name} owner {name}"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(server.pool())
            .await
            .unwrap();
    }
    let (_, place) = server.url().split_once('@').unwrap();
    let (host, own) = place.rsplit_once('/').unwrap();
    let limited = format!("postgres://{name}:pw@{host}/{name}");
    let sales = "create schema shop; create table shop.sales as select generate_series(1, 5) as id";
    for (url, says) in [
        (limited.as_str(), "as the configured user"),
        (server.url(), "as role ballpoint_query"),
    ] {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        sqlx::raw_sql(sales).execute(&pool).await.unwrap();
        pool.close().await;
        let folder = Folder::new();
        metrics_project(&folder, url);
        let run = |arguments: &[&str]| {
            let mut command = ballpoint(&folder.path().join("data"));
            let (code, stdout, stderr) =
                finish(command.arg("--project").arg(folder.path()).args(arguments));
            assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
            stdout
        };
        let found = run(&["query", "--json", r#"{"measures": ["Sales.count"]}"#]);
        assert!(found.contains('5'), "{found}");
        assert!(run(&["check"]).contains(says), "{says}");
    }
    for sql in [
        format!("drop database {name} with (force)"),
        format!("drop role {name}"),
        format!("drop owned by ballpoint_query_{own}"),
        format!("drop role ballpoint_query_{own}"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(server.pool())
            .await
            .unwrap();
    }
}

#[test]
fn an_address_that_is_none_is_explained() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    for wrong in ["localhost", "localhost:http", "no.such.name.invalid:4000"] {
        let (code, _, stderr) = finish(ballpoint(&data_dir).args(["up", "--listen", wrong]));
        assert_eq!(code, 2, "{wrong}: {stderr}");
        assert!(
            stderr.contains("looks like 127.0.0.1:4000"),
            "{wrong}: {stderr}"
        );
    }
    assert!(!data_dir.exists(), "nothing may be created");
}
