//! The shape of `ballpoint.toml`. Unknown keys are errors with their line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ballpoint_metrics::model::CustomGranularities;
use ballpoint_runtime::segment::SchemaPolicy;
use ballpoint_source::config::GapPolicy;
use serde::Deserialize;

use super::amount::ByteSize;
use super::operations::{AlertsConfig, FreshnessConfig, RetriesConfig, ScheduleConfig};

/// A whole project. Every section may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) project: ProjectConfig,
    pub(crate) server: ServerConfig,
    pub(crate) warehouse: WarehouseConfig,
    pub(crate) sources: BTreeMap<String, SourceConfig>,
    pub(crate) transform: Option<TransformConfig>,
    pub(crate) metrics: Option<MetricsConfig>,
    pub(crate) reverse_etl: Option<ReverseEtlConfig>,
    pub(crate) llm: Option<LlmConfig>,
    pub(crate) auth: AuthConfig,
    pub(crate) schedules: BTreeMap<String, ScheduleConfig>,
    pub(crate) retries: RetriesConfig,
    pub(crate) alerts: Option<AlertsConfig>,
}

/// Where the SQL API is when nothing is said.
pub(crate) const SQL_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15432);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProjectConfig {
    /// Names the data dir when Ballpoint runs as root; the folder's name when absent.
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerConfig {
    /// The one port of the web app, the APIs and the health checks.
    #[serde(deserialize_with = "super::address::deserialize")]
    pub(crate) listen: SocketAddr,
    /// Where clients of PostgreSQL's protocol query the cubes; absent: [`SQL_LISTEN`], if it is free.
    #[serde(deserialize_with = "super::address::deserialize_some")]
    pub(crate) sql_listen: Option<SocketAddr>,
    /// TLS ends at a proxy in front of us, so that a non-loopback address may be served.
    pub(crate) tls_terminated: bool,
    /// Browser origins other than our own that may call the APIs.
    pub(crate) allowed_origins: Vec<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            sql_listen: None,
            tls_terminated: false,
            allowed_origins: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WarehouseConfig {
    /// Absent: a database on the embedded cluster.
    pub(crate) url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    pub(crate) kind: SourceKind,
    /// Absent: a database of the source's name on the embedded cluster.
    pub(crate) url: Option<String>,
    /// Folder that fills the source once, if it is embedded and empty.
    pub(crate) seed: Option<String>,
    /// Where its tables land in the warehouse.
    #[serde(default = "raw_schema")]
    pub(crate) schema: String,
    /// Patterns over `schema.table`; a leading `!` excludes.
    #[serde(default = "every_public_table")]
    pub(crate) tables: Vec<String>,
    /// For tables that do not say it themselves; absent: the best that the source allows.
    pub(crate) mode: Option<SyncModeName>,
    /// Whether that may be cdc, which installs a publication and a slot in the source.
    #[serde(default = "yes")]
    pub(crate) follow_log: bool,
    /// What a change of its tables or columns leads to.
    #[serde(default)]
    pub(crate) on_schema_change: SchemaPolicy,
    /// Deleted rows are marked, not deleted.
    #[serde(default)]
    pub(crate) soft_delete: bool,
    /// Rows with a longer value are rejected.
    pub(crate) max_value_bytes: Option<ByteSize>,
    /// What is done when the log that was read last is no longer there.
    #[serde(default)]
    pub(crate) on_gap: GapPolicy,
    /// Log that the source may keep for us; 0: as much as it takes.
    pub(crate) max_slot_wal: Option<ByteSize>,
    /// Absent: nobody minds how stale it is.
    pub(crate) freshness: Option<FreshnessConfig>,
    /// By `schema.table`, or by stream.
    #[serde(default)]
    pub(crate) table: BTreeMap<String, TableConfig>,
    /// Of a connector: its program with its first arguments.
    pub(crate) command: Option<Vec<String>>,
    /// Of a connector: its Python package.
    pub(crate) package: Option<String>,
    pub(crate) version: Option<String>,
    /// Of a connector: its container image.
    pub(crate) image: Option<String>,
    /// What the connector is configured with.
    pub(crate) config: Option<ConnectorSettings>,
    /// The same in a file of JSON.
    pub(crate) config_file: Option<String>,
    /// Patterns over the connector's streams.
    pub(crate) streams: Option<Vec<String>>,
    /// Between two syncs of a connector; between two looks at files.
    #[serde(default, deserialize_with = "super::operations::some_duration")]
    pub(crate) interval: Option<Duration>,
    /// A connector that writes nothing for so long is stopped.
    #[serde(default, deserialize_with = "super::operations::some_duration")]
    pub(crate) stall_timeout: Option<Duration>,
    /// Of files: one, or a pattern.
    pub(crate) path: Option<String>,
    /// Of files: the table's name; absent: the source's.
    pub(crate) stream: Option<String>,
    pub(crate) format: Option<FileFormat>,
    pub(crate) delimiter: Option<char>,
    pub(crate) quote: Option<char>,
    /// Whether the first line of a CSV file names its columns.
    pub(crate) header: Option<bool>,
    /// Texts that mean that there is no value.
    pub(crate) null_values: Option<Vec<String>>,
    /// Values that came out of the environment, which no log may show.
    #[serde(skip)]
    pub(crate) secrets: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceKind {
    Postgres,
    /// Any connector of the Airbyte protocol.
    Airbyte,
    /// CSV and NDJSON files.
    File,
}

/// What a connector is configured with; it may hold secrets.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct ConnectorSettings(pub(crate) serde_json::Map<String, serde_json::Value>);

impl std::fmt::Debug for ConnectorSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileFormat {
    Csv,
    #[serde(alias = "jsonl")]
    Ndjson,
}

/// How a table is kept up to date; Airbyte's names are understood too.
pub(crate) use ballpoint_source::Mode as SyncModeName;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TableConfig {
    pub(crate) mode: Option<SyncModeName>,
    pub(crate) cursor: Option<String>,
    pub(crate) primary_key: Option<Vec<String>>,
    pub(crate) on_schema_change: Option<SchemaPolicy>,
    pub(crate) soft_delete: Option<bool>,
    pub(crate) max_value_bytes: Option<ByteSize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransformConfig {
    /// A dbt project, relative to the project folder.
    pub(crate) project_dir: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsConfig {
    /// A folder of Cube YAML, relative to the project folder.
    pub(crate) path: String,
    /// Whether granularities that the model declares follow the calendar or Cube.
    #[serde(default)]
    pub(crate) custom_granularities: CustomGranularities,
}

/// A language model behind the chat completions protocol; absent: the local planner alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LlmConfig {
    /// Of any compatible server, up to and without `/chat/completions`.
    pub(crate) base_url: String,
    pub(crate) model: String,
    /// Absent: the server asks for none.
    #[serde(default)]
    pub(crate) api_key: Option<ApiKey>,
    /// What one question may take of the model's time.
    #[serde(default = "llm_timeout_secs")]
    pub(crate) timeout_secs: u64,
}

/// A secret that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiKey(pub(crate) String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn llm_timeout_secs() -> u64 {
    30
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReverseEtlConfig {
    /// A folder of sync definitions, relative to the project folder.
    pub(crate) path: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuthConfig {
    pub(crate) mode: AuthMode,
    /// Whoever signs claims with it (HS256) may query the metrics as whom the claims name.
    pub(crate) jwt_secret: Option<ApiKey>,
    /// The claim that lists the groups of Cube's access policies.
    pub(crate) groups_claim: String,
    /// Tokens beside the data dir's own, by name.
    pub(crate) tokens: BTreeMap<String, TokenConfig>,
    /// What one token may ask.
    pub(crate) requests_per_second: u32,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: AuthMode::default(),
            jwt_secret: None,
            groups_claim: "groups".to_owned(),
            tokens: BTreeMap::new(),
            requests_per_second: 1000,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    pub(crate) role: RoleName,
    pub(crate) token: ApiKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleName {
    /// Reads and asks.
    Viewer,
    /// Also runs, restarts, plans and approves.
    Operator,
    /// Also sees connection URLs.
    Admin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthMode {
    /// A random token, made at first start and kept in the data dir.
    #[default]
    Token,
    /// No token; loopback only.
    None,
}

fn yes() -> bool {
    true
}

fn raw_schema() -> String {
    "raw".to_owned()
}

fn every_public_table() -> Vec<String> {
    vec!["public.*".to_owned()]
}
