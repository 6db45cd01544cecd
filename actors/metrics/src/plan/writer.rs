//! Members as SQL expressions.

use std::collections::HashMap;

use ballpoint_postgres::ident::{quote, quote_literal};
use jiff::tz::TimeZone;

use super::error::QueryError;
use super::granularity;
use super::statement::mark;
use crate::model::{
    Aggregation, CaseLabel, Definition, Dimension, DimensionSql, Measure, MemberId, Model, Part,
    SecurityContext, Table, Template,
};

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
    /// Added to time dimensions: what a time shift reads instead.
    pub(crate) shifts: HashMap<MemberId, String>,
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
            }
        }
        Ok(out)
    }

    /// A member as it stands in other expressions: times unconverted, measures aggregated.
    pub(crate) fn member(&mut self, id: MemberId) -> Result<String, QueryError> {
        let id = self.resolve(id);
        if let Some(column) = self.columns.get(&id) {
            return Ok(column.clone());
        }
        let model = self.model;
        match &model.member(id).definition {
            Definition::Dimension(dimension) => {
                let sql = self.dimension(dimension)?;
                Ok(match self.shifts.get(&id) {
                    Some(interval) => format!("({sql} + INTERVAL {})", quote_literal(interval)),
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
            DimensionSql::Expression(sql) => self.template(sql),
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

    /// A dimension as the result shows it: times in the query's zone.
    pub(crate) fn shown_dimension(&mut self, id: MemberId) -> Result<String, QueryError> {
        let sql = self.member(id)?;
        let is_time = self.model.member(id).value_type() == "time";
        if is_time && !self.is_local(id) && !self.columns.contains_key(&self.resolve(id)) {
            return Ok(self.localized(&sql));
        }
        Ok(sql)
    }

    fn localized(&self, sql: &str) -> String {
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
        let sql = self.member(id)?;
        let local = if self.is_local(id) {
            sql
        } else {
            self.localized(&sql)
        };
        let member = self.model.member(id);
        granularity::bucket(member, name, &local)
    }

    fn measure(&mut self, id: MemberId, measure: &Measure) -> Result<String, QueryError> {
        let unsupported = match (&measure.rolling_window, &measure.stage) {
            (Some(_), _) => Some("a rolling window"),
            (_, Some(_)) => Some("multi-stage"),
            _ => None,
        };
        if let Some(kind) = unsupported {
            let name = &self.model.member(id).full_name;
            return Err(QueryError::Unplannable(format!(
                "'{name}' is {kind}: such measures cannot be queried yet"
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
    fn measured_value(&mut self, id: MemberId, measure: &Measure) -> Result<String, QueryError> {
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

    /// What tells that a row of the cube is there: its key, or the row itself.
    fn row_key(&mut self, cube: usize) -> Result<String, QueryError> {
        let keys = self.model.cubes[cube].primary_key.clone();
        match keys.as_slice() {
            [] if self.ungrouped => Ok("1".to_owned()),
            [] => Ok("*".to_owned()),
            [key] => self.member(*key),
            keys if self.multiplied.contains(&cube) => {
                let parts = keys.iter().map(|key| self.member(*key));
                Ok(format!(
                    "({})",
                    parts.collect::<Result<Vec<_>, _>>()?.join(", ")
                ))
            }
            [key, ..] => self.member(*key),
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
