//! Which node is next: what waits for what, what can be done together, what is urgent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::data_tests;
use crate::project::Project;
use crate::project::node::{Materialization, Node, ResourceType};

/// Views that are made in one transaction at most.
const VIEWS_TOGETHER_MAX: usize = 64;

/// What is done in one go on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    One(usize),
    /// Tests of one relation: one query.
    Tests(Vec<usize>),
    /// Views that do not read each other: one transaction.
    Views(Vec<usize>),
}

impl Unit {
    pub(super) fn nodes(&self) -> &[usize] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Tests(list) | Self::Views(list) => list,
        }
    }
}

/// The nodes of a run and the order between them.
pub(super) struct Schedule {
    /// Unique ids, each after what it reads.
    pub(super) ids: Vec<String>,
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    /// How many of a node's needs have not ended.
    missing: Vec<usize>,
    /// How long the longest chain of work behind a node is.
    urgency: Vec<u64>,
    kinds: Vec<Kind>,
    attached: Vec<Option<String>>,
    ready: BTreeSet<(Reverse<u64>, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PlainTest,
    PlainView,
    Other,
}

/// A set of nodes by index.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }
    fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

impl Schedule {
    /// The schedule of the nodes that run. With `tests_block`, as in `dbt build`, a model waits for
    /// the tests of what it reads, and for its own unit tests.
    pub(super) fn new(project: &Project, selected: &BTreeSet<String>, tests_block: bool) -> Self {
        let order = project.graph.order();
        let index_of: HashMap<&str, usize> = order
            .iter()
            .enumerate()
            .map(|(index, id)| (id.as_str(), index))
            .collect();
        let runs =
            |id: &str| selected.contains(id) && project.nodes.get(id).is_some_and(runs_at_all);
        // Over the whole project: what a node reads, and the nearest of it that runs.
        let mut ancestors: Vec<Bits> = Vec::with_capacity(order.len());
        let mut nearest: Vec<BTreeSet<usize>> = Vec::with_capacity(order.len());
        for id in &order {
            let (mut all, mut near) = (Bits::new(order.len()), BTreeSet::new());
            for parent in project.graph.parents(id).iter().map(|id| index_of[id]) {
                all.set(parent);
                all.add(&ancestors[parent]);
                match runs(&order[parent]) {
                    true => {
                        near.insert(parent);
                    }
                    false => near.extend(nearest[parent].iter().copied()),
                }
            }
            ancestors.push(all);
            nearest.push(near);
        }
        let running: Vec<usize> = (0..order.len()).filter(|i| runs(&order[*i])).collect();
        if tests_block {
            block_on_tests(
                project,
                &order,
                &running,
                &ancestors,
                &mut nearest,
                &index_of,
            );
        }
        let place: HashMap<usize, usize> = running
            .iter()
            .enumerate()
            .map(|(place, index)| (*index, place))
            .collect();
        let needs: Vec<Vec<usize>> = running
            .iter()
            .map(|index| nearest[*index].iter().map(|other| place[other]).collect())
            .collect();
        let ids = running.iter().map(|index| order[*index].clone()).collect();
        Self::of(project, ids, needs)
    }

    fn of(project: &Project, ids: Vec<String>, needs: Vec<Vec<usize>>) -> Self {
        let mut dependents = vec![Vec::new(); ids.len()];
        for (index, needed) in needs.iter().enumerate() {
            for other in needed {
                dependents[*other].push(index);
            }
        }
        let missing: Vec<usize> = needs.iter().map(Vec::len).collect();
        let nodes: Vec<&Node> = ids.iter().map(|id| &project.nodes[id]).collect();
        let urgency = urgencies(&nodes, &dependents, &missing);
        let ready = (0..ids.len())
            .filter(|index| missing[*index] == 0)
            .map(|index| (Reverse(urgency[index]), index))
            .collect();
        Self {
            kinds: nodes.iter().map(|node| kind(node)).collect(),
            attached: nodes.iter().map(|n| n.attached_node.clone()).collect(),
            ids,
            needs,
            dependents,
            missing,
            urgency,
            ready,
        }
    }

    /// The most urgent thing that can be done now, with what can be done along with it.
    pub(super) fn next(&mut self, free_threads: usize) -> Option<Unit> {
        let (_, first) = self.ready.pop_first()?;
        let alike = |schedule: &Self, other: usize| {
            schedule.kinds[other] == schedule.kinds[first]
                && schedule.attached[other] == schedule.attached[first]
        };
        let most = match self.kinds[first] {
            Kind::Other => return Some(Unit::One(first)),
            Kind::PlainTest if self.attached[first].is_none() => return Some(Unit::One(first)),
            Kind::PlainTest => data_tests::TOGETHER_MAX,
            Kind::PlainView => {
                let ready = self.ready.iter().filter(|(_, other)| alike(self, *other));
                (1 + ready.count())
                    .div_ceil(free_threads.max(1))
                    .min(VIEWS_TOGETHER_MAX)
            }
        };
        let mut together = vec![first];
        let more: Vec<usize> = self
            .ready
            .iter()
            .map(|(_, other)| *other)
            .filter(|other| alike(self, *other))
            .take(most - 1)
            .collect();
        for other in more {
            self.ready.remove(&(Reverse(self.urgency[other]), other));
            together.push(other);
        }
        Some(match (together.len(), self.kinds[first]) {
            (1, _) => Unit::One(first),
            (_, Kind::PlainTest) => Unit::Tests(together),
            _ => Unit::Views(together),
        })
    }

