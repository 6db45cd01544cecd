//! The text of an answer. Every figure is a cell, or a share, difference or sum of cells that is
//! said to be one; the text is checked for it before it leaves.

use ballpoint_metrics::catalog::Catalog;
use ballpoint_planner::frame::{Condition, Frame, Unit, Window};
use ballpoint_planner::plan::{Note, QueryPlan};
use serde_json::Value;

use crate::answer::{CellReference, Row};
use crate::chart::{name, time_key};
use crate::derive;
use crate::figures::{Stated, label, number, show};
use crate::wording::{NOTES, say};

/// More rows than this are summed up by their ends; the rows themselves stand beside the text.
const LISTED_MAX: usize = 8;

/// A result and what it answers.
pub(crate) struct Told<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: &'a QueryPlan,
    pub(crate) rows: &'a [Row],
    pub(crate) companion: &'a [Row],
}

impl Told<'_> {
    /// The text, and the first number in it that nothing accounts for (there should be none).
    pub(crate) fn text(&self, question: &str) -> (String, Option<String>) {
        let mut stated = Stated::default();
        stated
            .text(question)
            .text(&self.title())
            .rows(self.catalog, self.rows);
        stated.rows(self.catalog, self.companion);
        stated.text(&serde_json::to_string(&self.plan.query).unwrap_or_default());
        let mut sentences = vec![self.figures()];
        for sentence in derive::sentences(self) {
            stated.text(&sentence.figures);
            sentences.push(sentence.text);
        }
        for note in &self.plan.notes {
            let text = self.note(note);
            stated.text(&text);
            sentences.push(text);
        }
        sentences.retain(|it| !it.is_empty());
        let text = sentences.join(" ");
        let stray = stated.stray(&text);
        (text, stray)
    }

    /// What is shown: measures, breakdown, scope, window.
    pub(crate) fn title(&self) -> String {
        let frame = &self.plan.frame;
        let mut title = self.measures().join(", ");
        let mut by: Vec<String> = frame
            .dimensions
            .iter()
            .map(|it| name(self.catalog, it).to_lowercase())
            .collect();
        by.extend(frame.granularity.map(|unit| unit.name().to_owned()));
        if !by.is_empty() {
            title.push_str(&format!(" by {}", by.join(" and ")));
        }
        for condition in &frame.filters {
            title.push_str(&self.condition(condition));
        }
        match (&frame.window, &frame.against) {
            (Some(new), Some(old)) => {
                title.push_str(&format!(", {} against {}", window(new), window(old)));
            }
            (Some(only), None) => title.push_str(&format!(", {}", window(only))),
            (None, _) => {}
        }
        title
    }

    fn measures(&self) -> Vec<String> {
        self.plan
            .frame
            .measures
            .iter()
            .map(|it| name(self.catalog, it))
            .collect()
    }

    fn condition(&self, condition: &Condition) -> String {
        let title = name(self.catalog, &condition.member);
        let values = condition.values.join(" and ");
        let kind = self
            .catalog
            .member(&condition.member)
            .map(|it| it.member_type.as_str());
        let values = if kind == Some("boolean") {
            format!("{title} {values}")
        } else {
            values
        };
        match condition.operator.as_str() {
            "equals" => format!(" of {values}"),
            "notEquals" => format!(" without {values}"),
            "notSet" => format!(" with no {}", title.to_lowercase()),
            "gt" => format!(" with {title} over {values}"),
            "gte" => format!(" with {title} of at least {values}"),
            "lt" => format!(" with {title} under {values}"),
            "lte" => format!(" with {title} of at most {values}"),
            other => format!(" with {title} {other} {values}"),
        }
    }

    /// The cells that the figures of the text about the rows are.
    pub(crate) fn references(&self) -> Vec<CellReference> {
        let text = self.figures();
        let mut cells = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            for measure in &self.plan.frame.measures {
                let shown = self.cell(row, measure);
                // Of a long result the text holds only the ends.
                let said = text.contains(&format!("{} {shown}", self.row_label(row)))
                    || text.contains(&format!("{} {shown}", name(self.catalog, measure)))
                    || text.ends_with(&format!(": {shown}."));
                if said && number(row.get(measure)).is_some() {
                    cells.push(CellReference {
                        figure: shown,
                        row: at,
                        member: measure.clone(),
                    });
                }
            }
        }
        cells
    }

    fn figures(&self) -> String {
        let frame = &self.plan.frame;
        let empty = self.rows.iter().all(|row| {
            frame
                .measures
                .iter()
                .all(|measure| number(row.get(measure)).is_none())
        });
        if self.rows.is_empty() || empty {
            return format!("{}: there are no rows to show.", self.title());
        }
        if let ([row], true) = (self.rows, self.keys().is_empty()) {
            return self.single(row);
        }
        if frame.granularity.is_some() && frame.order.is_empty() {
            return self.series();
        }
        if self.rows.len() <= LISTED_MAX {
            let rows: Vec<String> = self
                .rows
                .iter()
                .map(|row| format!("{} {}", self.row_label(row), self.cells(row)))
                .collect();
            return format!("{}: {}.", self.title(), rows.join("; "));
        }
        self.ends()
    }

    fn single(&self, row: &Row) -> String {
        let frame = &self.plan.frame;
        match frame.measures.as_slice() {
            [only] => format!("{}: {}.", self.title(), self.cell(row, only)),
            several => {
                let parts: Vec<String> = several
                    .iter()
                    .map(|it| format!("{} {}", name(self.catalog, it), self.cell(row, it)))
                    .collect();
                format!("{}: {}.", self.title(), parts.join(", "))
            }
        }
    }

    fn series(&self) -> String {
        match (self.rows.first(), self.rows.last()) {
            (Some(first), Some(last)) if self.rows.len() > LISTED_MAX => format!(
                "{}: {} rows, from {} {} to {} {}.",
                self.title(),
                self.rows.len(),
                self.row_label(first),
                self.cells(first),
                self.row_label(last),
                self.cells(last)
            ),
            _ => {
                let rows: Vec<String> = self
                    .rows
                    .iter()
                    .map(|row| format!("{} {}", self.row_label(row), self.cells(row)))
                    .collect();
                format!("{}: {}.", self.title(), rows.join("; "))
            }
        }
    }

    /// The highest and the lowest row of the ranked (or first) measure.
    fn ends(&self) -> String {
        let frame = &self.plan.frame;
        let measure = frame
            .order
            .first()
            .map_or(&frame.measures[0], |(member, _)| member);
        let valued = || {
            self.rows
                .iter()
                .filter(|row| number(row.get(measure)).is_some())
        };
        let value = |row: &&Row| number(row.get(measure)).unwrap_or_default();
        let high = valued().max_by(|a, b| value(a).total_cmp(&value(b)));
        let low = valued().min_by(|a, b| value(a).total_cmp(&value(b)));
        let (Some(high), Some(low)) = (high, low) else {
            return String::new();
        };
        if let (Some(first), Some(last), false) =
            (self.rows.first(), self.rows.last(), frame.order.is_empty())
        {
            return format!(
                "{}: {} rows; {} comes first with {}, {} last with {}.",
                self.title(),
                self.rows.len(),
                self.row_label(first),
                self.cell(first, measure),
                self.row_label(last),
                self.cell(last, measure)
            );
        }
        format!(
            "{}: {} rows; highest {} {}, lowest {} {}.",
            self.title(),
            self.rows.len(),
            self.row_label(high),
            self.cell(high, measure),
            self.row_label(low),
            self.cell(low, measure)
        )
    }

    /// Keys of the rows that tell them apart.
    fn keys(&self) -> Vec<String> {
        let frame = &self.plan.frame;
        let compared = frame.against.map(|_| "compareDateRange".to_owned());
        time_key(frame)
            .into_iter()
            .chain(frame.dimensions.iter().cloned())
            .chain(compared)
            .collect()
    }

    pub(crate) fn row_label(&self, row: &Row) -> String {
        let time = time_key(&self.plan.frame);
        let parts: Vec<String> = self
            .keys()
            .iter()
            .map(|key| {
                let text = label(row.get(key));
                if time.as_ref() == Some(key) {
                    period(&text, self.plan.frame.granularity)
                } else {
                    text
                }
            })
            .collect();
        parts.join(" / ")
    }

    pub(crate) fn cell(&self, row: &Row, measure: &str) -> String {
        number(row.get(measure)).map_or_else(|| "none".into(), |it| show(self.catalog, measure, it))
    }

    fn cells(&self, row: &Row) -> String {
        let cells: Vec<String> = self
            .plan
            .frame
            .measures
            .iter()
            .map(|it| self.cell(row, it))
            .collect();
        cells.join(", ")
    }

    fn note(&self, note: &Note) -> String {
        match note {
            Note::CoverageGap { from, to } => {
                let (from, to) = (moment(&from.to_string()), moment(&to.to_string()));
                say(NOTES, "coverage_gap", &[("from", &from), ("to", &to)])
            }
            Note::PeriodGoesOn => say(NOTES, "period_goes_on", &[]),
            Note::PartialSteps { unit, first, last } => {
                let which = match (first, last) {
                    (true, true) => "first and the last",
                    (true, false) => "first",
                    _ => "last",
                };
                let variables = [("which", which), ("unit", unit.name())];
                say(NOTES, "partial_steps", &variables)
            }
            Note::MetricAssumed { word, member } => {
                let measure = name(self.catalog, member);
                let described = self
                    .catalog
                    .member(member)
                    .and_then(|it| it.description.clone());
                let text = say(
                    NOTES,
                    "metric_assumed",
                    &[("word", word), ("measure", &measure)],
                );
                described.map_or(text.clone(), |it| format!("{text} ({it})"))
            }
            Note::Spelling { word, read_as } => {
                say(NOTES, "spelling", &[("word", word), ("read_as", read_as)])
            }
            Note::InstructionIgnored { .. } => say(NOTES, "instruction_ignored", &[]),
            Note::OtherUnit { asked } => {
                let unit = self.plan.frame.measures.first();
                let unit = unit.and_then(|it| crate::figures::unit(self.catalog, it));
                let unit = unit.unwrap_or_else(|| "none".into());
                say(NOTES, "other_unit", &[("unit", &unit), ("asked", asked)])
            }
        }
    }
}

/// A window in words.
pub(crate) fn window(window: &Window) -> String {
    let [from, to] = window.bounds();
    if window.sub_day {
        return format!("{} to {}", moment(&from), moment(&to));
    }
    if from == to {
        format!("on {from}")
    } else {
        format!("{from} to {to}")
    }
}

/// A time to the minute.
pub(crate) fn moment(text: &str) -> String {
    text.replace('T', " ").chars().take(16).collect()
}

/// The start of a period, as exact as its step.
fn period(text: &str, step: Option<Unit>) -> String {
    let length = match step {
        Some(Unit::Hour) | None => return moment(text),
        Some(Unit::Day | Unit::Week) => 10,
        Some(Unit::Month | Unit::Quarter) => 7,
        Some(Unit::Year) => 4,
    };
    text.chars().take(length).collect()
}

/// A result's first row by its dimensions: what "its" will mean.
pub(crate) fn head(frame: &Frame, rows: &[Row]) -> std::collections::BTreeMap<String, String> {
    let first = rows.first();
    let named = frame
        .dimensions
        .iter()
        .filter_map(|it| match first?.get(it)? {
            Value::Null => None,
            value => Some((it.clone(), label(Some(value)))),
        });
    named.collect()
}
