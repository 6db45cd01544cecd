//! Windows, steps and comparisons of periods.

use super::{Composer, unsupported};
use crate::frame::{Frame, Unit, Window};
use crate::plan::Reason;
use crate::resolve::Open;
use crate::time::{calendar_window, window_before};
use crate::words::Role;

impl Composer<'_> {
    pub(super) fn time(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let slots = self.slots;
        if let Some(unit) = slots.before {
            let old = frame.window.or_else(|| {
                calendar_window(self.context.now.date(), unit.unwrap_or(Unit::Week), 0)
            });
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
        match self.registry.time(cube, step) {
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
        let asked = !slots.windows.is_empty() || slots.step.is_some() || slots.has(Role::Trend);
        asked && self.registry.time(cube, None).is_none()
    }
}
