//! Rewriting a statement: each SELECT over a cube becomes one over the planner's statement, wherever
//! in the text it stands.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    Ident, ObjectName, OrderBy, Query, Select, SetExpr, Statement, TableFactor, VisitMut,
    VisitorMut, visit_relations,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::block::{self, Block, CLOSE, OPEN};
use super::planned::Piece;
use super::proof::Asked;
use super::{SCHEMA, SqlError, Translated, find_cube, not_served};
use crate::load_proof::members_in;
use crate::model::{Model, SecurityContext};
use crate::served::Collected;
use crate::service::Service;

/// Deeper than anybody writes, shallower than a stack.
const DEPTH_MAX: usize = 60;

/// Operators of one text, at most: each may be one level more of what is read from it.
const OPERATORS_MAX: usize = 1000;

/// Operators that are words.
const NESTING: [Keyword; 16] = [
    Keyword::AND,
    Keyword::AT,
    Keyword::BETWEEN,
    Keyword::COLLATE,
    Keyword::EXCEPT,
    Keyword::ILIKE,
    Keyword::IN,
    Keyword::INTERSECT,
    Keyword::IS,
    Keyword::JOIN,
    Keyword::LIKE,
    Keyword::NOT,
    Keyword::NOTNULL,
    Keyword::OR,
    Keyword::SIMILAR,
    Keyword::UNION,
];

/// What to send for a text in which a cube is named.
pub(super) fn rewrite(
    service: &Service,
    sql: &str,
    zone: &str,
    context: &SecurityContext,
) -> Result<Translated, SqlError> {
    let parsed = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(ParserError::from);
    if let Ok(tokens) = &parsed {
        check_length(tokens)?;
    }
    let parsed = parsed.and_then(|tokens| {
        Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(DEPTH_MAX)
            .with_tokens_with_locations(tokens)
            .parse_statements()
    });
    let mut statements = parsed
        .map_err(|error| SqlError::new("42601", format!("the statement was not read: {error}")))?;
    let is_alone = statements.len() == 1;
    let (mut texts, mut asked) = (Vec::with_capacity(statements.len()), Vec::new());
    for statement in &mut statements {
        let words = match is_alone {
            true => sql.to_owned(),
            false => statement.to_string(),
        };
        let collecting = Service {
            collected: Collected::start(),
            ..service.clone()
        };
        let mut rewriter = Rewriter {
            service: &collecting,
            zone,
            context,
            names: Vec::new(),
            pieces: Vec::new(),
        };
        if let ControlFlow::Break(error) = statement.visit(&mut rewriter) {
            return Err(*error);
        }
        rewriter.check(statement)?;
        let text = rewriter.text(statement);
        asked.push(rewriter.asked(statement, words, &text).map(Arc::new));
        texts.push(text);
    }
    let sql = texts.join("; ");
    Ok(Translated { sql, asked })
}

/// `a or b or c …` nests once for each operator, and the parser's own limit counts brackets only.
fn check_length(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let operators = tokens.iter().filter(|it| nests(&it.token)).count();
    if operators <= OPERATORS_MAX {
        return Ok(());
    }
    let message = format!("the statement has {operators} operators, of {OPERATORS_MAX} at most");
    Err(SqlError::new("54001", message).hint("many values of one column are written as IN (…)"))
}

fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => NESTING.contains(&word.keyword),
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::Placeholder(_)
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

