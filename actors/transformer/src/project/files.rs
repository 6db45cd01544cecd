//! The files of a project.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::error::{Place, ProjectError};

/// Every file below a folder, sorted; nothing when there is no such folder.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // Asking the file itself costs a call to the system each; only links need it.
            let is_folder = match entry.file_type() {
                Ok(kind) if !kind.is_symlink() => kind.is_dir(),
                _ => path.is_dir(),
            };
            if is_folder {
                pending.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads files of one project by their place in it.
#[derive(Debug)]
pub(crate) struct Reader {
    root: PathBuf,
    ignored: GlobSet,
}

impl Reader {
    /// # Errors
    /// When `.dbtignore` holds a pattern that is none.
    pub(crate) fn new(root: &Path) -> Result<Self, ProjectError> {
        let mut ignored = GlobSetBuilder::new();
        let text = std::fs::read_to_string(root.join(".dbtignore")).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let pattern = line.trim().trim_start_matches('/');
            if pattern.is_empty() || pattern.starts_with('#') {
                continue;
            }
            let pattern = if pattern.ends_with('/') {
                format!("{pattern}**")
            } else {
                pattern.into()
            };
            for pattern in [pattern.clone(), format!("**/{pattern}")] {
                ignored.add(Glob::new(&pattern).map_err(|error| ProjectError::Yaml {
                    place: Place::line(".dbtignore", index + 1),
                    message: error.to_string(),
                })?);
            }
        }
        let ignored = ignored
            .build()
            .map_err(|error| ProjectError::Configuration(format!(".dbtignore: {error}")))?;
        Ok(Self {
            root: root.to_owned(),
            ignored,
        })
    }

    /// The files of a folder with one of the endings, as paths within the project.
    pub(crate) fn list(&self, folder: &str, endings: &[&str]) -> Vec<String> {
        walk(&self.root.join(folder))
            .iter()
            .filter_map(|file| file.strip_prefix(&self.root).ok())
            .filter(|file| !self.ignored.is_match(file))
            .filter(|file| {
                let ending = file.extension().and_then(|ending| ending.to_str());
                ending.is_some_and(|ending| endings.contains(&ending))
            })
            .map(|file| file.to_string_lossy().replace('\\', "/"))
            .collect()
    }

    /// Whether the project has a file.
    pub(crate) fn exists(&self, file: &str) -> bool {
        self.root.join(file).is_file()
    }

    /// The text of a file of the project.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn text(&self, file: &str) -> Result<String, ProjectError> {
        std::fs::read_to_string(self.root.join(file)).map_err(|error| ProjectError::Read {
            place: Place::file(file),
            reason: error.to_string(),
        })
    }
}
