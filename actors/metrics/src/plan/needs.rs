//! What a member needs joined: the cubes whose columns it reads, and the paths that lead there.

use std::collections::{BTreeSet, VecDeque};

use super::error::QueryError;
use crate::model::{MemberId, Model, Part};

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
        if let Some(origin) = &member.origin {
            pending.push_back(origin.member);
            continue;
        }
        if member.dimension().is_some_and(|it| it.sub_query) {
            continue;
        }
        if let Some(stage) = member.measure().and_then(|measure| measure.stage.as_ref()) {
            pending.extend(&stage.add_group_by);
            let own = stage.filter.iter().flat_map(|filter| &filter.include);
            own.for_each(|filter| filter.each_member(&mut |name| pending.extend(model.find(name))));
        }
        for part in member.templates().iter().flat_map(|it| &it.parts) {
            match part {
                Part::Member(id) => pending.push_back(*id),
                Part::Granularity(id, name) => {
                    pending.push_back(*id);
                    pending.extend(cut_by(model, *id, name));
                }
                _ => {}
            }
        }
    }
    found
}

/// The same with what stands behind sub-query dimensions.
pub(crate) fn reached_anyhow(
    model: &Model,
    from: impl IntoIterator<Item = MemberId>,
) -> Vec<MemberId> {
    let mut all = reached(model, from);
    let mut at = 0;
    while let Some(&id) = all.get(at) {
        at += 1;
        if model.member(id).dimension().is_some_and(|it| it.sub_query) {
            let templates = model.member(id).templates();
            let inside = reached(model, templates.iter().flat_map(|it| it.members()));
            let new = inside.into_iter().filter(|id| !all.contains(id));
            all.extend(new.collect::<Vec<_>>());
        }
    }
    all
}

/// The members that a granularity of a time dimension's own reads.
pub(super) fn cut_by(model: &Model, id: MemberId, granularity: &str) -> Vec<MemberId> {
    let own = model.member(id).dimension().into_iter();
    let own = own.flat_map(|dimension| &dimension.granularities);
    own.filter(|it| it.name == granularity)
        .filter_map(|it| it.sql.as_ref())
        .flat_map(|sql| sql.members())
        .collect()
}

/// Two cubes that no chain of joins connects.
pub(super) fn no_path(model: &Model, (from, to): (usize, usize)) -> QueryError {
    let (from, to) = (&model.cubes[from].name, &model.cubes[to].name);
    QueryError::Unplannable(format!("Can't find join path to join '{from}', '{to}'"))
}
