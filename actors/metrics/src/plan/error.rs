//! Why a query gets no rows. The texts are Cube's where Cube has one.

use crate::model::{Model, SecurityContext, nearest};

/// A query that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The request is at fault: 400.
    #[error("{0}")]
    Invalid(String),
    /// As [`QueryError::Invalid`], found while the query was planned against the model.
    #[error("{0}")]
    Unplannable(String),
    /// Members that the caller may not see: 403.
    #[error("{0}")]
    Denied(String),
    /// PostgreSQL refused the statement: 400.
    #[error("{message}")]
    Database {
        message: String,
        code: Option<String>,
    },
    /// The statement took longer than it may: 400.
    #[error(
        "the query took longer than {seconds} s and was cancelled; ask for a shorter range or fewer dimensions"
    )]
    TooSlow { seconds: u64 },
    /// The warehouse or the registry cannot be reached: 503.
    #[error("{0}")]
    Unavailable(String),
}

impl QueryError {
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_)
            | Self::Unplannable(_)
            | Self::Database { .. }
            | Self::TooSlow { .. } => 400,
            Self::Denied(_) => 403,
            Self::Unavailable(_) => 503,
        }
    }

    /// The body that Cube's clients read.
    pub fn body(&self) -> serde_json::Value {
        match self {
            Self::Unplannable(message) => {
                serde_json::json!({ "type": "UserError", "error": message })
            }
            other => serde_json::json!({ "error": other.to_string() }),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A member that the model does not have, with the nearest ones that the caller may see.
    pub(crate) fn unknown_member(model: &Model, context: &SecurityContext, path: &str) -> Self {
        let (cube, member) = path.split_once('.').unwrap_or((path, ""));
        let is_of_cube = |name: &str| name.split_once('.').is_some_and(|(it, _)| it == cube);
        let base = if model.names_for(context).any(is_of_cube) {
            format!("'{member}' not found for path '{path}'")
        } else {
            format!("Cube '{cube}' not found for path '{path}'")
        };
        let near = nearest(path, model.names_for(context), 3);
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!(". Nearest: {}", near.join(", "))
        };
        Self::Unplannable(format!("{base}{hint}"))
    }

    pub(crate) fn hidden(model: &Model, cube: usize, member: &str) -> Self {
        let alias = &model.cubes[cube].name;
        Self::Denied(format!(
            "Error: You requested hidden member: '{alias}__{member}'. Please make it visible using \
             `public: true`. Please note primaryKey fields are `public: false` by default: \
             https://cube.dev/docs/schema/reference/joins#setting-a-primary-key."
        ))
    }
}
