//! Rewrites a dbt template into one that minijinja compiles, from its own token stream:
//! `{% macro %}` and `{% test %}` blocks are lifted out, list and dict literals are wrapped so that
//! they can be mutated, and Python's stray colon (`{% if x: %}`) is dropped. Lines never move.

use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::machinery::{Span, Token, tokenize};

/// What a lifted block declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Macro,
    Test,
    Materialization,
    Snapshot,
}

/// A parameter of a macro and the expression of its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
}

/// A macro as it stood in a file.
#[derive(Clone, Debug)]
pub(crate) struct LiftedBlock {
    pub(crate) kind: BlockKind,
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    /// What stands behind the name in the opening tag.
    pub(crate) header: String,
    /// A template of its own, padded so that its lines are those of the file.
    pub(crate) body: String,
    /// The block as its file has it, its tags included.
    pub(crate) written: String,
    /// Line of the opening tag in its file, 1-based.
    pub(crate) line: usize,
}

/// A rewritten template and the blocks that were in it.
#[derive(Debug)]
pub(crate) struct Lifted {
    pub(crate) source: String,
    pub(crate) blocks: Vec<LiftedBlock>,
}

struct Edit {
    start: usize,
    end: usize,
    text: String,
}

type Tokens<'s> = Vec<(Token<'s>, Span)>;

/// Lifts the blocks of `source`; where each stood, `replacement(block)` names the expression that
/// the macro's name is set to (`None`: nothing is left there).
///
/// # Errors
/// When the template does not tokenize or a block is not closed.
pub(crate) fn lift(
    source: &str,
    replacement: &dyn Fn(&str) -> Option<String>,
) -> Result<Lifted, Error> {
    lift_at(source, 0, replacement)
}

fn lift_at(
    source: &str,
    first_line: usize,
    replacement: &dyn Fn(&str) -> Option<String>,
) -> Result<Lifted, Error> {
    let tokens: Tokens<'_> =
        tokenize(source, false, Default::default()).collect::<Result<_, _>>()?;
    let mut edits = Vec::new();
    let mut blocks = Vec::new();
    let mut index = 0;
    let mut segment_start = 0;
    while index < tokens.len() {
        let Some(kind) = opening_kind(&tokens, index) else {
            index += 1;
            continue;
        };
        rewrite_literals(&tokens[segment_start..index], &mut edits);
        let close = closing_tag(&tokens, index, kind).ok_or_else(|| {
            let line = first_line + tokens[index].1.start_line as usize;
            Error::new(
                ErrorKind::SyntaxError,
                format!("line {line}: this block is never closed"),
            )
        })?;
        let (block, edit, next) =
            lift_block(source, &tokens, index, close, kind, first_line, replacement)?;
        blocks.extend(block);
        edits.push(edit);
        index = next;
        segment_start = next;
    }
    rewrite_literals(&tokens[segment_start..], &mut edits);
    Ok(Lifted {
        source: apply(source, edits),
        blocks,
    })
}

fn opening_kind(tokens: &Tokens<'_>, index: usize) -> Option<BlockKind> {
    if !matches!(tokens[index].0, Token::BlockStart) {
        return None;
    }
    let (Token::Ident(tag), _) = tokens.get(index + 1)? else {
        return None;
    };
    match *tag {
        "macro" => Some(BlockKind::Macro),
        "test" | "data_test" => Some(BlockKind::Test),
        "materialization" => Some(BlockKind::Materialization),
        "snapshot" => Some(BlockKind::Snapshot),
        _ => None,
    }
}

fn closing_tag(tokens: &Tokens<'_>, open: usize, kind: BlockKind) -> Option<usize> {
    let (begin, end): (&[&str], &[&str]) = match kind {
        BlockKind::Macro => (&["macro"], &["endmacro"]),
        BlockKind::Test => (&["test", "data_test"], &["endtest", "enddata_test"]),
        BlockKind::Materialization => (&["materialization"], &["endmaterialization"]),
        BlockKind::Snapshot => (&["snapshot"], &["endsnapshot"]),
    };
    let mut depth = 0_usize;
    for index in open..tokens.len().saturating_sub(1) {
        if !matches!(tokens[index].0, Token::BlockStart) {
            continue;
        }
        let Token::Ident(tag) = tokens[index + 1].0 else {
            continue;
        };
        if begin.contains(&tag) {
            depth += 1;
        } else if end.contains(&tag) {
            depth -= 1;
            if depth == 0 {
                return Some(index);
            }
        }
    }
    None
}

