//! What a request says, as members of the data model: the rows it is about and the figure that
//! decides.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_metrics::catalog::{Catalog, MemberInfo};
use ballpoint_planner::frame::{Condition, Window, cube_of};
use ballpoint_planner::understood::{Named, NamedMember, Understood};
use ballpoint_reverse_etl::Sync;

use crate::proposer::Refusal;
use crate::request::{Bound, Request};
use crate::wording::quoted;

/// What decides about a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// A measure; counted where it is the share's part.
    pub(crate) measure: String,
    /// Narrows the measure: "late orders" among the orders.
    pub(crate) part: Option<Condition>,
    /// What the part is a share of; the figure is in percent then.
    pub(crate) whole: Option<String>,
    pub(crate) bound: Bound,
    /// In the measure's own unit.
    pub(crate) number: f64,
}

/// Which rows a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The key members that are judged: one figure each.
    pub(crate) level: Vec<String>,
    pub(crate) filters: Vec<Condition>,
    /// Those of the filters that are about rows of the table, not about what happened in them: an
    /// order that is chosen is chosen with all its lines.
    pub(crate) rows: Vec<Condition>,
    pub(crate) window: Option<Window>,
    /// The time dimension that the window is of.
    pub(crate) time: Option<String>,
    pub(crate) figure: Option<Figure>,
}

/// Reads a choice of one sync's rows out of what the planner has understood.
pub(crate) struct Reader<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) request: &'a Request,
    pub(crate) read: &'a Understood,
    pub(crate) sync: &'a Sync,
    pub(crate) action: &'a str,
}

