//! The names of a query looked up in the model, and whether the caller may use them.

use std::collections::BTreeSet;

use jiff::civil::DateTime;

use super::error::QueryError;
use super::filters::OPERATORS;
use super::needs::collect_cubes;
use super::normalize::Normalized;
use super::{Column, ColumnKind};
use crate::model::{Definition, MemberId, Model, Policy, SecurityContext};
use crate::query::{DateRange, Filter};

/// A query in terms of the model.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Dimensions and time dimensions with a granularity, in the order of the result.
    pub(crate) dimensions: Vec<Column>,
    pub(crate) measures: Vec<Column>,
    pub(crate) segments: Vec<MemberId>,
    pub(crate) ranges: Vec<(MemberId, DateTime, DateTime)>,
    pub(crate) filters: Vec<Filter>,
    /// What the caller's row policies add.
    pub(crate) row_filters: Vec<Filter>,
    /// `None`: the query leaves it to us.
    pub(crate) order: Option<Vec<(MemberId, bool)>>,
    /// Members whose values the caller's policies hide.
    pub(crate) masked: Vec<MemberId>,
    /// No policy lets the caller see any row.
    pub(crate) denied: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Measure,
    Dimension,
    Segment,
    Any,
}

pub(crate) fn resolve(
    model: &Model,
    query: &Normalized,
    context: &SecurityContext,
) -> Result<Resolved, QueryError> {
    let lookup = Lookup { model, context };
    let mut resolved = Resolved {
        filters: query.query.filters.clone(),
        ..Resolved::default()
    };
    for name in &query.query.measures {
        let member = lookup.visible(name, Wanted::Measure)?;
        resolved
            .measures
            .push(lookup.column(member, ColumnKind::Measure));
    }
    for name in &query.query.dimensions {
        let member = lookup.visible(name, Wanted::Dimension)?;
        resolved
            .dimensions
            .push(lookup.column(member, ColumnKind::Dimension));
    }
    for name in &query.query.segments {
        resolved
            .segments
            .push(lookup.visible(name, Wanted::Segment)?);
    }
    for time in &query.query.time_dimensions {
        let member = lookup.visible(&time.dimension, Wanted::Dimension)?;
        lookup.check_time(member)?;
        if let Some(DateRange::Bounds(bounds)) = &time.date_range
            && let [from, to] = bounds.as_slice()
        {
            let bound = |text: &str| {
                text.parse::<DateTime>()
                    .map_err(|_| QueryError::Invalid(format!("Can't parse date: '{text}'")))
            };
            resolved.ranges.push((member, bound(from)?, bound(to)?));
        }
        if let Some(granularity) = &time.granularity {
            let kind = ColumnKind::Time {
                granularity: granularity.clone(),
            };
            resolved.dimensions.push(lookup.column(member, kind));
        }
    }
    for filter in &query.query.filters {
        lookup.check_filter(filter)?;
    }
    // Asking twice for the same is asking once.
    let mut seen = std::collections::HashSet::new();
    resolved
        .dimensions
        .retain(|column| seen.insert(column.key.clone()));
    resolved
        .measures
        .retain(|column| seen.insert(column.key.clone()));
    resolved.order = query
        .order
        .as_ref()
        .map(|order| lookup.order(order))
        .transpose()?;
    lookup.add_default_filters(query, &mut resolved);
    lookup.add_row_policies(&mut resolved)?;
    lookup.add_masks(&mut resolved);
    Ok(resolved)
}

/// Finds a member of filters that were checked before.
pub(crate) fn find(model: &Model, name: &str) -> Result<MemberId, QueryError> {
    model
        .find(name)
        .ok_or_else(|| QueryError::unknown_member(model, name))
}

