//! The methods of selection: what each compares with its value.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde_json::{Map, Value as Json};

use super::Context;
use crate::error::{ProjectError, nearest_hint};
use crate::project::Project;
use crate::project::node::{Node, ResourceType, Version};

/// The methods that are known, for hints.
const METHODS: &[&str] = &[
    "fqn",
    "tag",
    "path",
    "file",
    "source",
    "exposure",
    "metric",
    "semantic_model",
    "saved_query",
    "group",
    "access",
    "config",
    "resource_type",
    "package",
    "test_type",
    "test_name",
    "unit_test",
    "version",
    "state",
    "result",
    "source_status",
];

/// Something that can be selected.
pub(super) struct Facts<'a> {
    pub(super) id: &'a str,
    pub(super) kind: ResourceType,
    name: &'a str,
    package: &'a str,
    fqn: &'a [String],
    tags: &'a [String],
    path: &'a str,
    /// The source's and the table's name.
    source: Option<(&'a str, &'a str)>,
    config: Option<&'a Map<String, Json>>,
    node: Option<&'a Node>,
}

pub(super) fn facts(project: &Project) -> Vec<Facts<'_>> {
    let nodes = project.nodes.values().map(|node| Facts {
        id: &node.unique_id,
        kind: node.resource_type,
        name: &node.name,
        package: &node.package,
        fqn: &node.fqn,
        tags: &node.tags,
        path: &node.original_file_path,
        source: None,
        config: Some(&node.config),
        node: Some(node),
    });
    let sources = project.sources.values().map(|source| Facts {
        id: &source.unique_id,
        kind: ResourceType::Source,
        name: &source.name,
        package: &source.package,
        fqn: &source.fqn,
        tags: &source.tags,
        path: &source.original_file_path,
        source: Some((&source.source_name, &source.name)),
        config: Some(&source.config),
        node: None,
    });
    let exposures = project.exposures.values().map(|exposure| Facts {
        id: &exposure.unique_id,
        kind: ResourceType::Exposure,
        name: &exposure.name,
        package: &exposure.package,
        fqn: &exposure.fqn,
        tags: &exposure.tags,
        path: &exposure.original_file_path,
        source: None,
        config: exposure.properties.get("config").and_then(Json::as_object),
        node: None,
    });
    let semantics = project.semantics.values().map(|semantic| Facts {
        id: &semantic.unique_id,
        kind: semantic.kind,
        name: &semantic.name,
        package: &semantic.package,
        fqn: &semantic.fqn,
        tags: &semantic.tags,
        path: &semantic.original_file_path,
        source: None,
        config: Some(&semantic.config),
        node: None,
    });
    let declared = exposures.chain(semantics);
    nodes.chain(sources).chain(declared).collect()
}

fn glob(pattern: &str) -> Result<GlobMatcher, ProjectError> {
    let wrong = |error: globset::Error| {
        ProjectError::Configuration(format!("selection '{pattern}': {error}"))
    };
    Glob::new(pattern)
        .map(|glob| glob.compile_matcher())
        .map_err(wrong)
}

fn path_glob(pattern: &str) -> Result<GlobMatcher, ProjectError> {
    let wrong = |error: globset::Error| {
        ProjectError::Configuration(format!("selection '{pattern}': {error}"))
    };
    GlobBuilder::new(pattern.trim_end_matches('/').trim_start_matches("./"))
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(wrong)
}

