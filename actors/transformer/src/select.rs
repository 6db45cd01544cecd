//! dbt's node selection: `+name+`, `2+name`, `@name`, methods, unions (spaces), intersections
//! (commas), `selectors.yml`, and comparison with the state of an earlier run.

mod methods;
mod state;
mod yaml;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::ProjectError;
use crate::project::Project;
use crate::project::node::ResourceType;
use methods::{Facts, facts, matching};
pub(crate) use state::KINDS;
pub use state::State;
pub(crate) use yaml::selectors_json;

/// Which tests come with the nodes that they test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indirect {
    /// Those that read anything selected.
    #[default]
    Eager,
    /// Those that read nothing else.
    Cautious,
    /// Those that read what is selected and its ancestors alone.
    Buildable,
    /// None but those selected themselves.
    Empty,
}

impl Indirect {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eager" => Self::Eager,
            "cautious" => Self::Cautious,
            "buildable" => Self::Buildable,
            "empty" => Self::Empty,
            _ => return None,
        })
    }
}

/// What a command is asked to work on.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub select: Vec<String>,
    pub exclude: Vec<String>,
    /// A selector of `selectors.yml` instead of `select`.
    pub selector: Option<String>,
    /// Empty: the command's own default.
    pub resource_types: Vec<ResourceType>,
    pub exclude_resource_types: Vec<ResourceType>,
    pub indirect: Indirect,
    /// What an earlier run left, for `state:`, `result:` and `source_status:`.
    pub state: Option<Arc<State>>,
}

/// Everything that evaluating a selection reads.
pub(crate) struct Context<'a> {
    pub(crate) project: &'a Project,
    facts: Vec<Facts<'a>>,
    pub(crate) state: Option<&'a State>,
}

/// A selection as a tree.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    Term(Term),
    Union(Vec<Spec>),
    Intersection(Vec<Spec>),
    /// The first without the second.
    Without(Box<Spec>, Box<Spec>),
}

/// One criterion: a method, a value, and how far around what it matches.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) method: String,
    pub(crate) value: String,
    /// Ancestors, and at most how far.
    pub(crate) parents: Depth,
    pub(crate) children: Depth,
    /// `@`: descendants and all that they read.
    pub(crate) childrens_parents: bool,
    pub(crate) indirect: Option<Indirect>,
}

pub(crate) type Depth = Option<Option<usize>>;

/// The unique ids that a selection names, tests of selected nodes included.
///
/// # Errors
/// When a method is unknown or a pattern is none.
pub fn select(project: &Project, selection: &Selection) -> Result<BTreeSet<String>, ProjectError> {
    let context = Context {
        project,
        facts: facts(project),
        state: selection.state.as_deref(),
    };
    let indirect = selection.indirect;
    let mut chosen = match (&selection.selector, selection.select.is_empty()) {
        (Some(name), _) => {
            let spec = yaml::selector(project, name)?;
            evaluate(&context, &spec, indirect)?
        }
        (None, false) => evaluate(&context, &union_of(&selection.select)?, indirect)?,
        (None, true) => match yaml::default_selector(project)? {
            Some(spec) if selection.exclude.is_empty() => evaluate(&context, &spec, indirect)?,
            _ => context
                .facts
                .iter()
                .map(|fact| fact.id.to_owned())
                .collect(),
        },
    };
    for id in evaluate(&context, &union_of(&selection.exclude)?, indirect)? {
        chosen.remove(&id);
    }
    let kind = |id: &str| {
        context
            .facts
            .iter()
            .find(|fact| fact.id == id)
            .map(|fact| fact.kind)
    };
    if !selection.resource_types.is_empty() || !selection.exclude_resource_types.is_empty() {
        chosen.retain(|id| {
            let Some(kind) = kind(id) else {
                return false;
            };
            let wanted = &selection.resource_types;
            (wanted.is_empty() || wanted.contains(&kind))
                && !selection.exclude_resource_types.contains(&kind)
        });
    }
    Ok(chosen)
}

/// The terms of a command line as a tree.
fn union_of(terms: &[String]) -> Result<Spec, ProjectError> {
    let mut all = Vec::new();
    for term in terms.iter().flat_map(|term| term.split_whitespace()) {
        let parts = term
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| term_of(part).map(Spec::Term))
            .collect::<Result<Vec<_>, _>>()?;
        all.push(Spec::Intersection(parts));
    }
    Ok(Spec::Union(all))
}

