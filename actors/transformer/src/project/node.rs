//! The nodes of a project: models, seeds, tests and sources.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::config;
use crate::error::Place;
use crate::jinja::relation::Relation;

/// What a node is, in dbt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    Model,
    Seed,
    Test,
    Source,
}

impl ResourceType {
    /// dbt's spelling, in unique ids and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Seed => "seed",
            Self::Test => "test",
            Self::Source => "source",
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
    Seed,
    Test,
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
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "view" => Self::View,
            "table" => Self::Table,
            "incremental" => Self::Incremental,
            "ephemeral" => Self::Ephemeral,
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

/// A column as `schema.yml` describes it.
#[derive(Clone, Debug, Default)]
pub struct ColumnDoc {
    pub description: String,
    pub data_type: Option<String>,
}

/// A model, a seed or a test.
#[derive(Clone, Debug)]
pub struct Node {
    pub unique_id: String,
    pub resource_type: ResourceType,
    pub materialization: Materialization,
    pub name: String,
    pub package: String,
    /// Within its resource folder.
    pub path: String,
    /// Within the project.
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub raw_code: String,
    pub config: Map<String, Json>,
    pub relation: Relation,
    pub description: String,
    pub columns: BTreeMap<String, ColumnDoc>,
    pub tags: Vec<String>,
    pub refs: Vec<(Option<String>, String)>,
    pub sources: Vec<(String, String)>,
    /// Unique ids of what the node reads, without repetition, in the order of the calls.
    pub depends_on: Vec<String>,
    pub test: Option<TestMetadata>,
    pub column_name: Option<String>,
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
            Materialization::Ephemeral | Materialization::Test
        )
    }

    /// Whether it is a test.
    pub fn is_test(&self) -> bool {
        self.resource_type == ResourceType::Test
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
    pub description: String,
    pub columns: BTreeMap<String, ColumnDoc>,
    pub tags: Vec<String>,
    pub loaded_at_field: Option<String>,
    pub freshness: Option<Freshness>,
    pub place: Place,
}
