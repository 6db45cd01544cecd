//! How this project configures each stage's library: used by the tree of `up` and by the commands
//! that make one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;
use ballpoint_analyst::{ModelSettings, Secret};
use ballpoint_metrics::Model;
use ballpoint_metrics::model::Table;
use ballpoint_orchestrator::Stages;
use ballpoint_reverse_etl::{WriteBacks, WriteBacksConfig};
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::segment::SourceError;
use ballpoint_runtime::store::Store;
use ballpoint_source::{PostgresSource, PostgresSourceConfig, TableConfig};
use ballpoint_transformer::{LoadOptions, Target};
use futures_util::future::join_all;
use serde_json::{Map, Value};

use crate::config::{Project, SourceConfig};
use crate::databases::{Databases, WAREHOUSE};
use crate::output::UserError;
use crate::sources::Source;

/// How long a source may take to list its tables before a start goes on without it.
const LISTING_MAX: Duration = Duration::from_secs(2);

/// Where a model lands that names no schema.
const DEFAULT_SCHEMA: &str = "public";

/// Which stages follow the sources in this project.
pub(crate) fn of(project: &Project) -> Stages {
    Stages {
        transform: project.config.transform.is_some(),
        metrics: project.config.metrics.is_some(),
        write_backs: project.config.reverse_etl.is_some(),
    }
}

/// The reader of a source at a URL.
///
/// # Errors
/// When its configuration cannot be used.
pub(crate) fn reader_at(
    name: &str,
    url: &str,
    source: &SourceConfig,
) -> Result<PostgresSource, SourceError> {
    PostgresSource::new(source_config(name, url, source))
}

fn source_config(name: &str, url: &str, source: &SourceConfig) -> PostgresSourceConfig {
    PostgresSourceConfig {
        tables: source.tables.clone(),
        mode: source.mode,
        follow_log: source.follow_log,
        table: table_configs(source),
        on_schema_change: source.on_schema_change,
        soft_delete: source.soft_delete,
        max_value_bytes: source
            .max_value_bytes
            .map_or(PostgresSourceConfig::MAX_VALUE_BYTES, |size| size.0),
        on_gap: source.on_gap,
        max_slot_wal: source
            .max_slot_wal
            .map_or(Some(PostgresSourceConfig::MAX_SLOT_WAL), |size| {
                Some(size.0).filter(|bytes| *bytes > 0)
            }),
        ..PostgresSourceConfig::new(name, url)
    }
}

/// The settings of a source's tables, by their names as configured.
pub(crate) fn table_configs(source: &SourceConfig) -> BTreeMap<String, TableConfig> {
    let table = source.table.iter().map(|(table, settings)| {
        let settings = TableConfig {
            mode: settings.mode,
            cursor: settings.cursor.clone(),
            primary_key: settings.primary_key.clone().unwrap_or_default(),
            on_schema_change: settings.on_schema_change,
            soft_delete: settings.soft_delete,
            max_value_bytes: settings.max_value_bytes.map(|size| size.0),
        };
        (table.clone(), settings)
    });
    table.collect()
}

/// Refuses two sources that would land one table in one place. A source that does not answer is
/// compared when it does.
///
/// # Errors
/// Names the table and both sources.
pub(crate) async fn check_collisions(
    project: &Project,
    databases: &Databases,
) -> anyhow::Result<()> {
    let listed = join_all(
        project
            .config
            .sources
            .iter()
            .filter(|(_, source)| shares_schema(project, source))
            .map(|(name, source)| async move {
                let reader = Source::open(project, databases, name).ok()?;
                let tables = tokio::time::timeout(LISTING_MAX, reader.tables_at_hand())
                    .await
                    .ok()?
                    .ok()?;
                Some((name, &source.schema, tables))
            }),
    )
    .await;
    let mut landed: BTreeMap<(&str, String), &str> = BTreeMap::new();
    for (name, schema, tables) in listed.into_iter().flatten() {
        for table in tables {
            let place = (schema.as_str(), table.name.clone());
            if let Some(other) = landed.insert(place, name).filter(|other| other != name) {
                bail!(UserError(format!(
                    "sources {other} and {name} would both land in {schema}.{}: give one of them \
                     another `schema`, or leave the table out with `tables`",
                    table.name
                )));
            }
        }
    }
    Ok(())
}

