//! What of a question the planner has read, whether or not that made a plan: what another reader of
//! the same question is checked against.

use jiff::civil::DateTime;

use crate::Planner;
use crate::decide::read_question;
use crate::frame::{Condition, Frame, Unit, Window, local};
use crate::plan::Context;
use crate::reader::Kind;
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
        let elements = read_question(self, question, context);
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
                .filter(|it| !it.everyday && !it.counting)
                .map(|it| named(&it.words, &it.candidates))
                .collect(),
            dimensions: slots
                .dimensions
                .iter()
                .map(|it| named(&it.words, &it.candidates))
                .collect(),
            numbers: numbers.collect(),
            step: slots.step,
            negates: slots.has(Role::Except) || slots.has(Role::Without),
            unknown: slots.unknown.clone(),
            today_ends: end_of(context.now.date()),
        }
    }
}

impl Understood {
    /// The first thing that was said and that a frame does not say, or says otherwise.
    pub fn disagreement(&self, frame: &Frame) -> Option<Disagreement> {
        self.time(frame)
            .or_else(|| self.member(frame))
            .or_else(|| self.lost(frame))
    }

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

    fn member(&self, frame: &Frame) -> Option<Disagreement> {
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
            !said || opposite
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
