//! The SQL API as clients meet it: psql, Python's drivers, and the rules of the door.

#![allow(
    clippy::disallowed_methods,
    reason = "tests find the clients' virtual environment"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio_util::sync::CancellationToken;

use super::support::{OWNER, PATIENCE, Stack, VIEWER, signed};
use crate::sql::{self, SqlDoor};

/// A stack whose cubes are served on a port of their own.
struct Served {
    stack: Stack,
    port: u16,
}

impl Served {
    async fn start() -> Self {
        Self::over(Stack::start().await).await
    }

    async fn over(stack: Stack) -> Self {
        let service = stack.app.metrics.service().await.unwrap();
        service.publish_tables(stack.store.pool()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (metrics, doors) = (stack.app.metrics.clone(), Arc::clone(&stack.app.doors));
        let door = SqlDoor::new(metrics, doors, CancellationToken::new());
        tokio::spawn(sql::accept(Arc::new(listener), door));
        Self { stack, port }
    }

    async fn connect(&self, password: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass();
        let options = options
            .host("127.0.0.1")
            .port(self.port)
            .username("anybody");
        options
            .password(password)
            .database("warehouse")
            .connect()
            .await
    }
}

/// Runs a program of the machine.
async fn run(program: &Path, arguments: &[&str], password: &str) -> (bool, String) {
    let (program, password) = (program.to_owned(), password.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(&program);
        command.args(&arguments).env("PGPASSWORD", password);
        command
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    });
    let ran = ran.await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (ran.status.success(), text(ran.stdout) + &text(ran.stderr))
}

#[tokio::test]
async fn a_driver_prepares_binds_and_reads_in_binary() {
    let served = Served::start().await;
    let mut connection = served.connect(VIEWER).await.unwrap();
    let sql = "SELECT \"componentType\", MEASURE(count) AS n FROM \"Production\" WHERE \"componentType\" <> $1 GROUP BY 1 ORDER BY 1";
    for _ in 0..2 {
        let rows = sqlx::query(sql)
            .bind("nothing")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.get::<i64, _>("n") > 0));
    }
    let refused = sqlx::query("SELECT * FROM marts.anything")
        .fetch_all(&mut connection)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("not served") || refused.contains("does not exist"),
        "{refused}"
    );
    let one: i32 = sqlx::query_scalar("SELECT 1")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(one, 1, "the session goes on");
}

/// The proof of the latest result, as the session tells it.
async fn latest_proof(connection: &mut PgConnection) -> String {
    let shown = sqlx::raw_sql("show ballpoint.proof;").fetch_one(connection);
    shown.await.unwrap().get(0)
}

