//! From a question to a plan: guard, read, fill the slots, compose, check, decide.

mod beside;
mod meta;
mod partial;
mod reading;

use crate::Planner;
use crate::compose::Composer;
use crate::frame::{Frame, cube_of};
use crate::guard::{Verdict, judge};
use crate::normalise::{Token, tokens};
use crate::plan::{
    ChartKind, Choice, Clarification, Context, Coverage, DialogueState, MetaKind, MetaPlan, Note,
    Plan, QueryPlan, Question, Reason, Refusal,
};
use crate::reader::{Element, read};
use crate::registry::Registry;
use crate::resolve::{Asked, Open, Resolver};
use crate::settle::settle;
use crate::slots::Slots;
use crate::words::Role;

pub(crate) fn decide(
    planner: &Planner,
    question: &str,
    state: &DialogueState,
    context: &Context,
) -> Plan {
    let registry = Registry {
        catalog: &planner.catalog,
    };
    let refuse = |reason, subject| Refusal {
        reason,
        subject,
        offer: Vec::new(),
        coverage: None,
        reading: Vec::new(),
    };
    let mut notes = Vec::new();
    let mut kept: Vec<Token> = Vec::new();
    let mut deferred = None;
    for (text, sentence) in sentences(question) {
        match judge(&text, &sentence, state.last.is_some()) {
            Verdict::Refuse(
                reason @ (Reason::NoForecast | Reason::UnsupportedLanguage),
                subject,
            ) => {
                deferred.get_or_insert((reason, subject));
                kept.extend(sentence);
            }
            Verdict::Refuse(reason, subject) => return Plan::Refuse(refuse(reason, subject)),
            Verdict::Ignore => notes.push(Note::InstructionIgnored {
                text: text.trim().to_owned(),
            }),
            Verdict::Read => kept.extend(sentence),
        }
    }
    let (elements, spelling) = read(&kept, &planner.lexicon, context);
    let (elements, fresh) = after_reset(elements);
    let elements = settle(elements, state.last.is_some() && !fresh);
    let anew = DialogueState::default();
    let state = if fresh { &anew } else { state };
    let mut slots = Slots::collect(&elements, &planner.catalog);
    slots.notes.extend(notes.into_iter().chain(spelling));
    let decider = Decider {
        planner,
        registry,
        elements: &elements,
        slots: &slots,
        state,
        context,
    };
    if let Some((reason, subject)) = deferred {
        return Plan::Refuse(decider.refusal(reason, subject));
    }
    if fresh && elements.iter().all(Element::is_filler) {
        return Plan::Meta(MetaPlan {
            kind: MetaKind::Reset,
            reading: decider.reading(),
        });
    }
    decider.plan(question)
}

/// The elements of a question, without the sentences that are not one; and its words that were read
/// as others.
pub(crate) fn read_question(
    planner: &Planner,
    question: &str,
    context: &Context,
) -> (Vec<Element>, Vec<String>) {
    let kept: Vec<Token> = sentences(question)
        .into_iter()
        .filter(|(text, sentence)| judge(text, sentence, false) != Verdict::Ignore)
        .flat_map(|(_, sentence)| sentence)
        .collect();
    let (elements, notes) = read(&kept, &planner.lexicon, context);
    let corrected = notes.into_iter().filter_map(|note| match note {
        Note::Spelling { word, .. } => Some(word),
        _ => None,
    });
    (settle(after_reset(elements).0, false), corrected.collect())
}

/// The plan of a frame that did not come from words.
pub(crate) fn checked(planner: &Planner, frame: Frame, context: &Context) -> Plan {
    let decider = Decider {
        planner,
        registry: Registry {
            catalog: &planner.catalog,
        },
        elements: &[],
        slots: &Slots::default(),
        state: &DialogueState::default(),
        context,
    };
    decider.checked(frame)
}

/// The sentences with their tokens, numbered through.
fn sentences(question: &str) -> Vec<(String, Vec<Token>)> {
    let mut out: Vec<(String, Vec<Token>)> = Vec::new();
    let mut start = 0;
    let chars: Vec<(usize, char)> = question.char_indices().collect();
    for (n, (at, c)) in chars.iter().enumerate() {
        let gap = chars
            .get(n + 1)
            .is_none_or(|(_, next)| next.is_whitespace());
        if matches!(c, '.' | '!' | ';' | '\n') && gap {
            out.push((question[start..at + c.len_utf8()].to_owned(), Vec::new()));
            start = at + c.len_utf8();
        }
    }
    out.push((question[start..].to_owned(), Vec::new()));
    for (n, (text, list)) in out.iter_mut().enumerate() {
        *list = tokens(text);
        list.iter_mut().for_each(|token| token.sentence += n * 100);
        if let Some(first) = list.first_mut() {
            first.after_break = true;
        }
    }
    out.retain(|(_, list)| !list.is_empty());
    out
}

