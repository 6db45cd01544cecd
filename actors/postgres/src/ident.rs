//! Names and text into SQL: the only place where an identifier or a literal is quoted.
//!
//! Every schema, table and column that comes from a source, a model or a user passes through here.
//! A name with a NUL byte cannot exist in PostgreSQL and cannot be written in SQL: [`check`] refuses it
//! with a reason; quoted all the same, it makes a statement that the server refuses, never another one.

/// The longest identifier that PostgreSQL keeps, in bytes; it cuts longer ones off silently.
pub const IDENT_BYTES_MAX: usize = 63;

/// Why a name cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// `""` is no identifier.
    #[error("a name is empty")]
    Empty,
    /// NUL ends a string in PostgreSQL's protocol.
    #[error("name {name:?} contains a NUL byte")]
    Nul {
        /// The name as given.
        name: String,
    },
    /// The server would cut it off, and two names could become one.
    #[error("name {name:?} is {bytes} bytes long; postgresql keeps {IDENT_BYTES_MAX}")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Checks that `name` can be an identifier, unchanged.
///
/// # Errors
/// When it is empty, contains NUL or is longer than [`IDENT_BYTES_MAX`].
pub fn check(name: &str) -> Result<(), IdentError> {
    if name.is_empty() {
        return Err(IdentError::Empty);
    }
    if name.contains('\0') {
        return Err(IdentError::Nul {
            name: name.to_owned(),
        });
    }
    if name.len() > IDENT_BYTES_MAX {
        return Err(IdentError::TooLong {
            name: name.to_owned(),
            bytes: name.len(),
        });
    }
    Ok(())
}

/// `name` as a quoted identifier: `we"ird` becomes `"we""ird"`.
#[must_use]
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for character in name.chars() {
        if character == '"' {
            quoted.push('"');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// `"schema"."name"`.
#[must_use]
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// `text` as a string literal, right whatever `standard_conforming_strings` is set to
/// (a backslash makes it an `E'…'` literal, as the server's own `quote_literal` does).
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        quoted.push('E');
    }
    quoted.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}
