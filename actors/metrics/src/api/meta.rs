//! `/v1/meta`: what there is to ask.

use serde_json::{Map, Value, json};

use super::ApiReply;
use super::annotation::{custom_granularity, grouped};
use crate::model::{
    CaseLabel, Cube, Definition, DimensionSql, Measure, Member, Model, Relationship,
    SecurityContext, Table,
};
use crate::service::Service;

impl Service {
    /// `/v1/meta`: with `extended` the SQL of each member too, with `onlyViews` no cubes.
    pub fn meta(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        let asked = |key: &str| match request.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => text != "false",
            Some(_) => true,
        };
        let (extended, only_views) = (asked("extended"), asked("onlyViews"));
        let model = &self.snapshot.model;
        let cubes: Vec<Value> = model
            .cubes
            .iter()
            .filter(|cube| cube.public && (!only_views || cube.table.is_none()))
            .filter_map(|cube| cube_item(model, cube, context, extended))
            .collect();
        ApiReply::ok(json!({ "cubes": cubes }))
    }
}

/// A cube as the caller may see it; `None` when its policies hide all of it.
fn cube_item(
    model: &Model,
    cube: &Cube,
    context: &SecurityContext,
    extended: bool,
) -> Option<Value> {
    let visible = |member: &&Member| {
        member.public
            && cube.policies.as_ref().is_none_or(|policies| {
                policies
                    .iter()
                    .any(|p| p.applies_to(context) && p.allows(&member.name))
            })
    };
    let members: Vec<&Member> = cube.members.iter().filter(visible).collect();
    if members.is_empty() && cube.policies.is_some() {
        return None;
    }
    let mut item = Map::new();
    item.insert("name".to_owned(), json!(cube.name));
    let kind = if cube.table.is_some() { "cube" } else { "view" };
    item.insert("type".to_owned(), json!(kind));
    item.insert("title".to_owned(), json!(cube.title));
    item.insert("isVisible".to_owned(), json!(cube.public));
    item.insert("public".to_owned(), json!(cube.public));
    if let Some(description) = &cube.description {
        item.insert("description".to_owned(), json!(description));
    }
    if let Some(component) = cube.component {
        item.insert("connectedComponent".to_owned(), json!(component));
    }
    if !cube.meta.is_null() {
        item.insert("meta".to_owned(), cube.meta.clone());
    }
    let of = |wanted: fn(&Definition) -> bool| -> Vec<Value> {
        members
            .iter()
            .filter(|member| wanted(&member.definition))
            .map(|member| member_item(model, member, extended))
            .collect()
    };
    item.insert(
        "measures".to_owned(),
        json!(of(|d| matches!(d, Definition::Measure(_)))),
    );
    item.insert(
        "dimensions".to_owned(),
        json!(of(|d| matches!(d, Definition::Dimension(_)))),
    );
    item.insert(
        "segments".to_owned(),
        json!(of(|d| matches!(d, Definition::Segment(_)))),
    );
    item.insert("hierarchies".to_owned(), json!(cube.hierarchies));
    item.insert("folders".to_owned(), json!(cube.folders));
    item.insert("nestedFolders".to_owned(), json!(cube.nested_folders));
    if extended {
        add_source(&mut item, model, cube);
    }
    Some(Value::Object(item))
}

/// Where the rows of a cube come from, its joins and what is kept in advance.
fn add_source(item: &mut Map<String, Value>, model: &Model, cube: &Cube) {
    let mut set = |key: &str, value: Value| item.insert(key.to_owned(), value);
    if let Some(Table::Query(sql)) = &cube.table {
        set("sql", in_javascript(&sql.source));
    }
    set("fileName", json!(cube.file));
    let joins = cube.joins.iter().map(|join| {
        let relationship = match join.relationship {
            Relationship::OneToOne => "hasOne",
            Relationship::OneToMany => "hasMany",
            Relationship::ManyToOne => "belongsTo",
        };
        json!({
            "name": model.cubes[join.to].name,
            "relationship": relationship,
            "sql": in_javascript(&join.sql.source),
        })
    });
    set("joins", joins.collect());
    set("preAggregations", cube.written_pre_aggregations.clone());
}

/// SQL in the JavaScript spelling that Cube's extended meta has.
fn in_javascript(sql: &str) -> Value {
    json!(format!("`{}`", sql.replace('{', "${")))
}

