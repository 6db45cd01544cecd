//! The nodes of a project: models, seeds, tests and sources.

use serde_json::{Map, Value as Json};

use super::config;
use crate::error::Place;
use crate::jinja::relation::{Quoting, Relation};

/// What a node is, in dbt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    Model,
    Seed,
    Snapshot,
    Test,
    Source,
    /// SQL that is compiled and never run.
    Analysis,
    /// A hook of the project: `on-run-start`, `on-run-end`.
    Operation,
    Exposure,
    UnitTest,
    SemanticModel,
    Metric,
    SavedQuery,
}

impl ResourceType {
    /// Every kind, in dbt's words.
    pub(crate) const ALL: [Self; 12] = [
        Self::Model,
        Self::Seed,
        Self::Snapshot,
        Self::Test,
        Self::Source,
        Self::Analysis,
        Self::Operation,
        Self::Exposure,
        Self::UnitTest,
        Self::SemanticModel,
        Self::Metric,
        Self::SavedQuery,
    ];

    /// dbt's spelling, in unique ids and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Seed => "seed",
            Self::Test => "test",
            Self::Source => "source",
            Self::Snapshot => "snapshot",
            Self::Analysis => "analysis",
            Self::Operation => "operation",
            Self::Exposure => "exposure",
            Self::UnitTest => "unit_test",
            Self::SemanticModel => "semantic_model",
            Self::Metric => "metric",
            Self::SavedQuery => "saved_query",
        }
    }
}

/// How a model's relation is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Materialization {
    View,
    Table,
    Incremental,
    Ephemeral,
    MaterializedView,
    Seed,
    Snapshot,
    Test,
    UnitTest,
    /// Compiled and never run by itself: analyses; hooks, which the run begins and ends with.
    Nothing,
}

impl Materialization {
    /// dbt's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Table => "table",
            Self::Incremental => "incremental",
            Self::Ephemeral => "ephemeral",
            Self::Seed => "seed",
            Self::Test => "test",
            Self::MaterializedView => "materialized_view",
            Self::Snapshot => "snapshot",
            Self::UnitTest => "unit",
            Self::Nothing => "view",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "view" => Self::View,
            "table" => Self::Table,
            "incremental" => Self::Incremental,
            "ephemeral" => Self::Ephemeral,
            "materialized_view" => Self::MaterializedView,
            _ => return None,
        })
    }
}

/// What a failed test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warn,
}

/// A generic test's macro and its arguments.
#[derive(Clone, Debug)]
pub struct TestMetadata {
    pub name: String,
    pub namespace: Option<String>,
    pub kwargs: Map<String, Json>,
}

/// Which version of a model a node is.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// As it is written: a number or a text.
    pub version: Json,
    /// The one that a `ref` without a version means.
    pub latest: Json,
    pub deprecation_date: Option<String>,
}

