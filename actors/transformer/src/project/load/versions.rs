//! Versions of models: their files, their names, and which of them a `ref` means.

use std::collections::{BTreeMap, HashSet};

use super::{Loader, Paths};
use crate::project::node::{Node, Version};
use crate::project::properties::Patch;

/// The version that a `ref` without one means.
pub(super) fn latest<'n>(
    nodes: &'n BTreeMap<String, Node>,
    package: &str,
    name: &str,
) -> Option<&'n Node> {
    let prefix = format!("model.{package}.{name}.v");
    nodes
        .range(prefix.clone()..)
        .take_while(|(id, _)| id.starts_with(&prefix))
        .map(|(_, node)| node)
        .find(|node| node.name == name && node.version.as_ref().is_some_and(Version::is_latest))
}

/// The name of a model in ids and in a `ref`: with its version, if it has one.
pub(super) fn full_name(name: &str, version: Option<&Version>) -> String {
    match version {
        Some(version) => format!("{name}.{}", version.label()),
        None => name.to_owned(),
    }
}

/// The name of a model's relation and in its tests' names, unless another is given.
pub(super) fn plain_name(name: &str, version: Option<&Version>) -> String {
    match version {
        Some(version) => format!("{name}_{}", version.label()),
        None => name.to_owned(),
    }
}

impl Loader {
    /// The descriptions with the files that they are of: that of a latest version may lack the
    /// version in its name.
    pub(super) fn with_files(&self, mut patches: Vec<Patch>, paths: &Paths) -> Vec<Patch> {
        let is_latest = |patch: &Patch| patch.version.as_ref().is_some_and(Version::is_latest);
        if !patches.iter().any(is_latest) {
            return patches;
        }
        let mut stems: HashSet<String> = HashSet::new();
        for folder in &paths.models {
            for file in self.package.reader.list(folder, &["sql"]) {
                stems.extend(self.fqn(folder, &file).pop());
            }
        }
        for patch in &mut patches {
            if is_latest(patch) && !stems.contains(&patch.stem) {
                patch.stem.clone_from(&patch.name);
            }
        }
        patches
    }
}
