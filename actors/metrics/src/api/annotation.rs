//! What a client needs to know of a result's columns.

use serde_json::{Map, Value, json};

use crate::model::{Definition, Member, Model};
use crate::plan::granularity::STANDARD;
use crate::plan::{Column, ColumnKind, Plan};

/// `annotation` of a load response.
pub(crate) fn annotation(model: &Model, plan: &Plan) -> Value {
    let (mut measures, mut dimensions) = (Map::new(), Map::new());
    let mut times = Map::new();
    for column in &plan.columns {
        let member = model.member(column.member);
        match &column.kind {
            ColumnKind::Measure => measures.insert(column.key.clone(), member_item(member)),
            ColumnKind::Dimension => dimensions.insert(column.key.clone(), member_item(member)),
            ColumnKind::Time { granularity } => {
                let mut item = member_item(member);
                item["granularity"] = granularity_item(member, granularity);
                times.insert(column.key.clone(), item);
                times.insert(member.full_name.clone(), member_item(member))
            }
        };
    }
    let segments: Map<String, Value> = plan
        .segments
        .iter()
        .map(|id| {
            (
                model.member(*id).full_name.clone(),
                member_item(model.member(*id)),
            )
        })
        .collect();
    json!({
        "measures": measures,
        "dimensions": dimensions,
        "segments": segments,
        "timeDimensions": times,
    })
}

fn member_item(member: &Member) -> Value {
    let mut item = Map::new();
    item.insert("title".to_owned(), json!(member.title));
    item.insert("shortTitle".to_owned(), json!(member.short_title));
    if let Some(description) = &member.description {
        item.insert("description".to_owned(), json!(description));
    }
    if member.segment().is_none() {
        item.insert("type".to_owned(), json!(member.value_type()));
    }
    if let Some(format) = &member.format {
        item.insert("format".to_owned(), format.clone());
    }
    if let Some(currency) = &member.currency {
        item.insert("currency".to_owned(), json!(currency));
    }
    if !member.meta.is_null() {
        item.insert("meta".to_owned(), member.meta.clone());
    }
    if let Definition::Measure(measure) = &member.definition {
        item.insert("drillMembers".to_owned(), json!(measure.drill_members));
        item.insert(
            "drillMembersGrouped".to_owned(),
            grouped(&measure.drill_members),
        );
    }
    Value::Object(item)
}

/// Drill members by kind; measures drill into dimensions only.
pub(crate) fn grouped(drill_members: &[String]) -> Value {
    json!({ "measures": [], "dimensions": drill_members })
}

fn granularity_item(member: &Member, name: &str) -> Value {
    if let Some((_, interval)) = STANDARD.iter().find(|(standard, _)| *standard == name) {
        return json!({ "name": name, "title": name, "interval": interval });
    }
    let own = member
        .dimension()
        .map(|d| d.granularities.as_slice())
        .unwrap_or_default();
    own.iter()
        .find(|granularity| granularity.name == name)
        .map_or(Value::Null, custom_granularity)
}

/// A granularity that the model adds.
pub(crate) fn custom_granularity(granularity: &crate::model::Granularity) -> Value {
    let mut item = Map::new();
    item.insert("name".to_owned(), json!(granularity.name));
    item.insert("title".to_owned(), json!(granularity.title));
    item.insert("interval".to_owned(), json!(granularity.interval));
    if let Some(offset) = &granularity.offset {
        item.insert("offset".to_owned(), json!(offset));
    }
    if let Some(origin) = &granularity.origin {
        item.insert("origin".to_owned(), json!(origin));
    }
    Value::Object(item)
}

/// The key under which blended results share their time.
pub(crate) fn blended_time(columns: &[Column]) -> Option<(String, usize)> {
    columns
        .iter()
        .enumerate()
        .find_map(|(at, column)| match &column.kind {
            ColumnKind::Time { granularity } => Some((format!("time.{granularity}"), at)),
            _ => None,
        })
}