async fn replayed(served: &Served, proof: &str) -> Value {
    let path = format!("/api/proofs/{proof}/replay");
    let (status, replayed) = served.stack.post(&path, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{replayed}");
    replayed
}

#[tokio::test]
async fn a_result_has_a_proof_in_whatever_form_the_driver_takes_it() {
    let served = Served::start().await;
    let mut connection = served.connect(VIEWER).await.unwrap();
    assert_eq!(latest_proof(&mut connection).await, "");
    // Bytes and a bound value, then texts.
    let bound = "SELECT \"componentType\", MEASURE(count) AS n, MEASURE(passRate) AS rate \
                 FROM \"Production\" WHERE \"componentType\" <> $1 GROUP BY 1 ORDER BY 1";
    let rows = sqlx::query(bound).bind("bodies");
    assert_eq!(rows.fetch_all(&mut connection).await.unwrap().len(), 2);
    let in_bytes = latest_proof(&mut connection).await;
    let plain = "SELECT MEASURE(count) FROM Production; \
                 SELECT DATE_TRUNC('month', \"productionDate\") AS month, \"componentType\", MEASURE(count) AS n \
                 FROM Production GROUP BY 1, 2";
    sqlx::raw_sql(plain)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let in_texts = latest_proof(&mut connection).await;
    let failed = sqlx::raw_sql("SELECT MEASURE(count) / 0 FROM Production");
    failed.fetch_all(&mut connection).await.unwrap_err();
    sqlx::raw_sql("SELECT 1")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        latest_proof(&mut connection).await,
        in_texts,
        "neither has rows of cubes"
    );

    let (_, kept) = served.stack.get(&format!("/api/proofs/{in_bytes}")).await;
    let statement = kept["statement"].as_str().unwrap();
    assert!(statement.contains("<> CAST('bodies' AS TEXT)"), "{kept}");
    assert_eq!(kept["rows"], 2, "{kept}");
    assert_eq!(kept["columns"][1]["form"], "binary", "{kept}");
    let (_, kept) = served.stack.get(&format!("/api/proofs/{in_texts}")).await;
    assert_eq!(kept["columns"][0]["form"], "text", "{kept}");
    assert!(
        kept["statement"].as_str().unwrap().contains("DATE_TRUNC"),
        "of the second"
    );
    for proof in [&in_bytes, &in_texts] {
        let unchanged = replayed(&served, proof).await;
        assert_eq!(unchanged["same"], true, "{unchanged}");
        assert_eq!(unchanged["changed"], json!([]));
    }
    let tamper = "update marts.fct_production set is_passed = not is_passed \
                  where unit_key = (select min(unit_key) from marts.fct_production where component_type = 'springs')";
    let store = &served.stack.store;
    sqlx::raw_sql(tamper).execute(store.pool()).await.unwrap();
    let found = replayed(&served, &in_bytes).await;
    assert_eq!(found["same"], false, "{found}");
    let changed = found["changed"].to_string();
    assert!(
        changed.contains("the row of componentType = springs differs"),
        "{found}"
    );
    assert!(!changed.contains("refills differs"), "{found}");
    let counted = replayed(&served, &in_texts).await;
    assert_eq!(counted["same"], true, "as many units as before: {counted}");
}

#[tokio::test]
async fn who_has_no_token_is_not_let_in() {
    let served = Served::start().await;
    for password in ["", "guess"] {
        let refused = served.connect(password).await.unwrap_err().to_string();
        assert!(
            refused.contains("password authentication failed"),
            "{refused}"
        );
    }
    served.connect(OWNER).await.unwrap();
}

const GUARDED: &str = "
cubes:
  - name: Guarded
    sql_table: marts.fct_production
    dimensions: [{name: component, sql: component_type, type: string}]
    measures: [{name: count, type: count}]
    access_policy:
      - group: bosses
";

