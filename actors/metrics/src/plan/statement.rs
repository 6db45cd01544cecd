//! A statement whose values are never in its text.

use std::fmt::Write;

/// Marks a bound value in the text under construction; YAML allows no such character.
const MARK: char = '\u{1}';

/// SQL text with numbered places for values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    text: String,
    /// The values in the order of their numbers, as text.
    pub params: Vec<String>,
}

impl Statement {
    pub(crate) fn new(text: String, params: Vec<String>) -> Self {
        Self { text, params }
    }

    /// The text with `$1`, `$2`, …: PostgreSQL infers the types of the values.
    pub fn sql(&self) -> String {
        self.render(|number, out| {
            let _ = write!(out, "${number}");
        })
    }

    /// The text with each value cast from text to the type that PostgreSQL inferred for it.
    pub fn typed_sql(&self, types: &[String]) -> String {
        self.render(|number, out| {
            let _ = match types.get(number - 1) {
                Some(name) => write!(out, "(${number}::text)::{name}"),
                None => write!(out, "${number}::text"),
            };
        })
    }

    /// The text with each value as a literal, for a client whose own values are numbered.
    pub(crate) fn literal_sql(&self) -> String {
        self.render(|number, out| {
            let value = self.params.get(number - 1).map_or("", String::as_str);
            out.push_str(&ballpoint_postgres::ident::quote_literal(value));
        })
    }

    fn render(&self, place: impl Fn(usize, &mut String)) -> String {
        let mut out = String::with_capacity(self.text.len() + self.params.len() * 12);
        for (at, piece) in self.text.split(MARK).enumerate() {
            // Between each pair of marks stands a number.
            match piece.parse::<usize>() {
                Ok(number) if at % 2 == 1 => place(number, &mut out),
                _ => out.push_str(piece),
            }
        }
        out
    }
}

/// The placeholder for the value with this number.
pub(crate) fn mark(number: usize) -> String {
    format!("{MARK}{number}{MARK}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_and_cast_outside_the_text() {
        let text = format!("SELECT {} || {} || '$1'", mark(1), mark(2));
        let statement = Statement::new(text, vec!["a".into(), "b".into()]);
        assert_eq!(statement.sql(), "SELECT $1 || $2 || '$1'");
        let types = ["text".to_owned(), "int4".to_owned()];
        assert_eq!(
            statement.typed_sql(&types),
            "SELECT ($1::text)::text || ($2::text)::int4 || '$1'"
        );
    }
}
