//! One owner per data dir: an advisory lock that the system drops with the process, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::cluster::data_dir;

/// The file in the data dir that carries the lock; it holds the owner's pid, for messages.
const LOCK_FILE: &str = "lock";

/// Why the lock could be neither taken nor found held.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock data dir {}", .dir.display())]
pub struct LockError {
    dir: PathBuf,
    #[source]
    source: io::Error,
}

/// The lock of a data dir, held until dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the lock of `dir`, creating the directory if need be; `None` when another process has it.
    ///
    /// # Errors
    /// When the directory or the lock file cannot be created or locked.
    pub fn acquire(dir: &Path) -> Result<Option<Self>, LockError> {
        lock(dir).map_err(|source| LockError {
            dir: dir.to_owned(),
            source,
        })
    }

    /// Whether somebody holds the lock of `dir`; neither the folder nor the lock's file is made.
    ///
    /// # Errors
    /// When the lock's file cannot be opened.
    pub fn is_held(dir: &Path) -> Result<bool, LockError> {
        let file = match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => {
                let dir = dir.to_owned();
                return Err(LockError { dir, source });
            }
        };
        Ok(flock(&file, FlockOperation::NonBlockingLockShared)
            == Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// The pid of the process that holds the lock of `dir`, as it wrote it down.
    #[must_use]
    pub fn holder(dir: &Path) -> Option<u32> {
        let mut text = String::new();
        File::open(dir.join(LOCK_FILE))
            .ok()?
            .read_to_string(&mut text)
            .ok()?;
        text.trim().parse().ok()
    }
}

fn lock(dir: &Path) -> io::Result<Option<DataDirLock>> {
    data_dir::create(dir)?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(dir.join(LOCK_FILE))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(DataDirLock { _file: file }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_learns_that_the_lock_is_held_and_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        assert!(!DataDirLock::is_held(&data_dir).unwrap());
        assert!(!data_dir.exists(), "who only looks makes nothing");
        let lock = DataDirLock::acquire(&data_dir).unwrap().unwrap();
        assert!(DataDirLock::acquire(&data_dir).unwrap().is_none());
        assert!(DataDirLock::is_held(&data_dir).unwrap());
        assert_eq!(DataDirLock::holder(&data_dir), Some(std::process::id()));
        drop(lock);
        assert!(DataDirLock::acquire(&data_dir).unwrap().is_some());
    }
}
