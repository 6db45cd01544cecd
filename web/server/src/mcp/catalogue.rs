//! The members that a caller may see, made short.

use std::fmt::Write;

use ballpoint_metrics::SecurityContext;
use ballpoint_metrics::catalog::{Catalog, CubeInfo, MemberInfo};
use ballpoint_metrics::model::nearest;
use serde_json::{Value, json};

use super::Mcp;

/// The catalogue without what the caller's access policy hides: `/meta` says what is left.
pub(super) async fn visible(mcp: &Mcp, caller: &SecurityContext) -> Result<Catalog, String> {
    let catalogue = mcp
        .metrics
        .catalog()
        .await
        .map_err(|error| error.to_string())?;
    let meta = mcp.metrics.meta(&json!({}), caller).await;
    let shown = |name: &str| -> bool {
        let cubes = meta.body["cubes"].as_array().into_iter().flatten();
        let members = cubes.flat_map(|cube| {
            ["measures", "dimensions", "segments"]
                .into_iter()
                .flat_map(|kind| cube[kind].as_array().into_iter().flatten())
        });
        members
            .into_iter()
            .any(|member| member["name"] == name && member["isVisible"] != json!(false))
    };
    let mut visible = (*catalogue).clone();
    for cube in &mut visible.cubes {
        for kind in [&mut cube.measures, &mut cube.dimensions, &mut cube.segments] {
            kind.retain(|member| shown(&member.name));
        }
    }
    visible
        .cubes
        .retain(|cube| !(cube.measures.is_empty() && cube.dimensions.is_empty()));
    Ok(visible)
}

/// A line a member.
pub(super) fn as_text(catalogue: &Catalog) -> String {
    let mut text = String::new();
    for cube in &catalogue.cubes {
        let _ = writeln!(text, "# {} ({})", cube.title, cube.name);
        for (kind, members) in kinds(cube) {
            for member in members {
                let about = member.description.as_deref().unwrap_or_default();
                let _ = writeln!(text, "{kind} {} - {}. {about}", member.name, member.title);
            }
        }
    }
    text
}

/// The member whose name is nearest to one that nobody has.
pub(super) fn near<'c>(catalogue: &'c Catalog, name: &str) -> Option<&'c str> {
    let members = catalogue.cubes.iter().flat_map(kinds);
    let names = members.flat_map(|(_, members)| members.iter().map(|it| it.name.as_str()));
    nearest(name, names, 1).first().copied()
}

/// The members whose name, title or synonyms hold `search`, or all.
pub(super) fn listed(catalogue: &Catalog, search: Option<&str>, cube: Option<&str>) -> Vec<Value> {
    let search = search.map(str::to_lowercase);
    let wanted = |member: &MemberInfo| {
        let Some(search) = &search else { return true };
        let said = [&member.name, &member.title].map(|text| text.to_lowercase());
        let synonyms = member.meta["synonyms"].to_string().to_lowercase();
        said.iter().chain([&synonyms]).any(|it| it.contains(search))
    };
    let cubes = catalogue.cubes.iter();
    cubes
        .filter(|it| cube.is_none_or(|name| it.name == name))
        .flat_map(kinds)
        .flat_map(|(kind, members)| members.iter().map(move |member| (kind, member)))
        .filter(|(_, member)| wanted(member))
        .map(|(kind, member)| {
            json!({ "name": member.name, "title": member.title, "kind": kind, "type": member.member_type })
        })
        .collect()
}

/// All that is known of one member, and what it can be split by.
pub(super) fn described(catalogue: &Catalog, name: &str) -> Option<Value> {
    let member = catalogue.member(name)?;
    let cube = catalogue.cube(name.split_once('.')?.0)?;
    let dimensions: Vec<&str> = cube.dimensions.iter().map(|it| it.name.as_str()).collect();
    Some(json!({
        "name": member.name,
        "title": member.title,
        "description": member.description,
        "type": member.member_type,
        "format": member.format,
        "sql": member.sql,
        "meta": member.meta,
        "cube": { "name": cube.name, "title": cube.title, "description": cube.description },
        "dimensions": dimensions,
    }))
}

fn kinds(cube: &CubeInfo) -> [(&'static str, &Vec<MemberInfo>); 3] {
    [
        ("measure", &cube.measures),
        ("dimension", &cube.dimensions),
        ("segment", &cube.segments),
    ]
}
