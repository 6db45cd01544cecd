//! Answers about the data and about the last answer: definitions, coverage, what there is to ask,
//! how a figure was made, and the figures as a file.

use ballpoint_metrics::Service;
use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_planner::Context;
use ballpoint_planner::frame::Frame;
use ballpoint_planner::plan::MetaKind;
use serde_json::Value;

use crate::answer::{Answer, Behaviour, Export, Row};
use crate::figures::label;
use crate::narrate::{moment, window};

/// A told answer, and what is still to be done for it.
pub(crate) struct Meta {
    pub(crate) answer: Answer,
    /// A frame whose rows belong to the answer.
    pub(crate) rerun: Option<Frame>,
    /// The conversation starts anew.
    pub(crate) forget: bool,
}

/// The answer to a question about the data or about the last answer.
pub(crate) fn tell(service: &Service, context: &Context, kind: &MetaKind) -> Meta {
    let (name, text, definition, rerun) = match kind {
        MetaKind::Definition { members } => (
            "definition",
            definitions(service, members),
            members.clone(),
            None,
        ),
        MetaKind::Coverage => ("coverage", coverage(service, context), Vec::new(), None),
        MetaKind::Catalog => ("catalog", catalog(service), Vec::new(), None),
        MetaKind::Values { dimension } => (
            "values",
            values(service, dimension),
            vec![dimension.clone()],
            None,
        ),
        MetaKind::ExplainQuery { frame } => {
            let text = explain(service, context, frame);
            (
                "explain_query",
                text,
                frame.measures.clone(),
                Some((**frame).clone()),
            )
        }
        MetaKind::Export { frame } => {
            let text = "The rows of the last answer, as CSV.".to_owned();
            (
                "export",
                text,
                frame.measures.clone(),
                Some((**frame).clone()),
            )
        }
        MetaKind::Reset => (
            "reset",
            "Forgotten. What would you like to know?".to_owned(),
            Vec::new(),
            None,
        ),
    };
    let answer = Answer {
        behaviour: Behaviour::Answer,
        answer: text,
        answer_type: Some(name.to_owned()),
        definition: definition
            .iter()
            .filter_map(|it| service.definition(it))
            .collect::<Vec<Value>>(),
        ..Answer::default()
    };
    Meta {
        answer,
        rerun,
        forget: matches!(kind, MetaKind::Reset),
    }
}

fn definitions(service: &Service, members: &[String]) -> String {
    let one = |member: &MemberInfo| {
        let description = member
            .description
            .as_deref()
            .unwrap_or("It has no description.");
        let made = member.sql.as_ref().map_or_else(
            || format!("Calculated here as {}.", member.member_type),
            |sql| format!("Calculated here as {} of: {sql}.", member.member_type),
        );
        format!(
            "{} ({}): {description} {made}",
            member.short_title, member.name
        )
    };
    let found = members
        .iter()
        .filter_map(|name| service.snapshot.catalog.member(name));
    found.map(one).collect::<Vec<_>>().join(" ")
}

fn coverage(service: &Service, context: &Context) -> String {
    let main = main_time(&service.snapshot.catalog);
    match main.and_then(|it| context.coverage.get(&it)) {
        Some(it) => format!(
            "There is data from {} to {}.",
            moment(&it.from.to_string()),
            moment(&it.to.to_string())
        ),
        None => "There is no data yet.".to_owned(),
    }
}

/// The time dimension of the cube with the most members: aggregates know less exactly when.
pub(crate) fn main_time(catalog: &Catalog) -> Option<String> {
    let timed = |cube: &&CubeInfo| cube.dimensions.iter().any(|it| it.member_type == "time");
    let widest = catalog
        .cubes
        .iter()
        .filter(timed)
        .max_by_key(|cube| cube.measures.len())?;
    let preset = widest.meta.get("time").and_then(Value::as_str);
    let times: Vec<&MemberInfo> = widest
        .dimensions
        .iter()
        .filter(|it| it.member_type == "time")
        .collect();
    let named = times
        .iter()
        .find(|it| preset.is_some_and(|name| it.name.ends_with(&format!(".{name}"))));
    named.or(times.first()).map(|it| it.name.clone())
}

fn catalog(service: &Service) -> String {
    let cubes = &service.snapshot.catalog.cubes;
    let widest = cubes.iter().max_by_key(|cube| cube.measures.len());
    let Some(cube) = widest else {
        return "There is nothing to ask about yet.".to_owned();
    };
    let titles = |list: &[MemberInfo]| -> String {
        let named = list
            .iter()
            .filter(|it| !it.primary_key)
            .map(|it| it.short_title.clone());
        named.collect::<Vec<_>>().join(", ")
    };
    format!(
        "You can ask for: {}. By: {}.",
        titles(&cube.measures),
        titles(&cube.dimensions)
    )
}

fn values(service: &Service, dimension: &str) -> String {
    let Some(member) = service.snapshot.catalog.member(dimension) else {
        return String::new();
    };
    if member.values.is_empty() {
        return format!("{} has too many values to list.", member.short_title);
    }
    format!("{}: {}.", member.short_title, member.values.join(", "))
}

fn explain(service: &Service, context: &Context, frame: &Frame) -> String {
    let query = serde_json::to_string(&frame.query()).unwrap_or_default();
    let range = match (&frame.window, frame.against) {
        (Some(new), Some(old)) => format!("{} against {}", window(new), window(&old)),
        (Some(only), None) => window(only),
        (None, _) => format!(
            "all data; {}",
            coverage(service, context).trim_end_matches('.')
        ),
    };
    format!(
        "Query: {query}. Time range: {range}. Definition: {}",
        definitions(service, &frame.measures)
    )
}

/// Rows as CSV, quoted where needed.
pub(crate) fn csv(rows: &[Row]) -> Export {
    let quote = |text: String| {
        if text.contains([',', '"', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let keys: Vec<&String> = rows
        .first()
        .map(|row| row.keys().collect())
        .unwrap_or_default();
    let mut content = keys
        .iter()
        .map(|key| quote((*key).clone()))
        .collect::<Vec<_>>()
        .join(",");
    for row in rows {
        let cells = keys.iter().map(|key| match row.get(*key) {
            None | Some(Value::Null) => String::new(),
            cell => quote(label(cell)),
        });
        content.push('\n');
        content.push_str(&cells.collect::<Vec<_>>().join(","));
    }
    content.push('\n');
    Export {
        format: "csv".into(),
        content,
    }
}
