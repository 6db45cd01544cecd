//! Who may see which members and rows: Cube's `access_policy`.

use serde_json::Value;

use super::reference::Draft;
use super::source::{Node, Place, Problems, hint};
use super::template::{RawPart, split};
use super::views::includes_of;
use super::{Cube, Member, MemberId, Model};
use crate::query::{Filter, FilterValue, OPERATORS};

/// Who asks: the claims of the caller's token. The default is nobody in particular, who sees what
/// has no policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecurityContext {
    pub groups: Vec<String>,
    pub claims: Value,
}

impl SecurityContext {
    /// As a proof keeps it.
    pub(crate) fn shown(&self) -> Value {
        serde_json::json!({ "claims": self.claims, "groups": self.groups })
    }

    /// As a proof kept it.
    pub(crate) fn of_shown(shown: &Value) -> Self {
        Self {
            claims: shown["claims"].clone(),
            groups: serde_json::from_value(shown["groups"].clone()).unwrap_or_default(),
        }
    }

    /// From token claims, the groups under `groups_claim`.
    pub fn from_claims(claims: Value, groups_claim: &str) -> Self {
        let groups = match claims.get(groups_claim) {
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
            Some(Value::String(group)) => vec![group.clone()],
            _ => Vec::new(),
        };
        Self { groups, claims }
    }

    /// A claim by its dotted path, as text.
    pub fn claim(&self, path: &str) -> Option<String> {
        scalar(self.found(path)?)
    }

    /// The same where several values may stand: a claim that is a list has each of its own.
    pub(crate) fn claimed(&self, path: &str) -> Option<Vec<String>> {
        match self.found(path)? {
            Value::Array(values) => values.iter().map(scalar).collect(),
            value => Some(vec![scalar(value)?]),
        }
    }

    fn found(&self, path: &str) -> Option<&Value> {
        let mut keys = path.split('.');
        keys.try_fold(&self.claims, |value, key| value.get(key))
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// What the members of some groups may see of one cube.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `*` is everybody.
    pub groups: Vec<String>,
    /// Expressions over the security context, all of which must hold for the policy to apply.
    pub conditions: Vec<String>,
    /// Members whose values are seen.
    pub shown: Listed,
    /// Members that are seen, but not their values.
    pub masked: Option<Listed>,
    /// Conditions on rows, all of which must hold; empty is every row. Members have their full names,
    /// values may hold `{ securityContext.claim }`.
    pub row_filters: Vec<Filter>,
}

/// Members of a cube by their short names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// `None` is all.
    pub includes: Option<Vec<String>>,
    pub excludes: Vec<String>,
}

impl Listed {
    fn has(&self, member: &str) -> bool {
        let is_it = |name: &String| name == member;
        self.includes
            .as_ref()
            .is_none_or(|names| names.iter().any(is_it))
            && !self.excludes.iter().any(is_it)
    }
}

impl Policy {
    pub fn applies_to(&self, context: &SecurityContext) -> bool {
        let is_member = |group: &String| group == "*" || context.groups.contains(group);
        self.groups.iter().any(is_member)
            && self
                .conditions
                .iter()
                .all(|condition| holds(condition, context))
    }

    /// Whether the policy shows the member's values.
    pub fn shows(&self, member: &str) -> bool {
        self.shown.has(member)
    }

    /// Whether the policy lets the member be asked for, masked or not.
    pub fn allows(&self, member: &str) -> bool {
        self.shows(member) || self.masked.as_ref().is_some_and(|it| it.has(member))
    }
}

impl Model {
    /// Whether any policy of the member's cube (and, for a view, of what it stands for) lets the
    /// caller ask for it.
    pub(crate) fn allows(&self, context: &SecurityContext, id: MemberId) -> bool {
        let member = self.member(id);
        let own = self.cubes[id.cube]
            .policies
            .as_ref()
            .is_none_or(|policies| {
                let mut applying = policies.iter().filter(|it| it.applies_to(context));
                applying.any(|policy| policy.allows(&member.name))
            });
        let origin = member.origin.as_ref();
        own && origin.is_none_or(|origin| self.allows(context, origin.member))
    }

    /// The public members that the caller may ask for: what error texts offer.
    pub(crate) fn names_for(&self, context: &SecurityContext) -> impl Iterator<Item = &str> {
        let cubes = self.cubes.iter().enumerate();
        let public = cubes.filter(|(_, cube)| cube.public);
        let members = public.flat_map(|(at, cube)| {
            let members = cube.members.iter().enumerate();
            members.map(move |(index, member)| (MemberId { cube: at, index }, member))
        });
        members
            .filter(|(id, member)| member.public && self.allows(context, *id))
            .map(|(_, member)| member.full_name.as_str())
    }
}

/// The claim that `securityContext.path` names.
pub(crate) fn claim_path(reference: &str) -> Option<&str> {
    ["securityContext.", "security_context.", "SECURITY_CONTEXT."]
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix))
}

/// Evaluates a condition such as `security_context.is_manager and not security_context.blocked`.
/// One that cannot be evaluated does not hold.
fn holds(condition: &str, context: &SecurityContext) -> bool {
    let environment = minijinja::Environment::new();
    let claims = super::jinja::value(&context.claims);
    let groups = minijinja::Value::from(context.groups.clone());
    let known = minijinja::context! {
        security_context => claims.clone(), securityContext => claims.clone(), SECURITY_CONTEXT => claims,
        groups,
    };
    environment
        .compile_expression(condition)
        .and_then(|expression| expression.eval(known))
        .is_ok_and(|value| value.is_true())
}

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

/// A list of filters under `key`.
pub(super) fn read_filters(node: &Node<'_>, key: &str, problems: &mut Problems) -> Vec<Filter> {
    let nodes = node.nodes(key, problems);
    let filters = nodes.iter().filter_map(|node| read_filter(node, problems));
    filters.collect()
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

pub(super) fn read_filter(node: &Node<'_>, problems: &mut Problems) -> Option<Filter> {
    for key in ["or", "and"] {
        if node.get(key).is_some() {
            let inner = node.nodes(key, problems);
            let inner = inner
                .iter()
                .filter_map(|node| read_filter(node, problems))
                .collect();
            return Some(if key == "or" {
                Filter::Or { or: inner }
            } else {
                Filter::And { and: inner }
            });
        }
    }
    node.allow(
        &["member", "operator", "values", "unless"],
        "a filter",
        problems,
    );
    let (member, operator) = (
        node.text("member", problems),
        node.text("operator", problems),
    );
    let (Some(member), Some(operator)) = (member, operator) else {
        problems.add(&node.place, "a filter needs \"member\" and \"operator\"");
        return None;
    };
    Some(Filter::member(
        member,
        operator,
        node.texts("values", problems),
    ))
}
