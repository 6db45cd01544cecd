//! Columns of a SELECT as members of its cube.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, VisitMut as _, VisitorMut};

use super::block::{Block, CLOSE, OPEN};
use super::expressions::no_queries;
use super::{SqlError, find_cube};
use crate::model::{MemberId, nearest};
use crate::plan::may_show;

impl Block<'_> {
    pub(super) fn unknown_column(&self, name: &str) -> SqlError {
        let cube = &self.model.cubes[self.cube];
        let members = (0..cube.members.len()).filter(|index| {
            let id = MemberId {
                cube: self.cube,
                index: *index,
            };
            may_show(&self.model, self.context, id).is_ok()
                && self.model.member(id).segment().is_none()
        });
        let near = nearest(name, members.map(|at| cube.members[at].name.as_str()), 1);
        let error = SqlError::new(
            "42703",
            format!("column \"{name}\" of \"{}\" does not exist", cube.name),
        );
        match near.first() {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None => error,
        }
    }

    /// The member that a column names.
    pub(super) fn find(&self, idents: &[Ident]) -> Result<Option<usize>, SqlError> {
        let Some((last, path)) = idents.split_last() else {
            return Ok(None);
        };
        if let Some(table) = path.last() {
            let same = |name: &str| match table.quote_style {
                Some(_) => table.value == name,
                None => table.value.eq_ignore_ascii_case(name),
            };
            let is_cube = find_cube(&self.model, &table.value, table.quote_style.is_some());
            if !same(&self.alias) && is_cube != Some(self.cube) {
                let message = format!("missing FROM-clause entry for table \"{}\"", table.value);
                return Err(SqlError::new("42P01", message));
            }
        }
        let members = &self.model.cubes[self.cube].members;
        let shown = |it: &crate::model::Member| it.public && it.segment().is_none();
        let exact = members
            .iter()
            .position(|it| shown(it) && it.name == last.value);
        let folded = || {
            let unquoted = last.quote_style.is_none();
            members
                .iter()
                .position(|it| unquoted && shown(it) && it.name.eq_ignore_ascii_case(&last.value))
        };
        Ok(exact.or_else(folded))
    }
}

/// Puts marks in the place of columns.
pub(super) struct Namer<'b> {
    pub(super) block: &'b Block<'b>,
    /// Names that the SELECT gives to what it shows.
    pub(super) aliases: &'b [String],
}

impl Namer<'_> {
    pub(super) fn name(&mut self, expr: &mut Expr) -> Result<(), SqlError> {
        no_queries(expr)?;
        match expr.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

impl VisitorMut for Namer<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let idents = match &*expr {
            Expr::Identifier(ident) if ident.value.starts_with(OPEN) => {
                return ControlFlow::Continue(());
            }
            Expr::Identifier(ident) => vec![ident.clone()],
            Expr::CompoundIdentifier(idents) => idents.clone(),
            _ => return ControlFlow::Continue(()),
        };
        match self.block.find(&idents) {
            Ok(Some(index)) => {
                *expr = Expr::Identifier(Ident::new(format!("{OPEN}m{index}{CLOSE}")));
                ControlFlow::Continue(())
            }
            Ok(None) => {
                let name = idents.last().map(|it| it.value.clone()).unwrap_or_default();
                let aliased = idents.len() == 1
                    && self.aliases.iter().any(|it| it.eq_ignore_ascii_case(&name));
                if aliased {
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break(Box::new(self.block.unknown_column(&name)))
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
