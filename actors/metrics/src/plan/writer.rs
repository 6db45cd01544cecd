//! Members as SQL expressions.

use std::collections::HashMap;

use ballpoint_postgres::ident::{quote, quote_literal};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::error::QueryError;
use super::filters::Condition;
use super::granularity::{self, Buckets, STANDARD};
use super::statement::mark;
use crate::model::{
    Aggregation, CaseLabel, Definition, Dimension, DimensionSql, Mask, Measure, MemberId, Model,
    Part, SecurityContext, Table, Template,
};
use crate::query::Filter;

/// Writes expressions and collects the values they bind.
pub(crate) struct Writer<'a> {
    pub(crate) model: &'a Model,
    pub(crate) context: &'a SecurityContext,
    pub(crate) zone: &'a TimeZone,
    pub(crate) zone_name: &'a str,
    pub(crate) params: Vec<String>,
    /// Put before table aliases, so that sub-queries do not capture each other's.
    pub(crate) prefix: String,
    /// Members that a sub-query has computed: the column that holds them.
    pub(crate) columns: HashMap<MemberId, String>,
    /// Measures of these cubes count distinct keys, because joins repeat their rows.
    pub(crate) multiplied: Vec<usize>,
    pub(crate) ungrouped: bool,
    /// Written behind time dimensions: ` + INTERVAL …`, what a time shift reads instead.
    pub(crate) shifts: HashMap<MemberId, String>,
    /// Time dimensions whose calendar says what a shift reads.
    pub(crate) calendar: HashMap<MemberId, &'a Template>,
    /// Members whose values are masked, unless a condition on the row holds.
    pub(crate) masked: HashMap<MemberId, Option<Condition>>,
    /// The conditions of the caller's policies on what stands behind sub-query dimensions.
    pub(crate) inner_filters: HashMap<MemberId, Vec<Filter>>,
    /// What the query filters by, for SQL that reads it: `FILTER_PARAMS`.
    pub(crate) asked: Asked,
    /// Inside the sub-query of a rolling window its measure is the plain aggregate.
    pub(crate) inside_window: bool,
}

