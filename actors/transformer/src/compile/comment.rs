//! The comment of a node's statements, rendered.

use minijinja::value::Value;
use serde_json::json;

use super::Compiler;
use crate::error::{Place, ProjectError};
use crate::jinja::builtins::mutable;
use crate::project::comment::Wording;
use crate::project::node::Node;

/// What stands beside each statement of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comment {
    /// Empty if there is none.
    text: String,
    is_appended: bool,
}

impl Comment {
    /// A statement as it is sent.
    pub(crate) fn on(&self, sql: &str) -> String {
        if self.text.is_empty() {
            return sql.to_owned();
        }
        if !self.is_appended {
            return format!("{}{sql}", self.before());
        }
        let sql = sql.trim_end();
        match sql.strip_suffix(';') {
            Some(open) => format!("{open}\n/* {} */;", self.text),
            None => format!("{sql}\n/* {} */", self.text),
        }
    }

    /// What stands before a statement.
    pub(crate) fn before(&self) -> String {
        match self.text.is_empty() || self.is_appended {
            true => String::new(),
            false => format!("/* {} */\n", self.text),
        }
    }
}

impl Compiler {
    /// The comment of a node's statements; without a node, of those that belong to none.
    ///
    /// # Errors
    /// When the project's template does not render, or would end the comment.
    pub(crate) fn comment(&self, node: Option<&Node>) -> Result<Comment, ProjectError> {
        let asked = &self.project.query_comment;
        let text = match &asked.wording {
            Wording::Nothing => return Ok(Comment::default()),
            Wording::Facts => self.facts(node),
            Wording::Template(template) => self.worded(template, node)?,
        };
        if text.contains("*/") {
            return Err(ProjectError::Configuration(format!(
                "query comment contains illegal value \"*/\": {text}"
            )));
        }
        Ok(Comment {
            text: text.trim().to_owned(),
            is_appended: asked.is_appended,
        })
    }

    /// dbt's own comment, as Python writes JSON.
    fn facts(&self, node: Option<&Node>) -> String {
        let target = &self.globals.target;
        let of = |key: &str| target.get(key).cloned().unwrap_or_default();
        let whose = match node {
            Some(node) => ("node_id", json!(node.unique_id)),
            None => ("connection_name", json!("master")),
        };
        let facts = [
            ("app", json!("dbt")),
            ("dbt_version", json!(crate::artifacts::DBT_VERSION)),
            ("profile_name", of("profile_name")),
            ("target_name", of("target_name")),
            whose,
        ];
        let facts = facts.map(|(key, value)| format!("\"{key}\": {value}"));
        format!("{{{}}}", facts.join(", "))
    }

    fn worded(&self, template: &str, node: Option<&Node>) -> Result<String, ProjectError> {
        let shown = match node {
            Some(node) => mutable(&crate::artifacts::model_json(
                &self.project,
                node,
                &self.relation_of(node),
            )),
            None => Value::from(()),
        };
        let name = node.map_or("master", |node| node.unique_id.as_str());
        let scope = crate::jinja::context::package_scope(&self.globals, &self.project.name);
        let names = [("node", shown), ("connection_name", Value::from(name))];
        let scope = minijinja::context! { ..Value::from_pairs(names), ..scope };
        let place = Place::file("dbt_project.yml");
        self.project.engine.render_text(template, &place, scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_stands_before_or_behind_and_inside_the_statement() {
        let comment = |is_appended| Comment {
            text: "whose".to_owned(),
            is_appended,
        };
        assert_eq!(comment(false).on("select 1;"), "/* whose */\nselect 1;");
        assert_eq!(comment(true).on("select 1;\n"), "select 1\n/* whose */;");
        assert_eq!(comment(true).on("select 1"), "select 1\n/* whose */");
        assert_eq!(comment(true).before(), "");
        assert_eq!(Comment::default().on("select 1"), "select 1");
    }
}
