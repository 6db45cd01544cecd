//! `schema.yml` files: what they declare of models and seeds, their tests, sources and the rest.

mod data_tests;
mod read;
mod sources;
mod versions;

use serde_json::{Map, Value as Json};

use super::node::{ColumnDoc, Described, Freshness, ResourceType, Version};
use crate::error::Place;

pub(crate) use read::read;
pub(crate) use sources::freshness;

/// A test as it is declared at a model, a column or a source.
#[derive(Clone, Debug)]
pub(crate) struct TestDeclaration {
    /// The macro's name without `test_`.
    pub(crate) test: String,
    pub(crate) namespace: Option<String>,
    pub(crate) custom_name: Option<String>,
    /// Arguments in the order of the file, `column_name` included.
    pub(crate) arguments: Map<String, Json>,
    pub(crate) config: Map<String, Json>,
    pub(crate) description: String,
    pub(crate) column: Option<String>,
    /// The file within the package.
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// What a file says of a model, a seed, a snapshot, an analysis or a singular test.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) name: String,
    /// The node's file without its extension: another than the name's only of versions.
    pub(crate) stem: String,
    pub(crate) version: Option<Version>,
    pub(crate) kind: &'static str,
    pub(crate) description: String,
    pub(crate) config: Map<String, Json>,
    pub(crate) columns: Vec<ColumnDoc>,
    pub(crate) constraints: Vec<Json>,
    pub(crate) time_spine: Option<Json>,
    pub(crate) tests: Vec<TestDeclaration>,
    /// The file within the package.
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// A snapshot that is declared by the relation that it keeps.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredSnapshot {
    pub(crate) name: String,
    pub(crate) relation: String,
    pub(crate) config: Map<String, Json>,
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// A declared exposure.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredExposure {
    pub(crate) name: String,
    pub(crate) depends_on: Vec<String>,
    pub(crate) config: Map<String, Json>,
    pub(crate) properties: Map<String, Json>,
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// A declared semantic model, metric or saved query.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredSemantic {
    pub(crate) kind: ResourceType,
    pub(crate) item: Json,
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// Rows of a unit test as they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeclaredFixture {
    pub(crate) input: String,
    pub(crate) format: String,
    pub(crate) rows: Option<Json>,
    /// A file's name.
    pub(crate) fixture: Option<String>,
}

/// A declared unit test.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredUnitTest {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) description: String,
    pub(crate) given: Vec<DeclaredFixture>,
    pub(crate) expect: DeclaredFixture,
    pub(crate) overrides: Json,
    pub(crate) config: Map<String, Json>,
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// A declared source table.
#[derive(Clone, Debug)]
pub(crate) struct SourceTable {
    pub(crate) source: String,
    pub(crate) name: String,
    pub(crate) quoting: Map<String, Json>,
    pub(crate) identifier: String,
    pub(crate) schema: String,
    pub(crate) database: Option<String>,
    pub(crate) description: String,
    pub(crate) source_description: String,
    pub(crate) loader: String,
    pub(crate) source_meta: Map<String, Json>,
    pub(crate) columns: Vec<ColumnDoc>,
    pub(crate) loaded_at_field: Option<String>,
    pub(crate) loaded_at_query: Option<String>,
    /// Absent: what the project file says; `Some(None)`: none.
    pub(crate) freshness: Option<Option<Freshness>>,
    /// Of the source, then of the table.
    pub(crate) config: Map<String, Json>,
    pub(crate) tests: Vec<TestDeclaration>,
    /// The file within the package.
    pub(crate) file: String,
    pub(crate) place: Place,
}

/// All that one file declares.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) patches: Vec<Patch>,
    pub(crate) sources: Vec<SourceTable>,
    pub(crate) snapshots: Vec<DeclaredSnapshot>,
    pub(crate) exposures: Vec<DeclaredExposure>,
    pub(crate) semantics: Vec<DeclaredSemantic>,
    pub(crate) unit_tests: Vec<DeclaredUnitTest>,
    pub(crate) groups: Vec<Described>,
    pub(crate) macros: Vec<Described>,
    pub(crate) warnings: Vec<String>,
}

impl Properties {
    /// Adds what another file declares.
    pub(crate) fn extend(&mut self, other: Self) {
        self.patches.extend(other.patches);
        self.sources.extend(other.sources);
        self.snapshots.extend(other.snapshots);
        self.exposures.extend(other.exposures);
        self.semantics.extend(other.semantics);
        self.unit_tests.extend(other.unit_tests);
        self.groups.extend(other.groups);
        self.macros.extend(other.macros);
        self.warnings.extend(other.warnings);
    }
}
