//! SQL as PostgreSQL's words, each with its place in the text.

use std::borrow::Cow;
use std::ops::Range;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

/// A word, a sign, a text, a comment, and where it stands.
pub(crate) type Placed = (Token, Range<usize>);

/// Every token of a text, blanks and comments too; `None` if it cannot be read as SQL.
pub(crate) fn tokens(sql: &str) -> Option<Vec<Placed>> {
    let read = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .ok()?;
    let mut ends = sql.char_indices();
    let mut at = Location { line: 1, column: 1 };
    let mut starts = Vec::with_capacity(read.len());
    for TokenWithSpan { span, .. } in &read {
        while (at.line, at.column) < (span.start.line, span.start.column) {
            match ends.next()? {
                (_, '\n') => {
                    at = Location {
                        line: at.line + 1,
                        column: 1,
                    }
                }
                _ => at.column += 1,
            }
        }
        starts.push(ends.offset());
    }
    let behind = starts.iter().skip(1).copied().chain([sql.len()]);
    let places: Vec<Range<usize>> = starts
        .iter()
        .copied()
        .zip(behind)
        .map(|(a, b)| a..b)
        .collect();
    Some(read.into_iter().map(|it| it.token).zip(places).collect())
}

/// Whether a token says nothing: a blank or a comment.
pub(crate) fn is_silent(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

/// Whether a token is a comment.
pub(crate) fn is_comment(token: &Token) -> bool {
    match token {
        Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => false,
        token => is_silent(token),
    }
}

/// A word that is no quoted name, in small letters.
fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        _ => None,
    }
}

/// The statements of a text: their words, and where each ends.
fn statements(tokens: &[Placed]) -> Vec<(Vec<String>, usize)> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    // Of a function whose body is no text: it has statements of its own.
    let mut body_depth = 0_u32;
    for (token, place) in tokens.iter().filter(|(token, _)| !is_silent(token)) {
        match (token, word(token).as_deref()) {
            (Token::SemiColon, _) if body_depth == 0 => {
                all.push((std::mem::take(&mut words), place.end));
                continue;
            }
            (_, Some("atomic")) if words.last().is_some_and(|last| last == "begin") => {
                body_depth = 1
            }
            (_, Some("case")) if body_depth > 0 => body_depth += 1,
            (_, Some("end")) if body_depth > 0 => body_depth -= 1,
            _ => {}
        }
        words.push(word(token).unwrap_or_default());
    }
    if let (Some((_, place)), false) = (tokens.last(), words.is_empty()) {
        all.push((words, place.end));
    }
    all
}

/// What a text does when a transaction is open already, which it must not end: without the
/// statements that begin and commit one of its own.
///
/// # Errors
/// When it would undo what it has not done.
pub(crate) fn within_a_transaction(sql: &str) -> Result<Cow<'_, str>, String> {
    let Some(tokens) = tokens(sql) else {
        // PostgreSQL tells what is wrong with it, unless it reads it and ends the transaction.
        return match ["commit", "rollback"]
            .iter()
            .any(|word| sql.to_lowercase().contains(word))
        {
            true => Err(refused(
                "what cannot be read as SQL and speaks of the end of one",
            )),
            false => Ok(sql.into()),
        };
    };
    let (mut kept, mut start, mut is_whole) = (String::new(), 0, true);
    for (words, end) in statements(&tokens) {
        let said: Vec<&str> = words.iter().map(String::as_str).collect();
        match said.as_slice() {
            ["commit", "prepared", ..] => kept.push_str(&sql[start..end]),
            ["begin" | "commit" | "end", ..] | ["start", "transaction", ..] => is_whole = false,
            ["rollback" | "abort", rest @ ..] if !rest.contains(&"to") => {
                return Err(refused(said[0]));
            }
            ["prepare", "transaction", ..] => return Err(refused("prepare transaction")),
            _ => kept.push_str(&sql[start..end]),
        }
        start = end;
    }
    match is_whole {
        true => Ok(sql.into()),
        false => Ok(kept.into()),
    }
}

fn refused(what: &str) -> String {
    format!(
        "a build is one transaction, which a hook or a query of a template must not undo: it says {what}"
    )
}

