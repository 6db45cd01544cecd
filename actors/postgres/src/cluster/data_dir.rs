//! The data dir: its layout, who owns what in it, and `state.json`.
//!
//! ```text
//! <data dir>/        0700; as root 0711, so that PostgreSQL's user reaches pg/
//!   pg/              PGDATA, 0700, owned by the user that runs PostgreSQL; appears complete or not at all
//!   pg.new.<pid>/    an initdb that has not finished; thrown away at the next start
//!   postgres.log     the server's log of the current and the last start
//!   state.json       0600; a section per writer, ours is `cluster`
//!   lock             held by `up`
//! ```

use std::{
    fmt,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ClusterError, server_user::ServerUser};

const STATE_FILE: &str = "state.json";
const CLUSTER_SECTION: &str = "cluster";

/// What must stay the same for as long as the data dir lives.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ClusterState {
    pub(super) port: u16,
    pub(super) password: String,
    /// Tells this cluster from any other that may answer on the port.
    pub(super) system_identifier: u64,
    pub(super) postgres_version: String,
}

impl fmt::Debug for ClusterState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        let Self {
            port,
            system_identifier,
            postgres_version,
            ..
        } = self;
        write!(
            formatter,
            "ClusterState {{ {port}, {system_identifier}, {postgres_version} }}"
        )
    }
}

/// The paths in one data dir.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// How the directories of initdbs that have not finished begin.
const PG_NEW: &str = "pg.new.";

impl Layout {
    /// Creates the data dir if it is missing, and resolves its path.
    pub(super) fn open(root: &Path) -> Result<Self, ClusterError> {
        create(root).map_err(|source| ClusterError::data_dir(root, source))?;
        let root = root
            .canonicalize()
            .map_err(|source| ClusterError::data_dir(root, source))?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn pg(&self) -> PathBuf {
        self.root.join("pg")
    }

    /// Where this process runs initdb. Each has its own: one that outlives a killed process goes on
    /// writing under its name.
    pub(super) fn pg_new(&self) -> PathBuf {
        self.root.join(format!("{PG_NEW}{}", std::process::id()))
    }

    /// Throws away what interrupted initdbs left. What one still writes to is left for next time.
    pub(super) fn remove_interrupted(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PG_NEW) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.root.join("initdb.password")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.pg().join("PG_VERSION").exists()
    }

    /// The PostgreSQL major that made `pg/`.
    pub(super) fn cluster_major(&self) -> Result<u32, ClusterError> {
        let path = self.pg().join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(|e| ClusterError::data_dir(&path, e))?;
        let major = text
            .trim()
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        major.ok_or_else(|| {
            let reason = format!("{:?} is no version", text.trim());
            ClusterError::data_dir(&path, io::Error::new(io::ErrorKind::InvalidData, reason))
        })
    }

    /// The system identifier: the first field of `global/pg_control`, in the machine's byte order.
    pub(super) fn system_identifier(&self, pg: &Path) -> Result<u64, ClusterError> {
        let path = pg.join("global/pg_control");
        let bytes = fs::read(&path).map_err(|e| ClusterError::data_dir(&path, e))?;
        let first = bytes.first_chunk::<8>().ok_or_else(|| {
            ClusterError::data_dir(&path, io::Error::from(io::ErrorKind::UnexpectedEof))
        })?;
        Ok(u64::from_ne_bytes(*first))
    }

    pub(super) fn read_state(&self) -> Result<Option<ClusterState>, ClusterError> {
        let section = read_section(&self.root, CLUSTER_SECTION)
            .map_err(|e| ClusterError::data_dir(&self.root.join(STATE_FILE), e))?;
        section
            .map(serde_json::from_value)
            .transpose()
            .map_err(|e| ClusterError::data_dir(&self.root.join(STATE_FILE), io::Error::from(e)))
    }

    pub(super) fn write_state(&self, state: &ClusterState) -> Result<(), ClusterError> {
        let section = serde_json::to_value(state).expect("a plain struct is always JSON");
        write_section(&self.root, CLUSTER_SECTION, section)
            .map_err(|e| ClusterError::data_dir(&self.root.join(STATE_FILE), e))
    }

