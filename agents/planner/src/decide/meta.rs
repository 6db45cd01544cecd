//! Replies to a clarifying question, and questions about the data or the last answer.

use super::Decider;
use crate::frame::Frame;
use crate::plan::{Choice, MetaKind};
use crate::resolve::Resolver;
use crate::words::Role;

/// The number in "2", "the second", "option 2", "the last one, please"; nothing else may be said.
fn place(said: &[String], options: usize) -> Option<usize> {
    const ASIDE: [&str; 12] = [
        "option", "choice", "number", "answer", "please", "take", "i", "mean", "meant", "want",
        "is", "it",
    ];
    const PLACES: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];
    let mut rest: Vec<&str> = said.iter().map(String::as_str).collect();
    rest.retain(|it| !ASIDE.contains(it));
    if rest.len() > 1 && rest.last() == Some(&"one") {
        rest.pop();
    }
    let [word] = rest.as_slice() else {
        return None;
    };
    let named = PLACES.iter().position(|it| it == word).map(|n| n + 1);
    let last = (*word == "last").then_some(options);
    let number = crate::time::number_word(word).map(|n| n as usize);
    word.parse().ok().or(named).or(last).or(number)
}

impl Decider<'_> {
    /// Values that have an unknown word among others: several, or one would have been meant.
    pub(super) fn values_with(&self, subject: &[String]) -> Vec<String> {
        let cubes = self.planner.catalog.cubes.iter();
        let dimensions: Vec<_> = cubes.flat_map(|it| &it.dimensions).collect();
        let found = subject.iter();
        found
            .flat_map(|word| crate::lexicon::values_with(&dimensions, word))
            .collect()
    }

    /// The choice that the reply names: by number, or by words that only its label has.
    pub(super) fn chosen(&self, reply: &str) -> Option<Frame> {
        let options = &self.state.options;
        let said = crate::normalise::words(reply);
        if options.is_empty() || said.is_empty() {
            return None;
        }
        if let Some(n) = place(&said, options.len()) {
            return options.get(n.checked_sub(1)?).map(|it| it.frame.clone());
        }
        let says = |choice: &&Choice| {
            let label = crate::normalise::words(&choice.label);
            said.iter().all(|word| label.contains(word))
        };
        let matching: Vec<&Choice> = options.iter().filter(says).collect();
        match matching.as_slice() {
            [only] => Some(only.frame.clone()),
            _ => options
                .iter()
                .find(|it| crate::normalise::words(&it.label) == said)
                .map(|it| it.frame.clone()),
        }
    }

    /// Questions about the data and about the last answer.
    pub(super) fn meta(&self) -> Option<MetaKind> {
        let slots = self.slots;
        let last = self.state.last.clone().map(Box::new);
        let nothing_named =
            slots.measures.is_empty() && slots.dimensions.is_empty() && slots.members.is_empty();
        if slots.has(Role::Explain)
            || slots.has(Role::Calculated) && nothing_named && last.is_some()
        {
            return last.map(|frame| MetaKind::ExplainQuery { frame });
        }
        if slots.has(Role::Export) && nothing_named {
            return last.map(|frame| MetaKind::Export { frame });
        }
        if slots.has(Role::CoverageAsk) && slots.measures.is_empty() {
            return Some(MetaKind::Coverage);
        }
        if slots.has(Role::CatalogAsk) && nothing_named {
            return Some(MetaKind::Catalog);
        }
        let defines = slots.has(Role::Define) || slots.has(Role::Calculated);
        if defines && !slots.measures.is_empty() && slots.unknown.is_empty() {
            let resolver = Resolver {
                registry: self.registry,
                slots,
            };
            let cube = resolver.cube(&[]).ok()?;
            let members = slots.measures.iter().map(|it| {
                resolver
                    .measure(it, &cube)
                    .or_else(|several| several.into_iter().next().ok_or(()))
                    .ok()
            });
            return members
                .collect::<Option<Vec<_>>>()
                .map(|members| MetaKind::Definition { members });
        }
        self.values()
    }

    /// "which materials are there", "list the machines".
    pub(super) fn values(&self) -> Option<MetaKind> {
        let slots = self.slots;
        let [dimension] = slots.dimensions.as_slice() else {
            return None;
        };
        let asks = self.elements.first().is_some_and(|it| {
            matches!(it.role(), Some(Role::Which | Role::Filler))
                && !it.words.eq_ignore_ascii_case("for")
        });
        let bare = slots.measures.is_empty()
            && slots.members.is_empty()
            && slots.windows.is_empty()
            && slots.rank.is_none()
            && slots.bounds.is_empty()
            && slots.unknown.is_empty()
            && slots.step.is_none()
            && self.elements.iter().all(|it| {
                it.is_filler()
                    || !it.dimensions().is_empty()
                    || matches!(it.role(), Some(Role::Which | Role::Everything))
            });
        let name = dimension.candidates.first()?;
        (asks && bare && !slots.starts_with_and).then(|| MetaKind::Values {
            dimension: name.clone(),
        })
    }
}
