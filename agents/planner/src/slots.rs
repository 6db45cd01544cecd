//! The roles that a question's elements play: what is measured, by what, for which members, over
//! which time, in which order. Members still have all their candidates; a cube is chosen later.

mod collect;
mod dated;
mod figures;
mod negation;
mod rows;

use ballpoint_metrics::catalog::Catalog;

use crate::frame::{Unit, Window};
use crate::plan::{ChartKind, Note};
use crate::reader::{Element, Kind};
use crate::words::Role;

/// A mention of a measure or dimension, by everything it may stand for.
#[derive(Clone, Debug)]
pub(crate) struct Mention {
    pub(crate) words: String,
    pub(crate) candidates: Vec<String>,
    /// Index of the element.
    pub(crate) k: usize,
    pub(crate) everyday: bool,
    /// Said as "count" or "number of", which may mean the count of what else is named.
    pub(crate) counting: bool,
}

/// A mention of a member of a dimension.
#[derive(Clone, Debug)]
pub(crate) struct MemberMention {
    pub(crate) words: String,
    pub(crate) candidates: Vec<(String, String)>,
    pub(crate) k: usize,
    pub(crate) negated: bool,
}

/// The order asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// By what the measure calls better.
    Best,
    Worst,
    Desc,
    Asc,
}

/// "under 94", with the measure it was said about.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) operator: &'static str,
    pub(crate) number: f64,
    pub(crate) percent: bool,
    /// Index into the measures.
    pub(crate) measure: Option<usize>,
}

/// Against the average of all, possibly by more than so much.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Benchmark {
    pub(crate) threshold: Option<f64>,
    pub(crate) below: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    pub(crate) measures: Vec<Mention>,
    pub(crate) dimensions: Vec<Mention>,
    pub(crate) members: Vec<MemberMention>,
    /// Dimensions that must have no value.
    pub(crate) unset: Vec<Mention>,
    /// "how many" of these.
    pub(crate) counted: Vec<Mention>,
    pub(crate) cube: Option<String>,
    pub(crate) windows: Vec<Window>,
    pub(crate) before: Option<Option<Unit>>,
    pub(crate) over_previous: Option<Unit>,
    pub(crate) step: Option<Unit>,
    pub(crate) future: bool,
    pub(crate) rank: Option<Rank>,
    pub(crate) rank_word: Option<String>,
    /// Index of the element that asked for the order.
    pub(crate) rank_at: Option<usize>,
    /// Index of the element that asked for sorting.
    pub(crate) sort_at: Option<usize>,
    /// A moving window was given in hours.
    pub(crate) moving_hour: bool,
    pub(crate) limit: Option<u32>,
    /// Which one of the order is asked for, from 2 on.
    pub(crate) place: Option<usize>,
    /// "How much" was asked, of a change by how much.
    pub(crate) how_much: bool,
    /// "How many days": the steps of a series that a bound chooses.
    pub(crate) counts_steps: bool,
    /// "The previous month", which in a conversation may be the one before the last spoken of.
    pub(crate) says_previous: bool,
    /// One thing that was shown is pointed at: "that one", "how is it doing".
    pub(crate) points_at_one: bool,
    /// "When was it lowest": the answer is a time.
    pub(crate) asks_when: bool,
    /// The ends of a window said as two periods: "from january to march".
    pub(crate) ends: Option<(Window, Window)>,
    /// Time dimensions that a verb of the question names: "shipped last week".
    pub(crate) dated: Vec<String>,
    pub(crate) bounds: Vec<Bound>,
    pub(crate) benchmark: Option<Benchmark>,
    pub(crate) average_word: bool,
    pub(crate) share: bool,
    /// The share is of a member or of everything: "percent of A that failed".
    pub(crate) share_of_base: bool,
    pub(crate) chart: Option<ChartKind>,
    pub(crate) roles: Vec<Role>,
    /// Words that nothing explains, as written.
    pub(crate) unknown: Vec<String>,
    /// Members asked for by a number or letter that does not exist, with their dimension.
    pub(crate) absent: Vec<(String, Vec<String>)>,
    /// What was asked for and no query does: a negation, a place in an order.
    pub(crate) unmet: Vec<String>,
    pub(crate) notes: Vec<Note>,
    /// Two measures stand side by side with nothing that joins them.
    pub(crate) unjoined: bool,
    /// The question opens as a continuation: "and …", "now …".
    pub(crate) starts_with_and: bool,
}

impl Slots {
    fn rank_by(&mut self, rank: Rank, k: usize, elements: &[Element]) {
        if self.rank.is_none() {
            self.rank = Some(rank);
            self.rank_word = Some(elements[k].words.clone());
            self.rank_at = Some(k);
        }
    }

    /// Whether a change is to be taken apart: "what drove it", "why did it drop".
    pub(crate) fn asks_drivers(&self) -> bool {
        let changes = self.has(Role::Movement) || self.has(Role::Change);
        self.has(Role::Drivers) || self.has(Role::Why) && changes && !self.measures.is_empty()
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Fills the slots from the elements of a question.
    pub(crate) fn collect(elements: &[Element], catalog: &Catalog) -> Self {
        let mut slots = Self {
            starts_with_and: elements.first().is_some_and(|it| {
                it.role() == Some(Role::And) || it.words.eq_ignore_ascii_case("now")
            }),
            roles: elements.iter().filter_map(Element::role).collect(),
            ..Self::default()
        };
        let collector = collect::Collector { elements, catalog };
        let words = |it: &Element| it.words.to_lowercase();
        slots.says_previous = elements.iter().any(|it| {
            matches!(it.kind, Kind::When(_))
                && ["previous", "prior"]
                    .iter()
                    .any(|word| words(it).contains(word))
        });
        let doing = elements
            .iter()
            .any(|it| matches!(words(it).as_str(), "doing" | "perform" | "performing"));
        slots.points_at_one = elements.iter().any(|it| match words(it).as_str() {
            "that one" | "this one" => true,
            "it" => doing,
            _ => false,
        });
        slots.how_much = elements.windows(2).any(|pair| {
            let said = |at: usize, word: &str| pair[at].words.eq_ignore_ascii_case(word);
            said(0, "how") && said(1, "much")
        });
        slots.asks_when = elements
            .iter()
            .any(|it| it.words.eq_ignore_ascii_case("when"));
        for k in 0..elements.len() {
            collector.element(k, &mut slots);
        }
        for k in 0..elements.len() {
            collector.figures(k, &mut slots);
        }
        let unmet = collector.unmet(&slots);
        slots.unmet.extend(unmet);
        collector.absorb(&mut slots);
        let more = slots.has(Role::MoreComparative) || slots.has(Role::SlowComparative);
        let open = slots.rank.is_none() && slots.bounds.is_empty() && slots.benchmark.is_none();
        if open && slots.members.is_empty() && !slots.dimensions.is_empty() {
            let less = slots.has(Role::LessComparative);
            slots.rank = if more {
                Some(Rank::Desc)
            } else {
                less.then_some(Rank::Asc)
            };
        }
        slots.unjoined = !slots.share && collector.unjoined(&slots);
        slots.moving_hour = elements.iter().any(|it| {
            let words = it.words.to_lowercase();
            words.contains("hour") && words.contains("moving")
        });
        slots
    }
}

/// Whether a measure counts the entity with this noun: `defectCount` and `defect`.
pub(crate) fn counts(measure: &str, noun: &str) -> bool {
    let words = crate::lexicon::camel_words(crate::frame::local(measure));
    words.last().is_some_and(|last| last == "count") && words[..words.len() - 1].join(" ") == noun
}
