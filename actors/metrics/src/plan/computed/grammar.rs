//! The grammar of a query's own measures.

use super::Extended;
use crate::model::{Aggregation, Definition, Part, nearest};
use crate::plan::QueryError;
use crate::query::Computed;

/// Longest expression, in bytes, and how deep it may be nested.
const LENGTH_MAX: usize = 4_096;
const DEPTH_MAX: usize = 48;

const FUNCTIONS: [&str; 22] = [
    "abs", "ceil", "coalesce", "exp", "floor", "greatest", "least", "length", "ln", "log", "lower",
    "mod", "nullif", "power", "replace", "round", "sign", "sqrt", "substr", "trim", "trunc",
    "upper",
];
const AGGREGATES: [(&str, Aggregation); 5] = [
    ("sum", Aggregation::Sum),
    ("avg", Aggregation::Avg),
    ("min", Aggregation::Min),
    ("max", Aggregation::Max),
    ("count", Aggregation::Count),
];
const TYPES: [&str; 9] = [
    "numeric",
    "integer",
    "int",
    "bigint",
    "float",
    "real",
    "text",
    "date",
    "timestamp",
];
const COMPARISONS: [&str; 7] = ["=", "<>", "!=", "<=", ">=", "<", ">"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Number(String),
    Text(String),
    /// A word in lower case is a keyword or function, as written a member.
    Word(String),
    Reference(String),
    Sign(&'static str),
}

/// Reads one expression and writes it as parts.
pub(super) struct Parser<'p, 'a> {
    model: &'p mut Extended<'a>,
    name: &'p str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    in_aggregate: bool,
    parts: Vec<Part>,
}

impl<'p, 'a> Parser<'p, 'a> {
    pub(super) fn read(
        model: &'p mut Extended<'a>,
        measure: &'p Computed,
    ) -> Result<Vec<Part>, QueryError> {
        let mut parser = Self {
            model,
            name: &measure.name,
            tokens: Vec::new(),
            at: 0,
            depth: 0,
            in_aggregate: false,
            parts: Vec::new(),
        };
        parser.tokens = tokens(&measure.sql).map_err(|what| parser.wrong(&what))?;
        parser.expression()?;
        match parser.peek() {
            None => Ok(parser.parts),
            Some(token) => {
                let what = format!("unexpected {}", shown(&token.clone()));
                Err(parser.wrong(&what))
            }
        }
    }

    fn wrong(&self, what: &str) -> QueryError {
        QueryError::Invalid(format!("the sql of '{}' cannot be read: {what}", self.name))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, QueryError> {
        let token = self.peek().cloned();
        self.at += 1;
        token.ok_or_else(|| self.wrong("it ends too early"))
    }

    fn write(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(text)) if text.eq_ignore_ascii_case(word))
    }

    /// Takes a keyword and writes it.
    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.at += 1;
            self.write(&format!(" {} ", word.to_uppercase()));
        }
        found
    }

    fn take_sign(&mut self, signs: &[&str]) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                let sign = *sign;
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn expect_sign(&mut self, sign: &'static str) -> Result<(), QueryError> {
        match self.take_sign(&[sign]) {
            Some(sign) => {
                self.write(sign);
                Ok(())
            }
            None => {
                let found = self
                    .peek()
                    .map_or("its end".to_owned(), |t| shown(&t.clone()));
                Err(self.wrong(&format!("\"{sign}\" is missing before {found}")))
            }
        }
    }

    fn expression(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("it is nested too deep"));
        }
        loop {
            while self.take_word("not") {}
            self.comparison()?;
            if !self.take_word("and") && !self.take_word("or") {
                break;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn comparison(&mut self) -> Result<(), QueryError> {
        self.sum()?;
        if let Some(sign) = self.take_sign(&COMPARISONS) {
            self.write(&format!(" {sign} "));
            return self.sum();
        }
        if self.take_word("is") {
            self.take_word("not");
            return match self.take_word("null") {
                true => Ok(()),
                false => Err(self.wrong("IS needs NULL")),
            };
        }
        let negated = self.is_word("not");
        if negated {
            self.take_word("not");
        }
        if self.take_word("in") {
            self.expect_sign("(")?;
            return self.list();
        }
        if self.take_word("between") {
            self.sum()?;
            return match self.take_word("and") {
                true => self.sum(),
                false => Err(self.wrong("BETWEEN needs AND")),
            };
        }
        match negated {
            true => Err(self.wrong("NOT needs IN or BETWEEN here")),
            false => Ok(()),
        }
    }

    /// Expressions with commas between, and the closing parenthesis.
    fn list(&mut self) -> Result<(), QueryError> {
        loop {
            self.expression()?;
            if self.take_sign(&[","]).is_none() {
                return self.expect_sign(")");
            }
            self.write(", ");
        }
    }

    fn sum(&mut self) -> Result<(), QueryError> {
        loop {
            self.product()?;
            match self.take_sign(&["+", "-", "||"]) {
                Some(sign) => self.write(&format!(" {sign} ")),
                None => return Ok(()),
            }
        }
    }

    fn product(&mut self) -> Result<(), QueryError> {
        loop {
            while self.take_sign(&["-"]).is_some() {
                // With a space: two signs would begin a comment.
                self.write("- ");
            }
            self.value()?;
            match self.take_sign(&["*", "/", "%"]) {
                Some(sign) => self.write(&format!(" {sign} ")),
                None => return Ok(()),
            }
        }
    }

    fn value(&mut self) -> Result<(), QueryError> {
        self.single()?;
        while self.take_sign(&["::"]).is_some() {
            let name = self.type_name()?;
            self.write(&format!("::{name}"));
        }
        Ok(())
    }

    fn single(&mut self) -> Result<(), QueryError> {
        match self.next()? {
            Token::Number(value) => self.parts.push(Part::Literal {
                value,
                kind: "numeric",
            }),
            Token::Text(value) => self.parts.push(Part::Literal {
                value,
                kind: "text",
            }),
            Token::Reference(path) => return self.reference(&path),
            Token::Sign("(") => {
                self.write("(");
                self.expression()?;
                return self.expect_sign(")");
            }
            Token::Word(word) => return self.word(&word),
            other => return Err(self.wrong(&format!("unexpected {}", shown(&other)))),
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), QueryError> {
        if word.contains('.') {
            return self.reference(word);
        }
        let lower = word.to_lowercase();
        let called = self.peek() == Some(&Token::Sign("("));
        match lower.as_str() {
            "null" | "true" | "false" => {
                self.write(&lower.to_uppercase());
                Ok(())
            }
            "case" => self.case(),
            "cast" if called => {
                self.at += 1;
                self.write("CAST(");
                self.expression()?;
                if !self.take_word("as") {
                    return Err(self.wrong("CAST needs AS and a type"));
                }
                let name = self.type_name()?;
                self.write(&name);
                self.expect_sign(")")
            }
            _ if called => self.call(&lower),
            _ if self.model.model.find(word).is_some() => self.reference(word),
            _ => Err(self.wrong(&format!("\"{word}\" is neither a function nor Cube.member"))),
        }
    }

    fn call(&mut self, name: &str) -> Result<(), QueryError> {
        self.at += 1;
        if let Some((_, aggregation)) = AGGREGATES.iter().find(|(known, _)| *known == name) {
            return self.aggregate(*aggregation);
        }
        if !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS
                .into_iter()
                .chain(AGGREGATES.map(|(name, _)| name));
            let near = nearest(name, known, 1);
            let hint = near
                .first()
                .map_or_else(String::new, |n| format!(", did you mean \"{n}\"?"));
            return Err(self.wrong(&format!("the function \"{name}\" is not allowed{hint}")));
        }
        self.write(&format!("{name}("));
        self.list()
    }

    fn aggregate(&mut self, aggregation: Aggregation) -> Result<(), QueryError> {
        if self.in_aggregate {
            return Err(self.wrong("an aggregate is inside another"));
        }
        let distinct = self.is_word("distinct");
        if distinct {
            self.at += 1;
        }
        let aggregation = match (aggregation, distinct) {
            (Aggregation::Count, true) => Aggregation::CountDistinct,
            (_, true) => return Err(self.wrong("DISTINCT is for count")),
            (other, false) => other,
        };
        let outside = std::mem::take(&mut self.parts);
        self.in_aggregate = true;
        self.expression()?;
        self.expect_sign(")")?;
        self.in_aggregate = false;
        let mut inside = std::mem::replace(&mut self.parts, outside);
        // The closing parenthesis is the aggregate's own.
        inside.pop();
        let id = self.model.add_aggregate(aggregation, inside)?;
        self.parts.push(Part::Member(id));
        Ok(())
    }

    fn case(&mut self) -> Result<(), QueryError> {
        self.write("CASE");
        if !self.is_word("when") {
            return Err(self.wrong("CASE needs WHEN"));
        }
        while self.take_word("when") {
            self.expression()?;
            if !self.take_word("then") {
                return Err(self.wrong("WHEN needs THEN"));
            }
            self.expression()?;
        }
        if self.take_word("else") {
            self.expression()?;
        }
        match self.take_word("end") {
            true => Ok(()),
            false => Err(self.wrong("CASE needs END")),
        }
    }

    fn type_name(&mut self) -> Result<String, QueryError> {
        let Token::Word(word) = self.next()? else {
            return Err(self.wrong("a type is missing"));
        };
        let lower = word.to_lowercase();
        if lower == "double" {
            // `double precision` is the only type of two words.
            if self.is_word("precision") {
                self.at += 1;
            }
            return Ok("double precision".to_owned());
        }
        if TYPES.contains(&lower.as_str()) {
            return Ok(lower);
        }
        Err(self.wrong(&format!("the type \"{word}\" is not allowed")))
    }

    fn reference(&mut self, path: &str) -> Result<(), QueryError> {
        let id = self.model.member(path)?;
        let is_measure = match self.model.model.member(id).definition {
            Definition::Measure(_) => true,
            Definition::Dimension(_) => false,
            Definition::Segment(_) => return Err(self.wrong(&format!("'{path}' is a segment"))),
        };
        match (is_measure, self.in_aggregate) {
            (true, true) => {
                Err(self.wrong(&format!("'{path}' is a measure: it is aggregated already")))
            }
            (false, false) => Err(self.wrong(&format!(
                "'{path}' is a dimension: put it into an aggregate such as sum(…)"
            ))),
            _ => {
                self.parts.push(Part::Member(id));
                Ok(())
            }
        }
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Number(text) | Token::Word(text) => format!("\"{text}\""),
        Token::Text(text) => format!("'{text}'"),
        Token::Reference(path) => format!("{{{path}}}"),
        Token::Sign(sign) => format!("\"{sign}\""),
    }
}

fn tokens(sql: &str) -> Result<Vec<Token>, String> {
    const SIGNS: [&str; 17] = [
        "::", "<>", "!=", "<=", ">=", "||", "(", ")", ",", "+", "-", "*", "/", "%", "=", "<", ">",
    ];
    if sql.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '\'' {
            text(rest)?
        } else if first == '{' || rest.starts_with("${") {
            let end = rest.find('}').ok_or("\"{\" is not closed")?;
            let path = rest[..end].trim_start_matches(['$', '{']).trim();
            (Token::Reference(path.to_owned()), end + 1)
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let number = &rest[..end.unwrap_or(rest.len())];
            if number.matches('.').count() > 1 || number.ends_with('.') {
                return Err(format!("\"{number}\" is not a number"));
            }
            (Token::Number(number.to_owned()), number.len())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let end = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("unexpected \"{first}\""))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A text in single quotes, a doubled one inside standing for itself.
fn text(rest: &str) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '\'') {
            chars.next();
            value.push('\'');
        } else {
            return Ok((Token::Text(value), at + 1));
        }
    }
    Err("a text is not closed".to_owned())
}
