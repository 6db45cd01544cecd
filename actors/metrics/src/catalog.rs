//! What the registry offers, as values: the cubes and their members, with the words people use for
//! them. The agents plan against this; `/meta` is made from the same model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All public cubes and views of one compiled data model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub cubes: Vec<CubeInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CubeInfo {
    pub name: String,
    pub title: String,
    pub description: Option<String>,
    pub measures: Vec<MemberInfo>,
    pub dimensions: Vec<MemberInfo>,
    pub segments: Vec<MemberInfo>,
    /// The YAML's free `meta`: `synonyms`, `time` (the default time dimension) and what else a
    /// project writes there.
    pub meta: Value,
}

/// A measure, dimension or segment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Full name, `Cube.member`.
    pub name: String,
    pub title: String,
    pub short_title: String,
    pub description: Option<String>,
    /// Measures: `count`, `sum`, `avg`, `number`, …; dimensions: `string`, `number`, `boolean`, `time`.
    pub member_type: String,
    /// `percent`, `currency`, `number` or custom.
    pub format: Option<String>,
    pub primary_key: bool,
    /// The definition as the model file writes it: the SQL of a dimension or measure.
    pub sql: Option<String>,
    /// The YAML's free `meta`: `synonyms: [..]`, `unit`, `better: higher|lower`, …
    pub meta: Value,
    /// The values found in the data of a string or boolean dimension, sorted, at most
    /// [`VALUES_MAX`]; empty when it has more, or is of another type.
    pub values: Vec<String>,
}

/// A dimension with more distinct values than this is not one that people name values of.
pub const VALUES_MAX: usize = 500;

impl Catalog {
    pub fn cube(&self, name: &str) -> Option<&CubeInfo> {
        self.cubes.iter().find(|cube| cube.name == name)
    }

    /// A member by its full name.
    pub fn member(&self, name: &str) -> Option<&MemberInfo> {
        let cube = self.cube(name.split_once('.')?.0)?;
        cube.measures
            .iter()
            .chain(&cube.dimensions)
            .chain(&cube.segments)
            .find(|member| member.name == name)
    }
}
