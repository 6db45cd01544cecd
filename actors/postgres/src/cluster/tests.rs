//! The cluster over its life: created, stopped, killed, adopted, and everything that may be in its way.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use sqlx::Row;

use super::*;
use crate::testing::{DataDir, tests::start_copy};

/// Set for the copy of this test binary that is killed as the owner of a cluster.
const OWNED_DIR: &str = "BALLPOINT_TEST_OWNED_DIR";

fn options(dir: &DataDir) -> ClusterOptions {
    ClusterOptions::new(dir.path(), ["source", "warehouse"])
}

async fn execute(cluster: &Cluster, sql: &'static str) {
    let mut session = PgConnection::connect(&cluster.url("warehouse"))
        .await
        .unwrap();
    session.execute(sql).await.unwrap();
    session.close().await.unwrap();
}

async fn value(cluster: &Cluster, sql: &'static str) -> String {
    let mut session = PgConnection::connect(&cluster.url("warehouse"))
        .await
        .unwrap();
    let value = sqlx::query_scalar(sql)
        .fetch_one(&mut session)
        .await
        .unwrap();
    session.close().await.unwrap();
    value
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_was_written_is_there_after_a_stop_and_a_start() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(cluster.opened(), Opened::Created);
    let url = cluster.url("warehouse");
    execute(&cluster, "CREATE TABLE kept AS SELECT 'still here' AS text").await;
    cluster.stop().await.unwrap();

    let mut more = options(&dir);
    more.databases.push("a \"nasty\" näme/?#".to_owned());
    let cluster = Cluster::open(&more).await.unwrap();
    assert_eq!(
        (cluster.opened(), cluster.url("warehouse")),
        (Opened::Started, url)
    );
    assert_eq!(value(&cluster, "SELECT text FROM kept").await, "still here");
    let mut session = PgConnection::connect(&cluster.url(&more.databases[2]))
        .await
        .unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(name, more.databases[2]);
    drop(session);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_cluster_is_durable_and_closed_to_others() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    for (setting, expected) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("wal_level", "logical"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
    ] {
        let mut session = PgConnection::connect(&cluster.url("warehouse"))
            .await
            .unwrap();
        let query = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
        let value: String = query.fetch_one(&mut session).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    let methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules";
    assert_eq!(value(&cluster, methods).await, "scram-sha-256");
    let url = cluster.url("warehouse");
    let password = cluster.state.password.clone();
    let wrong = PgConnection::connect(&url.replace(&password, "wrong"))
        .await
        .unwrap_err();
    assert!(
        wrong.to_string().contains("password authentication failed"),
        "{wrong}"
    );
    assert!(
        !format!("{cluster:?}").contains(&password),
        "the password is in the debug text"
    );

    assert_eq!(mode(&dir.path().join("state.json")), 0o600);
    assert_eq!(mode(&dir.path().join("pg")), 0o700);
    assert_eq!(mode(&dir.path().join("postgres.log")), 0o600);
    let root = rustix::process::geteuid().is_root();
    assert_eq!(mode(dir.path()), if root { 0o711 } else { 0o700 });
    assert!(!dir.path().join("initdb.password").exists());
    let log = fs::read_to_string(dir.path().join("postgres.log")).unwrap();
    assert!(!log.contains(&password));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_orphan_of_a_killed_owner_is_adopted_and_not_restarted() {
    const NAME: &str = "cluster::tests::the_orphan_of_a_killed_owner_is_adopted_and_not_restarted";
    #[expect(
        clippy::disallowed_methods,
        reason = "tells the killed copy of this test from the test"
    )]
    if let Ok(dir) = std::env::var(OWNED_DIR) {
        let cluster = Cluster::open(&ClusterOptions::new(dir, ["warehouse"]))
            .await
            .unwrap();
        execute(&cluster, "CREATE TABLE kept AS SELECT 'still here' AS text").await;
        eprintln!("ready {} {}", cluster.pid(), cluster.url("warehouse"));
        std::thread::sleep(Duration::from_secs(600));
    }
    let dir = DataDir::create();
    let (mut owner, answer) = start_copy(NAME, OWNED_DIR, dir.path().to_str().unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();

    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(cluster.opened(), Opened::Adopted);
    assert_eq!(
        format!("{} {}", cluster.pid(), cluster.url("warehouse")),
        answer
    );
    assert_eq!(value(&cluster, "SELECT text FROM kept").await, "still here");
    assert_eq!(
        value(&cluster, "SELECT count(*)::text FROM pg_database").await,
        "5"
    );
    // Adopting works again and again, from the same process too.
    let again = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(again.opened(), Opened::Adopted);
    again.stop().await.unwrap();
    assert!(!cluster.is_running());
}

#[tokio::test]
async fn a_killed_server_is_started_again_over_its_stale_pid_file() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    let url = cluster.url("warehouse");
    execute(&cluster, "CREATE TABLE kept AS SELECT 'still here' AS text").await;
    rustix::process::kill_process(cluster.pid, rustix::process::Signal::KILL).unwrap();
    assert!(dir.path().join("pg/postmaster.pid").exists());
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(
        (cluster.opened(), cluster.url("warehouse")),
        (Opened::Started, url)
    );
    assert_eq!(value(&cluster, "SELECT text FROM kept").await, "still here");
    cluster.stop().await.unwrap();
    assert!(!dir.path().join("pg/postmaster.pid").exists());
}

