//! Semantic models, metrics and saved queries: what dbt's semantic layer reads from the manifest.
//! Nothing here is run; what each stands on is part of the project's graph.

use serde_json::{Map, Value as Json, json};

use super::node::ResourceType;
use crate::error::Place;

/// A semantic model, a metric or a saved query.
#[derive(Clone, Debug)]
pub(crate) struct Semantic {
    pub(crate) unique_id: String,
    pub(crate) kind: ResourceType,
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) original_file_path: String,
    pub(crate) fqn: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) config: Map<String, Json>,
    pub(crate) depends_on: Vec<String>,
    /// What the manifest says of it beside its names.
    pub(crate) facts: Map<String, Json>,
    pub(crate) place: Place,
}

fn of(item: &Json, key: &str) -> Json {
    item.get(key).cloned().unwrap_or_default()
}

fn or(item: &Json, key: &str, default: Json) -> Json {
    match of(item, key) {
        Json::Null => default,
        given => given,
    }
}

/// A value as text: `expr: 1` is the expression `1`.
fn text_of(item: &Json, key: &str) -> Json {
    match of(item, key) {
        number @ (Json::Number(_) | Json::Bool(_)) => number.to_string().into(),
        other => other,
    }
}

fn items<'j>(item: &'j Json, key: &str) -> impl Iterator<Item = &'j Json> {
    item.get(key).and_then(Json::as_array).into_iter().flatten()
}

