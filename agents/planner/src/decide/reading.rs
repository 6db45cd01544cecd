//! The trace: what each stretch of the question was taken for.

use super::Decider;
use crate::plan::Reading;
use crate::reader::{Element, Kind};
use crate::time::When;

impl Decider<'_> {
    /// What each stretch of the question was taken for.
    pub(super) fn reading(&self) -> Vec<Reading> {
        self.elements
            .iter()
            .map(|element| Reading {
                words: element.words.clone(),
                taken_for: self.taken_for(element),
            })
            .collect()
    }

    pub(super) fn taken_for(&self, element: &Element) -> String {
        match &element.kind {
            Kind::When(When::Window(window)) => {
                let [from, to] = window.bounds();
                format!("{from} to {to}")
            }
            Kind::When(When::Span(first, last)) => {
                let ([from, _], [_, to]) = (first.bounds(), last.bounds());
                format!("{from} to {to}")
            }
            Kind::When(When::Step(unit)) => format!("by {}", unit.name()),
            Kind::When(When::OverPrevious(unit)) => format!("against the {} before", unit.name()),
            Kind::When(When::Before(_)) => "the period before".into(),
            Kind::When(When::Future) => "the future".into(),
            Kind::Number(number) => format!("{number}"),
            Kind::Place(place) => format!("place {place}"),
            Kind::Unknown => "unknown".into(),
            Kind::Phrase { .. } => {
                let members = element
                    .members()
                    .into_iter()
                    .map(|(dimension, value)| format!("{dimension} = {value}"));
                let names = element
                    .measures()
                    .into_iter()
                    .chain(element.dimensions())
                    .chain(members);
                let names: Vec<String> = names.collect();
                match (names.is_empty(), element.role()) {
                    (false, _) => names.join(" or "),
                    (true, Some(role)) => format!("{role:?}").to_lowercase(),
                    (true, None) => "the subject".into(),
                }
            }
        }
    }
}
