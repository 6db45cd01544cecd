//! Who may see which members and rows: Cube's `access_policy`.

use serde_json::Value;

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
