//! Statistics over the rows, in words: each sentence says what it is worked out from.

use std::collections::BTreeMap;

use ballpoint_planner::plan::Note;

use crate::answer::Row;
use crate::chart::{name, time_key};
use crate::figures::{label, number, show, unit};
use crate::narrate::Told;
use crate::stats::capability::capability;
use crate::stats::change::{self, Part};
use crate::stats::control::{self, Chart};
use crate::stats::correlation::{is_significant, pearson};
use crate::stats::nelson;
use crate::stats::outliers::fences;

use super::plus;

/// More signals and outliers than these are not read; how many there are is said.
const LISTED_MAX: usize = 6;

pub(super) fn correlation(told: &Told<'_>, x: &str, y: &str) -> Option<String> {
    let pair = |row: &Row| Some((number(row.get(x))?, number(row.get(y))?));
    let pairs: Vec<(f64, f64)> = told.rows.iter().filter_map(pair).collect();
    let (x, y) = (name(told.catalog, x), name(told.catalog, y));
    let Some(r) = pearson(&pairs) else {
        return Some(format!("There is too little to relate {x} and {y}."));
    };
    let verdict = match (is_significant(r, pairs.len()), r > 0.0) {
        (false, _) => "no relation that chance could not make",
        (true, true) => "they rise together",
        (true, false) => "one falls as the other rises",
    };
    Some(format!(
        "Correlation of {x} and {y} over {} pairs of rows: Pearson's r = {r:.2}, {verdict}. A correlation is no cause.",
        pairs.len()
    ))
}

pub(super) fn control_chart(
    told: &Told<'_>,
    measure: &str,
    counts: Option<&str>,
) -> Option<String> {
    let valued = |row: &&Row| {
        let filled = counts.is_none_or(|it| number(row.get(it)).is_some_and(|n| n > 0.0));
        number(row.get(measure)).is_some() && filled
    };
    let rows: Vec<&Row> = whole_steps(told).iter().filter(valued).collect();
    let values: Vec<f64> = rows
        .iter()
        .filter_map(|row| number(row.get(measure)))
        .collect();
    let title = name(told.catalog, measure);
    let shares = counts.and_then(|it| share_chart(told, measure, it, &rows, &values));
    let kind = if shares.is_some() {
        "p chart"
    } else {
        "X-mR chart"
    };
    let Some(chart) = shares.or_else(|| control::individuals(&values)) else {
        return Some(format!(
            "There is too little of {title} for a control chart."
        ));
    };
    let shown = |value: f64| show(told.catalog, measure, value);
    // A share lies between none and all.
    let most = shares_scale(told, measure).filter(|_| kind == "p chart");
    let limits = |at: usize| {
        let (lower, upper) = chart.limits(at)?;
        let (lower, upper) = most.map_or((lower, upper), |it| (lower.max(0.0), upper.min(it)));
        Some(format!("{} to {}", shown(lower), shown(upper)))
    };
    let same = chart
        .sigmas
        .windows(2)
        .all(|it| (it[0] - it[1]).abs() < 1e-12);
    let of = if same {
        "limits"
    } else {
        "limits of the last point"
    };
    let mut text = format!(
        "Control chart ({kind}) of {title} over {} whole points: centre {}, {of} {}.",
        values.len(),
        shown(chart.centre),
        limits(values.len() - 1)?
    );
    let signals = nelson::signals(&chart.standardised(&values));
    if signals.is_empty() {
        text.push_str(" No rule of Nelson fires: it is in statistical control.");
        return Some(text);
    }
    let mut rules: BTreeMap<nelson::Rule, Vec<String>> = BTreeMap::new();
    for signal in &signals {
        let at = told.row_label(rows[signal.at]);
        rules.entry(signal.rule).or_default().push(at);
    }
    let fired = rules.iter().map(|(rule, at)| {
        let last = at.last().map(String::as_str).unwrap_or_default();
        let times = if at.len() == 1 {
            format!("on {last}")
        } else {
            format!("{} times, last on {last}", at.len())
        };
        format!("rule {} ({}) {times}", rule.0, rule.says())
    });
    let fired: Vec<String> = fired.collect();
    text.push_str(&format!(
        " Not in statistical control by Nelson's rules: {}.",
        fired.join("; ")
    ));
    Some(text)
}

