//! One SELECT over one cube: what it asks of the planner, and itself over what that gives.
//!
//! Filters and grouping go to the planner, which alone knows the source; what is computed from the
//! groups (arithmetic on measures, HAVING, ORDER BY, LIMIT) stays with the client's own words.

use std::ops::ControlFlow;

use ballpoint_postgres::ident::quote;
use serde_json::json;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, OrderBy,
    OrderByKind, Select, SelectItem, TableAlias, Value, VisitMut, VisitorMut,
};

use super::{SqlError, find_cube};
use crate::model::{
    Aggregation, Definition, DimensionKind, MemberId, Model, Part, SecurityContext, Template,
    nearest,
};
use crate::plan::granularity::STANDARD;
use crate::plan::{self, may_show};
use crate::service::Service;

/// Around the number of a member or a table in the text at hand; no client's text holds them.
pub(super) const OPEN: char = '\u{e000}';
pub(super) const CLOSE: char = '\u{e001}';

/// What a column of the planner's statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Member(MemberId),
    Time(MemberId, String),
}

/// A SELECT at work.
pub(super) struct Block<'a> {
    service: &'a Service,
    context: &'a SecurityContext,
    /// With what the SELECT brings along.
    model: Model,
    cube: usize,
    /// What the table is called in the statement.
    alias: String,
    /// Columns that are asked of the planner; each is `__cN` in the rewritten SELECT.
    wanted: Vec<Wanted>,
    segments: Vec<MemberId>,
    /// Members read inside expressions that the planner is given.
    inside: Vec<MemberId>,
    grouped: bool,
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
    /// Rewrites the SELECT in place and gives the table to read instead of the cube.
    pub(super) fn rewrite(
        service: &'a Service,
        context: &'a SecurityContext,
        cube: usize,
        select: &mut Select,
        order: Option<&mut OrderBy>,
    ) -> Result<String, SqlError> {
        let model = Model::clone(&service.snapshot.model);
        let alias = alias_of(select).unwrap_or_else(|| model.cubes[cube].name.clone());
        let mut block = Self {
            service,
            context,
            model,
            cube,
            alias,
            wanted: Vec::new(),
            segments: Vec::new(),
            inside: Vec::new(),
            grouped: false,
        };
        let mut none = None;
        let order = match order {
            Some(OrderBy {
                kind: OrderByKind::Expressions(items),
                ..
            }) => items.as_mut_slice(),
            Some(_) => return Err(SqlError::unsupported("ORDER BY ALL is not supported")),
            None => none.get_or_insert_with(Vec::new).as_mut_slice(),
        };
        block.expand(select)?;
        block.name_members(select, order)?;
        let groups = block.groups(select)?;
        block.grouped = !groups.is_empty() || block.has_measures(select, order);
        if let Some(condition) = select.selection.take() {
            let sql = block.template(&condition)?;
            let segment = block.model.add_segment(block.cube, sql);
            block.segments.push(segment);
        }
        let mut columns: Vec<(Expr, Expr)> = Vec::new();
        for group in groups {
            let column = block.group(&group)?;
            columns.push((group, column));
        }
        block.keep_names(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                block.replace(expr, &columns)?;
            }
        }
        for item in order.iter_mut() {
            block.replace(&mut item.expr, &columns)?;
        }
        if let Some(mut having) = select.having.take() {
            block.replace(&mut having, &columns)?;
            select.selection = Some(having);
        }
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        block.table()
    }

    /// `*` becomes every member that the caller may see.
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
                if !is_segment && may_show(&self.model, self.context, id).is_ok() {
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
    fn measures_in(&self, expr: &Expr) -> bool {
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

    fn dimension(&self, index: usize) -> Result<MemberId, SqlError> {
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

    /// The measure that an aggregate stands for.
    fn measure(&self, function: &Function) -> Result<MemberId, SqlError> {
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

    /// The column of the planner's statement that holds this, asked for once.
    fn column(&mut self, wanted: Wanted) -> Expr {
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

    /// What is shown keeps the name that it would have had.
    fn keep_names(&self, select: &mut Select) {
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

    /// The planner's statement for what was asked for, with its columns numbered.
    fn table(mut self) -> Result<String, SqlError> {
        if self.wanted.is_empty() {
            // `select 1 from cube`: as many rows as there are.
            let first = self.model.cubes[self.cube]
                .members
                .iter()
                .position(|it| it.dimension().is_some());
            let index =
                first.ok_or_else(|| SqlError::unsupported("the cube has no dimension to read"))?;
            self.column(Wanted::Member(MemberId {
                cube: self.cube,
                index,
            }));
        }
        let name = |id: &MemberId| self.model.member(*id).full_name.clone();
        let (mut measures, mut dimensions, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in &self.wanted {
            match wanted {
                Wanted::Time(id, granularity) => {
                    times.push(json!({ "dimension": name(id), "granularity": granularity }));
                }
                Wanted::Member(id) => match self.model.member(*id).definition {
                    Definition::Measure(_) => measures.push(name(id)),
                    _ => dimensions.push(name(id)),
                },
            }
        }
        let mut query = json!({
            "measures": measures, "dimensions": dimensions, "timeDimensions": times,
            "segments": self.segments.iter().map(name).collect::<Vec<_>>(),
            "filters": self.policy_filters(), "timezone": "UTC",
        });
        if !self.grouped {
            query["ungrouped"] = json!(true);
        }
        let (_, mut queries) = plan::normalize(&query, self.service.clock.business_now())?;
        let mut normalized = queries
            .pop()
            .ok_or_else(|| SqlError::new("42601", "nothing is asked for"))?;
        normalized.query.limit = Some(u32::MAX);
        normalized.order = Some(Vec::new());
        let (rollups, _) = self
            .service
            .rollups
            .usable(&self.model.hash, &self.service.results.versions);
        let plan = plan::plan_with(&self.model, &normalized, self.context, &rollups)?;
        let mut columns = Vec::new();
        for (at, wanted) in self.wanted.iter().enumerate() {
            let key = match wanted {
                Wanted::Member(id) => name(id),
                Wanted::Time(id, granularity) => format!("{}.{granularity}", name(id)),
            };
            let column = plan.columns.iter().find(|column| column.key == key);
            let alias = column.map_or(key.as_str(), |column| column.alias.as_str());
            columns.push(format!("{} AS \"__c{at}\"", quote(alias)));
        }
        let sql = plan.statement.literal_sql();
        Ok(format!(
            "(SELECT {} FROM ({sql}) AS planned)",
            columns.join(", ")
        ))
    }

    /// Conditions that are always true and name what a view's expressions stand for, so that the row
    /// policies of the cubes behind it apply.
    fn policy_filters(&self) -> Vec<serde_json::Value> {
        let mut cubes = Vec::new();
        let mut filters = Vec::new();
        for id in &self.inside {
            let Some(origin) = &self.model.member(*id).origin else {
                continue;
            };
            let behind = origin.member.cube;
            if cubes.contains(&behind) || self.model.cubes[behind].policies.is_none() {
                continue;
            }
            cubes.push(behind);
            let name = &self.model.member(*id).full_name;
            let is = |operator: &str| json!({ "member": name, "operator": operator });
            filters.push(json!({ "or": [is("set"), is("notSet")] }));
        }
        filters
    }

    fn unknown_column(&self, name: &str) -> SqlError {
        let cube = &self.model.cubes[self.cube];
        let members = cube
            .members
            .iter()
            .filter(|it| it.public && it.segment().is_none());
        let near = nearest(name, members.map(|it| it.name.as_str()), 1);
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
    fn find(&self, idents: &[Ident]) -> Result<Option<usize>, SqlError> {
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
struct Namer<'b> {
    block: &'b Block<'b>,
    /// Names that the SELECT gives to what it shows.
    aliases: &'b [String],
}

impl Namer<'_> {
    fn name(&mut self, expr: &mut Expr) -> Result<(), SqlError> {
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

/// Puts numbered columns in the place of groups, measures and, without groups, members.
struct Replacer<'b, 'a> {
    block: &'b mut Block<'a>,
    groups: &'b [(Expr, Expr)],
}

impl Replacer<'_, '_> {
    fn replaced(&mut self, expr: &Expr) -> Result<Option<Expr>, SqlError> {
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

/// The member whose mark an expression is.
fn member_of(expr: &Expr) -> Option<usize> {
    let Expr::Identifier(ident) = expr else {
        return None;
    };
    let number = ident.value.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    number.strip_prefix('m')?.parse().ok()
}

fn alias_of(select: &Select) -> Option<String> {
    match &select.from.first()?.relation {
        sqlparser::ast::TableFactor::Table { alias, .. } => {
            alias.as_ref().map(|it| it.name.value.clone())
        }
        _ => None,
    }
}

fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(list) => Some(&list.args),
        _ => None,
    }
}

/// A call that aggregates rows, and is not a window's.
fn is_aggregate(function: &Function) -> bool {
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
fn no_queries(expr: &Expr) -> Result<(), SqlError> {
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
