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
        let value = path
            .split('.')
            .try_fold(&self.claims, |value, key| value.get(key))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
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
    /// Conditions on rows, all of which must hold; empty is every row. Values may hold
    /// `{ securityContext.claim }`.
    pub row_filters: Vec<Filter>,
}

impl Policy {
    pub fn applies_to(&self, context: &SecurityContext) -> bool {
        self.groups
            .iter()
            .any(|group| group == "*" || context.groups.contains(group))
    }

    pub fn allows(&self, member: &str) -> bool {
        self.includes
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == member))
            && !self.excludes.iter().any(|name| name == member)
    }
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
        if item.get("conditions").is_some() || item.get("member_masking").is_some() {
            let message =
                "\"conditions\" and \"member_masking\" of access policies are not supported";
            problems.add(&item.place, message);
        }
        let groups = ["group", "groups", "role"]
            .iter()
            .flat_map(|key| item.texts(key, problems))
            .collect();
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
        policies.push(Policy {
            groups,
            includes,
            excludes,
            row_filters,
        });
    }
    Some(policies)
}

fn read_filter(node: &Node<'_>, problems: &mut Problems) -> Option<Filter> {
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
    node.allow(&["member", "operator", "values"], "a filter", problems);
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
