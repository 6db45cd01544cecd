//! What stands behind a table of the warehouse, for proofs: the models that made it with the last
//! verdicts of their tests, and where their sources stood.

use std::collections::{BTreeSet, HashMap};

use ballpoint_metrics::proof::Lineage;
use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::Store;
use ballpoint_transformer::lineage::{LineageNode, LineageReader};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

/// Builds looked through for the last verdict of a test.
const BUILDS_LOOKED_AT: u32 = 20;

/// The project's graph and the warehouse's records.
pub(crate) struct Evidence {
    pub(crate) store: Store,
    /// `None` where the project builds no models.
    pub(crate) graph: Option<LineageReader>,
    /// Source → the schema that it lands in.
    pub(crate) landing: HashMap<String, String>,
}

impl Lineage for Evidence {
    fn behind<'a>(&'a self, tables: &'a [TableName]) -> BoxFuture<'a, Result<Value, String>> {
        async move { self.read(tables).await.map_err(|error| error.to_string()) }.boxed()
    }
}

impl Evidence {
    async fn read(&self, tables: &[TableName]) -> anyhow::Result<Value> {
        let graph = match &self.graph {
            Some(reader) => reader.read(self.store.pool()).await?,
            None => Vec::new(),
        };
        let behind = behind(&graph, tables);
        let verdicts = self.verdicts().await?;
        let models = behind
            .iter()
            .filter(|node| node.kind != "source")
            .map(|node| {
                let tests = node.tests.iter();
                let tests: Vec<Value> = tests
                    .map(|id| json!({ "id": id, "status": verdicts.get(id) }))
                    .collect();
                json!({
                    "id": node.id,
                    "table": format!("{}.{}", node.schema, node.table),
                    "built_at": node.built_at.map(|at| at.to_string()),
                    "tests": tests,
                })
            });
        let models: Vec<Value> = models.collect();
        let mut landed: BTreeSet<(&str, &str)> = tables
            .iter()
            .map(|it| (it.schema.as_str(), it.name.as_str()))
            .collect();
        landed.extend(
            behind
                .iter()
                .map(|node| (node.schema.as_str(), node.table.as_str())),
        );
        let sources = self.positions(&landed).await?;
        Ok(json!({ "models": models, "sources": sources }))
    }

    /// Where the source of each of these landed tables stood. Of a table that a log keeps, that is how
    /// far the log is in the warehouse: from where it was copied says nothing of its rows any more.
    async fn positions(&self, landed: &BTreeSet<(&str, &str)>) -> anyhow::Result<Vec<Value>> {
        let streams = self.store.streams().all().await?;
        let checkpoints = self.store.checkpoints().all().await?;
        let read = checkpoints.iter().filter(|it| {
            let schema = self.landing.get(&it.source).map_or("", String::as_str);
            landed.contains(&(schema, it.table.name.as_str()))
        });
        let shown = read.map(|it| {
            let stream = streams.iter().find(|stream| stream.source == it.source);
            let followed = stream.filter(|_| is_followed(&it.position.0));
            let (position, at) = match followed {
                Some(stream) => (
                    json!({ "lsn": stream.position.end.to_string(), "slot": stream.position.slot }),
                    stream.committed_at.unwrap_or(it.updated_at),
                ),
                None => (it.position.0.clone(), it.updated_at),
            };
            json!({
                "source": it.source,
                "table": format!("{}.{}", it.table.schema, it.table.name),
                "position": position,
                "at": at.to_string(),
            })
        });
        Ok(shown.collect())
    }

    /// How each test ended last, by its id.
    async fn verdicts(&self) -> anyhow::Result<HashMap<String, String>> {
        let runs = self.store.runs();
        Ok(runs.last_steps("build", BUILDS_LOOKED_AT).await?)
    }
}

/// Whether a log keeps the table, rather than a copy that is ahead of it.
fn is_followed(position: &Value) -> bool {
    position.get("snapshot_lsn").is_some() && position["state"] != "copied"
}

/// The nodes that made these tables, directly or not.
fn behind<'g>(graph: &'g [LineageNode], tables: &[TableName]) -> Vec<&'g LineageNode> {
    let by_id: HashMap<&str, &LineageNode> =
        graph.iter().map(|node| (node.id.as_str(), node)).collect();
    let is_read = |node: &&LineageNode| {
        tables
            .iter()
            .any(|it| it.schema == node.schema && it.name == node.table)
    };
    let mut pending: Vec<&LineageNode> = graph.iter().filter(is_read).collect();
    let mut found: Vec<&LineageNode> = Vec::new();
    while let Some(node) = pending.pop() {
        if found.iter().any(|it| it.id == node.id) {
            continue;
        }
        found.push(node);
        pending.extend(
            node.reads
                .iter()
                .filter_map(|id| by_id.get(id.as_str()).copied()),
        );
    }
    found.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    found
}
