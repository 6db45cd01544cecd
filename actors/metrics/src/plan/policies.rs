//! What the caller's access policies add to a query: row filters, masks, or that nothing is seen.
//!
//! As in Cube, access is found member by member, for every member that a query leads to, whatever
//! names it: what a view's member stands for, what an expression reads, what rows are sorted by. A
//! member is read where a policy grants it; the rows that are seen are those that, for each member, one
//! of its policies shows.

use std::collections::BTreeSet;

use super::ColumnKind;
use super::error::QueryError;
use super::needs::{collect_cubes, cut_by, reached};
use super::normalize::{ANOTHER_TIME, Normalized, resolve_filter};
use super::resolve::{Lookup, Resolved};
use crate::model::template::{RawPart, split};
use crate::model::{MemberId, Model, Policy, claim_path};
use crate::query::{Filter, FilterValue};

/// How much of a member's values the caller sees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Masked {
    Nowhere,
    /// Wherever these do not all hold of the row.
    Unless(Vec<Filter>),
    Everywhere,
}

impl Masked {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everywhere, _) | (_, Self::Everywhere) => Self::Everywhere,
            (Self::Nowhere, it) | (it, Self::Nowhere) => it,
            (Self::Unless(mut all), Self::Unless(more)) => {
                all.extend(more);
                Self::Unless(all)
            }
        }
    }
}