impl Reader<'_> {
    /// # Errors
    /// What of the request cannot be said in members of the sync's cube.
    pub(crate) fn choice(&self) -> Result<Choice, Refusal> {
        let bounds = self.request.bounds();
        if bounds.len() > 1 || self.read.measures.len() > 1 {
            let words = self.read.measures.iter().map(|it| it.words.as_str());
            let bounds: Vec<String> = bounds.iter().map(|it| it.number.to_string()).collect();
            let words: Vec<&str> = words.chain(bounds.iter().map(String::as_str)).collect();
            return Err(self.refuse("two_figures", &words));
        }
        let bound = bounds.first();
        let left = self.request.unaccounted(self.read, bound);
        if !left.is_empty() {
            let left: Vec<&str> = left.iter().map(String::as_str).collect();
            return Err(self.refuse("unknown", &left));
        }
        if self.read.windows.len() > 1 || self.read.step.is_some() {
            let windows: Vec<String> = self.read.windows.iter().map(shown).collect();
            let windows: Vec<&str> = windows.iter().map(String::as_str).collect();
            return Err(self.refuse("out_of_time", &windows));
        }
        let level = self.level()?;
        let mut conditions = self.conditions()?;
        let figure = match bound {
            None => self.no_figure()?,
            Some(bound) => Some(self.figure(*bound, &mut conditions)?),
        };
        let scoped = |it: &&Condition| self.sync.metric_filters.contains_key(&it.member);
        let narrowed = conditions.iter().filter(|it| !scoped(it)).count() > 0;
        if figure.is_none() && !narrowed && self.read.windows.is_empty() {
            return Err(self.refuse("no_condition", &[]));
        }
        conditions.retain(|it| !scoped(&it));
        for (member, value) in &self.sync.metric_filters {
            conditions.push(Condition {
                member: member.clone(),
                operator: "equals".to_owned(),
                values: vec![value.clone()],
            });
        }
        let is_of_rows = |it: &&Condition| scoped(it) || self.keys().any(|key| key == it.member);
        Ok(Choice {
            level,
            rows: conditions.iter().filter(is_of_rows).cloned().collect(),
            filters: conditions,
            window: self.read.windows.first().copied(),
            time: self.time()?,
            figure,
        })
    }

    fn cube(&self) -> &str {
        let first = self.sync.key.first().and_then(|it| it.member.as_deref());
        first.map_or("", cube_of)
    }

    /// The cube's default time dimension; a period needs one.
    fn time(&self) -> Result<Option<String>, Refusal> {
        let cube = self.catalog.cube(self.cube());
        let local = cube.and_then(|it| it.meta["time"].as_str());
        let time = local.map(|it| format!("{}.{it}", self.cube()));
        match self.read.windows.first() {
            Some(window) if time.is_none() => Err(self.refuse("out_of_time", &[&shown(window)])),
            _ => Ok(time),
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.sync.key.iter().filter_map(|it| it.member.as_deref())
    }

    /// The key members that are named; the whole key where none is.
    fn level(&self) -> Result<Vec<String>, Refusal> {
        let mut level = BTreeSet::new();
        for named in &self.read.dimensions {
            let own: Vec<&String> = self.of_cube(&named.candidates).collect();
            match own
                .iter()
                .find(|it| self.keys().any(|key| key == it.as_str()))
            {
                Some(key) => {
                    level.insert((*key).clone());
                }
                // Named together with one of its values ("the red colour"): it is no level.
                None if self.names_a_value_of(&own) => {}
                None => return Err(self.refuse("not_the_key", &[&named.words])),
            }
        }
        if level.is_empty() {
            level.extend(self.keys().map(str::to_owned));
        }
        Ok(self
            .keys()
            .filter(|it| level.contains(*it))
            .map(str::to_owned)
            .collect())
    }

    fn names_a_value_of(&self, dimensions: &[&String]) -> bool {
        let members = self.read.members.iter().flat_map(|it| &it.candidates);
        members
            .into_iter()
            .any(|(dimension, _)| dimensions.contains(&dimension))
    }

    fn of_cube<'b>(&'b self, names: &'b [String]) -> impl Iterator<Item = &'b String> {
        names.iter().filter(|it| cube_of(it) == self.cube())
    }

    /// One condition a dimension; several values of it are alternatives.
    fn conditions(&self) -> Result<Vec<Condition>, Refusal> {
        let mut by_member: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
        for named in &self.read.members {
            let (member, value) = self.value(named)?;
            let operator = if named.negated { "notEquals" } else { "equals" };
            by_member.entry((member, operator)).or_default().push(value);
        }
        if self.read.negates && !self.read.members.iter().any(|it| it.negated) {
            return Err(self.refuse("unknown", &["except", "without"]));
        }
        let conditions = by_member
            .into_iter()
            .map(|((member, operator), values)| Condition {
                member,
                operator: operator.to_owned(),
                values,
            });
        Ok(conditions.collect())
    }

    fn value(&self, named: &NamedMember) -> Result<(String, String), Refusal> {
        let own = named
            .candidates
            .iter()
            .find(|(dimension, _)| cube_of(dimension) == self.cube());
        own.cloned()
            .ok_or_else(|| self.refuse("not_here", &[&named.words]))
    }

    fn no_figure(&self) -> Result<Option<Figure>, Refusal> {
        match self.read.measures.first() {
            // "customers with returns" may name the count of them; it is the value that is meant.
            Some(_) if !self.read.members.is_empty() => Ok(None),
            Some(named) => Err(self.refuse("no_figure", &[&named.words])),
            None => Ok(None),
        }
    }

    /// The figure next to the comparison: a measure, or the units with the values that are named.
    fn figure(&self, bound: Bound, conditions: &mut Vec<Condition>) -> Result<Figure, Refusal> {
        let count = format!("{}.count", self.cube());
        // "5 % of units are …": the units are the whole, which a share has anyway.
        let is_whole = |named: &&Named| bound.percent && named.candidates.contains(&count);
        let has_members = self.read.members.iter().any(|it| !it.negated);
        let measure = self.read.measures.first();
        let measure = measure.filter(|named| !(has_members && is_whole(named)));
        let near = |words: &str| self.request.distance(words, &bound);
        let subject = self
            .read
            .members
            .iter()
            .filter(|it| !it.negated)
            .filter_map(|it| Some((near(&it.words), self.value(it).ok()?.0)))
            .filter(|(_, member)| {
                !self.sync.metric_filters.contains_key(member)
                    && !self.keys().any(|key| key == member)
            })
            .min();
        if let Some(named) = measure
            && subject
                .as_ref()
                .is_none_or(|(distance, _)| near(&named.words) <= *distance)
        {
            let member = self
                .of_cube(&named.candidates)
                .find_map(|it| self.catalog.member(it));
            let member = member.ok_or_else(|| self.refuse("not_here", &[&named.words]))?;
            return Ok(of_measure(member, count, bound));
        }
        let Some((_, member)) = subject.filter(|_| measure.is_none()) else {
            let number = bound.number.to_string();
            return Err(self.refuse("no_figure", &[measure.map_or(&number, |it| &it.words)]));
        };
        let at = conditions
            .iter()
            .position(|it| it.member == member && it.operator == "equals");
        let Some(at) = at else {
            return Err(self.refuse("no_figure", &[&bound.number.to_string()]));
        };
        Ok(Figure {
            measure: count.clone(),
            part: Some(conditions.remove(at)),
            whole: bound.percent.then_some(count),
            bound,
            number: bound.number,
        })
    }

    pub(crate) fn refuse(&self, section: &str, words: &[&str]) -> Refusal {
        let things = self.things();
        Refusal::new(
            section,
            words,
            &[
                ("words", &quoted(words.iter().copied())),
                ("action", self.action),
                ("things", &things),
            ],
        )
    }

    /// What one row is, in the data model's titles.
    fn things(&self) -> String {
        let titles = self.keys().map(|key| {
            let member = self.catalog.member(key);
            member.map_or(key.to_owned(), |it| it.short_title.to_lowercase())
        });
        titles.collect::<Vec<_>>().join(" and ")
    }
}

/// "return rate above 5 %", "more than 5 % returns", "more than 3 returns".
fn of_measure(member: &MemberInfo, count: String, bound: Bound) -> Figure {
    let is_count = member.member_type == "count";
    let is_percent = member.meta["unit"].as_str() == Some("percent");
    let is_fraction = member.format.as_deref() == Some("percent") && !is_percent;
    let number = if is_fraction && bound.percent {
        bound.number / 100.0
    } else {
        bound.number
    };
    Figure {
        measure: member.name.clone(),
        part: None,
        whole: (is_count && bound.percent && member.name != count).then_some(count),
        bound,
        number,
    }
}

fn shown(window: &Window) -> String {
    window.bounds().join(" to ")
}
