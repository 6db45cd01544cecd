//! The project as a graph with its state in the warehouse: what reads what, when each relation was
//! last built, and about how many rows it holds. Reading it changes nothing and takes no lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sqlx::{PgPool, Row};

use crate::error::ProjectError;
use crate::project::node::{Node, ResourceType, Source};
use crate::project::{LoadOptions, Project};

/// Why the graph could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// With the file and line.
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("the warehouse's catalogue could not be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error("reading the project panicked, which is a bug")]
    Panicked,
}

/// A source table, a seed or a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LineageNode {
    /// dbt's unique id.
    pub id: String,
    /// `source`, `seed` or `model`.
    pub kind: &'static str,
    pub name: String,
    pub schema: String,
    pub table: String,
    /// The first folder below the resource's: `staging`, `marts`, …
    pub layer: Option<String>,
    pub description: String,
    /// `view`, `table`, `incremental`, `ephemeral`, `seed`; `source` for what somebody else fills.
    pub materialized: &'static str,
    /// Unique ids of what it reads.
    pub reads: Vec<String>,
    /// Unique ids of its tests.
    pub tests: Vec<String>,
    /// When a build last wrote it; `None` for what no build has written.
    pub built_at: Option<Timestamp>,
    /// PostgreSQL's estimate; `None` for views and what was never analysed.
    pub rows: Option<i64>,
}

/// Reads the graph. The project is read again only when one of its files has changed.
#[derive(Debug)]
pub struct LineageReader {
    options: LoadOptions,
    kept: Arc<Mutex<Option<Arc<Project>>>>,
}

impl LineageReader {
    /// The graph of the project that these options read.
    pub fn new(options: LoadOptions) -> Self {
        Self {
            options,
            kept: Arc::default(),
        }
    }

    /// Sources first, then models and seeds by their unique ids.
    ///
    /// # Errors
    /// When the project's files are wrong, or the warehouse is away.
    pub async fn read(&self, warehouse: &PgPool) -> Result<Vec<LineageNode>, LineageError> {
        let project = self.project().await?;
        let (built, rows) = (built_at(warehouse).await?, estimates(warehouse).await?);
        let tests = tests_of(&project);
        let sources = project.sources.values().map(of_source);
        let nodes = project.nodes.values().filter(|node| !node.is_test());
        let nodes = nodes.map(|node| of_node(node, &tests));
        let mut graph: Vec<LineageNode> = sources.chain(nodes).collect();
        for node in &mut graph {
            node.built_at = built.get(&node.id).copied();
            node.rows = rows
                .get(&(node.schema.clone(), node.table.clone()))
                .copied();
            if let Some(tests) = tests.get(node.id.as_str()) {
                node.tests.clone_from(tests);
            }
        }
        Ok(graph)
    }

    async fn project(&self) -> Result<Arc<Project>, LineageError> {
        let (options, kept) = (self.options.clone(), Arc::clone(&self.kept));
        let read = move || -> Result<Arc<Project>, ProjectError> {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(project) = kept.as_ref().filter(|project| !project.is_stale()) {
                return Ok(Arc::clone(project));
            }
            let project = Arc::new(Project::load(&options)?);
            Ok(Arc::clone(kept.insert(project)))
        };
        let read = tokio::task::spawn_blocking(read).await;
        Ok(read.map_err(|_| LineageError::Panicked)??)
    }
}

/// Unique ids of tests by what they are declared at; one that names several is each one's.
fn tests_of(project: &Project) -> HashMap<&str, Vec<String>> {
    let mut tests: HashMap<&str, Vec<String>> = HashMap::new();
    for test in project.nodes.values().filter(|node| node.is_test()) {
        let at: Vec<&String> = match &test.attached_node {
            Some(node) => vec![node],
            None => test.depends_on.iter().collect(),
        };
        for node in at {
            tests
                .entry(node.as_str())
                .or_default()
                .push(test.unique_id.clone());
        }
    }
    tests
}

