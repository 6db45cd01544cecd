//! The files of a syncs folder, with the line of every complaint.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Sync, check};

/// One thing that is wrong in a sync's file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// Counts from 1; 0 when the file itself cannot be read.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Syncs that cannot be used: every problem in their files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(.problems))]
pub struct DefinitionError {
    pub problems: Vec<Problem>,
}

fn describe(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What one file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    syncs: Vec<Sync>,
}

/// A file's name and text, for the line of a complaint.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// All syncs of a folder, with where each stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Syncs {
    pub(crate) syncs: Vec<Sync>,
    files: BTreeMap<String, File>,
}

impl Syncs {
    /// Reads every `.yml` and `.yaml` in `folder`, in the order of their names, and checks them
    /// against the names of the configured sources. A folder that is not there holds none.
    pub(crate) fn load<'a>(
        folder: &Path,
        sources: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, DefinitionError> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for path in paths(folder)? {
            let file = read(folder, &path)?;
            match serde_norway::from_str::<Document>(&file.text) {
                Ok(document) => {
                    for sync in document.syncs {
                        if let Some(other) = all.files.insert(sync.name.clone(), file.clone()) {
                            problems.push(Problem {
                                line: file.line_of(&sync.name, "name:"),
                                file: file.name.clone(),
                                message: format!(
                                    "sync {} is defined twice, also in {}",
                                    sync.name, other.name
                                ),
                            });
                        }
                        all.syncs.push(sync);
                    }
                }
                Err(error) => problems.push(unreadable(&file, &error)),
            }
        }
        let sources: Vec<&str> = sources.into_iter().collect();
        for sync in &all.syncs {
            let complaints = check::check(sync, &sources).into_iter();
            problems
                .extend(complaints.map(|(needle, message)| all.problem(sync, &needle, message)));
        }
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(DefinitionError { problems })
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Sync> {
        self.syncs.iter().find(|sync| sync.name == name)
    }

    /// A complaint about a sync, at the line on which `needle` stands in it.
    pub(crate) fn problem(&self, sync: &Sync, needle: &str, message: impl Into<String>) -> Problem {
        let file = self.files.get(&sync.name);
        Problem {
            file: file.map(|file| file.name.clone()).unwrap_or_default(),
            line: file.map_or(0, |file| file.line_of(&sync.name, needle)),
            message: format!("sync {}: {}", sync.name, message.into()),
        }
    }
}

impl File {
    /// The line of `needle` within the sync; the sync's first line when it is not found.
    pub(crate) fn line_of(&self, sync: &str, needle: &str) -> usize {
        let is_start = |line: &str| {
            let name = line.trim_start().strip_prefix("- ")?.trim_start();
            let name = name.strip_prefix("name:")?.trim();
            Some(name.trim_matches(['"', '\'']).to_owned())
        };
        let lines: Vec<&str> = self.text.lines().collect();
        let named = |line: &&str| is_start(line).as_deref() == Some(sync);
        let Some(start) = lines.iter().position(named) else {
            return 1;
        };
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mine = lines[start + 1..]
            .iter()
            .take_while(|line| line.trim().is_empty() || indent(line) > indent(lines[start]));
        let found = mine.clone().position(|line| line.contains(needle));
        found.map_or(start + 1, |offset| start + 2 + offset)
    }
}

fn unreadable(file: &File, error: &serde_norway::Error) -> Problem {
    // The reader appends its own "at line n column m".
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
    Problem {
        file: file.name.clone(),
        line: error.location().map_or(1, |place| place.line()),
        message,
    }
}

fn paths(folder: &Path) -> Result<Vec<PathBuf>, DefinitionError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot_read(folder, &error))?.path();
        if path
            .extension()
            .is_some_and(|ext| ext == "yml" || ext == "yaml")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(folder: &Path, path: &Path) -> Result<File, DefinitionError> {
    let text = std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?;
    // As a person names it: the folder's own name and the file's.
    let parent = folder.file_name().map(PathBuf::from).unwrap_or_default();
    let name = parent.join(path.file_name().unwrap_or_default());
    Ok(File {
        name: name.display().to_string(),
        text,
    })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> DefinitionError {
    DefinitionError {
        problems: vec![Problem {
            file: path.display().to_string(),
            line: 0,
            message: format!("cannot be read: {error}"),
        }],
    }
}
