//! What can go wrong with the embedded cluster; each in one line that says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::pool::ConnectError;

/// Why the embedded cluster is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or directory of the data dir could not be read or written.
    #[error("data dir: {}: {source}", .path.display())]
    DataDir {
        /// What was being read or written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The user that runs PostgreSQL cannot walk to the data dir.
    #[error(
        "user {user}, who runs postgresql for root, cannot enter {} (mode {mode:04o}), so not reach the data dir \
         {}: choose another one with --data-dir", .dir.display(), .data_dir.display()
    )]
    NotReachable {
        /// The data dir.
        data_dir: PathBuf,
        /// The directory that is closed.
        dir: PathBuf,
        /// Who is kept out.
        user: String,
        /// Its permission bits.
        mode: u32,
    },
    /// PostgreSQL refuses to run as root and there is nobody to drop to.
    #[error(
        "postgresql does not run as root, and neither user postgres nor nobody is in /etc/passwd: \
         start as another user, or create one"
    )]
    NoUnprivilegedUser,
    /// No server on this machine.
    #[error(
        "no postgresql 14 or newer found (initdb and postgres): install it (apt-get install postgresql, \
         dnf install postgresql-server, brew install postgresql), or give every database a url in ballpoint.toml"
    )]
    NoPostgres,
    /// The configured directory does not hold a usable server.
    #[error("no usable postgresql in {}: {reason}", .bin_dir.display())]
    BinariesUnusable {
        /// As configured.
        bin_dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data was made by another major version.
    #[error(
        "data dir {} was made by PostgreSQL {cluster_major}, found here: {found}; install PostgreSQL {cluster_major}, \
         move the data with pg_upgrade or pg_dump, or choose another --data-dir", .data_dir.display()
    )]
    OtherMajor {
        /// The data dir.
        data_dir: PathBuf,
        /// The major that made it.
        cluster_major: u32,
        /// The best version on this machine.
        found: String,
    },
    /// `pg/` is there, but not what tells its port and password.
    #[error(
        "data dir {} has a cluster but no state.json with its port and password: restore that file, or choose \
         another --data-dir", .data_dir.display()
    )]
    StateLost {
        /// The data dir.
        data_dir: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed: {reason}")]
    Initdb {
        /// Its last line.
        reason: String,
    },
    /// Something else listens on the port that belongs to this data dir.
    #[error(
        "port {port} of data dir {} is taken by another process: stop that process, or set another port in state.json",
        .data_dir.display()
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The data dir.
        data_dir: PathBuf,
    },
    /// The server ended or did not become ready.
    #[error("postgresql did not start: {reason} (log: {})", .log.display())]
    Start {
        /// The server's own words where it gave any.
        reason: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The server runs but cannot be reached.
    #[error("the embedded postgresql cannot be reached")]
    Connect(#[source] ConnectError),
    /// Another server than ours answers.
    #[error(
        "the server on port {port} is not the cluster of data dir {} (system identifier {found}, not {expected})",
        .data_dir.display()
    )]
    OtherServer {
        /// The port.
        port: u16,
        /// The data dir.
        data_dir: PathBuf,
        /// The identifier in `state.json`.
        expected: u64,
        /// What answered.
        found: u64,
    },
    /// A statement of ours failed.
    #[error("cannot create database {database:?}")]
    CreateDatabase {
        /// Its name.
        database: String,
        /// The database's error.
        source: sqlx::Error,
    },
    /// The catalogue of the running server could not be read.
    #[error("cannot read the embedded postgresql's catalogue")]
    Catalogue(#[source] sqlx::Error),
    /// The server did not end.
    #[error("postgresql (pid {pid}) could not be stopped: {reason}")]
    Stop {
        /// Its process.
        pid: i32,
        /// Why.
        reason: String,
    },
}

impl ClusterError {
    pub(super) fn data_dir(path: &Path, source: io::Error) -> Self {
        Self::DataDir {
            path: path.to_owned(),
            source,
        }
    }
}