    /// Checks that `user` can walk from `/` down to the data dir.
    pub(super) fn check_reachable(&self, user: &ServerUser) -> Result<(), ClusterError> {
        for dir in self.root.ancestors() {
            let metadata = fs::metadata(dir).map_err(|e| ClusterError::data_dir(dir, e))?;
            if !user.may_enter(&metadata) {
                return Err(ClusterError::NotReachable {
                    data_dir: self.root.clone(),
                    dir: dir.to_owned(),
                    user: user.name.clone(),
                    mode: metadata.mode() & 0o7777,
                });
            }
        }
        Ok(())
    }
}

/// Creates a data dir with its parents. Directories that exist already keep their modes, but for a data
/// dir of root's that is still empty or already Ballpoint's.
///
/// # Errors
/// When a directory cannot be created.
pub fn create(dir: &Path) -> io::Result<()> {
    let as_root = rustix::process::geteuid().is_root();
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
    missing.retain(|path| !path.as_os_str().is_empty());
    for path in missing.iter().rev() {
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        if as_root {
            fs::set_permissions(path, Permissions::from_mode(0o711))?;
        } else if *path == dir {
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
    }
    let metadata = fs::metadata(dir)?;
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    if as_root && metadata.uid() == 0 && metadata.mode() & 0o011 != 0o011 && is_ours(dir)? {
        fs::set_permissions(
            dir,
            Permissions::from_mode(metadata.mode() & 0o7777 | 0o011),
        )?;
    }
    Ok(())
}

fn is_ours(dir: &Path) -> io::Result<bool> {
    let marks = ["pg", STATE_FILE, "lock", "token"];
    let mut names = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .peekable();
    let is_empty = names.peek().is_none();
    let is_mark = |name: String| marks.contains(&name.as_str()) || name.starts_with(PG_NEW);
    Ok(is_empty || names.any(is_mark))
}

/// A section of the data dir's `state.json`; `None` when the file or the section is missing.
///
/// # Errors
/// When the file cannot be read or is no JSON object.
pub fn read_section(data_dir: &Path, section: &str) -> io::Result<Option<Value>> {
    Ok(read_state_file(data_dir)?.remove(section))
}

/// Replaces one section of the data dir's `state.json` and keeps the others. The file is readable by
/// its owner only and is never seen half-written. Writers are expected to hold the data dir's lock.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write_section(data_dir: &Path, section: &str, value: Value) -> io::Result<()> {
    let mut state = read_state_file(data_dir)?;
    state.insert(section.to_owned(), value);
    let mut text = serde_json::to_string_pretty(&state)?;
    text.push('\n');
    let draft = data_dir.join(format!("{STATE_FILE}.{}", std::process::id()));
    write_secret(&draft, text.as_bytes())?;
    fs::rename(&draft, data_dir.join(STATE_FILE))
}

fn read_state_file(data_dir: &Path) -> io::Result<Map<String, Value>> {
    match fs::read(data_dir.join(STATE_FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error),
    }
}

/// Writes a file that only its owner can read, durably.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_section(dir.path(), "cluster").unwrap(), None);
        write_section(dir.path(), "cluster", json!({"port": 1})).unwrap();
        write_section(dir.path(), "listen", json!("127.0.0.1:4000")).unwrap();
        write_section(dir.path(), "cluster", json!({"port": 2})).unwrap();
        assert_eq!(
            read_section(dir.path(), "cluster").unwrap(),
            Some(json!({"port": 2}))
        );
        assert_eq!(
            read_section(dir.path(), "listen").unwrap(),
            Some(json!("127.0.0.1:4000"))
        );
        let mode = fs::metadata(dir.path().join(STATE_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no draft is left behind"
        );
    }

    #[test]
    fn a_broken_state_file_is_an_error_and_not_an_empty_state() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STATE_FILE), "{ \"cluster\": ").unwrap();
        assert!(read_section(dir.path(), "cluster").is_err());
        assert!(write_section(dir.path(), "listen", json!(1)).is_err());
    }

    #[test]
    fn a_file_where_the_data_dir_should_be_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(create(&file).is_err());
        assert!(create(&file.join("below")).is_err());
        create(&dir.path().join("a/b")).unwrap();
    }
}
