//! From a question's slots to a frame: a new one, or the last one patched.

use crate::frame::{Condition, Direction, Frame, Unit, Window, cube_of, local};
use crate::plan::{Context, Derive, DialogueState, Question, Reason};
use crate::registry::Registry;
use crate::resolve::{Open, Resolver, rehome};
use crate::slots::{Mention, Slots};
use crate::time::{calendar_window, window_before};
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
        Resolver { registry: self.registry, slots: self.slots }
    }

    /// The frame of the question, with the conversation taken into account.
    pub(crate) fn frame(&self) -> Result<Frame, Open> {
        if let Some(cube) = self.slots.cube.as_deref().filter(|it| self.lacks_time(it)) {
            return Err(Open::No {
                reason: Reason::NoTimeDimension,
                subject: vec![cube.to_owned()],
                offer: self.registry.headline(cube, &[]).iter().map(|it| self.registry.title(it)).collect(),
            });
        }
        let base = self.base();
        let held: Vec<String> = base.iter().flat_map(held_members).collect();
        let cube = match self.resolver().cube(&held) {
            Err(_) if !held.is_empty() && !self.slots.measures.is_empty() => self.resolver().cube(&[])?,
            found => found?,
        };
        let mut frame = base.unwrap_or_default();
        rehome(&mut frame, &cube, self.registry);
        self.measures(&cube, &mut frame)?;
        self.dimensions(&cube, &mut frame);
        self.references(&cube, &mut frame)?;
        self.members(&cube, &mut frame)?;
        self.time(&cube, &mut frame)?;
        self.implied_measure(&cube, &mut frame)?;
        self.bounds(&mut frame)?;
        self.ranking(&mut frame)?;
        if self.is_new() || frame.derive.is_none() || self.slots.has(Role::Movement) || self.slots.share {
            self.resolver().derive(&mut frame);
        }
        self.restrict(&mut frame)?;
        if let Some(chart) = self.slots.chart {
            frame.chart = Some(chart);
        }
        Ok(frame)
    }

    /// A cube without time dimension, asked about time.
    fn lacks_time(&self, cube: &str) -> bool {
        let slots = self.slots;
        let asked = !slots.windows.is_empty() || slots.step.is_some() || slots.has(Role::Trend);
        asked && self.registry.time(cube, None).is_none()
    }

    /// Whether the question stands on its own.
    pub(crate) fn is_new(&self) -> bool {
        self.base().is_none()
    }

    /// What a follow-up patches: the pending question, or the last one.
    fn base(&self) -> Option<Frame> {
        let named = !self.slots.measures.is_empty() || !self.slots.counted.is_empty();
        let leaning = [Role::Same, Role::WhatAbout, Role::Also, Role::Instead, Role::Its];
        let leans = self.slots.starts_with_and || leaning.iter().any(|role| self.slots.has(*role));
        if let Some(pending) = &self.state.pending {
            return Some(pending.clone());
        }
        let last = self.state.last.as_ref()?;
        // An order by a measure that was shown already changes the order, not the question.
        let reorders = self.slots.has(Role::Sort) && self.slots.members.is_empty();
        (!named || leans || reorders).then(|| last.clone())
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
        for mention in &self.slots.counted {
            named.push(self.counted(mention, cube)?);
        }
        if named.len() == 1 && self.slots.share {
            let rate = self.registry.rate_of(&named[0]);
            let parts = self.slots.dimensions.len() + self.slots.members.len();
            if let Some(rate) = rate.filter(|_| parts == 0) {
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
        } else if !(self.slots.has(Role::Sort) && named.iter().all(|name| frame.measures.contains(name))) {
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
        let moving = |title: &Vec<String>| title.iter().any(|word| word == "moving" || word == "rolling");
        let covered: Vec<bool> = titles
            .iter()
            .map(|title| {
                titles.iter().any(|wide| {
                    moving(wide) && wide.len() > title.len() && title.iter().all(|word| wide.contains(word))
                })
            })
            .collect();
        let mut keep = covered.iter().map(|it| !it);
        named.retain(|_| keep.next().unwrap_or(true));
    }

    fn counted(&self, mention: &Mention, cube: &str) -> Result<String, Open> {
        let dimension = mention.candidates.iter().find(|it| cube_of(it) == cube);
        let count = dimension.and_then(|it| self.registry.count_of(it, false));
        count.ok_or_else(|| Open::No {
            reason: Reason::NoMetric,
            subject: vec![mention.words.clone()],
            offer: self.registry.headline(cube, &[]).iter().take(3).map(|it| self.registry.title(it)).collect(),
        })
    }

    /// Measures side by side that nothing joins: a figure that may not exist, so it is asked.
    fn one_of(&self, named: Vec<String>, frame: &Frame) -> Open {
        let word = self.slots.measures.iter().map(|it| it.words.as_str()).collect::<Vec<_>>().join(" ");
        let all = Frame { measures: named.clone(), ..frame.clone() };
        let one = |name: &String| {
            (self.registry.title(name), Frame { measures: vec![name.clone()], ..frame.clone() })
        };
        let mut choices: Vec<(String, Frame)> = named.iter().take(3).map(one).collect();
        choices.push((named.iter().map(|it| self.registry.title(it)).collect::<Vec<_>>().join(" and "), all));
        let question = Question::WhichMeaning { word };
        Open::Ask { about: vec!["metric".into()], question, choices, partial: frame.clone() }
    }

    fn which_measure(&self, mention: &Mention, several: Vec<String>, frame: &Frame) -> Open {
        let choices = several.into_iter().take(4).map(|name| {
            let label = self.registry.title(&name);
            (label, Frame { measures: vec![name], ..frame.clone() })
        });
        let question = Question::WhichMeaning { word: mention.words.clone() };
        Open::Ask { about: vec!["metric".into()], question, choices: choices.collect(), partial: frame.clone() }
    }

    fn dimensions(&self, cube: &str, frame: &mut Frame) {
        let named = self.slots.dimensions.iter().filter_map(|mention| self.dimension(mention, cube));
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
        if named.is_empty() || self.slots.has(Role::Its) {
            return;
        }
        if self.slots.has(Role::Also) {
            frame.dimensions.extend(named.into_iter().filter(|it| !frame.dimensions.contains(it)).collect::<Vec<_>>());
        } else if self.slots.has(Role::Drop) {
            frame.dimensions.retain(|it| !named.contains(it));
        } else {
            frame.dimensions = named;
        }
    }

    /// Of several dimensions with one name, the one whose entity the question measures.
    fn dimension(&self, mention: &Mention, cube: &str) -> Option<String> {
        let here: Vec<&String> = mention.candidates.iter().filter(|it| cube_of(it) == cube).collect();
        let about = |name: &&&String| {
            self.slots.measures.iter().flat_map(|it| &it.candidates).any(|measure| {
                crate::slots::counts(measure, &crate::lexicon::noun(name))
            })
        };
        here.iter().find(about).or(here.first()).map(|name| (*name).clone())
    }

    /// "its trend": the first row of the last result becomes a filter.
    fn references(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let pointed = self.slots.has(Role::Its)
            || self.slots.has(Role::Demonstrative) && !self.slots.dimensions.is_empty() && !self.is_new();
        if !pointed {
            return Ok(());
        }
        let asked = self.slots.dimensions.iter().filter_map(|it| self.dimension(it, cube)).next();
        let dimension = asked.filter(|it| self.head(it).is_some()).or_else(|| {
            let last = self.state.last.as_ref()?;
            last.dimensions.iter().find_map(|it| self.registry.in_cube(it, cube))
        });
        let value = dimension.as_ref().and_then(|it| self.head(it));
        if let Some((member, value)) = dimension.zip(value) {
            frame.dimensions.retain(|it| *it != member);
            frame.order.clear();
            frame.limit = None;
            frame.derive = None;
            frame.set_filter(Condition { member, operator: "equals".into(), values: vec![value] });
            return Ok(());
        }
        Err(Open::No { reason: Reason::Unsupported, subject: vec!["its".into()], offer: Vec::new() })
    }

    fn head(&self, dimension: &str) -> Option<String> {
        let same = |name: &&String| local(name) == local(dimension);
        let key = self.state.head.keys().find(same)?;
        self.state.head.get(key).cloned()
    }

    fn members(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let mut fresh = Frame { measures: frame.measures.clone(), dimensions: frame.dimensions.clone(), ..Frame::default() };
        self.resolver().members(cube, &mut fresh).map_err(|open| match open {
            Open::Ask { about, question, choices, .. } => {
                let add = |mut choice: Frame| {
                    let kept = frame.filters.iter().filter(|it| choice.filters.iter().all(|new| new.member != it.member));
                    choice.filters.extend(kept.cloned().collect::<Vec<_>>());
                    choice
                };
                let choices = choices.into_iter().map(|(label, it)| (label, add(it))).collect();
                Open::Ask { about, question, choices, partial: frame.clone() }
            }
            no @ Open::No { .. } => no,
        })?;
        frame.dimensions = fresh.dimensions;
        for condition in fresh.filters {
            // What was said of a part of the old member says nothing of the new one.
            if !self.is_new() {
                frame.filters.retain(|it| !it.values.iter().any(|value| value.contains('-')) || it.member == condition.member || self.slots.has(Role::Also));
            }
            frame.set_filter(condition);
        }
        Ok(())
    }

    fn time(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let slots = self.slots;
        if let Some(unit) = slots.before {
            let old = frame.window.or_else(|| calendar_window(self.context.now.date(), unit.unwrap_or(Unit::Week), 0));
            frame.window = old.and_then(|window| window_before(&window, unit));
        }
        match slots.windows.as_slice() {
            [] => {}
            [one] => {
                frame.window = Some(*one);
                frame.against = None;
            }
            [first, second] => self.two_windows(*first, *second, frame),
            _ => return Err(unsupported("more than two periods")),
        }
        if let Some(unit) = slots.over_previous {
            let today = self.context.now.date();
            let periods = calendar_window(today, unit, -1).zip(calendar_window(today, unit, 0));
            if let (None, Some((old, new))) = (frame.window, periods) {
                frame.window = Some(Window { from: old.from, to: new.to, sub_day: false, unit: None });
            }
            frame.granularity = Some(unit);
        }
        if slots.has(Role::Drop) && slots.step.is_some() {
            frame.granularity = None;
            frame.derive = None;
        } else if let Some(step) = self.resolver().step(frame).or_else(|| self.series_step(frame)) {
            frame.granularity = Some(step);
            if frame.order.iter().all(|it| frame.measures.contains(&it.0)) && slots.rank.is_none() {
                frame.order.clear();
                frame.limit = None;
            }
        }
        if frame.window.is_none() && frame.granularity.is_none() {
            return Ok(());
        }
        let step = frame.granularity.map(Unit::name);
        match self.registry.time(cube, step) {
            Some(time) => {
                frame.time = Some(time);
                Ok(())
            }
            None => Err(Open::No {
                reason: Reason::NoTimeDimension,
                subject: vec![cube.to_owned()],
                offer: frame.measures.iter().map(|it| self.registry.title(it)).collect(),
            }),
        }
    }

    /// A moving average is a series by nature.
    fn series_step(&self, frame: &Frame) -> Option<Unit> {
        let first = frame.measures.first()?;
        let moving = crate::normalise::words(&self.registry.title(first)).iter().any(|it| it == "moving");
        (moving && frame.granularity.is_none()).then_some(Unit::Hour)
    }

    /// Two windows are compared, the later one with the earlier one.
    fn two_windows(&self, first: Window, second: Window, frame: &mut Frame) {
        let (old, new) = if first.from <= second.from { (first, second) } else { (second, first) };
        frame.window = Some(new);
        frame.against = Some(old);
    }

    /// Without a measure: the one that counts what was named.
    fn implied_measure(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        if !frame.measures.is_empty() {
            return Ok(());
        }
        let filtered = frame.filters.iter().map(|it| &it.member);
        let entity = frame.dimensions.iter().chain(filtered).find_map(|it| self.registry.count_of(it, true));
        let counted = self.slots.has(Role::HowMany).then(|| self.registry.base_count(cube)).flatten();
        match entity.or(counted) {
            Some(measure) => frame.measures.push(measure),
            None => return Err(self.which_metric(cube, frame)),
        }
        Ok(())
    }

    /// The question about the measure, with the headline measures as choices.
    pub(crate) fn which_metric(&self, cube: &str, frame: &Frame) -> Open {
        let ranked = |measure: &String| -> Frame {
            let mut choice = Frame { measures: vec![measure.clone()], ..frame.clone() };
            choice.order = self.resolver().order(&choice);
            choice.limit = self.slots.limit;
            choice
        };
        let headline = self.registry.headline(cube, &frame.filters);
        let choices =
            headline.iter().take(4).map(|it| (self.registry.title(it), ranked(it))).collect();
        Open::Ask { about: vec!["metric".into()], question: Question::WhichMetric, choices, partial: frame.clone() }
    }

    fn bounds(&self, frame: &mut Frame) -> Result<(), Open> {
        let bounds = self.resolver().bounds(&frame.measures);
        frame.filters.extend(bounds.ok_or_else(|| unsupported("a bound without a metric"))?);
        Ok(())
    }

    fn ranking(&self, frame: &mut Frame) -> Result<(), Open> {
        let order = self.resolver().order(frame);
        if !order.is_empty() {
            if frame.dimensions.is_empty() && frame.granularity.is_none() {
                return Err(self.which_breakdown(frame));
            }
            frame.order = order;
        } else if self.slots.has(Role::Sort) && frame.order.is_empty() {
            frame.order = frame.measures.first().map(|it| (it.clone(), Direction::Desc)).into_iter().collect();
        }
        if let Some(limit) = self.slots.limit {
            frame.limit = Some(limit);
            if frame.order.is_empty() {
                frame.order = frame.measures.first().map(|it| (it.clone(), Direction::Desc)).into_iter().collect();
            }
        }
        let count = frame.measures.first().is_some_and(|it| self.registry.is_additive(it));
        let categories = frame.dimensions.len() == 1 && frame.granularity.is_none();
        if self.slots.has(Role::Pareto) && frame.dimensions.is_empty() {
            let entity = frame.measures.first().and_then(|it| self.entity_of(it));
            frame.dimensions.extend(entity);
        }
        if frame.order.is_empty() && count && categories && self.is_new() {
            // Parts of a whole read best from the largest down.
            frame.order = frame.measures.first().map(|it| (it.clone(), Direction::Desc)).into_iter().collect();
        }
        Ok(())
    }

    fn entity_of(&self, measure: &str) -> Option<String> {
        let cube = self.registry.catalog.cube(cube_of(measure))?;
        let counted = cube.dimensions.iter().find(|it| crate::slots::counts(measure, &crate::lexicon::noun(&it.name)));
        counted.map(|it| it.name.clone())
    }

    fn which_breakdown(&self, frame: &Frame) -> Open {
        let measure = frame.measures.first().map(|it| self.registry.title(it)).unwrap_or_default();
        let cube = self.registry.catalog.cube(frame.cube().unwrap_or_default());
        let groups = cube.into_iter().flat_map(|it| &it.dimensions).filter(|it| {
            it.member_type == "string" && (2..=40).contains(&it.values.len())
        });
        let choices = groups.take(4).map(|it| {
            let mut choice = Frame { dimensions: vec![it.name.clone()], ..frame.clone() };
            choice.order = self.resolver().order(&choice);
            (format!("{measure} by {}", it.title.to_lowercase()), choice)
        });
        let question = Question::WhichBreakdown { measure: measure.clone() };
        Open::Ask { about: vec!["dimension".into()], question, choices: choices.collect(), partial: frame.clone() }
    }

    /// A measure that exists for some members only: refuse others; name them in a breakdown.
    fn restrict(&self, frame: &mut Frame) -> Result<(), Open> {
        if let Some(dimension) = frame.dimensions.iter().find(|it| !self.registry.applies(it, &frame.filters)) {
            return Err(self.not_applicable(dimension, frame));
        }
        for measure in frame.measures.clone() {
            if !self.registry.applies(&measure, &frame.filters) {
                return Err(self.not_applicable(&measure, frame));
            }
            let Some(only) = self.registry.only(&measure) else { continue };
            let cube = cube_of(&measure);
            let Some(member) = self.registry.in_cube(&format!("{cube}.{}", only.member), cube) else { continue };
            let said = frame.filters.iter().any(|it| it.member == member) || frame.dimensions.contains(&member);
            let narrowed = frame.filters.iter().any(|it| it.operator == "equals");
            if !frame.dimensions.is_empty() && !said && !narrowed && frame.measures.len() == 1 {
                frame.set_filter(Condition { member, operator: "equals".into(), values: only.values });
            }
        }
        Ok(())
    }

    fn not_applicable(&self, measure: &str, frame: &Frame) -> Open {
        let title = self.registry.title(measure);
        let mut offer = Vec::new();
        if let Some(only) = self.registry.only(measure) {
            offer.push(format!("{title} of {}", only.values.join(", ")));
            offer.push(format!("{} {}", only.values.join(" "), title.to_lowercase()));
        }
        let cube = cube_of(measure);
        let others = self.registry.headline(cube, &frame.filters);
        let fits = others.iter().filter(|it| self.registry.only(it).is_some());
        offer.extend(fits.map(|it| self.registry.title(it)));
        let said = frame.filters.iter().flat_map(|it| it.values.clone());
        let subject = std::iter::once(title).chain(said).collect();
        Open::No { reason: Reason::NotApplicable, subject, offer }
    }

    /// "Why is X low": how X stands among its peers, and the parts that its count falls into.
    pub(crate) fn why(&self) -> Option<Frame> {
        let last = self.state.last.as_ref()?;
        let measure = last.measures.first()?.clone();
        let cube = cube_of(&measure).to_owned();
        let mut frame = Frame { measures: vec![measure.clone()], time: last.time.clone(), window: last.window, filters: last.filters.clone(), ..Frame::default() };
        self.resolver().members(&cube, &mut frame).ok()?;
        let condition = frame.filters.iter().find(|it| it.operator == "equals" && last.filters.iter().all(|old| old != *it))?.clone();
        let value = condition.values.first()?.clone();
        let part = self.registry.catalog.cube(&cube)?.dimensions.iter().find_map(|it| {
            let count = self.registry.count_of(&it.name, true)?;
            Some((it.name.clone(), count))
        })?;
        frame.measures = vec![part.1.clone()];
        frame.dimensions = vec![part.0];
        frame.order = vec![(part.1, Direction::Desc)];
        let low = !self.slots.has(Role::High);
        frame.derive = Some(Derive::Standing { measure, dimension: condition.member, value, low });
        Some(frame)
    }
}

fn held_members(frame: &Frame) -> Vec<String> {
    let filters = frame.filters.iter().map(|it| it.member.clone());
    frame.measures.iter().chain(&frame.dimensions).cloned().chain(filters).collect()
}

fn unsupported(what: &str) -> Open {
    Open::No { reason: Reason::Unsupported, subject: vec![what.to_owned()], offer: Vec::new() }
}