/// A text with other words in those of its string literals that hold a mark. What stands outside of
/// literals, or is looked up as a relation, stays.
pub(crate) fn reworded_literals<'a>(
    sql: &'a str,
    mark: &str,
    reword: &dyn Fn(&str) -> String,
) -> Cow<'a, str> {
    if !sql.contains(mark) || !sql.contains(['\'', '$']) {
        return sql.into();
    }
    let Some(tokens) = tokens(sql) else {
        return sql.into();
    };
    let mut text = String::with_capacity(sql.len());
    for (index, (token, place)) in tokens.iter().enumerate() {
        let written = &sql[place.clone()];
        match token {
            Token::DollarQuotedString(quoted) => {
                let inner = reworded_literals(&quoted.value, mark, reword);
                text.push_str(&written.replacen(&quoted.value, &inner, 1));
            }
            Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
                if written.contains(mark) && !is_a_relation(&tokens, index) =>
            {
                text.push_str(&reword(written));
            }
            _ => text.push_str(written),
        }
    }
    text.into()
}

/// Whether the literal is `'…'::regclass` or `to_regclass('…')`.
fn is_a_relation(tokens: &[Placed], index: usize) -> bool {
    let said = |(token, _): &&Placed| !is_silent(token);
    let mut behind = tokens[index + 1..].iter().filter(said);
    let mut before = tokens[..index].iter().rev().filter(said);
    let is = |placed: Option<&Placed>, name: &str| {
        placed.and_then(|(token, _)| word(token)).as_deref() == Some(name)
    };
    let is_cast = matches!(behind.next(), Some((Token::DoubleColon, _)));
    let is_called = matches!(before.next(), Some((Token::LParen, _)));
    (is_cast && is(behind.next(), "regclass")) || (is_called && is(before.next(), "to_regclass"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(sql: &str) -> String {
        within_a_transaction(sql)
            .expect("nothing is undone")
            .into_owned()
    }

    #[test]
    fn tokens_stand_where_they_are_written() {
        let sql = "select 'é\nü', -- ö\n  \"a\"";
        let tokens = tokens(sql).expect("it is SQL");
        let written: Vec<&str> = tokens
            .iter()
            .map(|(_, place)| &sql[place.clone()])
            .collect();
        assert_eq!(written.concat(), sql);
        assert!(
            written.contains(&"'é\nü'") && written.contains(&"\"a\""),
            "{written:?}"
        );
    }

    #[test]
    fn what_begins_and_commits_a_transaction_is_left_out() {
        assert_eq!(
            within("insert into a values (1); commit;"),
            "insert into a values (1);"
        );
        assert_eq!(
            within("BEGIN; create table a (); COMMIT"),
            " create table a ();"
        );
        assert_eq!(
            within("start transaction read write; select 1; end"),
            " select 1;"
        );
        assert_eq!(within(" -- done\n commit"), "");
        for kept in [
            "select case when a then 'commit' end from b",
            "insert into a values ('; commit;'); -- commit",
            "do $$ begin perform 1; end $$; select 1",
            "savepoint a; rollback to savepoint a",
            "create function f() returns int begin atomic select 1; select case when true then 2 end; end; select 1",
            "select \"commit\" from a",
        ] {
            assert_eq!(within(kept), kept);
        }
    }

    #[test]
    fn what_undoes_the_transaction_is_refused() {
        for sql in [
            "delete from a; rollback",
            "abort;",
            "prepare transaction 'x'",
            "select 'a; commit",
        ] {
            within_a_transaction(sql).expect_err(sql);
        }
    }

    #[test]
    fn names_are_exchanged_in_literals_alone() {
        let renamed = |sql: &str| {
            reworded_literals(sql, "__new", &|text| text.replace("a__new", "a")).into_owned()
        };
        assert_eq!(
            renamed("insert into log select '\"s\".\"a__new\"', count(*) from \"s\".\"a__new\""),
            "insert into log select '\"s\".\"a\"', count(*) from \"s\".\"a__new\""
        );
        assert_eq!(
            renamed("do $x$ begin insert into log select 'a__new' from a__new; end $x$"),
            "do $x$ begin insert into log select 'a' from a__new; end $x$"
        );
        for kept in [
            "select 's.a__new'::regclass",
            "select to_regclass('s.a__new')",
            "select b",
        ] {
            assert_eq!(renamed(kept), kept);
        }
    }
}
