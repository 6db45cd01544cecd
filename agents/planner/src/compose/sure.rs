//! What a frame would answer although the question asked for something else.

use super::Composer;
use crate::frame::Frame;
use crate::plan::{Derive, Reason};
use crate::resolve::Open;
use crate::slots::Bound;
use crate::words::Role;

impl Composer<'_> {
    /// Refuses figures that are right for another question.
    pub(super) fn sure(&self, frame: &Frame) -> Result<(), Open> {
        self.bounds_choose_groups(frame)?;
        let distinct = |name: &String| {
            let kind = self.registry.member(name).map(|it| it.member_type.as_str());
            matches!(kind, Some("count_distinct" | "countDistinct"))
        };
        // Without any row of it is not the same as with a row that lacks it.
        match self.slots.unset.first() {
            Some(it) if frame.measures.iter().any(distinct) => Err(Open::No {
                reason: Reason::Unsupported,
                subject: vec![format!("“without {}”", it.words)],
                offer: Vec::new(),
            }),
            _ => Ok(()),
        }
    }

    /// A bound on a measure chooses groups: it narrows no total, and groups are listed, not counted.
    fn bounds_choose_groups(&self, frame: &Frame) -> Result<(), Open> {
        let slots = self.slots;
        if matches!(frame.derive, Some(Derive::GroupCount { .. })) {
            return Ok(());
        }
        let total = frame.dimensions.is_empty() && frame.granularity.is_none();
        let bounded = frame
            .filters
            .iter()
            .any(|it| self.registry.is_measure(&it.member));
        let Some(bound) = slots.bounds.first().filter(|_| bounded) else {
            return Ok(());
        };
        let first = slots.measures.first().map(|it| it.k);
        let asked = bound.measure.and_then(|n| slots.measures.get(n));
        let counts = slots.has(Role::HowMany)
            && (!slots.counted.is_empty() || asked.map(|it| it.k) != first);
        if !total && !counts {
            return Ok(());
        }
        let title = asked.map_or_else(String::new, |it| it.words.clone());
        let said = format!("{title} {}", figure(bound));
        let groups = slots.counted.iter().chain(&slots.dimensions);
        let offer = groups.map(|it| format!("{} with {said}", it.words));
        let what = if counts {
            "counting those with"
        } else {
            "only those with"
        };
        Err(Open::No {
            reason: Reason::Unsupported,
            subject: vec![format!("{what} {said}")],
            offer: offer.collect(),
        })
    }
}

fn figure(bound: &Bound) -> String {
    let words = match bound.operator {
        "gt" => "above",
        "lt" => "below",
        "gte" => "at least",
        "lte" => "at most",
        _ => "equal to",
    };
    let sign = if bound.percent { "%" } else { "" };
    format!("{words} {}{sign}", bound.number)
}
