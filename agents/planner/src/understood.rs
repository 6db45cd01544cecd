//! What of a question the planner has read, whether or not that made a plan: what another reader of
//! the same question is checked against.

use jiff::civil::DateTime;

use crate::Planner;
use crate::decide::read_question;
use crate::frame::{Condition, Frame, Unit, Window, local};
use crate::plan::Context;
use crate::reader::Kind;
use crate::registry::Registry;
use crate::slots::Slots;
use crate::time::end_of;
use crate::words::Role;

/// The parts of a question that are certain, and the words that are not.
#[derive(Clone, Debug, PartialEq)]
pub struct Understood {
    pub windows: Vec<Window>,
    pub members: Vec<NamedMember>,
    pub measures: Vec<Named>,
    pub dimensions: Vec<Named>,
    /// Dimensions of `dimensions` that the result is wanted by.
    pub groups: Vec<Named>,
    /// One member is held against the others.
    pub compares: bool,
    /// Numbers that are neither a time nor part of a member's name.
    pub numbers: Vec<f64>,
    pub step: Option<Unit>,
    /// Something is to be left out.
    pub negates: bool,
    /// Words that nothing explains, as they were written.
    pub unknown: Vec<String>,
    /// The end of today: later than that nothing has happened, so windows end there alike.
    pub today_ends: DateTime,
}

/// Words and the members they may stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub words: String,
    pub candidates: Vec<String>,
}

/// Words and the values they may stand for, each with its dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedMember {
    pub words: String,
    pub candidates: Vec<(String, String)>,
    pub negated: bool,
}

/// Where another reading of the question departs from what was read for certain.
#[derive(Clone, Debug, PartialEq)]
pub enum Disagreement {
    /// Another time, with the times that the question speaks of.
    Time { said: Vec<Window> },
    /// A member of the data that the other reading leaves out or turns around.
    Member(NamedMember),
    /// Something else that was said and is not in the other reading.
    Lost { words: String },
}

impl Planner {
    /// What is certain about a question.
    pub fn understood(&self, question: &str, context: &Context) -> Understood {
        let (elements, corrected) = read_question(self, question, context);
        // A word that had to be corrected may well be another one.
        let certain = |words: &str| {
            words
                .split_whitespace()
                .all(|it| !corrected.iter().any(|word| word == it))
        };
        let grouped = |k: usize| {
            let before = k.checked_sub(1).and_then(|it| elements.get(it));
            matches!(before.and_then(|it| it.role()), Some(Role::By | Role::Each))
        };
        let slots = Slots::collect(&elements, self.catalog());
        let numbers = elements.iter().filter_map(|it| match it.kind {
            Kind::Number(number) => Some(number),
            _ => None,
        });
        let named = |words: &str, candidates: &[String]| Named {
            words: words.to_owned(),
            candidates: candidates.to_vec(),
        };
        Understood {
            windows: slots.windows.clone(),
            members: slots
                .members
                .iter()
                .map(|it| NamedMember {
                    words: it.words.clone(),
                    candidates: it.candidates.clone(),
                    negated: it.negated,
                })
                .collect(),
            measures: slots
                .measures
                .iter()
                .filter(|it| !it.everyday && !it.counting && certain(&it.words))
                .map(|it| named(&it.words, &it.candidates))
                .collect(),
            dimensions: slots
                .dimensions
                .iter()
                .map(|it| named(&it.words, &it.candidates))
                .collect(),
            groups: slots
                .dimensions
                .iter()
                .filter(|it| grouped(it.k) && certain(&it.words))
                .map(|it| named(&it.words, &it.candidates))
                .collect(),
            compares: COMPARING.iter().any(|role| slots.has(*role)),
            numbers: numbers.collect(),
            step: slots.step,
            negates: slots.has(Role::Except) || slots.has(Role::Without),
            unknown: slots.unknown.clone(),
            today_ends: end_of(context.now.date()),
        }
    }
}

/// Words that hold one thing against others.
const COMPARING: [Role; 6] = [
    Role::Than,
    Role::Versus,
    Role::Compare,
    Role::MoreComparative,
    Role::LessComparative,
    Role::SlowComparative,
];

impl Planner {
    /// The first thing that was said and that a frame does not say, or says otherwise.
    pub fn disagreement(&self, understood: &Understood, frame: &Frame) -> Option<Disagreement> {
        let registry = Registry {
            catalog: self.catalog(),
        };
        understood
            .time(frame)
            .or_else(|| understood.member(frame, registry))
            .or_else(|| understood.lost(frame))
    }
}

