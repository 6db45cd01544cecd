//! Words that turn a part of the question into its opposite, and what each of them is about. One
//! that is about nothing the query can leave out is never dropped: the question is turned down.

use super::collect::Collector;
use super::{MemberMention, Slots};
use crate::words::Role;

impl Collector<'_> {
    /// The element that negates a member; the noun of its dimension and what it is listed with may
    /// stand between: "except status done and cancelled".
    pub(super) fn negation(&self, k: usize) -> Option<usize> {
        let mut at = k;
        let mut joined = self.elements[k].after_break;
        while let Some(before) = self.previous(at) {
            let element = &self.elements[before];
            match element.role() {
                Some(Role::Except | Role::Without) => {
                    return (!self.interjects(before)).then_some(before);
                }
                Some(Role::And | Role::Or) => joined = true,
                _ if !element.members().is_empty() && joined => joined = element.after_break,
                _ if self.is_noun(before) => joined |= element.after_break,
                _ => return None,
            }
            at = before;
        }
        None
    }

    /// Whether a noun only says what the member beside it is: "room R1".
    fn is_noun(&self, k: usize) -> bool {
        let dimensions = self.elements[k].dimensions();
        let beside = [k.checked_sub(1), Some(k + 1)];
        self.elements[k].members().is_empty()
            && beside
                .into_iter()
                .flatten()
                .filter_map(|n| self.elements.get(n))
                .flat_map(|it| it.members())
                .any(|(dimension, _)| dimensions.contains(&dimension))
    }

    /// Whether the next element is a member of one of these dimensions.
    pub(super) fn member_follows(&self, k: usize, dimensions: &[String]) -> bool {
        let next = self.elements.get(k + 1).filter(|it| !it.after_break);
        next.is_some_and(|it| {
            it.members()
                .iter()
                .any(|(dimension, _)| dimensions.contains(dimension))
        })
    }

    /// "No, by line": an answer to what was said before.
    fn interjects(&self, k: usize) -> bool {
        k == 0
            && self.elements[k].words.eq_ignore_ascii_case("no")
            && self.elements.get(1).is_some_and(|it| it.after_break)
    }

    /// The negations that no filter carries out, with what they were said of.
    pub(super) fn unmet(&self, slots: &Slots) -> Vec<String> {
        let negated = slots.members.iter().filter(|it| it.negated);
        let unset = slots.unset.iter().filter_map(|it| self.previous(it.k));
        let met: Vec<usize> = negated
            .clone()
            .filter_map(|it| self.negation(it.k))
            .chain(unset)
            .collect();
        let open = |k: &usize| {
            let role = self.elements[*k].role();
            matches!(role, Some(Role::Except | Role::Without))
                && !met.contains(k)
                && !self.interjects(*k)
        };
        let mut out: Vec<String> = (0..self.elements.len())
            .filter(open)
            .map(|k| self.said_of(k))
            .collect();
        out.extend(self.both(slots));
        // "Excluding refills line 1": both, or the one of the other?
        let follows = |it: &&MemberMention| {
            let beside = |other: &MemberMention| other.k + 1 == it.k;
            !it.negated && !self.elements[it.k].after_break && negated.clone().any(beside)
        };
        let unclear = slots.members.iter().filter(follows);
        out.extend(unclear.map(|it| {
            let before = &self.elements[it.k - 1].words;
            format!("leaving out {before} {}", it.words)
        }));
        out
    }

    /// "Both", where nothing that was said is two.
    fn both(&self, slots: &Slots) -> Option<String> {
        let both = self
            .elements
            .iter()
            .find(|it| it.words.eq_ignore_ascii_case("both"))?;
        let several = slots.members.len() > 1 || slots.measures.len() > 1;
        (!several && slots.dimensions.is_empty()).then(|| format!("“{}”", both.words))
    }

    /// A negation with the words up to the one that it may be about.
    fn said_of(&self, k: usize) -> String {
        let last = (k + 1..self.elements.len())
            .find(|n| !self.elements[*n].is_filler())
            .unwrap_or(k);
        let said = self.elements[k..=last].iter().map(|it| it.words.as_str());
        format!("“{}”", said.collect::<Vec<_>>().join(" "))
    }

    /// "Second highest": a place that no order with a limit picks out.
    pub(super) fn place(&self, k: usize) -> Option<String> {
        let next = self.elements.get(k + 1)?;
        let ranks = matches!(
            next.role(),
            Some(
                Role::Highest | Role::Lowest | Role::Best | Role::Worst | Role::Top | Role::Bottom
            )
        );
        let words = self.elements[k].words.to_lowercase();
        let ends = ["nd", "rd", "th"].iter().any(|it| words.ends_with(it));
        let ordinal = words == "second" || ends && words.starts_with(|c: char| c.is_ascii_digit());
        (ranks && ordinal).then(|| format!("“{words} {}”", next.words))
    }
}
