//! Real PostgreSQL for tests: one throw-away cluster per test process, one fresh database per
//! [`TestDatabase`].
//!
//! The cluster starts at first use in a temporary directory, and a watchdog outside the test process ends it
//! and removes the directory when that process is gone, however it went: the watchdog reads from a pipe that
//! only the test process holds open. `BALLPOINT_TEST_DATABASE_URL`, when set, names a server to use instead
//! (its role must be allowed to create databases). Failures panic: a test without its database must fail.

#![expect(
    clippy::missing_panics_doc,
    reason = "panicking is how everything here fails"
)]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::OnceLock,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgPool, postgres::PgConnectOptions,
};
use tokio::sync::OnceCell;

use crate::{
    cluster::{Cluster, ClusterOptions},
    ident,
    pool::{self, PoolOptions},
};

/// Waits until the pipe is closed, then ends the server at once and removes everything. A server that the
/// test killed and nobody waited for counts as alive to `kill`, hence the bound.
const WATCHDOG: &str = r#"
cat >/dev/null
tries=100
while [ $tries -gt 0 ] && pid=$(head -n 1 "$1/pg/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; do
    tries=$((tries - 1))
    sleep 0.05
done
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// Many tests with a pool each share the cluster.
const SETTINGS: [(&str, &str); 5] = [
    ("max_connections", "300"),
    ("shared_buffers", "64MB"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum_naptime", "1h"),
];

/// A new, empty database, dropped (best effort) when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    admin_url: String,
    pool: PgPool,
}

impl TestDatabase {
    /// Creates a database with a name of its own.
    pub async fn create() -> Self {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let admin_url = server_url().await;
        let create = format!("CREATE DATABASE {}", ident::quote(&name));
        run_once(&admin_url, &create).await;
        let url = with_database(&admin_url, &name);
        let options = PoolOptions {
            max_connections: 10,
            ..PoolOptions::named("ballpoint-test")
        };
        let pool = pool::lazy(&url, options).expect("the url of a test database is valid");
        Self {
            url,
            name,
            admin_url,
            pool,
        }
    }

    /// The connection URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool on the database; of its own for each [`TestDatabase`].
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop_it = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            ident::quote(&self.name)
        );
        let admin_url = self.admin_url.clone();
        // The test's own runtime may be ending; on a shared server the database must really go.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a small runtime starts")
                .block_on(run_once(&admin_url, &drop_it));
        });
        if given_url().is_some() {
            let _ = dropper.join();
        }
    }
}

/// The URL of a database on the tests' server in which databases can be created.
async fn server_url() -> String {
    if let Some(url) = given_url() {
        return url;
    }
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let open = || async {
        let mut options = ClusterOptions::new(home(), Vec::<String>::new()).throw_away();
        options.settings = SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Cluster::open(&options)
            .await
            .expect("the tests' cluster starts")
    };
    CLUSTER.get_or_init(open).await.url("postgres")
}

#[expect(
    clippy::disallowed_methods,
    reason = "test harness: there is no configuration here"
)]
fn given_url() -> Option<String> {
    std::env::var("BALLPOINT_TEST_DATABASE_URL")
        .ok()
        .filter(|url| !url.is_empty())
}

/// The data dir of this process's cluster.
fn home() -> &'static Path {
    static HOME: OnceLock<DataDir> = OnceLock::new();
    HOME.get_or_init(DataDir::create).path()
}

/// A data dir for one test. When it is dropped, and when the test process ends in any way, the server that runs
/// on it is ended and the directory removed.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    watchdog: Child,
}

impl DataDir {
    /// Makes an empty directory below the system's temporary directory, guarded from its first moment.
    #[must_use]
    pub fn create() -> Self {
        let closed = std::fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new()
            .prefix("ballpoint-test-")
            .permissions(closed)
            .tempdir();
        let path = dir.expect("a temporary directory can be made").keep();
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "ballpoint-test-watchdog"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Survives a Ctrl-C that ends the tests.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self { path, watchdog }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // What it could not remove it leaves to the system's cleaning of temporary files.
        let _ = self.watchdog.wait();
    }
}

async fn run_once(url: &str, sql: &str) {
    let options = PgConnectOptions::from_str(url).expect("the tests' server has a valid url");
    let connect = options.disable_statement_logging();
    let connecting = tokio::time::timeout(Duration::from_secs(30), connect.connect()).await;
    let mut session = connecting
        .expect("the tests' server answers")
        .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", pool::redact(url)));
    session
        .execute(AssertSqlSafe(sql.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let _ = session.close().await;
}

/// `url` with another database.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..]
        .find('/')
        .map_or(base.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &base[..end])
}

#[cfg(test)]
pub(crate) mod tests;
