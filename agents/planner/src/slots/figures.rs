//! The numbers of a question: limits, bounds, thresholds. One with no part in it is unknown.

use super::collect::Collector;
use super::{Benchmark, Bound, Slots};
use crate::reader::{Element, Kind};
use crate::words::Role;

impl Collector<'_> {
    /// Numbers: limits, bounds, thresholds. A number with no part in the question is unknown.
    pub(super) fn figures(&self, k: usize, slots: &mut Slots) {
        let Kind::Number(number) = self.elements[k].kind else {
            return;
        };
        if let Some(place) = self.place(k) {
            slots.unmet.push(place);
            return;
        }
        let before = self.previous(k).map(|n| &self.elements[n]);
        let after = self.elements.get(k + 1);
        let said = before.and_then(Element::role).and_then(operator);
        // "Which 5 machines have the lowest": how many of the first.
        let of_groups = said.is_none()
            && after.is_some_and(|it| !it.dimensions().is_empty())
            && self.elements.iter().any(|it| ranks(Some(it)));
        if (ranks(before) || ranks(after) || of_groups)
            && number.fract() == 0.0
            && (1.0..1000.0).contains(&number)
        {
            slots.limit = Some(number as u32);
            return;
        }
        // "100 or more" says it behind the number.
        let behind = after.filter(|it| it.words.to_lowercase().starts_with("or "));
        let operator = said.or_else(|| behind.and_then(Element::role).and_then(operator));
        let comparative = self.elements[k + 1..].iter().take(3).any(|it| {
            matches!(
                it.role(),
                Some(Role::SlowComparative | Role::MoreComparative | Role::LessComparative)
            )
        });
        if comparative && slots.benchmark.is_some() {
            slots.benchmark = slots.benchmark.map(|it| Benchmark {
                threshold: Some(number),
                ..it
            });
            return;
        }
        let unit = |it: &Element| crate::normalise::words(&it.words).pop();
        let hour_window = after
            .and_then(unit)
            .is_some_and(|it| crate::time::unit_of(&it).is_some())
            && self.elements.iter().any(|it| {
                it.role() == Some(Role::Moving) || it.words.to_lowercase().contains("moving")
            });
        if hour_window {
            return;
        }
        let Some(operator) = operator else {
            self.stray(k, slots);
            return;
        };
        let percent = matches!(
            after.and_then(Element::role),
            Some(Role::Percent | Role::Share)
        );
        let skipped = usize::from(percent) + usize::from(behind.is_some());
        let next = k + 1 + skipped;
        let named = |at: usize| slots.measures.iter().position(|it| it.k == at);
        let nearest = slots.measures.iter().rposition(|it| it.k < k);
        let measure = named(next)
            .or(nearest)
            .or((slots.measures.len() == 1).then_some(0));
        // "less than 20 minutes" is no number of rows.
        let timed = matches!(
            after.and_then(Element::role),
            Some(Role::Minutes | Role::Seconds)
        );
        let measure = measure.filter(|n| {
            let mut names = slots.measures[*n].candidates.iter();
            !(timed && names.any(|name| self.is_plain_count(name)))
        });
        slots.bounds.push(Bound {
            operator,
            number,
            percent,
            measure,
        });
    }

    fn stray(&self, k: usize, slots: &mut Slots) {
        let before = k.checked_sub(1).map(|n| &self.elements[n]);
        match before.map(Element::dimensions).filter(|it| !it.is_empty()) {
            Some(dimensions) => {
                let words = format!("{} {}", self.elements[k - 1].words, self.elements[k].words);
                slots.absent.push((words, dimensions));
            }
            None => slots.unknown.push(self.elements[k].words.clone()),
        }
    }
}

fn operator(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::Over => "gt",
        Role::Under => "lt",
        Role::AtLeast => "gte",
        Role::AtMost => "lte",
        Role::Equal => "equals",
        _ => return None,
    })
}

/// Whether a number beside it says how many of the first.
fn ranks(it: Option<&Element>) -> bool {
    matches!(
        it.and_then(Element::role),
        Some(
            Role::Top
                | Role::Bottom
                | Role::Best
                | Role::Worst
                | Role::Highest
                | Role::Lowest
                | Role::Only
                | Role::Sort
        )
    )
}
