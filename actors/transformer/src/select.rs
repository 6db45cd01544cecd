//! dbt's node selection: `+name+`, `2+name`, `@name`, methods, unions (spaces) and intersections
//! (commas).

use std::collections::BTreeSet;

use globset::Glob;

use crate::error::{ProjectError, nearest_hint};
use crate::project::Project;
use crate::project::node::ResourceType;

/// What a command is asked to work on.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub select: Vec<String>,
    pub exclude: Vec<String>,
    /// Empty: the command's own default.
    pub resource_types: Vec<ResourceType>,
}

struct Facts<'a> {
    id: &'a str,
    name: &'a str,
    kind: ResourceType,
    fqn: &'a [String],
    tags: &'a [String],
    path: &'a str,
    source: Option<(&'a str, &'a str)>,
}

fn facts(project: &Project) -> Vec<Facts<'_>> {
    let nodes = project.nodes.values().map(|node| Facts {
        id: &node.unique_id,
        name: &node.name,
        kind: node.resource_type,
        fqn: &node.fqn,
        tags: &node.tags,
        path: &node.original_file_path,
        source: None,
    });
    let sources = project.sources.values().map(|source| Facts {
        id: &source.unique_id,
        name: &source.name,
        kind: ResourceType::Source,
        fqn: &source.fqn,
        tags: &source.tags,
        path: &source.original_file_path,
        source: Some((&source.source_name, &source.name)),
    });
    nodes.chain(sources).collect()
}

