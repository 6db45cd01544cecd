//! What can be asked next, as frames: another breakdown, the course over time, the extreme member,
//! the period before.

use ballpoint_metrics::catalog::MemberInfo;

use crate::Planner;
use crate::frame::{Direction, Frame, Unit, cube_of};
use crate::plan::{Context, DialogueState};
use crate::registry::Registry;
use crate::time::window_before;

/// More suggestions than this are not read.
const SUGGESTIONS_MAX: usize = 4;

/// A breakdown into more members than this is not read at a glance.
const MEMBERS_MAX: usize = 40;

impl Planner {
    /// Questions that follow an answered one, each of which this planner reads; `state` is the
    /// dialogue's after the answer.
    pub fn follow_ups(
        &self,
        frame: &Frame,
        state: &DialogueState,
        context: &Context,
    ) -> Vec<String> {
        let registry = Registry {
            catalog: self.catalog(),
        };
        let mut out: Vec<String> = Vec::new();
        for next in nexts(registry, frame, context) {
            if next.query() == frame.query() || out.len() == SUGGESTIONS_MAX {
                continue;
            }
            if let Some(question) = self.question(&next, state, context)
                && !out.contains(&question)
            {
                out.push(question);
            }
        }
        out
    }
}

fn nexts(registry: Registry<'_>, frame: &Frame, context: &Context) -> Vec<Frame> {
    let Some(measure) = frame.measures.first() else {
        return Vec::new();
    };
    let base = Frame {
        measures: vec![measure.clone()],
        dimensions: Vec::new(),
        granularity: None,
        order: Vec::new(),
        limit: None,
        derive: None,
        chart: None,
        against: None,
        ..frame.clone()
    };
    let mut groups = groupings(registry, &base, frame);
    let mut out = Vec::new();
    let mut by = |out: &mut Vec<Frame>| {
        if let Some(dimension) = groups.next() {
            let order = if registry.is_additive(measure) {
                vec![(measure.clone(), Direction::Desc)]
            } else {
                Vec::new()
            };
            out.push(Frame {
                dimensions: vec![dimension],
                order,
                ..base.clone()
            });
        }
    };
    by(&mut out);
    out.extend(trend(registry, &base, frame, context));
    out.extend(previous(&base));
    out.extend(extreme(registry, &base, frame));
    by(&mut out);
    by(&mut out);
    out
}

/// Dimensions to tell apart by, those with few members first come first.
fn groupings<'a>(
    registry: Registry<'a>,
    base: &'a Frame,
    frame: &'a Frame,
) -> impl Iterator<Item = String> + 'a {
    let cube = base.cube().and_then(|name| registry.catalog.cube(name));
    let free = move |it: &&MemberInfo| {
        it.member_type == "string"
            && (2..=MEMBERS_MAX).contains(&it.values.len())
            && !frame.dimensions.contains(&it.name)
            && base.filters.iter().all(|filter| filter.member != it.name)
            && registry.applies(&it.name, &base.filters)
    };
    cube.into_iter()
        .flat_map(|it| &it.dimensions)
        .filter(free)
        .map(|it| it.name.clone())
}

/// By day within some weeks, by week within some months, by month beyond.
pub(crate) fn trend(
    registry: Registry<'_>,
    base: &Frame,
    frame: &Frame,
    context: &Context,
) -> Option<Frame> {
    if frame.granularity.is_some() {
        return None;
    }
    let cube = cube_of(base.measures.first()?);
    let covered = |time: &String| {
        let coverage = context.coverage.get(time)?;
        let span = coverage.from.date().until(coverage.to.date()).ok()?;
        Some(span.get_days() + 1)
    };
    let days = match &base.window {
        Some(window) => window.days(),
        None => covered(&registry.time(cube, None)?)?,
    };
    let step = match days {
        ..=1 => return None,
        2..=31 => Unit::Day,
        32..=120 => Unit::Week,
        _ => Unit::Month,
    };
    Some(Frame {
        time: registry.time(cube, Some(step.name())),
        granularity: Some(step),
        ..base.clone()
    })
}

/// The same against the period before.
fn previous(base: &Frame) -> Option<Frame> {
    let window = base.window?;
    let before = window_before(&window, window.unit)?;
    Some(Frame {
        against: Some(before),
        ..base.clone()
    })
}

/// Which member stands out: in the breakdown shown, else in the one with the most members.
fn extreme(registry: Registry<'_>, base: &Frame, frame: &Frame) -> Option<Frame> {
    let measure = base.measures.first()?;
    let cube = registry.catalog.cube(cube_of(measure))?;
    let widest = || {
        groupings(registry, base, frame).max_by_key(|name| {
            let member = cube.dimensions.iter().find(|it| it.name == *name);
            member.map_or(0, |it| it.values.len())
        })
    };
    let dimension = frame.dimensions.first().cloned().or_else(widest)?;
    // The one to look after is the worst one.
    let direction = if registry.lower_is_better(measure) {
        Direction::Desc
    } else {
        Direction::Asc
    };
    Some(Frame {
        dimensions: vec![dimension],
        order: vec![(measure.clone(), direction)],
        ..base.clone()
    })
}
