//! Order and limit, the breakdown they need, and what a measure does not apply to.

use super::Composer;
use crate::frame::{Condition, Direction, Frame, cube_of};
use crate::plan::{Question, Reason};
use crate::resolve::{Asked, Open};
use crate::words::Role;

impl Composer<'_> {
    /// "Is it higher on weekends" asks for the others as well: the filter becomes a breakdown.
    pub(super) fn contrast(&self, frame: &mut Frame) {
        let comparatives = [
            Role::MoreComparative,
            Role::LessComparative,
            Role::SlowComparative,
        ];
        let compared = comparatives.iter().any(|role| self.slots.has(*role));
        let plain = self.slots.bounds.is_empty() && self.slots.benchmark.is_none() && self.is_new();
        if let ([only], true) = (
            frame.filters.as_slice(),
            compared && plain && frame.dimensions.is_empty(),
        ) && only.operator == "equals"
            && only.values.len() == 1
        {
            frame.dimensions.push(only.member.clone());
            frame.filters.clear();
        }
    }

    pub(super) fn ranking(&self, frame: &mut Frame) -> Result<(), Open> {
        let order = self.resolver().order(frame);
        if !order.is_empty() {
            if frame.dimensions.is_empty() && frame.granularity.is_none() {
                // "Top defects" are ranked by what tells them apart.
                match frame.measures.first().and_then(|it| self.entity_of(it)) {
                    Some(entity) => frame.dimensions.push(entity),
                    None => return Err(self.which_breakdown(frame)),
                }
            }
            frame.order = order;
        } else if self.slots.has(Role::Sort) && frame.order.is_empty() {
            let by = self.resolver().ranked_measure(frame);
            frame.order = by
                .or(frame.measures.first())
                .map(|it| (it.clone(), Direction::Desc))
                .into_iter()
                .collect();
        }
        if let Some(limit) = self.slots.limit {
            frame.limit = Some(limit);
            if frame.order.is_empty() {
                frame.order = frame
                    .measures
                    .first()
                    .map(|it| (it.clone(), Direction::Desc))
                    .into_iter()
                    .collect();
            }
        }
        let count = frame
            .measures
            .first()
            .is_some_and(|it| self.registry.is_additive(it));
        let categories = frame.dimensions.len() == 1 && frame.granularity.is_none();
        if self.slots.has(Role::Pareto) && frame.dimensions.is_empty() {
            let entity = frame.measures.first().and_then(|it| self.entity_of(it));
            frame.dimensions.extend(entity);
        }
        if frame.order.is_empty() && count && categories && self.is_new() {
            // Parts of a whole read best from the largest down.
            frame.order = frame
                .measures
                .first()
                .map(|it| (it.clone(), Direction::Desc))
                .into_iter()
                .collect();
        }
        Ok(())
    }

    pub(super) fn entity_of(&self, measure: &str) -> Option<String> {
        let cube = self.registry.catalog.cube(cube_of(measure))?;
        let counted = cube
            .dimensions
            .iter()
            .find(|it| crate::slots::counts(measure, &crate::lexicon::noun(&it.name)));
        counted.map(|it| it.name.clone())
    }

    pub(super) fn which_breakdown(&self, frame: &Frame) -> Open {
        let measure = frame
            .measures
            .first()
            .map(|it| self.registry.title(it))
            .unwrap_or_default();
        let cube = self.registry.catalog.cube(frame.cube().unwrap_or_default());
        let groups = cube
            .into_iter()
            .flat_map(|it| &it.dimensions)
            .filter(|it| it.member_type == "string" && (2..=40).contains(&it.values.len()));
        let choices = groups.take(4).map(|it| {
            let mut choice = Frame {
                dimensions: vec![it.name.clone()],
                ..frame.clone()
            };
            choice.order = self.resolver().order(&choice);
            (
                format!("{measure} by {}", it.short_title.to_lowercase()),
                choice,
            )
        });
        let question = Question::WhichBreakdown {
            measure: measure.clone(),
        };
        Open::Ask(Box::new(Asked {
            about: vec!["dimension".into()],
            question,
            choices: choices.collect(),
            partial: frame.clone(),
        }))
    }

    /// A measure that exists for some members only: refuse others; name them in a breakdown.
    pub(super) fn restrict(&self, frame: &mut Frame) -> Result<(), Open> {
        if let Some(dimension) = frame
            .dimensions
            .iter()
            .find(|it| !self.registry.applies(it, &frame.filters))
        {
            return Err(self.not_applicable(dimension, frame));
        }
        for measure in frame.measures.clone() {
            if !self.registry.applies(&measure, &frame.filters) {
                return Err(self.not_applicable(&measure, frame));
            }
            let Some(only) = self.registry.only(&measure) else {
                continue;
            };
            let cube = cube_of(&measure);
            let Some(member) = self
                .registry
                .in_cube(&format!("{cube}.{}", only.member), cube)
            else {
                continue;
            };
            let said = frame.filters.iter().any(|it| it.member == member)
                || frame.dimensions.contains(&member);
            let narrowed = frame.filters.iter().any(|it| it.operator == "equals");
            if !frame.dimensions.is_empty() && !said && !narrowed && frame.measures.len() == 1 {
                frame.set_filter(Condition {
                    member,
                    operator: "equals".into(),
                    values: only.values,
                });
            }
        }
        Ok(())
    }

    pub(super) fn not_applicable(&self, measure: &str, frame: &Frame) -> Open {
        let title = self.registry.title(measure);
        let mut offer = Vec::new();
        if let Some(only) = self.registry.only(measure) {
            offer.push(format!("{title} of {}", only.values.join(", ")));
            offer.push(format!(
                "{} {}",
                only.values.join(" "),
                title.to_lowercase()
            ));
        }
        let cube = cube_of(measure);
        let others = self.registry.headline(cube, &frame.filters);
        let fits = others.iter().filter(|it| self.registry.only(it).is_some());
        offer.extend(fits.map(|it| self.registry.title(it)));
        let said = frame.filters.iter().flat_map(|it| it.values.clone());
        let subject = std::iter::once(title).chain(said).collect();
        Open::No {
            reason: Reason::NotApplicable,
            subject,
            offer,
        }
    }
}