/// The rows of a series without those that are only partly covered: they would look out of control.
fn whole_steps<'a>(told: &Told<'a>) -> &'a [Row] {
    let rows = told.rows;
    let partial = told.plan.notes.iter().find_map(|it| match it {
        Note::PartialSteps { first, last, .. } => Some((*first, *last)),
        _ => None,
    });
    let (first, last) = partial.unwrap_or_default();
    let from = usize::from(first).min(rows.len());
    let to = rows.len().saturating_sub(usize::from(last)).max(from);
    &rows[from..to]
}

/// All of a share, in the measure's own scale.
fn shares_scale(told: &Told<'_>, measure: &str) -> Option<f64> {
    match unit(told.catalog, measure)?.as_str() {
        "percent" | "%" => Some(100.0),
        "fraction" => Some(1.0),
        _ => None,
    }
}

/// The chart of shares, back in the measure's own scale.
fn share_chart(
    told: &Told<'_>,
    measure: &str,
    counts: &str,
    rows: &[&Row],
    values: &[f64],
) -> Option<Chart> {
    let scale = shares_scale(told, measure)?;
    let parts: Vec<f64> = values.iter().map(|it| it / scale).collect();
    let sizes: Vec<f64> = rows
        .iter()
        .filter_map(|row| number(row.get(counts)))
        .collect();
    let chart = control::shares(&parts, &sizes)?;
    Some(Chart {
        centre: chart.centre * scale,
        sigmas: chart.sigmas.iter().map(|it| it * scale).collect(),
    })
}

pub(super) fn capable(
    told: &Told<'_>,
    measure: &str,
    lower: Option<f64>,
    upper: Option<f64>,
) -> Option<String> {
    let title = name(told.catalog, measure);
    let values: Vec<f64> = told
        .rows
        .iter()
        .filter_map(|row| number(row.get(measure)))
        .collect();
    let shown = |value: f64| show(told.catalog, measure, value);
    let limit = |it: Option<f64>| it.map_or_else(|| "none".to_owned(), shown);
    let limits = format!("lower limit {}, upper limit {}", limit(lower), limit(upper));
    let Some(found) = capability(&values, lower, upper) else {
        return Some(format!(
            "There is too little of {title} for a capability ({limits})."
        ));
    };
    let index = |name: &str, value: Option<f64>| value.map(|it| format!("{name} = {it:.2}"));
    let indices = [
        index("Cp", found.cp),
        index("Cpk", Some(found.cpk)),
        index("Pp", found.pp),
        index("Ppk", Some(found.ppk)),
    ];
    let indices: Vec<String> = indices.into_iter().flatten().collect();
    let verdict = match found.cpk {
        it if it >= 1.33 => "capable",
        it if it >= 1.0 => "barely capable",
        _ => "not capable",
    };
    let whole = if values.len() >= super::ROWS_MAX {
        " (the first of them)"
    } else {
        ""
    };
    Some(format!(
        "Capability of {title} over {} values{whole}, {limits}: {}; mean {}, {} outside of the limits: {verdict}.",
        values.len(),
        indices.join(", "),
        shown(found.mean),
        found.outside
    ))
}

pub(super) fn outliers(told: &Told<'_>, measure: &str) -> Option<String> {
    let title = name(told.catalog, measure);
    let valued = |row: &'_ Row| number(row.get(measure));
    let values: Vec<f64> = told.rows.iter().filter_map(valued).collect();
    let Some((low, high)) = fences(&values) else {
        return Some(format!(
            "There are too few rows to call one of {title} an outlier."
        ));
    };
    let beyond: Vec<String> = told
        .rows
        .iter()
        .filter(|row| valued(row).is_some_and(|it| it < low || it > high))
        .map(|row| format!("{} {}", told.row_label(row), told.cell(row, measure)))
        .collect();
    let fences = format!(
        "Tukey's fences at {} and {}",
        show(told.catalog, measure, low),
        show(told.catalog, measure, high)
    );
    if beyond.is_empty() {
        return Some(format!("No outliers of {title} by {fences}."));
    }
    let more = match beyond.len() {
        it if it > LISTED_MAX => format!(" and {} more", it - LISTED_MAX),
        _ => String::new(),
    };
    let listed = &beyond[..beyond.len().min(LISTED_MAX)];
    Some(format!(
        "Outliers of {title} by {fences}: {}{more}.",
        listed.join("; ")
    ))
}

