//! The chart of a result: kind, axes, units, title. The rows stay with the answer.

use ballpoint_metrics::catalog::Catalog;
use ballpoint_planner::frame::Frame;
use ballpoint_planner::plan::ChartKind;

use crate::answer::{Axis, ChartSpec};
use crate::figures;

/// The key under which a result holds its time, by its step.
pub(crate) fn time_key(frame: &Frame) -> Option<String> {
    let time = frame.time.as_ref()?;
    frame
        .granularity
        .map(|unit| format!("{time}.{}", unit.name()))
}

/// The chart of a frame's result.
pub(crate) fn spec(catalog: &Catalog, frame: &Frame, kind: ChartKind, title: String) -> ChartSpec {
    let axis = |key: &String| Axis {
        key: key.clone(),
        title: name(catalog, key),
        unit: figures::unit(catalog, key),
    };
    let time = time_key(frame).map(|key| {
        let title = frame.granularity.map_or("", |unit| unit.name()).to_owned();
        Axis {
            key,
            title,
            unit: None,
        }
    });
    let compared = frame.against.map(|_| Axis {
        key: "compareDateRange".into(),
        title: "period".into(),
        unit: None,
    });
    let mut axes = time
        .into_iter()
        .chain(frame.dimensions.iter().map(axis))
        .chain(compared);
    ChartSpec {
        kind: kind_name(kind).to_owned(),
        title,
        x: axes.next(),
        series: axes.next(),
        y: frame.measures.iter().map(axis).collect(),
    }
}

fn kind_name(kind: ChartKind) -> &'static str {
    match kind {
        ChartKind::Kpi => "kpi",
        ChartKind::Line => "line",
        ChartKind::Bar => "bar",
        ChartKind::GroupedBar => "grouped_bar",
        ChartKind::Pareto => "pareto",
        ChartKind::Table => "table",
    }
}

/// What people call a member.
pub(crate) fn name(catalog: &Catalog, member: &str) -> String {
    catalog
        .member(member)
        .map_or_else(|| member.to_owned(), |it| it.short_title.clone())
}
