//! Ballpoint's own PostgreSQL: one cluster per data dir, with one database a source and one for the warehouse.
//!
//! `open` leads to a running cluster by the first way that works: adopt the one that already runs on this data
//! dir (an orphan of a killed process), else start it, after an initdb if the data dir is new. Port and password
//! are fixed per data dir. Only loopback is listened on, passwords are SCRAM, fsync stays on, and root drops
//! to an unprivileged user. Dropping a [`Cluster`] leaves the server running, to be adopted; `stop` ends it.

mod binaries;
pub mod data_dir;
mod error;
mod postmaster;
mod server_user;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use rand::{RngExt, distr::Alphanumeric};
use rustix::process::Pid;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

pub use self::binaries::{Installation, installation};
pub use self::error::ClusterError;
use self::{
    data_dir::{ClusterState, Layout},
    postmaster::{PidFile, Setting, is_alive},
    server_user::ServerUser,
};
use crate::{ident, pool};

const SUPERUSER: &str = "postgres";
const PASSWORD_CHARACTERS: usize = 32;
/// Below the ports that systems hand to outgoing connections, so that none of those squats on ours.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_ATTEMPTS_MAX: usize = 20;
const DATABASES_AT_ONCE_MAX: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that has our pid but does not answer as ours may take to go away.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(5);

/// What cluster to open.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Created if missing.
    pub data_dir: PathBuf,
    /// Databases that must exist; missing ones are created, others left alone.
    pub databases: Vec<String>,
    /// Where `initdb` and `postgres` are; `None` searches the machine.
    pub bin_dir: Option<PathBuf>,
    /// Further server settings, for this start only.
    pub settings: Vec<(String, String)>,
    /// False only for tests' throw-away clusters.
    durable: bool,
}

impl ClusterOptions {
    /// A cluster in `data_dir` with these databases.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        databases: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            databases: databases.into_iter().map(Into::into).collect(),
            bin_dir: None,
            settings: Vec::new(),
            durable: true,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn throw_away(mut self) -> Self {
        self.durable = false;
        self
    }

    fn server_settings(&self) -> Vec<Setting> {
        let fixed = [
            ("listen_addresses", "127.0.0.1"),
            // TCP alone: a socket's path would limit how deep a project may lie.
            ("unix_socket_directories", ""),
            ("cluster_name", "ballpoint"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("wal_level", "logical"),
            ("max_replication_slots", "16"),
            ("max_wal_senders", "16"),
            // A forgotten slot must not fill the disk.
            ("max_slot_wal_keep_size", "4GB"),
            ("client_connection_check_interval", "5s"),
            ("idle_in_transaction_session_timeout", "5min"),
            ("fsync", if self.durable { "on" } else { "off" }),
        ];
        let fixed = fixed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        fixed.chain(self.settings.iter().cloned()).collect()
    }
}

/// How `open` came to a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A new data dir: initdb and a first start.
    Created,
    /// The existing cluster was started.
    Started,
    /// The cluster was already running.
    Adopted,
}

/// A running cluster. Dropping it leaves the server running.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    state: ClusterState,
    pid: Pid,
    opened: Opened,
}

impl Cluster {
    /// Brings the cluster of a data dir up and creates the databases that are missing.
    ///
    /// The caller holds the data dir's lock ([`crate::lock`]) if several processes may do this.
    ///
    /// # Errors
    /// In one line and with what to do about it, see [`ClusterError`].
    pub async fn open(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let layout = Layout::open(&options.data_dir)?;
        let cluster = match adopt(&layout).await? {
            Some(cluster) => cluster,
            None => start(layout, options).await?,
        };
        let mut session = cluster.connect().await?;
        cluster.check_identity(&mut session).await?;
        create_missing(&mut session, &cluster.state, &options.databases).await?;
        // The answer to a goodbye is of no interest.
        let _ = session.close().await;
        let port = cluster.state.port;
        tracing::info!(port, opened = ?cluster.opened, "embedded postgresql is ready");
        Ok(cluster)
    }