fn object(facts: Json) -> Map<String, Json> {
    match facts {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

fn element_config(item: &Json) -> Json {
    let meta = item.get("config").and_then(|config| config.get("meta"));
    json!({"meta": meta.cloned().unwrap_or_else(|| json!({}))})
}

/// A condition, or several, as the manifest has them.
fn where_filter(given: &Json) -> Json {
    let texts = match given {
        Json::String(text) => vec![text.clone()],
        Json::Array(all) => all
            .iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect(),
        _ => return Json::Null,
    };
    let filters = texts.iter().map(|text| json!({"where_sql_template": text}));
    json!({"where_filters": filters.collect::<Vec<_>>()})
}

/// `30 days`.
fn window(given: &Json) -> Json {
    const GRAINS: [&str; 7] = ["hour", "day", "week", "month", "quarter", "year", "minute"];
    let text = given.as_str().unwrap_or_default().to_lowercase();
    let Some((count, grain)) = text.split_once(' ') else {
        return Json::Null;
    };
    let singular = grain.strip_suffix('s').filter(|it| GRAINS.contains(it));
    json!({"count": count.parse::<u64>().ok(), "granularity": singular.unwrap_or(grain)})
}

fn input_measure(given: &Json) -> Json {
    let named = given.as_str().map(|name| json!({ "name": name }));
    let given = match &named {
        Some(named) => named,
        None if given.is_object() => given,
        None => return Json::Null,
    };
    json!({
        "name": of(given, "name"), "filter": where_filter(&of(given, "filter")),
        "alias": of(given, "alias"), "join_to_timespine": or(given, "join_to_timespine", false.into()),
        "fill_nulls_with": of(given, "fill_nulls_with"),
    })
}

fn input_metric(given: &Json) -> Json {
    let named = given.as_str().map(|name| json!({ "name": name }));
    let given = match &named {
        Some(named) => named,
        None if given.is_object() => given,
        None => return Json::Null,
    };
    json!({
        "name": of(given, "name"), "filter": where_filter(&of(given, "filter")),
        "alias": of(given, "alias"), "offset_window": window(&of(given, "offset_window")),
        "offset_to_grain": of(given, "offset_to_grain"),
    })
}

/// What the manifest says of a semantic model.
pub(super) fn semantic_model(item: &Json) -> Map<String, Json> {
    let entities = items(item, "entities").map(|entity| {
        json!({
            "name": of(entity, "name"), "type": of(entity, "type"),
            "description": of(entity, "description"), "label": of(entity, "label"),
            "role": of(entity, "role"), "expr": text_of(entity, "expr"),
            "config": element_config(entity),
        })
    });
    let measures = items(item, "measures").map(|measure| {
        let additive = measure.get("non_additive_dimension").map(|given| {
            json!({"name": of(given, "name"), "window_choice": of(given, "window_choice"),
                   "window_groupings": or(given, "window_groupings", json!([]))})
        });
        json!({
            "name": of(measure, "name"), "agg": of(measure, "agg"),
            "description": of(measure, "description"), "label": of(measure, "label"),
            "create_metric": false, "expr": text_of(measure, "expr"),
            "agg_params": of(measure, "agg_params"), "non_additive_dimension": additive,
            "agg_time_dimension": of(measure, "agg_time_dimension"),
            "config": element_config(measure),
        })
    });
    let dimensions = items(item, "dimensions").map(|dimension| {
        let params = dimension.get("type_params").map(|given| {
            json!({"time_granularity": of(given, "time_granularity"),
                   "validity_params": of(given, "validity_params")})
        });
        json!({
            "name": of(dimension, "name"), "type": of(dimension, "type"),
            "description": of(dimension, "description"), "label": of(dimension, "label"),
            "is_partition": or(dimension, "is_partition", false.into()), "type_params": params,
            "expr": text_of(dimension, "expr"), "metadata": null,
            "config": element_config(dimension),
        })
    });
    object(json!({
        "model": of(item, "model"), "node_relation": null, "description": of(item, "description"),
        "label": of(item, "label"), "defaults": of(item, "defaults"),
        "entities": entities.collect::<Vec<_>>(), "measures": measures.collect::<Vec<_>>(),
        "dimensions": dimensions.collect::<Vec<_>>(), "metadata": null,
        "primary_entity": of(item, "primary_entity"),
    }))
}

/// What the manifest says of a metric; its measures are known when all are read.
pub(super) fn metric(item: &Json) -> Map<String, Json> {
    let given = or(item, "type_params", json!({}));
    let cumulative = (item.get("type") == Some(&"cumulative".into())).then(|| {
        let own = or(&given, "cumulative_type_params", json!({}));
        let either = |key: &str| or(&own, key, of(&given, key));
        json!({
            "window": window(&either("window")), "grain_to_date": either("grain_to_date"),
            "period_agg": or(&own, "period_agg", "first".into()), "metric": null,
        })
    });
    let conversion = given.get("conversion_type_params").map(|own| {
        json!({
            "base_measure": input_measure(&of(own, "base_measure")),
            "conversion_measure": input_measure(&of(own, "conversion_measure")),
            "entity": of(own, "entity"),
            "calculation": or(own, "calculation", "conversion_rate".into()),
            "window": window(&of(own, "window")),
            "constant_properties": of(own, "constant_properties"),
            "base_metric": null, "conversion_metric": null,
        })
    });
    let metrics: Vec<Json> = items(&given, "metrics").map(input_metric).collect();
    object(json!({
        "description": or(item, "description", "".into()), "label": of(item, "label"),
        "type": of(item, "type"), "filter": where_filter(&of(item, "filter")), "metadata": null,
        "time_granularity": of(item, "time_granularity"), "sources": [], "refs": [], "metrics": [],
        "type_params": {
            "measure": input_measure(&of(&given, "measure")), "input_measures": [],
            "numerator": input_metric(&of(&given, "numerator")),
            "denominator": input_metric(&of(&given, "denominator")),
            "expr": text_of(&given, "expr"), "window": window(&of(&given, "window")),
            "grain_to_date": of(&given, "grain_to_date"), "metrics": metrics,
            "conversion_type_params": conversion, "cumulative_type_params": cumulative,
            "metric_aggregation_params": null,
        },
    }))
}

/// The metric that `create_metric: true` makes of a measure.
pub(super) fn metric_of_measure(measure: &Json) -> Option<Json> {
    (measure.get("create_metric") == Some(&true.into())).then(|| {
        let name = of(measure, "name");
        let text = name.as_str().unwrap_or_default();
        let described = format!("Metric created from measure {text}");
        json!({
            "name": name, "label": or(measure, "label", name.clone()), "type": "simple",
            "type_params": {"measure": name, "expr": or(measure, "expr", name.clone())},
            "description": or(measure, "description", described.into()),
            "config": element_config(measure),
        })
    })
}

/// What the manifest says of a saved query.
pub(super) fn saved_query(item: &Json) -> Map<String, Json> {
    let given = or(item, "query_params", json!({}));
    let exports = items(item, "exports").map(|export| {
        let own = or(export, "config", json!({}));
        let config = json!({
            "export_as": of(&own, "export_as"), "alias": or(&own, "alias", of(export, "name")),
            "schema_name": or(&own, "schema", of(&own, "schema_name")), "database": null,
        });
        json!({"name": of(export, "name"), "config": config, "unrendered_config": own})
    });
    object(json!({
        "query_params": {
            "metrics": or(&given, "metrics", json!([])), "group_by": or(&given, "group_by", json!([])),
            "where": where_filter(&of(&given, "where")),
            "order_by": or(&given, "order_by", json!([])), "limit": of(&given, "limit"),
        },
        "exports": exports.collect::<Vec<_>>(), "description": of(item, "description"),
        "label": of(item, "label"), "metadata": null, "refs": [],
    }))
}

/// Names of the metrics that a metric, or a saved query, is made of.
pub(super) fn metrics_read(facts: &Map<String, Json>) -> Vec<String> {
    let params = facts.get("type_params").unwrap_or(&Json::Null);
    let parts = ["numerator", "denominator"].map(|key| of(params, key));
    let query = facts.get("query_params").unwrap_or(&Json::Null);
    let listed = items(params, "metrics").chain(items(query, "metrics"));
    let all = parts.iter().chain(listed);
    all.filter_map(|input| input.as_str().or_else(|| input.get("name")?.as_str()))
        .map(str::to_owned)
        .collect()
}

/// The measures that a metric itself names.
pub(super) fn measures_named(facts: &Map<String, Json>) -> Vec<Json> {
    let params = facts.get("type_params").unwrap_or(&Json::Null);
    let conversion = of(params, "conversion_type_params");
    let all = [
        of(params, "measure"),
        of(&conversion, "base_measure"),
        of(&conversion, "conversion_measure"),
    ];
    all.into_iter().filter(Json::is_object).collect()
}
