//! The join graph: which cubes can be joined from which, and whose rows that multiplies.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Model, Relationship};

/// Cubes joined from a root; each edge adds one cube.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinTree {
    pub root: usize,
    /// `(from, index of the join in from's list)`, parents before children.
    pub edges: Vec<(usize, usize)>,
}

impl JoinTree {
    /// The tree that reaches every one of `cubes` with the fewest joins, rooted at one of them (the
    /// first wins a tie). `hints` are join paths that must be followed where they lead.
    ///
    /// # Errors
    /// Two cubes between which there is no path.
    pub fn find(
        model: &Model,
        cubes: &[usize],
        hints: &[Vec<usize>],
    ) -> Result<Self, (usize, usize)> {
        let roots: Vec<usize> = match hints.iter().find_map(|path| path.first()) {
            Some(&root) => vec![root],
            None => cubes.to_vec(),
        };
        let mut best: Option<Self> = None;
        let mut unreachable = None;
        for root in roots {
            match Self::rooted(model, root, cubes, hints) {
                Ok(tree)
                    if best
                        .as_ref()
                        .is_none_or(|b| tree.edges.len() < b.edges.len()) =>
                {
                    best = Some(tree);
                }
                Ok(_) => {}
                Err(pair) => unreachable = unreachable.or(Some(pair)),
            }
        }
        best.ok_or_else(|| unreachable.unwrap_or((0, 0)))
    }

    fn rooted(
        model: &Model,
        root: usize,
        cubes: &[usize],
        hints: &[Vec<usize>],
    ) -> Result<Self, (usize, usize)> {
        let mut tree = Self {
            root,
            edges: Vec::new(),
        };
        let mut joined = BTreeSet::from([root]);
        for path in hints {
            for pair in path.windows(2) {
                let join = model.cubes[pair[0]]
                    .joins
                    .iter()
                    .position(|join| join.to == pair[1]);
                let Some(join) = join else {
                    return Err((pair[0], pair[1]));
                };
                if joined.contains(&pair[0]) && joined.insert(pair[1]) {
                    tree.edges.push((pair[0], join));
                }
            }
        }
        let reached = reach(model, root);
        for &cube in cubes {
            if joined.contains(&cube) {
                continue;
            }
            let mut path = Vec::new();
            let mut at = cube;
            while !joined.contains(&at) {
                let Some(&(from, join)) = reached.get(&at) else {
                    return Err((root, cube));
                };
                path.push((from, join));
                at = from;
            }
            for (from, join) in path.into_iter().rev() {
                joined.insert(model.cubes[from].joins[join].to);
                tree.edges.push((from, join));
            }
        }
        Ok(tree)
    }

    /// All cubes of the tree.
    pub fn cubes(&self, model: &Model) -> Vec<usize> {
        std::iter::once(self.root)
            .chain(
                self.edges
                    .iter()
                    .map(|&(from, join)| model.cubes[from].joins[join].to),
            )
            .collect()
    }

    /// Whether joining the tree repeats the rows of `cube`.
    pub fn multiplies(&self, model: &Model, cube: usize) -> bool {
        let mut seen = BTreeSet::from([cube]);
        let mut queue = VecDeque::from([cube]);
        while let Some(at) = queue.pop_front() {
            for &(from, index) in &self.edges {
                let join = &model.cubes[from].joins[index];
                let (next, to_many) = if from == at {
                    (join.to, join.relationship == Relationship::OneToMany)
                } else if join.to == at {
                    (from, join.relationship == Relationship::ManyToOne)
                } else {
                    continue;
                };
                if seen.insert(next) {
                    if to_many {
                        return true;
                    }
                    queue.push_back(next);
                }
            }
        }
        false
    }
}

/// For each cube that joins lead to from `root`, the join that arrives there on a shortest path.
fn reach(model: &Model, root: usize) -> HashMap<usize, (usize, usize)> {
    let mut reached = HashMap::new();
    let mut queue = VecDeque::from([root]);
    while let Some(at) = queue.pop_front() {
        for (index, join) in model.cubes[at].joins.iter().enumerate() {
            if join.to != root && !reached.contains_key(&join.to) {
                reached.insert(join.to, (at, index));
                queue.push_back(join.to);
            }
        }
    }
    reached
}

/// Numbers the connected components of the joins, from 1; a cube without any has none.
pub(crate) fn components(model: &mut Model) {
    let mut neighbours: HashMap<usize, Vec<usize>> = HashMap::new();
    for (from, cube) in model.cubes.iter().enumerate() {
        for join in &cube.joins {
            neighbours.entry(from).or_default().push(join.to);
            neighbours.entry(join.to).or_default().push(from);
        }
    }
    let mut number = 0;
    for start in 0..model.cubes.len() {
        if model.cubes[start].component.is_some() || !neighbours.contains_key(&start) {
            continue;
        }
        number += 1;
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            if model.cubes[at].component.is_none() {
                model.cubes[at].component = Some(number);
                queue.extend(neighbours.get(&at).into_iter().flatten());
            }
        }
    }
}
