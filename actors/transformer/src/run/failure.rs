//! Why a node failed, in words, and whether trying again can help.

use crate::project::node::Node;

/// How the message of a node begins that lost its connection and got no other.
pub(crate) const SERVER_GONE: &str = "the connection was lost";

/// Why a node failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Whether the same statement may succeed later.
    pub(crate) transient: bool,
    /// Whether the connection is gone with it.
    pub(crate) lost: bool,
    /// Where PostgreSQL points at, in characters of the statement, from 1.
    pub(crate) position: Option<usize>,
    /// PostgreSQL's SQLSTATE.
    pub(crate) code: Option<String>,
}

impl Failure {
    /// No connection, and none to be had.
    pub(crate) fn gone(reason: &str) -> Self {
        Self {
            transient: true,
            lost: true,
            ..Self::lasting(format!("{SERVER_GONE}: {reason}"))
        }
    }

    /// A failure that no later attempt mends.
    pub(crate) fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            transient: false,
            lost: false,
            position: None,
            code: None,
        }
    }

    /// The same failure of a statement that was sent behind a text.
    pub(crate) fn behind(mut self, text: &str) -> Self {
        let offset = text.chars().count();
        self.position = self.position.and_then(|at| at.checked_sub(offset));
        self
    }

    /// Says which line of the compiled query it was, and where that line is written if it stands
    /// in the template as it is. `before` is what stood before the query in the statement.
    pub(crate) fn pointing_at(mut self, node: &Node, compiled: &str, before: &str) -> Self {
        let offset = before.chars().count();
        let Some(position) = self.position.and_then(|at| at.checked_sub(offset + 1)) else {
            return self;
        };
        let Some((line, column, text)) = line_at(compiled, position) else {
            return self;
        };
        self.message
            .push_str(&format!("\n  LINE {line}: {}", text.trim_end()));
        let caret = "\n  LINE ".len() - 3 + line.to_string().len() + 2 + column;
        self.message
            .push_str(&format!("\n  {}^", " ".repeat(caret.saturating_sub(1))));
        if let Some(source) = only_line_like(&node.raw_code, text) {
            let file = &node.original_file_path;
            self.message.push_str(&format!(
                "\n  at {file}:{}:{}",
                source + 1,
                column_in(&node.raw_code, source, text, column)
            ));
        }
        self
    }
}

/// The line (from 1), column (from 1) and text at a character (from 0).
fn line_at(text: &str, position: usize) -> Option<(usize, usize, &str)> {
    let mut passed = 0;
    for (index, line) in text.split('\n').enumerate() {
        let length = line.chars().count();
        if position <= passed + length {
            return Some((index + 1, position - passed + 1, line));
        }
        passed += length + 1;
    }
    None
}

/// The one line of the template that reads like this line of the compiled query.
fn only_line_like(template: &str, line: &str) -> Option<usize> {
    let wanted = line.trim();
    let mut found = template
        .lines()
        .enumerate()
        .filter(|(_, candidate)| candidate.trim() == wanted && !wanted.is_empty());
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index)
}

/// The column in the template of a column of the compiled line: both may be indented differently.
fn column_in(template: &str, index: usize, line: &str, column: usize) -> usize {
    let indent = |text: &str| text.chars().take_while(|c| c.is_whitespace()).count();
    let source = template.lines().nth(index).unwrap_or_default();
    (column + indent(source))
        .saturating_sub(indent(line))
        .max(1)
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self {
            transient: is_transient(&error),
            lost: is_lost(&error),
            position: position(&error),
            code: error
                .as_database_error()
                .and_then(|database| database.code())
                .map(std::borrow::Cow::into_owned),
            message: describe(&error),
        }
    }
}

impl From<crate::error::ProjectError> for Failure {
    fn from(error: crate::error::ProjectError) -> Self {
        Self::lasting(error.to_string())
    }
}

fn position(error: &sqlx::Error) -> Option<usize> {
    use sqlx::postgres::{PgDatabaseError, PgErrorPosition};
    let postgres = error
        .as_database_error()?
        .try_downcast_ref::<PgDatabaseError>()?;
    match postgres.position()? {
        PgErrorPosition::Original(at) => Some(at),
        PgErrorPosition::Internal { .. } => None,
    }
}

/// Whether the connection that a statement ran on is of no use any more.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57P")),
        _ => false,
    }
}

/// Whether the same statement may succeed later: by SQLSTATE class, or a lost connection.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            let class = &code[..2.min(code.len())];
            matches!(class, "08" | "40" | "53" | "57" | "58") || code == "55P03"
        }),
        _ => false,
    }
}

/// Whether a node is tried again at once: what another transaction or a restart caused, and not what
/// somebody asked for (a cancel, a time-out of a statement or of a lock).
pub(crate) fn is_worth_another_try(failure: &Failure) -> bool {
    let code = failure.code.as_deref();
    failure.lost || code.is_some_and(|code| matches!(code, "40001" | "40P01" | "53300"))
}

/// PostgreSQL's message with its code, detail and hint.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return error.to_string();
    };
    let Some(postgres) = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() else {
        return database.to_string();
    };
    let mut text = format!("{} (SQLSTATE {})", postgres.message(), postgres.code());
    for (label, part) in [("DETAIL", postgres.detail()), ("HINT", postgres.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {label}: {part}"));
        }
    }
    text
}