/// What follows "forget that"; whether it was said.
fn after_reset(mut elements: Vec<Element>) -> (Vec<Element>, bool) {
    match elements
        .iter()
        .rposition(|it| it.role() == Some(Role::Reset))
    {
        Some(at) => (elements.split_off(at + 1), true),
        None => (elements, false),
    }
}

struct Decider<'a> {
    planner: &'a Planner,
    registry: Registry<'a>,
    elements: &'a [Element],
    slots: &'a Slots,
    state: &'a DialogueState,
    context: &'a Context,
}

impl Decider<'_> {
    fn composer(&self) -> Composer<'_> {
        Composer {
            registry: self.registry,
            slots: self.slots,
            state: self.state,
            context: self.context,
        }
    }

    fn plan(&self, question: &str) -> Plan {
        if let Some(choice) = self.chosen(question) {
            return self.answer(choice, Vec::new());
        }
        if let Some(meta) = self.meta() {
            return Plan::Meta(MetaPlan {
                kind: meta,
                reading: self.reading(),
            });
        }
        if self.slots.future {
            return Plan::Refuse(self.refusal(Reason::NoForecast, Vec::new()));
        }
        if let Some((words, dimensions)) = self.slots.absent.first() {
            return Plan::Refuse(self.absent(words, dimensions));
        }
        if !self.slots.unknown.is_empty() {
            return self.unknown();
        }
        if !self.slots.unmet.is_empty() {
            let subject = self.slots.unmet.clone();
            return Plan::Refuse(self.refusal(Reason::Unsupported, subject));
        }
        if self.slots.has(Role::Why) && !self.slots.asks_drivers() {
            return match self.composer().why() {
                Some(frame) => self.answer(frame, Vec::new()),
                None => Plan::Refuse(self.refusal(Reason::Unsupported, vec!["why".into()])),
            };
        }
        if self.elements.iter().all(Element::is_filler) {
            return Plan::Meta(MetaPlan {
                kind: MetaKind::Catalog,
                reading: self.reading(),
            });
        }
        if self.averages_a_sum() {
            let subject = vec!["average of a total".to_owned()];
            return Plan::Refuse(self.refusal(Reason::Unsupported, subject));
        }
        match self.composer().frame() {
            Ok(frame) => self.checked(frame),
            Err(open) => self.open(open),
        }
    }

    /// "average units": there is no average of what is a count or a sum.
    fn averages_a_sum(&self) -> bool {
        let slots = self.slots;
        slots.average_word
            && slots.benchmark.is_none()
            && !slots.measures.is_empty()
            && slots.measures.iter().all(|it| {
                it.candidates
                    .first()
                    .is_some_and(|name| self.registry.is_additive(name))
            })
    }

    fn unknown(&self) -> Plan {
        let words = &self.slots.unknown;
        let known = !self.slots.measures.is_empty();
        let reason = if known {
            Reason::NoMember
        } else {
            Reason::NoMetric
        };
        Plan::Refuse(self.refusal(reason, words.clone()))
    }

    fn absent(&self, words: &str, dimensions: &[String]) -> Refusal {
        let member = dimensions
            .first()
            .and_then(|name| self.registry.member(name));
        let offer = member
            .map(|it| it.values.iter().take(12).cloned().collect())
            .unwrap_or_default();
        Refusal {
            offer,
            ..self.refusal(Reason::NoMember, vec![words.to_owned()])
        }
    }

    /// A refusal with what can be asked instead.
    fn refusal(&self, reason: Reason, subject: Vec<String>) -> Refusal {
        let cube = self
            .registry
            .cubes()
            .first()
            .map(|it| it.name.clone())
            .unwrap_or_default();
        let named = self.slots.measures.iter().filter_map(|it| {
            it.candidates
                .iter()
                .find(|name| cube_of(name) == cube)
                .or(it.candidates.first())
        });
        let named: Vec<String> = named.map(|name| self.registry.title(name)).collect();
        let headline = || -> Vec<String> {
            let count = self.registry.base_count(&cube);
            let rest = self.registry.headline(&cube, &[]);
            count
                .into_iter()
                .chain(rest)
                .take(4)
                .map(|it| self.registry.title(&it))
                .collect()
        };
        let offer = match reason {
            Reason::NoForecast => {
                let measures = if named.is_empty() { headline() } else { named };
                measures.iter().map(|it| format!("{it} trend")).collect()
            }
            Reason::NoMember => {
                let near = subject
                    .iter()
                    .flat_map(|word| self.planner.lexicon.near(&word.to_lowercase()));
                let mut offer = self.values_with(&subject);
                offer.extend(near);
                // What was just said and not understood is no help.
                offer.retain(|it| subject.iter().all(|said| !said.eq_ignore_ascii_case(it)));
                offer.extend(self.registry.nameable(&cube));
                offer
            }
            Reason::NoMetric => {
                let mut offer = self.registry.related(&subject);
                offer.extend(headline());
                offer
            }
            _ => headline(),
        };
        let mut seen = std::collections::BTreeSet::new();
        let offer = offer
            .into_iter()
            .filter(|it: &String| seen.insert(it.clone()))
            .collect();
        Refusal {
            reason,
            subject,
            offer,
            coverage: None,
            reading: self.reading(),
        }
    }

    fn open(&self, open: Open) -> Plan {
        match open {
            Open::No {
                reason,
                subject,
                offer,
            } => {
                let refusal = self.refusal(reason, subject);
                let offer = if offer.is_empty() {
                    refusal.offer
                } else {
                    offer
                };
                Plan::Refuse(Refusal { offer, ..refusal })
            }
            Open::Ask(asked) => {
                let Asked {
                    about,
                    question,
                    choices,
                    partial,
                } = *asked;
                if choices.is_empty() {
                    return Plan::Refuse(self.refusal(Reason::NoMetric, Vec::new()));
                }
                let options = choices.into_iter().map(|(label, frame)| Choice {
                    label,
                    query: frame.query(),
                    frame,
                });
                Plan::Clarify(Box::new(Clarification {
                    about,
                    question,
                    options: options.collect(),
                    reading: self.reading(),
                    frame: partial,
                }))
            }
        }
    }

    /// An everyday word alone is a question about which measure; the window must have data.
    fn checked(&self, frame: Frame) -> Plan {
        let alone = self.slots.measures.len() == 1;
        let vague = self.slots.measures.iter().find(|it| it.everyday && alone);
        let narrowed =
            !frame.filters.is_empty() || frame.window.is_some() || frame.granularity.is_some();
        if let Some(word) = vague.filter(|_| !narrowed && self.composer().is_new()) {
            let cube = frame.cube().unwrap_or_default().to_owned();
            let without = Frame {
                measures: Vec::new(),
                order: Vec::new(),
                derive: None,
                ..frame.clone()
            };
            if let Open::Ask(asked) = self.composer().which_metric(&cube, &without) {
                let Asked { about, choices, .. } = *asked;
                let own = (self.registry.title(&frame.measures[0]), frame.clone());
                let others = choices.into_iter().filter(|(label, _)| *label != own.0);
                let choices = std::iter::once(own.clone()).chain(others).take(4).collect();
                let question = Question::WhichMeaning {
                    word: word.words.clone(),
                };
                return self.open(Open::Ask(Box::new(Asked {
                    about,
                    question,
                    choices,
                    partial: without,
                })));
            }
        }
        let mut notes = Resolver {
            registry: self.registry,
            slots: self.slots,
        }
        .assumptions(&frame);
        match self.coverage(&frame) {
            Ok(gap) => {
                notes.extend(gap);
                notes.extend(partial::notes(&frame, self.context));
            }
            Err(coverage) => {
                let refusal = self.refusal(
                    Reason::NoData,
                    frame
                        .window
                        .map(|it| it.bounds().to_vec())
                        .unwrap_or_default(),
                );
                return Plan::Refuse(Refusal {
                    coverage: Some(coverage),
                    offer: Vec::new(),
                    ..refusal
                });
            }
        }
        self.answer(frame, notes)
    }

    /// Whether the window lies in the data: a note when in part, the coverage when not at all.
    fn coverage(&self, frame: &Frame) -> Result<Option<Note>, Coverage> {
        let (Some(window), Some(time)) = (&frame.window, &frame.time) else {
            return Ok(None);
        };
        let Some(coverage) = self.context.coverage.get(time) else {
            return Ok(None);
        };
        let now = self.context.now.datetime();
        if window.to < coverage.from || window.from > coverage.to && window.from > now {
            return Err(*coverage);
        }
        let late = window.from.date() < coverage.from.date();
        Ok(late.then_some(Note::CoverageGap {
            from: coverage.from,
            to: coverage.to,
        }))
    }

    fn answer(&self, frame: Frame, mut notes: Vec<Note>) -> Plan {
        notes.extend(self.slots.notes.iter().cloned());
        let companion = self.companion(&frame);
        Plan::Answer(Box::new(QueryPlan {
            query: frame.query(),
            companion: companion.map(|it| it.query()),
            chart: frame.chart.or_else(|| chart_of(&frame)),
            derive: frame.derive.clone(),
            notes,
            reading: self.reading(),
            frame,
        }))
    }
}

fn chart_of(frame: &Frame) -> Option<ChartKind> {
    let kind = match (frame.granularity.is_some(), frame.dimensions.len()) {
        (true, 0 | 1) if frame.order.is_empty() => ChartKind::Line,
        (true, _) => ChartKind::Bar,
        (false, 0) if frame.against.is_some() => ChartKind::Bar,
        (false, 0) => ChartKind::Kpi,
        (false, 1) if frame.measures.len() > 1 => ChartKind::GroupedBar,
        (false, 1) => ChartKind::Bar,
        (false, 2) => ChartKind::GroupedBar,
        (false, _) => ChartKind::Table,
    };
    Some(kind)
}
