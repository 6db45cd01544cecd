//! `/v1/load`, `/v1/sql` and `/v1/dry-run`.

use serde_json::{Map, Value, json};

use super::annotation::{annotation, blended_time};
use super::transformed::transformed_query;
use super::{ApiReply, Request, direction};
use crate::model::SecurityContext;
use crate::plan::{self, Normalized, QueryError, QueryType};
use crate::query::DateRange;
use crate::service::{Answer, Service, keys};

impl Service {
    /// `/v1/load`: rows in Cube's envelope.
    pub async fn load(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.try_load(request, context)
            .await
            .map_or_else(ApiReply::from, ApiReply::ok)
    }

    /// `/v1/sql`: the statement that a load would run.
    pub fn sql(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.try_sql(request, context)
            .map_or_else(ApiReply::from, ApiReply::ok)
    }

    /// `/v1/dry-run`: the query as it would be read.
    pub fn dry_run(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.try_dry_run(request, context)
            .map_or_else(ApiReply::from, ApiReply::ok)
    }

    async fn try_load(
        &self,
        request: &Value,
        context: &SecurityContext,
    ) -> Result<Value, QueryError> {
        let request = Request::read(request)?;
        let (kind, queries) = plan::normalize(&request.query, self.clock.business_now())?;
        if !request.multi && kind != QueryType::Regular {
            return Err(QueryError::Invalid(format!(
                "'{}' query type is not supported by the client.Please update the client.",
                kind.name()
            )));
        }
        let service = self.extended(&queries, context)?;
        let mut results = Vec::with_capacity(queries.len());
        for query in &queries {
            let answer = service.answer(query, context).await?;
            results.push(service.result(kind, query, &answer));
        }
        if !request.multi {
            return Ok(results.pop().unwrap_or_default());
        }
        Ok(json!({
            "queryType": kind.name(),
            "results": results,
            "pivotQuery": pivot_query(kind, &queries),
            "slowQuery": false,
        }))
    }

    fn result(&self, kind: QueryType, query: &Normalized, answer: &Answer) -> Value {
        let model = &self.snapshot.model;
        let refreshed = self.clock.real_now();
        let mut result = json!({
            "query": query.json,
            "lastRefreshTime": refreshed.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "annotation": annotation(model, &answer.plan),
            "dataSource": "default",
            "dbType": "postgres",
            "external": false,
            "slowQuery": false,
        });
        if let Some(filters) = result["query"]["filters"].as_array_mut() {
            filters.extend(answer.plan.row_filters.iter().map(|filter| json!(filter)));
        }
        if let Some(rollup) = &answer.plan.rollup {
            let table = rollup.relation.replace('"', "");
            result["usedPreAggregations"] = json!({ table.clone(): { "targetTableName": table, "preAggregationId": rollup.name } });
        }
        if let Some(total) = answer.rows.total {
            result["total"] = json!(total);
        }
        let mut keys = keys(model, &answer.plan);
        let mut constant = None;
        match kind {
            QueryType::Regular => {}
            QueryType::Blending => keys.extend(blended_time(&answer.plan.columns)),
            QueryType::CompareDateRange => {
                constant = Some(("compareDateRange".to_owned(), json!(compared_range(query))));
            }
        }
        let format = query.query.response_format.as_deref().unwrap_or("default");
        result["data"] = data(format, &keys, constant, &answer.rows.rows);
        result
    }

    fn try_sql(&self, request: &Value, context: &SecurityContext) -> Result<Value, QueryError> {
        let request = Request::read(request)?;
        let (kind, queries) = plan::normalize(&request.query, self.clock.business_now())?;
        let service = self.extended(&queries, context)?;
        let mut all = Vec::with_capacity(queries.len());
        for query in &queries {
            all.push(service.sql_of(query, context)?);
        }
        Ok(if kind == QueryType::Regular {
            all.pop().unwrap_or_default()
        } else {
            Value::Array(all)
        })
    }

    fn sql_of(&self, query: &Normalized, context: &SecurityContext) -> Result<Value, QueryError> {
        let model = &self.snapshot.model;
        let plan = plan::plan(model, query, context)?;
        let aliases: Map<String, Value> = plan
            .columns
            .iter()
            .map(|column| {
                (
                    column.alias.clone(),
                    json!(model.member(column.member).full_name),
                )
            })
            .collect();
        let members: Vec<&Value> = aliases.values().collect();
        let order: Map<String, Value> = plan
            .order
            .iter()
            .map(|(id, desc)| (id.clone(), direction(*desc)))
            .collect();
        let mut sql = json!({
            "external": false,
            "sql": [plan.statement.sql(), plan.statement.params],
            "lambdaQueries": {},
            "order": order,
            "cacheKeyQueries": [],
            "preAggregations": [],
            "dataSource": "default",
            "aliasNameToMember": aliases,
            "canUseTransformedQuery": transformed_query(model, query, &plan),
            "memberNames": members,
        });
        let is_time = |column: &&plan::Column| matches!(column.kind, plan::ColumnKind::Time { .. });
        let time = plan.columns.iter().find(is_time);
        if let Some(column) = time {
            sql["timeDimensionAlias"] = json!(column.alias);
            sql["timeDimensionField"] = json!(model.member(column.member).full_name);
        }
        Ok(json!({ "sql": sql, "dataSource": "default" }))
    }

