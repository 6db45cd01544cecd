//! `GET /api/lineage`: from the sources through raw tables and models to metrics and write-backs,
//! each with its state.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::Json;
use axum::extract::State;
use ballpoint_metrics::Snapshot;
use ballpoint_metrics::model::Table;
use ballpoint_reverse_etl::Sync;
use ballpoint_runtime::store::Checkpoint;
use ballpoint_transformer::lineage::LineageNode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::table::{Route, VIEWER, get};

/// Runs looked through for the latest of each kind.
const RUNS_LOOKED_AT: u32 = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![get("/api/lineage", VIEWER, lineage)]
}

/// The graph; edges go the way of the data.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Lineage {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Why the models are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Node {
    id: String,
    /// `source`, `raw`, `model`, `metric` or `write_back`.
    kind: &'static str,
    /// Folder of a model: `staging`, `marts`, …
    layer: Option<String>,
    name: String,
    /// `schema.table` in the warehouse.
    relation: Option<String>,
    status: Status,
    #[schema(value_type = Option<String>, format = DateTime)]
    fresh_at: Option<Timestamp>,
    /// About how many.
    rows: Option<i64>,
    tests: Option<Tests>,
    /// What it is, or what is wrong with it.
    detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Running,
    /// Older than what it is made from.
    Stale,
    Failed,
    #[default]
    Unknown,
}

#[derive(Debug, Serialize, ToSchema)]
struct Tests {
    passed: usize,
    failed: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Edge {
    from: String,
    to: String,
}

/// Everything that the graph is made of.
#[derive(Default)]
struct Facts {
    /// Source → the schema it lands in.
    sources: BTreeMap<String, String>,
    checkpoints: Vec<Checkpoint>,
    /// Troubles in words: `source x: …`, `build: …`, `metrics: …`.
    degraded: Vec<String>,
    models: Vec<LineageNode>,
    build: Build,
    snapshot: Option<std::sync::Arc<Snapshot>>,
    syncs: Vec<Sync>,
}

/// The latest builds.
#[derive(Default)]
struct Build {
    running: bool,
    /// Unique ids that failed in the latest one that ended, with the reason.
    failed: HashMap<String, String>,
}

#[utoipa::path(get, path = "/api/lineage", tag = "pipeline",
    responses((status = 200, body = Lineage)))]
pub(crate) async fn lineage(State(app): State<App>) -> Result<Json<Lineage>, ApiError> {
    let mut error = None;
    let models = match &app.lineage {
        Some(reader) => reader.read(app.store.pool()).await.unwrap_or_else(|why| {
            // An edit that does not parse: the rest is shown, and this is said.
            error = Some(why.to_string());
            Vec::new()
        }),
        None => Vec::new(),
    };
    let snapshot = match app.system.has_metrics {
        true => app.metrics.service().await.ok().map(|it| it.snapshot),
        false => None,
    };
    let syncs = app.write_backs.as_ref().and_then(|it| it.syncs().ok());
    let facts = Facts {
        sources: app.system.sources.clone(),
        checkpoints: app.store.checkpoints().all().await?,
        degraded: app.degraded(),
        models,
        build: latest_builds(&app).await?,
        snapshot,
        syncs: syncs.unwrap_or_default(),
    };
    let drawn = draw(&facts);
    Ok(Json(Lineage { error, ..drawn }))
}

async fn latest_builds(app: &App) -> Result<Build, ApiError> {
    let runs = app.store.runs().recent(RUNS_LOOKED_AT).await?;
    let mut builds = runs.into_iter().filter(|run| run.kind == "build");
    let mut build = Build::default();
    let ended = builds.find(|run| {
        build.running |= run.status == "running";
        run.status != "running"
    });
    if let Some(run) = ended.filter(|run| run.status == "failed") {
        let steps = app.store.runs().steps(run.id).await?;
        let failed = steps.into_iter().filter(|step| step.status == "failed");
        build.failed = failed
            .map(|step| (step.name, step.error.unwrap_or_default()))
            .collect();
    }
    Ok(build)
}

fn draw(facts: &Facts) -> Lineage {
    let mut drawn = Lineage::default();
    sources_and_raw(facts, &mut drawn);
    models(facts, &mut drawn);
    metrics(facts, &mut drawn);
    write_backs(facts, &mut drawn);
    // Where nothing stands there is nothing to point at.
    let ids: HashSet<&str> = drawn.nodes.iter().map(|node| node.id.as_str()).collect();
    drawn
        .edges
        .retain(|edge| ids.contains(edge.from.as_str()) && ids.contains(edge.to.as_str()));
    drawn
}

fn raw_id(schema: &str, table: &str) -> String {
    format!("raw.{schema}.{table}")
}

