//! Compiling one measure, dimension or segment.

use sha2::{Digest, Sha256};

use super::dimensions::{DIMENSION_KEYS, compile_dimension};
use super::measures::{MEASURE_KEYS, compile_measure};
use super::reference::{Kind, Names};
use super::source::{Node, Problems, to_json};
use super::title::{titleize, underscore};
use super::{Cube, Definition, Mask, Member, MemberId, Model};

const COMMON_KEYS: [&str; 16] = [
    "name",
    "title",
    "description",
    "public",
    "shown",
    "meta",
    "format",
    "sql",
    "mask",
    "aliases",
    "visible",
    "links",
    "key",
    "order",
    "values_as_segments",
    "field_type",
];
pub(super) fn compile_member(
    names: &Names<'_>,
    id: MemberId,
    cube: &Cube,
    problems: &mut Problems,
) -> Member {
    let (kind, name, node) = &names.drafts[id.cube].members[id.index];
    let (what, own): (&str, &[&str]) = match kind {
        Kind::Measure => ("a measure", &MEASURE_KEYS),
        Kind::Dimension => ("a dimension", &DIMENSION_KEYS),
        Kind::Segment => ("a segment", &[]),
    };
    let known: Vec<&str> = COMMON_KEYS.iter().chain(own).copied().collect();
    node.allow(&known, what, problems);
    let sql = node.text("sql", problems);
    let definition = match kind {
        Kind::Measure => {
            Definition::Measure(compile_measure(names, id, node, sql.as_deref(), problems))
        }
        Kind::Dimension => {
            Definition::Dimension(compile_dimension(names, id, node, sql.as_deref(), problems))
        }
        Kind::Segment => {
            if sql.is_none() {
                problems.add(&node.place, format!("the segment \"{name}\" needs \"sql\""));
            }
            let sql = sql.as_deref().unwrap_or("true");
            Definition::Segment(names.query(id.cube, sql, &node.place.at("sql"), problems))
        }
    };
    let short_title = node
        .text("title", problems)
        .unwrap_or_else(|| titleize(name));
    let is_key = matches!(&definition, Definition::Dimension(d) if d.primary_key);
    let public = node
        .flag("public", problems)
        .or_else(|| node.flag("shown", problems));
    Member {
        full_name: format!("{}.{name}", cube.name),
        alias: member_alias(cube, name, id.index),
        title: format!("{} {short_title}", cube.title),
        short_title,
        description: node.text("description", problems),
        public: public.unwrap_or(!is_key),
        meta: node.get("meta").map_or(serde_json::Value::Null, to_json),
        format: node.get("format").map(to_json),
        currency: node
            .text("currency", problems)
            .map(|code| code.to_uppercase()),
        definition,
        mask: read_mask(names, id.cube, node, problems),
        origin: None,
        sql,
        name: name.clone(),
        hash: String::new(),
    }
}

/// What stands for the value where a policy masks it.
fn read_mask(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Mask> {
    if let Some(serde_norway::Value::Mapping(_)) = node.get("mask") {
        let sql = node.node("mask", problems)?.text("sql", problems)?;
        return Some(Mask::Sql(names.template(
            cube,
            &sql,
            &node.place.at("mask"),
            problems,
        )));
    }
    match node.get("mask")? {
        serde_norway::Value::Number(number) => Some(Mask::Bare(number.to_string())),
        serde_norway::Value::Bool(flag) => Some(Mask::Bare(flag.to_string())),
        _ => node.text("mask", problems).map(Mask::Text),
    }
}

/// The column alias in generated SQL, short enough for PostgreSQL even with a granularity after it.
pub(super) fn member_alias(cube: &Cube, name: &str, index: usize) -> String {
    let alias = format!("{}__{}", cube.alias, underscore(name));
    let clash = cube.members.iter().any(|member| member.alias == alias);
    if clash || alias.len() > 48 {
        let cut = alias.len().min(40);
        return format!("{}_{index}", &alias[..cut]);
    }
    alias
}

/// Hashes each member's definition with those of all it refers to.
pub(super) fn hash_members(model: &mut Model) {
    let mut hashes = Vec::new();
    for (cube, definition) in model.cubes.iter().enumerate() {
        for index in 0..definition.members.len() {
            let mut hasher = Sha256::new();
            write_definition(model, MemberId { cube, index }, &mut hasher, 0);
            let hash: String = hasher
                .finalize()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            hashes.push((cube, index, hash));
        }
    }
    for (cube, index, hash) in hashes {
        model.cubes[cube].members[index].hash = hash;
    }
}

fn write_definition(model: &Model, id: MemberId, hasher: &mut Sha256, depth: usize) {
    let member = model.member(id);
    hasher.update(format!(
        "{}\0{:?}\0{:?}",
        member.full_name, member.definition, model.cubes[id.cube].table
    ));
    if model.is_counted_as_cube(member) {
        hasher.update("\0counted as Cube counts");
    }
    if depth > 16 {
        return;
    }
    let references: Vec<MemberId> = member
        .templates()
        .iter()
        .flat_map(|template| template.members())
        .collect();
    for reference in references
        .into_iter()
        .chain(member.origin.as_ref().map(|o| o.member))
    {
        write_definition(model, reference, hasher, depth + 1);
    }
}