fn block_end(tokens: &Tokens<'_>, from: usize) -> usize {
    (from..tokens.len())
        .find(|index| matches!(tokens[*index].0, Token::BlockEnd))
        .unwrap_or(tokens.len() - 1)
}

fn lift_block(
    source: &str,
    tokens: &Tokens<'_>,
    open: usize,
    close: usize,
    kind: BlockKind,
    first_line: usize,
    replacement: &dyn Fn(&str) -> Option<String>,
) -> Result<(Vec<LiftedBlock>, Edit, usize), Error> {
    let open_end = block_end(tokens, open);
    let close_end = block_end(tokens, close);
    let name = match tokens.get(open + 2) {
        Some((Token::Ident(name), _)) => (*name).to_owned(),
        _ => return Err(Error::new(ErrorKind::SyntaxError, "a block has no name")),
    };
    let start = tokens[open].1.start_offset as usize;
    let body_start = tokens[open_end].1.end_offset as usize;
    let body_end = tokens[close].1.start_offset as usize;
    let end = tokens[close_end].1.end_offset as usize;

    let mut body = &source[body_start..body_end];
    let mut body_line = first_line + tokens[open_end].1.end_line as usize - 1;
    if source[..body_start].ends_with("-%}") {
        let trimmed = body.trim_start();
        body_line += body[..body.len() - trimmed.len()].matches('\n').count();
        body = trimmed;
    }
    if source[body_end..].starts_with("{%-") {
        body = body.trim_end();
    }
    let inner = lift_at(body, body_line, replacement)?;
    let block = LiftedBlock {
        kind,
        params: params(source, &tokens[open + 3..open_end])?,
        header: source
            [tokens[open + 2].1.end_offset as usize..tokens[open_end].1.start_offset as usize]
            .trim()
            .to_owned(),
        // The leading comment keeps the file's line numbers, the trailing one keeps a last newline.
        body: format!("{{#{}#}}{}{{##}}", "\n".repeat(body_line), inner.source),
        line: first_line + tokens[open].1.start_line as usize,
        written: source[start..end].to_owned(),
        name: name.clone(),
    };
    let left = if source[start..].starts_with("{%-") {
        "-"
    } else {
        ""
    };
    let right = if source[..end].ends_with("-%}") {
        "-"
    } else {
        ""
    };
    let newlines = "\n".repeat(source[start..end].matches('\n').count());
    let text = match replacement(&name) {
        Some(value) => format!("{{%{left} set {name} = {value}{newlines} {right}%}}"),
        None => format!("{{#{left}{newlines}{right}#}}"),
    };
    let mut blocks = inner.blocks;
    blocks.push(block);
    Ok((blocks, Edit { start, end, text }, close_end + 1))
}

