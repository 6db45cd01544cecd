//! One SELECT over one cube: what it asks of the planner, and itself over what that gives.
//!
//! Filters and grouping go to the planner, which alone knows the source; what is computed from the
//! groups (arithmetic on measures, HAVING, ORDER BY, LIMIT) stays with the client's own words.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, OrderBy, OrderByKind, Select,
    SelectItem, TableAlias, Value, VisitMut as _,
};

use super::SqlError;
use super::columns::Namer;
use super::expressions::{alias_of, arguments, is_aggregate, item_expr, member_of, no_queries};
use super::planned::Piece;
use super::replaced::Replacer;
use crate::model::{DimensionKind, MemberId, Model, Part, SecurityContext, Template};
use crate::plan::granularity::STANDARD;
use crate::plan::may_show;
use crate::service::Service;

/// Around the number of a member or a table in the text at hand; no client's text holds them.
pub(super) const OPEN: char = '\u{e000}';
pub(super) const CLOSE: char = '\u{e001}';

/// What a column of the planner's statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Member(MemberId),
    Time(MemberId, String),
}

/// A SELECT at work.
pub(super) struct Block<'a> {
    pub(super) service: &'a Service,
    /// Whose days and hours times are cut into.
    pub(super) zone: &'a str,
    pub(super) context: &'a SecurityContext,
    /// With what the SELECT brings along.
    pub(super) model: Model,
    pub(super) cube: usize,
    /// What the table is called in the statement.
    pub(super) alias: String,
    /// Columns that are asked of the planner; each is `__cN` in the rewritten SELECT.
    pub(super) wanted: Vec<Wanted>,
    pub(super) segments: Vec<MemberId>,
    /// Members read inside expressions that the planner is given.
    pub(super) inside: Vec<MemberId>,
    pub(super) grouped: bool,
}

/// A table's alias.
pub(super) fn table_alias(name: &str) -> TableAlias {
    TableAlias {
        explicit: true,
        name: Ident::with_quote('"', name),
        columns: Vec::new(),
        at: None,
    }
}

impl<'a> Block<'a> {
    pub(super) fn new(
        service: &'a Service,
        zone: &'a str,
        context: &'a SecurityContext,
        cube: usize,
    ) -> Self {
        let model = Model::clone(&service.snapshot.model);
        Self {
            service,
            zone,
            context,
            alias: model.cubes[cube].name.clone(),
            model,
            cube,
            wanted: Vec::new(),
            segments: Vec::new(),
            inside: Vec::new(),
            grouped: false,
        }
    }

