//! What reads what: the order of a build, its rings, its ancestors and descendants.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// The dependency graph over unique ids of nodes and sources.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    graph: DiGraph<String, ()>,
    index: HashMap<String, NodeIndex>,
}

impl Graph {
    /// A graph of `id → what it depends on`; a dependency that is not a key becomes a root.
    pub(crate) fn new(depends_on: &BTreeMap<String, Vec<String>>) -> Self {
        let mut graph = Self::default();
        for (id, parents) in depends_on {
            let child = graph.add(id);
            for parent in parents {
                let parent = graph.add(parent);
                graph.graph.update_edge(parent, child, ());
            }
        }
        graph
    }

    fn add(&mut self, id: &str) -> NodeIndex {
        if let Some(index) = self.index.get(id) {
            return *index;
        }
        let index = self.graph.add_node(id.to_owned());
        self.index.insert(id.to_owned(), index);
        index
    }

    /// The nodes of a ring, in the order in which they depend on each other.
    pub(crate) fn cycle(&self) -> Option<Vec<String>> {
        let rings = tarjan_scc(&self.graph);
        let ring = rings.into_iter().find(|ring| {
            ring.len() > 1
                || ring
                    .iter()
                    .any(|node| self.graph.contains_edge(*node, *node))
        })?;
        let mut names: Vec<String> = ring.iter().rev().map(|i| self.graph[*i].clone()).collect();
        names.push(names[0].clone());
        Some(names)
    }

    /// Every id after what it depends on, and by name where that leaves a choice. Nodes of a ring
    /// are left out.
    pub(crate) fn order(&self) -> Vec<String> {
        let mut missing: HashMap<NodeIndex, usize> = HashMap::new();
        let mut open: BTreeSet<(&str, NodeIndex)> = BTreeSet::new();
        for index in self.graph.node_indices() {
            let parents = self
                .graph
                .neighbors_directed(index, petgraph::Direction::Incoming)
                .count();
            missing.insert(index, parents);
            if parents == 0 {
                open.insert((&self.graph[index], index));
            }
        }
        let mut order = Vec::with_capacity(missing.len());
        while let Some((id, index)) = open.pop_first() {
            order.push(id.to_owned());
            for child in self
                .graph
                .neighbors_directed(index, petgraph::Direction::Outgoing)
            {
                let left = missing.get_mut(&child).expect("every node is counted");
                *left -= 1;
                if *left == 0 {
                    open.insert((&self.graph[child], child));
                }
            }
        }
        order
    }

    fn neighbours(&self, id: &str, direction: petgraph::Direction) -> Vec<&str> {
        let Some(index) = self.index.get(id) else {
            return Vec::new();
        };
        let mut found: Vec<&str> = self
            .graph
            .neighbors_directed(*index, direction)
            .map(|other| self.graph[other].as_str())
            .collect();
        found.sort_unstable();
        found
    }

    /// What the id reads directly.
    pub(crate) fn parents(&self, id: &str) -> Vec<&str> {
        self.neighbours(id, petgraph::Direction::Incoming)
    }

    /// What reads the id directly.
    pub(crate) fn children(&self, id: &str) -> Vec<&str> {
        self.neighbours(id, petgraph::Direction::Outgoing)
    }

    /// What the id reads, directly or not, up to `depth` steps.
    pub(crate) fn ancestors(&self, id: &str, depth: Option<usize>) -> BTreeSet<String> {
        self.reach(id, depth, petgraph::Direction::Incoming)
    }

    /// What reads the id, directly or not, up to `depth` steps.
    pub(crate) fn descendants(&self, id: &str, depth: Option<usize>) -> BTreeSet<String> {
        self.reach(id, depth, petgraph::Direction::Outgoing)
    }

    fn reach(
        &self,
        id: &str,
        depth: Option<usize>,
        direction: petgraph::Direction,
    ) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut edge = vec![id.to_owned()];
        let mut steps = 0;
        while !edge.is_empty() && depth.is_none_or(|depth| steps < depth) {
            let next: Vec<String> = edge
                .iter()
                .flat_map(|id| self.neighbours(id, direction))
                .filter(|id| !found.contains(*id))
                .map(str::to_owned)
                .collect();
            found.extend(next.iter().cloned());
            edge = next;
            steps += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let map = edges
            .iter()
            .map(|(id, parents)| {
                (
                    (*id).to_owned(),
                    parents.iter().map(|p| (*p).to_owned()).collect(),
                )
            })
            .collect();
        Graph::new(&map)
    }

    #[test]
    fn an_order_puts_every_node_after_what_it_reads() {
        let order = graph(&[("c", &["b", "a"]), ("b", &["a"]), ("a", &[])]).order();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn a_ring_is_named_and_descendants_stop_at_their_depth() {
        assert!(graph(&[("a", &["b"]), ("b", &["a"])]).cycle().is_some());
        let chain = graph(&[("b", &["a"]), ("c", &["b"]), ("d", &["c"])]);
        assert_eq!(chain.cycle(), None);
        assert_eq!(chain.descendants("a", Some(2)).len(), 2);
        assert_eq!(chain.ancestors("d", None).len(), 3);
    }
}