/// The unique ids that a selection names, tests of selected nodes included.
///
/// # Errors
/// When a method is unknown or a pattern is none.
pub fn select(project: &Project, selection: &Selection) -> Result<BTreeSet<String>, ProjectError> {
    let facts = facts(project);
    let everything = || {
        facts
            .iter()
            .map(|fact| fact.id.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let mut chosen = if selection.select.is_empty() {
        everything()
    } else {
        union(project, &facts, &selection.select)?
    };
    for id in union(project, &facts, &selection.exclude)? {
        chosen.remove(&id);
    }
    if !selection.resource_types.is_empty() {
        chosen.retain(|id| {
            facts
                .iter()
                .any(|f| f.id == id && selection.resource_types.contains(&f.kind))
        });
    }
    Ok(chosen)
}

fn union(
    project: &Project,
    facts: &[Facts<'_>],
    terms: &[String],
) -> Result<BTreeSet<String>, ProjectError> {
    let mut chosen = BTreeSet::new();
    for term in terms.iter().flat_map(|term| term.split_whitespace()) {
        let mut both: Option<BTreeSet<String>> = None;
        for part in term.split(',').filter(|part| !part.is_empty()) {
            let one = with_tests(project, criterion(project, facts, part)?);
            both = Some(match both {
                Some(known) => known.intersection(&one).cloned().collect(),
                None => one,
            });
        }
        chosen.extend(both.unwrap_or_default());
    }
    Ok(chosen)
}

/// Adds the tests that read nothing but what is selected, or any of it: dbt's eager rule.
fn with_tests(project: &Project, mut chosen: BTreeSet<String>) -> BTreeSet<String> {
    let tests: Vec<String> = project
        .nodes
        .values()
        .filter(|node| node.is_test() && node.depends_on.iter().any(|id| chosen.contains(id)))
        .map(|node| node.unique_id.clone())
        .collect();
    chosen.extend(tests);
    chosen
}

/// One term: `@`, `n+`, a method and a value, `+n`.
fn criterion(
    project: &Project,
    facts: &[Facts<'_>],
    term: &str,
) -> Result<BTreeSet<String>, ProjectError> {
    let (at, body) = match term.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, term),
    };
    let (ancestors, body) = leading_plus(body);
    let (descendants, body) = trailing_plus(body);
    let direct = matching(project, facts, body)?;
    let mut chosen = direct.clone();
    for id in &direct {
        if let Some(depth) = ancestors {
            chosen.extend(project.graph.ancestors(id, depth));
        }
        if let Some(depth) = descendants {
            chosen.extend(project.graph.descendants(id, depth));
        }
        if at {
            for below in project.graph.descendants(id, None) {
                chosen.extend(project.graph.ancestors(&below, None));
                chosen.insert(below);
            }
        }
    }
    Ok(chosen)
}

type Depth = Option<Option<usize>>;

fn leading_plus(term: &str) -> (Depth, &str) {
    let digits = term.bytes().take_while(u8::is_ascii_digit).count();
    match term[digits..].strip_prefix('+') {
        Some(rest) => (Some(term[..digits].parse().ok()), rest),
        None => (None, term),
    }
}

fn trailing_plus(term: &str) -> (Depth, &str) {
    let digits = term.bytes().rev().take_while(u8::is_ascii_digit).count();
    let head = &term[..term.len() - digits];
    match head.strip_suffix('+') {
        Some(rest) => (Some(term[term.len() - digits..].parse().ok()), rest),
        None => (None, term),
    }
}

fn matching(
    project: &Project,
    facts: &[Facts<'_>],
    body: &str,
) -> Result<BTreeSet<String>, ProjectError> {
    let (method, value) = match body.split_once(':') {
        Some((method, value)) => (method, value),
        None if body.contains('/') || body.ends_with(".sql") => ("path", body),
        None => ("fqn", body),
    };
    let glob = |pattern: &str| {
        Glob::new(pattern)
            .map(|glob| glob.compile_matcher())
            .map_err(|error| ProjectError::Configuration(format!("selection '{body}': {error}")))
    };
    let matcher = glob(value)?;
    let chosen = |test: &dyn Fn(&Facts<'_>) -> bool| {
        facts
            .iter()
            .filter(|fact| test(fact))
            .map(|fact| fact.id.to_owned())
            .collect()
    };
    Ok(match method {
        // Sources are only selected as such: a table may be called as a model is.
        "fqn" => chosen(&|fact| {
            let prefix = |from: usize| {
                (from + 1..=fact.fqn.len())
                    .any(|end| matcher.is_match(fact.fqn[from..end].join(".")))
            };
            fact.source.is_none() && (matcher.is_match(fact.name) || prefix(0) || prefix(1))
        }),
        "tag" => chosen(&|fact| fact.tags.iter().any(|tag| matcher.is_match(tag))),
        "path" => {
            let folder = value.trim_end_matches('/');
            chosen(&|fact| {
                matcher.is_match(fact.path) || fact.path.starts_with(&format!("{folder}/"))
            })
        }
        "file" => chosen(&|fact| {
            let file = fact.path.rsplit('/').next().unwrap_or_default();
            matcher.is_match(file)
                || file
                    .rsplit_once('.')
                    .is_some_and(|(stem, _)| matcher.is_match(stem))
        }),
        "source" => chosen(&|fact| {
            fact.source.is_some_and(|(source, table)| {
                matcher.is_match(source) || matcher.is_match(format!("{source}.{table}"))
            })
        }),
        "resource_type" => chosen(&|fact| fact.kind.name() == value),
        "package" => chosen(&|_| matcher.is_match(&project.name)),
        "test_type" => chosen(&|fact| {
            project
                .nodes
                .get(fact.id)
                .is_some_and(|node| node.is_test() && (node.test.is_some() == (value == "generic")))
        }),
        "test_name" => chosen(&|fact| {
            let test = project
                .nodes
                .get(fact.id)
                .and_then(|node| node.test.as_ref());
            test.is_some_and(|test| matcher.is_match(&test.name))
        }),
        _ => match method.strip_prefix("config.") {
            Some(key) => chosen(&|fact| {
                let setting = project
                    .nodes
                    .get(fact.id)
                    .and_then(|node| node.config.get(key));
                setting.is_some_and(|setting| match setting {
                    serde_json::Value::String(text) => matcher.is_match(text),
                    serde_json::Value::Array(items) => items
                        .iter()
                        .any(|item| item.as_str().is_some_and(|i| matcher.is_match(i))),
                    other => other.to_string().as_str() == value,
                })
            }),
            None => {
                let known = [
                    "tag",
                    "path",
                    "file",
                    "source",
                    "fqn",
                    "resource_type",
                    "package",
                    "test_type",
                    "test_name",
                    "config",
                ];
                return Err(ProjectError::Configuration(format!(
                    "selection method '{method}' is not known{}",
                    nearest_hint(method, known),
                )));
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_signs_carry_their_depth() {
        assert_eq!(leading_plus("2+a"), (Some(Some(2)), "a"));
        assert_eq!(leading_plus("+a"), (Some(None), "a"));
        assert_eq!(leading_plus("a1"), (None, "a1"));
        assert_eq!(trailing_plus("a+3"), (Some(Some(3)), "a"));
        assert_eq!(trailing_plus("fct_4"), (None, "fct_4"));
    }
}