/// Whether another source lands beside it.
fn shares_schema(project: &Project, source: &SourceConfig) -> bool {
    let sources = project.config.sources.values();
    sources.filter(|it| it.schema == source.schema).count() > 1
}

/// The dbt project, built into the warehouse; `None` when the project has none.
///
/// # Errors
/// When the warehouse's URL cannot be read.
pub(crate) fn transform(
    project: &Project,
    databases: &Databases,
    clock: &Clock,
    environment: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Option<LoadOptions>> {
    let Some(transform) = &project.config.transform else {
        return Ok(None);
    };
    let target = Target::from_url(databases.url(WAREHOUSE)?, DEFAULT_SCHEMA)?;
    let mut options = LoadOptions::new(project.folder.join(&transform.project_dir), target);
    options.env = environment.into_iter().collect();
    options.run_started_at = clock.business_now().to_string();
    Ok(Some(options))
}

/// The schemas that a project's queries read: where its sources land, where its models are built,
/// and where its data model says that tables are. What cannot be read yet names none.
pub(crate) fn query_schemas(project: &Project, databases: &Databases) -> Vec<String> {
    let landing = project.config.sources.values().map(|it| it.schema.clone());
    let mut schemas: BTreeSet<String> = landing.collect();
    let options = transform(project, databases, &Clock::system(), []);
    if let Ok(Some(options)) = options
        && let Ok(read) = ballpoint_transformer::Project::load(&options)
    {
        schemas.extend(read.nodes.into_values().map(|node| node.relation.schema));
    }
    if let Ok(Some(model)) = metrics(project) {
        let tables = model.cubes.iter().filter_map(|cube| match &cube.table {
            Some(Table::Name(name)) => Some(name.replace('"', "")),
            _ => None,
        });
        schemas.extend(tables.map(|name| match name.rsplit_once('.') {
            Some((schema, _)) => schema.rsplit('.').next().unwrap_or(schema).to_owned(),
            None => DEFAULT_SCHEMA.to_owned(),
        }));
    }
    schemas.into_iter().collect()
}

/// The write-backs; `None` where the project has none.
pub(crate) fn write_backs(
    project: &Project,
    databases: &Databases,
    store: &Store,
) -> Option<WriteBacks> {
    let config = project.config.reverse_etl.as_ref()?;
    // Every configured source has a database.
    let url = |name: &String| Some((name.clone(), databases.url(name).ok()?.to_owned()));
    let config = WriteBacksConfig {
        folder: project.folder.join(&config.path),
        sources: project.config.sources.keys().filter_map(url).collect(),
    };
    Some(WriteBacks::new(store.clone(), config))
}

/// Variables that a build is given. `business_now`: the moment that tests compare data with.
pub(crate) fn build_vars(clock: &Clock) -> Map<String, Value> {
    let now = Value::String(clock.business_now().to_string());
    Map::from_iter([("business_now".to_owned(), now)])
}

/// The data model, compiled.
///
/// # Errors
/// The first problem with its file and line.
pub(crate) fn metrics(project: &Project) -> anyhow::Result<Option<Model>> {
    let Some(metrics) = &project.config.metrics else {
        return Ok(None);
    };
    let path = project.folder.join(&metrics.path);
    match Model::load(&path) {
        Ok(model) => Ok(Some(model.counting(metrics.custom_granularities))),
        Err(error) => bail!(UserError(error.to_string())),
    }
}

/// The language model beside the local planner; `None` when the project configures none.
pub(crate) fn model(project: &Project) -> Option<ModelSettings> {
    let llm = project.config.llm.as_ref()?;
    let key = llm.api_key.as_ref().map(|it| it.0.clone());
    Some(ModelSettings::new(
        &llm.base_url,
        llm.model.trim(),
        Secret::new(key.unwrap_or_default().trim()),
        Duration::from_secs(llm.timeout_secs),
    ))
}

/// Who reads questions, for people.
pub(crate) fn reader_of_questions(project: &Project) -> String {
    match &project.config.llm {
        None => "the local planner".to_owned(),
        Some(llm) => format!(
            "the local planner; what it cannot read, by {} at {}",
            llm.model.trim(),
            llm.base_url
        ),
    }
}