    /// Notes that a node has ended, however.
    pub(super) fn ended(&mut self, index: usize) {
        for dependent in std::mem::take(&mut self.dependents[index]) {
            self.missing[dependent] -= 1;
            if self.missing[dependent] == 0 {
                self.ready
                    .insert((Reverse(self.urgency[dependent]), dependent));
            }
        }
    }

    /// What a node waited for.
    pub(super) fn needs(&self, index: usize) -> &[usize] {
        &self.needs[index]
    }
}

fn runs_at_all(node: &Node) -> bool {
    !matches!(
        node.materialization,
        Materialization::Ephemeral | Materialization::Nothing
    )
}

/// dbt's rule: a model waits for every test whose parents are all among what the model reads. Its
/// unit tests wait for what the model reads, and the model for them.
fn block_on_tests(
    project: &Project,
    order: &[String],
    running: &[usize],
    ancestors: &[Bits],
    nearest: &mut [BTreeSet<usize>],
    index_of: &HashMap<&str, usize>,
) {
    let tests: Vec<(usize, Vec<usize>)> = running
        .iter()
        .filter_map(|index| {
            let node = &project.nodes[&order[*index]];
            let parents: Vec<usize> = node
                .depends_on
                .iter()
                .filter_map(|id| index_of.get(id.as_str()).copied())
                .collect();
            (node.is_test() && !parents.is_empty()).then_some((*index, parents))
        })
        .collect();
    for index in running {
        if project.nodes[&order[*index]].is_test() {
            continue;
        }
        let above = &ancestors[*index];
        let blocking = tests
            .iter()
            .filter(|(_, parents)| parents.iter().all(|parent| above.has(*parent)))
            .map(|(test, _)| *test);
        nearest[*index].extend(blocking);
    }
    for index in running {
        let node = &project.nodes[&order[*index]];
        let Some(unit) = &node.unit_test else {
            continue;
        };
        let Some(model) = index_of.get(unit.model_id.as_str()).copied() else {
            continue;
        };
        if running.binary_search(&model).is_ok() {
            let of_model = nearest[model].clone();
            let is_unit = |i: &usize| project.nodes[&order[*i]].unit_test.is_some();
            nearest[*index] = of_model.into_iter().filter(|i| !is_unit(i)).collect();
            nearest[model].insert(*index);
        }
    }
}

/// The longest chain of work behind each node: what keeps the most waiting goes first.
fn urgencies(nodes: &[&Node], dependents: &[Vec<usize>], missing: &[usize]) -> Vec<u64> {
    let mut missing = missing.to_vec();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|i| missing[*i] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        for dependent in &dependents[order[at]] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                order.push(*dependent);
            }
        }
        at += 1;
    }
    let mut urgency = vec![0_u64; nodes.len()];
    for index in order.into_iter().rev() {
        let behind = dependents[index]
            .iter()
            .map(|other| urgency[*other] + effort(nodes[*other]));
        urgency[index] = behind.max().unwrap_or(0);
    }
    urgency
}

/// How long a node takes, in views: a guess that only orders.
fn effort(node: &Node) -> u64 {
    match node.materialization {
        Materialization::View | Materialization::UnitTest => 1,
        Materialization::Test => 2,
        _ => 8,
    }
}

fn kind(node: &Node) -> Kind {
    let has = |key: &str| {
        node.config
            .get(key)
            .is_some_and(|value| !matches!(value, serde_json::Value::Null))
            && node.config[key] != serde_json::json!([])
            && node.config[key] != serde_json::json!({})
            && node.config[key] != serde_json::json!(false)
    };
    match node.resource_type {
        ResourceType::Test if !has("store_failures") && !has("store_failures_as") => {
            Kind::PlainTest
        }
        ResourceType::Model
            if node.materialization == Materialization::View
                && ![
                    "pre-hook",
                    "post-hook",
                    "grants",
                    "persist_docs",
                    "sql_header",
                ]
                .iter()
                .any(|key| has(key))
                && !node.is_contracted() =>
        {
            Kind::PlainView
        }
        _ => Kind::Other,
    }
}

/// What each of the selected nodes waits for, among the selected nodes, however far up.
pub(crate) fn waits_for(
    project: &Project,
    selected: &BTreeSet<String>,
    tests_block: bool,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut waits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in selected.iter().filter(|id| project.nodes.contains_key(*id)) {
        // Through what is not selected too: the order holds for what is left.
        let ancestors = project.graph.ancestors(id, None);
        let mut needed: BTreeSet<String> = ancestors.intersection(selected).cloned().collect();
        let is_test = project.nodes[id].is_test();
        if tests_block && !is_test {
            let blocking = selected
                .iter()
                .filter_map(|test| project.nodes.get(test))
                .filter(|test| {
                    test.is_test()
                        && !test.depends_on.is_empty()
                        && test
                            .depends_on
                            .iter()
                            .all(|parent| ancestors.contains(parent))
                });
            needed.extend(blocking.map(|test| test.unique_id.clone()));
        }
        needed.retain(|other| project.nodes.contains_key(other));
        waits.insert(id.clone(), needed);
    }
    waits
}
