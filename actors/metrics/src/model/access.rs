//! Who may see which members and rows: Cube's `access_policy`.

use serde_json::Value;

use super::source::{Node, Problems};
use super::views::includes_of;
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
    /// Short member names; `None` is all.
    pub includes: Option<Vec<String>>,
    pub excludes: Vec<String>,
    /// Expressions over the security context, all of which must hold for the policy to apply.
    pub conditions: Vec<String>,
    /// Members that are seen, but not their values.
    pub masking: Option<Masking>,
    /// Conditions on rows, all of which must hold; empty is every row. Values may hold
    /// `{ securityContext.claim }`.
    pub row_filters: Vec<Filter>,
}

/// Members whose values a policy hides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Masking {
    /// Short member names; `None` is all.
    pub includes: Option<Vec<String>>,
    pub excludes: Vec<String>,
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
        lists(self.includes.as_ref(), &self.excludes, member)
    }

    /// Whether the policy lets the member be asked for, masked or not.
    pub fn allows(&self, member: &str) -> bool {
        let is_masked =
            |masking: &Masking| lists(masking.includes.as_ref(), &masking.excludes, member);
        self.shows(member) || self.masking.as_ref().is_some_and(is_masked)
    }
}

fn lists(includes: Option<&Vec<String>>, excludes: &[String], member: &str) -> bool {
    includes.is_none_or(|names| names.iter().any(|name| name == member))
        && !excludes.iter().any(|name| name == member)
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

/// `access_policy` of a cube or view.
pub(super) fn read_policies(node: &Node<'_>, problems: &mut Problems) -> Option<Vec<Policy>> {
    node.get("access_policy")?;
    let mut policies = Vec::new();
    for item in node.nodes("access_policy", problems) {
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
        let level = item.node("member_level", problems);
        let includes = level
            .as_ref()
            .and_then(|level| includes_of(level, "includes", problems));
        let excludes = level
            .map(|level| level.texts("excludes", problems))
            .unwrap_or_default();
        let mut row_filters = Vec::new();
        if let Some(rows) = item.node("row_level", problems) {
            rows.allow(&["filters", "allow_all"], "\"row_level\"", problems);
            for filter in rows.nodes("filters", problems) {
                row_filters.extend(read_filter(&filter, problems));
            }
        }
        let masking = item.node("member_masking", problems).map(|node| {
            node.allow(&["includes", "excludes"], "\"member_masking\"", problems);
            Masking {
                includes: includes_of(&node, "includes", problems),
                excludes: node.texts("excludes", problems),
            }
        });
        policies.push(Policy {
            groups,
            conditions: read_conditions(&item, problems),
            masking,
            includes,
            excludes,
            row_filters,
        });
    }
    Some(policies)
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
