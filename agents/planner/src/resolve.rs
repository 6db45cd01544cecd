//! From slots to a frame: one cube that has every member, one meaning for every word.

mod choose;
mod figures;

use std::collections::BTreeMap;

use ballpoint_metrics::catalog::MemberInfo;

use crate::frame::{Condition, Frame, Unit, cube_of};
use crate::plan::{Derive, Note, Question, Reason};
use crate::registry::Registry;
use crate::slots::{MemberMention, Mention, Slots};
use crate::words::Role;

/// Why no frame could be made.
#[derive(Debug)]
pub(crate) enum Open {
    /// Several meanings are left.
    Ask(Box<Asked>),
    No {
        reason: Reason,
        subject: Vec<String>,
        offer: Vec<String>,
    },
}

/// The question to ask and a frame for each answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) about: Vec<String>,
    pub(crate) question: Question,
    pub(crate) choices: Vec<(String, Frame)>,
    /// What was understood.
    pub(crate) partial: Frame,
}

pub(crate) struct Resolver<'a> {
    pub(crate) registry: Registry<'a>,
    pub(crate) slots: &'a Slots,
}

/// A member mention with the values it stands for in the chosen cube.
struct Picked {
    dimension: String,
    values: Vec<String>,
    negated: bool,
}

impl Resolver<'_> {
    /// The one measure that a mention stands for in a cube.
    pub(crate) fn measure(&self, mention: &Mention, cube: &str) -> Result<String, Vec<String>> {
        let here: Vec<String> = mention
            .candidates
            .iter()
            .filter(|it| cube_of(it) == cube)
            .cloned()
            .collect();
        match here.as_slice() {
            [only] => Ok(only.clone()),
            _ => {
                let said = crate::normalise::words(&mention.words).join(" ");
                let exact = here.iter().find(|name| {
                    crate::normalise::words(&self.registry.title(name)).join(" ") == said
                });
                exact.cloned().ok_or(here)
            }
        }
    }

    /// Filters and groupings from the members that were named.
    pub(crate) fn members(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let mut picked = Vec::new();
        let mut ambiguous = Vec::new();
        for mention in &self.slots.members {
            match self.pick(mention, cube) {
                Ok(one) => picked.push(one),
                Err(candidates) => ambiguous.push((mention, candidates)),
            }
        }
        if !ambiguous.is_empty() {
            return Err(self.which_member(&ambiguous, frame));
        }
        let implied = self.implied(&picked);
        let mut by_dimension: BTreeMap<String, Vec<&Picked>> = BTreeMap::new();
        let mut sequence = Vec::new();
        for one in &picked {
            if !sequence.contains(&one.dimension) {
                sequence.push(one.dimension.clone());
            }
            by_dimension
                .entry(one.dimension.clone())
                .or_default()
                .push(one);
        }
        for dimension in sequence {
            let group = &by_dimension[&dimension];
            // "A and B but not C" names what is wanted; what is not adds nothing.
            let negated = group.iter().all(|it| it.negated);
            let wanted = group.iter().filter(|it| it.negated == negated);
            let mut values: Vec<String> = wanted.flat_map(|it| it.values.clone()).collect();
            values.dedup();
            if !negated {
                let out = group.iter().filter(|it| it.negated);
                let out: Vec<&String> = out.flat_map(|it| &it.values).collect();
                values.retain(|it| !out.contains(&it));
            }
            if values.is_empty() {
                return Err(Open::No {
                    reason: Reason::Unsupported,
                    subject: vec!["the same value asked for and left out".to_owned()],
                    offer: Vec::new(),
                });
            }
            if implied.contains(&dimension) && !negated {
                continue;
            }
            let grouped = frame.dimensions.contains(&dimension);
            let compared = values.len() > 1 && !negated;
            if compared && !grouped {
                frame.dimensions.push(dimension.clone());
            }
            let all = self.registry.member(&dimension).is_some_and(|it| {
                !it.values.is_empty() && it.values.iter().all(|value| values.contains(value))
            });
            if !(compared && all) {
                let operator = if negated { "notEquals" } else { "equals" };
                frame.filters.push(Condition {
                    member: dimension,
                    operator: operator.into(),
                    values,
                });
            }
        }
        Ok(())
    }

    /// Dimensions whose condition says no more than another one: with line 2 of the north, that
    /// it is about the north.
    fn implied(&self, picked: &[Picked]) -> Vec<String> {
        let mut out = Vec::new();
        for one in picked {
            let narrows = picked.iter().any(|other| {
                other.dimension != one.dimension
                    && !other.negated
                    && other.values.iter().all(|value| {
                        one.values
                            .iter()
                            .any(|it| self.belongs((&other.dimension, value), (&one.dimension, it)))
                    })
            });
            if narrows && one.values.len() == 1 {
                out.push(one.dimension.clone());
            }
        }
        out
    }

    fn pick(&self, mention: &MemberMention, cube: &str) -> Result<Picked, Vec<(String, String)>> {
        let mut here: Vec<(String, String)> = mention
            .candidates
            .iter()
            .filter(|(name, _)| cube_of(name) == cube)
            .cloned()
            .collect();
        if here.len() > 1 {
            let others: Vec<&(String, String)> = self
                .slots
                .members
                .iter()
                .filter(|it| it.k != mention.k && !it.negated)
                .flat_map(|it| &it.candidates)
                .filter(|(name, _)| cube_of(name) == cube)
                .collect();
            let narrowed: Vec<(String, String)> = here
                .iter()
                .filter(|(dimension, value)| {
                    others.iter().any(|(other, named)| {
                        other != dimension && self.belongs((dimension, value), (other, named))
                    })
                })
                .cloned()
                .collect();
            if !narrowed.is_empty() {
                here = narrowed;
            }
        }
        match here.as_slice() {
            [(dimension, value)] => Ok(Picked {
                dimension: dimension.clone(),
                values: vec![value.clone()],
                negated: mention.negated,
            }),
            _ => Err(here),
        }
    }

    /// One choice a qualifier: "line 1 and line 2" of each component.
    fn which_member(
        &self,
        ambiguous: &[(&MemberMention, Vec<(String, String)>)],
        frame: &Frame,
    ) -> Open {
        let (first, candidates) = &ambiguous[0];
        let dimension = candidates
            .first()
            .map(|(name, _)| name.clone())
            .unwrap_or_default();
        let noun = crate::lexicon::noun(&dimension);
        let mut about = vec![noun.clone()];
        let mut base = frame.clone();
        if base.measures.is_empty() {
            about.push("metric".into());
            let cube = cube_of(&dimension);
            base.measures
                .extend(self.registry.headline(cube, &[]).into_iter().next());
        }
        let measure = base
            .measures
            .first()
            .map(|it| self.registry.title(it))
            .unwrap_or_default();
        let choices = candidates.iter().take(4).map(|(_, value)| {
            let siblings = ambiguous.iter().filter_map(|(_, list)| {
                list.iter()
                    .find(|(_, it)| qualifier(it) == qualifier(value))
                    .map(|(_, it)| it.clone())
            });
            let mut values: Vec<String> = siblings.collect();
            values.dedup();
            let mut frame = base.clone();
            if values.len() > 1 && !frame.dimensions.contains(&dimension) {
                frame.dimensions.push(dimension.clone());
            }
            let owner = self.owner_of(&dimension, value);
            let label = match owner {
                Some(owner) => format!("{measure} of {} ({owner})", values.join(" and ")),
                None => format!("{measure} of {}", values.join(" and ")),
            };
            frame.filters.push(Condition {
                member: dimension.clone(),
                operator: "equals".into(),
                values,
            });
            (label, frame)
        });
        let choices: Vec<(String, Frame)> = choices.collect();
        about.extend(self.owners(&dimension, candidates));
        let question = Question::WhichMember {
            word: first.words.clone(),
            noun,
        };
        Open::Ask(Box::new(Asked {
            about,
            question,
            choices,
            partial: frame.clone(),
        }))
    }

    /// The nouns of dimensions whose members tell the candidates apart.
    fn owners(&self, dimension: &str, candidates: &[(String, String)]) -> Vec<String> {
        let cube = self.registry.catalog.cube(cube_of(dimension));
        let others = cube.into_iter().flat_map(|it| &it.dimensions);
        let owns = |other: &&MemberInfo| {
            let owned = |value: &String| {
                let own =
                    |it: &(String, String)| self.belongs((dimension, &it.1), (&other.name, value));
                candidates.iter().any(own)
            };
            other.name != dimension && !other.values.is_empty() && other.values.iter().all(owned)
        };
        others
            .filter(owns)
            .map(|it| crate::lexicon::noun(&it.name))
            .collect()
    }

    /// Whether a coded value belongs to a named one of another dimension. An initial counts only
    /// when the two dimensions correspond: each code has one owner there, each owner a code.
    fn belongs(&self, coded: (&str, &str), named: (&str, &str)) -> bool {
        let members = self
            .registry
            .member(coded.0)
            .zip(self.registry.member(named.0));
        let Some((codes, names)) = members.filter(|_| qualifies(coded.1, named.1)) else {
            return false;
        };
        let owners = |code: &String| names.values.iter().filter(|it| qualifies(code, it)).count();
        codes.values.iter().all(|it| owners(it) == 1)
            && names
                .values
                .iter()
                .all(|name| codes.values.iter().any(|it| qualifies(it, name)))
    }

    /// The member of another dimension that a coded value belongs to.
    fn owner_of(&self, dimension: &str, value: &str) -> Option<String> {
        let cube = self.registry.catalog.cube(cube_of(dimension))?;
        let others = cube
            .dimensions
            .iter()
            .filter(|it| it.name != dimension && it.member_type == "string");
        let owner = |it: &MemberInfo| {
            let own = |name: &&String| self.belongs((dimension, value), (&it.name, name));
            it.values.iter().find(own).cloned()
        };
        others.filter(|it| it.values.len() <= 10).find_map(owner)
    }

    /// Notes for everyday words that were taken for one measure.
    pub(crate) fn assumptions(&self, frame: &Frame) -> Vec<Note> {
        let everyday = self.slots.measures.iter().filter(|it| it.everyday);
        everyday
            .filter_map(|it| {
                let member = named(it, &frame.measures)?.clone();
                Some(Note::MetricAssumed {
                    word: it.words.clone(),
                    member,
                })
            })
            .collect()
    }

    /// The calculation that the words ask for.
    pub(crate) fn derive(&self, frame: &mut Frame) {
        let Some(measure) = frame.measures.first().cloned() else {
            return;
        };
        if let Some(benchmark) = self.slots.benchmark {
            let (threshold, above) = (benchmark.threshold, !benchmark.below);
            frame.derive = Some(Derive::VersusOverall {
                measure,
                threshold,
                above,
            });
        } else if self.slots.share && frame.measures.len() == 2 {
            frame.derive = Some(Derive::Ratio {
                part: measure,
                whole: frame.measures[1].clone(),
            });
        } else if self.slots.share
            && frame.measures.len() == 1
            && self.registry.is_additive(&measure)
        {
            self.share(measure, frame);
        } else if self.slots.over_previous.is_some() || frame.against.is_some() {
            frame.derive = Some(Derive::Delta { measure });
        } else if self.slots.has(Role::Movement)
            || frame.granularity.is_some() && frame.order.is_empty()
        {
            frame.derive = Some(Derive::Direction { measure });
        }
    }

    /// A share of a part needs the whole beside it: the filter becomes a breakdown.
    fn share(&self, measure: String, frame: &mut Frame) {
        let single = frame
            .filters
            .iter()
            .position(|it| it.operator == "equals" && it.values.len() == 1);
        let of = match single.filter(|_| frame.dimensions.is_empty()) {
            Some(at) => {
                let condition = frame.filters.remove(at);
                frame.dimensions.push(condition.member);
                condition.values
            }
            None => Vec::new(),
        };
        if !frame.dimensions.is_empty() {
            frame.derive = Some(Derive::ShareOfSum { measure, of });
        }
    }

    /// The step of a trend when none was named: by the length of the window.
    pub(crate) fn step(&self, frame: &Frame) -> Option<Unit> {
        if self.slots.step.is_some() {
            return self.slots.step;
        }
        if self.slots.moving_hour {
            return Some(Unit::Hour);
        }
        let slots = self.slots;
        if slots.asks_drivers() {
            return None;
        }
        let dated = slots.asks_when && slots.rank.is_some() && frame.dimensions.is_empty();
        if frame.against.is_some() && !slots.has(Role::Trend) && !dated {
            return None;
        }
        let asked = dated
            || (slots.has(Role::Trend) || slots.has(Role::Change)) && slots.over_previous.is_none();
        if !asked
            && !self.slots.has(Role::Movement)
            && self.slots.chart != Some(crate::plan::ChartKind::Line)
        {
            return None;
        }
        Some(
            match frame.window.as_ref().map(crate::frame::Window::days) {
                Some(1..=2) => Unit::Hour,
                Some(400..) => Unit::Month,
                Some(100..) => Unit::Week,
                _ => Unit::Day,
            },
        )
    }
}