fn of_source(source: &Source) -> LineageNode {
    LineageNode {
        id: source.unique_id.clone(),
        kind: ResourceType::Source.name(),
        name: source.name.clone(),
        schema: source.relation.schema.clone(),
        table: source.relation.identifier.clone(),
        layer: None,
        description: source.description.clone(),
        materialized: ResourceType::Source.name(),
        reads: Vec::new(),
        tests: Vec::new(),
        built_at: None,
        rows: None,
    }
}

fn of_node(node: &Node, tests: &HashMap<&str, Vec<String>>) -> LineageNode {
    // project, folders…, name
    let folders = node.fqn.len().saturating_sub(1);
    LineageNode {
        id: node.unique_id.clone(),
        kind: node.resource_type.name(),
        name: node.name.clone(),
        schema: node.relation.schema.clone(),
        table: node.relation.identifier.clone(),
        layer: node.fqn.get(1..folders).and_then(|it| it.first()).cloned(),
        description: node.description.clone(),
        materialized: node.materialization.name(),
        reads: node.depends_on.clone(),
        tests: tests
            .get(node.unique_id.as_str())
            .cloned()
            .unwrap_or_default(),
        built_at: None,
        rows: None,
    }
}

/// By unique id. The table is made by the first build.
async fn built_at(warehouse: &PgPool) -> Result<HashMap<String, Timestamp>, sqlx::Error> {
    const SQL: &str = "select node_id, (extract(epoch from built_at) * 1000000)::bigint
                       from ballpoint.build_state";
    match sqlx::query(SQL)
        .persistent(false)
        .fetch_all(warehouse)
        .await
    {
        Ok(rows) => Ok(rows
            .iter()
            .filter_map(|row| Some((row.get(0), Timestamp::from_microsecond(row.get(1)).ok()?)))
            .collect()),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Ok(HashMap::new())
        }
        Err(error) => Err(error),
    }
}

async fn estimates(warehouse: &PgPool) -> Result<HashMap<(String, String), i64>, sqlx::Error> {
    const SQL: &str = "select nspname::text, relname::text, reltuples::bigint
         from pg_class join pg_namespace on pg_namespace.oid = relnamespace
         where relkind in ('r', 'p', 'm') and reltuples >= 0
           and nspname <> 'information_schema' and nspname !~ '^pg_'";
    let rows = sqlx::query(SQL)
        .persistent(false)
        .fetch_all(warehouse)
        .await?;
    Ok(rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ballpoint_postgres::testing::TestDatabase;

    use super::*;
    use crate::project::profile::Target;

    #[tokio::test]
    async fn the_graph_has_layers_tests_and_the_rows_of_the_warehouse() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("dbt_project.yml", "name: shop\n");
        write(
            "models/sources.yml",
            "sources: [{name: raw, tables: [{name: orders}]}]\n",
        );
        write(
            "models/staging/stg_orders.sql",
            "select * from {{ source('raw', 'orders') }}",
        );
        write(
            "models/staging/stg_orders.yml",
            "models: [{name: stg_orders, columns: [{name: id, data_tests: [not_null]}]}]\n",
        );
        let database = TestDatabase::create().await;
        let sql =
            "create schema raw; create table raw.orders as select generate_series(1, 7) as id;
                   analyze raw.orders";
        sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
        let options = LoadOptions::new(folder.path(), Target::named("d", "public"));
        let reader = LineageReader::new(options);
        let graph = reader.read(database.pool()).await.unwrap();
        let ids: Vec<_> = graph.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["source.shop.raw.orders", "model.shop.stg_orders"]);
        assert_eq!(graph[0].rows, Some(7));
        let model = &graph[1];
        assert_eq!(model.layer.as_deref(), Some("staging"));
        assert_eq!(model.reads, ["source.shop.raw.orders"]);
        assert_eq!((model.tests.len(), model.built_at), (1, None));
    }
}
