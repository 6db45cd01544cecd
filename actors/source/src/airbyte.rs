//! Any connector of the Airbyte protocol, run as a child process: `spec`, `check`, `discover`, `read`.
//!
//! A connector is believed what it says in messages, and nothing else: its exit code is 0 after a check
//! that failed and after a stream that ended half-way. Its states are kept as they were sent, with the
//! rows that they cover, and handed back as they were. What it logs is in
//! `<data dir>/connectors/<source>/connector.log`.

mod catalog;
mod connector;
mod log;
mod message;
mod position;
mod process;
mod read;
mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::records::{Feed, RecordReader, StreamRead, StreamSpec};
use ballpoint_runtime::redact::Secrets;
use ballpoint_runtime::segment::{
    Position, Segment, SourceError, SourceReader, SyncMode, TableName, TableSpec,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use catalog::ChosenStream;
pub use connector::Connector;
use connector::Places;
use log::Log;
use message::Message;
use process::Process;

pub(crate) use schema::column_names;

use crate::config::{Mode, TableConfig};

/// What a connector discovered is asked for again after this: a start of one takes seconds.
const CATALOG_MAX_AGE: Duration = Duration::from_secs(3600);

/// A source behind a connector. Its `Debug` form hides the connector's configuration.
#[derive(Clone)]
pub struct AirbyteConfig {
    /// The source's name in the configuration.
    pub name: String,
    pub connector: Connector,
    /// What the connector is configured with.
    pub config: Value,
    /// Read at each start instead, where it is set.
    pub config_file: Option<PathBuf>,
    /// Values that no log may show.
    pub secrets: Vec<String>,
    /// Patterns over `name` and `namespace.name`. Empty: every stream.
    pub streams: Vec<String>,
    /// Of streams that do not name their own.
    pub mode: Option<Mode>,
    /// By `name` or `namespace.name`.
    pub stream: BTreeMap<String, TableConfig>,
    /// What relative paths are relative to.
    pub folder: PathBuf,
    /// Where logs, catalogs and environments are kept: `connectors` in the data dir.
    pub connectors_dir: PathBuf,
    /// A connector that writes nothing for so long is stopped.
    pub stall_timeout: Duration,
}

impl fmt::Debug for AirbyteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AirbyteConfig")
            .field("name", &self.name)
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

/// Reads the streams of one connector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AirbyteSource {
    config: AirbyteConfig,
    places: Places,
    log: Arc<Log>,
    secrets: Secrets,
    /// One `check` or `discover` at a time.
    asking: Arc<Mutex<()>>,
}

/// How a stream is kept up to date, as `check` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChoice {
    pub table: TableName,
    pub way: String,
    pub reason: String,
}

impl AirbyteSource {
    /// Starts nothing yet.
    pub fn new(config: AirbyteConfig) -> Self {
        let own = config.connectors_dir.join(&config.name);
        let places = Places {
            folder: config.folder.clone(),
            given: own.join("given"),
            environments: config.connectors_dir.join("environments"),
        };
        let mut hidden = config.secrets.clone();
        let file = config.config_file.as_ref();
        let file = file.and_then(|path| read_json(&config.folder.join(path)).ok());
        collect_secrets(file.as_ref().unwrap_or(&config.config), &mut hidden);
        let secrets = Secrets::new(hidden);
        let log = Arc::new(Log::new(own.join("connector.log"), secrets.clone()));
        Self {
            config,
            places,
            log,
            secrets,
            asking: Arc::default(),
        }
    }

    /// Asks the connector for its specification, whether it can reach its source, and what it finds
    /// there; how each stream will be kept up to date.
    ///
    /// # Errors
    /// What the connector says is wrong.
    pub async fn check(&self) -> Result<Vec<StreamChoice>, SourceError> {
        let _one = self.asking.lock().await;
        let config = self.connector_config()?;
        self.ask("spec", &[], None, |message| match message {
            Message::Spec(spec) => Some(Ok(spec)),
            _ => None,
        })
        .await?;
        self.ask(
            "check",
            &[("config", "config.json")],
            Some(&config),
            connected,
        )
        .await?;
        let catalog = self.discover(&config).await?;
        Ok(self
            .chosen(&catalog)?
            .into_iter()
            .map(|stream| StreamChoice {
                way: match stream.spec.cursor {
                    Some(cursor) => format!("incremental by {cursor}"),
                    None if stream.is_incremental => "incremental".to_owned(),
                    None => "full_refresh".to_owned(),
                },
                table: stream.spec.table,
                reason: stream.reason,
            })
            .collect())
    }

    /// The streams, if they are known without starting the connector.
    pub fn known_tables(&self) -> Option<Vec<TableName>> {
        let catalog = self.kept_catalog(&self.connector_config().ok()?)?;
        let chosen = catalog::choose(&catalog, &self.config).ok()?;
        Some(chosen.into_iter().map(|it| it.spec.table).collect())
    }

