//! Measures that a query brings along: `{"name": "margin", "sql": "{Sales.revenue} - {Sales.cost}"}`.
//!
//! The SQL is read by a grammar of its own and written anew: operators, functions and types come
//! from fixed lists, members from the model, and every number and text is bound. Nothing of the
//! request's text reaches the statement. Aggregates of dimensions become measures of the
//! dimension's cube, so that joins which repeat its rows change no sum.

mod grammar;

use self::grammar::Parser;
use super::error::QueryError;
use super::resolve::may_show;
use crate::model::title::titleize;
use crate::model::{
    Aggregation, Definition, Measure, Member, MemberId, Model, Part, SecurityContext, Template,
};
use crate::query::{Computed, Query};

/// The model with the query's own measures in it.
pub(crate) fn extend(
    model: &Model,
    computed: &[Computed],
    context: &SecurityContext,
) -> Result<Model, QueryError> {
    let mut extended = Extended {
        model: model.clone(),
        context,
    };
    for measure in computed {
        if extended.model.find(&measure.name).is_some() {
            return Err(QueryError::Unplannable(format!(
                "'{}' is in the model already: give the measure of the query another name",
                measure.name
            )));
        }
        let parts = Parser::read(&mut extended, measure)?;
        extended.add_calculation(measure, parts)?;
    }
    Ok(extended.model)
}

/// The measures that queries of one request bring along, each once.
pub(crate) fn of<'q>(queries: impl IntoIterator<Item = &'q Query>) -> Vec<Computed> {
    let mut all: Vec<Computed> = Vec::new();
    for measure in queries
        .into_iter()
        .flat_map(|query| &query.computed_measures)
    {
        if !all.contains(measure) {
            all.push(measure.clone());
        }
    }
    all
}

/// A model that grows while expressions are read.
struct Extended<'a> {
    model: Model,
    context: &'a SecurityContext,
}

impl Extended<'_> {
    /// A member that the caller may see the values of.
    fn member(&self, path: &str) -> Result<MemberId, QueryError> {
        let id = self
            .model
            .find(path)
            .ok_or_else(|| QueryError::unknown_member(&self.model, self.context, path))?;
        may_show(&self.model, self.context, id)?;
        Ok(id)
    }

    /// An aggregate over dimensions, as a measure of the first one's cube.
    fn add_aggregate(
        &mut self,
        aggregation: Aggregation,
        parts: Vec<Part>,
    ) -> Result<MemberId, QueryError> {
        let template = template(parts);
        let first = template.members().next().ok_or_else(|| {
            QueryError::invalid("an aggregate in a measure's sql needs a dimension inside")
        })?;
        let mut at = first;
        while let Some(origin) = &self.model.member(at).origin {
            at = origin.member;
        }
        Ok(self.push(at.cube, "aggregate", aggregation, template))
    }

    fn add_calculation(&mut self, measure: &Computed, parts: Vec<Part>) -> Result<(), QueryError> {
        let template = template(parts);
        let first = template.members().next().ok_or_else(|| {
            QueryError::Invalid(format!("the sql of '{}' names no member", measure.name))
        })?;
        let id = self.push(first.cube, &measure.name, Aggregation::Number, template);
        let member = &mut self.model.cubes[id.cube].members[id.index];
        let last = measure.name.rsplit('.').next().unwrap_or(&measure.name);
        member.full_name.clone_from(&measure.name);
        member.title = measure.title.clone().unwrap_or_else(|| titleize(last));
        member.short_title.clone_from(&member.title);
        member.format = measure.format.clone().map(Into::into);
        member.sql = Some(measure.sql.clone());
        self.model.computed.insert(measure.name.clone(), id);
        Ok(())
    }

    fn push(
        &mut self,
        cube: usize,
        name: &str,
        aggregation: Aggregation,
        sql: Template,
    ) -> MemberId {
        let members = &mut self.model.cubes[cube].members;
        let index = members.len();
        members.push(Member {
            name: name.to_owned(),
            full_name: name.to_owned(),
            alias: format!("computed_{cube}_{index}"),
            title: String::new(),
            short_title: String::new(),
            description: None,
            public: true,
            meta: serde_json::Value::Null,
            format: None,
            currency: None,
            definition: Definition::Measure(Measure {
                aggregation,
                sql: Some(sql),
                filters: Vec::new(),
                drill_members: Vec::new(),
                rolling_window: None,
                stage: None,
            }),
            mask: None,
            origin: None,
            sql: None,
            hash: String::new(),
        });
        MemberId { cube, index }
    }
}

fn template(parts: Vec<Part>) -> Template {
    Template {
        parts,
        source: String::new(),
    }
}
