//! Verbs that say when a row happened: "orders placed last week", where the rows are dated by when
//! they were placed. Such a verb says which time is meant, and nothing else.

use super::collect::Collector;
use crate::frame::{Unit, local};
use crate::lexicon::camel_words;
use crate::normalise::{stem, words};
use crate::words::Role;

/// Stems shorter than this are of too many words.
const STEM_MIN: usize = 4;

impl Collector<'_> {
    /// The unit in "highest scrap day": a lone unit of time is told apart where there is an order.
    pub(super) fn ranked_unit(&self, k: usize) -> Option<Unit> {
        let ranks = |role| {
            matches!(
                role,
                Some(Role::Highest | Role::Lowest | Role::Best | Role::Worst | Role::Top)
            )
        };
        let ordered = self.elements.iter().any(|it| ranks(it.role())) || self.counts(k);
        let word = words(&self.elements[k].words).pop()?;
        crate::time::unit_of(&word).filter(|_| ordered)
    }

    /// Whether "how many" asks for the number of these, those that a bound chooses.
    pub(super) fn counts(&self, k: usize) -> bool {
        let bounds = |it: &crate::reader::Element| {
            let role = it.role();
            matches!(
                role,
                Some(Role::Over | Role::Under | Role::AtLeast | Role::AtMost)
            )
        };
        let asked = self.previous(k).and_then(|n| self.elements[n].role());
        asked == Some(Role::HowMany) && self.elements.iter().any(bounds)
    }

    /// The time dimensions that a verb names: by their own names, or the one that rows are dated by
    /// where its description says so.
    pub(super) fn dates(&self, k: usize) -> Vec<String> {
        let Some(said) = verb_stem(&self.elements[k].words) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for cube in &self.catalog.cubes {
            let times = cube.dimensions.iter().filter(|it| it.member_type == "time");
            let preset = cube.meta.get("time").and_then(|it| it.as_str());
            for (n, time) in times.enumerate() {
                let dates_rows = match preset {
                    Some(name) => local(name) == local(&time.name),
                    None => n == 0,
                };
                let told = time.description.iter().flat_map(|text| words(text));
                let told = told.filter(|_| dates_rows);
                let mut own = camel_words(local(&time.name)).into_iter().chain(told);
                if own.any(|word| verb_stem(&word).is_some_and(|it| it == said)) {
                    out.push(time.name.clone());
                }
            }
        }
        out
    }
}

fn verb_stem(word: &str) -> Option<String> {
    let word = words(word).pop()?;
    if crate::time::unit_of(&word).is_some() {
        return None;
    }
    let stem = stem(&word);
    (stem.len() >= STEM_MIN).then_some(stem)
}
