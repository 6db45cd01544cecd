//! Bad input gets one clear line, the right exit code, and nothing is lost.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Folder, NOW, PATIENCE, Stack, ballpoint, finish, until};

/// A project in a folder of its own: the shipped one, copied, with this `ballpoint.toml` if given.
pub(crate) fn project(folder: &Path, toml: Option<&str>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("warehouse"), &folder.join("warehouse"));
    copy(&root.join("seeds"), &folder.join("seeds"));
    let shipped = fs::read_to_string(root.join("ballpoint.toml")).unwrap();
    fs::write(folder.join("ballpoint.toml"), toml.unwrap_or(&shipped)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// `error` is the one line on standard error that the user reads.
fn one_line(stderr: &str) -> &str {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(lines.len(), 1, "one line says what is wrong:\n{stderr}");
    lines[0]
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let folder = Folder::new();
    let (code, _, stderr) = finish(ballpoint(folder.path()).args(["up", "--lissten", "x"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("--listen"),
        "the nearest flag is offered: {stderr}"
    );
}

#[test]
fn who_only_looks_or_prints_makes_no_data_dir() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    for (args, said) in [
        (&["seed", "--sql", "springs", "--rows", "3"][..], "springs"),
        (&["doctor"], "will be created"),
    ] {
        // Outside of any project: the shipped one, which is laid out in the data dir to be run.
        let mut command = ballpoint(&data_dir);
        let (_, stdout, stderr) = finish(command.current_dir(folder.path()).args(args));
        assert!(stdout.contains(said), "{args:?}: {stdout}{stderr}");
        assert!(!data_dir.exists(), "{args:?} may create nothing");
    }
}

#[test]
fn an_unknown_key_in_the_configuration_is_named_with_its_line() {
    let folder = Folder::new();
    project(
        folder.path(),
        Some("[project]\nname = \"x\"\ncolour = \"blue\"\n"),
    );
    let (code, _, stderr) = finish(
        ballpoint(&folder.path().join("data"))
            .arg("--project")
            .arg(folder.path())
            .arg("check"),
    );
    assert_eq!(code, 2);
    assert!(
        one_line(&stderr).contains("ballpoint.toml:3: unknown field `colour`"),
        "{stderr}"
    );
}

#[test]
fn an_address_open_to_others_without_tls_is_refused_before_anything_is_created() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let (code, _, stderr) = finish(ballpoint(&data_dir).args(["up", "--listen", "0.0.0.0:4000"]));
    assert_eq!(code, 2);
    assert!(one_line(&stderr).contains("TLS"), "{stderr}");
    assert!(!data_dir.exists(), "nothing may be created");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) =
        finish(ballpoint(&folder.path().join("data")).args(["up", "--listen", &address]));
    assert_eq!(code, 1);
    assert!(one_line(&stderr).contains(&address), "{stderr}");
}

