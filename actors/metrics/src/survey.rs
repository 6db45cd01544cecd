//! Looking at the data behind a model: the values of its dimensions and how far its times reach.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::catalog::{Catalog, CubeInfo, MemberInfo, VALUES_MAX};
use crate::execute::Runner;
use crate::model::{Cube, Definition, DimensionKind, Member, MemberId, Model, Part};
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
    Catalog {
        cubes: model.cubes.iter().filter(open).map(cube_info).collect(),
    }
}

fn cube_info(cube: &Cube) -> CubeInfo {
    let of = |wanted: fn(&Definition) -> bool| -> Vec<MemberInfo> {
        let members = cube
            .members
            .iter()
            .filter(|m| m.public && wanted(&m.definition));
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
        primary_key: member
            .dimension()
            .is_some_and(|dimension| dimension.primary_key),
        sql: member.sql.clone(),
        meta: member.meta.clone(),
        values: Vec::new(),
    }
}

/// Surveys the data, one scan a cube. A cube that cannot be read (its table is not built yet) stays
/// without values; only an unreachable warehouse ends the survey.
///
/// # Errors
/// [`QueryError::Unavailable`].
pub async fn survey(
    model: &Model,
    runner: &Runner,
    crowded: &HashSet<String>,
) -> Result<Survey, QueryError> {
    let mut survey = Survey {
        catalog: catalog(model),
        crowded: crowded.clone(),
        ..Survey::default()
    };
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    let lenders = lenders(model);
    for (index, cube) in model.cubes.iter().enumerate() {
        let lends = lenders.iter().any(|(_, from)| from.cube == index);
        if !(cube.public || lends) || cube.policies.is_some() || cube.table.is_none() {
            continue;
        }
        match survey_cube(model, runner, index, &lenders, &mut survey, &mut values).await {
            Ok(()) => {}
            Err(error @ QueryError::Unavailable(_)) => return Err(error),
            Err(error) => tracing::info!(cube = cube.name, %error, "no values yet"),
        }
    }
    let views = model.cubes.iter().flat_map(|cube| &cube.members);
    for member in views {
        if let Some(origin) = &member.origin {
            lend(model, origin.member, member, &mut survey, &mut values);
        }
    }
    for (to, from) in &lenders {
        lend(model, *from, model.member(*to), &mut survey, &mut values);
    }
    for dimension in survey
        .catalog
        .cubes
        .iter_mut()
        .flat_map(|cube| &mut cube.dimensions)
    {
        dimension.values = values.remove(&dimension.name).unwrap_or_default();
    }
    Ok(survey)
}

/// GROUPING takes no more arguments.
const DIMENSIONS_MAX: usize = 31;

async fn survey_cube(
    model: &Model,
    runner: &Runner,
    cube: usize,
    lenders: &[(MemberId, MemberId)],
    survey: &mut Survey,
    values: &mut HashMap<String, Vec<String>>,
) -> Result<(), QueryError> {
    let (named, times) = surveyed(model, cube, lenders, &survey.crowded);
    if named.is_empty() && times.is_empty() {
        return Ok(());
    }
    let plan = plan::survey(model, cube, &named, &times, VALUES_MAX + 1)?;
    let rows = runner.run(&plan).await?.rows;
    let found = sorted_out(model, &rows, (&named, &times), &mut survey.coverage);
    for (id, mut found) in named.iter().zip(found) {
        let name = model.member(*id).full_name.clone();
        if found.len() > VALUES_MAX {
            survey.crowded.insert(name);
        } else {
            found.sort();
            found.dedup();
            values.insert(name, found);
        }
    }
    Ok(())
}

/// The dimensions of a cube to look at: those that have names as values, and its times.
fn surveyed(
    model: &Model,
    cube: usize,
    lenders: &[(MemberId, MemberId)],
    crowded: &HashSet<String>,
) -> (Vec<MemberId>, Vec<MemberId>) {
    let (mut named, mut times) = (Vec::new(), Vec::new());
    for (index, member) in model.cubes[cube].members.iter().enumerate() {
        let id = MemberId { cube, index };
        let shown = member.public || lenders.iter().any(|(_, from)| *from == id);
        let Some(dimension) = member.dimension().filter(|_| shown) else {
            continue;
        };
        if !is_own(model, id) {
            continue;
        }
        match dimension.kind {
            DimensionKind::String | DimensionKind::Boolean => {
                let skip = dimension.primary_key || crowded.contains(&member.full_name);
                if !skip && named.len() < DIMENSIONS_MAX {
                    named.push(id);
                }
            }
            DimensionKind::Time => times.push(id),
            DimensionKind::Number | DimensionKind::Geo => {}
        }
    }
    (named, times)
}

/// The values of each named dimension in a survey's rows; the extent of each time goes to `coverage`.
fn sorted_out(
    model: &Model,
    rows: &[Vec<Value>],
    (named, times): (&[MemberId], &[MemberId]),
    coverage: &mut HashMap<String, (String, String)>,
) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![Vec::new(); named.len()];
    // The bit of the dimension that a row is for is 0; the first has the highest.
    let all = (1_i64 << named.len()) - 1;
    for row in rows {
        let which = row.first().and_then(Value::as_i64).unwrap_or_default();
        if which == all || named.is_empty() {
            for (at, id) in times.iter().enumerate() {
                let text = |column: usize| match row.get(1 + named.len() + 2 * at + column) {
                    Some(Value::String(text)) => Some(text.clone()),
                    _ => None,
                };
                if let Some(extent) = text(0).zip(text(1)) {
                    coverage.insert(model.member(*id).full_name.clone(), extent);
                }
            }
            continue;
        }
        // Two dimensions with one expression share their rows.
        for (at, found) in found.iter_mut().enumerate() {
            let mine = which & (1 << (named.len() - 1 - at)) == 0;
            if mine && let Some(Value::String(text)) = row.get(1 + at) {
                found.push(text.clone());
            }
        }
    }
    found
}

/// Whether a dimension is made of its own cube's columns alone.
fn is_own(model: &Model, id: MemberId) -> bool {
    let member = model.member(id);
    !member
        .dimension()
        .is_some_and(|dimension| dimension.sub_query)
        && member.templates().iter().all(|template| {
            template.cubes().all(|cube| cube == id.cube)
                && template
                    .members()
                    .all(|inner| inner.cube == id.cube && is_own(model, inner))
        })
}

/// Public dimensions that only stand for a dimension of another cube (`sql: "{Customers.country}"`),
/// each with that one.
fn lenders(model: &Model) -> Vec<(MemberId, MemberId)> {
    let mut out = Vec::new();
    for (cube, of) in model.cubes.iter().enumerate().filter(|(_, it)| it.public) {
        for (index, member) in of.members.iter().enumerate() {
            let templates = member.dimension().map(|_| member.templates());
            if let (true, Some([only])) = (member.public, templates.as_deref())
                && let [Part::Member(from)] = only.parts.as_slice()
                && from.cube != cube
            {
                out.push((MemberId { cube, index }, *from));
            }
        }
    }
    out
}

/// A dimension has the values and the extent of what it stands for.
fn lend(
    model: &Model,
    from: MemberId,
    to: &Member,
    survey: &mut Survey,
    values: &mut HashMap<String, Vec<String>>,
) {
    let name = &model.member(from).full_name;
    if let Some(found) = values.get(name).cloned() {
        values.insert(to.full_name.clone(), found);
    }
    if let Some(extent) = survey.coverage.get(name).cloned() {
        survey.coverage.insert(to.full_name.clone(), extent);
    }
}