/// A value of `v:` as text.
pub(crate) fn version_text(version: &Json) -> String {
    match version {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Version {
    pub fn is_latest(&self) -> bool {
        self.version == self.latest
    }

    /// As names have it: `v2`.
    pub fn label(&self) -> String {
        format!("v{}", version_text(&self.version))
    }

    /// How it stands to the latest one: by number, or else by text.
    pub(crate) fn against_latest(&self) -> std::cmp::Ordering {
        compare_versions(&self.version, &self.latest)
    }
}

/// Versions in their order: numbers by value, before texts by letters.
pub(crate) fn compare_versions(left: &Json, right: &Json) -> std::cmp::Ordering {
    let key = |version: &Json| {
        let text = version_text(version);
        (text.parse::<f64>().unwrap_or(f64::INFINITY), text)
    };
    let ((left, left_text), (right, right_text)) = (key(left), key(right));
    left.total_cmp(&right).then(left_text.cmp(&right_text))
}

/// A column as `schema.yml` describes it.
#[derive(Clone, Debug, Default)]
pub struct ColumnDoc {
    pub name: String,
    pub description: String,
    pub data_type: Option<String>,
    /// `granularity:` of a time, such as `day`.
    pub granularity: Option<String>,
    /// `quote: true`.
    pub quote: Option<bool>,
    /// `constraints:`, each a mapping with a `type`.
    pub constraints: Vec<Json>,
    pub meta: Map<String, Json>,
    pub tags: Vec<String>,
}

/// Rows that stand for a relation in a unit test, or that are expected of one.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    /// `ref('x')`, `source('a', 'b')` or `this`; empty for what is expected.
    pub input: String,
    /// `dict`, `csv` or `sql`.
    pub format: String,
    /// Rows of `dict` and `csv`, by column; a fixture file is read already.
    pub rows: Vec<Map<String, Json>>,
    /// A query instead of rows.
    pub sql: Option<String>,
    /// Unique id of the input's node or source; empty for what is expected and for `this`.
    pub unique_id: String,
}

/// A unit test: a model over rows that stand for its inputs gives the rows that are expected.
#[derive(Clone, Debug, Default)]
pub struct UnitTest {
    /// The tested model's name and unique id.
    pub model: String,
    pub model_id: String,
    pub given: Vec<Fixture>,
    pub expect: Fixture,
    /// Macros by name (`is_incremental`, `dbt.current_timestamp`) and what each gives instead.
    pub macros: Map<String, Json>,
    pub vars: Map<String, Json>,
    pub env_vars: Map<String, Json>,
}

/// A model, a seed or a test.
#[derive(Clone, Debug)]
pub struct Node {
    pub unique_id: String,
    pub resource_type: ResourceType,
    pub materialization: Materialization,
    pub name: String,
    pub package: String,
    /// The package's folder within the project; empty for the project itself.
    pub package_folder: String,
    /// Within its resource folder.
    pub path: String,
    /// Within the package.
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub raw_code: String,
    pub config: Map<String, Json>,
    pub relation: Relation,
    pub quoting: Quoting,
    pub description: String,
    /// In the order of the file.
    pub columns: Vec<ColumnDoc>,
    pub tags: Vec<String>,
    /// Packages (if one was given) and names; of a version `name.v2`.
    pub refs: Vec<(Option<String>, String)>,
    pub sources: Vec<(String, String)>,
    /// Unique ids of what the node reads, without repetition, in the order of the calls.
    pub depends_on: Vec<String>,
    pub test: Option<TestMetadata>,
    pub column_name: Option<String>,
    /// Unique ids of the macros that the template calls itself.
    pub depends_on_macros: Vec<String>,
    /// `constraints:` of the model as a whole, each a mapping with a `type`.
    pub constraints: Vec<Json>,
    pub unit_test: Option<UnitTest>,
    /// Of a model that has versions.
    pub version: Option<Version>,
    /// `time_spine:` of a model that lists moments.
    pub time_spine: Option<Json>,
    /// The properties file that describes the node, as `package://path`.
    pub patch_path: Option<String>,
    /// The node that a generic test is declared at.
    pub attached_node: Option<String>,
    /// Where it is declared.
    pub place: Place,
    /// The name of the node's template in the engine.
    pub(crate) template: String,
}

impl Node {
    /// A generic or singular test's severity.
    pub fn severity(&self) -> Severity {
        match config::text(&self.config, "severity") {
            Some(text) if text.eq_ignore_ascii_case("warn") => Severity::Warn,
            _ => Severity::Error,
        }
    }

    /// Whether the node makes a table or a view in the database.
    pub fn is_relation(&self) -> bool {
        !matches!(
            self.materialization,
            Materialization::Ephemeral
                | Materialization::Test
                | Materialization::UnitTest
                | Materialization::Nothing
        )
    }

    /// The node's file from the root project's folder.
    pub fn file(&self) -> String {
        match self.package_folder.is_empty() {
            true => self.original_file_path.clone(),
            false => format!("{}/{}", self.package_folder, self.original_file_path),
        }
    }

    /// The node's relation as SQL names it.
    pub fn relation_name(&self) -> String {
        self.relation.rendered(self.quoting)
    }

    /// Whether `ref(name)` means this node: its name, `name.v2` of a version, both of the latest.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        match (&self.version, name.strip_prefix(self.name.as_str())) {
            (None, Some("")) => true,
            (Some(version), Some("")) => version.is_latest(),
            (Some(version), Some(rest)) => rest.strip_prefix('.') == Some(&version.label()),
            _ => false,
        }
    }

    /// Whether it is a test of data.
    pub fn is_test(&self) -> bool {
        self.resource_type == ResourceType::Test
    }

    /// Whether it has hooks under `pre-hook` or `post-hook`.
    pub(crate) fn has_hooks(&self, key: &str) -> bool {
        let hooks = self.config.get(key).and_then(Json::as_array);
        hooks.is_some_and(|hooks| !hooks.is_empty())
    }

    /// Whether its columns and constraints are enforced: `contract: {enforced: true}`.
    pub fn is_contracted(&self) -> bool {
        let contract = self.config.get("contract");
        contract
            .and_then(|contract| contract.get("enforced"))
            .and_then(Json::as_bool)
            .unwrap_or(false)
    }

    /// The description of one column.
    pub fn column(&self, name: &str) -> Option<&ColumnDoc> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// How old a source's newest row may be.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    pub warn_after: Option<Age>,
    pub error_after: Option<Age>,
    pub filter: Option<String>,
}

/// A number of minutes, hours or days.
#[derive(Clone, Debug)]
pub struct Age {
    pub count: u64,
    pub period: String,
}

impl Age {
    /// The age in seconds.
    pub fn seconds(&self) -> u64 {
        self.count
            * match self.period.as_str() {
                "minute" => 60,
                "hour" => 3_600,
                _ => 86_400,
            }
    }
}

/// A table that somebody else fills.
#[derive(Clone, Debug)]
pub struct Source {
    pub unique_id: String,
    pub source_name: String,
    pub name: String,
    pub package: String,
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub relation: Relation,
    pub quoting: Quoting,
    /// What the source says of its quoting itself.
    pub given_quoting: Map<String, Json>,
    pub description: String,
    /// In the order of the file.
    pub columns: Vec<ColumnDoc>,
    pub tags: Vec<String>,
    pub loaded_at_field: Option<String>,
    /// A query for the newest time, instead of a column.
    pub loaded_at_query: Option<String>,
    pub freshness: Option<Freshness>,
    pub loader: String,
    pub source_description: String,
    pub meta: Map<String, Json>,
    pub source_meta: Map<String, Json>,
    pub config: Map<String, Json>,
    pub place: Place,
}

impl Source {
    /// The source's relation as SQL names it.
    pub fn relation_name(&self) -> String {
        self.relation.rendered(self.quoting)
    }
}

/// Something that uses models and is not built here: a dashboard, a notebook.
#[derive(Clone, Debug)]
pub struct Exposure {
    pub unique_id: String,
    pub name: String,
    pub package: String,
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub depends_on: Vec<String>,
    pub refs: Vec<(Option<String>, String)>,
    pub sources: Vec<(String, String)>,
    pub metrics: Vec<String>,
    pub tags: Vec<String>,
    /// As the file has it: `type`, `owner`, `maturity`, `url`, `label`, `description`, `config`, …
    pub properties: Map<String, Json>,
    pub place: Place,
}

/// A macro's `arguments:` and description, or a group: what artifacts only pass on.
#[derive(Clone, Debug)]
pub struct Described {
    pub name: String,
    pub package: String,
    pub original_file_path: String,
    pub properties: Map<String, Json>,
}
