//! What can be asked first, by somebody who has not asked yet: a breakdown, a course over time, the
//! member that stands out, a total of some period. Each is given in words that are read as it.

use ballpoint_metrics::catalog::{CubeInfo, MemberInfo};
use jiff::civil::Date;

use crate::Planner;
use crate::frame::{Direction, Frame, Unit, Window, local};
use crate::plan::{Context, Coverage, DialogueState, Plan};
use crate::registry::Registry;
use crate::suggest::trend;
use crate::time::calendar_window;

/// More are not read.
const OPENERS_MAX: usize = 4;

/// Members of a breakdown that one sees at a glance.
const HANDFUL_MAX: usize = 12;

/// Members among which one is worth looking for.
const MANY: std::ops::RangeInclusive<usize> = 4..=40;

/// Tries for one kind of question; some names cannot be said so that they are read.
const TRIES_MAX: usize = 12;

impl Planner {
    /// Questions to begin with, each of another kind, about the cube that answers most.
    pub fn openers(&self, context: &Context) -> Vec<String> {
        let registry = Registry {
            catalog: self.catalog(),
        };
        let cubes = registry.cubes();
        let Some(cube) = cubes.into_iter().find(|it| !it.measures.is_empty()) else {
            return Vec::new();
        };
        let mut opening = Opening {
            planner: self,
            registry,
            cube,
            context,
            frames: Vec::new(),
            questions: Vec::new(),
        };
        for kind in [breakdowns, courses, extremes, totals, breakdowns, plain] {
            let candidates = kind(&opening);
            opening.take_first(candidates);
        }
        opening.questions.truncate(OPENERS_MAX);
        opening.questions
    }
}

/// The questions so far.
struct Opening<'a> {
    planner: &'a Planner,
    registry: Registry<'a>,
    cube: &'a CubeInfo,
    context: &'a Context,
    frames: Vec<Frame>,
    questions: Vec<String>,
}

impl<'a> Opening<'a> {
    /// Keeps the first that can be said.
    fn take_first(&mut self, candidates: Vec<Frame>) {
        let state = DialogueState::default();
        let said = candidates.into_iter().take(TRIES_MAX).find_map(|frame| {
            let whole = || self.planner.question(&frame, &state, self.context);
            let question = self.by(&frame).or_else(whole)?;
            Some((frame, capital(&question)))
        });
        if let Some((frame, question)) = said
            && !self.questions.contains(&question)
        {
            self.frames.push(frame);
            self.questions.push(question);
        }
    }

    /// A breakdown by its names, whatever order it is read in.
    fn by(&self, frame: &Frame) -> Option<String> {
        let ([measure], [dimension], []) = (
            frame.measures.as_slice(),
            frame.dimensions.as_slice(),
            frame.order.as_slice(),
        ) else {
            return None;
        };
        let title = |name: &str| self.registry.title(name);
        let text = format!("{} by {}", title(measure), title(dimension).to_lowercase());
        let plan = self
            .planner
            .plan(&text, &DialogueState::default(), self.context);
        let Plan::Answer(plan) = plan else {
            return None;
        };
        let (query, wanted) = (&plan.query, frame.query());
        let same = query.measures == wanted.measures
            && query.dimensions == wanted.dimensions
            && query.time_dimensions == wanted.time_dimensions
            && query.filters == wanted.filters;
        same.then_some(text)
    }

    fn is_asked(&self, member: &str) -> bool {
        let names = |frame: &Frame| {
            let mut members = frame.measures.iter().chain(&frame.dimensions);
            members.any(|it| it == member)
        };
        self.frames.iter().any(names)
    }

