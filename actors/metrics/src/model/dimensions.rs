//! Compiling a dimension: its expression, its cases, the granularities it adds.

use super::reference::{GRANULARITIES, Names};
use super::source::{Node, Problems, hint};
use super::title::titleize;
use super::{
    CalendarShift, CaseLabel, Dimension, DimensionKind, DimensionSql, Granularity, MemberId,
    Template,
};

pub(super) const DIMENSION_KEYS: [&str; 17] = [
    "type",
    "case",
    "latitude",
    "longitude",
    "primary_key",
    "sub_query",
    "granularities",
    "propagate_filters_to_sub_query",
    "links",
    "suggest_filter_values",
    "time_shift",
    "currency",
    "order",
    "values",
    "multi_stage",
    "add_group_by",
    "enable_suggestions",
];

pub(super) fn compile_dimension(
    names: &Names<'_>,
    id: MemberId,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> Dimension {
    let kind = match node.text("type", problems).as_deref() {
        Some("string") => DimensionKind::String,
        Some("number") => DimensionKind::Number,
        Some("boolean") => DimensionKind::Boolean,
        Some("time") => DimensionKind::Time,
        Some("geo") => DimensionKind::Geo,
        // One of a list of values: a text.
        Some("switch") => DimensionKind::String,
        Some(other) => {
            let hint = hint(
                other,
                ["string", "number", "boolean", "time", "geo", "switch"],
            );
            let place = node.place.at("type");
            problems.add(&place, format!("unknown dimension type \"{other}\"{hint}"));
            DimensionKind::String
        }
        None => {
            problems.add(&node.place, "a dimension needs a \"type\"");
            DimensionKind::String
        }
    };
    let granularities = node
        .nodes("granularities", problems)
        .iter()
        .filter_map(|item| read_granularity(names, id.cube, item, problems))
        .collect();
    Dimension {
        kind,
        sql: dimension_sql(names, id.cube, node, sql, problems),
        primary_key: node.flag("primary_key", problems).unwrap_or(false),
        sub_query: node.flag("sub_query", problems).unwrap_or(false),
        granularities,
        time_shifts: read_calendar_shifts(names, id.cube, node, problems),
        suggest_filter_values: node.flag("suggest_filter_values", problems).unwrap_or(true),
    }
}

fn dimension_sql(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> DimensionSql {
    let expression = |sql: &str, key: &str, problems: &mut Problems| -> Template {
        names.template(cube, sql, &node.place.at(key), problems)
    };
    if let Some(case) = node.node("case", problems) {
        case.allow(&["when", "else", "switch"], "\"case\"", problems);
        let label = |branch: &Node<'_>, problems: &mut Problems| match branch.get("label") {
            Some(serde_norway::Value::Mapping(_)) => {
                let sql = branch.node("label", problems)?.text("sql", problems)?;
                Some(CaseLabel::Sql(expression(&sql, "case", problems)))
            }
            Some(_) => branch.text("label", problems).map(CaseLabel::Text),
            None => None,
        };
        let mut when = Vec::new();
        for branch in case.nodes("when", problems) {
            branch.allow(&["sql", "label"], "a case", problems);
            match (branch.text("sql", problems), label(&branch, problems)) {
                (Some(sql), Some(text)) => {
                    when.push((
                        names.query(cube, &sql, &node.place.at("case"), problems),
                        text,
                    ));
                }
                _ => problems.add(&case.place, "each \"when\" needs \"sql\" and \"label\""),
            }
        }
        let otherwise = case
            .node("else", problems)
            .and_then(|node| label(&node, problems));
        return DimensionSql::Case { when, otherwise };
    }
    let part = |key: &str, problems: &mut Problems| {
        node.node(key, problems)
            .and_then(|node| node.text("sql", problems))
    };
    if let (Some(latitude), Some(longitude)) =
        (part("latitude", problems), part("longitude", problems))
    {
        return DimensionSql::Geo {
            latitude: expression(&latitude, "latitude", problems),
            longitude: expression(&longitude, "longitude", problems),
        };
    }
    if sql.is_none() {
        problems.add(
            &node.place,
            "a dimension needs \"sql\", \"case\" or a latitude and longitude; a switch its column too",
        );
    }
    DimensionSql::Expression(expression(sql.unwrap_or("NULL"), "sql", problems))
}

/// What the time dimension of a calendar says of shifts in time.
fn read_calendar_shifts(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<CalendarShift> {
    let mut shifts = Vec::new();
    for shift in node.nodes("time_shift", problems) {
        shift.allow(
            &["name", "interval", "type", "sql"],
            "\"time_shift\"",
            problems,
        );
        let Some(sql) = shift.text("sql", problems) else {
            problems.add(&shift.place, "a calendar's \"time_shift\" needs \"sql\"");
            continue;
        };
        shifts.push(CalendarShift {
            name: shift.text("name", problems),
            interval: shift.text("interval", problems),
            prior: shift.text("type", problems).as_deref() != Some("next"),
            sql: names.template(cube, &sql, &shift.place.at("sql"), problems),
        });
    }
    shifts
}

fn read_granularity(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Granularity> {
    node.allow(
        &["name", "title", "interval", "offset", "origin", "sql"],
        "a granularity",
        problems,
    );
    let name = node.name("a granularity", problems)?;
    let interval = node.text("interval", problems).unwrap_or_default();
    let offset = node.text("offset", problems);
    let sql = node.text("sql", problems);
    let sql = sql.map(|sql| names.template(cube, &sql, &node.place.at("sql"), problems));
    let needed = std::iter::once(&interval).filter(|text| sql.is_none() || !text.is_empty());
    for text in needed.chain(&offset) {
        if !is_interval(text) {
            problems.add(
                &node.place,
                format!("\"{text}\" is not an interval such as \"8 hours\""),
            );
        }
    }
    Some(Granularity {
        title: node
            .text("title", problems)
            .unwrap_or_else(|| titleize(&name)),
        name,
        interval,
        offset,
        origin: node.text("origin", problems),
        sql,
    })
}

/// Whether the text is an interval such as `8 hours` or `1 year 2 months`: it goes into SQL text.
pub(super) fn is_interval(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    !words.is_empty()
        && words.len().is_multiple_of(2)
        && words.chunks(2).all(|pair| {
            pair[0].parse::<i32>().is_ok() && GRANULARITIES.contains(&pair[1].trim_end_matches('s'))
        })
}
