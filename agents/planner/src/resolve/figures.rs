//! Bounds in a measure's own scale, and the order asked for.

use super::{Resolver, named};
use crate::frame::{Condition, Direction, Frame};
use crate::slots::{Bound, Rank};

impl Resolver<'_> {
    /// Bounds on measures, in the measure's own scale.
    pub(crate) fn bounds(&self, measures: &[String]) -> Option<Vec<Condition>> {
        let condition = |bound: &Bound| {
            let measure = named(self.slots.measures.get(bound.measure?)?, measures)?;
            let number = self.scaled(measure, bound);
            Some(Condition {
                member: measure.clone(),
                operator: bound.operator.into(),
                values: vec![format!("{number}")],
            })
        };
        self.slots.bounds.iter().map(condition).collect()
    }

    /// People say "under 80 %" of a measure that runs from 0 to 1 as of one that runs to 100.
    pub(super) fn scaled(&self, measure: &str, bound: &Bound) -> f64 {
        let unit = self
            .registry
            .member(measure)
            .and_then(|it| it.meta.get("unit"));
        let fraction = unit.and_then(|it| it.as_str()) == Some("fraction");
        if fraction && (bound.percent || bound.number > 1.0) {
            (bound.number * 1e6).round() / 1e8
        } else {
            bound.number
        }
    }

    /// The order asked for, on the measure it is about.
    pub(crate) fn order(&self, frame: &Frame) -> Vec<(String, Direction)> {
        let Some(rank) = self.slots.rank else {
            return Vec::new();
        };
        let by_adjective = self.slots.rank_word.as_deref().and_then(|word| {
            let said = self
                .slots
                .measures
                .iter()
                .find(|it| it.words.eq_ignore_ascii_case(word));
            said.and_then(|it| named(it, &frame.measures))
        });
        let after_word = self.ranked_measure(frame);
        let Some(measure) = by_adjective.or(after_word).or(frame.measures.first()) else {
            return Vec::new();
        };
        let lower = self.registry.lower_is_better(measure);
        let direction = match (rank, lower) {
            (Rank::Desc, _) | (Rank::Best, false) | (Rank::Worst, true) => Direction::Desc,
            (Rank::Asc, _) | (Rank::Best, true) | (Rank::Worst, false) => Direction::Asc,
        };
        vec![(measure.clone(), direction)]
    }

    /// The measure named right after the word that asks for an order.
    pub(crate) fn ranked_measure<'f>(&self, frame: &'f Frame) -> Option<&'f String> {
        let after = |at: Option<usize>| {
            let next = self.slots.measures.iter().find(|it| Some(it.k) > at)?;
            at.and_then(|_| named(next, &frame.measures))
        };
        after(self.slots.sort_at).or_else(|| after(self.slots.rank_at))
    }
}
