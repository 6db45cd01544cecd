//! Reads one file: its sections, and every entry but the tests and the source tables.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::{
    DeclaredExposure, DeclaredFixture, DeclaredSemantic, DeclaredSnapshot, DeclaredUnitTest, Patch,
    Properties,
};
use crate::error::{Place, ProjectError};
use crate::project::node::{ColumnDoc, Described, ResourceType};
use crate::project::{config, yaml};

/// Top-level keys of a properties file that are read, or of no effect on a build.
const KNOWN_SECTIONS: &[&str] = &[
    "version",
    "models",
    "seeds",
    "sources",
    "macros",
    "exposures",
    "data_tests",
    "anchors",
    "snapshots",
    "analyses",
    "groups",
    "unit_tests",
    "semantic_models",
    "metrics",
    "saved_queries",
];

/// Sections whose entries describe a node of that kind.
const PATCHED: [(&str, &str); 5] = [
    ("models", "model"),
    ("seeds", "seed"),
    ("snapshots", "snapshot"),
    ("analyses", "analysis"),
    ("data_tests", "test"),
];

/// Sections of dbt's semantic layer.
const SEMANTIC: [(&str, ResourceType); 3] = [
    ("semantic_models", ResourceType::SemanticModel),
    ("metrics", ResourceType::Metric),
    ("saved_queries", ResourceType::SavedQuery),
];

/// Keys of an entry that describes a node.
const KNOWN_KEYS: &[&str] = &[
    "name",
    "description",
    "config",
    "columns",
    "tests",
    "data_tests",
    "constraints",
    "docs",
    "meta",
    "tags",
    "access",
    "group",
    "latest_version",
    "deprecation_date",
    "versions",
    "relation",
    "freshness",
    "time_spine",
    "primary_key",
    "dbt_schema_version",
    "original_file_path",
];

/// Keys of a column.
const KNOWN_COLUMN_KEYS: &[&str] = &[
    "name",
    "description",
    "data_type",
    "quote",
    "constraints",
    "meta",
    "tags",
    "tests",
    "data_tests",
    "policy_tags",
    "config",
    "granularity",
    "dimension",
    "entity",
];

/// Reads one file of a package; `shown` is its name in messages.
///
/// # Errors
/// With the line of what does not parse or has no name.
pub(crate) fn read(
    package: &str,
    file: &str,
    shown: &str,
    text: &str,
) -> Result<Properties, ProjectError> {
    let reader = FileReader {
        inner: file,
        file: shown,
        text,
        lines: named_lines(text),
    };
    let parsed = yaml::parse(text, Path::new(shown))?;
    let mut properties = Properties::default();
    let Some(sections) = parsed.as_object() else {
        return Ok(properties);
    };
    for key in sections
        .keys()
        .filter(|key| !KNOWN_SECTIONS.contains(&key.as_str()))
    {
        let place = Place::find(shown, text, &format!("{key}:"));
        properties
            .warnings
            .push(format!("{place}: '{key}' is not read"));
    }
    for (section, kind) in PATCHED {
        for item in reader.items(sections.get(section)) {
            reader.warn_unknown(item, kind, &mut properties.warnings);
            if let Some(relation) = item.get("relation").and_then(Json::as_str) {
                properties.snapshots.push(DeclaredSnapshot {
                    name: reader.name(item, kind)?,
                    relation: relation.to_owned(),
                    config: Map::new(),
                    file: file.to_owned(),
                    place: reader.named(&reader.name(item, kind)?),
                });
            }
            properties.patches.extend(reader.patches(item, kind)?);
        }
    }
    for source in reader.items(sections.get("sources")) {
        properties.sources.extend(reader.source(source)?);
    }
    for exposure in reader.items(sections.get("exposures")) {
        properties.exposures.push(reader.exposure(exposure)?);
    }
    for (section, kind) in SEMANTIC {
        for item in reader.items(sections.get(section)) {
            let name = reader.name(item, kind.name())?;
            properties.semantics.push(DeclaredSemantic {
                kind,
                item: item.clone(),
                file: file.to_owned(),
                place: reader.named(&name),
            });
        }
    }
    for unit in reader.items(sections.get("unit_tests")) {
        properties.unit_tests.push(reader.unit_test(unit)?);
    }
    for (section, into) in [
        ("groups", &mut properties.groups),
        ("macros", &mut properties.macros),
    ] {
        for item in reader.items(sections.get(section)) {
            into.push(Described {
                name: reader.name(item, section.trim_end_matches('s'))?,
                package: package.to_owned(),
                original_file_path: file.to_owned(),
                properties: object(Some(item)),
            });
        }
    }
    Ok(properties)
}

pub(super) struct FileReader<'a> {
    /// Within the package.
    pub(super) inner: &'a str,
    /// In messages.
    file: &'a str,
    text: &'a str,
    /// The first line that is `name: x`, by `x` as it is written: a file may name thousands.
    lines: HashMap<&'a str, usize>,
}

fn named_lines(text: &str) -> HashMap<&str, usize> {
    let mut lines = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches([' ', '-']).trim_end();
        if let Some(name) = line.strip_prefix("name: ") {
            lines.entry(name).or_insert(index + 1);
        }
    }
    lines
}

