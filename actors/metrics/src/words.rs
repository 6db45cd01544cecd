//! The words of an SQL text: dotted names, calls and literals, without its grammar. Enough to say
//! which relations a statement *may* read; a word too many only makes somebody look once more, and
//! none is missed: the text is cut as PostgreSQL's own scanner cuts it.

/// What stands in an SQL text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Names as PostgreSQL folds them, each a chain of what dots connect.
    pub(crate) names: Vec<Vec<String>>,
    /// The last of each chain that an opening parenthesis follows.
    pub(crate) calls: Vec<String>,
    /// Calls of functions in a schema that is not PostgreSQL's own.
    pub(crate) foreign_calls: Vec<String>,
    /// The contents of string literals, in lower case.
    pub(crate) literals: Vec<String>,
    /// The first word of each statement.
    pub(crate) starts: Vec<String>,
    /// The first few words of each statement.
    pub(crate) heads: Vec<Vec<String>>,
    /// Names without quotes, in order: what may be a keyword.
    pub(crate) bare: Vec<String>,
    /// A name in `U&"…"`, whose escapes are not read here.
    pub(crate) has_escaped_name: bool,
}

/// Words whose value is another one tomorrow.
const UNSTEADY_WORDS: [&str; 7] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
];

/// Functions whose value is another one the next time.
const UNSTEADY_CALLS: [&str; 15] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "age",
    "random",
    "random_normal",
    "gen_random_uuid",
    "current_setting",
    "nextval",
    "currval",
    "lastval",
    "txid_current",
    "pg_current_xact_id",
];

/// Literals that mean another moment tomorrow.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Words that tell what a statement is.
const HEAD_WORDS: usize = 4;

/// Words after which a name with parentheses is no call.
const NAMING: [&str; 3] = ["as", "with", "recursive"];

/// The schemas that PostgreSQL's own functions are in.
const OWN_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

enum Token {
    Name(String),
    Literal(String),
    Dot,
    Open,
    End,
    Other,
}

impl Words {
    /// Reads an SQL text; comments are no words.
    pub(crate) fn of(sql: &str) -> Self {
        let mut words = Self::default();
        let mut tokens = Vec::new();
        let mut rest = sql;
        while !rest.is_empty() {
            let (token, after) = token(rest, &mut words.has_escaped_name);
            if let Some(Token::Name(name)) = &token
                && rest.starts_with(is_start)
            {
                words.bare.push(name.clone());
            }
            tokens.extend(token);
            rest = after;
        }
        words.gather(tokens);
        words
    }

    fn gather(&mut self, tokens: Vec<Token>) {
        let mut chain: Vec<String> = Vec::new();
        let (mut dotted, mut begins) = (false, true);
        let mut before: Option<String> = None;
        for token in tokens {
            match token {
                Token::Name(name) => {
                    if !dotted {
                        before = chain.last().cloned();
                        self.end_of(&mut chain);
                    }
                    if std::mem::take(&mut begins) {
                        self.starts.push(name.clone());
                        self.heads.push(Vec::new());
                    }
                    let head = self.heads.last_mut().filter(|head| head.len() < HEAD_WORDS);
                    head.into_iter().for_each(|head| head.push(name.clone()));
                    chain.push(name);
                    dotted = false;
                    continue;
                }
                Token::Dot => {
                    dotted = true;
                    continue;
                }
                // What follows AS or WITH is an alias with its columns, or a type with its size.
                Token::Open if before.as_deref().is_some_and(|it| NAMING.contains(&it)) => {}
                Token::Open => {
                    self.calls.extend(chain.last().cloned());
                    if let [.., schema, _] = chain.as_slice()
                        && !OWN_SCHEMAS.contains(&schema.as_str())
                    {
                        self.foreign_calls.push(chain.join("."));
                    }
                }
                Token::Literal(text) => self.literals.push(text.trim().to_lowercase()),
                Token::End => begins = true,
                Token::Other => {}
            }
            dotted = false;
            before = None;
            self.end_of(&mut chain);
        }
        self.end_of(&mut chain);
    }

    fn end_of(&mut self, chain: &mut Vec<String>) {
        if !chain.is_empty() {
            self.names.push(std::mem::take(chain));
        }
    }

    /// Whether the text's value depends on nothing but tables.
    pub(crate) fn is_steady(&self) -> bool {
        let unsteady = |name: &String| UNSTEADY_WORDS.contains(&name.as_str());
        let unsteady_call = |name: &String| UNSTEADY_CALLS.contains(&name.as_str());
        let moment = |text: &String| MOMENTS.contains(&text.as_str());
        !self.names.iter().flatten().any(unsteady)
            && !self.calls.iter().any(unsteady_call)
            && !self.literals.iter().any(moment)
    }

