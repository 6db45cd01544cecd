//! Who may see which members and rows: Cube's `access_policy`.

use serde_json::Value;

use super::source::{Node, Problems};
use super::{MemberId, Model};
use crate::query::Filter;

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

/// A list of filters under `key`.
pub(super) fn read_filters(node: &Node<'_>, key: &str, problems: &mut Problems) -> Vec<Filter> {
    let nodes = node.nodes(key, problems);
    let filters = nodes.iter().filter_map(|node| read_filter(node, problems));
    filters.collect()
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
