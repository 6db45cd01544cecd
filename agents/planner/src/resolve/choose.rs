//! The cube that a question is about: one that has every member it names.

use super::{Open, Resolver};
use crate::frame::cube_of;
use crate::plan::Reason;

impl Resolver<'_> {
    /// The cube that holds all that was named; the widest of several. Where rows are counted, the
    /// cube that has them comes before those that only refer to them, and these before others.
    pub(crate) fn cube(&self, held: &[String]) -> Result<String, Open> {
        let cubes = self.fitting(held);
        let counts = |cube: &str, how: &dyn Fn(&str) -> bool| {
            self.slots.counted.iter().all(|it| {
                let mut own = it.candidates.iter().filter(|name| cube_of(name) == cube);
                own.any(|name| how(name))
            })
        };
        let rows = |name: &str| self.registry.is_measure(name);
        let different = |name: &str| self.registry.count_of(name, false).is_some();
        let counted = cubes
            .iter()
            .find(|cube| counts(cube, &rows))
            .or_else(|| cubes.iter().find(|cube| counts(cube, &different)));
        match counted.or(cubes.first()) {
            Some(cube) => Ok(cube.clone()),
            None => Err(self.no_cube(self.slots.cube.as_deref())),
        }
    }

    /// Other cubes that the question may as well be about, because they measure something of their
    /// own under the same name. Cubes without a grain show one thing at several levels.
    pub(crate) fn rivals(&self, cube: &str) -> Vec<String> {
        let grain = |name: &str| self.registry.catalog.cube(name)?.meta.get("grain").cloned();
        let Some(own) = grain(cube).filter(|_| !self.slots.measures.is_empty()) else {
            return Vec::new();
        };
        let mut rivals = self.fitting(&[]);
        rivals.retain(|it| it != cube && grain(it).is_some_and(|other| other != own));
        rivals
    }

    fn fitting(&self, held: &[String]) -> Vec<String> {
        let named = self.slots.cube.as_deref();
        let fits = |cube: &str| {
            let has = |names: &[String]| names.iter().any(|name| cube_of(name) == cube);
            let members = self.slots.members.iter().all(|it| {
                it.candidates
                    .iter()
                    .any(|(dimension, _)| cube_of(dimension) == cube)
            });
            let mentions = self.slots.measures.iter().chain(&self.slots.dimensions);
            let rest = mentions.chain(&self.slots.unset).chain(&self.slots.counted);
            members
                && rest.into_iter().all(|it| has(&it.candidates))
                && held
                    .iter()
                    .all(|name| self.registry.in_cube(name, cube).is_some())
        };
        self.registry
            .cubes()
            .iter()
            .filter(|cube| named.is_none_or(|it| it == cube.name) && fits(&cube.name))
            .map(|cube| cube.name.clone())
            .collect()
    }

    fn no_cube(&self, named: Option<&str>) -> Open {
        let mentions = self.slots.measures.iter().chain(&self.slots.dimensions);
        let subject: Vec<String> = mentions.map(|it| it.words.clone()).collect();
        let offer = self
            .slots
            .measures
            .iter()
            .filter_map(|it| it.candidates.first());
        let offer = offer
            .map(|name| self.registry.title(name))
            .chain(named.map(str::to_owned));
        Open::No {
            reason: Reason::NotApplicable,
            subject,
            offer: offer.collect(),
        }
    }
}
