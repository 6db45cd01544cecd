//! Groups and measures of a SELECT as columns of the planner's statement.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, Ident, Select, SelectItem, VisitorMut,
};

use super::SqlError;
use super::block::{Block, Wanted};
use super::expressions::{arguments, is_aggregate, member_of};
use crate::model::{Aggregation, MemberId};

impl Block<'_> {
    /// The measure that an aggregate stands for.
    pub(super) fn measure(&self, function: &Function) -> Result<MemberId, SqlError> {
        let call = function.name.to_string().to_ascii_lowercase();
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty();
        let cube = &self.model.cubes[self.cube];
        let of_cube = |index| MemberId {
            cube: self.cube,
            index,
        };
        let wrong = |why: String| Err(SqlError::new("42803", why));
        let Some([argument]) = arguments(function).filter(|_| plain) else {
            return wrong(format!(
                "{call} over a cube takes one measure: write MEASURE(name)"
            ));
        };
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
            let counts = |member: &crate::model::Member| {
                member.measure().is_some_and(|it| {
                    it.aggregation == Aggregation::Count
                        && it.sql.is_none()
                        && it.filters.is_empty()
                })
            };
            let rows = cube.members.iter().position(counts);
            return match rows.filter(|_| call == "count") {
                Some(index) => Ok(of_cube(index)),
                None => wrong(format!(
                    "\"{}\" has no measure that counts its rows",
                    cube.name
                )),
            };
        };
        let Some(index) = member_of(argument) else {
            return wrong(format!(
                "{call} over a cube takes a measure, not an expression: the data model defines what is aggregated"
            ));
        };
        let id = of_cube(index);
        let member = self.model.member(id);
        let Some(measure) = member.measure() else {
            return wrong(format!(
                "\"{}\" is a dimension: {call} takes a measure of \"{}\"",
                member.name, cube.name
            ));
        };
        let fits = match call.as_str() {
            "measure" | "agg" => true,
            "sum" => matches!(measure.aggregation, Aggregation::Sum | Aggregation::Count),
            "count" => matches!(
                measure.aggregation,
                Aggregation::Count | Aggregation::CountDistinct | Aggregation::CountDistinctApprox
            ),
            "min" => measure.aggregation == Aggregation::Min,
            "max" => measure.aggregation == Aggregation::Max,
            "avg" => measure.aggregation == Aggregation::Avg,
            _ => false,
        };
        if fits {
            return Ok(id);
        }
        wrong(format!(
            "\"{0}\" is a measure of type {1}: write MEASURE({0})",
            member.name,
            measure.aggregation.name()
        ))
    }

    /// What is shown keeps the name that it would have had.
    pub(super) fn keep_names(&self, select: &mut Select) {
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else {
                continue;
            };
            let inner = match &*expr {
                Expr::Cast { expr, .. } => expr,
                other => other,
            };
            let of = |index| {
                self.model
                    .member(MemberId {
                        cube: self.cube,
                        index,
                    })
                    .name
                    .clone()
            };
            let name = match inner {
                Expr::Function(function) => {
                    let measured = is_aggregate(function)
                        .then(|| self.measure(function).ok())
                        .flatten();
                    match measured {
                        Some(id) => self.model.member(id).name.clone(),
                        None => function.name.to_string().to_ascii_lowercase(),
                    }
                }
                inner => match member_of(inner) {
                    Some(index) => of(index),
                    None => continue,
                },
            };
            let alias = Ident::with_quote('"', name);
            *item = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias,
            };
        }
    }
}

/// Puts numbered columns in the place of groups, measures and, without groups, members.
pub(super) struct Replacer<'b, 'a> {
    pub(super) block: &'b mut Block<'a>,
    pub(super) groups: &'b [(Expr, Expr)],
}

impl Replacer<'_, '_> {
    pub(super) fn replaced(&mut self, expr: &Expr) -> Result<Option<Expr>, SqlError> {
        if let Some((_, column)) = self.groups.iter().find(|(group, _)| group == expr) {
            return Ok(Some(column.clone()));
        }
        if let Expr::Function(function) = expr
            && is_aggregate(function)
        {
            let id = self.block.measure(function)?;
            return Ok(Some(self.block.column(Wanted::Member(id))));
        }
        let Some(index) = member_of(expr) else {
            return Ok(None);
        };
        let id = MemberId {
            cube: self.block.cube,
            index,
        };
        if self.block.grouped {
            let member = self.block.model.member(id);
            let message = match member.measure() {
                Some(_) => format!("\"{0}\" is a measure: write MEASURE({0})", member.name),
                None => format!(
                    "column \"{}\" must appear in the GROUP BY clause",
                    member.name
                ),
            };
            return Err(SqlError::new("42803", message));
        }
        Ok(Some(self.block.column(Wanted::Member(id))))
    }
}

impl VisitorMut for Replacer<'_, '_> {
    type Break = Box<SqlError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match self.replaced(expr) {
            Ok(Some(column)) => {
                *expr = column;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
