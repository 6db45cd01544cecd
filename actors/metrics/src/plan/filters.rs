//! Filter trees as SQL conditions.

use super::dates::{iso, utc_text};
use super::error::QueryError;
use super::writer::Writer;
use crate::model::{Definition, MemberId, nearest};
use crate::query::{Filter, FilterValue, OPERATORS};

/// A filter tree whose members are resolved.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Or(Vec<Condition>),
    And(Vec<Condition>),
    /// A policy's: it reads values that the caller sees masked.
    Policy(Box<Condition>),
    Member {
        id: MemberId,
        operator: String,
        values: Vec<Option<String>>,
    },
}

impl Condition {
    pub(crate) fn members(&self, out: &mut Vec<MemberId>) {
        match self {
            Self::Or(inner) | Self::And(inner) => inner.iter().for_each(|c| c.members(out)),
            Self::Policy(inner) => inner.members(out),
            Self::Member { id, .. } => out.push(*id),
        }
    }
}

impl Writer<'_> {
    /// Resolves a filter; `find` looks members up.
    pub(crate) fn resolve_filter(
        &self,
        filter: &Filter,
        find: &impl Fn(&str) -> Result<MemberId, QueryError>,
    ) -> Result<Condition, QueryError> {
        let all = |inner: &[Filter]| {
            inner
                .iter()
                .map(|filter| self.resolve_filter(filter, find))
                .collect::<Result<Vec<_>, _>>()
        };
        match filter {
            Filter::Or { or } => Ok(Condition::Or(all(or)?)),
            Filter::And { and } => Ok(Condition::And(all(and)?)),
            Filter::Member {
                member,
                operator,
                values,
            } => {
                if !OPERATORS.contains(&operator.as_str()) {
                    let near = nearest(operator, OPERATORS, 1);
                    let hint = near
                        .first()
                        .map_or_else(String::new, |n| format!(", did you mean \"{n}\"?"));
                    return Err(QueryError::Invalid(format!(
                        "Invalid query format: unknown operator \"{operator}\"{hint}"
                    )));
                }
                let values = values.iter().flatten().map(|value| match value {
                    FilterValue::Text(text) => Some(text.clone()),
                    FilterValue::Number(number) => Some(number.to_string()),
                    FilterValue::Bool(flag) => Some(flag.to_string()),
                    FilterValue::Null => None,
                });
                Ok(Condition::Member {
                    id: find(member)?,
                    operator: operator.clone(),
                    values: values.collect(),
                })
            }
        }
    }

    /// Whether the condition is on measures; an error when it mixes them with dimensions.
    pub(crate) fn is_on_measures(&self, condition: &Condition) -> Result<bool, QueryError> {
        let mut members = Vec::new();
        condition.members(&mut members);
        let measures = members
            .iter()
            .filter(|id| matches!(self.model.member(**id).definition, Definition::Measure(_)))
            .count();
        if measures > 0 && measures < members.len() {
            return Err(QueryError::Unplannable(
                "You cannot use dimension and measure in same condition".to_owned(),
            ));
        }
        Ok(measures > 0)
    }

    /// What the query asks of a member, said of a column; every row when it asks nothing, or asks it of
    /// values that are masked.
    pub(crate) fn filter_params(
        &mut self,
        member: MemberId,
        column: &str,
    ) -> Result<String, QueryError> {
        let asked = self.asked.clone();
        let mut parts = Vec::new();
        for (id, from, to) in asked.ranges {
            if self.resolve(id) == member && !self.masked.contains_key(&id) {
                parts.push(self.in_range(id, column, from, to)?);
            }
        }
        for condition in asked.conditions {
            if let Condition::Member {
                id,
                operator,
                values,
            } = &condition
                && self.resolve(*id) == member
                && !self.masked.contains_key(id)
            {
                parts.push(self.member_condition(*id, column, operator, values)?);
            }
        }
        Ok(match parts.as_slice() {
            [] => "1 = 1".to_owned(),
            parts => parts.join(" AND "),
        })
    }

    pub(crate) fn claim_filter(
        &mut self,
        path: &str,
        column: &str,
        required: bool,
    ) -> Result<String, QueryError> {
        match self.context.claim(path) {
            Some(claim) => Ok(format!("{column} = {}", self.bind(claim))),
            None if required => Err(QueryError::Denied(format!(
                "the security context has no \"{path}\""
            ))),
            None => Ok("1 = 1".to_owned()),
        }
    }

    pub(crate) fn condition(&mut self, condition: &Condition) -> Result<String, QueryError> {
        match condition {
            Condition::Or(inner) => self.joined(inner, " OR ", "FALSE"),
            Condition::And(inner) => self.joined(inner, " AND ", "TRUE"),
            Condition::Policy(inner) => self.unmasked(|writer| writer.condition(inner)),
            Condition::Member {
                id,
                operator,
                values,
            } => {
                // A filter does not tell what a mask hides: it compares with the mask.
                let sql = self.member(*id)?;
                self.member_condition(*id, &sql, operator, values)
            }
        }
    }

    fn member_condition(
        &mut self,
        id: MemberId,
        sql: &str,
        operator: &str,
        values: &[Option<String>],
    ) -> Result<String, QueryError> {
        if operator.ends_with("Date") || operator.ends_with("DateRange") {
            return self.date_condition(id, sql, operator, values);
        }
        self.value_condition(id, sql, operator, values)
    }

    fn joined(
        &mut self,
        inner: &[Condition],
        with: &str,
        empty: &str,
    ) -> Result<String, QueryError> {
        let parts = inner
            .iter()
            .map(|c| self.condition(c))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(if parts.is_empty() {
            empty.to_owned()
        } else {
            format!("({})", parts.join(with))
        })
    }

    fn value_condition(
        &mut self,
        id: MemberId,
        sql: &str,
        operator: &str,
        values: &[Option<String>],
    ) -> Result<String, QueryError> {
        let with_null = values.iter().any(Option::is_none);
        let texts: Vec<String> = values.iter().flatten().cloned().collect();
        let is_time = self.model.member(id).value_type() == "time" && !self.is_local(id);
        Ok(match operator {
            "set" => format!("({sql} IS NOT NULL)"),
            "notSet" => format!("({sql} IS NULL)"),
            "equals" | "in" => {
                let places = self.places(&texts, is_time)?;
                match (places.as_slice(), with_null) {
                    ([], _) => format!("({sql} IS NULL)"),
                    ([one], false) => format!("({sql} = {one})"),
                    (many, false) => format!("({sql} IN ({}))", many.join(", ")),
                    (many, true) => format!("({sql} IN ({}) OR {sql} IS NULL)", many.join(", ")),
                }
            }
            "notEquals" | "notIn" => {
                let places = self.places(&texts, is_time)?;
                match (places.as_slice(), with_null) {
                    ([], _) => format!("({sql} IS NOT NULL)"),
                    ([one], false) => format!("({sql} <> {one} OR {sql} IS NULL)"),
                    (many, false) => {
                        format!("({sql} NOT IN ({}) OR {sql} IS NULL)", many.join(", "))
                    }
                    (many, true) => {
                        format!("({sql} NOT IN ({}) AND {sql} IS NOT NULL)", many.join(", "))
                    }
                }
            }
            "gt" | "gte" | "lt" | "lte" => {
                let sign = match operator {
                    "gt" => ">",
                    "gte" => ">=",
                    "lt" => "<",
                    _ => "<=",
                };
                let first = texts
                    .first()
                    .cloned()
                    .ok_or_else(|| self.no_values(id, operator))?;
                let place = self.places(&[first], is_time)?.join("");
                format!("({sql} {sign} {place})")
            }
            "measureFilter" => {
                return Err(QueryError::Unplannable(
                    "the operator \"measureFilter\" is not supported: filter on the measure instead"
                        .to_owned(),
                ));
            }
            like => return self.like_condition(id, sql, like, &texts),
        })
    }

    fn no_values(&self, id: MemberId, operator: &str) -> QueryError {
        let member = &self.model.member(id).full_name;
        QueryError::Invalid(format!("Values required for filter: {member} {operator}"))
    }

    /// A placeholder a value; times are read in the query's zone.
    fn places(&mut self, texts: &[String], is_time: bool) -> Result<Vec<String>, QueryError> {
        let mut places = Vec::with_capacity(texts.len());
        for text in texts {
            if !is_time {
                places.push(self.bind(text.clone()));
                continue;
            }
            let instant = iso(text, self.zone)
                .and_then(|range| utc_text(range.from, self.zone))
                .ok_or_else(|| QueryError::Invalid(format!("Can't parse date: '{text}'")))?;
            let place = self.bind(instant);
            places.push(format!("{place}::timestamptz"));
        }
        Ok(places)
    }

    fn like_condition(
        &mut self,
        id: MemberId,
        sql: &str,
        operator: &str,
        texts: &[String],
    ) -> Result<String, QueryError> {
        if texts.is_empty() {
            return Err(self.no_values(id, operator));
        }
        let negated = operator.starts_with("not");
        let kind = operator.trim_start_matches("not").to_lowercase();
        let subject = match self.model.member(id).value_type() {
            "string" => sql.to_owned(),
            _ => format!("({sql})::text"),
        };
        let mut parts = Vec::new();
        for text in texts {
            // The three characters that LIKE would not take literally.
            let literal: String = text
                .chars()
                .flat_map(|c| {
                    matches!(c, '%' | '_' | '\\')
                        .then_some('\\')
                        .into_iter()
                        .chain([c])
                })
                .collect();
            let place = self.bind(literal);
            let pattern = match kind.as_str() {
                "contains" => format!("'%' || {place} || '%'"),
                "startswith" => format!("{place} || '%'"),
                _ => format!("'%' || {place}"),
            };
            parts.push(if negated {
                format!("{subject} NOT ILIKE {pattern}")
            } else {
                format!("{subject} ILIKE {pattern}")
            });
        }
        Ok(if negated {
            format!("({} OR {sql} IS NULL)", parts.join(" AND "))
        } else {
            format!("({})", parts.join(" OR "))
        })
    }

    fn date_condition(
        &mut self,
        id: MemberId,
        sql: &str,
        operator: &str,
        values: &[Option<String>],
    ) -> Result<String, QueryError> {
        let texts: Vec<&String> = values.iter().flatten().collect();
        let first = *texts.first().ok_or_else(|| self.no_values(id, operator))?;
        let last = texts.get(1).copied().unwrap_or(first);
        let unreadable = |text: &str| QueryError::Invalid(format!("Can't parse date: '{text}'"));
        let from = iso(first, self.zone).ok_or_else(|| unreadable(first))?.from;
        let to = iso(last, self.zone).ok_or_else(|| unreadable(last))?.to;
        Ok(match operator {
            "beforeDate" => format!("({sql} < {})", self.instant(id, from)?),
            "beforeOrOnDate" => format!("({sql} <= {})", self.instant(id, from)?),
            "afterDate" => format!("({sql} > {})", self.instant(id, from)?),
            "afterOrOnDate" => format!("({sql} >= {})", self.instant(id, from)?),
            "notInDateRange" | "notOnTheDate" => {
                let (from, end) = (self.instant(id, from)?, self.instant_after(id, to)?);
                format!("({sql} < {from} OR {sql} >= {end})")
            }
            _ => self.in_range(id, sql, from, to)?,
        })
    }

    /// `from <= sql` and `sql` before the millisecond after `to`, so that nothing falls between two
    /// ranges that meet.
    pub(crate) fn in_range(
        &mut self,
        id: MemberId,
        sql: &str,
        from: jiff::civil::DateTime,
        to: jiff::civil::DateTime,
    ) -> Result<String, QueryError> {
        let (from, end) = (self.instant(id, from)?, self.instant_after(id, to)?);
        Ok(format!("({sql} >= {from} AND {sql} < {end})"))
    }

    fn instant_after(
        &mut self,
        id: MemberId,
        at: jiff::civil::DateTime,
    ) -> Result<String, QueryError> {
        use jiff::ToSpan;
        let next = at.checked_add(1.millisecond());
        self.instant(id, next.map_err(|_| out_of_range())?)
    }

    fn instant(&mut self, id: MemberId, at: jiff::civil::DateTime) -> Result<String, QueryError> {
        if self.is_local(id) {
            let place = self.bind(super::dates::local_text(at));
            return Ok(format!("{place}::timestamp"));
        }
        let text = utc_text(at, self.zone).ok_or_else(out_of_range)?;
        let place = self.bind(text);
        Ok(format!("{place}::timestamptz"))
    }
}

fn out_of_range() -> QueryError {
    QueryError::invalid("a date is out of range")
}