fn sources_and_raw(facts: &Facts, drawn: &mut Lineage) {
    for (name, schema) in &facts.sources {
        let trouble = facts.degraded.iter();
        let trouble = trouble
            .filter_map(|text| text.strip_prefix(&format!("source {name}: ")))
            .next();
        let tables = || facts.checkpoints.iter().filter(|it| it.source == *name);
        let fresh_at = tables().map(|it| it.updated_at).max();
        drawn.nodes.push(Node {
            id: format!("source.{name}"),
            kind: "source",
            name: name.clone(),
            status: match (trouble, fresh_at) {
                (Some(_), _) => Status::Failed,
                (None, Some(_)) => Status::Ok,
                (None, None) => Status::Unknown,
            },
            fresh_at,
            detail: trouble.map(str::to_owned),
            ..Node::default()
        });
        for checkpoint in tables() {
            let (id, table) = (raw_id(schema, &checkpoint.table.name), &checkpoint.table);
            drawn.edges.push(Edge {
                from: format!("source.{name}"),
                to: id.clone(),
            });
            let is_same =
                |it: &&LineageNode| it.schema == *schema && it.table == checkpoint.table.name;
            let declared = facts.models.iter().find(is_same);
            drawn.nodes.push(Node {
                id,
                kind: "raw",
                name: table.name.clone(),
                relation: Some(format!("{schema}.{}", table.name)),
                status: if trouble.is_some() {
                    Status::Stale
                } else {
                    Status::Ok
                },
                fresh_at: Some(checkpoint.updated_at),
                rows: declared.and_then(|it| it.rows),
                tests: declared.and_then(|it| tests(it, &facts.build)),
                ..Node::default()
            });
        }
    }
}

/// The node's own tests in the latest build; `None` where it has none.
fn tests(node: &LineageNode, build: &Build) -> Option<Tests> {
    let failed = |id: &&String| build.failed.contains_key(*id);
    let failed = node.tests.iter().filter(failed).count();
    (!node.tests.is_empty()).then_some(Tests {
        passed: node.tests.len() - failed,
        failed,
    })
}

fn models(facts: &Facts, drawn: &mut Lineage) {
    let landed: HashSet<String> = drawn.nodes.iter().map(|node| node.id.clone()).collect();
    let place = |node: &LineageNode| match node.kind {
        "source" => raw_id(&node.schema, &node.table),
        _ => node.id.clone(),
    };
    let places: HashMap<&str, String> = facts
        .models
        .iter()
        .map(|node| (node.id.as_str(), place(node)))
        .collect();
    let stale = downstream_of_failures(facts);
    for node in &facts.models {
        let id = place(node);
        if landed.contains(&id) {
            continue;
        }
        for read in &node.reads {
            drawn
                .edges
                .extend(places.get(read.as_str()).map(|from| Edge {
                    from: from.clone(),
                    to: id.clone(),
                }));
        }
        let wrong = facts.build.failed.get(&node.id).cloned();
        let tests = tests(node, &facts.build);
        let is_source = node.kind == "source";
        let failed = wrong.is_some() || tests.as_ref().is_some_and(|it| it.failed > 0);
        let has_no_relation = node.materialized == "ephemeral";
        let description = Some(node.description.clone()).filter(|text| !text.is_empty());
        drawn.nodes.push(Node {
            id,
            kind: if is_source { "raw" } else { "model" },
            layer: node.layer.clone(),
            name: node.name.clone(),
            relation: (!has_no_relation).then(|| format!("{}.{}", node.schema, node.table)),
            status: match node.built_at {
                _ if failed => Status::Failed,
                _ if stale.contains(node.id.as_str()) => Status::Stale,
                _ if is_source => Status::Unknown,
                _ if facts.build.running => Status::Running,
                Some(_) => Status::Ok,
                None if has_no_relation => Status::Ok,
                None => Status::Unknown,
            },
            fresh_at: node.built_at,
            rows: node.rows,
            tests,
            detail: wrong.or(description),
        });
    }
}

/// What reads, directly or not, a model that failed or whose test did: it shows the last good rows.
fn downstream_of_failures(facts: &Facts) -> HashSet<&str> {
    let failed = |node: &&LineageNode| {
        let is_failed = |id: &String| facts.build.failed.contains_key(id);
        is_failed(&node.id) || node.tests.iter().any(is_failed)
    };
    let mut reached: HashSet<&str> = HashSet::new();
    let mut pending: Vec<&str> = facts
        .models
        .iter()
        .filter(failed)
        .map(|it| it.id.as_str())
        .collect();
    while let Some(id) = pending.pop() {
        for node in &facts.models {
            if node.reads.iter().any(|read| read == id) && reached.insert(&node.id) {
                pending.push(&node.id);
            }
        }
    }
    reached
}

/// `schema.table` → the id of what stands there.
fn by_relation(drawn: &Lineage) -> HashMap<String, String> {
    let placed = drawn.nodes.iter();
    placed
        .filter_map(|node| Some((node.relation.clone()?, node.id.clone())))
        .collect()
}