/// A query's filters and ranges, resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) ranges: Vec<(MemberId, DateTime, DateTime)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        model: &'a Model,
        context: &'a SecurityContext,
        zone: &'a TimeZone,
        zone_name: &'a str,
    ) -> Self {
        Self {
            model,
            context,
            zone,
            zone_name,
            params: Vec::new(),
            prefix: String::new(),
            columns: HashMap::new(),
            multiplied: Vec::new(),
            ungrouped: false,
            shifts: HashMap::new(),
            calendar: HashMap::new(),
            masked: HashMap::new(),
            inner_filters: HashMap::new(),
            asked: Asked::default(),
            inside_window: false,
        }
    }

    pub(crate) fn bind(&mut self, value: impl Into<String>) -> String {
        self.params.push(value.into());
        mark(self.params.len())
    }

    pub(crate) fn table_alias(&self, cube: usize) -> String {
        quote(&format!("{}{}", self.prefix, self.model.cubes[cube].alias))
    }

    /// `table AS "alias"`.
    pub(crate) fn table(&mut self, cube: usize) -> Result<String, QueryError> {
        let alias = self.table_alias(cube);
        match &self.model.cubes[cube].table {
            Some(Table::Name(name)) => Ok(format!("{name} AS {alias}")),
            Some(Table::Query(sql)) => Ok(format!("({}\n) AS {alias}", self.template(sql)?)),
            None => Err(QueryError::Unplannable(format!(
                "'{}' is a view and has no rows of its own",
                self.model.cubes[cube].name
            ))),
        }
    }

    pub(crate) fn template(&mut self, template: &Template) -> Result<String, QueryError> {
        let alone = template.parts.len() == 1;
        let mut out = String::new();
        for part in &template.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Cube(cube) => out.push_str(&self.table_alias(*cube)),
                Part::Member(id) => {
                    let sql = self.member(*id)?;
                    out.push_str(&if alone { sql } else { in_parentheses(sql) });
                }
                Part::Granularity(id, name) => out.push_str(&self.at_granularity(*id, name)?),
                Part::Claim(path) => {
                    let claim = self.context.claim(path).ok_or_else(|| {
                        QueryError::Denied(format!("the security context has no \"{path}\""))
                    })?;
                    out.push_str(&self.bind(claim));
                }
                Part::ClaimFilter {
                    path,
                    column,
                    required,
                } => {
                    out.push_str(&self.claim_filter(path, column, *required)?);
                }
                Part::FilterParams { member, column } => {
                    out.push_str(&self.filter_params(*member, column)?);
                }
                Part::Literal { value, kind } => {
                    let place = self.bind(value.clone());
                    out.push_str(&format!("{place}::{kind}"));
                }
                Part::Localized(column) => out.push_str(&self.localized(column)),
            }
        }
        Ok(out)
    }

    /// What `write` writes of the values themselves: no mask changes which rows belong together.
    pub(super) fn unmasked<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> T {
        let masked = std::mem::take(&mut self.masked);
        let written = write(self);
        self.masked = masked;
        written
    }

    /// A member as it stands in other expressions: times unconverted, measures aggregated.
    pub(crate) fn member(&mut self, id: MemberId) -> Result<String, QueryError> {
        let written = self.columns.get(&self.resolve(id));
        if let (Some(Some(_)), Some(column)) = (self.masked.get(&id), written) {
            // A part that wrote a dimension row by row has masked it row by row.
            return Ok(column.clone());
        }
        let stand_in = self.stand_in(id)?;
        self.where_shown(id, stand_in, |writer| writer.value(id))
    }

    /// What `write` writes of a member, and what stands for it where policies mask it.
    fn where_shown(
        &mut self,
        id: MemberId,
        stand_in: Option<String>,
        write: impl FnOnce(&mut Self) -> Result<String, QueryError>,
    ) -> Result<String, QueryError> {
        let kind = self.model.member(id).value_type();
        match (self.masked.get(&id).cloned(), stand_in) {
            (None, _) => write(self),
            (Some(None), Some(stand_in)) => Ok(stand_in),
            (Some(None), None) => Ok(match kind {
                "number" => "NULL::numeric".to_owned(),
                "boolean" => "NULL::boolean".to_owned(),
                "time" => "NULL::timestamptz".to_owned(),
                _ => "NULL::text".to_owned(),
            }),
            (Some(Some(shown)), stand_in) => {
                let (shown, mut value) = (self.condition(&shown)?, write(self)?);
                if stand_in.is_some() && kind == "string" {
                    value = format!("({value})::text");
                }
                let otherwise = stand_in.as_deref().unwrap_or("NULL");
                Ok(format!(
                    "(CASE WHEN {shown} THEN {value} ELSE {otherwise} END)"
                ))
            }
        }
    }

    /// The mask of a member where it is a value of the member's type; `None` stands for NULL.
    fn stand_in(&mut self, id: MemberId) -> Result<Option<String>, QueryError> {
        if !self.masked.contains_key(&id) {
            return Ok(None);
        }
        let member = self.model.member(id);
        Ok(match (&member.mask, member.value_type()) {
            (Some(Mask::Sql(sql)), _) => {
                Some(in_parentheses(self.unmasked(|it| it.template(sql))?))
            }
            (Some(Mask::Text(text) | Mask::Bare(text)), "string") => Some(quote_literal(text)),
            (Some(Mask::Bare(text)), "number") if text.parse::<f64>().is_ok() => Some(text.clone()),
            (Some(Mask::Bare(text)), "boolean") if text.parse::<bool>().is_ok() => {
                Some(text.clone())
            }
            _ => None,
        })
    }

    fn value(&mut self, id: MemberId) -> Result<String, QueryError> {
        let id = self.resolve(id);
        if let Some(column) = self.columns.get(&id) {
            return Ok(column.clone());
        }
        let model = self.model;
        match &model.member(id).definition {
            Definition::Dimension(dimension) => {
                if let Some(&sql) = self.calendar.get(&id) {
                    return self.template(sql);
                }
                let sql = self.dimension(dimension)?;
                Ok(match self.shifts.get(&id) {
                    // A month is counted where the query's clock hangs: its end is another hour in UTC.
                    Some(shift) if self.zone_name != "UTC" && !self.is_local(id) => format!(
                        "(({}{shift}) AT TIME ZONE {})",
                        self.localized(&sql),
                        quote_literal(self.zone_name)
                    ),
                    Some(shift) => format!("({sql}{shift})"),
                    None => sql,
                })
            }
            Definition::Measure(measure) => self.measure(id, measure),
            Definition::Segment(sql) => Ok(format!("({})", self.template(sql)?)),
        }
    }

    /// What a view's member stands for; others are themselves.
    pub(crate) fn resolve(&self, id: MemberId) -> MemberId {
        let mut id = id;
        while let Some(origin) = &self.model.member(id).origin {
            id = origin.member;
        }
        id
    }

    fn dimension(&mut self, dimension: &Dimension) -> Result<String, QueryError> {
        match &dimension.sql {
            // Whoever compares it puts an operator beside it.
            DimensionSql::Expression(sql) => Ok(in_parentheses(self.template(sql)?)),
            DimensionSql::Geo {
                latitude,
                longitude,
            } => {
                let (latitude, longitude) = (self.template(latitude)?, self.template(longitude)?);
                Ok(format!("{latitude} || ',' || {longitude}"))
            }
            DimensionSql::Case { when, otherwise } => {
                let mut sql = "CASE".to_owned();
                for (condition, label) in when {
                    let condition = self.template(condition)?;
                    sql.push_str(&format!(" WHEN {condition} THEN {}", self.label(label)?));
                }
                if let Some(label) = otherwise {
                    sql.push_str(&format!(" ELSE {}", self.label(label)?));
                }
                sql.push_str(" END");
                Ok(sql)
            }
        }
    }

    fn label(&mut self, label: &CaseLabel) -> Result<String, QueryError> {
        match label {
            CaseLabel::Text(text) => Ok(quote_literal(text)),
            CaseLabel::Sql(sql) => self.template(sql),
        }
    }

    /// What the result shows instead of a member that policies mask everywhere, as it was declared.
    pub(crate) fn mask(&mut self, id: MemberId) -> Result<Option<String>, QueryError> {
        if !matches!(self.masked.get(&id), Some(None)) {
            return Ok(None);
        }
        Ok(Some(match &self.model.member(id).mask {
            None => "NULL".to_owned(),
            Some(Mask::Text(text)) => quote_literal(text),
            Some(Mask::Bare(text)) => text.clone(),
            // A mask may show a part of what it hides.
            Some(Mask::Sql(sql)) => self.unmasked(|it| it.template(sql))?,
        }))
    }

    /// A dimension as the result shows it: times in the query's zone.
    pub(crate) fn shown_dimension(&mut self, id: MemberId) -> Result<String, QueryError> {
        let sql = self.member(id)?;
        let is_time = self.model.member(id).value_type() == "time";
        if is_time && !self.is_local(id) && !self.columns.contains_key(&self.resolve(id)) {
            return Ok(self.localized(&sql));
        }
        Ok(sql)
    }

    pub(super) fn localized(&self, sql: &str) -> String {
        format!(
            "({sql}::timestamptz AT TIME ZONE {})",
            quote_literal(self.zone_name)
        )
    }

    /// Whether a time dimension is already in local time, being defined by a granularity.
    pub(crate) fn is_local(&self, id: MemberId) -> bool {
        let member = self.model.member(self.resolve(id));
        let Some(Dimension {
            sql: DimensionSql::Expression(sql),
            ..
        }) = member.dimension()
        else {
            return false;
        };
        match sql.parts.as_slice() {
            [Part::Granularity(..)] => true,
            [Part::Member(inner)] => self.is_local(*inner),
            _ => false,
        }
    }

    /// A time dimension cut to a granularity, in the query's zone.
    pub(crate) fn at_granularity(
        &mut self,
        id: MemberId,
        name: &str,
    ) -> Result<String, QueryError> {
        self.where_shown(id, None, |writer| writer.cut(id, name))
    }

    fn cut(&mut self, id: MemberId, name: &str) -> Result<String, QueryError> {
        let own = self.model.member(id).dimension();
        let own = own.and_then(|d| d.granularities.iter().find(|g| g.name == name));
        if let Some(sql) = own.and_then(|granularity| granularity.sql.as_ref()) {
            return self.template(sql);
        }
        let sql = self.value(id)?;
        let local = if self.is_local(id) {
            sql
        } else {
            self.localized(&sql)
        };
        let member = self.model.member(id);
        let is_custom = STANDARD.iter().all(|(standard, _)| *standard != name);
        if self.model.counts_as_cube() && is_custom {
            return Ok(Buckets::of(member, name)?.bucket_by_epoch(&local));
        }
        granularity::bucket(member, name, &local)
    }

    fn measure(&mut self, id: MemberId, measure: &Measure) -> Result<String, QueryError> {
        // Both are columns of sub-queries wherever a query can have them.
        let misplaced = match (&measure.rolling_window, &measure.stage) {
            (Some(_), _) if !self.inside_window => Some("has a rolling window"),
            (_, Some(_)) => Some("is multi-stage"),
            _ => None,
        };
        if let Some(kind) = misplaced {
            let name = &self.model.member(id).full_name;
            return Err(QueryError::Unplannable(format!(
                "'{name}' {kind} and cannot be used inside another aggregate"
            )));
        }
        let multiplied = self.multiplied.contains(&id.cube);
        let value = self.measured_value(id, measure)?;
        if self.ungrouped {
            return Ok(match measure.aggregation {
                Aggregation::Count
                | Aggregation::CountDistinct
                | Aggregation::CountDistinctApprox => {
                    format!("CASE WHEN ({value}) IS NOT NULL THEN 1 END")
                }
                _ => value,
            });
        }
        Ok(match measure.aggregation {
            Aggregation::Count if multiplied => format!("count(distinct {value})"),
            Aggregation::Count => format!("count({value})"),
            Aggregation::CountDistinct | Aggregation::CountDistinctApprox => {
                format!("count(distinct {value})")
            }
            Aggregation::Sum => format!("sum({value})"),
            Aggregation::Avg => format!("avg({value})"),
            Aggregation::Min => format!("min({value})"),
            Aggregation::Max => format!("max({value})"),
            Aggregation::Rank => "rank()".to_owned(),
            _ => value,
        })
    }

    /// What a measure aggregates, its filters applied.
    pub(super) fn measured_value(
        &mut self,
        id: MemberId,
        measure: &Measure,
    ) -> Result<String, QueryError> {
        let value = match &measure.sql {
            Some(sql) => self.template(sql)?,
            None => self.row_key(id.cube)?,
        };
        if measure.filters.is_empty() {
            return Ok(value);
        }
        let mut conditions = Vec::new();
        for filter in &measure.filters {
            conditions.push(format!("({})", self.template(filter)?));
        }
        let value = if value == "*" { "1".to_owned() } else { value };
        Ok(format!(
            "CASE WHEN {} THEN {value} END",
            conditions.join(" AND ")
        ))
    }

    /// A key as it tells rows apart, whoever may see it.
    pub(super) fn key(&mut self, id: MemberId) -> Result<String, QueryError> {
        self.unmasked(|writer| writer.member(id))
    }

    /// What tells that a row of the cube is there: its key, or the row itself.
    fn row_key(&mut self, cube: usize) -> Result<String, QueryError> {
        let keys = self.model.cubes[cube].primary_key.clone();
        match keys.as_slice() {
            [] if self.ungrouped => Ok("1".to_owned()),
            [] => Ok("*".to_owned()),
            [key] => self.key(*key),
            keys if self.multiplied.contains(&cube) => {
                let parts = keys.iter().map(|key| self.key(*key));
                Ok(format!(
                    "({})",
                    parts.collect::<Result<Vec<_>, _>>()?.join(", ")
                ))
            }
            [key, ..] => self.key(*key),
        }
    }
}

/// Parentheses where an operator outside could bind tighter than one inside.
fn in_parentheses(sql: String) -> String {
    let mut depth = 0_i32;
    let mut quoted: Option<char> = None;
    for c in sql.chars() {
        match (quoted, c) {
            (Some(open), c) if c == open => quoted = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quoted = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, c) if depth == 0 && !(c.is_alphanumeric() || c == '_' || c == '.') => {
                return format!("({sql})");
            }
            _ => {}
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_bind_wrongly_gets_parentheses() {
        assert_eq!(in_parentheses("\"a b\".c".into()), "\"a b\".c");
        assert_eq!(in_parentheses("sum(a + b)".into()), "sum(a + b)");
        assert_eq!(in_parentheses("a + b".into()), "(a + b)");
    }
}