impl Lookup<'_> {
    pub(super) fn add_policies(
        &self,
        query: &Normalized,
        resolved: &mut Resolved,
    ) -> Result<(), QueryError> {
        let mut read = reached(self.model, self.named(resolved));
        self.add_default_filters(query, &read, resolved);
        resolved.row_filters = self.row_filters(&read, resolved)?;
        let mut at = 0;
        while let Some(&id) = read.get(at) {
            at += 1;
            match self.masked(id)? {
                Masked::Nowhere => {}
                masked => drop(resolved.masked.insert(id, masked)),
            }
            let dimension = self.model.member(id).dimension();
            if !dimension.is_some_and(|it| it.sub_query) {
                continue;
            }
            // Behind it stands a query of its own, with rows of its own.
            let templates = self.model.member(id).templates();
            let inside = reached(self.model, templates.iter().flat_map(|it| it.members()));
            let filters = self.row_filters(&inside, resolved)?;
            resolved.inner_filters.insert(id, filters);
            let new = inside.into_iter().filter(|id| !read.contains(id));
            read.extend(new.collect::<Vec<_>>());
        }
        resolved.date_policies(query)
    }

    /// The members that the query says.
    fn named(&self, resolved: &Resolved) -> Vec<MemberId> {
        let columns = resolved.dimensions.iter().chain(&resolved.measures);
        let mut members: Vec<MemberId> = columns.clone().map(|column| column.member).collect();
        for column in columns {
            if let ColumnKind::Time { granularity } = &column.kind {
                members.extend(cut_by(self.model, column.member, granularity));
            }
        }
        members.extend(&resolved.segments);
        members.extend(resolved.ranges.iter().map(|range| range.0));
        members.extend(resolved.order.iter().flatten().map(|(id, _)| *id));
        members.extend(members_of(self.model, &resolved.filters));
        members
    }

    /// The default filters of the views that the query reads, unless it says otherwise.
    fn add_default_filters(&self, query: &Normalized, read: &[MemberId], resolved: &mut Resolved) {
        let views: BTreeSet<usize> = read.iter().map(|id| id.cube).collect();
        let mut asked = members_of(self.model, &query.query.filters);
        asked.extend(resolved.ranges.iter().map(|range| range.0));
        for default in views
            .iter()
            .flat_map(|view| &self.model.cubes[*view].default_filters)
        {
            let unless = |id: &MemberId| default.unless.contains(&self.model.member(*id).full_name);
            if !asked.iter().any(unless) {
                resolved.filters.push(default.filter.clone());
            }
        }
    }

    fn applying(&self, cube: usize) -> Vec<&Policy> {
        let policies = self.model.cubes[cube].policies.iter().flatten();
        policies
            .filter(|policy| policy.applies_to(self.context))
            .collect()
    }

    /// Where policies hide the member's values: what one shows of some rows only it does not show of
    /// the others, and never of an aggregate over both.
    pub(super) fn masked(&self, id: MemberId) -> Result<Masked, QueryError> {
        let member = self.model.member(id);
        let behind = match &member.origin {
            Some(origin) => self.masked(origin.member)?,
            None => Masked::Nowhere,
        };
        if member.is_brought_along() {
            return Ok(behind);
        }
        let applying = self.applying(id.cube);
        let hides = |it: &&Policy| it.allows(&member.name) && !it.shows(&member.name);
        let showing = applying.iter().copied();
        let showing: Vec<&Policy> = showing.filter(|it| it.shows(&member.name)).collect();
        let is_open = showing.iter().any(|it| it.row_filters.is_empty());
        if is_open || !applying.iter().any(hides) {
            return Ok(behind);
        }
        if showing.is_empty() || member.dimension().is_none_or(|it| it.sub_query) {
            return Ok(Masked::Everywhere);
        }
        let shown = self.rows_of(&showing)?;
        Ok(match self.is_told_beside(&shown, id) {
            true => behind.and(Masked::Unless(shown)),
            false => Masked::Everywhere,
        })
    }

    /// Whether conditions can be asked of a row wherever the member is read from it.
    fn is_told_beside(&self, conditions: &[Filter], id: MemberId) -> bool {
        let cubes_of = |id: MemberId| {
            let mut cubes = Vec::new();
            collect_cubes(self.model, id, &mut cubes, &mut BTreeSet::new());
            cubes
        };
        let there = cubes_of(id);
        let asked = members_of(self.model, conditions);
        reached(self.model, asked).into_iter().all(|id| {
            let dimension = self.model.member(id).dimension();
            let is_plain = dimension.is_some_and(|it| !it.sub_query);
            is_plain && cubes_of(id).iter().all(|cube| there.contains(cube))
        })
    }

    /// The conditions on rows for who reads these members: each of them, and every cube that is
    /// read, needs a policy that grants it.
    fn row_filters(
        &self,
        read: &[MemberId],
        resolved: &mut Resolved,
    ) -> Result<Vec<Filter>, QueryError> {
        let templates = read
            .iter()
            .flat_map(|id| self.model.member(*id).templates());
        let mut cubes: BTreeSet<usize> = templates.flat_map(|it| it.cubes()).collect();
        cubes.extend(read.iter().map(|id| id.cube));
        let mut filters = Vec::new();
        for cube in cubes {
            if self.model.cubes[cube].policies.is_none() {
                continue;
            }
            let applying = self.applying(cube);
            let members = read.iter().filter(|id| id.cube == cube);
            let members = members.map(|id| self.model.member(*id));
            let mut grants: Vec<Vec<&Policy>> = members
                .filter(|it| !it.is_brought_along())
                .map(|member| {
                    let allowing = applying.iter().copied();
                    allowing.filter(|it| it.allows(&member.name)).collect()
                })
                .collect();
            // Its columns are read under no member's name.
            if grants.is_empty() {
                grants.push(applying);
            }
            for granting in grants {
                resolved.denied |= granting.is_empty();
                for filter in self.rows_of(&granting)? {
                    if !filters.contains(&filter) {
                        filters.push(filter);
                    }
                }
            }
        }
        Ok(filters)
    }

    /// The rows that any of these policies shows.
    fn rows_of(&self, granting: &[&Policy]) -> Result<Vec<Filter>, QueryError> {
        if granting.iter().any(|policy| policy.row_filters.is_empty()) {
            return Ok(Vec::new());
        }
        let mut any = Vec::new();
        for policy in granting {
            let all = policy.row_filters.iter().map(|it| self.filled_in(it));
            any.push(all.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(match any.len() {
            0 | 1 => any.pop().unwrap_or_default(),
            _ => {
                let or = any.into_iter().map(|and| Filter::And { and }).collect();
                vec![Filter::Or { or }]
            }
        })
    }

    /// A policy's filter with the caller's claims in it.
    fn filled_in(&self, filter: &Filter) -> Result<Filter, QueryError> {
        let all = |inner: &[Filter]| -> Result<Vec<_>, QueryError> {
            inner.iter().map(|it| self.filled_in(it)).collect()
        };
        Ok(match filter {
            Filter::Or { or } => Filter::Or { or: all(or)? },
            Filter::And { and } => Filter::And { and: all(and)? },
            Filter::Member {
                member,
                operator,
                values,
            } => {
                let mut texts = Vec::new();
                for value in values.iter().flatten() {
                    if let FilterValue::Text(text) = value {
                        texts.extend(self.values(text)?);
                    }
                }
                match values {
                    // A claim that is an empty list: no row is meant by it.
                    Some(_) if texts.is_empty() => Filter::Or { or: Vec::new() },
                    _ => Filter::member(member, operator, texts),
                }
            }
        })
    }

    /// What a policy's value stands for: a claim alone has as many values as it holds.
    fn values(&self, text: &str) -> Result<Vec<String>, QueryError> {
        let missing =
            |path: &str| QueryError::Denied(format!("the security context has no \"{path}\""));
        let parts = split(text.trim()).map_err(QueryError::Invalid)?;
        if let [RawPart::Reference(only)] = parts.as_slice() {
            let path = claim_path(only).unwrap_or(only);
            return self.context.claimed(path).ok_or_else(|| missing(path));
        }
        let mut value = String::new();
        for part in &parts {
            match part {
                RawPart::Text(text) => value.push_str(text),
                RawPart::Reference(name) => {
                    let path = claim_path(name).unwrap_or(name);
                    let claim = self.context.claim(path);
                    value.push_str(&claim.ok_or_else(|| missing(path))?);
                }
            }
        }
        Ok(vec![value])
    }
}

impl Resolved {
    /// All conditions on rows that policies add, whichever rows they are.
    pub(super) fn asked_by_policies(&self) -> Vec<Filter> {
        let mut filters = self.row_filters.clone();
        for filter in self.inner_filters.values().flatten() {
            if !filters.contains(filter) {
                filters.push(filter.clone());
            }
        }
        filters
    }

    /// Gives the phrases in what policies ask ("last month") the dates that they have now.
    fn date_policies(&mut self, query: &Normalized) -> Result<(), QueryError> {
        let later = query.now.checked_add(ANOTHER_TIME).unwrap_or(query.now);
        let masked = self.masked.values_mut().filter_map(|it| match it {
            Masked::Unless(filters) => Some(filters),
            _ => None,
        });
        let all = std::iter::once(&mut self.row_filters);
        for filter in all
            .chain(self.inner_filters.values_mut())
            .chain(masked)
            .flatten()
        {
            let mut then = filter.clone();
            resolve_filter(&mut then, later, &query.zone)?;
            resolve_filter(filter, query.now, &query.zone)?;
            self.is_dated |= then != *filter;
        }
        Ok(())
    }
}

fn members_of(model: &Model, filters: &[Filter]) -> Vec<MemberId> {
    let mut members = Vec::new();
    for filter in filters {
        filter.each_member(&mut |name| members.extend(model.find(name)));
    }
    members
}
