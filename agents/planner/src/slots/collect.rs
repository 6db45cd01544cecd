//! Which element takes which slot, by what stands around it.

use ballpoint_metrics::catalog::Catalog;

use super::{MemberMention, Mention, Rank, Slots, counts};
use crate::lexicon::noun;
use crate::plan::{ChartKind, Note};
use crate::reader::{Element, Kind};
use crate::time::When;
use crate::words::Role;

pub(super) struct Collector<'a> {
    pub(super) elements: &'a [Element],
    pub(super) catalog: &'a Catalog,
}

impl Collector<'_> {
    pub(super) fn element(&self, k: usize, slots: &mut Slots) {
        let element = &self.elements[k];
        match &element.kind {
            Kind::When(when) => note_time(when, slots),
            Kind::Number(_) => {}
            Kind::Place(place) => slots.place = Some(*place),
            Kind::Unknown => self.unknown(k, slots),
            Kind::Phrase { role, .. } => {
                let taken = self.meaning(k, slots);
                if let Some(role) = role {
                    self.role(k, *role, taken, slots);
                }
            }
        }
    }

    /// Gives a phrase with meanings its slot; tells whether it took one.
    fn meaning(&self, k: usize, slots: &mut Slots) -> bool {
        let element = &self.elements[k];
        let (measures, dimensions, members) =
            (element.measures(), element.dimensions(), element.members());
        if let Some(crate::lexicon::Meaning::Cube(name)) = element
            .meanings()
            .iter()
            .find(|it| matches!(it, crate::lexicon::Meaning::Cube(_)))
            && element.row_counts().is_empty()
        {
            slots.cube = Some(name.clone());
            return true;
        }
        let before = self.previous(k).and_then(|p| self.elements[p].role());
        let grouped = matches!(before, Some(Role::By | Role::Each | Role::Which));
        let mention = |candidates: Vec<String>| Mention {
            words: element.words.clone(),
            candidates,
            k,
            everyday: element.role() == Some(Role::Everyday),
            counting: element.role() == Some(Role::HowMany),
        };
        if before == Some(Role::Without) {
            let empty = if dimensions.is_empty() {
                self.dimensions_of(&measures)
            } else {
                dimensions.clone()
            };
            if !empty.is_empty() && !self.member_follows(k, &empty) {
                slots.unset.push(mention(empty));
                return true;
            }
        }
        // "how many active customers": the adjective is a value, the noun is counted.
        let entity = members.is_empty() || !element.row_counts().is_empty();
        let counts = before == Some(Role::HowMany) && entity;
        if counts && !dimensions.is_empty() && measures.is_empty() {
            let candidates = [dimensions, element.row_counts()].concat();
            slots.counted.push(mention(candidates));
            return true;
        }
        if grouped && !dimensions.is_empty() {
            slots.dimensions.push(mention(dimensions));
            return true;
        }
        let of_base = slots.share_of_base && !measures.is_empty();
        if !members.is_empty() && !of_base && (measures.is_empty() || self.qualifies(k)) {
            let negated = self.negation(k).is_some();
            let words = element.words.clone();
            slots.members.push(MemberMention {
                words,
                candidates: members,
                k,
                negated,
            });
            return true;
        }
        if !measures.is_empty() {
            self.measured(k, mention(measures), slots);
            return true;
        }
        if !dimensions.is_empty() {
            slots.dimensions.push(mention(dimensions));
            return true;
        }
        false
    }

    /// Gives a measure its slot, unless it only counts or describes another one.
    fn measured(&self, k: usize, mention: Mention, slots: &mut Slots) {
        let element = &self.elements[k];
        let counts = mention.candidates.iter().any(|it| self.is_plain_count(it));
        if counts && self.follows_per(k) {
            // A figure of so much for each row is no figure of this registry.
            slots.unmet.push(format!("“per {}”", element.words));
            return;
        }
        let aside = is_adjective(element) || element.role() == Some(Role::HowMany);
        if !aside || !self.other_measure(k) {
            slots.measures.push(mention);
        }
        if crate::normalise::words(&element.words)
            .first()
            .is_some_and(|it| it == "average")
        {
            self.average(k, slots);
            slots.average_word = false;
        }
    }

    /// Dimensions of the entity that these measures count.
    fn dimensions_of(&self, measures: &[String]) -> Vec<String> {
        let all = self.catalog.cubes.iter().flat_map(|cube| &cube.dimensions);
        all.filter(|it| it.member_type != "time")
            .filter(|it| measures.iter().any(|name| counts(name, &noun(&it.name))))
            .map(|it| it.name.clone())
            .collect()
    }

    /// A word that is both a measure and a member qualifies another measure, unless it is listed
    /// beside it.
    fn qualifies(&self, k: usize) -> bool {
        self.other_measure(k) && !self.listed(k)
    }

    fn other_measure(&self, k: usize) -> bool {
        self.elements.iter().enumerate().any(|(n, it)| {
            n != k && !it.measures().is_empty() && it.members().is_empty() && !is_adjective(it)
        })
    }

    pub(super) fn listed(&self, k: usize) -> bool {
        let joined = |at: usize| {
            self.elements[at].after_break
                || self
                    .elements
                    .get(at.wrapping_sub(1))
                    .is_some_and(|it| it.role() == Some(Role::And))
        };
        let is_measure =
            |at: Option<usize>| at.is_some_and(|n| !self.elements[n].measures().is_empty());
        joined(k) && is_measure(self.content_before(k))
            || self
                .content_after(k)
                .is_some_and(|n| joined(n) && is_measure(Some(n)))
    }

    fn unknown(&self, k: usize, slots: &mut Slots) {
        let element = &self.elements[k];
        let before = k.checked_sub(1).map(|n| &self.elements[n]);
        if let Some(unit) = self.ranked_unit(k) {
            slots.step = Some(unit);
            slots.counts_steps = self.counts(k);
            return;
        }
        let dated = self.dates(k);
        if !dated.is_empty() {
            slots.dated.extend(dated);
            return;
        }
        let letter = element.words.chars().count() == 1;
        match before
            .map(Element::dimensions)
            .filter(|it| !it.is_empty() && letter)
        {
            Some(dimensions) => {
                let words = format!("{} {}", self.elements[k - 1].words, element.words);
                slots.absent.push((words, dimensions));
            }
            None => slots.unknown.push(element.words.clone()),
        }
    }

    fn role(&self, k: usize, role: Role, taken: bool, slots: &mut Slots) {
        if slots.members.last().is_some_and(|it| it.k == k) {
            // "high" as a value asks for no order.
            return;
        }
        let rank = match role {
            Role::Best => Some(Rank::Best),
            Role::Worst => Some(Rank::Worst),
            Role::Top | Role::Highest | Role::Descending => Some(Rank::Desc),
            Role::Bottom | Role::Lowest | Role::Ascending => Some(Rank::Asc),
            _ => None,
        };
        if rank.is_some()
            && slots
                .rank
                .is_none_or(|old| matches!(old, Rank::Desc | Rank::Asc))
        {
            slots.rank = rank;
            slots.rank_word = Some(self.elements[k].words.clone());
            slots.rank_at = Some(k);
        }
        if rank.is_some() && self.of_a_change(k) {
            let change = &self.elements[k + 1].words;
            slots
                .unmet
                .push(format!("“{} {change}”", self.elements[k].words));
        }
        match role {
            Role::Share if self.asks_share(k) => self.share(k, slots),
            Role::Percent if !taken && self.asks_share(k) => self.share(k, slots),
            Role::Low if !slots.has(Role::Why) => slots.rank_by(Rank::Worst, k, self.elements),
            Role::High if !slots.has(Role::Why) => slots.rank_by(Rank::Desc, k, self.elements),
            Role::Average => self.average(k, slots),
            Role::Sort => slots.sort_at = Some(k),
            Role::Line => slots.chart = Some(ChartKind::Line),
            Role::Bar => slots.chart = Some(ChartKind::Bar),
            Role::Table => slots.chart = Some(ChartKind::Table),
            Role::Pareto => {
                slots.chart = Some(ChartKind::Pareto);
                slots.rank = Some(Rank::Desc);
            }
            Role::Moving if !taken => slots.unknown.push(self.elements[k].words.clone()),
            Role::Seconds => slots.unmet.extend(self.place(k)),
            Role::Minutes => {
                slots.notes.push(Note::OtherUnit {
                    asked: self.elements[k].words.clone(),
                });
            }
            _ => {}
        }
    }

    fn share(&self, k: usize, slots: &mut Slots) {
        slots.share = true;
        let next = self.content_after(k).map(|n| &self.elements[n]);
        slots.share_of_base = next.is_some_and(|it| {
            let members = it.measures().is_empty() && !it.members().is_empty();
            members || it.measures().iter().any(|name| self.is_plain_count(name))
        });
    }

    /// "what percentage of", not the unit after a number.
    fn asks_share(&self, k: usize) -> bool {
        k.checked_sub(1)
            .is_none_or(|n| !matches!(self.elements[n].kind, Kind::Number(_)))
    }

    /// An average to be compared with, or only the kind of figure.
    fn average(&self, k: usize, slots: &mut Slots) {
        slots.average_word = true;
        let before = self.previous_any(k).map(|n| &self.elements[n]);
        let compared = self
            .elements
            .iter()
            .any(|it| matches!(it.role(), Some(Role::Compare | Role::Versus)));
        let against = before.is_some_and(|it| match it.role() {
            Some(Role::Than | Role::Versus | Role::Over | Role::Under) => true,
            Some(Role::Overall) => true,
            _ => compared && it.meanings() == [crate::lexicon::Meaning::Subject],
        });
        if against || compared && self.elements.iter().any(|it| it.role() == Some(Role::Each)) {
            let below = self
                .elements
                .iter()
                .any(|it| matches!(it.role(), Some(Role::Under | Role::LessComparative)));
            slots.benchmark.get_or_insert_default().below |= below;
        }
    }

    /// Drops mentions that only repeat or narrow down a neighbour.
    pub(super) fn absorb(&self, slots: &mut Slots) {
        let members = slots.members.clone();
        let measured = !slots.measures.is_empty();
        if slots.cube.is_none() {
            slots.cube = slots
                .dimensions
                .iter()
                .find_map(|it| self.owns(it, &slots.measures));
        }
        slots.dimensions.retain(|mention| {
            let repeats = members.iter().any(|member| {
                let adjacent = member.k + 1 == mention.k || mention.k + 1 == member.k;
                adjacent
                    && !self.elements[member.k.max(mention.k)].after_break
                    && member
                        .candidates
                        .iter()
                        .any(|(name, _)| mention.candidates.contains(name))
            });
            let heads = measured
                && (self.heads(mention, &members) || self.owns(mention, &slots.measures).is_some());
            !(repeats || heads)
        });
        let absent = slots.absent.clone();
        let exists = |it: &Mention| absent.iter().all(|(_, no)| *no != it.candidates);
        slots.dimensions.retain(exists);
        let bases: Vec<Mention> = slots.measures.clone();
        let of_rows = |mention: &Mention| self.rows_of(mention, &bases);
        if slots.cube.is_none() {
            slots.cube = bases.iter().find_map(of_rows);
        }
        slots.measures.retain(|mention| {
            let plain = mention
                .candidates
                .iter()
                .any(|name| self.is_plain_count(name));
            let bound = slots
                .bounds
                .iter()
                .any(|it| it.measure.map(|n| bases[n].k) == Some(mention.k));
            let others: Vec<&Mention> = bases
                .iter()
                .filter(|it| it.k != mention.k && it.candidates != mention.candidates)
                .collect();
            let specific = others.iter().any(|it| {
                self.same_count(&mention.candidates, &it.candidates)
                    && !self.listed(mention.k)
                    && !self.listed(it.k)
            });
            let rows = of_rows(mention).is_some() && !bound;
            !(plain && !bound && (specific || slots.share && !others.is_empty()) || rows)
        });
        // A bound keeps pointing at its measure.
        for bound in &mut slots.bounds {
            bound.measure = bound
                .measure
                .and_then(|n| slots.measures.iter().position(|it| it.k == bases[n].k));
        }
        let mut seen: Vec<Vec<String>> = Vec::new();
        slots.dimensions.retain(|it| {
            let new = !seen.contains(&it.candidates);
            seen.push(it.candidates.clone());
            new
        });
        self.count_rows(slots);
    }

    /// Whether two neighbouring measures have no "and", comma or comparison between them.
    pub(super) fn unjoined(&self, slots: &Slots) -> bool {
        slots.measures.windows(2).any(|pair| {
            let between = &self.elements[pair[0].k + 1..=pair[1].k];
            let joins = |it: &Element| {
                it.after_break
                    || matches!(
                        it.role(),
                        Some(Role::And | Role::Or | Role::Versus | Role::Compare | Role::Also)
                    )
                    || matches!(it.kind, Kind::Number(_))
            };
            let bound = |mention: &Mention| {
                let about = |it: &super::Bound| it.measure.and_then(|n| slots.measures.get(n));
                slots
                    .bounds
                    .iter()
                    .filter_map(about)
                    .any(|it| it.k == mention.k)
            };
            let conditions = pair.iter().all(bound);
            pair[0].candidates != pair[1].candidates && !conditions && !between.iter().any(joins)
        })
    }

    /// Whether another measure counts the same units, only fewer of them.
    fn same_count(&self, plain: &[String], other: &[String]) -> bool {
        let unit = plain
            .iter()
            .filter(|it| self.is_plain_count(it))
            .find_map(|it| self.unit(it));
        other.iter().any(|name| {
            let kind = self.catalog.member(name).map(|it| it.member_type.as_str());
            matches!(kind, Some("count" | "sum")) && unit.is_some() && self.unit(name) == unit
        })
    }

    fn unit(&self, name: &str) -> Option<&str> {
        self.catalog.member(name)?.meta.get("unit")?.as_str()
    }

    pub(super) fn is_plain_count(&self, name: &str) -> bool {
        name.ends_with(".count")
    }

    /// The element before that is not a filler.
    pub(super) fn previous(&self, k: usize) -> Option<usize> {
        (0..k).rev().find(|n| !self.elements[*n].is_filler())
    }

    fn previous_any(&self, k: usize) -> Option<usize> {
        (0..k)
            .rev()
            .find(|n| self.elements[*n].role() != Some(Role::Filler))
    }

    /// "Per" right before it.
    fn follows_per(&self, k: usize) -> bool {
        let before = k.checked_sub(1).map(|n| &self.elements[n]);
        before.is_some_and(|it| it.words.eq_ignore_ascii_case("per"))
    }

    /// "Biggest drop": no query orders by a change.
    fn of_a_change(&self, k: usize) -> bool {
        let next = self.elements.get(k + 1).and_then(Element::role);
        matches!(next, Some(Role::Movement | Role::Change))
    }

    /// The element with a meaning before, or after.
    fn content_before(&self, k: usize) -> Option<usize> {
        (0..k)
            .rev()
            .find(|n| !self.elements[*n].meanings().is_empty())
    }

    fn content_after(&self, k: usize) -> Option<usize> {
        (k + 1..self.elements.len()).find(|n| !self.elements[*n].meanings().is_empty())
    }
}

fn note_time(when: &When, slots: &mut Slots) {
    match when {
        When::Window(window) => slots.windows.push(*window),
        When::Span(first, last) => {
            slots.windows.push(first.through(*last));
            slots.ends = Some((*first, *last));
        }
        When::Before(unit) => slots.before = Some(*unit),
        When::Step(unit) => slots.step = Some(*unit),
        When::OverPrevious(unit) => slots.over_previous = Some(*unit),
        When::Future => slots.future = true,
    }
}

/// A comparative or superlative, which names a measure only if nothing else does.
fn is_adjective(it: &Element) -> bool {
    matches!(
        it.role(),
        Some(Role::Best | Role::Worst | Role::SlowComparative | Role::MoreComparative)
    )
}