fn params(source: &str, tokens: &[(Token<'_>, Span)]) -> Result<Vec<Param>, Error> {
    let mut params = Vec::new();
    let mut depth = 0_i32;
    let mut piece: Vec<usize> = Vec::new();
    for (index, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth -= 1,
            _ => {}
        }
        let outer = depth == 1 && matches!(token, Token::Comma);
        let opening = depth == 1 && piece.is_empty() && matches!(token, Token::ParenOpen);
        if outer || depth == 0 {
            params.extend(param(source, tokens, &piece)?);
            piece.clear();
        } else if !opening {
            piece.push(index);
        }
        if depth == 0 && matches!(token, Token::ParenClose) {
            break;
        }
    }
    Ok(params)
}

fn param(
    source: &str,
    tokens: &[(Token<'_>, Span)],
    piece: &[usize],
) -> Result<Option<Param>, Error> {
    let Some(first) = piece.first() else {
        return Ok(None);
    };
    let Token::Ident(name) = tokens[*first].0 else {
        return Err(Error::new(
            ErrorKind::SyntaxError,
            "a macro parameter has no name",
        ));
    };
    let default = match piece {
        [_, assign, rest @ ..] if matches!(tokens[*assign].0, Token::Assign) => {
            let (Some(from), Some(to)) = (rest.first(), rest.last()) else {
                return Err(Error::new(ErrorKind::SyntaxError, "a default has no value"));
            };
            let start = tokens[*from].1.start_offset as usize;
            let end = tokens[*to].1.end_offset as usize;
            Some(rewrite_expression(&source[start..end])?)
        }
        _ => None,
    };
    Ok(Some(Param {
        name: name.to_owned(),
        default,
    }))
}

/// An expression with its list and dict literals made mutable.
///
/// # Errors
/// When it does not tokenize.
pub(crate) fn rewrite_expression(expression: &str) -> Result<String, Error> {
    let tokens: Tokens<'_> =
        tokenize(expression, true, Default::default()).collect::<Result<_, _>>()?;
    let mut edits = Vec::new();
    rewrite_literals(&tokens, &mut edits);
    Ok(apply(expression, edits))
}

/// Words after which a bracket opens a literal and not a subscript.
const OPERATOR_WORDS: &[&str] = &[
    "in", "not", "and", "or", "if", "else", "elif", "is", "do", "set", "for", "with", "call",
    "filter",
];

fn rewrite_literals(tokens: &[(Token<'_>, Span)], edits: &mut Vec<Edit>) {
    let insert = |offset: u32, text: &str| Edit {
        start: offset as usize,
        end: offset as usize,
        text: text.to_owned(),
    };
    let mut open: Vec<bool> = Vec::new();
    for (index, (token, span)) in tokens.iter().enumerate() {
        let previous = index.checked_sub(1).map(|before| &tokens[before].0);
        let after_operand = match previous {
            Some(Token::Ident(word)) => !OPERATOR_WORDS.contains(word),
            Some(Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Float(_)) => true,
            Some(Token::ParenClose | Token::BracketClose | Token::BraceClose) => true,
            _ => false,
        };
        match token {
            Token::BracketOpen => {
                open.push(!after_operand);
                if !after_operand {
                    edits.push(insert(span.start_offset, "__list("));
                }
            }
            Token::BraceOpen => {
                open.push(true);
                edits.push(insert(span.start_offset, "__dict("));
            }
            Token::Plus | Token::Minus if adds_timedelta(&tokens[index + 1..]) => {
                let method = match token {
                    Token::Plus => ".__add__(",
                    _ => ".__sub__(",
                };
                edits.push(Edit {
                    start: span.start_offset as usize,
                    end: span.end_offset as usize,
                    text: method.to_owned(),
                });
                if let Some(end) = call_end(&tokens[index + 1..]) {
                    edits.push(insert(end, ")"));
                }
            }
            Token::BracketClose | Token::BraceClose if open.pop().unwrap_or(false) => {
                edits.push(insert(span.end_offset, ")"));
            }
            Token::BlockEnd if matches!(previous, Some(Token::Colon)) => {
                let colon = &tokens[index - 1].1;
                let (start, end) = (colon.start_offset as usize, colon.end_offset as usize);
                edits.push(Edit {
                    start,
                    end,
                    text: " ".to_owned(),
                });
            }
            _ => {}
        }
    }
}

/// Whether `modules.datetime.timedelta(` or a shorter name of it follows: objects know no operators,
/// so an operator before it becomes a call.
fn adds_timedelta(tokens: &[(Token<'_>, Span)]) -> bool {
    tokens
        .iter()
        .take_while(|(token, _)| matches!(token, Token::Ident(_) | Token::Dot))
        .last()
        .is_some_and(|(token, _)| matches!(token, Token::Ident("timedelta")))
        && call_end(tokens).is_some()
}

/// Where the first call in these tokens ends.
fn call_end(tokens: &[(Token<'_>, Span)]) -> Option<u32> {
    let mut depth = 0_i32;
    for (token, span) in tokens {
        match token {
            Token::ParenOpen => depth += 1,
            Token::ParenClose => {
                depth -= 1;
                if depth == 0 {
                    return Some(span.end_offset);
                }
            }
            _ => {}
        }
    }
    None
}

fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut out = String::with_capacity(source.len() + edits.len() * 8);
    let mut at = 0;
    for edit in edits {
        out.push_str(&source[at..edit.start]);
        out.push_str(&edit.text);
        at = edit.end;
    }
    out.push_str(&source[at..]);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_macro_is_lifted_with_its_defaults_and_its_line() {
        let lifted = lift(
            "x\n{% macro m(a, b=[1, 2]) -%}\n  {{ a }}\n{%- endmacro %}\ny",
            &|_| None,
        )
        .unwrap();
        let block = &lifted.blocks[0];
        assert_eq!((block.name.as_str(), block.line), ("m", 2));
        assert_eq!(block.params[1].default.as_deref(), Some("__list([1, 2])"));
        assert!(block.body.ends_with("{{ a }}{##}"), "{}", block.body);
        assert_eq!(lifted.source.lines().count(), 5);
    }

    #[test]
    fn a_subscript_is_left_alone_and_a_literal_is_wrapped() {
        assert_eq!(
            rewrite_expression("a[0] + [b] | f({'k': [1]})").unwrap(),
            "a[0] + __list([b]) | f(__dict({'k': __list([1])}))"
        );
    }

    #[test]
    fn a_block_that_is_never_closed_is_an_error() {
        assert!(lift("{% macro m() %}", &|_| None).is_err());
    }
}
