//! `query-comment` of the project file: what stands beside each statement, so that the server's log
//! and its list of sessions tell whose it is.

use serde_json::Value as Json;

/// What is sent with every statement of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryComment {
    pub(crate) wording: Wording,
    /// Behind the statement instead of before it.
    pub(crate) is_appended: bool,
}

/// The comment's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wording {
    /// dbt's own: facts of the node as JSON.
    Facts,
    /// A template, rendered for each node.
    Template(String),
    Nothing,
}

impl QueryComment {
    /// As the project file has it, unrendered: absent, a text, or a mapping.
    pub(crate) fn of(file: &Json) -> Self {
        let given = file.get("query-comment");
        let (text, is_appended) = match given {
            Some(Json::Object(map)) => (
                map.get("comment"),
                map.get("append").and_then(Json::as_bool).unwrap_or(false),
            ),
            other => (other, false),
        };
        let wording = match text {
            None => Wording::Facts,
            Some(Json::String(text)) if !text.trim().is_empty() => Wording::Template(text.clone()),
            Some(_) => Wording::Nothing,
        };
        Self {
            wording,
            is_appended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_comment_is_dbt_s_own_a_template_or_none() {
        let of = |comment: Json| QueryComment::of(&json!({ "query-comment": comment }));
        assert_eq!(QueryComment::of(&json!({})).wording, Wording::Facts);
        assert_eq!(of(json!("x")).wording, Wording::Template("x".to_owned()));
        assert_eq!(of(json!("")).wording, Wording::Nothing);
        assert_eq!(of(Json::Null).wording, Wording::Nothing);
        let appended = of(json!({"append": true}));
        assert_eq!(
            (appended.wording, appended.is_appended),
            (Wording::Facts, true)
        );
    }
}