    /// Rewrites the SELECT in place and gives the table to read instead of the cube.
    pub(super) fn rewrite(
        mut self,
        select: &mut Select,
        order: Option<&mut OrderBy>,
    ) -> Result<Piece, SqlError> {
        if let Some(alias) = alias_of(select) {
            self.alias = alias;
        }
        let mut none = None;
        let order = match order {
            Some(OrderBy {
                kind: OrderByKind::Expressions(items),
                ..
            }) => items.as_mut_slice(),
            Some(_) => return Err(SqlError::unsupported("ORDER BY ALL is not supported")),
            None => none.get_or_insert_with(Vec::new).as_mut_slice(),
        };
        self.expand(select)?;
        self.name_members(select, order)?;
        let groups = self.groups(select)?;
        self.grouped = !groups.is_empty() || self.has_measures(select, order);
        if let Some(condition) = select.selection.take() {
            let sql = self.template(&condition)?;
            let segment = self.model.add_segment(self.cube, sql);
            self.segments.push(segment);
        }
        let mut columns: Vec<(Expr, Expr)> = Vec::new();
        for group in groups {
            let column = self.group(&group)?;
            columns.push((group, column));
        }
        self.keep_names(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.replace(expr, &columns)?;
            }
        }
        for item in order.iter_mut() {
            self.replace(&mut item.expr, &columns)?;
        }
        if let Some(mut having) = select.having.take() {
            self.replace(&mut having, &columns)?;
            select.selection = Some(having);
        }
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        self.table()
    }

    /// `*` becomes every member that the caller may see and that a row has: without groups, nothing
    /// is aggregated.
    fn expand(&self, select: &mut Select) -> Result<(), SqlError> {
        let mut items = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            if !matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
            ) {
                items.push(item);
                continue;
            }
            let members = 0..self.model.cubes[self.cube].members.len();
            for index in members {
                let id = MemberId {
                    cube: self.cube,
                    index,
                };
                let is_segment = self.model.member(id).segment().is_some();
                if !is_segment
                    && self.has_rows(id)
                    && may_show(&self.model, self.context, id).is_ok()
                {
                    let name = Ident::with_quote('"', self.model.member(id).name.clone());
                    items.push(SelectItem::UnnamedExpr(Expr::Identifier(name)));
                }
            }
        }
        select.projection = items;
        match select.projection.is_empty() {
            true => Err(SqlError::new("42601", "the SELECT shows nothing")),
            false => Ok(()),
        }
    }

    /// Whether a single row has a value of this; what a window or a stage makes is of many, and so may
    /// be what a calculation computes of columns.
    fn has_rows(&self, id: MemberId) -> bool {
        let member = self.model.member(id);
        let Some(measure) = member.measure() else {
            return true;
        };
        let behind = member.origin.as_ref().map(|origin| origin.member);
        let templates = member.templates();
        let mut read = templates.iter().flat_map(|it| it.members()).chain(behind);
        let of_columns = || templates.iter().any(|it| it.members().next().is_none());
        let of_many = measure.rolling_window.is_some()
            || measure.stage.is_some()
            || (behind.is_none() && measure.aggregation.is_calculated() && of_columns());
        !of_many && read.all(|it| self.has_rows(it))
    }

    /// Puts the member's mark in the place of every column.
    fn name_members(
        &self,
        select: &mut Select,
        order: &mut [sqlparser::ast::OrderByExpr],
    ) -> Result<(), SqlError> {
        let aliases: Vec<String> = select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                _ => None,
            })
            .collect();
        let mut strict = Namer {
            block: self,
            aliases: &[],
        };
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                strict.name(expr)?;
            }
        }
        for expr in select.selection.iter_mut().chain(&mut select.having) {
            strict.name(expr)?;
        }
        let mut lenient = Namer {
            block: self,
            aliases: &aliases,
        };
        if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
            groups.iter_mut().try_for_each(|expr| lenient.name(expr))?;
        }
        order
            .iter_mut()
            .try_for_each(|item| lenient.name(&mut item.expr))
    }

    /// The expressions to group by: places and aliases looked up.
    fn groups(&self, select: &Select) -> Result<Vec<Expr>, SqlError> {
        let GroupByExpr::Expressions(listed, modifiers) = &select.group_by else {
            return Err(SqlError::unsupported("GROUP BY ALL is not supported"));
        };
        if !modifiers.is_empty() {
            return Err(SqlError::unsupported(
                "GROUP BY with modifiers is not supported",
            ));
        }
        let mut groups = Vec::new();
        for expr in listed {
            let found = match expr {
                Expr::Value(value) => match &value.value {
                    Value::Number(text, _) => {
                        let at = text.parse::<usize>().unwrap_or_default();
                        let shown = at.checked_sub(1).and_then(|at| select.projection.get(at));
                        let place = || {
                            SqlError::new(
                                "42P10",
                                format!("GROUP BY position {text} is not in select list"),
                            )
                        };
                        shown.and_then(item_expr).cloned().ok_or_else(place)?
                    }
                    _ => continue,
                },
                Expr::Identifier(ident) if member_of(expr).is_none() => {
                    let aliased = select.projection.iter().find_map(|item| match item {
                        SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => {
                            Some(expr.clone())
                        }
                        _ => None,
                    });
                    aliased.ok_or_else(|| self.unknown_column(&ident.value))?
                }
                Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => {
                    return Err(SqlError::unsupported(
                        "grouping sets over a cube are not supported",
                    ));
                }
                other => other.clone(),
            };
            if self.measures_in(&found) {
                return Err(SqlError::new(
                    "42803",
                    "a measure is not allowed in GROUP BY",
                ));
            }
            if !groups.contains(&found) {
                groups.push(found);
            }
        }
        Ok(groups)
    }

    fn has_measures(&self, select: &Select, order: &[sqlparser::ast::OrderByExpr]) -> bool {
        let shown = select.projection.iter().filter_map(item_expr);
        shown
            .chain(&select.having)
            .chain(order.iter().map(|item| &item.expr))
            .any(|expr| self.measures_in(expr))
    }

    /// Whether the expression aggregates.
    pub(super) fn measures_in(&self, expr: &Expr) -> bool {
        let found = sqlparser::ast::visit_expressions(expr, |expr| match expr {
            Expr::Function(function) if is_aggregate(function) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    }

    /// The column for a group: a dimension, a time cut by `date_trunc`, or an expression of its own.
    fn group(&mut self, expr: &Expr) -> Result<Expr, SqlError> {
        let wanted = match (member_of(expr), self.truncated(expr)) {
            (Some(index), _) => Wanted::Member(self.dimension(index)?),
            (None, Some((id, granularity))) => Wanted::Time(id, granularity),
            (None, None) => {
                let sql = self.template(expr)?;
                Wanted::Member(
                    self.model
                        .add_dimension(self.cube, DimensionKind::String, sql),
                )
            }
        };
        Ok(self.column(wanted))
    }

    pub(super) fn dimension(&self, index: usize) -> Result<MemberId, SqlError> {
        let id = MemberId {
            cube: self.cube,
            index,
        };
        if self.model.member(id).dimension().is_some() {
            return Ok(id);
        }
        let name = &self.model.member(id).name;
        Err(SqlError::new(
            "42803",
            format!("\"{name}\" is a measure: write MEASURE({name})"),
        ))
    }

    /// `date_trunc('month', time)` of a granularity that the planner cuts as PostgreSQL does.
    fn truncated(&self, expr: &Expr) -> Option<(MemberId, String)> {
        let Expr::Function(function) = expr else {
            return None;
        };
        let is_trunc = function.name.to_string().eq_ignore_ascii_case("date_trunc");
        let [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(time)),
        ] = arguments(function)?
        else {
            return None;
        };
        let Expr::Value(unit) = unit else { return None };
        let Value::SingleQuotedString(unit) = &unit.value else {
            return None;
        };
        let unit = unit.to_ascii_lowercase();
        let id = MemberId {
            cube: self.cube,
            index: member_of(time)?,
        };
        let is_time = self.model.member(id).value_type() == "time";
        let known = STANDARD.iter().any(|(name, _)| *name == unit);
        (is_trunc && is_time && known).then_some((id, unit))
    }

    /// Puts columns of the planner's statement in the place of groups, measures and members.
    fn replace(&mut self, expr: &mut Expr, groups: &[(Expr, Expr)]) -> Result<(), SqlError> {
        let mut replacer = Replacer {
            block: self,
            groups,
        };
        match expr.visit(&mut replacer) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// The column of the planner's statement that holds this, asked for once.
    pub(super) fn column(&mut self, wanted: Wanted) -> Expr {
        let at = self
            .wanted
            .iter()
            .position(|it| *it == wanted)
            .unwrap_or_else(|| {
                self.wanted.push(wanted);
                self.wanted.len() - 1
            });
        Expr::Identifier(Ident::with_quote('"', format!("__c{at}")))
    }

    /// An expression over dimensions, for the planner to write where they are.
    fn template(&mut self, expr: &Expr) -> Result<Template, SqlError> {
        if self.measures_in(expr) {
            return Err(SqlError::new(
                "42803",
                "a measure is not allowed in WHERE: use HAVING",
            ));
        }
        no_queries(expr)?;
        let text = expr.to_string();
        let mut parts = Vec::new();
        for (at, piece) in text.split([OPEN, CLOSE]).enumerate() {
            match piece
                .strip_prefix('m')
                .and_then(|number| number.parse().ok())
            {
                Some(index) if at % 2 == 1 => {
                    let id = self.dimension(index)?;
                    may_show(&self.model, self.context, id)?;
                    self.inside.push(id);
                    parts.push(Part::Member(id));
                }
                _ => parts.push(Part::Text(piece.to_owned())),
            }
        }
        // In parentheses: it stands among other conditions.
        parts.insert(0, Part::Text("(".to_owned()));
        parts.push(Part::Text(")".to_owned()));
        Ok(Template {
            parts,
            source: String::new(),
        })
    }
}
