//! Example questions: made from the tables, and kept only when the planner reads them into a query
//! over the data model that was made.

use std::collections::BTreeMap;

use ballpoint_metrics::Model;
use ballpoint_metrics::survey::catalog;
use ballpoint_planner::{Context, DialogueState, Plan, Planner};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::{Column, Layout, Table};
use super::measures::measured;
use super::names;
use super::roles::Role;

/// Examples in a README.
const EXAMPLES: usize = 5;

/// Questions that answer, about the tables with the most to say.
pub(super) fn examples(layout: &Layout, model: &Model) -> Vec<String> {
    let planner = Planner::new(catalog_with_values(layout, model));
    // Any moment does: whether a question is read does not depend on it.
    let context = Context {
        now: Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
        coverage: BTreeMap::new(),
    };
    let reads = |question: &String| {
        let plan = planner.plan(question, &DialogueState::default(), &context);
        matches!(plan, Plan::Answer(_))
    };
    let mut tables: Vec<&Table> = layout.tables.iter().collect();
    tables.sort_by_key(|table| {
        let measures = table
            .columns
            .iter()
            .filter(|it| it.role.is_measured())
            .count();
        std::cmp::Reverse((
            table.references.len().min(3) + measures.min(3),
            table.profile.rows_estimated,
        ))
    });
    let mut rounds: Vec<Vec<String>> = tables
        .iter()
        .map(|table| candidates(layout, table))
        .collect();
    rounds.iter_mut().for_each(|list| list.retain(reads));
    // One kind of question after the other, so that the examples differ.
    let mut out: Vec<String> = Vec::new();
    for turn in 0..rounds.iter().map(Vec::len).max().unwrap_or_default() {
        for list in rounds.iter().take(3) {
            if let Some(question) = list.get(turn).filter(|it| !out.contains(it)) {
                out.push(question.clone());
            }
        }
    }
    let rest = rounds.iter().skip(3).flatten().cloned();
    out.extend(rest);
    out.truncate(EXAMPLES);
    out
}

fn catalog_with_values(layout: &Layout, model: &Model) -> ballpoint_metrics::catalog::Catalog {
    let mut catalog = catalog(model);
    for (cube, table) in catalog.cubes.iter_mut().filter_map(|cube| {
        let table = layout.tables.iter().find(|table| table.cube == cube.name)?;
        Some((cube, table))
    }) {
        for dimension in &mut cube.dimensions {
            let column = table
                .columns
                .iter()
                .find(|it| dimension.sql.as_ref() == Some(&it.name));
            if let Some(column) = column.filter(|it| it.role == Role::Category) {
                dimension.values.clone_from(&column.profile.values);
            }
        }
    }
    catalog
}

/// What one would ask about a table, the most telling first.
fn candidates(layout: &Layout, table: &Table) -> Vec<String> {
    let rows = names::plural(&table.noun).join(" ");
    let figure = table.columns.iter().find(|it| it.role.is_measured());
    let figure = figure.map(|column| {
        let name = measured(table, column).0.join(" ");
        let lead = if column.role == Role::Additive {
            "total"
        } else {
            "average"
        };
        (format!("{lead} {name}"), column.role)
    });
    let stem = table.references.first().map(|it| it.stem.join(" "));
    let category = table
        .columns
        .iter()
        .find(|it| it.role == Role::Category && tells_apart(it));
    let mut out = Vec::new();
    if let (Some((figure, _)), Some(stem)) = (&figure, &stem) {
        out.push(format!(
            "top 5 {} by {figure}",
            names::plural(&names::words(stem)).join(" ")
        ));
    }
    if table.time().is_some() {
        out.push(format!("how many {rows} per month"));
        if let Some((figure, _)) = &figure {
            out.push(format!("{figure} of {rows} by month"));
        }
    }
    if let Some(column) = category {
        let name = column.words.join(" ");
        out.push(format!("how many {rows} by {name}"));
        if let Some((figure, _)) = &figure {
            out.push(format!("{figure} of {rows} by {name}"));
        }
    }
    if let Some(stem) = &stem {
        out.push(format!("how many {rows} per {stem}"));
        let borrowed = table.references.first().and_then(|it| {
            let target = &layout.tables[it.target];
            target
                .columns
                .iter()
                .find(|it| it.role == Role::Category && tells_apart(it))
        });
        if let Some(column) = borrowed {
            out.push(format!(
                "how many {rows} by {stem} {}",
                column.words.join(" ")
            ));
        }
    }
    out.push(format!("how many {rows} are there"));
    out
}

/// A handful of values, each of several rows.
fn tells_apart(column: &Column) -> bool {
    let values = column.profile.values.len();
    let rows = column.profile.filled.unwrap_or_default();
    (2..=12).contains(&values) && rows >= 2 * i64::try_from(values).unwrap_or(i64::MAX)
}
