//! Compiling a measure: what it aggregates, over which window, from which others.

use super::dimensions::is_interval;
use super::reference::{GRANULARITIES, Names};
use super::source::{Node, Problems, hint, scalar};
use super::{Aggregation, Measure, MemberId, RollingWindow, Stage, StageFilter, TimeShift};

pub(super) const MEASURE_KEYS: [&str; 17] = [
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
    "filter",
    "drill_filters",
    "cumulative",
    "key",
];
pub(super) fn compile_measure(
    names: &Names<'_>,
    id: MemberId,
    node: &Node<'_>,
    sql: Option<&str>,
    problems: &mut Problems,
) -> Measure {
    let aggregation = read_aggregation(node, problems);
    let case = read_case(node, problems);
    let sql = case.as_deref().or(sql);
    let needs_sql = !matches!(aggregation, Aggregation::Count | Aggregation::Rank);
    if needs_sql && sql.is_none() {
        let message = format!("a measure of type {} needs \"sql\"", aggregation.name());
        problems.add(&node.place, message);
    }
    let place = node.place.at("sql");
    let sql = sql.map(|sql| names.template(id.cube, sql, &place, problems));
    let is_running = node.get("type").and_then(scalar);
    let is_running = is_running.is_some_and(|name| RUNNING_TOTAL.contains(&name.as_str()));
    let running = is_running.then_some(RollingWindow::RunningTotal);
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
        rolling_window: read_rolling_window(node, problems).or(running),
        stage: read_stage(names, id.cube, node, problems),
    }
}

/// The older spelling of a sum since the start of the date range.
const RUNNING_TOTAL: [&str; 2] = ["running_total", "runningTotal"];

/// `case` as SQL: a `switch` over values, or conditions with their results.
fn read_case(node: &Node<'_>, problems: &mut Problems) -> Option<String> {
    let case = node.node("case", problems)?;
    case.allow(&["switch", "when", "else"], "\"case\"", problems);
    let column = |sql: String| match super::template::is_bare_column(&sql) {
        true => format!("{{CUBE}}.{}", sql.trim()),
        false => sql,
    };
    let mut sql = "CASE".to_owned();
    let switch = case.text("switch", problems).map(column);
    for branch in case.nodes("when", problems) {
        branch.allow(&["value", "sql", "label"], "a case", problems);
        let result = match (&switch, branch.get("label")) {
            (None, Some(serde_norway::Value::Mapping(_))) => {
                let label = branch.node("label", problems);
                label.and_then(|label| label.text("sql", problems))
            }
            _ => branch.text("sql", problems),
        };
        let condition = match &switch {
            Some(switch) => branch.text("value", problems).map(|value| {
                format!(
                    "{switch} = {}",
                    ballpoint_postgres::ident::quote_literal(&value)
                )
            }),
            None => branch.text("sql", problems),
        };
        match (condition, result) {
            (Some(condition), Some(result)) => {
                sql.push_str(&format!(" WHEN {condition} THEN {}", column(result)));
            }
            _ => problems.add(
                &case.place,
                "each \"when\" needs what it compares and its \"sql\"",
            ),
        }
    }
    if let Some(otherwise) = case.node("else", problems) {
        let result = otherwise.text("sql", problems).map(column);
        sql.push_str(&format!(
            " ELSE {}",
            result.unwrap_or_else(|| "NULL".to_owned())
        ));
    }
    sql.push_str(" END");
    Some(sql)
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
    if RUNNING_TOTAL.contains(&name.as_str()) {
        return Aggregation::Sum;
    }
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
    let kind = window.text("type", problems).unwrap_or_default();
    if let Some(unit) = kind.strip_suffix("_to_date") {
        let granularity = unit.to_owned();
        return Some(RollingWindow::ToDate { granularity });
    }
    if kind == "to_date" {
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
        add_group_by: member_list(names, cube, node, "add_group_by", problems).unwrap_or_default(),
        filter: read_stage_filter(names, cube, node, problems),
        ..Stage::default()
    };
    if let Some(grain) = node.node("grain", problems) {
        grain.allow(&["exclude", "keep_only", "include"], "\"grain\"", problems);
        let mut list = |key: &str| member_list(names, cube, &grain, key, problems);
        stage.reduce_by = list("exclude").or(stage.reduce_by);
        stage.group_by = list("keep_only").or(stage.group_by);
        stage
            .add_group_by
            .extend(list("include").unwrap_or_default());
    }
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
        let dimension = member_list(names, cube, &shift, "time_dimension", problems)
            .and_then(|ids| ids.first().copied());
        let interval = shift.text("interval", problems).unwrap_or_default();
        let name = shift.text("name", problems);
        if name.is_none() && !is_interval(&interval) {
            problems.add(
                &shift.place.at("interval"),
                format!("\"{interval}\" is not an interval"),
            );
        }
        let prior = shift.text("type", problems).as_deref() != Some("next");
        stage.time_shifts.push(TimeShift {
            dimension,
            interval,
            name,
            prior,
        });
    }
    Some(stage)
}

/// Which of the query's filters a multi-stage measure heeds, and which it adds.
fn read_stage_filter(
    names: &Names<'_>,
    cube: usize,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<StageFilter> {
    let filter = node.node("filter", problems)?;
    filter.allow(
        &["mode", "exclude", "keep_only", "include"],
        "\"filter\"",
        problems,
    );
    let is_fixed = filter.text("mode", problems).as_deref() == Some("fixed");
    let own = &names.drafts[cube].name;
    let mut include = super::access::read_filters(&filter, "include", problems);
    include.iter_mut().for_each(|filter| filter.qualify(own));
    let keep_only = member_list(names, cube, &filter, "keep_only", problems);
    Some(StageFilter {
        exclude: member_list(names, cube, &filter, "exclude", problems).unwrap_or_default(),
        keep_only: keep_only.or(is_fixed.then(Vec::new)),
        include,
    })
}

pub(super) fn member_list(
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
