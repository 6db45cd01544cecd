//! Views: members of cubes reached along join paths, under one roof.

use std::collections::HashMap;

use serde_json::json;

use super::access::read_filter;
use super::members::member_alias;
use super::reference::Names;
use super::source::{Node, Problems, hint, scalar, to_json};
use super::title::titleize;
use super::{DefaultFilter, Definition, Member, MemberId, Model, Origin};
use crate::query::Filter;

/// `includes` as names, `None` for `"*"` or when absent.
pub(super) fn includes_of(
    node: &Node<'_>,
    key: &str,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    match node.get(key)? {
        serde_norway::Value::String(all) if all == "*" => None,
        _ => Some(node.texts(key, problems)),
    }
}

/// A member that a view takes in, with what it overrides.
struct Included {
    name: String,
    alias: Option<String>,
    title: Option<String>,
    description: Option<String>,
    format: Option<serde_json::Value>,
    meta: Option<serde_json::Value>,
}

pub(super) fn compile_view(
    names: &Names<'_>,
    index: usize,
    model: &mut Model,
    problems: &mut Problems,
) {
    let draft = &names.drafts[index];
    let mut nodes = Vec::new();
    for generation in draft.ancestors.iter().rev().chain([&draft.node]) {
        nodes.extend(generation.nodes("cubes", problems));
    }
    for node in nodes {
        node.allow(
            &[
                "join_path",
                "includes",
                "excludes",
                "prefix",
                "alias",
                "split",
            ],
            "a view's cube",
            problems,
        );
        let Some(path) = read_path(names, model, &node, problems) else {
            continue;
        };
        let Some(&cube) = path.last() else { continue };
        let prefix = node.flag("prefix", problems).unwrap_or(false).then(|| {
            node.text("alias", problems)
                .unwrap_or_else(|| model.cubes[cube].name.clone())
        });
        let excludes = node.texts("excludes", problems);
        for included in read_includes(model, cube, &node, problems) {
            if excludes.contains(&included.name) {
                continue;
            }
            let Some(&at) = model.cubes[cube].by_name.get(&included.name) else {
                let known = model.cubes[cube].members.iter().map(|m| m.name.as_str());
                let hint = hint(&included.name, known);
                let place = node.place.at(&included.name);
                problems.add(
                    &place,
                    format!(
                        "\"{}\" has no member \"{}\"{hint}",
                        model.cubes[cube].name, included.name
                    ),
                );
                continue;
            };
            let id = MemberId { cube, index: at };
            let name = name_in_view(&included, prefix.as_deref());
            let view = &model.cubes[index];
            let source = node.text("join_path", problems).unwrap_or_default();
            if let Some(&other) = view.by_name.get(&name) {
                let same = |it: &Origin| it.member == id && it.path == path;
                if !view.members[other].origin.as_ref().is_some_and(same) {
                    let message = format!(
                        "\"{name}\" is in \"{}\" already: exclude it, or give it an alias",
                        view.name
                    );
                    problems.add(&node.place.at(&source), message);
                }
                continue;
            }
            let at = view.members.len();
            model.cubes[index].sources.push((at, source));
            add_member(model, index, id, &path, name, included);
        }
    }
    map_drill_members(model, index);
    let view = &model.cubes[index];
    let nested = read_folders(draft.node.nodes("folders", problems), view, problems);
    let filters = read_default_filters(&draft.node, view, problems);
    let view = &mut model.cubes[index];
    view.folders = nested.iter().map(flattened).collect();
    view.nested_folders = nested;
    view.default_filters = filters;
}

fn read_path(
    names: &Names<'_>,
    model: &Model,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    let Some(text) = node.text("join_path", problems) else {
        problems.add(&node.place, "a view's cube needs \"join_path\"");
        return None;
    };
    let mut path: Vec<usize> = Vec::new();
    for name in text.split('.') {
        let Some(&cube) = names.by_name.get(name) else {
            let hint = hint(name, names.by_name.keys().map(String::as_str));
            problems.add(
                &node.place.at(&text),
                format!("unknown cube \"{name}\"{hint}"),
            );
            return None;
        };
        if let Some(&last) = path.last()
            && !model.cubes[last].joins.iter().any(|join| join.to == cube)
        {
            let from = &model.cubes[last].name;
            problems.add(
                &node.place.at(&text),
                format!("\"{from}\" has no join to \"{name}\""),
            );
            return None;
        }
        path.push(cube);
    }
    Some(path)
}

