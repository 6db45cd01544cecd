//! Whether a query says the same as an expected one, by its parts. Used where both cannot be run.

use std::collections::BTreeSet;

use ballpoint_metrics::query::{DateRange, Filter, FilterValue, Order, Query, TimeDimension};

use super::case::{ExpectedQuery, ExpectedTime};

/// Compares by the scoring rules: measures may be more, dimensions and filters may not; windows
/// compare by day unless times are given; order and limit only where named.
pub fn matches(actual: &Query, expected: &ExpectedQuery) -> Result<(), String> {
    let have: BTreeSet<&String> = actual.measures.iter().collect();
    if let Some(missing) = expected.measures.iter().find(|it| !have.contains(it)) {
        return Err(format!("measure {missing} is missing"));
    }
    let dimensions = |list: &[String]| -> BTreeSet<String> { list.iter().cloned().collect() };
    if dimensions(&actual.dimensions) != dimensions(&expected.dimensions) {
        return Err(format!(
            "dimensions {:?}, not {:?}",
            actual.dimensions, expected.dimensions
        ));
    }
    let (have, want) = (conditions(&actual.filters)?, conditions(&expected.filters)?);
    if have != want {
        return Err(format!("filters {have:?}, not {want:?}"));
    }
    times(&actual.time_dimensions, &expected.time_dimensions)?;
    if let Some(order) = &expected.order {
        let have = order_of(actual);
        let want = order.iter().next().map(|(k, v)| (k.clone(), v.clone()));
        if have.first() != want.as_ref() {
            return Err(format!("order {have:?}, not {order:?}"));
        }
    }
    match (expected.limit, actual.limit) {
        (Some(want), have) if have != Some(want) => Err(format!("limit {have:?}, not {want}")),
        (None, Some(have)) if have > 1 || expected.order.is_none() => {
            Err(format!("limit {have}, none asked for"))
        }
        _ => Ok(()),
    }
}

type Condition = (String, String, BTreeSet<String>);

fn conditions(filters: &[Filter]) -> Result<BTreeSet<Condition>, String> {
    let one = |filter: &Filter| match filter {
        Filter::Member {
            member,
            operator,
            values,
        } => {
            let values = values.iter().flatten().map(text).collect();
            Ok((member.clone(), operator.clone(), values))
        }
        Filter::Or { .. } | Filter::And { .. } => Err("a tree of filters".to_owned()),
    };
    filters.iter().map(one).collect()
}

fn text(value: &FilterValue) -> String {
    match value {
        FilterValue::Text(text) => text.clone(),
        FilterValue::Number(number) => number.to_string(),
        FilterValue::Bool(it) => it.to_string(),
        FilterValue::Null => "null".into(),
    }
}

fn times(actual: &[TimeDimension], expected: &[ExpectedTime]) -> Result<(), String> {
    match (actual, expected) {
        ([], []) => Ok(()),
        ([have], [want]) => time(have, want),
        _ => Err(format!(
            "{} time dimensions, not {}",
            actual.len(),
            expected.len()
        )),
    }
}

fn time(have: &TimeDimension, want: &ExpectedTime) -> Result<(), String> {
    if have.dimension != want.dimension || have.granularity != want.granularity {
        return Err(format!(
            "{} by {:?}, not {} by {:?}",
            have.dimension, have.granularity, want.dimension, want.granularity
        ));
    }
    let compared: Vec<[String; 2]> = have
        .compare_date_range
        .iter()
        .flatten()
        .filter_map(bounds)
        .collect();
    let same = |a: &[[String; 2]], b: &[[String; 2]]| {
        a.len() == b.len()
            && a.iter()
                .all(|it| b.iter().any(|other| same_window(it, other)))
    };
    if !same(&compared, &want.compared()) {
        return Err(format!("compares {compared:?}"));
    }
    let windows = want.windows();
    let own = have.date_range.as_ref().and_then(bounds);
    match (&own, windows.is_empty()) {
        (None, true) => Ok(()),
        (Some(own), false) if windows.iter().any(|it| same_window(own, it)) => Ok(()),
        _ => Err(format!("window {own:?}, not {windows:?}")),
    }
}

fn bounds(range: &DateRange) -> Option<[String; 2]> {
    match range {
        DateRange::Bounds(list) => match list.as_slice() {
            [one] => Some([one.clone(), one.clone()]),
            [from, to] => Some([from.clone(), to.clone()]),
            _ => None,
        },
        DateRange::Phrase(_) => None,
    }
}

/// To the second where both sides give times, by day otherwise.
fn same_window(a: &[String; 2], b: &[String; 2]) -> bool {
    let times = |pair: &[String; 2]| pair.iter().all(|it| it.contains('T'));
    if times(a) != times(b) {
        return false;
    }
    let length = if times(a) { 19 } else { 10 };
    let cut = |text: &String| text.chars().take(length).collect::<String>();
    cut(&a[0]) == cut(&b[0]) && cut(&a[1]) == cut(&b[1])
}

fn order_of(query: &Query) -> Vec<(String, String)> {
    match &query.order {
        Some(Order::Map(map)) => map
            .iter()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
            .collect(),
        Some(Order::List(list)) => list.clone(),
        None => Vec::new(),
    }
}