    fn chosen(&self, catalog: &Value) -> Result<Vec<ChosenStream>, SourceError> {
        catalog::choose(catalog, &self.config).map_err(|reason| self.refuse(reason))
    }

    async fn streams_now(&self) -> Result<Vec<ChosenStream>, SourceError> {
        let _one = self.asking.lock().await;
        let config = self.connector_config()?;
        let catalog = match self.kept_catalog(&config) {
            Some(catalog) => catalog,
            None => self.discover(&config).await?,
        };
        self.chosen(&catalog)
    }

    /// Runs `discover`, and keeps what it says.
    async fn discover(&self, config: &Value) -> Result<Value, SourceError> {
        let files = [("config", "config.json")];
        let catalog = self
            .ask("discover", &files, Some(config), |message| match message {
                Message::Catalog(catalog) => Some(Ok(catalog)),
                _ => None,
            })
            .await?;
        let kept = self.write("catalog.json", &catalog);
        let key = kept.and_then(|()| self.write("catalog.key", &self.catalog_key(config).into()));
        if let Err(error) = key {
            tracing::debug!(%error, "a catalog is not kept");
        }
        Ok(catalog)
    }

    /// The catalog of an earlier start, if it is young and of this connector with this configuration.
    fn kept_catalog(&self, config: &Value) -> Option<Value> {
        let path = self.places.given.join("catalog.json");
        let written = std::fs::metadata(&path).ok()?.modified().ok()?;
        let written = jiff::Timestamp::try_from(written).ok()?;
        let age = Clock::system().real_now().duration_since(written);
        let key: Value = read_json(&self.places.given.join("catalog.key")).ok()?;
        let is_young = age.unsigned_abs() < CATALOG_MAX_AGE;
        (is_young && key == Value::String(self.catalog_key(config)))
            .then(|| read_json(&path).ok())
            .flatten()
    }