fn member_item(model: &Model, member: &Member, extended: bool) -> Value {
    let mut item = Map::new();
    let mut set = |key: &str, value: Value| item.insert(key.to_owned(), value);
    set("name", json!(member.full_name));
    set("title", json!(member.title));
    if let Some(description) = &member.description {
        set("description", json!(description));
    }
    set("shortTitle", json!(member.short_title));
    set("isVisible", json!(member.public));
    set("public", json!(member.public));
    if let Some(format) = &member.format {
        set("format", format.clone());
    }
    if !member.meta.is_null() {
        set("meta", member.meta.clone());
    }
    if let Some(currency) = &member.currency {
        set("currency", json!(currency));
    }
    if member.segment().is_none()
        && let Some(target) = alias_member(model, member)
    {
        set("aliasMember", json!(target));
    }
    match &member.definition {
        Definition::Measure(measure) => {
            let cumulative = measure.rolling_window.is_some();
            set("cumulativeTotal", json!(cumulative));
            set("cumulative", json!(cumulative));
            set("type", json!(member.value_type()));
            set("aggType", json!(agg_type(measure)));
            set("drillMembers", json!(measure.drill_members));
            set("drillMembersGrouped", grouped(&measure.drill_members));
        }
        Definition::Dimension(dimension) => {
            set("type", json!(member.value_type()));
            set(
                "suggestFilterValues",
                json!(dimension.suggest_filter_values),
            );
            set("primaryKey", json!(dimension.primary_key));
            if !dimension.granularities.is_empty() {
                let items = dimension.granularities.iter().map(custom_granularity);
                set("granularities", items.collect());
            }
        }
        Definition::Segment(_) => {}
    }
    if member.value_type() == "number" {
        set("formatDescription", format_description(member));
    }
    if extended {
        add_sql(&mut item, member);
    }
    Value::Object(item)
}

/// Cube writes most types as YAML does, these in camel case.
fn agg_type(measure: &Measure) -> &'static str {
    match measure.aggregation.name() {
        "count_distinct" => "countDistinct",
        "count_distinct_approx" => "countDistinctApprox",
        "number_agg" => "numberAgg",
        other => other,
    }
}

/// What a view's member stands for, or a member that is only a reference to another.
fn alias_member(model: &Model, member: &Member) -> Option<String> {
    if let Some(origin) = &member.origin {
        return Some(model.member(origin.member).full_name.clone());
    }
    use crate::model::Part;
    let alone = |template: &crate::model::Template| match template.parts.as_slice() {
        [Part::Member(id) | Part::Granularity(id, _)] => Some(model.member(*id).full_name.clone()),
        _ => None,
    };
    match &member.definition {
        Definition::Dimension(dimension) if dimension.sub_query => None,
        Definition::Measure(measure) if !measure.aggregation.is_calculated() => None,
        Definition::Segment(_) => None,
        _ => member
            .templates()
            .first()
            .and_then(|template| alone(template)),
    }
}

fn format_description(member: &Member) -> Value {
    match member.format.as_ref().and_then(Value::as_str) {
        Some("percent") => json!({ "name": "percent", "specifier": ".2~%" }),
        Some("currency") => {
            let mut item = json!({ "name": "currency", "specifier": "$,.2~f" });
            if let Some(currency) = &member.currency {
                item["currency"] = json!(currency);
            }
            item
        }
        _ => json!({ "name": "number", "specifier": ",.2~f" }),
    }
}

/// The member's definition; a view's member has none of its own.
fn add_sql(item: &mut Map<String, Value>, member: &Member) {
    if member.origin.is_some() {
        return;
    }
    let mut set = |key: &str, value: Value| item.insert(key.to_owned(), value);
    match &member.definition {
        Definition::Measure(measure) => {
            if let Some(sql) = &measure.sql {
                set("sql", in_javascript(&sql.source));
            }
            if !measure.filters.is_empty() {
                let sql = measure.filters.iter().map(|f| in_javascript(&f.source));
                set("filters", sql.map(|sql| json!({ "sql": sql })).collect());
            }
        }
        Definition::Dimension(dimension) => match &dimension.sql {
            DimensionSql::Case { when, otherwise } => {
                let branches = when.iter().map(|(sql, label)| {
                    json!({ "sql": in_javascript(&sql.source), "label": case_label(label) })
                });
                let mut case = json!({ "when": branches.collect::<Vec<_>>() });
                if let Some(label) = otherwise {
                    case["else"] = json!({ "label": case_label(label) });
                }
                set("case", case);
            }
            DimensionSql::Expression(sql) => {
                set("sql", in_javascript(&sql.source));
            }
            DimensionSql::Geo { .. } => {}
        },
        Definition::Segment(sql) => {
            set("sql", in_javascript(&sql.source));
        }
    }
}

fn case_label(label: &CaseLabel) -> Value {
    match label {
        CaseLabel::Text(text) => json!(text),
        CaseLabel::Sql(sql) => json!({ "sql": in_javascript(&sql.source) }),
    }
}
