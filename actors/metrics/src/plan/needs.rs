//! What a member needs joined: the cubes whose columns it reads, and the paths that lead there.

use std::collections::{BTreeSet, VecDeque};

use super::error::QueryError;
use crate::model::{MemberId, Model};

/// The join paths of a view's member, or of those that a query's own measure names.
pub(super) fn collect_hints(model: &Model, id: MemberId, hints: &mut Vec<Vec<usize>>) {
    let member = model.member(id);
    if let Some(origin) = &member.origin {
        hints.extend((origin.path.len() > 1).then(|| origin.path.clone()));
        return;
    }
    if model.computed.is_empty() || !member.alias.starts_with("computed_") {
        return;
    }
    for inner in member.templates().iter().flat_map(|sql| sql.members()) {
        collect_hints(model, inner, hints);
    }
}

/// The cubes whose columns a member needs, its own first.
pub(super) fn collect_cubes(
    model: &Model,
    id: MemberId,
    cubes: &mut Vec<usize>,
    seen: &mut BTreeSet<MemberId>,
) {
    if !seen.insert(id) {
        return;
    }
    if let Some(origin) = &model.member(id).origin {
        return collect_cubes(model, origin.member, cubes, seen);
    }
    let member = model.member(id);
    let sub_query = member
        .dimension()
        .is_some_and(|dimension| dimension.sub_query);
    let templates = member.templates();
    // A calculation over members of others reads nothing of its own cube.
    let foreign = !sub_query
        && !templates.is_empty()
        && member
            .measure()
            .is_none_or(|measure| measure.aggregation.is_calculated())
        && templates
            .iter()
            .all(|t| t.cubes().next().is_none() && t.members().next().is_some());
    let mut direct: Vec<usize> = templates.iter().flat_map(|t| t.cubes()).collect();
    if !foreign {
        direct.insert(0, id.cube);
    }
    for cube in direct {
        if !cubes.contains(&cube) {
            cubes.push(cube);
        }
    }
    if sub_query {
        return;
    }
    let stage = member.measure().and_then(|measure| measure.stage.as_ref());
    let added = stage
        .iter()
        .flat_map(|stage| stage.add_group_by.iter().copied());
    let references: Vec<MemberId> = templates
        .iter()
        .flat_map(|t| t.members())
        .chain(added)
        .collect();
    for reference in references {
        collect_cubes(model, reference, cubes, seen);
    }
}

/// Every member that these lead to, they themselves first: what a view's member stands for, what an
/// expression reads. What stands behind a sub-query dimension is another query's.
pub(crate) fn reached(model: &Model, from: impl IntoIterator<Item = MemberId>) -> Vec<MemberId> {
    let mut found: Vec<MemberId> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending: VecDeque<MemberId> = from.into_iter().collect();
    while let Some(id) = pending.pop_front() {
        if !seen.insert(id) {
            continue;
        }
        found.push(id);
        let member = model.member(id);
        pending.extend(member.origin.as_ref().map(|origin| origin.member));
        let is_sub_query = member.dimension().is_some_and(|it| it.sub_query);
        if member.origin.is_some() || is_sub_query {
            continue;
        }
        let stage = member.measure().and_then(|measure| measure.stage.as_ref());
        pending.extend(stage.iter().flat_map(|stage| stage.add_group_by.iter()));
        let templates = member.templates();
        pending.extend(templates.iter().flat_map(|it| it.members()));
    }
    found
}

/// Two cubes that no chain of joins connects.
pub(super) fn no_path(model: &Model, (from, to): (usize, usize)) -> QueryError {
    let (from, to) = (&model.cubes[from].name, &model.cubes[to].name);
    QueryError::Unplannable(format!("Can't find join path to join '{from}', '{to}'"))
}