#[tokio::test]
async fn a_stale_pid_file_whose_number_lives_on_in_another_program_is_no_obstacle() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    let (pid, port) = (std::process::id(), cluster.port());
    cluster.stop().await.unwrap();
    let pg = dir.path().join("pg");
    let stale = format!(
        "{pid}\n{}\n1790000000\n{port}\n\n127.0.0.1\n\nready   \n",
        pg.display()
    );
    fs::write(pg.join("postmaster.pid"), stale).unwrap();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(cluster.opened(), Opened::Started);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_major_is_refused_by_both_names() {
    let dir = DataDir::create();
    Cluster::open(&options(&dir))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let version = dir.path().join("pg/PG_VERSION");
    let made_by = fs::read_to_string(&version).unwrap();
    fs::write(&version, "9\n").unwrap();
    let error = Cluster::open(&options(&dir)).await.unwrap_err().to_string();
    assert!(
        error.contains("made by PostgreSQL 9, found here: "),
        "{error}"
    );
    assert!(
        error.contains(&format!("here: {}", made_by.trim())),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
    // Nothing was touched: with the right version it opens.
    fs::write(&version, made_by).unwrap();
    Cluster::open(&options(&dir))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_foreign_process_on_the_port_is_an_error_and_changes_nothing() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    let (port, url) = (cluster.port(), cluster.url("warehouse"));
    cluster.stop().await.unwrap();
    let squatter = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = Cluster::open(&options(&dir)).await.unwrap_err();
    assert!(matches!(error, ClusterError::PortTaken { .. }), "{error}");
    assert!(error.to_string().contains(&port.to_string()));
    drop(squatter);
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(cluster.url("warehouse"), url);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_without_its_state_is_never_overwritten() {
    let dir = DataDir::create();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    let state = dir.path().join("state.json");
    let saved = fs::read(&state).unwrap();
    fs::remove_file(&state).unwrap();
    let error = Cluster::open(&options(&dir)).await.unwrap_err();
    assert!(matches!(error, ClusterError::StateLost { .. }), "{error}");
    fs::write(&state, saved).unwrap();
    assert_eq!(
        Cluster::open(&options(&dir)).await.unwrap().opened(),
        Opened::Adopted
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_initdb_is_thrown_away() {
    let dir = DataDir::create();
    fs::create_dir(dir.path().join("pg.new.1")).unwrap();
    fs::write(dir.path().join("pg.new.1/PG_VERSION"), "15\n").unwrap();
    fs::write(dir.path().join("initdb.password"), "old").unwrap();
    let cluster = Cluster::open(&options(&dir)).await.unwrap();
    assert_eq!(cluster.opened(), Opened::Created);
    assert!(!dir.path().join("pg.new.1").exists());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_data_dir_that_the_servers_user_cannot_reach_is_named() {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let options = ClusterOptions::new(parent.path().join("data"), ["warehouse"]);
    let opened = Cluster::open(&options).await;
    if rustix::process::geteuid().is_root() {
        let error = opened.unwrap_err();
        assert!(
            matches!(&error, ClusterError::NotReachable { dir, .. } if dir == parent.path()),
            "{error}"
        );
        assert!(error.to_string().contains("(mode 0700)"), "{error}");
        assert_eq!(
            mode(parent.path()),
            0o700,
            "a directory that is not ours keeps its mode"
        );
    } else {
        opened.unwrap().stop().await.unwrap();
    }
}

#[tokio::test]
async fn every_database_of_a_list_is_created_once() {
    let dir = DataDir::create();
    let names: Vec<String> = (0..9).map(|number| format!("d{number}")).collect();
    let cluster = Cluster::open(&ClusterOptions::new(dir.path(), names.clone()))
        .await
        .unwrap();
    let again = Cluster::open(&ClusterOptions::new(dir.path(), names))
        .await
        .unwrap();
    let mut session = again.connect().await.unwrap();
    let row = sqlx::query("SELECT count(*) FROM pg_database WHERE datname ~ '^d[0-9]$'");
    let count: i64 = row.fetch_one(&mut session).await.unwrap().get(0);
    assert_eq!(count, 9);
    drop(session);
    cluster.stop().await.unwrap();
}