    /// Whatever may be the name of a relation, as SQL reads it: `"name"` or `"schema"."name"`.
    pub(crate) fn candidates(&self) -> Vec<String> {
        use ballpoint_postgres::ident::{quote, quote_qualified};
        let mut all: Vec<String> = Vec::new();
        for chain in &self.names {
            all.extend(
                chain
                    .iter()
                    .filter(|name| !name.is_empty())
                    .map(|name| quote(name)),
            );
            let pairs = chain
                .windows(2)
                .filter(|pair| pair.iter().all(|name| !name.is_empty()));
            all.extend(pairs.map(|pair| quote_qualified(&pair[0], &pair[1])));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The first token of a text, nothing for space and comments, and what follows it.
fn token<'t>(text: &'t str, has_escaped_name: &mut bool) -> (Option<Token>, &'t str) {
    let Some(c) = text.chars().next() else {
        return (None, "");
    };
    if text.starts_with("--") {
        let end = text.find(['\n', '\r']).unwrap_or(text.len());
        return (None, &text[end..]);
    }
    if text.starts_with("/*") {
        return (None, after_comment(text));
    }
    if let Some((body, after)) = dollar_quoted(text) {
        return (Some(Token::Literal(body.to_owned())), after);
    }
    let rest = &text[c.len_utf8()..];
    match c {
        '\'' => {
            let (body, after) = quoted(text, '\'', false);
            (Some(Token::Literal(body)), after)
        }
        '"' => {
            let (name, after) = quoted(text, '"', false);
            (Some(Token::Name(name)), after)
        }
        'e' | 'E' if rest.starts_with('\'') => {
            let (body, after) = quoted(rest, '\'', true);
            (Some(Token::Literal(body)), after)
        }
        'u' | 'U' if rest.starts_with("&\"") => {
            *has_escaped_name = true;
            let (name, after) = quoted(&rest[1..], '"', false);
            (Some(Token::Name(name)), after)
        }
        c if is_start(c) => {
            let end = text.find(|c| !is_inside(c)).unwrap_or(text.len());
            (
                Some(Token::Name(text[..end].to_ascii_lowercase())),
                &text[end..],
            )
        }
        '.' => (Some(Token::Dot), rest),
        '(' => (Some(Token::Open), rest),
        ';' => (Some(Token::End), rest),
        c if c.is_ascii_whitespace() => (None, rest),
        _ => (Some(Token::Other), rest),
    }
}

/// Every character beyond ASCII may stand in a name.
fn is_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_inside(c: char) -> bool {
    is_start(c) || c.is_ascii_digit() || c == '$'
}

/// What stands in quotes, and what follows them. A doubled quote is one; in `E'…'` a backslash takes
/// the next character along.
fn quoted(text: &str, quote: char, escapes: bool) -> (String, &str) {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            inside.extend(chars.next().map(|(_, next)| next));
        } else if c != quote {
            inside.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            inside.push(quote);
            chars.next();
        } else {
            return (inside, &text[at + quote.len_utf8()..]);
        }
    }
    (inside, "")
}

/// Comments nest, in PostgreSQL.
fn after_comment(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return &text[at..];
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    ""
}

/// `$tag$…$tag$`.
fn dollar_quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find('$')?;
    let tag = &inner[..end];
    let is_tag = |c: char| is_start(c) || c.is_ascii_digit();
    if !(tag.is_empty() || tag.starts_with(is_start)) || !tag.chars().all(is_tag) {
        return None;
    }
    let mark = &text[..end + 2];
    let body = &text[mark.len()..];
    let close = body.find(mark)?;
    Some((&body[..close], &body[close + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(sql: &str) -> Vec<String> {
        let words = Words::of(sql);
        words.names.iter().map(|chain| chain.join("/")).collect()
    }

    #[test]
    fn names_are_chains_and_comments_and_literals_are_none() {
        let sql = "SELECT o.Id, 'it''s -- not' FROM Raw . \"Or\"\"ders\" AS o -- marts.gone\n \
                   /* a /* b */ c */ JOIN $q$x.y$q$ x";
        let names = chains(sql);
        assert!(names.contains(&"raw/Or\"ders".to_owned()), "{names:?}");
        assert!(names.contains(&"o/id".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("gone")), "{names:?}");
        let words = Words::of(sql);
        assert_eq!(words.literals, ["it's -- not", "x.y"]);
        assert!(
            words
                .candidates()
                .contains(&"\"raw\".\"Or\"\"ders\"".to_owned())
        );
    }

    #[test]
    fn no_name_hides_from_the_scanner() {
        for hidden in [
            "select 1 from marts/**/./* . */secret",
            "select E'a\\'' || (select 1 from marts.secret) || ''",
            "select 1 -- \r from marts.secret",
            "select $1$ || (select 1 from marts.secret) || $1$",
            "select 'a' 'b' from \"marts\" . SECRET",
            "select $a$x$a$ from marts.secret where 'q' = $b$",
        ] {
            assert!(
                chains(hidden).contains(&"marts/secret".to_owned()),
                "{hidden}"
            );
        }
        assert!(Words::of("select 1 from U&\"m\\0061rts\".secret").has_escaped_name);
    }

    #[test]
    fn calls_and_the_first_word_of_each_statement_are_known() {
        let words = Words::of("BEGIN; Select pg_catalog . Lower ('x'), count(*); ;-- end\n");
        assert_eq!(words.starts, ["begin", "select"]);
        assert_eq!(words.calls, ["lower", "count"]);
        let words = Words::of("with t (a) as (select 1) set x = f(1) from g() as h(b)");
        assert_eq!(words.calls, ["as", "f", "g"]);
        assert_eq!(Words::of("; SET Role x").heads, [["set", "role", "x"]]);
    }

    #[test]
    fn what_depends_on_the_moment_is_told_from_what_does_not() {
        for unsteady in [
            "select * from t where at > NOW() - interval '1 day'",
            "select current_date",
            "select 'Today'::date",
            "select age (at) from t",
        ] {
            assert!(!Words::of(unsteady).is_steady(), "{unsteady}");
        }
        assert!(Words::of("select nowhere, age, \"random walk\" from t").is_steady());
    }
}
