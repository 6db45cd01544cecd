//! Periods that are not over, or that a series only touches: their figures look low and are not.

use jiff::civil::DateTime;

use crate::frame::{Frame, Unit};
use crate::plan::{Context, Note};
use crate::time::calendar_window;

/// What must be said of a frame's window and steps.
pub(super) fn notes(frame: &Frame, context: &Context) -> Vec<Note> {
    let now = context.now.datetime();
    let windows = [frame.window, frame.against];
    let goes_on = windows.iter().flatten().any(|it| it.to > now);
    let steps = frame
        .granularity
        .and_then(|unit| steps(frame, context, unit));
    let mut notes: Vec<Note> = steps.into_iter().collect();
    if goes_on && notes.is_empty() {
        notes.push(Note::PeriodGoesOn);
    }
    notes
}

fn steps(frame: &Frame, context: &Context, unit: Unit) -> Option<Note> {
    if unit == Unit::Hour {
        return None;
    }
    let covered = context.coverage.get(frame.time.as_ref()?);
    let now = context.now.datetime();
    let from = latest(frame.window.map(|it| it.from), covered.map(|it| it.from))?;
    let to = frame.window.map_or(now, |it| it.to.min(now));
    let first = calendar_window(from.date(), unit, 0)?.from < from;
    let last = calendar_window(to.date(), unit, 0)?.to > to;
    (first || last).then_some(Note::PartialSteps { unit, first, last })
}

fn latest(a: Option<DateTime>, b: Option<DateTime>) -> Option<DateTime> {
    a.max(b)
}
