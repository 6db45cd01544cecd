//! From model files to a [`Model`]: read the names, resolve the references, check the whole.

use std::collections::{HashMap, HashSet};

use serde_norway::Value as Yaml;
use sha2::{Digest, Sha256};

use super::jinja::Templates;
use super::joins::components;
use super::members::{compile_member, hash_members};
use super::policies::compile_policies;
use super::reference::{Draft, Kind, Names};
use super::source::{ModelError, Node, Place, Problem, Problems, SourceFile, hint, to_json};
use super::title::{titleize, underscore};
use super::views::compile_view;
use super::{
    Cube, CustomGranularities, Join, MemberId, Model, Relationship, Table, pre_aggregations,
};

const CUBE_KEYS: [&str; 21] = [
    "name",
    "sql",
    "sql_table",
    "sql_alias",
    "data_source",
    "title",
    "description",
    "public",
    "shown",
    "meta",
    "extends",
    "refresh_key",
    "calendar",
    "joins",
    "dimensions",
    "measures",
    "segments",
    "hierarchies",
    "pre_aggregations",
    "access_policy",
    "rewrite_queries",
];
const VIEW_KEYS: [&str; 14] = [
    "name",
    "title",
    "description",
    "public",
    "shown",
    "meta",
    "extends",
    "cubes",
    "folders",
    "access_policy",
    "default_filters",
    "view_group",
    "view_groups",
    "hierarchies",
];

/// Compiles files in two passes: names first, so that the order of files does not matter.
pub(super) fn compile(files: &[SourceFile]) -> Result<Model, ModelError> {
    let mut problems = Problems::default();
    let mut documents = Vec::new();
    let templates = Templates::new(files);
    for file in files {
        let text = match templates.render(file) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(problem) => {
                problems.0.push(problem);
                continue;
            }
        };
        match serde_norway::from_str::<Yaml>(&text) {
            Ok(yaml) => documents.push((file, yaml)),
            Err(error) => {
                let line = error.location().map_or(1, |location| location.line());
                let message = format!("not valid YAML: {error}");
                problems.0.push(Problem {
                    file: file.name.clone(),
                    line,
                    message,
                });
            }
        }
    }
    let names = read_names(&documents, &mut problems);
    let mut model = Model {
        cubes: Vec::new(),
        hash: hash_files(files),
        custom_granularities: CustomGranularities::default(),
        computed: HashMap::new(),
        by_name: names.by_name.clone(),
    };
    for index in 0..names.drafts.len() {
        let cube = compile_cube(&names, index, &mut problems);
        model.cubes.push(cube);
    }
    if problems.0.is_empty() {
        for index in 0..names.drafts.len() {
            if names.drafts[index].is_view {
                compile_view(&names, index, &mut model, &mut problems);
            }
        }
        check_cycles(&names, &model, &mut problems);
        for (index, draft) in names.drafts.iter().enumerate() {
            let policies = compile_policies(draft, &model.cubes[index], &mut problems);
            model.cubes[index].policies = policies;
        }
    }
    if !problems.0.is_empty() {
        return Err(ModelError {
            problems: problems.0,
        });
    }
    components(&mut model);
    hash_members(&mut model);
    Ok(model)
}

