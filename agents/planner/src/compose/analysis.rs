//! Statistics that a question asks for by name: the rows that each of them is worked out from.

use ballpoint_metrics::catalog::MemberInfo;

use super::{Composer, unsupported};
use crate::frame::{Direction, Frame, Unit, cube_of, local};
use crate::plan::{Derive, Reason};
use crate::resolve::Open;
use crate::words::Role;

/// A change is taken apart by what one sees at a glance.
const GROUPS_MAX: usize = 12;

impl Composer<'_> {
    pub(super) fn analyse(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let slots = self.slots;
        if slots.asks_drivers() {
            return self.drivers(cube, frame);
        }
        let asked = |role: Role| slots.has(role);
        if asked(Role::Correlation) {
            self.correlation(cube, frame)
        } else if asked(Role::ControlChart) {
            self.control_chart(cube, frame)
        } else if asked(Role::Capability) {
            self.capability(cube, frame)
        } else if asked(Role::Outliers) {
            self.outliers(frame)
        } else {
            Ok(())
        }
    }

    fn correlation(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let [x, y] = frame.measures.as_slice() else {
            return Err(unsupported("a correlation is of two metrics"));
        };
        frame.derive = Some(Derive::Correlation {
            x: x.clone(),
            y: y.clone(),
        });
        frame.order.clear();
        if frame.dimensions.is_empty() {
            self.series(cube, frame)?;
        }
        Ok(())
    }

    fn control_chart(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let ([measure], []) = (frame.measures.as_slice(), frame.dimensions.as_slice()) else {
            return Err(unsupported("a control chart is of one metric over time"));
        };
        let measure = measure.clone();
        let counts = self.rows_behind(&measure);
        frame.measures.extend(counts.clone());
        frame.derive = Some(Derive::ControlChart { measure, counts });
        frame.order.clear();
        frame.limit = None;
        self.series(cube, frame)
    }

    /// Single values are rows told apart by their key, in the order of time.
    fn capability(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let [measure] = frame.measures.as_slice() else {
            return Err(unsupported("a capability is of one metric"));
        };
        let member = self.registry.member(measure);
        let spec = member.and_then(|it| it.meta.get("spec"));
        let limit = |key: &str| spec.and_then(|it| it.get(key)?.as_f64());
        let (lower, upper) = (limit("lower"), limit("upper"));
        if lower.is_none() && upper.is_none() {
            let title = self.registry.title(measure);
            return Err(unsupported(&format!(
                "{title} has no specification limits in the model (meta.spec: lower, upper)"
            )));
        }
        let key = self.registry.catalog.cube(cube).and_then(|it| {
            let is_key = |it: &&MemberInfo| it.primary_key && it.member_type == "string";
            it.dimensions.iter().find(is_key)
        });
        let averaged = member.is_some_and(|it| it.member_type == "avg");
        let (Some(key), true, true) = (key, averaged, frame.dimensions.is_empty()) else {
            return Err(unsupported(
                "a capability of what is not measured on each row",
            ));
        };
        frame.derive = Some(Derive::Capability {
            measure: measure.clone(),
            lower,
            upper,
        });
        frame.dimensions = vec![key.name.clone()];
        frame.granularity = Some(Unit::Hour);
        frame.time = self.registry.time(cube, Some(Unit::Hour.name()));
        let by_time = frame.time.iter().chain([&key.name]);
        frame.order = by_time.map(|it| (it.clone(), Direction::Asc)).collect();
        Ok(())
    }

    fn outliers(&self, frame: &mut Frame) -> Result<(), Open> {
        let Some(measure) = frame.measures.first().cloned() else {
            return Err(unsupported("outliers of no metric"));
        };
        if frame.dimensions.is_empty() && frame.granularity.is_none() {
            return Err(self.which_breakdown(frame));
        }
        frame.derive = Some(Derive::Outliers { measure });
        Ok(())
    }

    fn drivers(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let [measure] = frame.measures.as_slice() else {
            return Err(unsupported("taking apart the change of several metrics"));
        };
        let measure = measure.clone();
        if frame.against.is_none() {
            return Err(unsupported("a change without a period"));
        }
        let kind = self
            .registry
            .member(&measure)
            .map(|it| it.member_type.as_str());
        let weight = match kind {
            Some("count" | "sum") => None,
            Some("avg") => self.registry.base_count(cube),
            _ => self.rows_behind(&measure),
        };
        if weight.is_none() && !self.registry.is_additive(&measure) {
            return Err(unsupported(
                "taking apart what does not add up over its groups",
            ));
        }
        if frame.dimensions.is_empty() {
            let group = self.registry.catalog.cube(cube).and_then(|it| {
                let few = |it: &&MemberInfo| {
                    it.member_type == "string"
                        && (2..=GROUPS_MAX).contains(&it.values.len())
                        && frame.filters.iter().all(|filter| filter.member != it.name)
                        && self.registry.only(&it.name).is_none()
                };
                it.dimensions.iter().find(few)
            });
            let Some(group) = group else {
                return Err(self.which_breakdown(frame));
            };
            frame.dimensions.push(group.name.clone());
        }
        frame.measures.extend(weight.clone());
        frame.order.clear();
        frame.derive = Some(Derive::Drivers { measure, weight });
        Ok(())
    }

    /// The count of rows that a share is a share of, as its definition says.
    fn rows_behind(&self, measure: &str) -> Option<String> {
        let sql = self.registry.member(measure)?.sql.as_deref()?;
        let count = self.registry.base_count(cube_of(measure))?;
        let divides = |below: &str| below.contains(&format!("{{{}}}", local(&count)));
        let (_, below) = sql.split_once('/')?;
        divides(below).then_some(count)
    }

    /// By day unless another step was asked for.
    fn series(&self, cube: &str, frame: &mut Frame) -> Result<(), Open> {
        let step = *frame.granularity.get_or_insert(Unit::Day);
        match self.registry.time(cube, Some(step.name())) {
            Some(time) => {
                frame.time = Some(time);
                Ok(())
            }
            None => Err(Open::No {
                reason: Reason::NoTimeDimension,
                subject: vec![cube.to_owned()],
                offer: Vec::new(),
            }),
        }
    }
}
