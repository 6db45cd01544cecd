//! From a question's slots to a frame: a new one, or the last one patched.

mod analysis;
mod asks;
mod groups;
mod rank;
mod refer;
mod sure;
mod when;

use crate::frame::{Condition, Frame, cube_of, local};
use crate::plan::{Context, DialogueState, Question, Reason};
use crate::registry::Registry;
use crate::resolve::{Asked, Open, Resolver, rehome};
use crate::slots::{Mention, Slots};
use crate::words::Role;

/// Puts frames together.
pub(crate) struct Composer<'a> {
    pub(crate) registry: Registry<'a>,
    pub(crate) slots: &'a Slots,
    pub(crate) state: &'a DialogueState,
    pub(crate) context: &'a Context,
}

impl Composer<'_> {
    fn resolver(&self) -> Resolver<'_> {
        Resolver {
            registry: self.registry,
            slots: self.slots,
        }
    }

    /// The frame of the question, with the conversation taken into account.
    pub(crate) fn frame(&self) -> Result<Frame, Open> {
        if let Some(cube) = self.slots.cube.as_deref().filter(|it| self.lacks_time(it)) {
            return Err(Open::No {
                reason: Reason::NoTimeDimension,
                subject: vec![cube.to_owned()],
                offer: self
                    .registry
                    .headline(cube, &[])
                    .iter()
                    .map(|it| self.registry.title(it))
                    .collect(),
            });
        }
        let base = self.base();
        let held: Vec<String> = base.iter().flat_map(held_members).collect();
        let cube = match self.resolver().cube(&held) {
            Err(_) if !held.is_empty() && !self.slots.measures.is_empty() => {
                self.resolver().cube(&[])?
            }
            found => found?,
        };
        if base.is_none() {
            self.only_reading(&cube)?;
        }
        self.frame_in(&cube, base)
    }

    /// Asks when another cube measures something else under the words of the question.
    fn only_reading(&self, cube: &str) -> Result<(), Open> {
        let cubes = std::iter::once(cube.to_owned()).chain(self.resolver().rivals(cube));
        let choices = cubes.filter_map(|name| {
            let frame = self.frame_in(&name, None).ok()?;
            let measure = frame.measures.first()?;
            let label = &self.registry.catalog.cube(&name)?.title;
            Some((format!("{} ({label})", self.registry.title(measure)), frame))
        });
        let choices: Vec<(String, Frame)> = choices.take(4).collect();
        if choices.len() < 2 {
            return Ok(());
        }
        let said = self.slots.measures.iter().map(|it| it.words.as_str());
        let word = said.collect::<Vec<_>>().join(" ");
        Err(Open::Ask(Box::new(Asked {
            about: vec!["metric".into()],
            question: Question::WhichMeaning { word },
            choices,
            partial: Frame::default(),
        })))
    }

    fn frame_in(&self, cube: &str, base: Option<Frame>) -> Result<Frame, Open> {
        let mut frame = base.unwrap_or_default();
        rehome(&mut frame, cube, self.registry);
        self.measures(cube, &mut frame)?;
        self.dimensions(cube, &mut frame);
        self.references(cube, &mut frame)?;
        self.members(cube, &mut frame)?;
        self.contrast(&mut frame);
        self.time(cube, &mut frame)?;
        self.implied_measure(cube, &mut frame)?;
        self.bounds(&mut frame)?;
        self.ranking(&mut frame)?;
        if self.is_new()
            || frame.derive.is_none()
            || self.slots.has(Role::Movement)
            || self.slots.share
        {
            self.resolver().derive(&mut frame);
        }
        self.told_apart(&mut frame);
        self.analyse(cube, &mut frame)?;
        self.restrict(&mut frame)?;
        self.sure(&frame)?;
        if let Some(chart) = self.slots.chart {
            frame.chart = Some(chart);
        }
        Ok(frame)
    }

    /// Whether the question stands on its own.
    pub(crate) fn is_new(&self) -> bool {
        self.base().is_none()
    }

    /// What a follow-up patches: the pending question, or the last one.
    fn base(&self) -> Option<Frame> {
        let slots = self.slots;
        let leaning = [
            Role::Same,
            Role::WhatAbout,
            Role::Also,
            Role::Instead,
            Role::Its,
            Role::Only,
        ];
        let leans = slots.starts_with_and || leaning.iter().any(|role| slots.has(*role));
        let named = !slots.measures.is_empty() || slots.has(Role::HowMany);
        let scoped =
            !slots.dimensions.is_empty() || !slots.members.is_empty() || !slots.windows.is_empty();
        if let Some(pending) = self.state.pending.as_ref().filter(|_| !(named && scoped)) {
            return Some(pending.clone());
        }
        let last = self.state.last.as_ref()?;
        let shown = |mention: &Mention| {
            mention
                .candidates
                .iter()
                .any(|it| last.measures.iter().any(|own| local(own) == local(it)))
        };
        // An order by a measure that was shown already changes the order, not the question.
        let reorders =
            slots.has(Role::Sort) && slots.members.is_empty() && slots.measures.iter().all(shown);
        let stands = named || self.counts_something_else(last);
        (!stands || leans || reorders).then(|| last.clone())
    }

    /// Members that have a count of their own ("leaks last week"), or a ranking of what has one
    /// ("top 3 leak types"), are a question by themselves after one about something else.
    fn counts_something_else(&self, last: &Frame) -> bool {
        let own_count = |dimension: &String| {
            let count = self.registry.count_of(dimension, true);
            count.is_some_and(|it| !last.measures.contains(&it))
        };
        let ranked = self.slots.limit.is_some() || self.slots.rank.is_some();
        let members = self.slots.members.iter().flat_map(|it| &it.candidates);
        members.map(|(dimension, _)| dimension).any(own_count)
            || ranked
                && self
                    .slots
                    .dimensions
                    .iter()
                    .flat_map(|it| &it.candidates)
                    .any(own_count)
    }

    fn measures(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let mut named = Vec::new();
        if self.slots.measures.iter().any(|it| it.counting) {
            frame.measures.clear();
        }
        for mention in self.slots.measures.iter().filter(|it| !it.counting) {
            match self.resolver().measure(mention, cube) {
                Ok(name) if named.contains(&name) => {}
                Ok(name) => named.push(name),
                Err(several) => return Err(self.which_measure(mention, several, frame)),
            }
        }
        let groups = self.groups(cube, frame);
        for mention in self.slots.counted.iter().filter(|_| groups.is_none()) {
            named.push(self.counted(mention, cube)?);
        }
        if let Some(dimension) = groups {
            // What is counted is the groups, by the measure that chooses them.
            if named.len() > 1 {
                named.remove(0);
            }
            if self.slots.measures.is_empty() {
                named.extend(self.registry.base_count(cube));
            }
            frame.dimensions = vec![dimension];
        }
        if named.len() == 1 && self.slots.share {
            let rate = self.registry.rate_of(&named[0]);
            let parts = self.slots.dimensions.len() + self.slots.members.len();
            if let Some(rate) = rate.filter(|_| parts == 0 || self.slots.share_of_base) {
                named = vec![rate];
            }
        }
        self.drop_narrowed(&mut named);
        if self.slots.unjoined && named.len() > 1 {
            return Err(self.one_of(named, frame));
        }
        if named.is_empty() {
            return Ok(());
        }
        if self.slots.has(Role::Also) {
            named.retain(|name| !frame.measures.contains(name));
            frame.measures.extend(named);
        } else if !(self.slots.has(Role::Sort)
            && named.iter().all(|name| frame.measures.contains(name)))
        {
            if frame.measures != named {
                frame.order.clear();
                frame.derive = None;
            }
            frame.measures = named;
        }
        Ok(())
    }

    /// "Moving average of pass rate" is one measure, not two.
    fn drop_narrowed(&self, named: &mut Vec<String>) {
        let titles: Vec<Vec<String>> = named
            .iter()
            .map(|name| crate::normalise::words(&self.registry.title(name)))
            .collect();
        let moving = |title: &Vec<String>| {
            title
                .iter()
                .any(|word| word == "moving" || word == "rolling")
        };
        let covered: Vec<bool> = titles
            .iter()
            .map(|title| {
                titles.iter().any(|wide| {
                    moving(wide)
                        && wide.len() > title.len()
                        && title.iter().all(|word| wide.contains(word))
                })
            })
            .collect();
        let mut keep = covered.iter().map(|it| !it);
        named.retain(|_| keep.next().unwrap_or(true));
    }

    fn counted(&self, mention: &Mention, cube: &str) -> Result<String, Open> {
        let mut here = mention.candidates.iter().filter(|it| cube_of(it) == cube);
        let rows = here.clone().find(|it| self.registry.is_measure(it));
        let entity = here.find_map(|it| self.registry.count_of(it, false));
        rows.cloned().or(entity).ok_or_else(|| Open::No {
            reason: Reason::NoMetric,
            subject: vec![mention.words.clone()],
            offer: self
                .registry
                .headline(cube, &[])
                .iter()
                .take(3)
                .map(|it| self.registry.title(it))
                .collect(),
        })
    }

    fn dimensions(&self, cube: &str, frame: &mut Frame) {
        let named = self
            .slots
            .dimensions
            .iter()
            .filter_map(|mention| self.dimension(mention, cube));
        let mut named: Vec<String> = named.collect();
        named.dedup();
        for mention in &self.slots.unset {
            if let Some(dimension) = mention.candidates.iter().find(|it| cube_of(it) == cube) {
                frame.set_filter(Condition {
                    member: dimension.clone(),
                    operator: "notSet".into(),
                    values: Vec::new(),
                });
            }
        }
        if named.is_empty() {
            return;
        }
        if self.slots.has(Role::Also) {
            frame.dimensions.extend(
                named
                    .into_iter()
                    .filter(|it| !frame.dimensions.contains(it))
                    .collect::<Vec<_>>(),
            );
        } else if self.slots.has(Role::Drop) {
            frame.dimensions.retain(|it| !named.contains(it));
        } else {
            frame.dimensions = named;
        }
    }

    /// Of several dimensions with one name, the one whose entity the question measures.
    fn dimension(&self, mention: &Mention, cube: &str) -> Option<String> {
        let here: Vec<&String> = mention
            .candidates
            .iter()
            .filter(|it| cube_of(it) == cube)
            .collect();
        let about = |name: &&&String| {
            self.slots
                .measures
                .iter()
                .flat_map(|it| &it.candidates)
                .any(|measure| crate::slots::counts(measure, &crate::lexicon::noun(name)))
        };
        here.iter()
            .find(about)
            .or(here.first())
            .map(|name| (*name).clone())
    }

    fn members(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        if self.slots.has(Role::Drop) && !self.is_new() {
            let named = self.slots.members.iter().flat_map(|it| &it.candidates);
            let dropped: Vec<&String> = named.map(|(dimension, _)| dimension).collect();
            frame.filters.retain(|it| !dropped.contains(&&it.member));
            return Ok(());
        }
        let mut fresh = Frame {
            measures: frame.measures.clone(),
            dimensions: frame.dimensions.clone(),
            ..Frame::default()
        };
        self.resolver()
            .members(cube, &mut fresh)
            .map_err(|open| match open {
                Open::Ask(asked) => {
                    let Asked {
                        about,
                        question,
                        choices,
                        ..
                    } = *asked;
                    let add = |mut choice: Frame| {
                        let kept = frame
                            .filters
                            .iter()
                            .filter(|it| choice.filters.iter().all(|new| new.member != it.member));
                        choice.filters.extend(kept.cloned().collect::<Vec<_>>());
                        choice
                    };
                    let choices = choices
                        .into_iter()
                        .map(|(label, it)| (label, add(it)))
                        .collect();
                    Open::Ask(Box::new(Asked {
                        about,
                        question,
                        choices,
                        partial: frame.clone(),
                    }))
                }
                no @ Open::No { .. } => no,
            })?;
        frame.dimensions = fresh.dimensions;
        for condition in fresh.filters {
            // What was said of a part of the old member says nothing of the new one.
            if !self.is_new() {
                frame.filters.retain(|it| {
                    !it.values.iter().any(|value| is_part(value))
                        || it.member == condition.member
                        || self.slots.has(Role::Also)
                });
            }
            frame.set_filter(condition);
        }
        Ok(())
    }

    /// Without a measure: the one that counts what was named.
    fn implied_measure(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        if !frame.measures.is_empty() {
            return Ok(());
        }
        let filtered = frame.filters.iter().map(|it| &it.member);
        let entity = frame
            .dimensions
            .iter()
            .chain(filtered)
            .find_map(|it| self.registry.count_of(it, true));
        let counted = self
            .slots
            .has(Role::HowMany)
            .then(|| self.registry.base_count(cube))
            .flatten();
        match entity.or(counted) {
            Some(measure) => frame.measures.push(measure),
            None => return Err(self.which_metric(cube, frame)),
        }
        Ok(())
    }

    /// The question about the measure, with the headline measures as choices.
    pub(crate) fn which_metric(&self, cube: &str, frame: &Frame) -> Open {
        let ranked = |measure: &String| -> Frame {
            let mut choice = Frame {
                measures: vec![measure.clone()],
                ..frame.clone()
            };
            choice.order = self.resolver().order(&choice);
            choice.limit = self.slots.limit;
            choice
        };
        let headline = self.registry.headline(cube, &frame.filters);
        let choices = headline
            .iter()
            .take(4)
            .map(|it| (self.registry.title(it), ranked(it)))
            .collect();
        Open::Ask(Box::new(Asked {
            about: vec!["metric".into()],
            question: Question::WhichMetric,
            choices,
            partial: frame.clone(),
        }))
    }

    fn bounds(&self, frame: &mut Frame) -> Result<(), Open> {
        let bounds = self.resolver().bounds(&frame.measures);
        frame
            .filters
            .extend(bounds.ok_or_else(|| unsupported("a bound without a metric"))?);
        Ok(())
    }
}

fn held_members(frame: &Frame) -> Vec<String> {
    let filters = frame.filters.iter().map(|it| it.member.clone());
    frame
        .measures
        .iter()
        .chain(&frame.dimensions)
        .cloned()
        .chain(filters)
        .collect()
}

/// Whether a coded value names what it is a part of: `LINE-NORTH-002`.
fn is_part(value: &str) -> bool {
    value.split('-').count() > 2
}

fn unsupported(what: &str) -> Open {
    Open::No {
        reason: Reason::Unsupported,
        subject: vec![what.to_owned()],
        offer: Vec::new(),
    }
}
