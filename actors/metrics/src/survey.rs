//! Looking at the data behind a model: the values of its dimensions and how far its times reach.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::catalog::{Catalog, CubeInfo, MemberInfo, VALUES_MAX};
use crate::execute::Runner;
use crate::model::{Cube, Definition, Member, MemberId, Model, SecurityContext};
use crate::plan::{self, QueryError};

/// What a survey found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub catalog: Catalog,
    /// Per time dimension, the first and last time in the data, UTC.
    pub coverage: HashMap<String, (String, String)>,
    /// Dimensions with more values than people name: not worth looking at again.
    pub crowded: HashSet<String>,
}

/// The catalogue without values: what the model alone says.
pub fn catalog(model: &Model) -> Catalog {
    let open = |cube: &&Cube| cube.public && cube.policies.is_none();
    Catalog { cubes: model.cubes.iter().filter(open).map(cube_info).collect() }
}

fn cube_info(cube: &Cube) -> CubeInfo {
    let of = |wanted: fn(&Definition) -> bool| -> Vec<MemberInfo> {
        let members = cube.members.iter().filter(|m| m.public && wanted(&m.definition));
        members.map(member_info).collect()
    };
    CubeInfo {
        name: cube.name.clone(),
        title: cube.title.clone(),
        description: cube.description.clone(),
        measures: of(|definition| matches!(definition, Definition::Measure(_))),
        dimensions: of(|definition| matches!(definition, Definition::Dimension(_))),
        segments: of(|definition| matches!(definition, Definition::Segment(_))),
        meta: cube.meta.clone(),
    }
}

fn member_info(member: &Member) -> MemberInfo {
    let member_type = match &member.definition {
        Definition::Measure(measure) => measure.aggregation.name(),
        Definition::Dimension(dimension) => dimension.kind.name(),
        Definition::Segment(_) => "segment",
    };
    MemberInfo {
        name: member.full_name.clone(),
        title: member.title.clone(),
        short_title: member.short_title.clone(),
        description: member.description.clone(),
        member_type: member_type.to_owned(),
        format: member.format.as_ref().map(|format| match format {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        }),
        primary_key: member.dimension().is_some_and(|dimension| dimension.primary_key),
        sql: member.sql.clone(),
        meta: member.meta.clone(),
        values: Vec::new(),
    }
}

/// Surveys the data. A dimension that cannot be read (its table is not built yet) stays without
/// values; only an unreachable warehouse ends the survey.
///
/// # Errors
/// [`QueryError::Unavailable`].
pub async fn survey(
    model: &Model,
    runner: &Runner,
    crowded: &HashSet<String>,
) -> Result<Survey, QueryError> {
    let mut survey =
        Survey { catalog: catalog(model), crowded: crowded.clone(), ..Survey::default() };
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for (cube, index) in members(model) {
        let member = &model.cubes[cube].members[index];
        let Some(dimension) = member.dimension() else { continue };
        let named = matches!(dimension.kind.name(), "string" | "boolean");
        if named && !dimension.primary_key && !survey.crowded.contains(&member.full_name) {
            match values_of(model, runner, &member.full_name).await {
                Ok(Some(found)) => {
                    values.insert(member.full_name.clone(), found);
                }
                Ok(None) => {
                    survey.crowded.insert(member.full_name.clone());
                }
                Err(error @ QueryError::Unavailable(_)) => return Err(error),
                Err(error) => tracing::debug!(member = member.full_name, %error, "no values"),
            }
        } else if dimension.kind.name() == "time" {
            match extent_of(model, runner, MemberId { cube, index }).await {
                Ok(Some(extent)) => {
                    survey.coverage.insert(member.full_name.clone(), extent);
                }
                Ok(None) => {}
                Err(error @ QueryError::Unavailable(_)) => return Err(error),
                Err(error) => tracing::debug!(member = member.full_name, %error, "no extent"),
            }
        }
    }
    for dimension in survey.catalog.cubes.iter_mut().flat_map(|cube| &mut cube.dimensions) {
        dimension.values = values.remove(&dimension.name).unwrap_or_default();
    }
    Ok(survey)
}

/// Members of cubes and views that anybody may see.
fn members(model: &Model) -> Vec<(usize, usize)> {
    let cubes = model.cubes.iter().enumerate().filter(|(_, c)| c.public && c.policies.is_none());
    cubes
        .flat_map(|(cube, c)| (0..c.members.len()).map(move |index| (cube, index)))
        .filter(|(cube, index)| model.cubes[*cube].members[*index].public)
        .collect()
}

/// The distinct values, sorted; `None` when there are too many.
async fn values_of(
    model: &Model,
    runner: &Runner,
    name: &str,
) -> Result<Option<Vec<String>>, QueryError> {
    let query = serde_json::json!({
        "dimensions": [name],
        "order": [[name, "asc"]],
        "limit": VALUES_MAX + 2,
    });
    let (_, queries) = plan::normalize(&query, jiff::Timestamp::UNIX_EPOCH)?;
    let Some(query) = queries.first() else { return Ok(None) };
    let plan = plan::plan(model, query, &SecurityContext::default())?;
    let rows = runner.run(&plan).await?.rows;
    let mut values: Vec<String> = rows
        .into_iter()
        .filter_map(|mut row| match row.pop()? {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        })
        .collect();
    values.sort();
    Ok((values.len() <= VALUES_MAX).then_some(values))
}

async fn extent_of(
    model: &Model,
    runner: &Runner,
    id: MemberId,
) -> Result<Option<(String, String)>, QueryError> {
    let plan = plan::extent(model, id)?;
    let rows = runner.run(&plan).await?.rows;
    let text = |at: usize| match rows.first().and_then(|row| row.get(at)) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    Ok(text(0).zip(text(1)))
}
