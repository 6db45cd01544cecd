//! A file source's checkpoint: which files are loaded, as they were.

use std::collections::BTreeMap;

use ballpoint_runtime::segment::Position;
use serde::{Deserialize, Serialize};

use super::FileStamp;

/// By the file's path, as rows name it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FilePosition {
    files: BTreeMap<String, Loaded>,
}

/// A file when it was loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Loaded {
    size: u64,
    modified: String,
    /// SHA-256 of its bytes: one that was only touched is not read again.
    pub(super) hash: String,
}

impl FilePosition {
    pub(super) fn parse(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone()).ok()
    }

    pub(super) fn to_position(&self) -> Position {
        Position(serde_json::json!(self))
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether this very file is loaded.
    pub(super) fn holds(&self, file: &FileStamp) -> bool {
        self.files.get(&file.url).is_some_and(|loaded| {
            loaded.size == file.size && loaded.modified == file.modified.to_string()
        })
    }

    pub(super) fn get(&self, file: &FileStamp) -> Option<&Loaded> {
        self.files.get(&file.url)
    }

    pub(super) fn put(&mut self, file: &FileStamp, hash: String) {
        let loaded = Loaded {
            size: file.size,
            modified: file.modified.to_string(),
            hash,
        };
        self.files.insert(file.url.clone(), loaded);
    }

    /// Forgets files that are gone.
    pub(super) fn keep_only(&mut self, files: &[FileStamp]) {
        self.files
            .retain(|url, _| files.iter().any(|file| file.url == *url));
    }
}

impl Loaded {
    pub(super) fn has_size(&self, size: u64) -> bool {
        self.size == size
    }
}
