//! What the caller's access policies add to a query: row filters, masks, or that nothing is seen.
//!
//! Policies hold for every member that a query leads to, whatever names it: what a view's member
//! stands for, what an expression reads, what rows are sorted by.

use super::error::QueryError;
use super::needs::reached;
use super::normalize::Normalized;
use super::resolve::{Lookup, Resolved};
use crate::model::{MemberId, Model, Policy};
use crate::query::Filter;

impl Lookup<'_> {
    pub(super) fn add_policies(
        &self,
        query: &Normalized,
        resolved: &mut Resolved,
    ) -> Result<(), QueryError> {
        let named = self.named(resolved);
        self.add_default_filters(query, &reached(self.model, named), resolved);
        let read = reached(self.model, self.named(resolved));
        resolved.row_filters = self.row_filters(&read, &mut resolved.denied)?;
        for id in read.iter().copied() {
            let dimension = self.model.member(id).dimension();
            if !dimension.is_some_and(|it| it.sub_query) {
                continue;
            }
            // Behind it stands a query of its own, with rows of its own.
            let templates = self.model.member(id).templates();
            let inside = reached(self.model, templates.iter().flat_map(|it| it.members()));
            let filters = self.row_filters(&inside, &mut resolved.denied)?;
            resolved.inner_filters.insert(id, filters);
            let masked = inside.into_iter().filter(|id| self.is_masked(*id));
            resolved.masked.extend(masked);
        }
        let masked = read.into_iter().filter(|id| self.is_masked(*id));
        resolved.masked.extend(masked);
        Ok(())
    }

    /// The members that the query says.
    fn named(&self, resolved: &Resolved) -> Vec<MemberId> {
        let columns = resolved.dimensions.iter().chain(&resolved.measures);
        let mut members: Vec<MemberId> = columns.map(|column| column.member).collect();
        members.extend(&resolved.segments);
        members.extend(resolved.ranges.iter().map(|range| range.0));
        members.extend(resolved.order.iter().flatten().map(|(id, _)| *id));
        collect_filter_members(self.model, &resolved.filters, &mut members);
        members
    }

    /// The default filters of the views that the query reads, unless it says otherwise.
    fn add_default_filters(&self, query: &Normalized, read: &[MemberId], resolved: &mut Resolved) {
        let mut views: Vec<usize> = read.iter().map(|id| id.cube).collect();
        views.sort_unstable();
        views.dedup();
        let mut asked = Vec::new();
        collect_filter_members(self.model, &query.query.filters, &mut asked);
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

    /// Whether a policy hides the member's values, and none shows all of them.
    pub(super) fn is_masked(&self, id: MemberId) -> bool {
        let member = self.model.member(id);
        let policies = self.model.cubes[id.cube].policies.iter().flatten();
        let applying: Vec<&Policy> = policies
            .filter(|policy| policy.applies_to(self.context))
            .collect();
        // What a policy shows of some rows only it does not show of the others.
        let is_shown =
            |policy: &&Policy| policy.shows(&member.name) && policy.row_filters.is_empty();
        let hides = |policy: &&Policy| policy.allows(&member.name) && !policy.shows(&member.name);
        let own = !member.is_brought_along()
            && applying.iter().any(hides)
            && !applying.iter().any(is_shown);
        let origin = member.origin.as_ref();
        own || origin.is_some_and(|origin| self.is_masked(origin.member))
    }

    /// The conditions on rows for who reads these members: each of them, and every cube that is
    /// read, needs a policy that grants it.
    fn row_filters(&self, read: &[MemberId], denied: &mut bool) -> Result<Vec<Filter>, QueryError> {
        let templates = read
            .iter()
            .flat_map(|id| self.model.member(*id).templates());
        let mut cubes: Vec<usize> = templates.flat_map(|it| it.cubes()).collect();
        cubes.extend(read.iter().map(|id| id.cube));
        cubes.sort_unstable();
        cubes.dedup();
        let mut filters = Vec::new();
        for cube in cubes {
            let Some(policies) = &self.model.cubes[cube].policies else {
                continue;
            };
            let applying: Vec<&Policy> = policies
                .iter()
                .filter(|policy| policy.applies_to(self.context))
                .collect();
            let members = read.iter().filter(|id| id.cube == cube);
            let members = members.map(|id| self.model.member(*id));
            let granted = members.filter(|it| !it.is_brought_along());
            let mut grants: Vec<Vec<&Policy>> = granted
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
                *denied |= granting.is_empty();
                for filter in self.rows_of(cube, &granting)? {
                    if !filters.contains(&filter) {
                        filters.push(filter);
                    }
                }
            }
        }
        Ok(filters)
    }

    /// The rows that any of these policies shows.
    fn rows_of(&self, cube: usize, granting: &[&Policy]) -> Result<Vec<Filter>, QueryError> {
        if granting.iter().any(|policy| policy.row_filters.is_empty()) {
            return Ok(Vec::new());
        }
        let mut any = Vec::new();
        for policy in granting {
            let filters = policy.row_filters.iter();
            let all = filters.map(|filter| self.policy_filter(cube, filter));
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

    /// A policy's filter with full names, its claims filled in.
    fn policy_filter(&self, cube: usize, filter: &Filter) -> Result<Filter, QueryError> {
        let all = |inner: &[Filter]| {
            inner
                .iter()
                .map(|filter| self.policy_filter(cube, filter))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match filter {
            Filter::Or { or } => Filter::Or { or: all(or)? },
            Filter::And { and } => Filter::And { and: all(and)? },
            Filter::Member {
                member,
                operator,
                values,
            } => {
                let cube = &self.model.cubes[cube].name;
                let full = if member.contains('.') {
                    member.replace("CUBE.", &format!("{cube}."))
                } else {
                    format!("{cube}.{member}")
                };
                let mut texts = Vec::new();
                for value in values.iter().flatten() {
                    let crate::query::FilterValue::Text(text) = value else {
                        continue;
                    };
                    texts.extend(self.claims_or_text(text)?);
                }
                Filter::member(full, operator.clone(), texts)
            }
        })
    }

    fn claims_or_text(&self, text: &str) -> Result<Vec<String>, QueryError> {
        let inner = text
            .trim()
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let path = inner.map(str::trim).and_then(|inner| {
            inner
                .strip_prefix("securityContext.")
                .or_else(|| inner.strip_prefix("security_context."))
                .or_else(|| inner.strip_prefix("SECURITY_CONTEXT."))
        });
        let Some(path) = path else {
            return Ok(vec![text.to_owned()]);
        };
        self.context
            .claimed(path)
            .ok_or_else(|| QueryError::Denied(format!("the security context has no \"{path}\"")))
    }
}

fn collect_filter_members(model: &Model, filters: &[Filter], out: &mut Vec<MemberId>) {
    for filter in filters {
        match filter {
            Filter::Or { or: inner } | Filter::And { and: inner } => {
                collect_filter_members(model, inner, out);
            }
            Filter::Member { member, .. } => out.extend(model.find(member)),
        }
    }
}