    /// The connection URL of a database, with the password: not for logs.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let ClusterState { port, password, .. } = &self.state;
        let database = percent_encode(database);
        format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The port, fixed for the life of the data dir.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.state.port
    }

    /// The process id of the server.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether the cluster was created, started or found running.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The server's version as its binaries say it, e.g. `15.20`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.state.postgres_version
    }

    /// Whether the server's process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        is_alive(self.pid)
    }

    /// Stops the server: clients are disconnected, a checkpoint is written.
    ///
    /// # Errors
    /// When the process cannot be signalled or does not end within a minute.
    pub async fn stop(self) -> Result<(), ClusterError> {
        postmaster::stop(self.pid).await
    }

    async fn connect(&self) -> Result<PgConnection, ClusterError> {
        pool::connect_once(&admin_options(&self.state), CONNECT_TIMEOUT)
            .await
            .map_err(ClusterError::Connect)
    }

    async fn check_identity(&self, session: &mut PgConnection) -> Result<(), ClusterError> {
        let found = system_identifier(session)
            .await
            .map_err(ClusterError::Catalogue)?;
        let expected = self.state.system_identifier;
        if found == expected {
            return Ok(());
        }
        let data_dir = self.layout.root().to_owned();
        Err(ClusterError::OtherServer {
            port: self.state.port,
            data_dir,
            expected,
            found,
        })
    }
}

