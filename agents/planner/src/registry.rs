//! Questions the planner asks of the catalog: siblings of a member, what a measure applies to,
//! which measures speak for a cube.

use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use serde_json::Value;

use crate::frame::{Condition, cube_of, local};
use crate::lexicon::{camel_words, noun, texts};
use crate::normalise::words;
use crate::slots::counts;

/// A restriction written in a measure's meta: it exists only for these members.
pub(crate) struct Only {
    pub(crate) member: String,
    pub(crate) values: Vec<String>,
}

/// The catalog with the planner's questions about it.
#[derive(Clone, Copy)]
pub(crate) struct Registry<'a> {
    pub(crate) catalog: &'a Catalog,
}

impl<'a> Registry<'a> {
    pub(crate) fn member(self, name: &str) -> Option<&'a MemberInfo> {
        self.catalog.member(name)
    }

    /// The cubes, those about everything and with the most members first: they answer the most
    /// follow-ups.
    pub(crate) fn cubes(self) -> Vec<&'a CubeInfo> {
        let mut cubes: Vec<&CubeInfo> = self.catalog.cubes.iter().collect();
        let size = |cube: &CubeInfo| std::cmp::Reverse(cube.measures.len() + cube.dimensions.len());
        cubes.sort_by_key(|cube| (cube.meta.get("only").is_some(), size(cube)));
        cubes
    }

    pub(crate) fn is_measure(self, name: &str) -> bool {
        let cube = self.catalog.cube(cube_of(name));
        cube.is_some_and(|it| it.measures.iter().any(|it| it.name == name))
    }

    pub(crate) fn title(self, name: &str) -> String {
        self.member(name).map_or_else(
            || local(name).to_owned(),
            |member| member.short_title.clone(),
        )
    }

    /// The same member in another cube.
    pub(crate) fn in_cube(self, name: &str, cube: &str) -> Option<String> {
        let there = format!("{cube}.{}", local(name));
        self.member(&there).map(|member| member.name.clone())
    }

    /// The time dimension to use in a cube; one that is named for the step when there is one.
    pub(crate) fn time(self, cube: &str, step: Option<&str>) -> Option<String> {
        let cube = self.catalog.cube(cube)?;
        let times: Vec<&MemberInfo> = cube
            .dimensions
            .iter()
            .filter(|it| it.member_type == "time")
            .collect();
        let named = |word: &str| {
            times
                .iter()
                .find(|it| camel_words(local(&it.name)).iter().any(|part| part == word))
        };
        let preset = cube.meta.get("time").and_then(Value::as_str);
        let default =
            preset.and_then(|name| times.iter().find(|it| local(&it.name) == local(name)));
        step.and_then(named)
            .or(default)
            .or(times.first())
            .map(|it| it.name.clone())
    }

    /// What a measure, or its cube, is restricted to.
    pub(crate) fn only(self, measure: &str) -> Option<Only> {
        let own = self.member(measure).and_then(|it| it.meta.get("only"));
        let only = own.or_else(|| self.catalog.cube(cube_of(measure))?.meta.get("only"))?;
        let member = only.get("member")?.as_str()?;
        Some(Only {
            member: local(member).to_owned(),
            values: texts(only, "values").map(str::to_owned).collect(),
        })
    }

    /// Whether conditions on a member leave anything of what a measure or dimension is restricted to.
    pub(crate) fn applies(self, measure: &str, filters: &[Condition]) -> bool {
        let Some(only) = self.only(measure) else {
            return true;
        };
        filters
            .iter()
            .filter(|it| local(&it.member) == only.member)
            .all(|it| {
                let named = |value: &String| it.values.contains(value);
                match it.operator.as_str() {
                    "equals" => only.values.iter().any(named),
                    "notEquals" => !only.values.iter().all(named),
                    _ => true,
                }
            })
    }

    /// Measures that are judged good or bad and apply to everything: what "how is it going" is
    /// answered with. Then those that only exist for what the filters name.
    pub(crate) fn headline(self, cube: &str, filters: &[Condition]) -> Vec<String> {
        let Some(cube) = self.catalog.cube(cube) else {
            return Vec::new();
        };
        let rated = |it: &&MemberInfo| it.meta.get("better").is_some();
        let ratio = |it: &&MemberInfo| {
            let unit = it
                .meta
                .get("unit")
                .and_then(Value::as_str)
                .unwrap_or_default();
            it.format.as_deref() == Some("percent") || matches!(unit, "percent" | "%" | "fraction")
        };
        let named = |it: &&MemberInfo| {
            self.only(&it.name).is_some()
                && filters.iter().any(|filter| {
                    self.only(&it.name)
                        .is_some_and(|only| only.member == local(&filter.member))
                })
                && self.applies(&it.name, filters)
        };
        if !cube.measures.iter().any(|it| rated(&it)) {
            // Nothing is called good or bad: what comes first in the model is what matters most.
            return cube.measures.iter().map(|it| it.name.clone()).collect();
        }
        let general: Vec<&MemberInfo> = cube
            .measures
            .iter()
            .filter(rated)
            .filter(|it| self.only(&it.name).is_none())
            .collect();
        let ratios: Vec<&MemberInfo> = general.iter().copied().filter(ratio).collect();
        // The first rate, the first fraction, then what is particular to the members asked about.
        let mut units: Vec<String> = Vec::new();
        let mut out: Vec<String> = Vec::new();
        for measure in &ratios {
            let unit = measure
                .meta
                .get("unit")
                .map(Value::to_string)
                .unwrap_or_default();
            if !units.contains(&unit) {
                units.push(unit);
                out.push(measure.name.clone());
            }
        }
        out.truncate(2);
        out.extend(
            cube.measures
                .iter()
                .filter(rated)
                .filter(named)
                .map(|it| it.name.clone())
                .take(2),
        );
        for measure in general {
            if !out.contains(&measure.name) {
                out.push(measure.name.clone());
            }
        }
        out
    }

    /// The measure that counts the members of a dimension, by name.
    pub(crate) fn count_of(self, dimension: &str, additive: bool) -> Option<String> {
        let noun = noun(dimension);
        let cube = self.catalog.cube(cube_of(dimension))?;
        cube.measures
            .iter()
            .filter(|it| !additive || matches!(it.member_type.as_str(), "count" | "sum"))
            .find(|it| counts(&it.name, &noun))
            .map(|it| it.name.clone())
    }

    /// The measure that counts a cube's rows.
    pub(crate) fn base_count(self, cube: &str) -> Option<String> {
        let cube = self.catalog.cube(cube)?;
        let count = |it: &&MemberInfo| it.member_type == "count" && local(&it.name) == "count";
        cube.measures.iter().find(count).map(|it| it.name.clone())
    }

    /// The rate that belongs to a count: `reworkRate` to `reworkCount`, `failRate` to `failedUnits`.
    pub(crate) fn rate_of(self, measure: &str) -> Option<String> {
        let cube = self.catalog.cube(cube_of(measure))?;
        let stem = |name: &str| -> String {
            let words = camel_words(local(name));
            words
                .first()
                .map(|word| word.chars().take(4).collect())
                .unwrap_or_default()
        };
        let own = stem(measure);
        cube.measures
            .iter()
            .filter(|it| {
                camel_words(local(&it.name))
                    .last()
                    .is_some_and(|last| last == "rate")
            })
            .find(|it| stem(&it.name) == own)
            .map(|it| it.name.clone())
    }

    /// Whether parts of a measure add up to the whole.
    pub(crate) fn is_additive(self, measure: &str) -> bool {
        let kind = self.member(measure).map(|it| it.member_type.as_str());
        matches!(kind, Some("count" | "sum"))
    }

    /// Whether less of a measure is better.
    pub(crate) fn lower_is_better(self, measure: &str) -> bool {
        let better = self.member(measure).and_then(|it| it.meta.get("better"));
        better.and_then(Value::as_str) == Some("lower")
    }

    /// Measures whose description speaks of a word, then those with a title near to it.
    pub(crate) fn related(self, unknown: &[String]) -> Vec<String> {
        let Some(cube) = self.cubes().first().copied() else {
            return Vec::new();
        };
        let asked: Vec<String> = unknown.iter().flat_map(|word| words(word)).collect();
        let speaks = |it: &&MemberInfo| {
            let own = it.description.iter().flat_map(|text| words(text));
            let related = texts(&it.meta, "related").flat_map(words);
            own.chain(related)
                .any(|word| word.len() > 3 && asked.contains(&word))
        };
        cube.measures
            .iter()
            .filter(speaks)
            .map(|it| it.short_title.clone())
            .collect()
    }

    /// Members that a question could name: the values of dimensions with few of them.
    pub(crate) fn nameable(self, cube: &str) -> Vec<String> {
        let Some(cube) = self.catalog.cube(cube) else {
            return Vec::new();
        };
        let few =
            |it: &&MemberInfo| it.member_type == "string" && (2..=10).contains(&it.values.len());
        let worded = |it: &&MemberInfo| it.values.iter().all(|value| !value.contains('-'));
        let lists = cube.dimensions.iter().filter(few).filter(worded);
        lists.flat_map(|it| it.values.clone()).collect()
    }
}