pub(super) fn drivers(told: &Told<'_>, measure: &str, weight: Option<&str>) -> Option<String> {
    let title = name(told.catalog, measure);
    let dimension = told.plan.frame.dimensions.first()?;
    let (old, new) = periods(told)?;
    let part = |row: &Row| Part {
        value: number(row.get(measure)).unwrap_or_default(),
        weight: weight.map_or(1.0, |it| number(row.get(it)).unwrap_or_default()),
    };
    let mut groups: BTreeMap<String, (Part, Part)> = BTreeMap::new();
    for row in told.rows {
        let group = groups.entry(label(row.get(dimension))).or_default();
        match label(row.get("compareDateRange")) {
            it if it == old => group.0 = part(row),
            it if it == new => group.1 = part(row),
            _ => {}
        }
    }
    let (before, after): (Vec<Part>, Vec<Part>) = groups.values().copied().unzip();
    let parts = match weight {
        None => change::of_sum(&before, &after),
        Some(_) => change::of_mean(&before, &after)?,
    };
    let overall = |period: &str| {
        let own = |row: &&Row| label(row.get("compareDateRange")) == period;
        number(told.companion.iter().find(own)?.get(measure))
    };
    let (first, last) = (overall(&old)?, overall(&new)?);
    let total = last - first;
    let shown = |value: f64| format!("{}{}", plus(value), show(told.catalog, measure, value));
    let figure = |value: f64| show(told.catalog, measure, value);
    let head = format!(
        "{title} went from {} to {}, a change of {}.",
        figure(first),
        figure(last),
        shown(total)
    );
    let sum: f64 = parts.iter().sum();
    if (sum - total).abs() > 1e-6_f64.max(total.abs() * 0.01) {
        return Some(format!(
            "{head} The groups do not add up to it, so no share of it is given to them."
        ));
    }
    let mut ranked: Vec<(&String, f64)> = groups.keys().zip(parts).collect();
    ranked.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let listed: Vec<String> = ranked
        .iter()
        .take(LISTED_MAX)
        .map(|(group, part)| format!("{group} {}", shown(*part)))
        .collect();
    Some(format!(
        "{head} Contribution of each {}, own change and weight together: {}. This says where, not why.",
        name(told.catalog, dimension).to_lowercase(),
        listed.join("; ")
    ))
}

/// The two periods of a comparison as the rows name them, the earlier one first.
fn periods(told: &Told<'_>) -> Option<(String, String)> {
    let frame = &told.plan.frame;
    let text = |window: ballpoint_planner::frame::Window| window.bounds().join(" - ");
    Some((text(frame.against?), text(frame.window?)))
}

pub(super) fn place(told: &Told<'_>, measure: &str, place: usize) -> Option<String> {
    let valued = |row: &&Row| number(row.get(measure)).is_some();
    let row = told.rows.iter().filter(valued).nth(place.checked_sub(1)?)?;
    Some(format!(
        "In place {place}: {} with {}.",
        told.row_label(row),
        told.cell(row, measure)
    ))
}

pub(super) fn group_count(told: &Told<'_>, key: &str) -> Option<String> {
    let is_group = |row: &&Row| row.get(key).is_some_and(|it| !it.is_null());
    let count = told.rows.iter().filter(is_group).count();
    let what = match time_key(&told.plan.frame) {
        Some(time) if time == key => told
            .plan
            .frame
            .granularity
            .map_or("", |it| it.name())
            .to_owned(),
        _ => name(told.catalog, key).to_lowercase(),
    };
    let at_least = if told.rows.len() >= super::ROWS_MAX {
        "at least "
    } else {
        ""
    };
    Some(format!(
        "Number of different values of {what}: {at_least}{count}."
    ))
}
