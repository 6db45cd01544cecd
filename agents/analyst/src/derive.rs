//! What a question asks to be worked out from the rows: shares, differences, directions. Each
//! sentence says what its figures are.

mod analysis;

use ballpoint_planner::plan::Derive;

use crate::answer::Row;
use crate::chart::{name, time_key};
use crate::figures::{number, show};
use crate::narrate::Told;
use crate::wording::{NOTES, say};

/// As many rows as a query gives where it names no limit: there may be more.
const ROWS_MAX: usize = 10_000;

/// A sentence and the figures worked out in it.
pub(crate) struct Sentence {
    pub(crate) text: String,
    pub(crate) figures: String,
}

impl Sentence {
    fn new(text: String) -> Self {
        Self {
            figures: text.clone(),
            text,
        }
    }
}

/// The derived sentences of a result.
pub(crate) fn sentences(told: &Told<'_>) -> Vec<Sentence> {
    let Some(derive) = &told.plan.derive else {
        return Vec::new();
    };
    let text = match derive {
        Derive::Ratio { part, whole } => ratio(told, part, whole),
        Derive::ShareOfSum { measure, of } => shares(told, measure, of),
        Derive::VersusOverall {
            measure,
            threshold,
            above,
        } => versus_overall(told, measure, *threshold, *above),
        Derive::Delta { measure } => delta(told, measure),
        Derive::Direction { measure } => direction(told, measure),
        Derive::Place { measure, place } => analysis::place(told, measure, *place),
        Derive::GroupCount { key } => analysis::group_count(told, key),
        Derive::Correlation { x, y } => analysis::correlation(told, x, y),
        Derive::ControlChart { measure, counts } => {
            analysis::control_chart(told, measure, counts.as_deref())
        }
        Derive::Capability {
            measure,
            lower,
            upper,
        } => analysis::capable(told, measure, *lower, *upper),
        Derive::Outliers { measure } => analysis::outliers(told, measure),
        Derive::Drivers { measure, weight } => analysis::drivers(told, measure, weight.as_deref()),
        Derive::Standing {
            measure,
            dimension,
            value,
            low,
        } => standing(told, measure, dimension, value, *low),
    };
    text.map(Sentence::new).into_iter().collect()
}

fn ratio(told: &Told<'_>, part: &str, whole: &str) -> Option<String> {
    let share = |row: &Row| {
        let (part, whole) = (number(row.get(part))?, number(row.get(whole))?);
        (whole != 0.0).then(|| 100.0 * part / whole)
    };
    let parts: Vec<String> = told
        .rows
        .iter()
        .filter_map(|row| {
            let share = share(row)?;
            Some(
                format!("{} {share:.2} %", told.row_label(row))
                    .trim()
                    .to_owned(),
            )
        })
        .collect();
    let (part, whole) = (name(told.catalog, part), name(told.catalog, whole));
    (!parts.is_empty()).then(|| format!("{part} as a share of {whole}: {}.", parts.join("; ")))
}

fn shares(told: &Told<'_>, measure: &str, of: &[String]) -> Option<String> {
    let sum: f64 = told
        .rows
        .iter()
        .filter_map(|row| number(row.get(measure)))
        .sum();
    if sum == 0.0 {
        return None;
    }
    let dimension = told.plan.frame.dimensions.first()?;
    let parts: Vec<String> = told
        .rows
        .iter()
        .filter(|row| of.is_empty() || of.contains(&crate::figures::label(row.get(dimension))))
        .take(12)
        .filter_map(|row| {
            let share = 100.0 * number(row.get(measure))? / sum;
            Some(format!("{} {share:.2} %", told.row_label(row)))
        })
        .collect();
    let total = show(told.catalog, measure, sum);
    let title = name(told.catalog, measure);
    Some(format!(
        "Share of the sum of {title} ({total}): {}.",
        parts.join("; ")
    ))
}

fn versus_overall(
    told: &Told<'_>,
    measure: &str,
    threshold: Option<f64>,
    above: bool,
) -> Option<String> {
    let overall = number(told.companion.first()?.get(measure))?;
    let sign = if above { 1.0 } else { -1.0 };
    let valued: Vec<(&Row, f64)> = told
        .rows
        .iter()
        .filter_map(|row| Some((row, number(row.get(measure))? - overall)))
        .collect();
    let beyond: Vec<String> = valued
        .iter()
        .filter(|(_, gap)| gap * sign > threshold.unwrap_or_default())
        .map(|(row, _)| told.row_label(row))
        .collect();
    let gaps: Vec<String> = valued
        .iter()
        .take(15)
        .map(|(row, gap)| {
            format!(
                "{} {}{}",
                told.row_label(row),
                plus(*gap),
                show(told.catalog, measure, *gap)
            )
        })
        .collect();
    let side = if above { "above" } else { "below" };
    let by = threshold.map_or(String::new(), |it| format!(" by more than {it}"));
    let named = if beyond.is_empty() {
        "none".to_owned()
    } else {
        beyond.join(", ")
    };
    Some(format!(
        "The overall average is {}. Difference to it: {}. {side}{by}: {named}.",
        show(told.catalog, measure, overall),
        gaps.join("; ")
    ))
}

