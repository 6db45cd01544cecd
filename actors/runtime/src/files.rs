//! Project files that people edit while we run: what they are, and when an edit is whole.
//!
//! Most editors save by emptying a file and writing it again. A look between the two sees a file
//! that nobody wrote: an empty model is a failed build, an empty metrics file takes cubes away. So
//! what was read from files that changed counts only if they are the same a moment later:
//! [`read_whole`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at files that change: far longer than a save takes, too short to be felt.
const QUIET: Duration = Duration::from_millis(25);

/// Whoever writes a file for longer than this has it read as it is.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);

/// Every file of a project with its time of change and size (bytes): equal stamps, equal files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStamps(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

impl FileStamps {
    /// The files named or below the folders named, as they are now. What is not there is left out.
    pub fn take(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let mut files = BTreeMap::new();
        let mut pending: Vec<PathBuf> = paths.into_iter().map(|p| p.as_ref().to_owned()).collect();
        while let Some(path) = pending.pop() {
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
                pending.extend(entries.map(|entry| entry.path()));
            } else {
                files.insert(path, (metadata.modified().ok(), metadata.len()));
            }
        }
        Self(files)
    }

    /// When the newest of them changed.
    pub fn newest(&self) -> Option<SystemTime> {
        self.0.values().filter_map(|(changed, _)| *changed).max()
    }
}

/// What `read` returns, read again until its files are the same after a pause as they were before
/// it read, which is what `is_current` tells. Blocks for at least one pause and at most about two
/// seconds.
pub fn read_whole<T>(mut read: impl FnMut() -> T, is_current: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let found = read();
        std::thread::sleep(QUIET);
        if is_current(&found) || started.elapsed() > QUIET_WAIT_MAX {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_added_edited_or_removed_changes_the_stamps() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/a.yml");
        let take = || FileStamps::take([folder.path()]);
        let empty = take();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        assert_eq!(take(), empty);
        std::fs::write(&file, "one").unwrap();
        let one = take();
        assert_ne!(one, empty);
        std::fs::write(&file, "longer").unwrap();
        assert_ne!(take(), one);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(take(), empty);
    }

    #[test]
    fn half_a_save_is_never_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.sql");
        std::fs::write(&file, "").unwrap();
        let mut looks = 0;
        let (_, text) = read_whole(
            || {
                looks += 1;
                let stamps = FileStamps::take([&file]);
                let text = std::fs::read_to_string(&file).unwrap();
                if looks == 1 {
                    std::fs::write(&file, "select 2 as two").unwrap();
                }
                (stamps, text)
            },
            |(stamps, _)| *stamps == FileStamps::take([&file]),
        );
        assert_eq!((looks, text.as_str()), (2, "select 2 as two"));
    }
}
