//! Tests of one relation in one scan of it. Most tests are `select … from relation where condition`,
//! or list the values of a column that are not accepted: what they count, a filtered aggregate
//! counts beside others of its kind. What reads otherwise is asked as it is written.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use crate::sql_text;

/// A test that counts rows, or values, of one relation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted<'a> {
    /// The relation, as the test names it.
    pub(super) relation: &'a str,
    /// An aggregate over the relation that equals the number of the test's rows.
    pub(super) aggregate: String,
}

/// Reads a test's select; `None` for any that is not surely a count over one relation.
pub(super) fn counted(sql: &str) -> Option<Counted<'_>> {
    let select = Select::read(sql)?;
    select.rows().or_else(|| select.values())
}

/// A statement's words and signs, each with its place in the text.
struct Select<'a> {
    sql: &'a str,
    tokens: Vec<(Token, usize)>,
}

impl<'a> Select<'a> {
    fn read(sql: &'a str) -> Option<Self> {
        let read = sql_text::tokens(sql)?;
        // A comment may say anything; where it ends is not worth knowing.
        if read.iter().any(|(token, _)| sql_text::is_comment(token)) {
            return None;
        }
        let said = read
            .into_iter()
            .filter(|(token, _)| !sql_text::is_silent(token));
        let tokens = said.map(|(token, place)| (token, place.start)).collect();
        Some(Self { sql, tokens })
    }

    /// `select … from relation where condition`: the rows that the condition holds for.
    fn rows(&self) -> Option<Counted<'a>> {
        let word = |at: usize, wanted| {
            self.tokens
                .get(at)
                .is_some_and(|(token, _)| is(token, wanted))
        };
        if !word(0, Keyword::SELECT) || word(1, Keyword::DISTINCT) {
            return None;
        }
        let from = self.position(0, Keyword::FROM)?;
        // A call may be an aggregate, or give many rows: then the rows are not the relation's. After
        // a point too: `t.f` may be `f(t)`.
        if self.has_any(0..from, |token| {
            matches!(token, Token::LParen | Token::Period) || is(token, Keyword::INTO)
        }) {
            return None;
        }
        let filter = self.position(from, Keyword::WHERE)?;
        let relation = self.name(from + 1..filter)?;
        let condition = filter + 1..self.tokens.len();
        if condition.is_empty() || self.has_any(condition.clone(), ends_a_condition) {
            return None;
        }
        let condition = self.text(condition)?;
        Some(Counted {
            relation,
            aggregate: format!("count(*) filter (where {condition})"),
        })
    }

    /// dbt's `accepted_values`: the values of a column, each once, that are none of a list.
    fn values(&self) -> Option<Counted<'a>> {
        let from = self.position(0, Keyword::FROM)?;
        let group = self.position(from, Keyword::GROUP)?;
        let relation = self.name(from + 1..group)?;
        let accepted = self.position(group, Keyword::IN)?;
        let (value, _) = self.tokens.get(5)?;
        let Token::Word(column) = value else {
            return None;
        };
        let (open, close) = (accepted + 1, self.tokens.len().checked_sub(1)?);
        let list = open + 1..close;
        let is_more_than_a_list = |token: &Token| {
            matches!(token, Token::LParen | Token::RParen) || ends_a_condition(token)
        };
        if list.is_empty() || self.has_any(list.clone(), is_more_than_a_list) {
            return None;
        }
        let written: String = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(at, _)| !(from + 1..group).contains(at) && !list.contains(at))
            .map(|(_, (token, _))| format!("{token} ").to_lowercase())
            .collect();
        let column = column.to_string();
        let expected = format!(
            "with all_values as ( select {column} as value_field , count ( * ) as n_records from \
             group by {column} ) select * from all_values where value_field not in ( ) "
        );
        if written != expected.to_lowercase() {
            return None;
        }
        let list = self.text(list)?;
        Some(Counted {
            relation,
            aggregate: format!("count(distinct {column}) filter (where {column} not in ({list}))"),
        })
    }

    /// The first such word at or after a place.
    fn position(&self, from: usize, wanted: Keyword) -> Option<usize> {
        let rest = self.tokens.get(from..)?;
        Some(from + rest.iter().position(|(token, _)| is(token, wanted))?)
    }

    fn has_any(&self, range: std::ops::Range<usize>, what: impl Fn(&Token) -> bool) -> bool {
        self.tokens[range].iter().any(|(token, _)| what(token))
    }

    /// The text of a relation's name, and of nothing more.
    fn name(&self, range: std::ops::Range<usize>) -> Option<&'a str> {
        let tokens = self.tokens.get(range.clone())?;
        let is_name = tokens.len() % 2 == 1
            && tokens
                .iter()
                .enumerate()
                .all(|(at, (token, _))| match at % 2 {
                    0 => matches!(token, Token::Word(_)),
                    _ => matches!(token, Token::Period),
                });
        is_name.then(|| self.text(range)).flatten()
    }

    fn text(&self, range: std::ops::Range<usize>) -> Option<&'a str> {
        let (_, start) = self.tokens.get(range.start)?;
        let end = self
            .tokens
            .get(range.end)
            .map_or(self.sql.len(), |(_, end)| *end);
        Some(self.sql.get(*start..end)?.trim_end())
    }
}

