//! Errors that point at the project's files: what was wrong, in which file, on which line.

use std::fmt;
use std::path::PathBuf;

/// A place in a project file; the line is 1-based.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub file: PathBuf,
    pub line: Option<usize>,
}

impl Place {
    /// A file whose line is not known.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            line: None,
        }
    }

    /// A line of a file.
    pub fn line(file: impl Into<PathBuf>, line: usize) -> Self {
        Self {
            file: file.into(),
            line: Some(line),
        }
    }

    /// The first line of `text` that contains `needle`, in `file`.
    pub fn find(file: impl Into<PathBuf>, text: &str, needle: &str) -> Self {
        let line = text.find(needle).map(|at| {
            1 + text.as_bytes()[..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
        });
        Self {
            file: file.into(),
            line,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

/// Why a project could not be read, compiled or selected from. Never retried: the files must change.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file could not be read from disk.
    #[error("{place}: cannot be read: {reason}")]
    Read { place: Place, reason: String },
    /// YAML that does not parse or does not mean anything.
    #[error("{place}: {message}")]
    Yaml { place: Place, message: String },
    /// Jinja that does not compile or does not render.
    #[error("{place}: {message}")]
    Jinja { place: Place, message: String },
    /// A `ref` to a node that the project does not have.
    #[error("{place}: {from} refers to model '{name}', which does not exist{hint}")]
    MissingRef {
        place: Place,
        from: String,
        name: String,
        hint: String,
    },
    /// A `source` that no file declares.
    #[error("{place}: {from} refers to source '{name}', which is not declared{hint}")]
    MissingSource {
        place: Place,
        from: String,
        name: String,
        hint: String,
    },
    /// Two nodes of one name.
    #[error("{second}: {what} '{name}' is already defined in {first}")]
    Duplicate {
        what: &'static str,
        name: String,
        first: Place,
        second: Place,
    },
    /// Nodes that depend on each other in a ring.
    #[error("{place}: models depend on each other in a cycle: {path}")]
    Cycle { place: Place, path: String },
    /// The project asks for something that is not built yet.
    #[error("{place}: {what} is not supported")]
    Unsupported { place: Place, what: String },
    /// A profile, target or flag that cannot be used.
    #[error("{0}")]
    Configuration(String),
}

impl ProjectError {
    /// What dbt calls this kind of error.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Yaml { .. } => "Parsing Error",
            Self::Read { .. } | Self::Cycle { .. } | Self::Configuration(_) => "Runtime Error",
            Self::Jinja { message, .. } if message.starts_with("Env var required") => {
                "Env var Error"
            }
            Self::Jinja { .. }
            | Self::MissingRef { .. }
            | Self::MissingSource { .. }
            | Self::Duplicate { .. }
            | Self::Unsupported { .. } => "Compilation Error",
        }
    }
}

/// The nearest of `names` to `wanted`, as the tail of an error message.
pub(crate) fn nearest_hint<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| (edit_distance(wanted, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(wanted.len()) / 2)
        .map(|(_, name)| format!(" (did you mean '{name}'?)"))
        .unwrap_or_default()
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substitution = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(
            nearest_hint("stg_refils", ["stg_refills", "x"]),
            " (did you mean 'stg_refills'?)"
        );
        assert_eq!(nearest_hint("abc", ["something_else"]), "");
    }
}
