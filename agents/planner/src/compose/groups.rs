//! How many groups there are: the rows of a breakdown, counted.

use super::Composer;
use crate::frame::{Frame, cube_of, local};
use crate::lexicon::camel_words;
use crate::normalise::words;
use crate::plan::Derive;
use crate::registry::Registry;
use crate::slots::Mention;

/// Nouns that ask for the values of a dimension, not for what the values are of.
const KINDS: [&str; 4] = ["type", "kind", "sort", "category"];

impl Composer<'_> {
    /// The dimension whose members "how many" is asked of where no measure counts them, or where a
    /// bound chooses among them.
    pub(super) fn groups(&self, cube: &str, frame: &Frame) -> Option<String> {
        let slots = self.slots;
        let split = !slots.dimensions.is_empty() || slots.step.is_some();
        if split || !slots.unset.is_empty() || !frame.dimensions.is_empty() {
            return None;
        }
        let dimension = match (slots.counted.as_slice(), slots.measures.as_slice()) {
            ([mention], _) => {
                let here = mention.candidates.iter().filter(|it| cube_of(it) == cube);
                here.clone()
                    .find(|it| self.registry.tells_all_apart(it))?
                    .clone()
            }
            // "How many machines" may be the name of a measure.
            ([], [count, _]) => self.counted_by(count, cube)?,
            _ => return None,
        };
        let counts = |it: &Mention| {
            let mut here = it.candidates.iter().filter(|it| cube_of(it) == cube);
            let kinds = words(&it.words)
                .iter()
                .any(|it| KINDS.contains(&it.as_str()));
            !kinds
                && here.any(|it| {
                    self.registry.is_measure(it) || self.registry.count_of(it, false).is_some()
                })
        };
        let chosen = match (slots.bounds.as_slice(), slots.measures.as_slice()) {
            ([bound], [.., last]) => {
                let about = bound.measure.and_then(|n| slots.measures.get(n));
                about.is_some_and(|it| it.k == last.k)
            }
            ([], []) => !slots.counted.iter().any(counts),
            _ => false,
        };
        chosen.then_some(dimension)
    }

    /// The dimension whose members a measure counts, each once.
    fn counted_by(&self, mention: &Mention, cube: &str) -> Option<String> {
        let measure = self.resolver().measure(mention, cube).ok()?;
        let kind = &self.registry.member(&measure)?.member_type;
        let distinct = matches!(kind.as_str(), "count_distinct" | "countDistinct");
        let dimensions = &self.registry.catalog.cube(cube)?.dimensions;
        let own = dimensions.iter().find(|it| {
            self.registry.count_of(&it.name, false).as_ref() == Some(&measure)
                && self.registry.tells_all_apart(&it.name)
        });
        own.filter(|_| distinct).map(|it| it.name.clone())
    }

    /// Notes what is to be told of the rows: which one of the order, or how many they are.
    pub(super) fn told_apart(&self, frame: &mut Frame) {
        let slots = self.slots;
        if let (Some(place), Some((measure, _))) = (slots.place, frame.order.first()) {
            frame.derive = Some(Derive::Place {
                measure: measure.clone(),
                place,
            });
            frame.limit = None;
        } else if let (true, Some(time)) = (slots.counts_steps, &frame.time) {
            let unit = frame.granularity.map_or("day", |it| it.name());
            frame.derive = Some(Derive::GroupCount {
                key: format!("{time}.{unit}"),
            });
        } else if let (Some(cube), [dimension]) = (frame.cube(), frame.dimensions.as_slice())
            && self.is_new()
        {
            let before = Frame::default();
            if self.groups(cube, &before).as_ref() == Some(dimension) {
                frame.derive = Some(Derive::GroupCount {
                    key: dimension.clone(),
                });
            }
        }
    }
}

impl Registry<'_> {
    /// Whether a dimension's values tell what it names apart: two of them may share a name, not a
    /// key.
    pub(crate) fn tells_all_apart(self, dimension: &str) -> bool {
        let Some(member) = self.member(dimension) else {
            return false;
        };
        let is_name = |text: &str| words(text).last().is_some_and(|it| it == "name");
        let mut said =
            crate::lexicon::texts(&member.meta, "synonyms").chain([member.title.as_str()]);
        let named = camel_words(local(dimension))
            .last()
            .is_some_and(|it| it == "name");
        let borrowed = member
            .sql
            .as_ref()
            .is_some_and(|sql| sql.contains('{') && !sql.contains("{CUBE}"));
        let is_label = named || borrowed || said.any(is_name);
        member.member_type == "string" && !self.is_measure(dimension) && !is_label
    }
}