/// What one method matches.
pub(super) fn matching(
    context: &Context<'_>,
    method: &str,
    value: &str,
) -> Result<BTreeSet<String>, ProjectError> {
    let chosen = |test: &dyn Fn(&Facts<'_>) -> bool| -> BTreeSet<String> {
        context
            .facts
            .iter()
            .filter(|fact| test(fact))
            .map(|fact| fact.id.to_owned())
            .collect()
    };
    let matcher = glob(value)?;
    Ok(match method {
        // Sources are only selected as such: a table may be called as a model is.
        "fqn" => chosen(&|fact| {
            fact.source.is_none()
                && (by_fqn(fact.fqn, value, &matcher) || by_version(fact, value, &matcher))
        }),
        "version" => chosen(&|fact| has_version(fact, value)),
        "tag" => chosen(&|fact| fact.tags.iter().any(|tag| matcher.is_match(tag))),
        "path" => {
            let matcher = path_glob(value)?;
            chosen(&|fact| within(fact.path, &matcher))
        }
        "file" => chosen(&|fact| {
            let file = fact.path.rsplit('/').next().unwrap_or_default();
            let stem = file.rsplit_once('.').map(|(stem, _)| stem);
            matcher.is_match(file) || stem.is_some_and(|stem| matcher.is_match(stem))
        }),
        "source" => chosen(&|fact| by_source(fact, value)),
        "exposure" | "unit_test" | "metric" | "semantic_model" | "saved_query" => chosen(&|fact| {
            let path: Vec<&str> = value.split('.').collect();
            let (package, name) = match path.as_slice() {
                [package, name] => (Some(*package), *name),
                _ => (None, value),
            };
            fact.kind.name() == method
                && package.is_none_or(|package| package == fact.package)
                && (name == "*" || glob(name).is_ok_and(|glob| glob.is_match(fact.name)))
        }),
        "group" | "access" => chosen(&|fact| {
            let given = fact.config.and_then(|config| config.get(method)?.as_str());
            let default =
                (method == "access" && fact.kind == ResourceType::Model).then_some("protected");
            given.or(default) == Some(value)
        }),
        "resource_type" => chosen(&|fact| fact.kind.name() == value),
        "package" => {
            let package = match value {
                "this" => context.project.name.as_str(),
                other => other,
            };
            let matcher = glob(package)?;
            chosen(&|fact| matcher.is_match(fact.package))
        }
        "test_type" => chosen(&|fact| by_test_type(fact, value)),
        "test_name" => chosen(&|fact| {
            let test = fact.node.and_then(|node| node.test.as_ref());
            match test {
                Some(test) => matcher.is_match(&test.name),
                None => fact.kind == ResourceType::UnitTest && matcher.is_match(fact.name),
            }
        }),
        "state" | "result" | "source_status" => super::state::matching(context, method, value)?,
        _ => match method.strip_prefix("config.") {
            Some(key) => chosen(&|fact| {
                fact.config
                    .and_then(|config| setting(config, key))
                    .is_some_and(|setting| is_value(setting, value, &matcher))
            }),
            None => {
                return Err(ProjectError::Configuration(format!(
                    "'{method}' is not a valid method name{}",
                    nearest_hint(method, METHODS.iter().copied()),
                )));
            }
        },
    })
}

/// A value below dotted keys.
fn setting<'j>(config: &'j Map<String, Json>, path: &str) -> Option<&'j Json> {
    let mut keys = path.split('.');
    let mut found = config.get(keys.next()?)?;
    for key in keys {
        found = found.get(key)?;
    }
    Some(found)
}

fn is_value(setting: &Json, value: &str, matcher: &GlobMatcher) -> bool {
    match setting {
        Json::String(text) => matcher.is_match(text),
        Json::Array(items) => items.iter().any(|item| is_value(item, value, matcher)),
        Json::Object(map) => map.contains_key(value),
        Json::Bool(flag) => value.eq_ignore_ascii_case(&flag.to_string()),
        Json::Number(number) => number.to_string() == value,
        Json::Null => false,
    }
}

/// Whether a name, or folders that lead to it, are what a selection says.
fn by_fqn(fqn: &[String], value: &str, matcher: &GlobMatcher) -> bool {
    let Some(name) = fqn.last() else {
        return false;
    };
    if name == value || matcher.is_match(name) {
        return true;
    }
    let wanted: Vec<&str> = value.split('.').collect();
    // With the package's name and without.
    (0..2.min(fqn.len())).any(|from| {
        let parts: Vec<&str> = fqn[from..]
            .iter()
            .flat_map(|part| part.split('.'))
            .collect();
        prefix_matches(&parts, &wanted)
    })
}