/// Finds the cluster of this data dir running, and takes it as it is.
async fn adopt(layout: &Layout) -> Result<Option<Cluster>, ClusterError> {
    if !layout.has_cluster() {
        return Ok(None);
    }
    let Some(mut state) = layout.read_state()? else {
        return Err(ClusterError::StateLost {
            data_dir: layout.root().to_owned(),
        });
    };
    let opened_at = Instant::now();
    // It may be starting up or going down: both end by themselves.
    while opened_at.elapsed() < postmaster::START_TIMEOUT {
        let Some(file) = PidFile::read(&layout.pg()).filter(|file| is_alive(file.pid)) else {
            return Ok(None);
        };
        if postmaster::is_another_program(file.pid) {
            // The server would take that program for a running server, and refuse to start.
            let stale = layout.pg().join("postmaster.pid");
            std::fs::remove_file(&stale).map_err(|e| ClusterError::data_dir(&stale, e))?;
            return Ok(None);
        }
        if file.ready {
            state.port = file.port;
            match probe(&state).await {
                Probe::Ours => {
                    let layout = layout.clone();
                    return Ok(Some(Cluster {
                        layout,
                        state,
                        pid: file.pid,
                        opened: Opened::Adopted,
                    }));
                }
                // Dying, or the file is stale and its pid now another server's: then ours will say so.
                Probe::NobodyOrForeign if opened_at.elapsed() > FOREIGN_PATIENCE => {
                    return Ok(None);
                }
                Probe::NobodyOrForeign => {}
                Probe::Busy => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(None)
}

enum Probe {
    Ours,
    Busy,
    NobodyOrForeign,
}

async fn probe(state: &ClusterState) -> Probe {
    let session = pool::connect_once(&admin_options(state), CONNECT_TIMEOUT).await;
    let mut session = match session {
        Ok(session) => session,
        // 57P03: starting up or shutting down; 53300: too many connections.
        Err(pool::ConnectError::Refused {
            code: Some(code), ..
        }) if code == "57P03" || code == "53300" => {
            return Probe::Busy;
        }
        Err(_) => return Probe::NobodyOrForeign,
    };
    let found = system_identifier(&mut session).await;
    let _ = session.close().await;
    match found {
        Ok(found) if found == state.system_identifier => Probe::Ours,
        Ok(_) => Probe::NobodyOrForeign,
        Err(_) => Probe::Busy,
    }
}

/// Starts the server, after an initdb where there is no cluster yet.
async fn start(layout: Layout, options: &ClusterOptions) -> Result<Cluster, ClusterError> {
    let is_new = !layout.has_cluster();
    let major = if is_new {
        None
    } else {
        Some(layout.cluster_major()?)
    };
    let (bin_dir, root) = (options.bin_dir.clone(), layout.root().to_owned());
    let find = move || binaries::find(bin_dir.as_deref(), major, &root);
    let binaries = tokio::task::spawn_blocking(find)
        .await
        .expect("the search does not panic")?;

    let user = ServerUser::choose(&layout.pg())?;
    if let Some(user) = &user {
        layout.check_reachable(user)?;
    }
    let mut state = if is_new {
        create_cluster(&layout, &binaries, user.as_ref(), options.durable).await?
    } else {
        let lost = || ClusterError::StateLost {
            data_dir: layout.root().to_owned(),
        };
        layout.read_state()?.ok_or_else(lost)?
    };
    let settings = options.server_settings();
    let mut attempts = if is_new { PORT_ATTEMPTS_MAX } else { 1 };
    let pid = loop {
        attempts -= 1;
        match postmaster::start(&binaries, &layout, user.as_ref(), state.port, &settings).await {
            Err(ClusterError::PortTaken { .. }) if attempts > 0 => {
                state.port = random_port();
                layout.write_state(&state)?;
            }
            result => break result?,
        }
    };
    if state.postgres_version != binaries.version {
        state.postgres_version = binaries.version;
        layout.write_state(&state)?;
    }
    let opened = if is_new {
        Opened::Created
    } else {
        Opened::Started
    };
    Ok(Cluster {
        layout,
        state,
        pid,
        opened,
    })
}

/// Makes `pg/` and its state. An interruption leaves either nothing or a whole cluster.
async fn create_cluster(
    layout: &Layout,
    binaries: &binaries::Binaries,
    user: Option<&ServerUser>,
    durable: bool,
) -> Result<ClusterState, ClusterError> {
    let (pg, pg_new, password_file) = (layout.pg(), layout.pg_new(), layout.password_file());
    let at = |path: &std::path::Path| {
        let path = path.to_owned();
        move |error| ClusterError::data_dir(&path, error)
    };
    layout.remove_interrupted();
    std::fs::create_dir(&pg_new).map_err(at(&pg_new))?;
    let password = random_password();
    data_dir::write_secret(&password_file, password.as_bytes()).map_err(at(&password_file))?;
    if let Some(user) = user {
        user.own(&pg_new)?;
        user.own(&password_file)?;
    }
    let made = postmaster::initdb(binaries, layout, user).await;
    std::fs::remove_file(&password_file).map_err(at(&password_file))?;
    made?;
    if durable {
        postmaster::sync(&pg_new).await.map_err(at(&pg_new))?;
    }
    let mut state = ClusterState {
        port: random_port(),
        password,
        system_identifier: layout.system_identifier(&pg_new)?,
        postgres_version: binaries.version.clone(),
    };
    // A dozen looks is plenty: the range is wide, and the start itself finds a lost race.
    for _ in 0..PORT_ATTEMPTS_MAX {
        if postmaster::is_free(state.port) {
            break;
        }
        state.port = random_port();
    }
    // The state first: a cluster without its password would be lost.
    layout.write_state(&state)?;
    std::fs::rename(&pg_new, &pg).map_err(at(&pg))?;
    Ok(state)
}

/// Creates what is missing, a session each: creating a database mostly waits for the disk.
async fn create_missing(
    session: &mut PgConnection,
    state: &ClusterState,
    databases: &[String],
) -> Result<(), ClusterError> {
    let existing: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
        .fetch_all(&mut *session)
        .await
        .map_err(ClusterError::Catalogue)?;
    let missing = databases
        .iter()
        .filter(|database| !existing.contains(database));
    let created = missing.map(|database| create_database(state, database));
    futures_util::stream::iter(created)
        .buffer_unordered(DATABASES_AT_ONCE_MAX)
        .try_collect::<()>()
        .await
}

async fn create_database(state: &ClusterState, database: &str) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::CreateDatabase {
        database: database.to_owned(),
        source,
    };
    let mut session = pool::connect_once(&admin_options(state), CONNECT_TIMEOUT)
        .await
        .map_err(ClusterError::Connect)?;
    let create = format!("CREATE DATABASE {}", ident::quote(database));
    match session.execute(AssertSqlSafe(create)).await {
        Ok(_) => {}
        // A killed process's statement that was still at work on the server made it.
        Err(error) if says_it_exists(&error) => {}
        Err(error) => return Err(failed(error)),
    }
    let _ = session.close().await;
    Ok(())
}

/// `duplicate_database`, or the unique index of database names when both are made at once.
fn says_it_exists(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|error| match error.code().as_deref() {
        Some("42P04") => true,
        Some("23505") => error.constraint() == Some("pg_database_datname_index"),
        _ => false,
    })
}

fn admin_options(state: &ClusterState) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(state.port)
        .username(SUPERUSER)
        .password(&state.password)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .application_name("ballpoint-cluster")
        .disable_statement_logging()
}

async fn system_identifier(session: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let text: String =
        sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()")
            .fetch_one(session)
            .await?;
    // The server shows the unsigned identifier as a signed bigint.
    text.parse::<i64>()
        .map(i64::cast_unsigned)
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

fn random_password() -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(PASSWORD_CHARACTERS)
        .map(char::from)
        .collect()
}

fn random_port() -> u16 {
    rand::rng().random_range(PORTS)
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