    fn try_dry_run(&self, request: &Value, context: &SecurityContext) -> Result<Value, QueryError> {
        let request = Request::read(request)?;
        let (kind, queries) = plan::normalize(&request.query, self.clock.business_now())?;
        let service = self.extended(&queries, context)?;
        let (mut orders, mut transformed, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for query in &queries {
            let plan = plan::plan(&service.snapshot.model, query, context)?;
            let order: Map<String, Value> = plan
                .order
                .iter()
                .map(|(id, desc)| (id.clone(), direction(*desc)))
                .collect();
            orders.push(Value::Object(order));
            transformed.push(transformed_query(&service.snapshot.model, query, &plan));
            let mut json = query.json.clone();
            json["cacheMode"] = json!("stale-if-slow");
            shown.push(json);
        }
        let mut pivot = pivot_query(kind, &queries);
        pivot["cacheMode"] = json!("stale-if-slow");
        if let Some(first) = shown.first_mut() {
            *first = pivot.clone();
        }
        Ok(json!({
            "queryType": kind.name(),
            "normalizedQueries": shown,
            "queryOrder": orders,
            "transformedQueries": transformed,
            "pivotQuery": pivot,
        }))
    }
}

/// Rows in the form that the client asked for.
fn data(
    format: &str,
    keys: &[(String, usize)],
    constant: Option<(String, Value)>,
    rows: &[Vec<Value>],
) -> Value {
    let mut members: Vec<&String> = keys.iter().map(|(key, _)| key).collect();
    members.extend(constant.as_ref().map(|(key, _)| key));
    let last = || constant.as_ref().map(|(_, value)| value.clone());
    match format {
        "compact" => {
            let dataset: Vec<Value> = rows
                .iter()
                .map(|row| {
                    keys.iter()
                        .map(|(_, at)| row[*at].clone())
                        .chain(last())
                        .collect()
                })
                .collect();
            json!({ "members": members, "dataset": dataset })
        }
        "columnar" => {
            let mut columns: Vec<Vec<Value>> = keys
                .iter()
                .map(|(_, at)| rows.iter().map(|row| row[*at].clone()).collect())
                .collect();
            columns.extend(last().map(|value| vec![value; rows.len()]));
            json!({ "members": members, "columns": columns })
        }
        _ => rows
            .iter()
            .map(|row| {
                let cells = keys.iter().map(|(key, at)| (key.clone(), row[*at].clone()));
                Value::Object(cells.chain(constant.clone()).collect())
            })
            .collect(),
    }
}

/// `from - to` of the range that a compared result is for.
fn compared_range(query: &Normalized) -> String {
    query
        .query
        .time_dimensions
        .iter()
        .find_map(|time| match &time.date_range {
            Some(DateRange::Bounds(bounds)) => Some(bounds.join(" - ")),
            _ => None,
        })
        .unwrap_or_default()
}

/// The query over all results, by which clients pivot.
fn pivot_query(kind: QueryType, queries: &[Normalized]) -> Value {
    let mut pivot = queries
        .first()
        .map(|query| query.json.clone())
        .unwrap_or_default();
    match kind {
        QueryType::Regular => {}
        QueryType::CompareDateRange => {
            let mut dimensions = vec![json!("compareDateRange")];
            dimensions.extend(
                pivot["dimensions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            pivot["dimensions"] = Value::Array(dimensions);
        }
        QueryType::Blending => {
            let mut measures: Vec<&String> = Vec::new();
            for measure in queries.iter().flat_map(|query| &query.query.measures) {
                if !measures.contains(&measure) {
                    measures.push(measure);
                }
            }
            let granularity = queries.first().and_then(|query| {
                query
                    .query
                    .time_dimensions
                    .iter()
                    .find_map(|time| time.granularity.clone())
            });
            pivot["measures"] = json!(measures);
            pivot["timeDimensions"] = json!([{ "dimension": "time", "granularity": granularity }]);
        }
    }
    pivot["queryType"] = json!(kind.name());
    pivot
}
