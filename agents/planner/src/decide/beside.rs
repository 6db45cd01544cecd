//! The query beside the main one, whose result the rows are held against.

use super::Decider;
use crate::frame::Frame;
use crate::plan::Derive;

impl Decider<'_> {
    /// The query whose result the rows are held against.
    pub(super) fn companion(&self, frame: &Frame) -> Option<Frame> {
        let plain = Frame {
            order: Vec::new(),
            limit: None,
            derive: None,
            ..frame.clone()
        };
        match frame.derive.as_ref()? {
            Derive::VersusOverall { measure, .. } => Some(Frame {
                measures: vec![measure.clone()],
                dimensions: Vec::new(),
                granularity: None,
                ..plain
            }),
            Derive::Standing {
                measure, dimension, ..
            } => {
                let others = plain
                    .filters
                    .iter()
                    .filter(|it| it.member != *dimension)
                    .cloned()
                    .collect();
                Some(Frame {
                    measures: vec![measure.clone()],
                    dimensions: vec![dimension.clone()],
                    filters: others,
                    ..plain
                })
            }
            Derive::Drivers { .. } => Some(Frame {
                dimensions: Vec::new(),
                ..plain
            }),
            _ => None,
        }
    }
}
