//! Reading `access_policy`: members and operators are looked up, so that a policy that could not hold is
//! refused with the model, and not at every query.

use super::access::{Listed, Policy, claim_path, read_filter};
use super::reference::Draft;
use super::source::{Node, Place, Problems, hint};
use super::template::{RawPart, split};
use super::views::includes_of;
use super::{Cube, Member};
use crate::query::{Filter, FilterValue, OPERATORS};

/// `access_policy` of a cube or view, that of what it extends before its own.
pub(super) fn compile_policies(
    draft: &Draft<'_>,
    cube: &Cube,
    problems: &mut Problems,
) -> Option<Vec<Policy>> {
    let generations = draft.ancestors.iter().rev().chain([&draft.node]);
    let declared: Vec<&Node<'_>> = generations
        .filter(|node| node.get("access_policy").is_some())
        .collect();
    if declared.is_empty() {
        return None;
    }
    let mut policies = Vec::new();
    for node in declared {
        for item in node.nodes("access_policy", problems) {
            policies.push(Reader { cube }.policy(&item, problems));
        }
    }
    Some(policies)
}

/// Reads the policies of a compiled cube.
struct Reader<'c> {
    cube: &'c Cube,
}

impl Reader<'_> {
    fn policy(&self, item: &Node<'_>, problems: &mut Problems) -> Policy {
        item.allow(
            &[
                "group",
                "groups",
                "role",
                "conditions",
                "member_level",
                "member_masking",
                "row_level",
            ],
            "an access policy",
            problems,
        );
        let keys = ["group", "groups", "role"];
        let groups: Vec<String> = keys
            .iter()
            .flat_map(|key| item.texts(key, problems))
            .collect();
        if groups.is_empty() {
            problems.add(
                &item.place,
                "an access policy needs a \"group\"; \"*\" is everybody",
            );
        }
        let shown = self.listed(item, "member_level", problems);
        let masked = self.listed(item, "member_masking", problems);
        if masked.is_some() && shown.is_none() {
            let place = item.place.at("member_masking");
            problems.add(&place, "\"member_masking\" needs a \"member_level\"");
        }
        Policy {
            groups,
            conditions: read_conditions(item, problems),
            shown: shown.unwrap_or_default(),
            masked,
            row_filters: self.row_filters(item, problems),
        }
    }

    /// `includes` without `excludes`, each `"*"` or a list.
    fn listed(&self, item: &Node<'_>, key: &str, problems: &mut Problems) -> Option<Listed> {
        let node = item.node(key, problems)?;
        node.allow(&["includes", "excludes"], &format!("\"{key}\""), problems);
        let mut short = |key: &str| {
            let names = includes_of(&node, key, problems)?;
            let found = names.iter().filter_map(|name| {
                let member = self.member(name, &node.place, problems)?;
                Some(member.name.clone())
            });
            Some(found.collect::<Vec<_>>())
        };
        let (includes, excludes) = (short("includes"), short("excludes"));
        Some(match node.get("excludes").is_some() && excludes.is_none() {
            // All of them.
            true => Listed {
                includes: Some(Vec::new()),
                excludes: Vec::new(),
            },
            false => Listed {
                includes,
                excludes: excludes.unwrap_or_default(),
            },
        })
    }

    fn row_filters(&self, item: &Node<'_>, problems: &mut Problems) -> Vec<Filter> {
        let Some(rows) = item.node("row_level", problems) else {
            return Vec::new();
        };
        rows.allow(&["filters", "allow_all"], "\"row_level\"", problems);
        let mut filters = Vec::new();
        for node in rows.nodes("filters", problems) {
            if let Some(mut filter) = read_filter(&node, problems) {
                self.resolve(&mut filter, &node.place, problems);
                filters.push(filter);
            }
        }
        filters
    }

    /// Gives members their full names and refuses what no row could be compared with.
    fn resolve(&self, filter: &mut Filter, place: &Place<'_>, problems: &mut Problems) {
        match filter {
            Filter::Or { or: inner } | Filter::And { and: inner } => {
                if inner.is_empty() {
                    problems.add(place, "\"and\" and \"or\" need filters");
                }
                for filter in inner {
                    self.resolve(filter, place, problems);
                }
            }
            Filter::Member {
                member,
                operator,
                values,
            } => {
                let Some(found) = self.member(member, place, problems) else {
                    return;
                };
                member.clone_from(&found.full_name);
                let place = place.at("operator");
                if let Some(wrong) = misfit(found, operator, values.is_some()) {
                    problems.add(&place, wrong);
                }
                for value in values.iter().flatten() {
                    if let FilterValue::Text(text) = value
                        && let Err(wrong) = check_value(text)
                    {
                        problems.add(&place, wrong);
                    }
                }
            }
        }
    }

    /// A member of the cube: `x`, `CUBE.x`, `{CUBE}.x`, `{CUBE.x}` or under the cube's name.
    fn member(&self, written: &str, place: &Place<'_>, problems: &mut Problems) -> Option<&Member> {
        let bare = written.replace(['{', '}', '$'], "");
        let bare = bare.trim();
        let name = match bare.split_once('.') {
            Some((cube, name)) if cube == "CUBE" || cube == self.cube.name => name,
            _ => bare,
        };
        let found = self.cube.by_name.get(name);
        if found.is_none() {
            let known = self.cube.members.iter().map(|member| member.name.as_str());
            let hint = hint(name, known);
            let cube = &self.cube.name;
            problems.add(
                &place.at(written),
                format!("\"{cube}\" has no member \"{written}\"{hint}"),
            );
        }
        found.map(|&at| &self.cube.members[at])
    }
}

