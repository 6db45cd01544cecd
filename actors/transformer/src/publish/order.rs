//! In which order a build takes its nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::steps::Build;

impl Build<'_> {
    /// Every node after what it waits for; tests as early as they can run, so that a failure is
    /// found before work is done for nothing.
    pub(super) fn order(&self, waits: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
        let rank: HashMap<String, usize> = self
            .project
            .graph
            .order()
            .into_iter()
            .enumerate()
            .map(|(i, id)| (id, i))
            .collect();
        let mut open: BTreeMap<(bool, usize, &String), usize> = BTreeMap::new();
        let mut missing: HashMap<&String, usize> = HashMap::new();
        let mut dependents: HashMap<&String, Vec<&String>> = HashMap::new();
        let key = |id| {
            (
                !self.project.nodes[id].is_test(),
                rank.get(id).copied().unwrap_or(0),
                id,
            )
        };
        for (id, needed) in waits {
            missing.insert(id, needed.len());
            for other in needed {
                dependents.entry(other).or_default().push(id);
            }
            if needed.is_empty() {
                open.insert(key(id), 0);
            }
        }
        let mut order = Vec::with_capacity(waits.len());
        while let Some(((_, _, id), _)) = open.pop_first() {
            order.push(id.clone());
            for dependent in dependents.get(id).into_iter().flatten() {
                let left = missing
                    .get_mut(*dependent)
                    .expect("every waiting node is counted");
                *left -= 1;
                if *left == 0 {
                    open.insert(key(dependent), 0);
                }
            }
        }
        order
    }
}