fn hash_files(files: &[SourceFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        for text in [&file.name, &file.text] {
            hasher.update(text.len().to_le_bytes());
            hasher.update(text);
        }
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read_names<'a>(documents: &'a [(&'a SourceFile, Yaml)], problems: &mut Problems) -> Names<'a> {
    let mut names = Names {
        drafts: Vec::new(),
        by_name: HashMap::new(),
    };
    for (file, yaml) in documents {
        let place = Place::new(file);
        let Yaml::Mapping(mapping) = yaml else {
            if !yaml.is_null() {
                problems.add(&place, "a model file holds \"cubes:\" or \"views:\"");
            }
            continue;
        };
        let root = Node::new(place, mapping);
        root.allow(&["cubes", "views", "view_groups"], "a model file", problems);
        for (key, is_view) in [("cubes", false), ("views", true)] {
            for node in root.nodes(key, problems) {
                add_draft(&mut names, node, is_view, problems);
            }
        }
    }
    inherit(&mut names, problems);
    for draft in &mut names.drafts {
        read_member_names(draft, problems);
    }
    names
}

fn add_draft<'a>(names: &mut Names<'a>, node: Node<'a>, is_view: bool, problems: &mut Problems) {
    let what = if is_view { "a view" } else { "a cube" };
    node.allow(
        if is_view { &VIEW_KEYS } else { &CUBE_KEYS[..] },
        what,
        problems,
    );
    let Some(name) = node.name(what, problems) else {
        return;
    };
    if names
        .by_name
        .insert(name.clone(), names.drafts.len())
        .is_some()
    {
        problems.add(&node.place, format!("\"{name}\" is defined twice"));
    }
    names.drafts.push(Draft {
        name,
        node,
        ancestors: Vec::new(),
        is_view,
        members: Vec::new(),
        by_name: HashMap::new(),
    });
}

fn inherit(names: &mut Names<'_>, problems: &mut Problems) {
    for index in 0..names.drafts.len() {
        let mut seen = HashSet::from([index]);
        let mut at = index;
        while let Some(parent) = names.drafts[at].node.text("extends", problems) {
            let place = names.drafts[at].node.place.at("extends");
            let Some(&found) = names.by_name.get(&parent) else {
                let hint = hint(&parent, names.by_name.keys().map(String::as_str));
                problems.add(&place, format!("unknown cube \"{parent}\"{hint}"));
                break;
            };
            if !seen.insert(found) {
                problems.add(&place, format!("\"{parent}\" extends itself"));
                break;
            }
            let node = names.drafts[found].node.clone();
            names.drafts[index].ancestors.push(node);
            at = found;
        }
    }
}

fn read_member_names(draft: &mut Draft<'_>, problems: &mut Problems) {
    let kinds = [
        ("dimensions", "a dimension", Kind::Dimension),
        ("measures", "a measure", Kind::Measure),
        ("segments", "a segment", Kind::Segment),
    ];
    if draft.is_view {
        return;
    }
    let generations: Vec<_> = draft
        .ancestors
        .iter()
        .rev()
        .chain([&draft.node])
        .cloned()
        .collect();
    for (generation, node) in generations.iter().enumerate() {
        let mut seen = HashSet::new();
        for (key, what, kind) in kinds {
            for item in node.nodes(key, problems) {
                let Some(name) = item.name(what, problems) else {
                    continue;
                };
                if !seen.insert(name.clone()) {
                    let message = format!("\"{name}\" is defined twice in \"{}\"", draft.name);
                    problems.add(&item.place, message);
                }
                match draft.by_name.get(&name) {
                    Some(&at) if generation > 0 => draft.members[at] = (kind, name, item),
                    _ => {
                        draft.by_name.insert(name.clone(), draft.members.len());
                        draft.members.push((kind, name, item));
                    }
                }
            }
        }
    }
}

fn compile_cube(names: &Names<'_>, index: usize, problems: &mut Problems) -> Cube {
    let draft = &names.drafts[index];
    let node = &draft.node;
    let mut cube = Cube {
        name: draft.name.clone(),
        alias: alias_of(names, index, problems),
        title: node
            .text("title", problems)
            .unwrap_or_else(|| titleize(&draft.name)),
        description: node.text("description", problems),
        public: node
            .flag("public", problems)
            .or_else(|| node.flag("shown", problems))
            .unwrap_or(true),
        meta: node.get("meta").map_or(serde_json::Value::Null, to_json),
        by_name: draft.by_name.clone(),
        file: node.place.file.name.clone(),
        written_pre_aggregations: super::written::pre_aggregations(node),
        ..Cube::default()
    };
    if draft.is_view {
        return cube;
    }
    cube.table = compile_table(names, index, problems);
    for generation in draft.ancestors.iter().rev().chain([node]) {
        for item in generation.nodes("joins", problems) {
            cube.joins
                .extend(compile_join(names, index, &item, problems));
        }
        for own in pre_aggregations::read(names, index, generation, problems) {
            cube.pre_aggregations.retain(|it| it.name != own.name);
            cube.pre_aggregations.push(own);
        }
    }
    for at in 0..draft.members.len() {
        let id = MemberId {
            cube: index,
            index: at,
        };
        let member = compile_member(names, id, &cube, problems);
        if member
            .dimension()
            .is_some_and(|dimension| dimension.primary_key)
        {
            cube.primary_key.push(id);
        }
        cube.members.push(member);
    }
    cube.hierarchies = read_hierarchies(names, index, problems);
    cube
}

/// `sql_table` or `sql`, its own or its ancestor's.
fn compile_table(names: &Names<'_>, index: usize, problems: &mut Problems) -> Option<Table> {
    let draft = &names.drafts[index];
    let node = &draft.node;
    let inherited = |key: &str| {
        std::iter::once(node)
            .chain(&draft.ancestors)
            .find(|node| node.get(key).is_some())
    };
    let table = inherited("sql_table").and_then(|node| node.text("sql_table", problems));
    let query = inherited("sql").and_then(|node| node.text("sql", problems));
    match (table, query) {
        (Some(table), None) => Some(Table::Name(table.trim().to_owned())),
        (None, Some(sql)) => {
            let written = sql.clone();
            let sql = sql.trim().trim_end_matches(';');
            let mut query = names.query(index, sql, &node.place.at("sql"), problems);
            query.source = written;
            Some(Table::Query(query))
        }
        (Some(_), Some(_)) => {
            problems.add(
                &node.place,
                "a cube has either \"sql_table\" or \"sql\", not both",
            );
            None
        }
        (None, None) => {
            problems.add(
                &node.place,
                format!("\"{}\" needs \"sql_table\" or \"sql\"", draft.name),
            );
            None
        }
    }
}

/// The table alias: Cube's spelling, unless two cubes would share it.
fn alias_of(names: &Names<'_>, index: usize, problems: &mut Problems) -> String {
    let draft = &names.drafts[index];
    let alias = draft
        .node
        .text("sql_alias", problems)
        .unwrap_or_else(|| underscore(&draft.name));
    let shared = names
        .drafts
        .iter()
        .any(|d| d.name != draft.name && underscore(&d.name) == alias);
    let alias = if shared { draft.name.clone() } else { alias };
    // PostgreSQL cuts names at 63 bytes; member names come after this.
    if alias.len() > 28 {
        format!("{}_{index}", &alias[..24])
    } else {
        alias
    }
}

fn compile_join(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Join> {
    node.allow(&["name", "relationship", "sql", "type"], "a join", problems);
    let name = node.name("a join", problems)?;
    let relationship = node.text("relationship", problems).unwrap_or_default();
    let relationship = match relationship.as_str() {
        "one_to_one" | "has_one" | "hasOne" => Relationship::OneToOne,
        "one_to_many" | "has_many" | "hasMany" => Relationship::OneToMany,
        "many_to_one" | "belongs_to" | "belongsTo" => Relationship::ManyToOne,
        other => {
            let hint = hint(other, ["one_to_one", "one_to_many", "many_to_one"]);
            let place = node.place.at("relationship");
            problems.add(&place, format!("unknown relationship \"{other}\"{hint}"));
            return None;
        }
    };
    let Some(&to) = names.by_name.get(&name) else {
        let hint = hint(&name, names.by_name.keys().map(String::as_str));
        problems.add(
            &node.place,
            format!("join to unknown cube \"{name}\"{hint}"),
        );
        return None;
    };
    let Some(sql) = node.text("sql", problems) else {
        problems.add(&node.place, format!("the join to \"{name}\" needs \"sql\""));
        return None;
    };
    let sql = names.query(cube, &sql, &node.place.at("sql"), problems);
    Some(Join {
        to,
        relationship,
        sql,
    })
}

fn read_hierarchies(
    names: &Names<'_>,
    cube: usize,
    problems: &mut Problems,
) -> Vec<serde_json::Value> {
    let draft = &names.drafts[cube];
    let mut hierarchies = Vec::new();
    for node in draft.node.nodes("hierarchies", problems) {
        node.allow(
            &["name", "title", "public", "levels"],
            "a hierarchy",
            problems,
        );
        let Some(name) = node.name("a hierarchy", problems) else {
            continue;
        };
        let mut levels = Vec::new();
        for level in node.texts("levels", problems) {
            match names.member(cube, &level) {
                Some(id) => {
                    let (_, member, _) = &names.drafts[id.cube].members[id.index];
                    levels.push(format!("{}.{member}", names.drafts[id.cube].name));
                }
                None => {
                    let known = draft.members.iter().map(|(_, name, _)| name.as_str());
                    let message = format!("unknown level \"{level}\"{}", hint(&level, known));
                    problems.add(&node.place, message);
                }
            }
        }
        hierarchies.push(serde_json::json!({
            "name": format!("{}.{name}", draft.name),
            "title": node.text("title", problems).unwrap_or_else(|| titleize(&name)),
            "levels": levels,
            "public": node.flag("public", problems).unwrap_or(true),
        }));
    }
    hierarchies
}

/// A member that needs itself can never be written as SQL.
fn check_cycles(names: &Names<'_>, model: &Model, problems: &mut Problems) {
    let mut done: HashSet<MemberId> = HashSet::new();
    for (cube, index) in model
        .cubes
        .iter()
        .enumerate()
        .flat_map(|(cube, c)| (0..c.members.len()).map(move |index| (cube, index)))
    {
        let id = MemberId { cube, index };
        let mut path = Vec::new();
        if let Some(at) = find_cycle(model, id, &mut path, &mut done)
            && !names.drafts[at.cube].is_view
        {
            let (_, name, node) = &names.drafts[at.cube].members[at.index];
            problems.add(&node.place, format!("\"{name}\" refers to itself"));
            return;
        }
    }
}

fn find_cycle(
    model: &Model,
    id: MemberId,
    path: &mut Vec<MemberId>,
    done: &mut HashSet<MemberId>,
) -> Option<MemberId> {
    if path.contains(&id) {
        return Some(id);
    }
    if done.contains(&id) {
        return None;
    }
    path.push(id);
    let member = model.member(id);
    let references: Vec<MemberId> = member
        .templates()
        .iter()
        .flat_map(|template| template.members())
        .collect();
    for reference in references {
        if let Some(found) = find_cycle(model, reference, path, done) {
            return Some(found);
        }
    }
    path.pop();
    done.insert(id);
    None
}