/// Why a row policy cannot ask this of a member.
fn misfit(member: &Member, operator: &str, has_values: bool) -> Option<String> {
    let on_dates = operator.ends_with("Date") || operator.ends_with("DateRange");
    if !OPERATORS.contains(&operator) || operator == "measureFilter" {
        let hint = hint(operator, OPERATORS);
        return Some(format!("unknown operator \"{operator}\"{hint}"));
    }
    if member.segment().is_some() {
        return Some(format!("\"{}\" is a segment", member.name));
    }
    if on_dates && member.value_type() != "time" {
        return Some(format!("\"{}\" is not a time dimension", member.name));
    }
    let needs_values = !matches!(operator, "set" | "notSet");
    (needs_values && !has_values).then(|| format!("\"{operator}\" needs \"values\""))
}

/// Whether a value is text and claims, and nothing else.
fn check_value(text: &str) -> Result<(), String> {
    for part in split(text)? {
        if let RawPart::Reference(name) = part
            && claim_path(&name).is_none()
        {
            return Err(format!(
                "{{{name}}} is no claim: write {{ securityContext.{name} }}"
            ));
        }
    }
    Ok(())
}

fn read_conditions(item: &Node<'_>, problems: &mut Problems) -> Vec<String> {
    let mut conditions = Vec::new();
    for condition in item.nodes("conditions", problems) {
        condition.allow(&["if"], "a condition", problems);
        let Some(text) = condition.text("if", problems) else {
            problems.add(&condition.place, "a condition needs \"if\"");
            continue;
        };
        let text = text.trim();
        let inner = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.unwrap_or(text).trim();
        // JavaScript's spelling of the same.
        let inner = inner.replace("===", "==").replace("!==", "!=");
        let inner = inner.replace("&&", " and ").replace("||", " or ");
        let inner = match inner.strip_prefix('!') {
            Some(rest) => format!("not {rest}"),
            None => inner,
        };
        if let Err(error) = minijinja::Environment::new().compile_expression(&inner) {
            let message = format!("the condition \"{text}\" cannot be read: {error}");
            problems.add(&condition.place, message);
        }
        conditions.push(inner);
    }
    conditions
}