/// The measure that a mention was resolved to.
fn named<'f>(mention: &Mention, measures: &'f [String]) -> Option<&'f String> {
    measures.iter().find(|it| mention.candidates.contains(it))
}

/// Whether a coded value belongs to a named one: `LINE-NORTH-002` and `MACHINE-N-03` to `north`.
fn qualifies(coded: &str, named: &str) -> bool {
    let Some(part) = qualifier(coded) else {
        return false;
    };
    let named = named.to_lowercase();
    part == named || part.len() == 1 && named.starts_with(&part)
}

/// The middle of a coded value of three parts.
fn qualifier(coded: &str) -> Option<String> {
    let parts: Vec<&str> = coded.split('-').collect();
    match parts.as_slice() {
        [_, middle, _] => Some(middle.to_lowercase()),
        _ => None,
    }
}

/// Members of a frame moved to another cube, by their local names.
pub(crate) fn rehome(frame: &mut Frame, cube: &str, registry: Registry<'_>) {
    let moved = |name: &String| registry.in_cube(name, cube).unwrap_or_else(|| name.clone());
    frame.measures = frame.measures.iter().map(moved).collect();
    frame.dimensions = frame.dimensions.iter().map(moved).collect();
    frame
        .filters
        .iter_mut()
        .for_each(|it| it.member = moved(&it.member));
    frame.order.iter_mut().for_each(|it| it.0 = moved(&it.0));
    let has_time = frame
        .time
        .as_ref()
        .is_some_and(|it| registry.in_cube(it, cube).is_some());
    if has_time {
        frame.time = frame.time.as_ref().map(moved);
    }
}