    /// Those not asked yet first, then in the model's order; a count of rows says least.
    fn measures(&self, rank: impl Fn(&MemberInfo) -> bool) -> Vec<&'a MemberInfo> {
        let headline = self.registry.headline(&self.cube.name, &[]);
        let general = |it: &&MemberInfo| self.registry.only(&it.name).is_none();
        let judged = headline.iter().filter_map(|it| self.registry.member(it));
        let mut out: Vec<&MemberInfo> = judged.filter(general).collect();
        for measure in &self.cube.measures {
            if !out.iter().any(|it| it.name == measure.name) {
                out.push(measure);
            }
        }
        let is_count = |it: &MemberInfo| it.member_type == "count";
        out.sort_by_key(|it| (!rank(it), is_count(it), self.is_asked(&it.name)));
        out
    }

    fn is_judged(&self, measure: &MemberInfo) -> bool {
        measure.meta.get("better").is_some() && !self.registry.is_additive(&measure.name)
    }

    /// Texts that tell rows apart, those that more than this cube knows and with few values first.
    /// One whose values were not found yet may have any number.
    fn dimensions(&self) -> Vec<&'a MemberInfo> {
        let catalog = self.registry.catalog;
        let others = || catalog.cubes.iter().filter(|it| it.name != self.cube.name);
        let is_shared = |it: &MemberInfo| {
            others().any(|cube| self.registry.in_cube(&it.name, &cube.name).is_some())
        };
        let told = |it: &&MemberInfo| {
            it.member_type == "string" && !it.primary_key && it.values.len() != 1
        };
        let mut out: Vec<&MemberInfo> = self.cube.dimensions.iter().filter(told).collect();
        out.sort_by_key(|it| {
            let values = it.values.len();
            // Two values are mostly a verdict, which is what the rates are about.
            let unfit = match values {
                0 => 2,
                2 => 1,
                3..=HANDFUL_MAX => 0,
                _ => 3,
            };
            let only = self.registry.only(&it.name).is_some();
            (only, unfit, !is_shared(it), values)
        });
        out
    }

    /// Whether a measure is made of a dimension's own column: a share of each status is all or none.
    fn is_made_of(&self, measure: &MemberInfo, dimension: &MemberInfo) -> bool {
        let column = dimension.sql.as_deref().map(str::trim);
        let column = column.map_or(local(&dimension.name), |it| {
            it.trim_start_matches("{CUBE}.").trim_matches('"')
        });
        let parts = self.cube.measures.iter().filter(|it| {
            it.name == measure.name
                || measure
                    .sql
                    .as_ref()
                    .is_some_and(|sql| sql.contains(&format!("{{{}}}", local(&it.name))))
        });
        let mut sqls = parts.filter_map(|it| it.sql.as_deref());
        sqls.any(|sql| {
            let mut words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == column || word == local(&dimension.name))
        })
    }

    fn frame(&self, measure: &MemberInfo) -> Frame {
        Frame {
            measures: vec![measure.name.clone()],
            ..Frame::default()
        }
    }
}

/// What is judged good or bad, by what tells rows apart.
fn breakdowns(opening: &Opening<'_>) -> Vec<Frame> {
    let measures = opening.measures(|it| opening.is_judged(it));
    let mut out = Vec::new();
    for measure in measures.into_iter().take(TRIES_MAX / 3) {
        let dimensions = opening.dimensions().into_iter();
        let fit = dimensions.filter(|it| {
            !opening.is_made_of(measure, it)
                && it.values.len() <= HANDFUL_MAX
                && !opening.is_asked(&it.name)
        });
        for dimension in fit.take(3) {
            out.push(Frame {
                dimensions: vec![dimension.name.clone()],
                ..opening.frame(measure)
            });
        }
    }
    out
}

fn courses(opening: &Opening<'_>) -> Vec<Frame> {
    let (registry, cube) = (opening.registry, &opening.cube.name);
    let Some(time) = registry.time(cube, None) else {
        return Vec::new();
    };
    let measures = opening.measures(|it| opening.is_judged(it) && !opening.is_asked(&it.name));
    let course = |measure: &MemberInfo| {
        let base = opening.frame(measure);
        if opening.context.coverage.contains_key(&time) {
            return trend(registry, &base, &base, opening.context);
        }
        Some(Frame {
            time: registry.time(cube, Some(Unit::Month.name())),
            granularity: Some(Unit::Month),
            ..base
        })
    };
    measures.into_iter().filter_map(course).collect()
}

/// The member to look after: the worst where good and bad are told apart, else the greatest.
fn extremes(opening: &Opening<'_>) -> Vec<Frame> {
    let registry = opening.registry;
    let measures = opening.measures(|it| opening.is_judged(it) && !opening.is_asked(&it.name));
    let mut dimensions = opening.dimensions();
    dimensions.retain(|it| MANY.contains(&it.values.len()));
    dimensions.sort_by_key(|it| opening.is_asked(&it.name));
    let mut out = Vec::new();
    for measure in measures.into_iter().take(TRIES_MAX / 3) {
        let higher_is_better =
            measure.meta.get("better").is_some() && !registry.lower_is_better(&measure.name);
        let direction = match higher_is_better {
            true => Direction::Asc,
            false => Direction::Desc,
        };
        let fit = dimensions
            .iter()
            .filter(|it| !opening.is_made_of(measure, it));
        out.extend(fit.take(3).map(|dimension| Frame {
            dimensions: vec![dimension.name.clone()],
            order: vec![(measure.name.clone(), direction)],
            ..opening.frame(measure)
        }));
    }
    out
}

/// What adds up, in the latest period that is over and has data.
fn totals(opening: &Opening<'_>) -> Vec<Frame> {
    let Some(time) = opening.registry.time(&opening.cube.name, None) else {
        return Vec::new();
    };
    let coverage = opening.context.coverage.get(&time);
    let Some(window) = period(opening.context.now.date(), coverage) else {
        return Vec::new();
    };
    let adds_up = |it: &MemberInfo| it.member_type == "sum";
    let measures = opening.measures(adds_up).into_iter();
    measures
        .map(|measure| Frame {
            time: Some(time.clone()),
            window: Some(window),
            ..opening.frame(measure)
        })
        .collect()
}