    fn catalog_key(&self, config: &Value) -> String {
        let identity = self.config.connector.identity(&self.config.folder);
        let hash = Sha256::digest(format!("{identity} {config}"));
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the connector is configured with: as it changed it last, while ours is the same.
    fn connector_config(&self) -> Result<Value, SourceError> {
        let ours = match &self.config.config_file {
            None => self.config.config.clone(),
            Some(path) => {
                let path = self.config.folder.join(path);
                read_json(&path).map_err(|error| {
                    self.refuse(format!("config_file {}: {error}", path.display()))
                })?
            }
        };
        let changed: Result<Value, _> = read_json(&self.places.given.join("changed.json"));
        Ok(match changed {
            Ok(changed) if changed["ours"] == digest(&ours) => changed["config"].clone(),
            _ => ours,
        })
    }

    /// The connector has new credentials, and the old ones may be spent.
    fn keep_config(&self, config: Value) {
        let ours = match &self.config.config_file {
            None => Ok(self.config.config.clone()),
            Some(path) => read_json(&self.config.folder.join(path)),
        };
        let kept = ours.and_then(|ours| {
            let changed = serde_json::json!({ "ours": digest(&ours), "config": config });
            self.write("changed.json", &changed)
        });
        if let Err(error) = kept {
            tracing::warn!(source = %self.config.name, error, "the connector's new configuration is lost");
        }
    }

    fn write(&self, name: &str, value: &Value) -> Result<(), String> {
        self.write_text(name, &value.to_string())
    }

    /// Writes a file that only its owner reads: it may hold secrets.
    fn write_text(&self, name: &str, text: &str) -> Result<(), String> {
        let given = &self.places.given;
        let path = given.join(name);
        let written = std::fs::create_dir_all(given)
            .and_then(|()| std::fs::set_permissions(given, std::fs::Permissions::from_mode(0o700)))
            .and_then(|()| {
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                std::io::Write::write_all(&mut options.open(&path)?, text.as_bytes())
            });
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Runs one command to its end and takes the answer that `pick` finds.
    async fn ask<T>(
        &self,
        command: &str,
        files: &[(&str, &str)],
        config: Option<&Value>,
        pick: impl Fn(Message<'_>) -> Option<Result<T, String>>,
    ) -> Result<T, SourceError> {
        let mut process = self.start(command, files, config).await?;
        let (mut answer, mut error) = (None, None);
        loop {
            let line = match process.next_line(self.config.stall_timeout).await {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(failed) => {
                    return Err(self.refuse(format!("`{command}`: {failed}")));
                }
            };
            match message::parse(&line) {
                Some(Message::Log { level, text }) => self.note(&level, &text),
                Some(Message::Error(trace)) => error = Some(trace.text),
                Some(Message::NewConfig(config)) => self.keep_config(config),
                Some(message) => answer = pick(message).or(answer),
                None => drop(self.log.write(&String::from_utf8_lossy(&line))),
            }
        }
        let (status, said) = process.end().await;
        match (answer, error) {
            (Some(Ok(answer)), _) => Ok(answer),
            (Some(Err(reason)), _) | (None, Some(reason)) => {
                Err(self.refuse(format!("`{command}` says: {}", self.secrets.hide(&reason))))
            }
            (None, None) => Err(self.refuse(self.silent(command, status, &said))),
        }
    }

    /// Of a command that ended without its answer.
    fn silent(
        &self,
        command: &str,
        status: Option<std::process::ExitStatus>,
        said: &str,
    ) -> String {
        let ended = status.map_or_else(|| "it was stopped".to_owned(), |it| it.to_string());
        let said = match said.is_empty() {
            true => "it said nothing".to_owned(),
            false => said.to_owned(),
        };
        format!(
            "`{command}` ended without an answer of the Airbyte protocol ({ended}): {said}; its log is {}",
            self.log.path().display()
        )
    }

    async fn start(
        &self,
        command: &str,
        files: &[(&str, &str)],
        config: Option<&Value>,
    ) -> Result<Process, SourceError> {
        if let Some(config) = config {
            self.write("config.json", config)
                .map_err(|reason| self.refuse(reason))?;
        }
        let launch = self
            .config
            .connector
            .launch(&self.places, &self.log, command, files)
            .await
            .map_err(|reason| self.refuse(reason))?;
        self.log.write(&format!("== {command}"));
        Process::start(&launch, &self.log).map_err(|error| self.refuse(error.to_string()))
    }

    /// A line of the connector's own log.
    fn note(&self, level: &str, text: &str) {
        let text = self.log.write(&format!("{level} {text}"));
        match level {
            "FATAL" | "ERROR" | "WARN" => {
                tracing::warn!(source = %self.config.name, "{text}");
            }
            _ => tracing::debug!(source = %self.config.name, "{text}"),
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Configuration {
            source_name: self.config.name.clone(),
            reason: reason.into(),
        }
    }
}

fn connected(message: Message<'_>) -> Option<Result<(), String>> {
    match message {
        Message::Connection {
            succeeded: true, ..
        } => Some(Ok(())),
        Message::Connection { text, .. } => Some(Err(match text.is_empty() {
            true => "the connection failed".to_owned(),
            false => text,
        })),
        _ => None,
    }
}

/// What is called like a secret: where it was written down, it was meant to stay there.
fn collect_secrets(config: &Value, found: &mut Vec<String>) {
    const CALLED: [&str; 6] = ["password", "secret", "token", "key", "credential", "auth"];
    match config {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_lowercase();
                match value {
                    Value::String(text) if CALLED.iter().any(|it| name.contains(it)) => {
                        found.push(text.clone());
                    }
                    other => collect_secrets(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|it| collect_secrets(it, found)),
        _ => {}
    }
}

fn digest(value: &Value) -> String {
    let hash = Sha256::digest(value.to_string());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_json(path: &std::path::Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[async_trait]
impl SourceReader for AirbyteSource {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        let streams = self.streams_now().await?;
        Ok(streams.into_iter().map(|it| table_spec(it.spec)).collect())
    }

    async fn open(
        &self,
        spec: &TableSpec,
        _position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        Err(self.refuse(format!(
            "{} is a stream of records and has no segments",
            spec.table
        )))
    }

    fn records(&self) -> Option<&dyn RecordReader> {
        Some(self)
    }
}

/// A stream as a table, for whoever lists tables.
pub(crate) fn table_spec(stream: StreamSpec) -> TableSpec {
    TableSpec {
        table: stream.table,
        columns: stream.columns,
        primary_key: stream.primary_key,
        mode: match stream.cursor {
            Some(cursor) => SyncMode::Incremental { cursor },
            None => SyncMode::FullRefresh,
        },
        options: Default::default(),
        origin: Default::default(),
    }
}

#[async_trait]
impl RecordReader for AirbyteSource {
    async fn streams(&self) -> Result<Vec<StreamSpec>, SourceError> {
        let streams = self.streams_now().await?;
        Ok(streams.into_iter().map(|it| it.spec).collect())
    }

    async fn read(&self, streams: Vec<StreamRead>) -> Result<Option<Feed>, SourceError> {
        let all = self.streams_now().await?;
        let mut wanted = Vec::new();
        for read in streams {
            let chosen = all.iter().find(|it| it.spec.table == read.stream.table);
            let chosen = chosen
                .ok_or_else(|| self.refuse(format!("stream {} is gone", read.stream.table)))?;
            wanted.push((chosen.clone(), read.position));
        }
        read::start(self, wanted).await.map(Some)
    }
}

#[cfg(test)]
mod tests;
