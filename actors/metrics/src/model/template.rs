//! SQL of the data model with its references: `{CUBE}.col`, `{measure}`, `{other.member}`,
//! `{created_at.month}`. Resolved once, when the model is compiled.

use super::MemberId;

/// One piece of a compiled SQL expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// SQL as the model writes it.
    Text(String),
    /// The table alias of a cube.
    Cube(usize),
    /// A member, evaluated in its place.
    Member(MemberId),
    /// A time dimension at a granularity.
    Granularity(MemberId, String),
    /// A claim of the security context, always bound.
    Claim(String),
    /// `column = claim`; without the claim every row, or an error where it is required.
    ClaimFilter {
        path: String,
        column: String,
        required: bool,
    },
    /// What the query's filters on a member say of a column.
    FilterParams { member: MemberId, column: String },
    /// A value that is always bound, as this type.
    Literal { value: String, kind: &'static str },
    /// A column in the query's time zone.
    Localized(String),
}

/// An SQL expression of the model, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub parts: Vec<Part>,
    /// As the file writes it.
    pub source: String,
}

impl Template {
    /// The members that the expression refers to.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Member(id) | Part::Granularity(id, _) => Some(*id),
            _ => None,
        })
    }

    /// The cubes whose columns it names directly.
    pub fn cubes(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Cube(cube) => Some(*cube),
            _ => None,
        })
    }
}

/// A raw template: text, or the inside of one pair of braces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RawPart {
    Text(String),
    Reference(String),
}

/// Splits SQL at its references. `\{` is a brace, `${…}` the same as `{…}`.
pub(crate) fn split(sql: &str) -> Result<Vec<RawPart>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some('{' | '}')) => {
                text.extend(chars.next());
            }
            '{' => {
                if text.ends_with('$') {
                    text.pop();
                }
                if !text.is_empty() {
                    parts.push(RawPart::Text(std::mem::take(&mut text)));
                }
                let mut inside = String::new();
                loop {
                    match chars.next() {
                        Some('}') => break,
                        Some(c) => inside.push(c),
                        None => return Err(format!("\"{{{inside}\" is not closed with }}")),
                    }
                }
                parts.push(RawPart::Reference(inside.trim().to_owned()));
            }
            _ => text.push(c),
        }
    }
    if !text.is_empty() {
        parts.push(RawPart::Text(text));
    }
    Ok(parts)
}

/// Whether the SQL is a bare column name, which Cube qualifies with the cube's alias.
pub(crate) fn is_bare_column(sql: &str) -> bool {
    let sql = sql.trim();
    let mut chars = sql.chars();
    let bare = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let quoted = sql.len() > 2
        && sql.starts_with('"')
        && sql.ends_with('"')
        && !sql[1..sql.len() - 1].contains('"');
    (bare && !sql.eq_ignore_ascii_case("null")) || quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_from_the_sql_around_them() {
        let parts = split("100.0 * {passed} / NULLIF(${CUBE}.n, 0) || '\\{x\\}'").unwrap();
        assert_eq!(
            parts,
            vec![
                RawPart::Text("100.0 * ".into()),
                RawPart::Reference("passed".into()),
                RawPart::Text(" / NULLIF(".into()),
                RawPart::Reference("CUBE".into()),
                RawPart::Text(".n, 0) || '{x}'".into()),
            ]
        );
        assert!(split("{open").is_err());
        assert!(is_bare_column("run_id") && is_bare_column("\"Run Id\"") && !is_bare_column("a+b"));
    }
}
