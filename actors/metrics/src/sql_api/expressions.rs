//! What an expression of a client is.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArguments, Select, SelectItem, TableFactor,
};

use super::SqlError;
use super::block::{CLOSE, OPEN};

/// The member whose mark an expression is.
pub(super) fn member_of(expr: &Expr) -> Option<usize> {
    let Expr::Identifier(ident) = expr else {
        return None;
    };
    let number = ident.value.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    number.strip_prefix('m')?.parse().ok()
}

pub(super) fn alias_of(select: &Select) -> Option<String> {
    match &select.from.first()?.relation {
        TableFactor::Table { alias, .. } => alias.as_ref().map(|it| it.name.value.clone()),
        _ => None,
    }
}

pub(super) fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

pub(super) fn arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(list) => Some(&list.args),
        _ => None,
    }
}

/// A call that aggregates rows, and is not a window's.
pub(super) fn is_aggregate(function: &Function) -> bool {
    const AGGREGATES: [&str; 16] = [
        "measure",
        "agg",
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "array_agg",
        "string_agg",
        "bool_and",
        "bool_or",
        "every",
        "stddev",
        "variance",
        "percentile_cont",
        "mode",
    ];
    let name = function.name.to_string().to_ascii_lowercase();
    function.over.is_none() && AGGREGATES.contains(&name.as_str())
}

/// A query inside an expression would be read where the cube is.
pub(super) fn no_queries(expr: &Expr) -> Result<(), SqlError> {
    let found = sqlparser::ast::visit_expressions(expr, |expr| match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    match found.is_break() {
        true => Err(SqlError::unsupported(
            "a sub-query inside an expression over a cube is not supported: put the cube's SELECT inside instead",
        )),
        false => Ok(()),
    }
}