impl FileReader<'_> {
    pub(super) fn items<'j>(&self, section: Option<&'j Json>) -> &'j [Json] {
        section.and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    /// The line that names something: `name: x`, quoted or not.
    pub(super) fn named(&self, name: &str) -> Place {
        let (double, single) = (format!("\"{name}\""), format!("'{name}'"));
        let written = [name, double.as_str(), single.as_str()];
        let line = written.iter().filter_map(|it| self.lines.get(it)).min();
        match line {
            Some(line) => Place::line(self.file, *line),
            None => Place::find(self.file, self.text, name),
        }
    }

    pub(super) fn name(&self, item: &Json, what: &str) -> Result<String, ProjectError> {
        item.get("name")
            .and_then(Json::as_str)
            .map(str::to_owned)
            .ok_or_else(|| {
                let message = format!("a {what} has no 'name'");
                ProjectError::Yaml {
                    place: Place::file(self.file),
                    message,
                }
            })
    }

    /// What an entry says of one node.
    pub(super) fn patch(&self, item: &Json, kind: &'static str) -> Result<Patch, ProjectError> {
        let name = self.name(item, kind)?;
        let place = self.named(&name);
        let mut patch_config = object(item.get("config"));
        for key in ["tags", "meta", "docs", "group", "access"] {
            if let Some(value) = item.get(key) {
                config::merge_config(&mut patch_config, key, value.clone());
            }
        }
        let columns = self.columns(item);
        let mut tests = self.tests(item, None, &place)?;
        for column in self.items(item.get("columns")) {
            tests.extend(self.column_tests(column)?);
        }
        let description = description(item);
        Ok(Patch {
            stem: name.clone(),
            name,
            version: None,
            kind,
            description,
            config: patch_config,
            columns,
            constraints: self.items(item.get("constraints")).to_vec(),
            time_spine: item.get("time_spine").cloned(),
            tests,
            file: self.inner.to_owned(),
            place,
        })
    }

    /// Says which keys of an entry, and of its columns, nothing reads.
    fn warn_unknown(&self, item: &Json, kind: &str, warnings: &mut Vec<String>) {
        let mut check = |item: &Json, known: &[&str], what: &str| {
            let name = item.get("name").and_then(Json::as_str).unwrap_or_default();
            for key in item.as_object().into_iter().flat_map(Map::keys) {
                if !known.contains(&key.as_str()) {
                    let place = Place::find(self.file, self.text, &format!("{key}:"));
                    let hint = crate::error::nearest_hint(key, known.iter().copied());
                    warnings.push(format!(
                        "{place}: '{key}' of {what} '{name}' is not a known property{hint}"
                    ));
                }
            }
        };
        check(item, KNOWN_KEYS, kind);
        for column in self.items(item.get("columns")) {
            check(column, KNOWN_COLUMN_KEYS, "column");
        }
    }

    fn exposure(&self, item: &Json) -> Result<DeclaredExposure, ProjectError> {
        let name = self.name(item, "exposure")?;
        let mut properties = object(Some(item));
        let mut config = object(properties.remove("config").as_ref());
        for key in ["tags", "meta", "enabled"] {
            if let Some(value) = properties.remove(key) {
                config::merge_config(&mut config, key, value);
            }
        }
        let depends_on = properties.remove("depends_on");
        let depends_on = depends_on.as_ref().and_then(Json::as_array);
        Ok(DeclaredExposure {
            depends_on: depends_on
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect(),
            config,
            properties,
            file: self.inner.to_owned(),
            place: self.named(&name),
            name,
        })
    }

    fn unit_test(&self, item: &Json) -> Result<DeclaredUnitTest, ProjectError> {
        let name = self.name(item, "unit test")?;
        let place = self.named(&name);
        let wrong = |message: &str| ProjectError::Yaml {
            place: place.clone(),
            message: format!("unit test '{name}' {message}"),
        };
        let model = item.get("model").and_then(Json::as_str);
        let model = model.ok_or_else(|| wrong("names no 'model'"))?.to_owned();
        let fixture = |item: &Json| {
            let text = |key: &str| item.get(key).and_then(Json::as_str).map(str::to_owned);
            DeclaredFixture {
                input: text("input").unwrap_or_default(),
                format: text("format").unwrap_or_else(|| "dict".to_owned()),
                rows: item.get("rows").cloned(),
                fixture: text("fixture"),
            }
        };
        let expect = item.get("expect").ok_or_else(|| wrong("has no 'expect'"))?;
        Ok(DeclaredUnitTest {
            model,
            description: description(item),
            given: self.items(item.get("given")).iter().map(fixture).collect(),
            expect: fixture(expect),
            overrides: item.get("overrides").cloned().unwrap_or_default(),
            config: object(item.get("config")),
            file: self.inner.to_owned(),
            place: place.clone(),
            name: name.clone(),
        })
    }

    pub(super) fn columns(&self, item: &Json) -> Vec<ColumnDoc> {
        let columns = self.items(item.get("columns"));
        let described = columns.iter().filter_map(|column| {
            let setting = |key: &str| {
                let config = column.get("config").and_then(|config| config.get(key));
                column.get(key).or(config)
            };
            let mut tags = Map::new();
            if let Some(given) = setting("tags") {
                config::merge_config(&mut tags, "tags", given.clone());
            }
            Some(ColumnDoc {
                name: column.get("name")?.as_str()?.to_owned(),
                description: description(column),
                data_type: column
                    .get("data_type")
                    .and_then(Json::as_str)
                    .map(str::to_owned),
                granularity: column
                    .get("granularity")
                    .and_then(Json::as_str)
                    .map(str::to_owned),
                quote: column.get("quote").and_then(Json::as_bool),
                constraints: self.items(column.get("constraints")).to_vec(),
                meta: object(setting("meta")),
                tags: config::names(&tags, "tags"),
            })
        });
        described.collect()
    }
}

pub(super) fn object(value: Option<&Json>) -> Map<String, Json> {
    value.and_then(Json::as_object).cloned().unwrap_or_default()
}

pub(super) fn description(item: &Json) -> String {
    item.get("description")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}
