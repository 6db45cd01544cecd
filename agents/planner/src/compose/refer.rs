//! Words that point into the conversation: "its", "that machine", and "why is it low".

use super::Composer;
use crate::frame::{Condition, Direction, Frame, cube_of, local};
use crate::plan::{Derive, Reason};
use crate::resolve::Open;
use crate::words::Role;

impl Composer<'_> {
    /// "its trend": the first row of the last result becomes a filter.
    pub(super) fn references(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let pointed = self.slots.has(Role::Its)
            || self.slots.points_at_one && !self.is_new()
            || self.slots.has(Role::Demonstrative)
                && !self.slots.dimensions.is_empty()
                && !self.is_new();
        if !pointed {
            return Ok(());
        }
        let asked = self
            .slots
            .dimensions
            .iter()
            .filter_map(|it| self.dimension(it, cube))
            .next();
        let dimension = asked.filter(|it| self.head(it).is_some()).or_else(|| {
            let last = self.state.last.as_ref()?;
            last.dimensions
                .iter()
                .find_map(|it| self.registry.in_cube(it, cube))
        });
        let value = dimension.as_ref().and_then(|it| self.head(it));
        if let Some((member, value)) = dimension.zip(value) {
            frame.dimensions.retain(|it| *it != member);
            frame.order.clear();
            frame.limit = None;
            frame.derive = None;
            frame.set_filter(Condition {
                member,
                operator: "equals".into(),
                values: vec![value],
            });
            return Ok(());
        }
        // What was spoken of is one thing already: its filter stays.
        if frame.filters.iter().any(|it| it.operator == "equals") {
            return Ok(());
        }
        Err(Open::No {
            reason: Reason::Unsupported,
            subject: vec!["its".into()],
            offer: Vec::new(),
        })
    }

    pub(super) fn head(&self, dimension: &str) -> Option<String> {
        let same = |name: &&String| local(name) == local(dimension);
        let key = self.state.head.keys().find(same)?;
        self.state.head.get(key).cloned()
    }

    /// "Why is X low": how X stands among its peers, and the parts that its count falls into.
    pub(crate) fn why(&self) -> Option<Frame> {
        let last = self.state.last.as_ref()?;
        let measure = last.measures.first()?.clone();
        let cube = cube_of(&measure).to_owned();
        let mut frame = Frame {
            measures: vec![measure.clone()],
            time: last.time.clone(),
            window: last.window,
            filters: last.filters.clone(),
            ..Frame::default()
        };
        self.resolver().members(&cube, &mut frame).ok()?;
        let condition = frame
            .filters
            .iter()
            .find(|it| it.operator == "equals" && last.filters.iter().all(|old| old != *it))?
            .clone();
        let value = condition.values.first()?.clone();
        let part = self
            .registry
            .catalog
            .cube(&cube)?
            .dimensions
            .iter()
            .find_map(|it| {
                let count = self.registry.count_of(&it.name, true)?;
                Some((it.name.clone(), count))
            })?;
        frame.measures = vec![part.1.clone()];
        frame.dimensions = vec![part.0];
        frame.order = vec![(part.1, Direction::Desc)];
        let low = !self.slots.has(Role::High);
        frame.derive = Some(Derive::Standing {
            measure,
            dimension: condition.member,
            value,
            low,
        });
        Some(frame)
    }
}
