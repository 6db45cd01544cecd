//! The harness itself.

use std::{
    io::{BufRead, BufReader},
    time::Instant,
};

use super::*;

/// Set for the copy of this test binary that a test starts in order to kill it.
const CHILD: &str = "BALLPOINT_TEST_CHILD";

#[tokio::test]
async fn each_test_database_is_empty_and_its_own() {
    let (first, second) = tokio::join!(TestDatabase::create(), TestDatabase::create());
    sqlx::query("CREATE TABLE only_here (id int)")
        .execute(first.pool())
        .await
        .unwrap();
    let count = "SELECT count(*) FROM pg_class WHERE relname = 'only_here'";
    let here: i64 = sqlx::query_scalar(count)
        .fetch_one(first.pool())
        .await
        .unwrap();
    let there: i64 = sqlx::query_scalar(count)
        .fetch_one(second.pool())
        .await
        .unwrap();
    assert_eq!((here, there), (1, 0));
}

#[test]
fn the_cluster_outlives_the_runtime_of_the_test_that_started_it() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let database = TestDatabase::create().await;
            let one: i32 = sqlx::query_scalar("SELECT 1")
                .fetch_one(database.pool())
                .await
                .unwrap();
            assert_eq!(one, 1);
        });
    }
}

#[test]
fn a_url_gets_another_database_and_keeps_the_rest() {
    for (url, expected) in [
        ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/t"),
        ("postgres://h", "postgres://h/t"),
        (
            "postgres://h/db?sslmode=disable",
            "postgres://h/t?sslmode=disable",
        ),
        (
            "postgres://h?sslmode=disable",
            "postgres://h/t?sslmode=disable",
        ),
    ] {
        assert_eq!(with_database(url, "t"), expected);
    }
}

#[tokio::test]
async fn the_cluster_and_its_directory_go_when_the_test_process_is_killed() {
    const NAME: &str =
        "testing::tests::the_cluster_and_its_directory_go_when_the_test_process_is_killed";
    #[expect(
        clippy::disallowed_methods,
        reason = "tells the killed copy of this test from the test"
    )]
    let is_child = std::env::var(CHILD).is_ok();
    let dir = DataDir::create();
    if is_child {
        let options = ClusterOptions::new(dir.path(), Vec::<String>::new()).throw_away();
        let cluster = Cluster::open(&options).await.unwrap();
        eprintln!("ready {} {}", cluster.pid(), dir.path().display());
        std::thread::sleep(Duration::from_secs(600));
    }
    let (mut child, answer) = start_copy(NAME, CHILD, "");
    child.kill().unwrap();
    child.wait().unwrap();
    let (pid, path) = answer.split_once(' ').unwrap();
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    while rustix::process::test_kill_process(pid).is_ok() || Path::new(path).exists() {
        assert!(
            Instant::now() < deadline,
            "server {pid:?} or {path} is still there"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs one test of this binary in a process of its own and returns what follows `ready ` on its stderr.
pub(crate) fn start_copy(test: &str, variable: &str, value: &str) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, value)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let answer = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
    (
        child,
        answer.expect("the copy of the test says that it is ready"),
    )
}