/// Whether the caller may see a member and its values.
pub(crate) fn may_show(
    model: &Model,
    context: &SecurityContext,
    id: MemberId,
) -> Result<(), QueryError> {
    let lookup = Lookup { model, context };
    let (cube, member) = (&model.cubes[id.cube], model.member(id));
    if !member.public || !cube.public || !lookup.allows(id) || lookup.is_masked(id) {
        return Err(QueryError::hidden(model, id.cube, &member.name));
    }
    Ok(())
}

struct Lookup<'a> {
    model: &'a Model,
    context: &'a SecurityContext,
}

impl Lookup<'_> {
    fn visible(&self, name: &str, wanted: Wanted) -> Result<MemberId, QueryError> {
        let id = find(self.model, name)?;
        let member = self.model.member(id);
        let cube = &self.model.cubes[id.cube];
        let fits = match &member.definition {
            Definition::Measure(_) => wanted == Wanted::Measure,
            Definition::Dimension(_) => wanted == Wanted::Dimension,
            Definition::Segment(_) => wanted == Wanted::Segment,
        };
        if !fits && wanted != Wanted::Any {
            let kind = match &member.definition {
                Definition::Measure(_) => "measure",
                Definition::Dimension(_) => "dimension",
                Definition::Segment(_) => "segment",
            };
            return Err(QueryError::Unplannable(format!(
                "'{}' not found for path '{name}': it is a {kind}",
                member.name
            )));
        }
        // What a query brings along was checked when it was read.
        let is_own = self.model.computed.contains_key(name);
        if !is_own && (!member.public || !cube.public || !self.allows(id)) {
            return Err(QueryError::hidden(self.model, id.cube, &member.name));
        }
        Ok(id)
    }

    /// Whether any policy of the member's cube (and, for a view, of what it stands for) lets the
    /// caller see it.
    fn allows(&self, id: MemberId) -> bool {
        let member = self.model.member(id);
        let own = match &self.model.cubes[id.cube].policies {
            None => true,
            Some(policies) => policies
                .iter()
                .any(|policy| policy.applies_to(self.context) && policy.allows(&member.name)),
        };
        own && member
            .origin
            .as_ref()
            .is_none_or(|origin| self.allows(origin.member))
    }

    /// The default filters of the views that the query names, unless it says otherwise.
    fn add_default_filters(&self, query: &Normalized, resolved: &mut Resolved) {
        let columns = resolved.dimensions.iter().chain(&resolved.measures);
        let mut views: Vec<usize> = columns.map(|column| column.member.cube).collect();
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

    /// Whether no policy shows the member's values.
    fn is_masked(&self, id: MemberId) -> bool {
        let member = self.model.member(id);
        let own = self.model.cubes[id.cube]
            .policies
            .as_ref()
            .is_some_and(|policies| {
                !policies
                    .iter()
                    .any(|policy| policy.applies_to(self.context) && policy.shows(&member.name))
            });
        own || member
            .origin
            .as_ref()
            .is_some_and(|origin| self.is_masked(origin.member))
    }

    fn add_masks(&self, resolved: &mut Resolved) {
        let mut members: Vec<MemberId> = resolved
            .dimensions
            .iter()
            .chain(&resolved.measures)
            .map(|column| column.member)
            .chain(resolved.ranges.iter().map(|range| range.0))
            .collect();
        collect_filter_members(self.model, &resolved.filters, &mut members);
        let is_own = |id: &MemberId| self.model.computed.values().any(|own| own == id);
        members.retain(|id| !is_own(id) && self.is_masked(*id));
        resolved.masked = members;
    }

    fn column(&self, member: MemberId, kind: ColumnKind) -> Column {
        let definition = self.model.member(member);
        let (key, alias) = match &kind {
            ColumnKind::Time { granularity } => (
                format!("{}.{granularity}", definition.full_name),
                // Granularity names are legal identifiers; the whole stays under 63 bytes.
                format!(
                    "{}_{}",
                    definition.alias,
                    &granularity[..granularity.len().min(14)]
                ),
            ),
            _ => (definition.full_name.clone(), definition.alias.clone()),
        };
        Column {
            key,
            alias,
            member,
            kind,
        }
    }

    fn check_time(&self, member: MemberId) -> Result<(), QueryError> {
        let member = self.model.member(member);
        if member.value_type() == "time" {
            return Ok(());
        }
        Err(QueryError::Unplannable(format!(
            "'{}' is not a time dimension but of type {}",
            member.full_name,
            member.value_type()
        )))
    }

    fn check_filter(&self, filter: &Filter) -> Result<(), QueryError> {
        match filter {
            Filter::Or { or: inner } | Filter::And { and: inner } => inner
                .iter()
                .try_for_each(|filter| self.check_filter(filter)),
            Filter::Member {
                member, operator, ..
            } => {
                let id = self.visible(member, Wanted::Any)?;
                if matches!(self.model.member(id).definition, Definition::Segment(_)) {
                    return Err(QueryError::Unplannable(format!(
                        "'{member}' is a segment: name it under \"segments\""
                    )));
                }
                let on_dates = operator.ends_with("Date") || operator.ends_with("DateRange");
                if on_dates && OPERATORS.contains(&operator.as_str()) {
                    self.check_time(id)?;
                }
                Ok(())
            }
        }
    }

    /// The members of an order; one that does not exist is refused, a granularity is left off.
    fn order(&self, order: &[(String, bool)]) -> Result<Vec<(MemberId, bool)>, QueryError> {
        let mut resolved = Vec::new();
        for (name, descending) in order {
            let plain = match name.rsplit_once('.') {
                Some((member, _)) if name.matches('.').count() == 2 => member,
                _ => name,
            };
            resolved.push((self.visible(plain, Wanted::Any)?, *descending));
        }
        Ok(resolved)
    }

    fn add_row_policies(&self, resolved: &mut Resolved) -> Result<(), QueryError> {
        let mut cubes: Vec<usize> = Vec::new();
        let columns = resolved
            .dimensions
            .iter()
            .chain(&resolved.measures)
            .map(|c| c.member);
        let others = resolved
            .segments
            .iter()
            .copied()
            .chain(resolved.ranges.iter().map(|r| r.0));
        let mut members: Vec<MemberId> = columns.chain(others).collect();
        collect_filter_members(self.model, &resolved.filters, &mut members);
        for id in members {
            if self.model.computed.values().any(|computed| *computed == id) {
                collect_cubes(self.model, id, &mut cubes, &mut BTreeSet::new());
            }
            cubes.push(id.cube);
            cubes.extend(
                self.model
                    .member(id)
                    .origin
                    .as_ref()
                    .map(|origin| origin.member.cube),
            );
        }
        cubes.sort_unstable();
        cubes.dedup();
        for cube in cubes {
            let Some(policies) = &self.model.cubes[cube].policies else {
                continue;
            };
            let applying: Vec<&Policy> = policies
                .iter()
                .filter(|policy| policy.applies_to(self.context))
                .collect();
            resolved.denied |= applying.is_empty();
            if applying.iter().any(|policy| policy.row_filters.is_empty()) || applying.is_empty() {
                continue;
            }
            let mut any = Vec::new();
            for policy in applying {
                let all = policy
                    .row_filters
                    .iter()
                    .map(|filter| self.policy_filter(cube, filter))
                    .collect::<Result<Vec<_>, _>>()?;
                any.push(all);
            }
            match any.as_mut_slice() {
                [only] => resolved.row_filters.append(only),
                _ => {
                    let or = any.into_iter().map(|and| Filter::And { and }).collect();
                    resolved.row_filters.push(Filter::Or { or });
                }
            }
        }
        Ok(())
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
                    texts.push(self.claim_or_text(text)?);
                }
                Filter::member(full, operator.clone(), texts)
            }
        })
    }

    fn claim_or_text(&self, text: &str) -> Result<String, QueryError> {
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
            return Ok(text.to_owned());
        };
        self.context
            .claim(path)
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
