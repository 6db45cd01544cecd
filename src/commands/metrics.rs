//! `metrics ls|describe|validate`: the data model from its files, without a database.

use std::process::ExitCode;

use anyhow::bail;
use ballpoint_metrics::model::{Cube, Definition, Member, Model, nearest};
use ballpoint_metrics::{ModelError, Service};
use serde_json::{Value, json};

use super::Context;
use crate::cli::MetricsCommand;
use crate::output::{self, UserError};

pub(super) fn run(context: &Context, command: &MetricsCommand) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    let Some(metrics) = &project.config.metrics else {
        bail!(UserError(
            "the project has no [metrics] section: there is no data model".to_owned()
        ));
    };
    let model = Model::load(&project.folder.join(&metrics.path))
        .map(|model| model.counting(metrics.custom_granularities));
    if let MetricsCommand::Validate = command {
        return validate(context, model);
    }
    let model = model.map_err(|error| UserError(error.to_string()))?;
    match command {
        MetricsCommand::Ls { cube } => list(context, &model, cube.as_deref()),
        MetricsCommand::Describe { name } => describe(context, &model, name),
        MetricsCommand::Validate => Ok(ExitCode::SUCCESS),
    }
}

/// Every problem with its file and line; exit code 2 when there is one.
fn validate(context: &Context, model: Result<Model, ModelError>) -> anyhow::Result<ExitCode> {
    let (cubes, problems) = match &model {
        Ok(model) => (model.cubes.as_slice(), Vec::new()),
        Err(error) => (&[][..], error.problems.clone()),
    };
    let members: usize = cubes.iter().map(|cube| cube.members.len()).sum();
    if context.place.json {
        let problems = problems
            .iter()
            .map(|it| json!({ "file": it.file, "line": it.line, "message": it.message }));
        output::json(&json!({
            "valid": model.is_ok(),
            "cubes": cubes.len(),
            "members": members,
            "problems": problems.collect::<Vec<_>>(),
        }))?;
    } else if problems.is_empty() {
        output::line(format!(
            "{} cubes and views, {members} members: valid",
            cubes.len()
        ));
    } else {
        problems
            .iter()
            .for_each(|problem| output::line(problem.to_string()));
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn kind(member: &Member) -> &'static str {
    match member.definition {
        Definition::Measure(_) => "measure",
        Definition::Dimension(_) => "dimension",
        Definition::Segment(_) => "segment",
    }
}

fn cube_of<'m>(model: &'m Model, name: &str) -> anyhow::Result<&'m Cube> {
    let Some(cube) = model.cube(name) else {
        let names = model.cubes.iter().map(|cube| cube.name.as_str());
        let near = nearest(name, names, 1);
        let hint = near
            .first()
            .map_or_else(String::new, |n| format!("; did you mean \"{n}\"?"));
        bail!(UserError(format!("there is no cube \"{name}\"{hint}")));
    };
    Ok(cube)
}

fn list(context: &Context, model: &Model, only: Option<&str>) -> anyhow::Result<ExitCode> {
    let cubes: Vec<&Cube> = match only {
        Some(name) => vec![cube_of(model, name)?],
        None => model.cubes.iter().filter(|cube| cube.public).collect(),
    };
    let shown = |cube: &Cube| -> Vec<Value> {
        let members = cube.members.iter().filter(|member| member.public);
        let item = |member: &Member| {
            json!({
                "name": member.full_name,
                "kind": kind(member),
                "type": member.value_type(),
                "title": member.title,
                "description": member.description,
            })
        };
        members.map(item).collect()
    };
    if context.place.json {
        let all: Vec<Value> = cubes.iter().flat_map(|cube| shown(cube)).collect();
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    for cube in cubes {
        let what = if cube.table.is_some() { "cube" } else { "view" };
        output::line(format!("{} ({what}) {}", cube.name, cube.title));
        for member in cube.members.iter().filter(|member| member.public) {
            output::line(format!(
                "  {:<10} {:<40} {:<8} {}",
                kind(member),
                member.full_name,
                member.value_type(),
                member.description.as_deref().unwrap_or(&member.short_title)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(context: &Context, model: &Model, name: &str) -> anyhow::Result<ExitCode> {
    let Some(id) = model.find(name) else {
        if !name.contains('.') {
            return list(context, model, Some(name));
        }
        let near = nearest(name, model.public_names(), 3);
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!("; nearest: {}", near.join(", "))
        };
        bail!(UserError(format!("there is no member \"{name}\"{hint}")));
    };
    let definition = Service::definition_of(model, model.member(id));
    if context.place.json {
        output::json(&definition)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (key, value) in definition.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => output::line(format!("{key:<12} {text}")),
            other => output::line(format!("{key:<12} {other}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}
