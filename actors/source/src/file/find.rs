//! The files that a path or a pattern means, as they are now.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

/// A file at one moment: while size and time of change stay, so does what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// As rows name it: relative to the project where it lies in it.
    pub url: String,
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    pub modified: Timestamp,
}

/// The files of `path` below `folder`, by name.
pub(super) fn files(folder: &Path, path: &str) -> Result<Vec<FileStamp>, String> {
    let whole = folder.join(path);
    let mut found = Vec::new();
    if is_pattern(path) {
        let matcher = matcher(&whole)?;
        collect(&base(&whole), &matcher, &mut found)?;
    } else if whole.is_file() {
        found.push(whole.clone());
    }
    if found.is_empty() {
        return Err(match is_pattern(path) {
            true => format!(
                "no file matches {path}, which is looked for in {}",
                base(&whole).display()
            ),
            false => format!("{} is not there, or is no file", whole.display()),
        });
    }
    found.sort();
    found.into_iter().map(|path| stamp(folder, path)).collect()
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

fn matcher(pattern: &Path) -> Result<GlobMatcher, String> {
    GlobBuilder::new(&pattern.to_string_lossy())
        // `*` stays within a folder; `**` goes through all below.
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| {
            format!(
                "path {} cannot be read: {}",
                pattern.display(),
                error.kind()
            )
        })
}

/// The folder that holds everything a pattern can match.
fn base(pattern: &Path) -> PathBuf {
    pattern
        .components()
        .take_while(|part| !is_pattern(&part.as_os_str().to_string_lossy()))
        .collect()
}

fn collect(folder: &Path, matcher: &GlobMatcher, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            // A link back up would never end.
            if !path.is_symlink() {
                collect(&path, matcher, found)?;
            }
        } else if matcher.is_match(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn stamp(folder: &Path, path: PathBuf) -> Result<FileStamp, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(&path).map_err(|error| failed(&error))?;
    let modified = metadata.modified().map_err(|error| failed(&error))?;
    let modified = Timestamp::try_from(modified).map_err(|error| failed(&error))?;
    Ok(FileStamp {
        url: path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned(),
        size: metadata.len(),
        modified,
        path,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pattern_finds_its_files_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "a.txt", "deep/er/c.csv"] {
            let path = folder.path().join("data").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let urls = |path: &str| -> Vec<String> {
            let found = files(folder.path(), path).unwrap();
            found.into_iter().map(|file| file.url).collect()
        };
        assert_eq!(urls("data/*.csv"), ["data/a.csv", "data/b.csv"]);
        assert_eq!(
            urls("data/**/*.csv"),
            ["data/a.csv", "data/b.csv", "data/deep/er/c.csv"]
        );
        assert_eq!(urls("data/a.{csv,txt}"), ["data/a.csv", "data/a.txt"]);
        assert_eq!(urls("data/a.txt"), ["data/a.txt"]);
        for (path, words) in [
            ("data/*.json", "no file matches data/*.json"),
            ("data/none.csv", "is not there"),
            ("none/*.csv", "none"),
            ("data/[a.csv", "cannot be read"),
        ] {
            let error = files(folder.path(), path).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
    }
}