/// Last month, where the data has all of it, else a shorter one, else the data's own last month.
fn period(today: Date, coverage: Option<&Coverage>) -> Option<Window> {
    let before = |unit| calendar_window(today, unit, -1);
    let Some(covered) = coverage else {
        return before(Unit::Month);
    };
    let is_covered =
        |it: &Window| covered.from.date() <= it.from.date() && it.to.date() <= covered.to.date();
    let recent = [Unit::Month, Unit::Week, Unit::Day].into_iter();
    recent
        .filter_map(before)
        .find(is_covered)
        .or_else(|| calendar_window(covered.to.date(), Unit::Month, 0))
}

/// What adds up, over all.
fn plain(opening: &Opening<'_>) -> Vec<Frame> {
    let measures = opening.measures(|it| !opening.is_asked(&it.name));
    let frames = measures.into_iter().map(|it| opening.frame(it));
    frames.collect()
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    first.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ballpoint_metrics::catalog::Catalog;
    use serde_json::json;

    use super::*;

    fn member(name: &str, kind: &str, values: usize) -> MemberInfo {
        MemberInfo {
            name: format!("Orders.{}", name.to_lowercase()),
            short_title: name.to_owned(),
            title: name.to_owned(),
            member_type: kind.to_owned(),
            sql: Some(name.to_lowercase()),
            values: (1..=values).map(|n| format!("{name}-{n}")).collect(),
            ..MemberInfo::default()
        }
    }

    fn orders() -> CubeInfo {
        CubeInfo {
            name: "Orders".to_owned(),
            title: "Orders".to_owned(),
            measures: vec![
                member("Orders", "count", 0),
                member("Revenue", "sum", 0),
                member("Margin", "avg", 0),
                member("Freight", "sum", 0),
            ],
            dimensions: vec![
                member("Region", "string", 0),
                member("Status", "string", 3),
                member("Seller", "string", 20),
                member("Placed", "time", 0),
            ],
            ..CubeInfo::default()
        }
    }

    fn context(coverage: &[(&str, &str)]) -> Context {
        let coverage = coverage.iter().map(|(from, to)| {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            ("Orders.placed".to_owned(), Coverage { from, to })
        });
        Context {
            now: "2026-03-31T10:00:00[UTC]".parse().unwrap(),
            coverage: coverage.collect::<BTreeMap<_, _>>(),
        }
    }

    /// The openers, each of which is read.
    fn openers(cubes: Vec<CubeInfo>, context: &Context) -> Vec<String> {
        let planner = Planner::new(Catalog { cubes });
        let questions = planner.openers(context);
        for question in &questions {
            let plan = planner.plan(question, &DialogueState::default(), context);
            assert!(matches!(plan, Plan::Answer(_)), "{question}: {plan:?}");
        }
        questions
    }

    #[test]
    fn a_project_that_says_nothing_of_its_measures_is_asked_in_four_ways() {
        let covered = context(&[("2026-01-01T00:00:00", "2026-03-31T09:00:00")]);
        let expected = [
            "Revenue by status",
            "Margin by week",
            "Which seller has the highest Freight",
            "Revenue last month",
        ];
        assert_eq!(openers(vec![orders()], &covered), expected);
        let old = context(&[("2019-01-01T00:00:00", "2019-12-31T09:00:00")]);
        let questions = openers(vec![orders()], &old);
        assert_eq!(questions[3], "Revenue from 2019-12-01 to 2019-12-31");
    }

    #[test]
    fn a_rate_is_not_asked_by_the_status_that_it_is_made_of() {
        let mut cube = orders();
        let rate = MemberInfo {
            sql: Some("avg(case when {CUBE}.status = 'late' then 1 else 0 end)".to_owned()),
            meta: json!({ "better": "lower", "unit": "percent" }),
            ..member("Lateness", "number", 0)
        };
        cube.measures.insert(0, rate);
        cube.dimensions.push(member("Channel", "string", 5));
        let questions = openers(vec![cube], &context(&[]));
        assert_eq!(questions[0], "Lateness by channel", "{questions:?}");
        assert_eq!(questions.len(), OPENERS_MAX);
    }

    #[test]
    fn without_values_or_times_there_are_questions_still_and_none_without_measures() {
        let mut cube = orders();
        cube.dimensions.iter_mut().for_each(|it| it.values.clear());
        cube.dimensions.retain(|it| it.member_type != "time");
        let questions = openers(vec![cube.clone()], &context(&[]));
        assert!(questions.len() >= 2, "{questions:?}");
        cube.measures.clear();
        assert!(openers(vec![cube], &context(&[])).is_empty());
        assert!(openers(Vec::new(), &context(&[])).is_empty());
    }
}
