//! Names into unique ids: what is missing, and what runs in a ring.

use std::collections::{BTreeMap, HashSet};

use super::Loader;
use crate::error::{Place, ProjectError, nearest_hint};
use crate::graph::Graph;
use crate::project::node::Node;

impl Loader {
    /// Turns names into ids, and finds what is missing and what runs in a ring.
    pub(super) fn resolve(&mut self) -> Result<Graph, ProjectError> {
        let mut resolved: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in self.nodes.values() {
            let mut ids: Vec<String> = Vec::new();
            for (package, name) in &node.refs {
                ids.push(self.resolve_ref(node, package.as_deref(), name)?);
            }
            for (source, table) in &node.sources {
                ids.push(self.resolve_source(node, source, table)?);
            }
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(id.clone()));
            resolved.insert(node.unique_id.clone(), ids);
        }
        for source in self.sources.keys() {
            resolved.entry(source.clone()).or_default();
        }
        let graph = Graph::new(&resolved);
        if let Some(ring) = graph.cycle() {
            let place = self
                .nodes
                .get(&ring[0])
                .map(|node| node.place.clone())
                .unwrap_or_default();
            return Err(ProjectError::Cycle {
                place,
                path: ring.join(" -> "),
            });
        }
        for (id, ids) in resolved {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.depends_on = ids;
            }
        }
        Ok(graph)
    }

    fn place_of(&self, node: &Node, needle: &str) -> Place {
        if node.test.is_some() {
            return node.place.clone();
        }
        let quoted = [format!("'{needle}'"), format!("\"{needle}\"")];
        let found = quoted
            .iter()
            .find(|quoted| node.raw_code.contains(quoted.as_str()));
        match found {
            Some(quoted) => Place::find(&node.original_file_path, &node.raw_code, quoted),
            None => node.place.clone(),
        }
    }

    fn resolve_ref(
        &self,
        node: &Node,
        package: Option<&str>,
        name: &str,
    ) -> Result<String, ProjectError> {
        let package = package.unwrap_or(&self.name);
        ["model", "seed"]
            .iter()
            .map(|kind| format!("{kind}.{package}.{name}"))
            .find(|id| self.nodes.contains_key(id))
            .ok_or_else(|| {
                let known = self.nodes.values().filter(|node| !node.is_test());
                let hint = match self.disabled.contains(name) {
                    true => " (it is disabled)".to_owned(),
                    false => nearest_hint(name, known.map(|node| node.name.as_str())),
                };
                ProjectError::MissingRef {
                    place: self.place_of(node, name),
                    from: node.unique_id.clone(),
                    name: name.to_owned(),
                    hint,
                }
            })
    }

    fn resolve_source(
        &self,
        node: &Node,
        source: &str,
        table: &str,
    ) -> Result<String, ProjectError> {
        let id = format!("source.{}.{source}.{table}", self.name);
        if self.sources.contains_key(&id) {
            return Ok(id);
        }
        let known: Vec<String> = self
            .sources
            .values()
            .map(|source| format!("{}.{}", source.source_name, source.name))
            .collect();
        let name = format!("{source}.{table}");
        Err(ProjectError::MissingSource {
            place: self.place_of(node, table),
            from: node.unique_id.clone(),
            hint: nearest_hint(&name, known.iter().map(String::as_str)),
            name,
        })
    }
}
