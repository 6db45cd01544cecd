//! `pre_aggregations` of a cube: results that are kept in advance, and what they are kept for.

use super::reference::{GRANULARITIES, Kind, Names};
use super::source::{Node, Problems, hint};
use super::{MemberId, Model};

const KEYS: [&str; 27] = [
    "name",
    "type",
    "measures",
    "dimensions",
    "segments",
    "time_dimension",
    "time_dimensions",
    "granularity",
    "partition_granularity",
    "refresh_key",
    "build_range_start",
    "build_range_end",
    "indexes",
    "external",
    "scheduled_refresh",
    "allow_non_strict_date_range_match",
    "rollups",
    "union_with_source_data",
    "use_original_sql_pre_aggregations",
    "unique_key_columns",
    "output_column_types",
    "refresh_range_start",
    "refresh_range_end",
    "storage",
    "read_only",
    "meta",
    "lambda",
];

/// Cube's types; of these a `rollup` is built, and the others are read past.
const TYPES: [&str; 5] = [
    "rollup",
    "original_sql",
    "rollup_join",
    "rollup_lambda",
    "auto_rollup",
];

/// What a cube wants kept in advance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreAggregation {
    pub name: String,
    /// As YAML writes it: `rollup`, `original_sql`, …
    pub kind: String,
    pub measures: Vec<MemberId>,
    pub dimensions: Vec<MemberId>,
    pub segments: Vec<MemberId>,
    /// Time dimensions, each with its granularity; the first is the one to partition by.
    pub times: Vec<(MemberId, String)>,
    /// `month`, say: what is built at a time.
    pub partition: Option<String>,
    /// Only the partitions of this last stretch change (`refresh_key: {incremental, update_window}`).
    pub update_window: Option<String>,
    /// The columns of each index, after its name.
    pub indexes: Vec<(String, Vec<MemberId>)>,
}

impl PreAggregation {
    /// `Cube.name`, by which people know it.
    pub fn full_name(&self, model: &Model, cube: usize) -> String {
        format!("{}.{}", model.cubes[cube].name, self.name)
    }
}

/// Reads the pre-aggregations of a cube, its ancestors' first.
pub(super) fn read(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<PreAggregation> {
    let mut all = Vec::new();
    for item in node.nodes("pre_aggregations", problems) {
        all.extend(read_one(names, cube, &item, problems));
    }
    all
}

fn read_one(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<PreAggregation> {
    node.allow(&KEYS, "a pre-aggregation", problems);
    let name = node.name("a pre-aggregation", problems)?;
    let kind = node.text("type", problems);
    let kind = super::title::underscore(kind.as_deref().unwrap_or("rollup"));
    if !TYPES.contains(&kind.as_str()) {
        let message = format!(
            "unknown pre-aggregation type \"{kind}\"{}",
            hint(&kind, TYPES)
        );
        problems.add(&node.place.at("type"), message);
    }
    let mut members = |key: &str, wanted: Kind| members(names, cube, node, key, wanted, problems);
    let measures = members("measures", Kind::Measure);
    let dimensions = members("dimensions", Kind::Dimension);
    let segments = members("segments", Kind::Segment);
    let times = read_times(names, cube, node, problems);
    let partition = node.text("partition_granularity", problems);
    if let Some(partition) = &partition
        && !GRANULARITIES.contains(&partition.as_str())
    {
        let message = format!(
            "unknown granularity \"{partition}\"{}",
            hint(partition, GRANULARITIES)
        );
        problems.add(&node.place.at("partition_granularity"), message);
    }
    let refresh = node.node("refresh_key", problems);
    let incremental = refresh
        .as_ref()
        .is_some_and(|it| it.flag("incremental", problems) == Some(true));
    let window = refresh.and_then(|it| it.text("update_window", problems));
    Some(PreAggregation {
        indexes: read_indexes(names, cube, node, problems),
        update_window: window.filter(|_| incremental),
        name,
        kind,
        measures,
        dimensions,
        segments,
        times,
        partition,
    })
}

fn read_times(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<(MemberId, String)> {
    let mut times = Vec::new();
    let mut read = |node: &Node<'_>, key: &str, problems: &mut Problems| {
        let found = members(names, cube, node, key, Kind::Dimension, problems);
        let granularity = node.text("granularity", problems);
        match (found.first(), granularity) {
            (Some(id), Some(granularity)) => times.push((*id, granularity)),
            (Some(_), None) => {
                problems.add(&node.place, "a time dimension needs a \"granularity\"");
            }
            (None, _) => {}
        }
    };
    if node.get("time_dimension").is_some() {
        read(node, "time_dimension", problems);
    }
    for item in node.nodes("time_dimensions", problems) {
        read(&item, "dimension", problems);
    }
    times
}

fn read_indexes(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<(String, Vec<MemberId>)> {
    let mut indexes = Vec::new();
    for item in node.nodes("indexes", problems) {
        item.allow(&["name", "columns", "type"], "an index", problems);
        let Some(name) = item.name("an index", problems) else {
            continue;
        };
        let columns = item.texts("columns", problems).into_iter();
        let found = columns.filter_map(|column| lookup(names, cube, &column));
        indexes.push((name, found.map(|(id, _)| id).collect()));
    }
    indexes
}

/// The members under `key`, each of the kind that is wanted there.
fn members(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    key: &str,
    wanted: Kind,
    problems: &mut Problems,
) -> Vec<MemberId> {
    let mut ids = Vec::new();
    for text in node.texts(key, problems) {
        match lookup(names, cube, &text) {
            Some((id, kind)) if kind == wanted => ids.push(id),
            Some((_, kind)) => {
                let kind = format!("{kind:?}").to_lowercase();
                problems.add(&node.place.at(key), format!("\"{text}\" is a {kind}"));
            }
            None => {
                let drafts = &names.drafts[cube];
                let known = drafts.members.iter().map(|(_, name, _)| name.as_str());
                let message = format!("unknown member \"{text}\"{}", hint(&text, known));
                problems.add(&node.place.at(key), message);
            }
        }
    }
    ids
}

/// `member`, `cube.member` or a join path that ends so.
fn lookup(names: &Names<'_>, cube: usize, text: &str) -> Option<(MemberId, Kind)> {
    let text = text.trim().trim_matches(['{', '}']);
    let from = text.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    let id = names.member(cube, &text[from..])?;
    Some((id, names.drafts[id.cube].members[id.index].0))
}
