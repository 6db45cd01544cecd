//! The names of a query looked up in the model, and whether the caller may use them.

use std::collections::HashMap;

use jiff::civil::DateTime;

use super::error::QueryError;
use super::normalize::Normalized;
use super::policies::Masked;
use super::{Column, ColumnKind};
use crate::model::{Definition, MemberId, Model, SecurityContext};
use crate::query::{DateRange, Filter, OPERATORS};

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
    /// The same inside each sub-query dimension that is read.
    pub(crate) inner_filters: HashMap<MemberId, Vec<Filter>>,
    /// Members whose values the caller's policies hide, and where.
    pub(crate) masked: HashMap<MemberId, Masked>,
    /// Whether what policies ask depends on the day.
    pub(crate) is_dated: bool,
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
    lookup.add_policies(query, &mut resolved)?;
    Ok(resolved)
}

/// Finds a member of filters that were checked before.
pub(crate) fn find(model: &Model, name: &str) -> Result<MemberId, QueryError> {
    let unknown = || QueryError::Unplannable(format!("'{name}' not found"));
    model.find(name).ok_or_else(unknown)
}

/// Whether the caller may see a member and its values.
pub(crate) fn may_show(
    model: &Model,
    context: &SecurityContext,
    id: MemberId,
) -> Result<(), QueryError> {
    let lookup = Lookup { model, context };
    let (cube, member) = (&model.cubes[id.cube], model.member(id));
    let is_open = member.public && cube.public && model.allows(context, id);
    if !is_open || lookup.masked(id)? == Masked::Everywhere {
        return Err(QueryError::hidden(model, id.cube, &member.name));
    }
    Ok(())
}

pub(super) struct Lookup<'a> {
    pub(super) model: &'a Model,
    pub(super) context: &'a SecurityContext,
}

impl Lookup<'_> {
    fn visible(&self, name: &str, wanted: Wanted) -> Result<MemberId, QueryError> {
        let unknown = || QueryError::unknown_member(self.model, self.context, name);
        let id = self.model.find(name).ok_or_else(unknown)?;
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
        if !is_own && (!member.public || !cube.public || !self.model.allows(self.context, id)) {
            return Err(QueryError::hidden(self.model, id.cube, &member.name));
        }
        Ok(id)
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
                    granularity.chars().take(14).collect::<String>()
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
}
