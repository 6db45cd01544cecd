//! What a connector logs, in a file of bounded size beside the one before it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ballpoint_runtime::redact::Secrets;

/// Two files of this size are kept.
const BYTES_MAX: u64 = 4 << 20;
const LINE_CHARS_MAX: usize = 4000;

/// The log of one connector. What cannot be written is not worth a failed sync.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    secrets: Secrets,
    open: Mutex<Option<(File, u64)>>,
}

impl Log {
    pub(crate) fn new(path: PathBuf, secrets: Secrets) -> Self {
        Self {
            path,
            secrets,
            open: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line without secrets, and returns it.
    pub(crate) fn write(&self, line: &str) -> String {
        let shown = self.secrets.hide(line.trim_end());
        let shown: String = match shown.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) => format!("{} …", &shown[..end]),
            None => shown,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&mut open, &self.path, &shown) {
            tracing::debug!(path = %self.path.display(), %error, "a connector's log cannot be written");
            *open = None;
        }
        shown
    }
}

fn append(open: &mut Option<(File, u64)>, path: &Path, line: &str) -> std::io::Result<()> {
    if open.as_ref().is_some_and(|(_, bytes)| *bytes > BYTES_MAX) {
        *open = None;
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    if open.is_none() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        *open = Some((file, bytes));
    }
    if let Some((file, bytes)) = open {
        writeln!(file, "{line}")?;
        *bytes += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_log_holds_no_secret_and_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connectors/a.log");
        let log = Log::new(path.clone(), Secrets::new(["hunter22"]));
        assert_eq!(log.write("password hunter22\n"), "password ***");
        let long = "x".repeat(3999);
        for _ in 0..2500 {
            log.write(&long);
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) + size(&path.with_extension("log.1")) < 2 * BYTES_MAX + 10_000);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter22"));
    }
}