#[tokio::test]
async fn a_second_up_on_one_data_dir_is_refused_and_the_first_goes_on() {
    let stack = Stack::start().await;
    let (code, _, stderr) =
        finish(ballpoint(stack.data_dir()).args(["up", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 1);
    assert!(one_line(&stderr).contains("already"), "{stderr}");
    assert_eq!(
        stack.ask("pass rate by component").await["behaviour"],
        "answer"
    );
}

#[test]
fn a_data_dir_of_another_postgresql_is_refused_and_left_alone() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let (code, _, stderr) = finish(ballpoint(&data_dir).args(["run", "--now", NOW]));
    assert_eq!(code, 0, "{stderr}");
    fs::write(data_dir.join("pg/PG_VERSION"), "9\n").unwrap();
    let (code, _, stderr) = finish(ballpoint(&data_dir).args(["run", "--now", NOW]));
    assert_ne!(code, 0);
    assert!(one_line(&stderr).contains("PostgreSQL 9"), "{stderr}");
    let major = String::from_utf8(
        std::process::Command::new("sh")
            .args([
                "-c",
                "ls -d /usr/lib/postgresql/* | sort -V | tail -1 | xargs basename",
            ])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    fs::write(data_dir.join("pg/PG_VERSION"), major).unwrap();
    let query = r#"{"measures":["Production.count"]}"#;
    let (code, stdout, stderr) = finish(ballpoint(&data_dir).args(["query", "--json", query]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("6480"), "nothing is lost: {stdout}");
}

#[test]
fn a_query_before_the_first_build_says_what_builds() {
    let folder = Folder::new();
    let query = r#"{"measures":["Production.count"]}"#;
    let (code, _, stderr) = finish(ballpoint(&folder.path().join("data")).args(["query", query]));
    assert_ne!(code, 0, "{stderr}");
    assert!(one_line(&stderr).contains("`ballpoint run`"), "{stderr}");
}

#[tokio::test]
async fn malformed_queries_and_unknown_members_say_what_is_near() {
    let stack = Stack::start().await;
    let (code, _, stderr) = finish(ballpoint(stack.data_dir()).args(["query", "{\"measures\": ["]));
    assert_eq!(code, 2, "{stderr}");
    assert!(one_line(&stderr).contains("JSON"), "{stderr}");

    let unknown = r#"{"measures":["Production.passRat"]}"#;
    let (code, _, stderr) = finish(ballpoint(stack.data_dir()).args(["query", unknown]));
    assert_ne!(code, 0);
    assert!(
        one_line(&stderr).contains("Production.passRate"),
        "{stderr}"
    );
    let (status, body) = stack
        .post(
            "/cubejs-api/v1/load",
            &json!({"query": {"measures": ["Production.passRat"]}}),
        )
        .await;
    assert_eq!(status, 400);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("Production.passRate"),
        "{body}"
    );
    let (status, body) = stack
        .post("/cubejs-api/v1/load", &json!({"query": {"measure": 3}}))
        .await;
    assert_eq!(status, 400, "{body}");

    let answer = stack.ask("flurbs by quonk").await;
    assert_ne!(answer["behaviour"], "answer", "{answer}");
    assert!(
        answer["answer"].as_str().unwrap().contains("flurbs"),
        "the word is named: {answer}"
    );
}

#[tokio::test]
async fn a_broken_model_file_keeps_the_last_good_model_and_names_the_line() {
    let folder = Folder::new();
    project(folder.path(), None);
    let cube = fs::read_dir(folder.path().join("warehouse/metrics"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml"))
        .unwrap();
    let check = |data: &str| {
        finish(
            ballpoint(&folder.path().join(data))
                .arg("--project")
                .arg(folder.path())
                .arg("check"),
        )
    };
    let (code, _, stderr) = check("data");
    assert_eq!(code, 0, "{stderr}");

    let good = fs::read_to_string(&cube).unwrap();
    fs::write(&cube, format!("{good}\n  : : broken\n")).unwrap();
    let (code, _, stderr) = check("data");
    assert_eq!(code, 2);
    let name = cube.file_name().unwrap().to_str().unwrap();
    assert!(one_line(&stderr).contains(&format!("{name}:")), "{stderr}");
    fs::write(&cube, good).unwrap();

    let model = folder
        .path()
        .join("warehouse/models/marts/fct_production.sql");
    let good = fs::read_to_string(&model).unwrap();
    fs::write(
        &model,
        format!("{good}\nselect * from {{{{ ref('int_nothing_like_it') }}}}\n"),
    )
    .unwrap();
    let (code, _, stderr) = check("data");
    assert_eq!(code, 2);
    assert!(
        one_line(&stderr).contains("fct_production.sql:"),
        "{stderr}"
    );
    assert!(stderr.contains("int_nothing_like_it"), "{stderr}");
}

#[tokio::test]
async fn an_unreachable_source_is_named_and_the_others_go_on() {
    let folder = Folder::new();
    let shipped =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ballpoint.toml")).unwrap();
    // A port that no other test can be given.
    let dead = "127.0.0.1:1";
    let extra = format!(
        "{shipped}\n[sources.orders]\nkind = \"postgres\"\nurl = \"postgres://u:hidden@{dead}/shop\"\nschema = \"raw_orders\"\n"
    );
    project(folder.path(), Some(&extra));
    let data_dir = folder.path().join("data");
    let (code, _, stderr) = finish(
        ballpoint(&data_dir)
            .arg("--project")
            .arg(folder.path())
            .args(["sync", "orders", "--now", NOW]),
    );
    assert_eq!(code, 1);
    assert!(one_line(&stderr).contains("orders"), "{stderr}");
    assert!(one_line(&stderr).contains(dead), "{stderr}");
    assert!(
        !stderr.contains("hidden"),
        "a password is never shown: {stderr}"
    );

    let path = folder.path().to_owned();
    let stack = Stack::launch(&data_dir, move |command| {
        command.arg("--project").arg(path);
    });
    stack.until_ready().await;
    let answer = until("the healthy sources answer", PATIENCE, || async {
        let answer = stack.ask("pass rate by component").await;
        (answer["behaviour"] == "answer").then_some(answer)
    })
    .await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 3);
    let (_, ready) = stack.get("/readyz").await;
    assert!(ready["degraded"].to_string().contains("orders"), "{ready}");
}

#[test]
fn two_sources_that_land_one_table_in_one_place_are_refused() {
    let folder = Folder::new();
    let source =
        |name: &str| format!("[sources.{name}]\nkind = \"postgres\"\nseed = \"seeds/refills\"\n");
    project(
        folder.path(),
        Some(&format!("{}{}", source("north"), source("south"))),
    );
    let (code, _, stderr) = finish(
        ballpoint(&folder.path().join("data"))
            .arg("--project")
            .arg(folder.path())
            .arg("sync"),
    );
    assert_eq!(code, 2, "{stderr}");
    let error = one_line(&stderr);
    assert!(
        error.contains("north") && error.contains("south"),
        "{error}"
    );
    assert!(error.contains("raw.refills_production"), "{error}");
}

#[tokio::test]
async fn every_door_but_the_open_ones_wants_the_token() {
    let stack = Stack::start().await;
    let http = reqwest::Client::new();
    for path in ["/api/actors", "/api/status", "/api/nothing", "/metrics"] {
        let reply = http
            .get(format!("{}{path}", stack.base))
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 401, "{path}");
    }
    let reply = http
        .get(format!("{}/cubejs-api/v1/meta", stack.base))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 403);
    let foreign = http
        .get(format!("{}/livez", stack.base))
        .header("host", "evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 421);
    let foreign = http
        .get(format!("{}/livez", stack.base))
        .header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}