fn read_includes(
    model: &Model,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<Included> {
    let plain = |name: String| Included {
        name,
        alias: None,
        title: None,
        description: None,
        format: None,
        meta: None,
    };
    match node.get("includes") {
        Some(serde_norway::Value::Sequence(items)) => items
            .iter()
            .filter_map(|item| match item {
                serde_norway::Value::Mapping(mapping) => {
                    let item = Node::new(node.place.at("includes"), mapping);
                    let keys = ["name", "alias", "title", "description", "format", "meta"];
                    item.allow(&keys, "an included member", problems);
                    Some(Included {
                        name: item.text("name", problems)?,
                        alias: item.text("alias", problems),
                        title: item.text("title", problems),
                        description: item.text("description", problems),
                        format: item.get("format").map(to_json),
                        meta: item.get("meta").map(to_json),
                    })
                }
                other => scalar(other).map(plain),
            })
            .collect(),
        Some(serde_norway::Value::String(all)) if all == "*" => model.cubes[cube]
            .members
            .iter()
            .map(|member| plain(member.name.clone()))
            .collect(),
        Some(_) => {
            problems.add(
                &node.place.at("includes"),
                "\"includes\" must be \"*\" or a list",
            );
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn name_in_view(included: &Included, prefix: Option<&str>) -> String {
    let name = included.alias.as_ref().unwrap_or(&included.name);
    match prefix {
        Some(prefix) => format!("{prefix}_{name}"),
        None => name.clone(),
    }
}

fn add_member(
    model: &mut Model,
    view: usize,
    id: MemberId,
    path: &[usize],
    name: String,
    included: Included,
) {
    let source = model.member(id).clone();
    let own_title = (source.short_title != titleize(&source.name)).then_some(source.short_title);
    let short_title = included
        .title
        .or(own_title)
        .unwrap_or_else(|| titleize(&name));
    let mut definition = source.definition;
    if let Definition::Dimension(dimension) = &mut definition {
        dimension.primary_key = false;
    }
    let cube = &mut model.cubes[view];
    let index = cube.members.len();
    let member = Member {
        full_name: format!("{}.{name}", cube.name),
        alias: member_alias(cube, &name, index),
        title: format!("{} {short_title}", cube.title),
        short_title,
        description: included.description.or(source.description),
        public: source.public,
        meta: included.meta.unwrap_or(source.meta),
        format: included.format.or(source.format),
        currency: source.currency,
        definition,
        mask: source.mask,
        origin: Some(Origin {
            member: id,
            path: path.to_vec(),
        }),
        sql: source.sql,
        name: name.clone(),
        hash: String::new(),
    };
    cube.by_name.insert(name, index);
    cube.members.push(member);
}

/// Drill members of a view's measures are those that the view has, under its names.
fn map_drill_members(model: &mut Model, view: usize) {
    let full: HashMap<String, String> = model.cubes[view]
        .members
        .iter()
        .filter_map(|member| {
            let origin = model.member(member.origin.as_ref()?.member);
            Some((origin.full_name.clone(), member.full_name.clone()))
        })
        .collect();
    for member in &mut model.cubes[view].members {
        if let Definition::Measure(measure) = &mut member.definition {
            measure.drill_members = measure
                .drill_members
                .iter()
                .filter_map(|name| full.get(name).cloned())
                .collect();
        }
    }
}

/// Folders with their members by full name, and folders in them.
fn read_folders(
    nodes: Vec<Node<'_>>,
    view: &super::Cube,
    problems: &mut Problems,
) -> Vec<serde_json::Value> {
    let mut folders = Vec::new();
    for folder in nodes {
        folder.allow(&["name", "includes"], "a folder", problems);
        let name = folder.text("name", problems).unwrap_or_default();
        let members = match folder.get("includes") {
            Some(serde_norway::Value::Sequence(items)) => {
                read_folder(&folder, items, view, problems)
            }
            _ => view.members.iter().map(|m| json!(m.full_name)).collect(),
        };
        folders.push(json!({ "name": name, "members": members }));
    }
    folders
}

fn read_folder(
    folder: &Node<'_>,
    items: &[serde_norway::Value],
    view: &super::Cube,
    problems: &mut Problems,
) -> Vec<serde_json::Value> {
    let mut members = Vec::new();
    for item in items {
        if let serde_norway::Value::Mapping(mapping) = item {
            let inner = Node::new(folder.place.at("includes"), mapping);
            match inner.text("join_path", problems) {
                Some(path) => members.extend(members_of(view, &path)),
                None => members.extend(read_folders(vec![inner], view, problems)),
            }
            continue;
        }
        let member = scalar(item).unwrap_or_default();
        match view.by_name.get(&member) {
            Some(&at) => members.push(json!(view.members[at].full_name)),
            None => {
                let known = view.members.iter().map(|member| member.name.as_str());
                let message = format!("unknown member \"{member}\"{}", hint(&member, known));
                problems.add(&folder.place.at(&member), message);
            }
        }
    }
    members
}

/// The members that a view takes from the end of a join path.
fn members_of(view: &super::Cube, path: &str) -> Vec<serde_json::Value> {
    let from = view.sources.iter().filter(|(_, source)| source == path);
    from.map(|(at, _)| json!(view.members[*at].full_name))
        .collect()
}

/// A folder whose own members and those of its folders are one list.
fn flattened(folder: &serde_json::Value) -> serde_json::Value {
    fn collect(folder: &serde_json::Value, out: &mut Vec<serde_json::Value>) {
        for member in folder["members"].as_array().into_iter().flatten() {
            match member {
                serde_json::Value::Object(_) => collect(member, out),
                name if !out.contains(name) => out.push(name.clone()),
                _ => {}
            }
        }
    }
    let mut members = Vec::new();
    collect(folder, &mut members);
    json!({ "name": folder["name"], "members": members })
}

fn read_default_filters(
    node: &Node<'_>,
    view: &super::Cube,
    problems: &mut Problems,
) -> Vec<DefaultFilter> {
    let mut filters = Vec::new();
    let full = |name: &str, place: &Node<'_>, problems: &mut Problems| {
        let bare = name.trim().trim_matches(['{', '}']);
        let short = bare.rsplit('.').next().unwrap_or(bare);
        if !view.by_name.contains_key(short) {
            let known = view.members.iter().map(|member| member.name.as_str());
            let message = format!("unknown member \"{name}\"{}", hint(short, known));
            problems.add(&place.place, message);
        }
        format!("{}.{short}", view.name)
    };
    for item in node.nodes("default_filters", problems) {
        let unless = item.texts("unless", problems);
        let unless = unless.iter().map(|name| full(name, &item, problems));
        let mut unless: Vec<String> = unless.collect();
        let Some(mut filter) = read_filter(&item, problems) else {
            continue;
        };
        if let Filter::Member { member, .. } = &mut filter {
            *member = full(member, &item, problems);
            if unless.is_empty() {
                unless.push(member.clone());
            }
        }
        filters.push(DefaultFilter { filter, unless });
    }
    filters
}