fn is(token: &Token, wanted: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.keyword == wanted)
}

/// Whether a condition is more than one: a clause after it, another statement, or a query in it, which
/// an aggregate's filter would carry out row by row.
fn ends_a_condition(token: &Token) -> bool {
    let clauses = [
        Keyword::SELECT,
        Keyword::GROUP,
        Keyword::HAVING,
        Keyword::WINDOW,
        Keyword::UNION,
        Keyword::INTERSECT,
        Keyword::EXCEPT,
        Keyword::ORDER,
        Keyword::LIMIT,
        Keyword::OFFSET,
        Keyword::FETCH,
        Keyword::FOR,
    ];
    matches!(token, Token::SemiColon) || clauses.iter().any(|clause| is(token, *clause))
}

#[cfg(test)]
mod tests {
    use super::counted;

    fn read(sql: &str) -> Option<(String, String)> {
        counted(sql).map(|found| (found.relation.to_owned(), found.aggregate))
    }

    #[test]
    fn a_condition_on_one_relation_counts_its_rows() {
        let found = read(
            "\n  select id as \"é\", a + b\n  from \"w\".\"m\".\"t\"\n  where é = 'it''s' or (b > 2)\n",
        );
        let expected = "count(*) filter (where é = 'it''s' or (b > 2))";
        assert_eq!(
            found,
            Some(("\"w\".\"m\".\"t\"".to_owned(), expected.to_owned()))
        );
    }

    #[test]
    fn values_that_are_not_accepted_count_once_each() {
        let found = read(
            "with all_values as (\n select colour as value_field,\n count(*) as n_records\n from m.t\n \
             group by colour\n)\nselect *\nfrom all_values\nwhere value_field not in ('red','blue')",
        );
        let expected = "count(distinct colour) filter (where colour not in ('red','blue'))";
        assert_eq!(found, Some(("m.t".to_owned(), expected.to_owned())));
    }

    #[test]
    fn what_reads_otherwise_is_left_as_it_is() {
        for sql in [
            "select count(*) from t where a is null",
            "select t.items from t where a is null",
            "select unnest(a) from t where a is null",
            "select distinct a from t where a is null",
            "select a from t where a is null group by a",
            "select a from t where a is null limit 1",
            "select a from t where a is null union all select b from t where b is null",
            "select a from t where exists (select 1 from s where s.id = t.id)",
            "select a from t as u where u.a is null",
            "select a from t, s where t.a = s.a",
            "select a from t join s on t.a = s.a where s.a is null",
            "select a from (select * from t where b) x where a is null",
            "select a from t -- where b\n where a is null",
            "select a from t where a is null for update",
            "select a from t where a is null; delete from t",
            "select a from t",
            "with x as (select a from t where a is null) select a from x where a > 0",
            "with all_values as (select a as value_field, count(*) as n_records from t group by b) \
             select * from all_values where value_field not in ('x')",
            "with all_values as (select a as value_field, count(*) as n_records from t group by a) \
             select * from all_values where value_field not in (select b from s)",
            "with all_values as (select a as value_field, count(*) as n_records from t group by a) \
             select * from all_values where value_field not in ('x') or true",
            "with all_values as (select a as value_field, count(*) as n_records from t group by a) \
             select * from all_values where value_field not in ('x') or (true)",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }
}