impl Understood {
    fn time(&self, frame: &Frame) -> Option<Disagreement> {
        if self.windows.is_empty() {
            return None;
        }
        let mut said: Vec<[String; 2]> = self.windows.iter().map(|it| self.span(it)).collect();
        let mut read: Vec<[String; 2]> = frame
            .window
            .iter()
            .chain(&frame.against)
            .map(|it| self.span(it))
            .collect();
        said.sort();
        read.sort();
        (said != read).then(|| Disagreement::Time {
            said: self.windows.clone(),
        })
    }

    /// Both ends as moments: a whole day and its first and last moment are the same.
    fn span(&self, window: &Window) -> [String; 2] {
        [window.from, window.to.min(self.today_ends)]
            .map(|at| at.strftime("%Y-%m-%dT%H:%M").to_string())
    }

    fn member(&self, frame: &Frame, registry: Registry<'_>) -> Option<Disagreement> {
        // What a measure exists for alone need not be said of it.
        let implied = |named: &NamedMember| {
            let only = frame.measures.first().and_then(|it| registry.only(it));
            only.is_some_and(|only| {
                let own = |(dimension, value): &(String, String)| {
                    local(dimension) == only.member && only.values == [value.as_str()]
                };
                !named.negated && named.candidates.iter().any(own)
            })
        };
        let told_apart = |named: &NamedMember| {
            let own = |(dimension, _): &(String, String)| {
                frame
                    .dimensions
                    .iter()
                    .any(|it| local(it) == local(dimension))
            };
            self.compares && !named.negated && named.candidates.iter().any(own)
        };
        let differs = |named: &&NamedMember| {
            let holds = |condition: &Condition, operator: &str| {
                condition.operator == operator
                    && named.candidates.iter().any(|(dimension, value)| {
                        local(dimension) == local(&condition.member)
                            && condition.values.contains(value)
                    })
            };
            let (wanted, turned) = if named.negated {
                ("notEquals", "equals")
            } else {
                ("equals", "notEquals")
            };
            let said = frame.filters.iter().any(|it| holds(it, wanted));
            let opposite = frame.filters.iter().any(|it| holds(it, turned));
            let filtered = frame.filters.iter().any(|it| {
                named
                    .candidates
                    .iter()
                    .any(|(dimension, _)| local(dimension) == local(&it.member))
            });
            let elsewise = !filtered && (implied(named) || told_apart(named));
            opposite || !said && !elsewise
        };
        self.members
            .iter()
            .find(differs)
            .map(|it| Disagreement::Member(it.clone()))
    }

    fn lost(&self, frame: &Frame) -> Option<Disagreement> {
        let lost = |words: &str| {
            Some(Disagreement::Lost {
                words: words.to_owned(),
            })
        };
        let bounded = |name: &str| frame.filters.iter().any(|it| it.member == name);
        let same = |a: &str, b: &str| local(a) == local(b);
        for measure in &self.measures {
            let named = |it: &String| frame.measures.iter().any(|own| same(own, it)) || bounded(it);
            if !measure.candidates.iter().any(named) {
                return lost(&measure.words);
            }
        }
        for group in &self.groups {
            let held = |it: &String| frame.dimensions.iter().any(|own| same(own, it));
            if !group.candidates.iter().any(held) {
                return lost(&group.words);
            }
        }
        for number in &self.numbers {
            let text = number.to_string();
            let in_values = frame.filters.iter().any(|it| {
                it.values.iter().any(|value| {
                    *value == text || value.parse() == Ok(*number) || names(value, *number)
                })
            });
            let is_limit = frame.limit.is_some_and(|limit| f64::from(limit) == *number);
            if !in_values && !is_limit {
                return lost(&text);
            }
        }
        let negative = |it: &Condition| it.operator.starts_with("not");
        if self.negates && !frame.filters.iter().any(negative) {
            return lost("what is to be left out");
        }
        if let Some(step) = self.step
            && frame.granularity != Some(step)
        {
            return lost(step.name());
        }
        None
    }
}

/// Whether a value's name ends with a number: `OP-017` and 17.
fn names(value: &str, number: f64) -> bool {
    let digits: String = value
        .chars()
        .rev()
        .take_while(char::is_ascii_digit)
        .collect();
    let digits: String = digits.chars().rev().collect();
    digits.parse() == Ok(number)
}