fn plus(value: f64) -> &'static str {
    if value > 0.0 { "+" } else { "" }
}

/// The change of each group from the earlier period to the later one.
fn delta(told: &Told<'_>, measure: &str) -> Option<String> {
    let frame = &told.plan.frame;
    let key = time_key(frame).unwrap_or_else(|| "compareDateRange".into());
    let group = |row: &Row| -> Vec<String> {
        frame
            .dimensions
            .iter()
            .map(|it| crate::figures::label(row.get(it)))
            .collect()
    };
    let mut groups: Vec<Vec<String>> = Vec::new();
    for row in told.rows {
        if !groups.contains(&group(row)) {
            groups.push(group(row));
        }
    }
    let changes: Vec<String> = groups
        .iter()
        .filter_map(|wanted| {
            let mut own: Vec<&Row> = told
                .rows
                .iter()
                .filter(|row| group(row) == *wanted)
                .collect();
            own.sort_by_key(|row| crate::figures::label(row.get(&key)));
            let [.., before, after] = own.as_slice() else {
                return None;
            };
            let change = number(after.get(measure))? - number(before.get(measure))?;
            let figure = show(told.catalog, measure, change);
            let label = if wanted.is_empty() {
                String::new()
            } else {
                format!("{} ", wanted.join(" / "))
            };
            Some(format!(
                "{label}{}{figure} ({})",
                plus(change),
                movement(change)
            ))
        })
        .collect();
    let title = name(told.catalog, measure);
    (!changes.is_empty()).then(|| {
        format!(
            "Change (delta) in {title}, later period minus earlier: {}.",
            changes.join("; ")
        )
    })
}

fn movement(change: f64) -> &'static str {
    match change {
        it if it > 0.0 => "up",
        it if it < 0.0 => "down",
        _ => "unchanged",
    }
}

/// Up or down by the least-squares slope; good or bad by what the registry calls better.
fn direction(told: &Told<'_>, measure: &str) -> Option<String> {
    let frame = &told.plan.frame;
    if !frame.dimensions.is_empty() {
        return None;
    }
    let values: Vec<f64> = told
        .rows
        .iter()
        .filter_map(|row| number(row.get(measure)))
        .collect();
    let (first, last) = (values.first()?, values.last()?);
    if values.len() < 3 {
        return None;
    }
    let count = f64::from(u32::try_from(values.len()).ok()?);
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let slope: f64 = values
        .iter()
        .zip(0u32..)
        .map(|(it, n)| (f64::from(n) - middle) * (it - mean))
        .sum();
    let title = name(told.catalog, measure);
    let better = told
        .catalog
        .member(measure)
        .and_then(|it| it.meta.get("better")?.as_str());
    let judged = match (better, slope > 0.0) {
        _ if slope == 0.0 => "",
        (Some("higher"), true) | (Some("lower"), false) => ": getting better",
        (Some(_), _) => ": getting worse",
        (None, _) => "",
    };
    let change = last - first;
    Some(format!(
        "Direction over all points: {title} is {}{judged}; last minus first is {}{}.",
        movement(slope),
        plus(change),
        show(told.catalog, measure, change)
    ))
}

/// Whether the claim of a "why" question holds at all; what the data cannot say.
fn standing(
    told: &Told<'_>,
    measure: &str,
    dimension: &str,
    value: &str,
    low: bool,
) -> Option<String> {
    let title = name(told.catalog, measure);
    let rows: Vec<(String, f64)> = told
        .companion
        .iter()
        .filter_map(|row| {
            Some((
                crate::figures::label(row.get(dimension)),
                number(row.get(measure))?,
            ))
        })
        .collect();
    let own = rows.iter().find(|(label, _)| label == value)?.1;
    let beyond = rows
        .iter()
        .filter(|(label, it)| label != value && if low { *it < own } else { *it > own });
    let extreme = if low { "lowest" } else { "highest" };
    let verdict = if beyond.count() == 0 {
        format!("{value} has the {extreme} {title}")
    } else {
        format!("{value} does not have the {extreme} {title}")
    };
    let list: Vec<String> = rows
        .iter()
        .map(|(label, it)| format!("{label} {}", show(told.catalog, measure, *it)))
        .collect();
    Some(format!(
        "{verdict}: {}. {}",
        list.join("; "),
        say(NOTES, "no_cause", &[])
    ))
}
