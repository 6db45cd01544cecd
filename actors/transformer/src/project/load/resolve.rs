//! Names into unique ids: what is missing, and what runs in a ring.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

use super::unit_tests::Input;
use super::{Loader, versions};
use crate::error::{Place, ProjectError, nearest_hint};
use crate::graph::Graph;
use crate::project::node::{Exposure, Node, Source};

impl Loader {
    /// Turns names into ids, and finds what is missing and what runs in a ring.
    pub(super) fn resolve(&mut self) -> Result<Graph, ProjectError> {
        let mut resolved: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut left_out = Vec::new();
        for node in self.nodes.values() {
            match self.resolve_node(node) {
                Ok(ids) => {
                    resolved.insert(node.unique_id.clone(), ids);
                }
                Err(error) if node.is_test() => left_out.push((node.unique_id.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        for (id, error) in left_out {
            self.leave_out(id, &error);
        }
        for source in self.sources.keys() {
            resolved.entry(source.clone()).or_default();
        }
        self.resolve_units(&mut resolved)?;
        self.resolve_semantics(&mut resolved)?;
        self.resolve_exposures(&mut resolved)?;
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
            } else if let Some(exposure) = self.exposures.get_mut(&id) {
                exposure.depends_on = ids;
            } else if let Some(semantic) = self.semantics.get_mut(&id) {
                semantic.depends_on = ids;
            }
        }
        self.point_constraints();
        Ok(graph)
    }

    fn resolve_node(&self, node: &Node) -> Result<Vec<String>, ProjectError> {
        let mut ids: Vec<String> = Vec::new();
        for (package, name) in &node.refs {
            ids.push(self.resolve_ref(node, package.as_deref(), name)?);
        }
        for (source, table) in &node.sources {
            ids.push(self.resolve_source(node, source, table)?);
        }
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        Ok(ids)
    }

    /// A test of something that is not there does not run: without a word if that is disabled.
    fn leave_out(&mut self, id: String, error: &ProjectError) {
        if !self.is_of_disabled(error) {
            self.warnings.push(format!("{error}; the test is left out"));
        }
        self.nodes.remove(&id);
        self.disabled_ids.push(id);
    }

    fn is_of_disabled(&self, error: &ProjectError) -> bool {
        match error {
            ProjectError::MissingRef { name, .. } => self.disabled.contains(name),
            ProjectError::MissingSource { name, .. } => {
                let end = format!(".{name}");
                let mut sources = self.disabled_ids.iter();
                sources.any(|id| id.starts_with("source.") && id.ends_with(&end))
            }
            _ => false,
        }
    }

    /// `to: ref('x')` of a foreign key as the relation that it means.
    fn point_constraints(&mut self) {
        let ids: Vec<String> = self
            .nodes
            .values()
            .filter(|node| {
                let columns = node.columns.iter().flat_map(|column| &column.constraints);
                let mut all = columns.chain(&node.constraints);
                all.any(|constraint| constraint.get("to").is_some())
            })
            .map(|node| node.unique_id.clone())
            .collect();
        for id in ids {
            let Some(mut node) = self.nodes.remove(&id) else {
                continue;
            };
            let package = node.package.clone();
            let columns = node.columns.iter_mut().flat_map(|it| &mut it.constraints);
            for constraint in columns.chain(&mut node.constraints) {
                let named = constraint.get("to").and_then(Json::as_str);
                let relation = match named.and_then(super::unit_tests::input) {
                    Some(Input::Ref(given, name)) => {
                        find_ref(&self.nodes, &self.root, &package, given.as_deref(), &name)
                            .map(Node::relation_name)
                    }
                    Some(Input::Source(source, table)) => {
                        find_source(&self.sources, &package, &source, &table)
                            .map(Source::relation_name)
                    }
                    _ => None,
                };
                if let Some(relation) = relation {
                    constraint["to"] = relation.into();
                }
            }
            self.nodes.insert(id, node);
        }
    }

    fn place_of(&self, node: &Node, needle: &str) -> Place {
        if node.test.is_some() || node.raw_code.is_empty() {
            return node.place.clone();
        }
        let quoted = [format!("'{needle}'"), format!("\"{needle}\"")];
        let found = quoted
            .iter()
            .find(|quoted| node.raw_code.contains(quoted.as_str()));
        match found {
            Some(quoted) => Place::find(node.file(), &node.raw_code, quoted),
            None => node.place.clone(),
        }
    }

    pub(super) fn resolve_ref(
        &self,
        node: &Node,
        package: Option<&str>,
        name: &str,
    ) -> Result<String, ProjectError> {
        find_ref(&self.nodes, &self.root, &node.package, package, name)
            .map(|found| found.unique_id.clone())
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

    pub(super) fn resolve_source(
        &self,
        node: &Node,
        source: &str,
        table: &str,
    ) -> Result<String, ProjectError> {
        if let Some(found) = find_source(&self.sources, &node.package, source, table) {
            return Ok(found.unique_id.clone());
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

    /// A unit test stands on its model, and each of its inputs on something that the model reads.
    fn resolve_units(
        &mut self,
        resolved: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), ProjectError> {
        let units: Vec<String> = self
            .nodes
            .values()
            .filter(|node| node.unit_test.is_some())
            .map(|node| node.unique_id.clone())
            .collect();
        for id in units {
            let Some(mut node) = self.nodes.remove(&id) else {
                continue;
            };
            let Some(mut unit) = node.unit_test.take() else {
                continue;
            };
            unit.model_id = match self.resolve_ref(&node, None, &unit.model) {
                Err(error) if self.is_of_disabled(&error) => {
                    self.disabled_ids.push(id);
                    continue;
                }
                found => found?,
            };
            for given in &mut unit.given {
                given.unique_id = match super::unit_tests::input(&given.input) {
                    Some(Input::Ref(package, name)) => {
                        self.resolve_ref(&node, package.as_deref(), &name)?
                    }
                    Some(Input::Source(source, table)) => {
                        self.resolve_source(&node, &source, &table)?
                    }
                    Some(Input::This) => String::new(),
                    Some(Input::Metric(_)) | None => {
                        return Err(ProjectError::Yaml {
                            place: node.place.clone(),
                            message: format!(
                                "the input '{}' of unit test '{}' is neither ref(…), source(…) nor this",
                                given.input, node.name
                            ),
                        });
                    }
                };
            }
            resolved.insert(id.clone(), vec![unit.model_id.clone()]);
            if let Some(model) = self.nodes.get(&unit.model_id) {
                node.relation = model.relation.renamed(node.relation.identifier.clone());
            }
            node.unit_test = Some(unit);
            self.nodes.insert(id, node);
        }
        Ok(())
    }

    fn metric_of_exposure(&self, exposure: &Exposure, name: &str) -> Result<String, ProjectError> {
        self.find_metric(&exposure.package, name)
            .ok_or_else(|| ProjectError::Yaml {
                place: exposure.place.clone(),
                message: format!(
                    "exposure '{}' depends on the metric '{name}', which is not declared",
                    exposure.name
                ),
            })
    }

    fn resolve_exposures(
        &self,
        resolved: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), ProjectError> {
        for exposure in self.exposures.values() {
            let asking = self.asking(&exposure.unique_id, &exposure.package, &exposure.place);
            let mut ids = Vec::new();
            for (source, table) in &exposure.sources {
                ids.push(self.resolve_source(&asking, source, table)?);
            }
            for (package, name) in &exposure.refs {
                ids.push(self.resolve_ref(&asking, package.as_deref(), name)?);
            }
            for name in &exposure.metrics {
                ids.push(self.metric_of_exposure(exposure, name)?);
            }
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(id.clone()));
            resolved.insert(exposure.unique_id.clone(), ids);
        }
        Ok(())
    }
}

/// Kinds of nodes that a `ref` may name.
const REFERABLE: [&str; 3] = ["model", "seed", "snapshot"];

/// The node that a `ref` names: of the package given, else of the one that asks, of the root
/// project, or of any other.
pub(in crate::project) fn find_ref<'n>(
    nodes: &'n BTreeMap<String, Node>,
    root: &str,
    asking: &str,
    package: Option<&str>,
    name: &str,
) -> Option<&'n Node> {
    let of = |package: &str| {
        REFERABLE
            .iter()
            .find_map(|kind| nodes.get(&format!("{kind}.{package}.{name}")))
            .or_else(|| versions::latest(nodes, package, name))
    };
    match package {
        Some(package) => of(package),
        None => of(asking).or_else(|| of(root)).or_else(|| {
            nodes.values().find(|node| {
                node.answers_to(name) && REFERABLE.contains(&node.resource_type.name())
            })
        }),
    }
}

/// The source that is declared under a name, in the asking package or in any.
pub(in crate::project) fn find_source<'n>(
    sources: &'n BTreeMap<String, Source>,
    asking: &str,
    source: &str,
    table: &str,
) -> Option<&'n Source> {
    sources
        .get(&format!("source.{asking}.{source}.{table}"))
        .or_else(|| {
            let mut all = sources.values();
            all.find(|known| known.source_name == source && known.name == table)
        })
}
