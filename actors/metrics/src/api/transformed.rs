//! `transformedQueries`: how Cube would match a query with a rollup. Clients show it, none needs it.

use serde_json::{Map, Value, json};

use crate::model::{Aggregation, MemberId, Model};
use crate::plan::{ColumnKind, Normalized, Plan};

pub(crate) fn transformed_query(model: &Model, query: &Normalized, plan: &Plan) -> Value {
    let name = |id: MemberId| model.member(id).full_name.clone();
    let mut dimensions: Vec<String> = Vec::new();
    let mut times: Vec<Value> = Vec::new();
    let mut measures: Vec<MemberId> = Vec::new();
    for column in &plan.columns {
        match &column.kind {
            ColumnKind::Dimension => dimensions.push(name(column.member)),
            ColumnKind::Time { granularity } => {
                times.push(json!([name(column.member), granularity]))
            }
            ColumnKind::Measure => measures.push(column.member),
        }
    }
    dimensions.sort();
    let (mut leaves, mut by_measure) = (Vec::new(), Map::new());
    for &measure in &measures {
        let mut own = Vec::new();
        leaf_measures(model, measure, &mut own);
        let items: Vec<Value> = own.iter().map(|leaf| leaf_item(model, *leaf)).collect();
        by_measure.insert(name(measure), Value::Array(items));
        leaves.extend(own);
    }
    let mut leaf_names: Vec<String> = leaves.iter().map(|leaf| name(*leaf)).collect();
    leaf_names.sort();
    leaf_names.dedup();
    let no_plain_times = query
        .query
        .time_dimensions
        .iter()
        .all(|time| time.granularity.is_some());
    json!({
        "sortedDimensions": dimensions,
        "sortedTimeDimensions": times,
        "timeDimensions": times,
        "measures": measures.iter().map(|id| name(*id)).collect::<Vec<_>>(),
        "leafMeasureAdditive": leaves.iter().all(|leaf| is_additive(model, *leaf)),
        "leafMeasures": leaf_names,
        "leafMeasuresFullPaths": leaf_names,
        "measureToLeafMeasures": by_measure,
        "hasNoTimeDimensionsWithoutGranularity": no_plain_times,
        "allFiltersWithinSelectedDimensions": query.query.filters.is_empty(),
        "isAdditive": measures.iter().all(|measure| is_additive(model, *measure)),
        "granularityHierarchies": {},
        "hasMultipliedMeasures": false,
        "hasCumulativeMeasures": false,
        "windowGranularity": null,
        "filterDimensionsSingleValueEqual": {},
        "ownedDimensions": dimensions,
        "ownedTimeDimensionsWithRollupGranularity": times,
        "ownedTimeDimensionsAsIs": times,
        "allBackAliasMembers": {},
        "hasMultiStage": false,
    })
}

fn leaf_measures(model: &Model, id: MemberId, leaves: &mut Vec<MemberId>) {
    let member = model.member(id);
    if let Some(origin) = &member.origin {
        return leaf_measures(model, origin.member, leaves);
    }
    let Some(measure) = member.measure() else {
        return;
    };
    let inner: Vec<MemberId> = measure.sql.iter().flat_map(|sql| sql.members()).collect();
    if !measure.aggregation.is_calculated() || inner.is_empty() {
        leaves.push(id);
        return;
    }
    for id in inner {
        leaf_measures(model, id, leaves);
    }
}

fn leaf_item(model: &Model, id: MemberId) -> Value {
    let member = model.member(id);
    let kind = member
        .measure()
        .map_or("number", |measure| measure.aggregation.name());
    json!({ "measure": member.full_name, "additive": is_additive(model, id), "type": kind })
}

fn is_additive(model: &Model, id: MemberId) -> bool {
    model.member(id).measure().is_some_and(|measure| {
        matches!(
            measure.aggregation,
            Aggregation::Count | Aggregation::Sum | Aggregation::Min | Aggregation::Max
        )
    })
}