#[tokio::test]
async fn a_session_has_the_policies_and_the_token_of_now() {
    let model = tempfile::tempdir().unwrap();
    let file = model.path().join("guarded.yml");
    std::fs::write(&file, GUARDED).unwrap();
    let served = Served::over(Stack::with_model(model.path()).await).await;
    let token = json!({ "groups": ["bosses"], "exp": 1_774_954_800 });
    let mut connection = served.connect(&signed(&token)).await.unwrap();
    // Prepared once, by its text.
    let sql = "SELECT MEASURE(count) AS n FROM Guarded WHERE component <> $1";
    let mut counted = async || -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(sql).bind("bodies");
        query.fetch_one(&mut connection).await
    };
    let of = async |condition: &str| -> i64 {
        let direct = format!("select count(*) from marts.fct_production where {condition}");
        let direct = sqlx::query_scalar(sqlx::AssertSqlSafe(direct));
        direct.fetch_one(served.stack.store.pool()).await.unwrap()
    };
    let all = of("component_type <> 'bodies'").await;
    assert_eq!(counted().await.unwrap(), all);
    let filter = "{member: component, operator: equals, values: [springs]}";
    let narrower = format!("{GUARDED}        row_level: {{filters: [{filter}]}}\n");
    std::fs::write(&file, narrower).unwrap();
    let springs = of("component_type = 'springs'").await;
    let narrowed = async {
        while counted().await.unwrap() != springs {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, narrowed).await.unwrap();
    assert_eq!(counted().await.unwrap(), springs, "and so it stays");
    std::fs::write(&file, GUARDED.replace("bosses", "nobody")).unwrap();
    let refused = async {
        loop {
            match counted().await {
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                Err(error) => break error.to_string(),
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(refused.contains("hidden member"), "{refused}");
    std::fs::write(&file, GUARDED).unwrap();
    let back = async {
        while counted().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    let jwt_now = &served.stack.jwt_now;
    jwt_now.store(1_774_958_400, std::sync::atomic::Ordering::Relaxed);
    let ended = counted().await.unwrap_err().to_string();
    assert!(ended.contains("the token has expired"), "{ended}");
}

#[tokio::test]
async fn scopes_bound_the_sql_api_too() {
    let served = Served::start().await;
    for scopes in [json!(["meta"]), json!([])] {
        let refused = served.connect(&signed(&json!({ "scopes": scopes }))).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("API scope is missing: data"), "{refused}");
    }
    let token = signed(&json!({ "scopes": ["data"] }));
    served.connect(&token).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_statement_along() {
    let served = Served::start().await;
    let mut connection = served.connect(VIEWER).await.unwrap();
    let endless = "select count(*) from generate_series(1, 300000000000) -- left alone";
    let asked = tokio::spawn(async move {
        let _ = sqlx::raw_sql(endless).fetch_one(&mut connection).await;
    });
    let running = async |wanted: i64| {
        let sql = "select count(*) from pg_stat_activity where query like '%-- left alone' \
                   and state = 'active' and datname = current_database()";
        let pool = served.stack.store.pool();
        let count = async || -> i64 { sqlx::query_scalar(sql).fetch_one(pool).await.unwrap() };
        let seen = async {
            while count().await != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    };
    running(1).await;
    asked.abort();
    running(0).await;
}

#[tokio::test]
async fn psql_lists_describes_and_queries_cubes() {
    let served = Served::start().await;
    let port = served.port.to_string();
    let base = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "anybody",
        "-d",
        "warehouse",
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
    ];
    let psql = |command: &'static str| {
        let arguments: Vec<String> = base
            .iter()
            .map(|it| (*it).to_owned())
            .chain(["-c".to_owned(), command.to_owned()])
            .collect();
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(Path::new("psql"), &arguments, OWNER).await
        }
    };
    for (command, shows) in [
        ("\\dt", "Production"),
        ("\\d \"Production\"", "passRate"),
        ("\\dn", "cubes"),
        ("\\conninfo", "warehouse"),
        ("SELECT MEASURE(count) FROM Production", "count"),
        ("EXPLAIN SELECT MEASURE(count) FROM Production", "Aggregate"),
    ] {
        let (ok, text) = psql(command).await;
        assert!(ok && text.contains(shows), "{command}: {text}");
    }
    let (ok, text) = psql("SELECT MEASURE(cout) FROM Production").await;
    assert!(!ok && text.contains("did you mean \"count\"?"), "{text}");
}

#[tokio::test]
async fn python_clients_find_the_server_that_they_know() {
    let served = Served::start().await;
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|_| Path::new(&std::env::var("HOME").unwrap()).join(".cache"));
    let venv = std::env::var("BALLPOINT_PYTHON_CLIENTS_VENV").map(PathBuf::from);
    let python = venv
        .unwrap_or_else(|_| cache.join("ballpoint/python-clients-venv"))
        .join("bin/python");
    assert!(
        python.exists(),
        "{} is missing: tools/setup test installs it",
        python.display()
    );
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python_clients/sql.py");
    let port = served.port.to_string();
    let arguments = [check.to_str().unwrap(), "127.0.0.1", &port, OWNER];
    let (ok, text) = run(&python, &arguments, "").await;
    assert!(ok && text.contains("SQLAlchemy"), "{text}");
}
