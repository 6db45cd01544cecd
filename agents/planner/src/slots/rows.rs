//! Nouns that name the rows of a cube: what is counted, or which cube is meant.

use super::collect::Collector;
use super::{MemberMention, Mention, Slots};
use crate::frame::{cube_of, local};
use crate::lexicon::{camel_words, noun};
use crate::words::Role;

impl Collector<'_> {
    /// The cube whose rows a word names beside a measure of that cube: "amount of orders".
    pub(super) fn rows_of(&self, mention: &Mention, measures: &[Mention]) -> Option<String> {
        let asked = self
            .previous(mention.k)
            .and_then(|p| self.elements[p].role());
        let named = asked != Some(Role::HowMany) && !mention.counting && !self.listed(mention.k);
        let mut others = measures
            .iter()
            .filter(|it| it.k != mention.k && it.candidates != mention.candidates)
            .filter(|_| named);
        let [rows] = self.elements[mention.k].row_counts().try_into().ok()?;
        let cube = self.catalog.cube(cube_of(&rows))?;
        cube.meta.get("grain")?;
        others
            .any(|it| !self.listed(it.k) && it.candidates.iter().any(|n| cube_of(n) == cube.name))
            .then(|| cube.name.clone())
    }

    /// Whether a noun only says whose value stands before it: "score of physics students".
    pub(super) fn heads(&self, mention: &Mention, members: &[MemberMention]) -> bool {
        let rows = self.elements[mention.k].row_counts();
        let Some(member) = members.iter().find(|it| it.k + 1 == mention.k) else {
            return false;
        };
        let value_of = |(of, _): &(String, String)| {
            let described = camel_words(local(of));
            let entity = |it: &String| {
                cube_of(it) == cube_of(of)
                    && described.starts_with(&camel_words(&noun(it).replace(' ', "_")))
            };
            rows.contains(&format!("{}.count", cube_of(of)))
                || mention.candidates.iter().any(entity)
        };
        !rows.is_empty()
            && !self.elements[mention.k].after_break
            && member.candidates.iter().any(value_of)
    }

    /// Whether a noun right after a measure only says whose rows it is of: "amount of invoices".
    pub(super) fn owns(&self, mention: &Mention, measures: &[Mention]) -> Option<String> {
        let rows = self.elements[mention.k].row_counts();
        let of = |rows: &&String| {
            let cube = self.catalog.cube(cube_of(rows));
            cube.is_some_and(|it| it.meta.get("grain").is_some())
                && measures.iter().any(|it| {
                    it.k + 1 == mention.k
                        && it
                            .candidates
                            .iter()
                            .any(|name| cube_of(name) == cube_of(rows))
                })
        };
        let own = rows.iter().find(of).map(|it| cube_of(it).to_owned());
        own.filter(|_| !self.elements[mention.k].after_break)
    }

    /// Without a measure, the first noun that names rows is what is counted: "customers in Oslo".
    pub(super) fn count_rows(&self, slots: &mut Slots) {
        let open = slots.measures.is_empty() && slots.counted.is_empty() && slots.rank.is_none();
        let scoped = slots.dimensions.len() > 1
            || !slots.members.is_empty()
            || !slots.windows.is_empty()
            || slots.step.is_some();
        if !open || !scoped || slots.limit.is_some() || slots.share {
            return;
        }
        let free = |mention: &Mention| {
            let before = self
                .previous(mention.k)
                .and_then(|p| self.elements[p].role());
            let grouped = matches!(before, Some(Role::By | Role::Each | Role::Which));
            !grouped && !self.elements[mention.k].row_counts().is_empty()
        };
        if let Some(at) = slots.dimensions.iter().position(free) {
            let mut mention = slots.dimensions.remove(at);
            mention
                .candidates
                .extend(self.elements[mention.k].row_counts());
            slots.counted.push(mention);
        }
    }
}