/// `@`, `n+`, a method and a value, `+n`.
pub(crate) fn term_of(text: &str) -> Result<Term, ProjectError> {
    let (childrens_parents, body) = match text.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (parents, body) = leading_plus(body);
    let (children, body) = trailing_plus(body);
    if childrens_parents && children.is_some() {
        return Err(ProjectError::Configuration(format!(
            "Invalid node spec '{text}' - \"@\" prefix and \"+\" suffix are incompatible"
        )));
    }
    let (method, value) = match body.split_once(':') {
        Some((method, value)) => (method, value),
        None if body.contains('/') => ("path", body),
        None if [".sql", ".py", ".csv", ".yml"]
            .iter()
            .any(|end| body.ends_with(end)) =>
        {
            ("file", body)
        }
        None => ("fqn", body),
    };
    Ok(Term {
        method: method.to_owned(),
        value: value.to_owned(),
        parents,
        children,
        childrens_parents,
        indirect: None,
    })
}

pub(crate) fn evaluate(
    context: &Context<'_>,
    spec: &Spec,
    indirect: Indirect,
) -> Result<BTreeSet<String>, ProjectError> {
    Ok(match spec {
        Spec::Term(term) => {
            let chosen = around(context, term)?;
            with_tests(context.project, chosen, term.indirect.unwrap_or(indirect))
        }
        Spec::Union(parts) => {
            let mut all = BTreeSet::new();
            for part in parts {
                all.extend(evaluate(context, part, indirect)?);
            }
            all
        }
        Spec::Intersection(parts) => {
            let mut both: Option<BTreeSet<String>> = None;
            for part in parts {
                let one = evaluate(context, part, indirect)?;
                both = Some(match both {
                    Some(known) => known.intersection(&one).cloned().collect(),
                    None => one,
                });
            }
            both.unwrap_or_default()
        }
        Spec::Without(from, out) => {
            let mut chosen = evaluate(context, from, indirect)?;
            for id in evaluate(context, out, indirect)? {
                chosen.remove(&id);
            }
            chosen
        }
    })
}

/// What a term matches, and what is around it.
fn around(context: &Context<'_>, term: &Term) -> Result<BTreeSet<String>, ProjectError> {
    let project = context.project;
    let direct = matching(context, &term.method, &term.value)?;
    let mut chosen = direct.clone();
    for id in &direct {
        if let Some(depth) = term.parents {
            chosen.extend(project.graph.ancestors(id, depth));
        }
        if let Some(depth) = term.children {
            chosen.extend(project.graph.descendants(id, depth));
        }
        if term.childrens_parents {
            for below in project.graph.descendants(id, None) {
                chosen.extend(project.graph.ancestors(&below, None));
                chosen.insert(below);
            }
            chosen.extend(project.graph.ancestors(id, None));
        }
    }
    Ok(chosen)
}

/// Adds the tests that come with what is selected.
fn with_tests(
    project: &Project,
    mut chosen: BTreeSet<String>,
    indirect: Indirect,
) -> BTreeSet<String> {
    let mut reachable = chosen.clone();
    if indirect == Indirect::Buildable {
        for id in &chosen {
            reachable.extend(project.graph.ancestors(id, None));
        }
    }
    let tests = project.nodes.values().filter(|node| {
        let is_test = node.is_test() || node.resource_type == ResourceType::UnitTest;
        let mut parents = node.depends_on.iter();
        is_test
            && !node.depends_on.is_empty()
            && match indirect {
                Indirect::Eager => parents.any(|id| chosen.contains(id)),
                Indirect::Cautious => parents.all(|id| chosen.contains(id)),
                Indirect::Buildable => {
                    parents.clone().any(|id| chosen.contains(id))
                        && parents.all(|id| reachable.contains(id))
                }
                Indirect::Empty => false,
            }
    });
    let tests: Vec<String> = tests.map(|node| node.unique_id.clone()).collect();
    chosen.extend(tests);
    chosen
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plus_signs_carry_their_depth() {
        assert_eq!(leading_plus("2+a"), (Some(Some(2)), "a"));
        assert_eq!(leading_plus("+a"), (Some(None), "a"));
        assert_eq!(leading_plus("a1"), (None, "a1"));
        assert_eq!(trailing_plus("a+3"), (Some(Some(3)), "a"));
        assert_eq!(trailing_plus("fct_4"), (None, "fct_4"));
    }

    #[test]
    fn a_term_s_method_is_told_by_its_form() {
        let method = |text: &str| term_of(text).unwrap().method;
        assert_eq!(method("models/staging"), "path");
        assert_eq!(method("+orders.sql"), "file");
        assert_eq!(method("tag:nightly+"), "tag");
        assert_eq!(method("config.meta.owner:me"), "config.meta.owner");
        assert!(term_of("@orders+").is_err());
    }
}
