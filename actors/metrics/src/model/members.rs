//! Compiling one measure, dimension or segment.

use sha2::{Digest, Sha256};

use super::reference::{GRANULARITIES, Kind, Names};
use super::source::{Node, Problems, hint, to_json};
use super::title::{titleize, underscore};
use super::{
    Aggregation, CaseLabel, Cube, Definition, Dimension, DimensionKind, DimensionSql, Granularity,
    Measure, Member, MemberId, Model, RollingWindow, Stage, Template, TimeShift,
};

const COMMON_KEYS: [&str; 8] = [
    "name",
    "title",
    "description",
    "public",
    "shown",
    "meta",
    "format",
    "sql",
];
const MEASURE_KEYS: [&str; 15] = [
    "type",
    "filters",
    "rolling_window",
    "multi_stage",
    "group_by",
    "reduce_by",
    "add_group_by",
    "time_shift",
    "order_by",
    "grain",
    "case",
    "currency",
    "drill_members",
    "mask",
    "filter",
];
const DIMENSION_KEYS: [&str; 15] = [
    "type",
    "case",
    "latitude",
    "longitude",
    "primary_key",
    "sub_query",
    "granularities",
    "mask",
    "propagate_filters_to_sub_query",
    "links",
    "suggest_filter_values",
    "time_shift",
    "currency",
    "order",
    "values",
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
        origin: None,
        sql,
        name: name.clone(),
        hash: String::new(),
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

fn compile_measure(
    names: &Names<'_>,
    id: MemberId,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> Measure {
    let aggregation = read_aggregation(node, problems);
    let needs_sql = !matches!(aggregation, Aggregation::Count | Aggregation::Rank)
        && node.get("case").is_none();
    if needs_sql && sql.is_none() {
        let message = format!("a measure of type {} needs \"sql\"", aggregation.name());
        problems.add(&node.place, message);
    }
    if node.get("case").is_some() {
        problems.add(
            &node.place.at("case"),
            "\"case\" of measures is not supported",
        );
    }
    let place = node.place.at("sql");
    let sql = sql.map(|sql| names.template(id.cube, sql, &place, problems));
    let filters = node
        .nodes("filters", problems)
        .iter()
        .filter_map(|filter| {
            filter.allow(&["sql"], "a filter", problems);
            let sql = filter.text("sql", problems)?;
            Some(names.query(id.cube, &sql, &node.place.at("filters"), problems))
        })
        .collect();
    let drill_members = member_list(names, id.cube, node, "drill_members", problems)
        .into_iter()
        .flatten()
        .map(|id| {
            let draft = &names.drafts[id.cube];
            format!("{}.{}", draft.name, draft.members[id.index].1)
        })
        .collect();
    Measure {
        aggregation,
        sql,
        filters,
        drill_members,
        rolling_window: read_rolling_window(node, problems),
        stage: read_stage(names, id.cube, node, problems),
    }
}

fn read_aggregation(node: &Node<'_>, problems: &mut Problems) -> Aggregation {
    const ALL: [Aggregation; 13] = [
        Aggregation::Count,
        Aggregation::CountDistinct,
        Aggregation::CountDistinctApprox,
        Aggregation::Sum,
        Aggregation::Avg,
        Aggregation::Min,
        Aggregation::Max,
        Aggregation::Number,
        Aggregation::String,
        Aggregation::Time,
        Aggregation::Boolean,
        Aggregation::Rank,
        Aggregation::NumberAgg,
    ];
    let Some(name) = node.text("type", problems) else {
        problems.add(&node.place, "a measure needs a \"type\"");
        return Aggregation::Number;
    };
    let wanted = super::title::underscore(&name);
    ALL.into_iter()
        .find(|kind| kind.name() == wanted)
        .unwrap_or_else(|| {
            let hint = hint(&name, ALL.map(Aggregation::name));
            problems.add(
                &node.place.at("type"),
                format!("unknown measure type \"{name}\"{hint}"),
            );
            Aggregation::Number
        })
}

fn read_rolling_window(node: &Node<'_>, problems: &mut Problems) -> Option<RollingWindow> {
    let window = node.node("rolling_window", problems)?;
    window.allow(
        &["trailing", "leading", "offset", "type", "granularity"],
        "\"rolling_window\"",
        problems,
    );
    if window.text("type", problems).as_deref() == Some("to_date") {
        let granularity = window.text("granularity", problems).unwrap_or_default();
        if !GRANULARITIES.contains(&granularity.as_str()) {
            let hint = hint(&granularity, GRANULARITIES);
            let message = format!("unknown granularity \"{granularity}\"{hint}");
            problems.add(&window.place.at("granularity"), message);
        }
        return Some(RollingWindow::ToDate { granularity });
    }
    let mut bound = |key: &str| match window.text(key, problems) {
        None => Some("0 day".to_owned()),
        Some(text) if text == "unbounded" => None,
        Some(text) => {
            if !is_interval(&text) {
                problems.add(
                    &window.place.at(key),
                    format!("\"{text}\" is not an interval"),
                );
            }
            Some(text)
        }
    };
    let (trailing, leading) = (bound("trailing"), bound("leading"));
    let from_start = window.text("offset", problems).as_deref() == Some("start");
    Some(RollingWindow::Fixed {
        trailing,
        leading,
        from_start,
    })
}

fn read_stage(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Stage> {
    if node.flag("multi_stage", problems) != Some(true) {
        return None;
    }
    let mut stage = Stage {
        group_by: member_list(names, cube, node, "group_by", problems),
        reduce_by: member_list(names, cube, node, "reduce_by", problems),
        ..Stage::default()
    };
    for order in node.nodes("order_by", problems) {
        order.allow(&["sql", "dir"], "\"order_by\"", problems);
        let descending = order.text("dir", problems).as_deref() == Some("desc");
        let sql = order.text("sql", problems).unwrap_or_default();
        let sql = names.template(cube, &sql, &node.place.at("order_by"), problems);
        stage.order_by.push((sql, descending));
    }
    for shift in node.nodes("time_shift", problems) {
        shift.allow(
            &["time_dimension", "interval", "type", "name"],
            "\"time_shift\"",
            problems,
        );
        let dimension = shift.text("time_dimension", problems);
        let dimension = dimension.and_then(|name| names.member(cube, &name));
        let interval = shift.text("interval", problems).unwrap_or_default();
        if !is_interval(&interval) {
            problems.add(
                &shift.place.at("interval"),
                format!("\"{interval}\" is not an interval"),
            );
        }
        let prior = shift.text("type", problems).as_deref() != Some("next");
        stage.time_shifts.push(TimeShift {
            dimension,
            interval,
            prior,
        });
    }
    Some(stage)
}

fn member_list(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    key: &str,
    problems: &mut Problems,
) -> Option<Vec<MemberId>> {
    node.get(key)?;
    let mut ids = Vec::new();
    for name in node.texts(key, problems) {
        match names.member(cube, name.trim_matches(['{', '}'])) {
            Some(id) => ids.push(id),
            None => {
                let known = names.drafts[cube]
                    .members
                    .iter()
                    .map(|(_, name, _)| name.as_str());
                let message = format!("unknown member \"{name}\"{}", hint(&name, known));
                problems.add(&node.place.at(key), message);
            }
        }
    }
    Some(ids)
}

fn compile_dimension(
    names: &Names<'_>,
    id: MemberId,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> Dimension {
    let kind = match node.text("type", problems).as_deref() {
        Some("string") => DimensionKind::String,
        Some("number") => DimensionKind::Number,
        Some("boolean") => DimensionKind::Boolean,
        Some("time") => DimensionKind::Time,
        Some("geo") => DimensionKind::Geo,
        Some(other) => {
            let hint = hint(other, ["string", "number", "boolean", "time", "geo"]);
            let place = node.place.at("type");
            problems.add(&place, format!("unknown dimension type \"{other}\"{hint}"));
            DimensionKind::String
        }
        None => {
            problems.add(&node.place, "a dimension needs a \"type\"");
            DimensionKind::String
        }
    };
    let granularities = node
        .nodes("granularities", problems)
        .iter()
        .filter_map(|item| read_granularity(item, problems))
        .collect();
    Dimension {
        kind,
        sql: dimension_sql(names, id.cube, node, sql, problems),
        primary_key: node.flag("primary_key", problems).unwrap_or(false),
        sub_query: node.flag("sub_query", problems).unwrap_or(false),
        granularities,
        suggest_filter_values: node.flag("suggest_filter_values", problems).unwrap_or(true),
    }
}

fn dimension_sql(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> DimensionSql {
    let expression = |sql: &str, key: &str, problems: &mut Problems| -> Template {
        names.template(cube, sql, &node.place.at(key), problems)
    };
    if let Some(case) = node.node("case", problems) {
        case.allow(&["when", "else", "switch"], "\"case\"", problems);
        let label = |branch: &Node<'_>, problems: &mut Problems| match branch.get("label") {
            Some(serde_norway::Value::Mapping(_)) => {
                let sql = branch.node("label", problems)?.text("sql", problems)?;
                Some(CaseLabel::Sql(expression(&sql, "case", problems)))
            }
            Some(_) => branch.text("label", problems).map(CaseLabel::Text),
            None => None,
        };
        let mut when = Vec::new();
        for branch in case.nodes("when", problems) {
            branch.allow(&["sql", "label"], "a case", problems);
            match (branch.text("sql", problems), label(&branch, problems)) {
                (Some(sql), Some(text)) => {
                    when.push((
                        names.query(cube, &sql, &node.place.at("case"), problems),
                        text,
                    ));
                }
                _ => problems.add(&case.place, "each \"when\" needs \"sql\" and \"label\""),
            }
        }
        let otherwise = case
            .node("else", problems)
            .and_then(|node| label(&node, problems));
        return DimensionSql::Case { when, otherwise };
    }
    let part = |key: &str, problems: &mut Problems| {
        node.node(key, problems)
            .and_then(|node| node.text("sql", problems))
    };
    if let (Some(latitude), Some(longitude)) =
        (part("latitude", problems), part("longitude", problems))
    {
        return DimensionSql::Geo {
            latitude: expression(&latitude, "latitude", problems),
            longitude: expression(&longitude, "longitude", problems),
        };
    }
    if sql.is_none() {
        problems.add(
            &node.place,
            "a dimension needs \"sql\", \"case\" or a latitude and longitude",
        );
    }
    DimensionSql::Expression(expression(sql.unwrap_or("NULL"), "sql", problems))
}

fn read_granularity(node: &Node<'_>, problems: &mut Problems) -> Option<Granularity> {
    node.allow(
        &["name", "title", "interval", "offset", "origin", "sql"],
        "a granularity",
        problems,
    );
    let name = node.name("a granularity", problems)?;
    let interval = node.text("interval", problems).unwrap_or_default();
    let offset = node.text("offset", problems);
    for text in std::iter::once(&interval).chain(&offset) {
        if !is_interval(text) {
            problems.add(
                &node.place,
                format!("\"{text}\" is not an interval such as \"8 hours\""),
            );
        }
    }
    Some(Granularity {
        title: node
            .text("title", problems)
            .unwrap_or_else(|| titleize(&name)),
        name,
        interval,
        offset,
        origin: node.text("origin", problems),
    })
}

/// Whether the text is an interval such as `8 hours` or `1 year 2 months`: it goes into SQL text.
fn is_interval(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    !words.is_empty()
        && words.len().is_multiple_of(2)
        && words.chunks(2).all(|pair| {
            pair[0].parse::<i32>().is_ok() && GRANULARITIES.contains(&pair[1].trim_end_matches('s'))
        })
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
