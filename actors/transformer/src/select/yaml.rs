//! `selectors.yml`: named selections.

use serde_json::{Map, Value as Json};

use super::{Depth, Indirect, Spec, Term, term_of};
use crate::error::{Place, ProjectError, nearest_hint};
use crate::project::Project;

/// Selectors that name each other deeper than this are taken for a ring.
const NESTING_MAX: usize = 20;

fn declared(project: &Project) -> &[Json] {
    let list = project
        .selectors
        .as_ref()
        .and_then(|it| it.get("selectors"));
    list.and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn wrong(message: String) -> ProjectError {
    ProjectError::Yaml {
        place: Place::file("selectors.yml"),
        message,
    }
}

/// A selector by its name.
pub(super) fn selector(project: &Project, name: &str) -> Result<Spec, ProjectError> {
    nested(project, name, 0)
}

fn nested(project: &Project, name: &str, depth: usize) -> Result<Spec, ProjectError> {
    if depth > NESTING_MAX {
        return Err(wrong(format!("the selector '{name}' names itself")));
    }
    let named = |it: &&Json| it.get("name").and_then(Json::as_str) == Some(name);
    let Some(found) = declared(project).iter().find(named) else {
        let known = declared(project)
            .iter()
            .filter_map(|it| it.get("name")?.as_str());
        return Err(ProjectError::Configuration(format!(
            "Could not find selector named {name}, expected one of [{}]{}",
            known.clone().collect::<Vec<_>>().join(", "),
            nearest_hint(name, known)
        )));
    };
    let definition = found.get("definition");
    let definition = definition.ok_or_else(|| wrong(format!("'{name}' has no 'definition'")))?;
    spec(project, definition, depth)
}

/// The selector that stands for a command line without `--select`.
pub(super) fn default_selector(project: &Project) -> Result<Option<Spec>, ProjectError> {
    let default = declared(project).iter().find(|it| match it.get("default") {
        Some(Json::Bool(flag)) => *flag,
        Some(Json::String(text)) => {
            let place = Place::file("selectors.yml");
            let scope = crate::jinja::context::project_scope(&project.globals);
            let rendered = project.engine.render_text(text, &place, scope);
            rendered.is_ok_and(|text| text.trim().eq_ignore_ascii_case("true"))
        }
        _ => false,
    });
    match default.and_then(|it| it.get("name")?.as_str()) {
        Some(name) => selector(project, name).map(Some),
        None => Ok(None),
    }
}

fn spec(project: &Project, definition: &Json, depth: usize) -> Result<Spec, ProjectError> {
    let map = match definition {
        Json::String(text) => return term_of(text).map(Spec::Term),
        Json::Object(map) => map,
        _ => {
            return Err(wrong(
                "a definition is neither a text nor a mapping".to_owned(),
            ));
        }
    };
    if let Some(parts) = map.get("union").and_then(Json::as_array) {
        return combined(project, parts, depth, Spec::Union);
    }
    if let Some(parts) = map.get("intersection").and_then(Json::as_array) {
        return combined(project, parts, depth, Spec::Intersection);
    }
    let included = match (map.get("method").and_then(Json::as_str), map.get("value")) {
        (Some("selector"), Some(Json::String(name))) => nested(project, name, depth + 1)?,
        (Some(method), Some(value)) => Spec::Term(term(map, method, value)?),
        _ => match map.iter().next() {
            Some((method, value)) if map.len() == 1 => {
                Spec::Term(term(&Map::new(), method, value)?)
            }
            _ => return Err(wrong("a definition has no 'method' and 'value'".to_owned())),
        },
    };
    match map.get("exclude").and_then(Json::as_array) {
        Some(parts) => Ok(Spec::Without(
            Box::new(included),
            Box::new(combined(project, parts, depth, Spec::Union)?),
        )),
        None => Ok(included),
    }
}

/// A list of definitions, of which one may only exclude.
fn combined(
    project: &Project,
    parts: &[Json],
    depth: usize,
    join: fn(Vec<Spec>) -> Spec,
) -> Result<Spec, ProjectError> {
    let (mut included, mut excluded) = (Vec::new(), Vec::new());
    for part in parts {
        let only = part.as_object().filter(|map| map.len() == 1);
        match only.and_then(|map| map.get("exclude")?.as_array()) {
            Some(inner) => {
                for part in inner {
                    excluded.push(spec(project, part, depth)?);
                }
            }
            None => included.push(spec(project, part, depth)?),
        }
    }
    let included = join(included);
    Ok(match excluded.is_empty() {
        true => included,
        false => Spec::Without(Box::new(included), Box::new(Spec::Union(excluded))),
    })
}

fn term(map: &Map<String, Json>, method: &str, value: &Json) -> Result<Term, ProjectError> {
    let flag = |key: &str| map.get(key).and_then(Json::as_bool).unwrap_or(false);
    let depth = |key: &str, depth: &str| -> Depth {
        let at_most = map.get(depth).and_then(Json::as_u64);
        flag(key).then_some(at_most.map(|depth| depth as usize))
    };
    let indirect = match map.get("indirect_selection").and_then(Json::as_str) {
        Some(name) => Some(Indirect::parse(name).ok_or_else(|| {
            wrong(format!(
                "indirect_selection is eager, cautious, buildable or empty, not '{name}'"
            ))
        })?),
        None => None,
    };
    Ok(Term {
        method: method.to_owned(),
        value: value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
        parents: depth("parents", "parents_depth"),
        children: depth("children", "children_depth"),
        childrens_parents: flag("childrens_parents"),
        indirect,
    })
}

/// The selectors as the manifest holds them.
pub(crate) fn selectors_json(project: &Project) -> Map<String, Json> {
    let named = declared(project).iter().filter_map(|it| {
        let name = it.get("name")?.as_str()?.to_owned();
        Some((name, it.clone()))
    });
    named.collect()
}