struct Rewriter<'a> {
    service: &'a Service,
    zone: &'a str,
    context: &'a SecurityContext,
    /// Names that WITH gives to queries.
    names: Vec<String>,
    /// What stands for the numbered tables.
    pieces: Vec<Piece>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.push(folded(&named.alias.name));
        }
        let order = query.order_by.as_mut();
        match self.body(&mut query.body, order) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Rewriter<'_> {
    fn body(&mut self, body: &mut SetExpr, order: Option<&mut OrderBy>) -> Result<(), SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, order),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, None)?;
                self.body(right, None)
            }
            // A query in parentheses is visited as one.
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select, order: Option<&mut OrderBy>) -> Result<(), SqlError> {
        let model = &self.service.snapshot.model;
        let tables = select.from.iter();
        let tables = tables.flat_map(|it| {
            std::iter::once(&it.relation).chain(it.joins.iter().map(|join| &join.relation))
        });
        let cubes: Vec<usize> = tables
            .filter_map(|table| self.cube_of(model, table))
            .collect();
        let [cube] = cubes.as_slice() else {
            return match cubes.len() {
                0 => Ok(()),
                _ => Err(several()),
            };
        };
        if select.from.len() != 1 || !select.from[0].joins.is_empty() {
            return Err(several());
        }
        let block = Block::new(self.service, self.zone, self.context, *cube);
        let piece = block.rewrite(select, order)?;
        let number = self.pieces.len();
        self.pieces.push(piece);
        if let TableFactor::Table { name, alias, .. } = &mut select.from[0].relation {
            if alias.is_none() {
                *alias = Some(block::table_alias(&model.cubes[*cube].name));
            }
            *name = ObjectName::from(vec![Ident::new(format!("{OPEN}q{number}{CLOSE}"))]);
        }
        Ok(())
    }

    fn cube_of(&self, model: &Model, table: &TableFactor) -> Option<usize> {
        let TableFactor::Table {
            name, args: None, ..
        } = table
        else {
            return None;
        };
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (last, schema) = match idents.as_slice() {
            [name] if !self.names.contains(&folded(name)) => (name, None),
            [schema, name] => (name, Some(folded(schema))),
            _ => return None,
        };
        if schema.is_some_and(|schema| schema != SCHEMA && schema != "public") {
            return None;
        }
        find_cube(model, &last.value, last.quote_style.is_some())
    }

    /// Whatever is left must be the catalogue's, or a name of the statement's own.
    fn check(&self, statement: &Statement) -> Result<(), SqlError> {
        let stranger = visit_relations(statement, |name: &ObjectName| {
            let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            let known = match idents.as_slice() {
                [only] => {
                    let name = folded(only);
                    only.value.starts_with(OPEN)
                        || self.names.contains(&name)
                        || is_catalogue_name(&name)
                }
                [schema, _] => {
                    matches!(folded(schema).as_str(), "pg_catalog" | "information_schema")
                }
                _ => false,
            };
            if known {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(name.to_string())
            }
        });
        match stranger {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(name) => Err(not_served(
                &self.service.snapshot.model,
                self.context,
                &name,
            )),
        }
    }

    /// The statement's text with its numbered tables filled in.
    fn text(&self, statement: &Statement) -> String {
        let mut text = statement.to_string();
        for (number, piece) in self.pieces.iter().enumerate() {
            text = text.replace(&format!("{OPEN}q{number}{CLOSE}"), &piece.sql);
        }
        text
    }

    /// What the rows of a query over cubes are proved with; `None` for what gives no such rows.
    fn asked(&self, statement: &Statement, words: String, sent: &str) -> Option<Asked> {
        if !matches!(statement, Statement::Query(_)) || self.pieces.is_empty() {
            return None;
        }
        let mut names = Vec::new();
        for piece in &self.pieces {
            members_in(&piece.query, &mut names);
            names.extend(piece.inside.iter().cloned());
        }
        names.sort_unstable();
        names.dedup();
        let snapshot = &self.service.snapshot;
        Some(Asked {
            statement: words,
            sent: sent.to_owned(),
            zone: self.zone.to_owned(),
            context: self.context.clone(),
            queries: self.pieces.iter().map(|it| it.query.clone()).collect(),
            collected: self.service.collected.clone(),
            definition: self.service.definitions_of(&names),
            model_hash: snapshot.model.hash.clone(),
            data_version: snapshot.data_version,
        })
    }
}

/// Functions in FROM and relations that PostgreSQL finds before anybody's.
fn is_catalogue_name(name: &str) -> bool {
    const FUNCTIONS: [&str; 3] = ["generate_series", "unnest", "generate_subscripts"];
    // `pg_catalog` is searched first, and none but PostgreSQL may make names that begin so there.
    FUNCTIONS.contains(&name)
}

fn several() -> SqlError {
    SqlError::unsupported(
        "a SELECT reads one cube or view: join them in a view of the data model, or join sub-queries",
    )
}

/// A name as PostgreSQL reads it.
fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}
