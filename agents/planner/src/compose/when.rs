//! Windows, steps and comparisons of periods.

use super::{Composer, unsupported};
use crate::frame::{Frame, Unit, Window, cube_of};
use crate::plan::Reason;
use crate::resolve::Open;
use crate::time::{calendar_window, window_before};
use crate::words::Role;

impl Composer<'_> {
    pub(super) fn time(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let slots = self.slots;
        let comparing = [
            Role::Over,
            Role::Under,
            Role::Versus,
            Role::Compare,
            Role::MoreComparative,
            Role::LessComparative,
        ];
        let compares = comparing.iter().any(|role| slots.has(*role)) && slots.bounds.is_empty();
        if let (Some(unit), [one]) = (slots.before, slots.windows.as_slice()) {
            // "Last week against the week before".
            frame.window = Some(*one);
            frame.against = window_before(one, unit);
        } else if let (Some(unit), Some(last)) = (slots.before, frame.window.filter(|_| compares)) {
            // "Is that more than the week before".
            frame.against = window_before(&last, unit);
        } else if let Some(unit) = slots.before {
            let old = frame.window.or_else(|| {
                calendar_window(self.context.now.date(), unit.unwrap_or(Unit::Week), 0)
            });
            frame.window = old.and_then(|window| window_before(&window, unit));
        }
        match slots.windows.as_slice() {
            [] => {}
            [_] if slots.before.is_some() => {}
            [one] => self.one_window(*one, frame),
            [first, second] => self.two_windows(*first, *second, frame),
            several => match side_by_side(several) {
                Some((whole, unit)) => {
                    frame.window = Some(whole);
                    frame.against = None;
                    frame.granularity = Some(unit);
                }
                None => return Err(unsupported("more than two periods")),
            },
        }
        if let Some(unit) = slots.over_previous {
            let today = self.context.now.date();
            let periods = calendar_window(today, unit, -1).zip(calendar_window(today, unit, 0));
            if let (None, Some((old, new))) = (frame.window, periods) {
                frame.window = Some(Window {
                    from: old.from,
                    to: new.to,
                    sub_day: false,
                    unit: None,
                });
            }
            frame.granularity = Some(unit);
        }
        if slots.has(Role::Drop) && slots.step.is_some() {
            frame.granularity = None;
            frame.derive = None;
        } else if let Some(step) = self
            .resolver()
            .step(frame)
            .or_else(|| self.series_step(frame))
        {
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
        let dated = slots.dated.iter().find(|it| cube_of(it) == cube).cloned();
        match dated.or_else(|| self.registry.time(cube, step)) {
            Some(time) => {
                frame.time = Some(time);
                Ok(())
            }
            None => Err(Open::No {
                reason: Reason::NoTimeDimension,
                subject: vec![cube.to_owned()],
                offer: frame
                    .measures
                    .iter()
                    .map(|it| self.registry.title(it))
                    .collect(),
            }),
        }
    }

    /// One window; where a change is asked for, its ends or the period before make two of it.
    fn one_window(&self, one: Window, frame: &mut Frame) {
        let slots = self.slots;
        let changes = slots.has(Role::Change) || slots.has(Role::Movement);
        let spoken_of = slots.says_previous && frame.window == Some(one);
        let one = window_before(&one, one.unit)
            .filter(|_| spoken_of)
            .unwrap_or(one);
        frame.window = Some(one);
        frame.against = None;
        if slots.asks_drivers() {
            frame.against = window_before(&one, one.unit);
            return;
        }
        match slots.ends {
            Some((first, last)) if changes => self.two_windows(first, last, frame),
            None if changes && slots.how_much && slots.step.is_none() => {
                frame.against = window_before(&one, one.unit);
            }
            _ => {}
        }
    }

    /// A moving average is a series by nature.
    pub(super) fn series_step(&self, frame: &Frame) -> Option<Unit> {
        let first = frame.measures.first()?;
        let moving = crate::normalise::words(&self.registry.title(first))
            .iter()
            .any(|it| it == "moving");
        (moving && frame.granularity.is_none()).then_some(Unit::Hour)
    }

    /// Two windows are compared, the later one with the earlier one.
    pub(super) fn two_windows(&self, first: Window, second: Window, frame: &mut Frame) {
        let (old, new) = if first.from <= second.from {
            (first, second)
        } else {
            (second, first)
        };
        frame.window = Some(new);
        frame.against = Some(old);
    }

    /// A cube without time dimension, asked about time.
    pub(super) fn lacks_time(&self, cube: &str) -> bool {
        let slots = self.slots;
        let asked = !slots.windows.is_empty()
            || slots.step.is_some()
            || slots.has(Role::Trend)
            || slots.has(Role::Change);
        asked && self.registry.time(cube, None).is_none()
    }
}

/// Several periods of one kind, one after the other, as the whole of them and their kind.
fn side_by_side(windows: &[Window]) -> Option<(Window, Unit)> {
    let mut sorted = windows.to_vec();
    sorted.sort_by_key(|it| it.from);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let unit = first.unit.filter(|unit| *unit >= Unit::Day)?;
    let follows = |pair: &[Window]| {
        let next = pair[0].to.date().tomorrow();
        pair[1].unit == Some(unit) && next.is_ok_and(|it| it == pair[1].from.date())
    };
    sorted
        .windows(2)
        .all(follows)
        .then(|| (first.through(last), unit))
}
