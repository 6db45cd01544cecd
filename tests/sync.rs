//! `ballpoint sync` on databases of one's own: counts, comparison with the source, interruption.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ballpoint_postgres::testing::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::throttle::Throttle;
use crate::support::{Folder, PATIENCE, Stack, ballpoint, finish, until};

const ROWS: &str = "
create table orders (id int primary key, customer text, amount numeric, filler text);
insert into orders select n, 'customer ' || n, n / 7.0, repeat('x', 1000) from generate_series(1, 8000) n";

struct Project {
    folder: Folder,
    source: TestDatabase,
    warehouse: TestDatabase,
}

impl Project {
    async fn new() -> Self {
        let project = Self {
            folder: Folder::new(),
            source: TestDatabase::create().await,
            warehouse: TestDatabase::create().await,
        };
        sqlx::raw_sql(ROWS)
            .execute(project.source.pool())
            .await
            .unwrap();
        project.configure(project.warehouse.url());
        project
    }

    fn configure(&self, warehouse: &str) {
        self.write(warehouse, &self.source_in("full_refresh"));
    }

    fn source_in(&self, mode: &str) -> String {
        let url = self.source.url();
        format!("[sources.shop]\nkind = \"postgres\"\nurl = \"{url}\"\nmode = \"{mode}\"\n")
    }

    fn write(&self, warehouse: &str, sources: &str) {
        let config =
            format!("[project]\nname = \"shop\"\n[warehouse]\nurl = \"{warehouse}\"\n{sources}");
        std::fs::write(self.path().join("ballpoint.toml"), config).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn sync(&self, flags: &[&str]) -> (i32, String, String) {
        let mut command = ballpoint(&self.path().join("data"));
        finish(command.arg("sync").args(flags).current_dir(self.path()))
    }

    fn spawn(&self) -> Child {
        let mut command = ballpoint(&self.path().join("data"));
        command.args(["sync"]).current_dir(self.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verified_sync_counts_compares_and_finds_a_tampered_row() {
    let project = Project::new().await;
    let (code, stdout, stderr) = project.sync(&["--verify", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let table = &report["tables"][0];
    assert_eq!(
        (&table["read"], &table["landed"], &table["rejected"]),
        (&8000.into(), &8000.into(), &0.into()),
        "{report}"
    );
    assert_eq!(table["checksum"]["rows"], 8000, "{report}");
    assert_eq!(report["verified"], 1, "{report}");
    let tampering = "update raw.orders set amount = amount + 0.01 where id = 77";
    run(project.warehouse.pool(), tampering).await;
    let (code, _, stderr) = project.sync(&["--verify"]);
    assert_eq!(code, 1, "{stderr}");
    for words in [
        "raw.orders",
        "public.orders",
        "8000 rows in the source, 8000 in raw",
    ] {
        assert!(stderr.contains(words), "{stderr}");
    }
    let (code, stdout, stderr) = project.sync(&["--full-refresh", "--verify"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("equal"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_source_is_compared_and_what_it_keeps_is_said_until_it_is_removed() {
    let project = Project::new().await;
    let warehouse = project.warehouse.url();
    project.write(warehouse, &project.source_in("cdc"));
    let (code, stdout, stderr) = project.sync(&["--verify", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["verified"], 1, "{report}");
    assert!(
        stderr.contains("keeps its log for slot ballpoint_"),
        "{stderr}"
    );
    let tampering = "update raw.orders set amount = amount + 0.01 where id = 77";
    run(project.warehouse.pool(), tampering).await;
    let (code, _, stderr) = project.sync(&["--verify"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("raw.orders differs from public.orders"),
        "{stderr}"
    );
    project.write(warehouse, "");
    let mut check = ballpoint(&project.path().join("data"));
    let (_, stdout, stderr) = finish(check.arg("check").current_dir(project.path()));
    assert!(
        stdout.contains("SELECT pg_drop_replication_slot('ballpoint_"),
        "{stdout}{stderr}"
    );
    project.configure(warehouse);
    let (code, _, stderr) = project.sync(&[]);
    assert_eq!(code, 0, "{stderr}");
    let installed: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_publication)
              + (select count(*) from pg_replication_slots where database = current_database())",
    )
    .fetch_one(project.source.pool())
    .await
    .unwrap();
    assert_eq!(installed, 0, "a sync in another mode removes it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_sync_ends_at_once_is_recorded_and_loses_nothing() {
    let project = Project::new().await;
    assert_eq!(project.sync(&[]).0, 0);
    run(project.source.pool(), "update orders set amount = -1").await;
    // 8 MB of rows need a minute: time to stop in between.
    let line = Throttle::start(project.warehouse.url(), 128 * 1024).await;
    project.configure(&line.url(project.warehouse.url()));
    let mut child = project.spawn();
    let begun = Instant::now();
    while line.bytes() < 300_000 {
        assert!(begun.elapsed() < PATIENCE, "rows never flowed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let passed = line.bytes();
    assert!(passed < 6_000_000, "{passed} bytes: it went on to its end");
    let (state, error): (String, String) = sqlx::query_as(
        "select status, coalesce(error, '') from ballpoint.runs order by started_at desc limit 1",
    )
    .fetch_one(project.warehouse.pool())
    .await
    .unwrap();
    assert_eq!(state, "interrupted");
    assert!(error.contains("Ctrl-C"), "{error}");
    project.configure(project.warehouse.url());
    let (code, _, stderr) = project.sync(&["--verify"]);
    assert_eq!(code, 0, "{stderr}");
}

/// No mode is named, and the server's log can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_log_can_be_read_is_followed_while_the_stack_is_up() {
    let project = Project::new().await;
    let url = project.source.url();
    let sources = format!("[sources.shop]\nkind = \"postgres\"\nurl = \"{url}\"\n");
    project.write(project.warehouse.url(), &sources);
    let data_dir = project.path().join("data");
    let mut check = ballpoint(&data_dir);
    let (code, stdout, stderr) = finish(check.arg("check").current_dir(project.path()));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("public.orders is kept by cdc"), "{stdout}");
    let mut stack = Stack::launch(&data_dir, |command| {
        command.current_dir(project.path());
    });
    stack.until_ready().await;
    let changes = "update orders set customer = 'changed' where id <= 10;
                   delete from orders where id > 7990; insert into orders values (9000, 'new', 1, 'f')";
    run(project.source.pool(), changes).await;
    let seen =
        "select count(*) || ' ' || count(*) filter (where customer = 'changed') || ' ' || max(id)
                from raw.orders";
    until("the changes have landed", PATIENCE, || async {
        let seen = sqlx::query_scalar::<_, String>(seen).fetch_one(project.warehouse.pool());
        (seen.await.ok()? == "7991 10 9000").then_some(())
    })
    .await;
    // How far the slot is behind is looked at every few seconds.
    let stream = until("the slot has been looked at", PATIENCE, || async {
        let mut status = ballpoint(&data_dir);
        let (_, stdout, _) = finish(
            status
                .args(["status", "--json"])
                .current_dir(project.path()),
        );
        let mut status: Value = serde_json::from_str(&stdout).unwrap();
        let stream = status["streams"][0].take();
        let is_known = stream["lag_bytes"].is_u64() && stream["lag_seconds"].is_f64();
        is_known.then_some(stream)
    })
    .await;
    assert_eq!(stream["source"], "shop", "{stream}");
    assert!(stream["retained_bytes"].is_u64(), "{stream}");
    assert!(
        stream["slot"].as_str().unwrap().starts_with("ballpoint_"),
        "{stream}"
    );
    stack.stop();
}