fn prefix_matches(parts: &[&str], wanted: &[&str]) -> bool {
    if parts.len() < wanted.len() {
        return false;
    }
    for (index, pattern) in wanted.iter().enumerate() {
        if pattern.contains(['*', '?', '[']) {
            let (rest, pattern) = (parts[index..].join("."), wanted[index..].join("."));
            return glob(&pattern).is_ok_and(|glob| glob.is_match(rest));
        }
        if parts[index] != *pattern {
            return false;
        }
    }
    true
}

/// Whether a name means this version of a model: `x` all of them, `x.v2` and `x_v2` the one.
fn by_version(fact: &Facts<'_>, value: &str, matcher: &GlobMatcher) -> bool {
    let Some(version) = fact.node.and_then(|node| node.version.as_ref()) else {
        return false;
    };
    let (name, label) = (fact.name, version.label());
    let names = [
        name.to_owned(),
        format!("{name}.{label}"),
        format!("{name}_{label}"),
    ];
    names
        .iter()
        .any(|name| name == value || matcher.is_match(name))
}

/// `version:latest`, `prerelease`, `old`, or `none` for models without versions.
fn has_version(fact: &Facts<'_>, value: &str) -> bool {
    let order = fact
        .node
        .and_then(|node| node.version.as_ref())
        .map(Version::against_latest);
    match value {
        "none" => fact.kind == ResourceType::Model && order.is_none(),
        "latest" => order == Some(Ordering::Equal),
        "prerelease" => order == Some(Ordering::Greater),
        "old" => order == Some(Ordering::Less),
        _ => false,
    }
}

/// Whether a path, or a folder above it, matches.
fn within(path: &str, matcher: &GlobMatcher) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at);
    matcher.is_match(path) || ends.into_iter().any(|end| matcher.is_match(&path[..end]))
}

fn by_source(fact: &Facts<'_>, value: &str) -> bool {
    let Some((source, table)) = fact.source else {
        return false;
    };
    let is = |pattern: &str, name: &str| glob(pattern).is_ok_and(|glob| glob.is_match(name));
    let parts: Vec<&str> = value.split('.').collect();
    match parts.as_slice() {
        [wanted] => is(wanted, source),
        [first, second] => {
            (is(first, source) && is(second, table))
                || (is(first, fact.package) && is(second, source))
        }
        [package, wanted, name] => {
            is(package, fact.package) && is(wanted, source) && is(name, table)
        }
        _ => false,
    }
}

fn by_test_type(fact: &Facts<'_>, value: &str) -> bool {
    match (value, fact.node) {
        ("unit", _) => fact.kind == ResourceType::UnitTest,
        ("data", Some(node)) => node.is_test(),
        ("generic" | "schema", Some(node)) => node.is_test() && node.test.is_some(),
        ("singular", Some(node)) => node.is_test() && node.test.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fqn(path: &str, value: &str) -> bool {
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        by_fqn(&parts, value, &glob(value).unwrap())
    }

    #[test]
    fn a_name_a_folder_and_a_pattern_select_by_fqn() {
        assert!(fqn("shop/staging/stg_orders", "stg_orders"));
        assert!(fqn("shop/staging/stg_orders", "staging"));
        assert!(fqn("shop/staging/stg_orders", "shop.staging"));
        assert!(fqn("shop/staging/stg_orders", "shop.staging.*"));
        assert!(fqn("shop/staging/stg_orders", "stg_*"));
        assert!(!fqn("shop/staging/stg_orders", "orders"));
        assert!(!fqn("shop/staging/stg_orders", "shop.marts.*"));
    }

    #[test]
    fn a_path_selects_what_is_below_it() {
        let is = |pattern: &str| within("models/staging/a.sql", &path_glob(pattern).unwrap());
        assert!(
            is("models/staging")
                && is("models/staging/")
                && is("models/*")
                && is("models/**/a.sql")
        );
        assert!(!is("models/marts") && !is("staging"));
    }
}
