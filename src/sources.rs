//! The sources of a project, each of its kind: a database, a connector, files.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ballpoint_runtime::segment::{SourceError, SourceReader, TableName};
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::ActorSpec;
use ballpoint_source::config::{Mode, TableConfig};
use ballpoint_source::file::FileFormat;
use ballpoint_source::poller::{Polled, PollerArgs, SourcePoller};
use ballpoint_source::watcher::{SourceWatcher, WatcherArgs};
use ballpoint_source::{
    AirbyteConfig, AirbyteSource, Connector, FileConfig, FileSource, PostgresSource,
};

use crate::config::{self, Project, SourceConfig, SourceKind};
use crate::databases::Databases;
use crate::stages;

/// A connector may be silent while its source works on an answer; a dead one never speaks again.
const STALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Where, in the data dir, connectors are installed and keep their logs.
const CONNECTORS_DIR: &str = "connectors";

/// A source, ready to be read. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Source {
    Postgres(Arc<PostgresSource>),
    Connector(Arc<AirbyteSource>),
    Files(Arc<FileSource>),
}

impl Source {
    /// The source of that name.
    ///
    /// # Errors
    /// When its configuration cannot be used.
    pub(crate) fn open(
        project: &Project,
        databases: &Databases,
        name: &str,
    ) -> anyhow::Result<Self> {
        let source = project
            .config
            .sources
            .get(name)
            .with_context(|| format!("no source {name}"))?;
        match Self::without_database(project, name, source) {
            Some(source) => Ok(source),
            None => {
                let reader = stages::reader_at(name, databases.url(name)?, source)?;
                Ok(Self::Postgres(Arc::new(reader)))
            }
        }
    }

    /// A source that is no database.
    pub(crate) fn without_database(
        project: &Project,
        name: &str,
        source: &SourceConfig,
    ) -> Option<Self> {
        match source.kind {
            SourceKind::Postgres => None,
            SourceKind::Airbyte => {
                let config = connector(project, name, source);
                Some(Self::Connector(Arc::new(AirbyteSource::new(config))))
            }
            SourceKind::File => {
                let config = files(project, name, source);
                Some(Self::Files(Arc::new(FileSource::new(config))))
            }
        }
    }

    pub(crate) fn reader(&self) -> Arc<dyn SourceReader> {
        match self {
            Self::Postgres(source) => source.clone(),
            Self::Connector(source) => source.clone(),
            Self::Files(source) => source.clone(),
        }
    }

    /// Its tables, as far as they can be told without starting a connector or reading a file.
    ///
    /// # Errors
    /// When a database does not answer.
    pub(crate) async fn tables_at_hand(&self) -> Result<Vec<TableName>, SourceError> {
        match self {
            Self::Postgres(source) => source.table_names().await,
            Self::Connector(source) => Ok(source.known_tables().unwrap_or_default()),
            Self::Files(source) => Ok(vec![source.table()]),
        }
    }

    /// How each of its tables is kept up to date and why, a line each, where it is no database.
    ///
    /// # Errors
    /// What the connector, or a file, says is wrong.
    pub(crate) async fn explain(&self, name: &str) -> Result<Vec<String>, SourceError> {
        match self {
            Self::Postgres(_) => Ok(Vec::new()),
            Self::Connector(source) => {
                let choices = source.check().await?.into_iter();
                let line = |it: ballpoint_source::airbyte::StreamChoice| {
                    format!("{name}: {} is kept by {}: {}", it.table, it.way, it.reason)
                };
                Ok(choices.map(line).collect())
            }
            Self::Files(source) => {
                let (files, stream) = source.check().await?;
                let columns: Vec<String> = stream
                    .columns
                    .iter()
                    .map(|column| format!("{} {}", column.name, column.sql_type))
                    .collect();
                Ok(vec![format!(
                    "{name}: {} is made of {files} files: {}",
                    stream.table.name,
                    columns.join(", ")
                )])
            }
        }
    }

    /// The actor that notices that there is something to read.
    pub(crate) fn watcher(&self, name: &str, config: &SourceConfig, store: &Store) -> ActorSpec {
        let store = store.clone();
        let (source, interval) = match self {
            Self::Postgres(source) => {
                let source = Arc::clone(source);
                return ActorSpec::new(SourceWatcher::name(name), SourceWatcher, move || {
                    WatcherArgs {
                        source: Arc::clone(&source),
                        store: store.clone(),
                        interval: SourceWatcher::INTERVAL,
                    }
                });
            }
            Self::Connector(source) => {
                let polled = Polled::Connector(Arc::clone(source));
                (polled, SourcePoller::CONNECTOR_INTERVAL)
            }
            Self::Files(source) => (
                Polled::Files(Arc::clone(source)),
                SourcePoller::FILE_INTERVAL,
            ),
        };
        let interval = config.interval.unwrap_or(interval);
        ActorSpec::new(SourcePoller::name(name), SourcePoller, move || PollerArgs {
            source: source.clone(),
            store: store.clone(),
            interval,
        })
    }
}

fn connector(project: &Project, name: &str, source: &SourceConfig) -> AirbyteConfig {
    let connector = match (&source.command, &source.package, &source.image) {
        (Some(command), ..) => Connector::Command(command.clone()),
        (_, Some(package), _) => Connector::Package {
            name: package.clone(),
            version: source.version.clone(),
        },
        // The configuration's check has seen to it that one is there.
        (.., image) => Connector::Image(image.clone().unwrap_or_default()),
    };
    let settings = source.config.clone().map(|it| it.0).unwrap_or_default();
    AirbyteConfig {
        name: name.to_owned(),
        connector,
        config: serde_json::Value::Object(settings),
        config_file: source.config_file.clone().map(Into::into),
        secrets: source.secrets.clone(),
        streams: source.streams.clone().unwrap_or_default(),
        mode: source.mode,
        stream: stages::table_configs(source),
        folder: project.folder.clone(),
        connectors_dir: project.data_dir.join(CONNECTORS_DIR),
        stall_timeout: source.stall_timeout.unwrap_or(STALL_TIMEOUT),
    }
}

fn files(project: &Project, name: &str, source: &SourceConfig) -> FileConfig {
    let table = source.stream.clone();
    let named = table.as_deref().unwrap_or(name);
    let mut settings = stages::table_configs(source);
    let settings: TableConfig = settings.remove(named).unwrap_or_default();
    let mode: Option<Mode> = settings.mode.or(source.mode);
    FileConfig {
        name: name.to_owned(),
        path: source.path.clone().unwrap_or_default(),
        folder: project.folder.clone(),
        format: source.format.map(|format| match format {
            config::FileFormat::Csv => FileFormat::Csv,
            config::FileFormat::Ndjson => FileFormat::Ndjson,
        }),
        delimiter: source.delimiter.and_then(|it| u8::try_from(it).ok()),
        quote: source
            .quote
            .and_then(|it| u8::try_from(it).ok())
            .unwrap_or(b'"'),
        header: source.header.unwrap_or(true),
        null_values: source
            .null_values
            .clone()
            .unwrap_or_else(|| vec![String::new()]),
        mode,
        primary_key: settings.primary_key,
        cursor: settings.cursor,
        state_dir: project.data_dir.join(CONNECTORS_DIR),
        table,
    }
}
