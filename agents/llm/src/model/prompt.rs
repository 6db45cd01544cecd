//! What the model is told: the wording is kept in `prompts/analyst/model.md`.

use std::fmt::Write as _;

use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_planner::understood::Understood;
use ballpoint_planner::{Context, DialogueState};
use serde_json::{Value, json};

const WORDING: &str = include_str!("../../../../prompts/analyst/model.md");

/// More values than this are not listed; those that the question is near to still are found.
const VALUES_LISTED_MAX: usize = 40;

/// More members than this are not put before a model: the cubes that the question speaks of are.
const MEMBERS_MAX: usize = 250;

/// A section of the wording with its variables filled in.
pub(crate) fn say(section: &str, variables: &[(&str, &str)]) -> String {
    ballpoint_runtime::wording::say(WORDING, section, variables)
}

/// The messages that open a reading.
pub(crate) fn messages(
    question: &str,
    state: &DialogueState,
    context: &Context,
    cubes: &[&CubeInfo],
    understood: &Understood,
) -> Vec<Value> {
    let system = say(
        "system",
        &[
            (
                "now",
                &context.now.strftime("%A %Y-%m-%d %H:%M %Q").to_string(),
            ),
            ("coverage", &coverage(context)),
            ("catalog", &members(cubes)),
        ],
    );
    let last = state.last.as_ref().map_or_else(
        || "none".to_owned(),
        |frame| serde_json::to_string(&frame.query()).unwrap_or_default(),
    );
    let asked = say(
        "question",
        &[
            ("question", question),
            ("understood", &certain(understood)),
            ("last", &last),
        ],
    );
    vec![
        json!({ "role": "system", "content": system }),
        json!({ "role": "user", "content": asked }),
    ]
}

/// The cubes to put before the model: all of them, or where they are too many those that the
/// question speaks of and then the widest.
pub(crate) fn scope<'a>(catalog: &'a Catalog, understood: &Understood) -> Vec<&'a CubeInfo> {
    let size = |cube: &CubeInfo| cube.measures.len() + cube.dimensions.len();
    let named = understood.measures.iter().chain(&understood.dimensions);
    let named: Vec<&str> = named
        .flat_map(|it| &it.candidates)
        .chain(
            understood
                .members
                .iter()
                .flat_map(|it| it.candidates.iter().map(|(dimension, _)| dimension)),
        )
        .filter_map(|it| it.split_once('.'))
        .map(|(cube, _)| cube)
        .collect();
    let mut cubes: Vec<&CubeInfo> = catalog.cubes.iter().collect();
    cubes.sort_by_key(|cube| {
        (
            !named.contains(&cube.name.as_str()),
            std::cmp::Reverse(size(cube)),
        )
    });
    let mut total = 0;
    cubes
        .into_iter()
        .enumerate()
        .take_while(|(n, cube)| {
            total += size(cube);
            *n == 0 || total <= MEMBERS_MAX
        })
        .map(|(_, cube)| cube)
        .collect()
}

fn coverage(context: &Context) -> String {
    let spans: Vec<String> = context
        .coverage
        .iter()
        .map(|(time, it)| format!("{time} from {} to {}", it.from, it.to))
        .collect();
    if spans.is_empty() {
        "unknown".to_owned()
    } else {
        spans.join("; ")
    }
}

fn members(cubes: &[&CubeInfo]) -> String {
    let mut out = String::new();
    for cube in cubes {
        let description = cube.description.as_deref().unwrap_or_default();
        let _ = writeln!(out, "Cube {}: {description}", cube.name);
        for measure in &cube.measures {
            let _ = writeln!(out, "- measure {}", described(measure));
        }
        for dimension in cube.dimensions.iter().filter(|it| !it.primary_key) {
            let kind = if dimension.member_type == "time" {
                "time"
            } else {
                "dimension"
            };
            let _ = writeln!(out, "- {kind} {}", described(dimension));
        }
    }
    out
}

fn described(member: &MemberInfo) -> String {
    let mut out = format!("{} ({})", member.name, member.short_title);
    if let Some(unit) = member.meta.get("unit").and_then(Value::as_str) {
        let _ = write!(out, " in {unit}");
    }
    if let Some(better) = member.meta.get("better").and_then(Value::as_str) {
        let _ = write!(out, ", {better} is better");
    }
    if let Some(description) = &member.description {
        let _ = write!(out, ": {description}");
    }
    if let Some(only) = member.meta.get("only") {
        let _ = write!(out, " Only for {only}.");
    }
    if (1..=VALUES_LISTED_MAX).contains(&member.values.len()) {
        let _ = write!(out, " Values: {}", json!(member.values));
    }
    out
}

fn certain(understood: &Understood) -> String {
    let mut parts: Vec<String> = Vec::new();
    for window in &understood.windows {
        let [from, to] = window.bounds();
        parts.push(format!("time {from} to {to}"));
    }
    for member in &understood.members {
        let (dimension, value) = member.candidates.first().cloned().unwrap_or_default();
        let not = if member.negated { "not " } else { "" };
        parts.push(format!(
            "{:?} is {not}{dimension} = {value:?}",
            member.words
        ));
    }
    for named in understood.measures.iter().chain(&understood.dimensions) {
        parts.push(format!(
            "{:?} may be {}",
            named.words,
            named.candidates.join(" or ")
        ));
    }
    if !understood.unknown.is_empty() {
        parts.push(format!("not understood: {}", json!(understood.unknown)));
    }
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_in_a_question_stays_text() {
        let asked = say(
            "question",
            &[
                ("question", "{last} {x}"),
                ("last", "Q"),
                ("understood", "u"),
            ],
        );
        assert!(asked.starts_with("Question: {last} {x}"), "{asked}");
        assert!(asked.ends_with("before: Q"), "{asked}");
    }
}