fn metrics(facts: &Facts, drawn: &mut Lineage) {
    let Some(snapshot) = &facts.snapshot else {
        return;
    };
    let relations = by_relation(drawn);
    let mut trouble = facts.degraded.iter();
    let trouble = trouble.find_map(|text| text.strip_prefix("metrics: "));
    for cube in snapshot.model.cubes.iter().filter(|cube| cube.public) {
        let Some(table) = &cube.table else { continue };
        let id = format!("metric.{}", cube.name);
        let read: Vec<&String> = match table {
            Table::Name(name) => relations.get(&plain(name)).into_iter().collect(),
            Table::Query(query) => {
                let query = plain(&query.source);
                let named = relations.iter().filter(|(name, _)| query.contains(*name));
                named.map(|(_, id)| id).collect()
            }
        };
        drawn.edges.extend(read.into_iter().map(|from| Edge {
            from: from.clone(),
            to: id.clone(),
        }));
        drawn.nodes.push(Node {
            id,
            kind: "metric",
            name: cube.name.clone(),
            status: match (trouble, snapshot.refreshed) {
                (Some(_), _) => Status::Stale,
                (None, Some(_)) => Status::Ok,
                (None, None) => Status::Unknown,
            },
            fresh_at: snapshot.refreshed,
            detail: trouble
                .map(str::to_owned)
                .or_else(|| cube.description.clone()),
            ..Node::default()
        });
    }
}

/// A relation's name as models write it, without quotes.
fn plain(name: &str) -> String {
    name.replace('"', "").trim().to_owned()
}

fn write_backs(facts: &Facts, drawn: &mut Lineage) {
    let relations = by_relation(drawn);
    for sync in &facts.syncs {
        let id = format!("write_back.{}", sync.name);
        let model = sync.model.as_deref().map(plain);
        let from = model.as_ref().and_then(|name| relations.get(name));
        drawn.edges.extend(from.map(|from| Edge {
            from: from.clone(),
            to: id.clone(),
        }));
        drawn.nodes.push(Node {
            id,
            kind: "write_back",
            name: sync.name.clone(),
            status: Status::Ok,
            detail: Some(format!("writes {} of {}", sync.target_name(), sync.source)),
            ..Node::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use ballpoint_runtime::segment::{Position, TableName};

    use super::*;

    fn model(id: &str, reads: &[&str], tests: &[&str]) -> LineageNode {
        let texts = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect();
        let kind = if id.starts_with("source") {
            "source"
        } else {
            "model"
        };
        let name = id.rsplit('.').next().unwrap().to_owned();
        LineageNode {
            id: id.to_owned(),
            kind,
            schema: if kind == "source" { "raw" } else { "marts" }.to_owned(),
            table: name.clone(),
            name,
            layer: None,
            description: String::new(),
            materialized: "table",
            reads: texts(reads),
            tests: texts(tests),
            built_at: Some(Timestamp::UNIX_EPOCH),
            rows: Some(3),
        }
    }

    fn facts() -> Facts {
        Facts {
            sources: [("shop".to_owned(), "raw".to_owned())].into(),
            checkpoints: vec![Checkpoint {
                source: "shop".to_owned(),
                table: TableName::new("public", "orders"),
                position: Position(serde_json::Value::Null),
                updated_at: Timestamp::UNIX_EPOCH,
            }],
            models: vec![
                model("source.p.shop.orders", &[], &[]),
                model("source.p.shop.late", &[], &[]),
                model(
                    "model.p.stg",
                    &["source.p.shop.orders", "source.p.shop.late"],
                    &["test.p.unique"],
                ),
                model("model.p.mart", &["model.p.stg"], &[]),
            ],
            ..Facts::default()
        }
    }

    fn status(drawn: &Lineage, id: &str) -> Status {
        drawn
            .nodes
            .iter()
            .find(|node| node.id == id)
            .unwrap()
            .status
    }

    #[test]
    fn a_row_can_be_followed_from_its_source_to_the_mart() {
        let drawn = draw(&facts());
        let edge = |from: &str, to: &str| Edge {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        for wanted in [
            edge("source.shop", "raw.raw.orders"),
            edge("raw.raw.orders", "model.p.stg"),
            edge("raw.raw.late", "model.p.stg"),
            edge("model.p.stg", "model.p.mart"),
        ] {
            assert!(drawn.edges.contains(&wanted), "{wanted:?}");
        }
        assert_eq!(status(&drawn, "raw.raw.orders"), Status::Ok);
        assert_eq!(status(&drawn, "raw.raw.late"), Status::Unknown);
        assert_eq!(status(&drawn, "model.p.mart"), Status::Ok);
    }

    #[test]
    fn a_failed_test_fails_its_model_and_makes_what_reads_it_stale() {
        let mut facts = facts();
        let failed = ("test.p.unique".to_owned(), "2 rows".to_owned());
        facts.build.failed = [failed].into();
        facts.degraded = vec!["source shop: refused".to_owned()];
        let drawn = draw(&facts);
        assert_eq!(status(&drawn, "source.shop"), Status::Failed);
        assert_eq!(status(&drawn, "raw.raw.orders"), Status::Stale);
        assert_eq!(status(&drawn, "model.p.stg"), Status::Failed);
        assert_eq!(status(&drawn, "model.p.mart"), Status::Stale);
    }
}
