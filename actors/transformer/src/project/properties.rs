//! `schema.yml` files: descriptions, configuration and tests of models and seeds, and sources.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::node::{Age, ColumnDoc, Described, Freshness};
use super::{config, yaml};
use crate::error::{Place, ProjectError};

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
    pub(crate) kind: &'static str,
    pub(crate) description: String,
    pub(crate) config: Map<String, Json>,
    pub(crate) columns: Vec<ColumnDoc>,
    pub(crate) constraints: Vec<Json>,
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
        self.unit_tests.extend(other.unit_tests);
        self.groups.extend(other.groups);
        self.macros.extend(other.macros);
        self.warnings.extend(other.warnings);
    }
}

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
];

/// Sections whose entries describe a node of that kind.
const PATCHED: [(&str, &str); 5] = [
    ("models", "model"),
    ("seeds", "seed"),
    ("snapshots", "snapshot"),
    ("analyses", "analysis"),
    ("data_tests", "test"),
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
            properties.patches.push(reader.patch(item, kind)?);
        }
    }
    for source in reader.items(sections.get("sources")) {
        properties.sources.extend(reader.source(source)?);
    }
    for exposure in reader.items(sections.get("exposures")) {
        properties.exposures.push(reader.exposure(exposure)?);
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

struct FileReader<'a> {
    /// Within the package.
    inner: &'a str,
    /// In messages.
    file: &'a str,
    text: &'a str,
}

impl FileReader<'_> {
    fn items<'j>(&self, section: Option<&'j Json>) -> &'j [Json] {
        section.and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    /// The line that names something: `name: x`, quoted or not.
    fn named(&self, name: &str) -> Place {
        let quoted = [
            format!("name: {name}"),
            format!("name: \"{name}\""),
            format!("name: '{name}'"),
        ];
        let line = self.text.lines().position(|line| {
            let line = line.trim_start_matches([' ', '-']).trim_end();
            quoted.iter().any(|wanted| line == wanted)
        });
        match line {
            Some(index) => Place::line(self.file, index + 1),
            None => Place::find(self.file, self.text, name),
        }
    }

    fn name(&self, item: &Json, what: &str) -> Result<String, ProjectError> {
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

    fn patch(&self, item: &Json, kind: &'static str) -> Result<Patch, ProjectError> {
        let name = self.name(item, kind)?;
        let place = self.named(&name);
        if item.get("versions").is_some() {
            let what = format!("versions of model '{name}'");
            return Err(ProjectError::Unsupported { place, what });
        }
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
            name,
            kind,
            description,
            config: patch_config,
            columns,
            constraints: self.items(item.get("constraints")).to_vec(),
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

    fn columns(&self, item: &Json) -> Vec<ColumnDoc> {
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
                quote: column.get("quote").and_then(Json::as_bool),
                constraints: self.items(column.get("constraints")).to_vec(),
                meta: object(setting("meta")),
                tags: config::names(&tags, "tags"),
            })
        });
        described.collect()
    }

    fn column_tests(&self, column: &Json) -> Result<Vec<TestDeclaration>, ProjectError> {
        let name = self.name(column, "column")?;
        let quoted = column.get("quote").and_then(Json::as_bool) == Some(true);
        let written = match quoted {
            true => format!("\"{name}\""),
            false => name.clone(),
        };
        self.tests(column, Some(&written), &self.named(&name))
    }

    fn tests(
        &self,
        item: &Json,
        column: Option<&str>,
        place: &Place,
    ) -> Result<Vec<TestDeclaration>, ProjectError> {
        let mut declared = Vec::new();
        for key in ["data_tests", "tests"] {
            for test in self.items(item.get(key)) {
                declared.push(self.test(test, column, place)?);
            }
        }
        Ok(declared)
    }

    fn test(
        &self,
        test: &Json,
        column: Option<&str>,
        place: &Place,
    ) -> Result<TestDeclaration, ProjectError> {
        let wrong = |message: &str| ProjectError::Yaml {
            place: place.clone(),
            message: message.to_owned(),
        };
        let (full_name, mut arguments) = match test {
            Json::String(name) => (name.clone(), Map::new()),
            Json::Object(map) => match map.get("test_name").and_then(Json::as_str) {
                Some(name) => {
                    let mut arguments = map.clone();
                    arguments.remove("test_name");
                    (name.to_owned(), arguments)
                }
                None => {
                    let (name, body) = map.iter().next().ok_or_else(|| wrong("a test is empty"))?;
                    let mut arguments = object(Some(body));
                    arguments.extend(map.iter().skip(1).map(|(k, v)| (k.clone(), v.clone())));
                    (name.clone(), arguments)
                }
            },
            _ => return Err(wrong("a test is neither a name nor a mapping")),
        };
        let mut test_config = object(arguments.remove("config").as_ref());
        for key in TEST_CONFIG_KEYS {
            if let Some(value) = arguments.remove(*key) {
                test_config.entry((*key).to_owned()).or_insert(value);
            }
        }
        let nested = object(arguments.remove("arguments").as_ref());
        arguments.extend(nested);
        let take_text = |arguments: &mut Map<String, Json>, key: &str| {
            arguments
                .remove(key)
                .and_then(|value| value.as_str().map(str::to_owned))
        };
        let custom_name = take_text(&mut arguments, "name");
        let description = take_text(&mut arguments, "description").unwrap_or_default();
        if let Some(column) = column {
            arguments.insert("column_name".to_owned(), column.into());
        }
        let (namespace, test) = match full_name.split_once('.') {
            Some((namespace, test)) => (Some(namespace.to_owned()), test.to_owned()),
            None => (None, full_name),
        };
        let (column, place) = (column.map(str::to_owned), place.clone());
        let config = test_config;
        Ok(TestDeclaration {
            test,
            namespace,
            custom_name,
            arguments,
            config,
            description,
            column,
            file: self.inner.to_owned(),
            place,
        })
    }

    fn source(&self, item: &Json) -> Result<Vec<SourceTable>, ProjectError> {
        let source = self.name(item, "source")?;
        let text = |item: &Json, key: &str| item.get(key).and_then(Json::as_str).map(str::to_owned);
        let setting = |item: &Json, key: &str| {
            item.get(key)
                .or_else(|| item.get("config").and_then(|config| config.get(key)))
                .cloned()
        };
        let inherited =
            |table: &Json, key: &str| setting(table, key).or_else(|| setting(item, key));
        let mut tables = Vec::new();
        for table in self.items(item.get("tables")) {
            let name = self.name(table, "source table")?;
            let place = self.named(&name);
            let mut tests = self.tests(table, None, &place)?;
            for column in self.items(table.get("columns")) {
                tests.extend(self.column_tests(column)?);
            }
            let mut source_config = Map::new();
            for owner in [item, table] {
                config::merge_all(&mut source_config, &object(owner.get("config")));
                for key in ["tags", "meta"] {
                    if let Some(value) = owner.get(key) {
                        config::merge_config(&mut source_config, key, value.clone());
                    }
                }
            }
            let own = setting(table, "freshness").map(|own| match setting(item, "freshness") {
                // A table says only what differs from its source.
                Some(Json::Object(mut outer)) if own.is_object() => {
                    outer.extend(object(Some(&own)));
                    freshness(&Json::Object(outer))
                }
                _ => freshness(&own),
            });
            let text_of =
                |key: &str| inherited(table, key).and_then(|it| it.as_str().map(str::to_owned));
            tables.push(SourceTable {
                identifier: text(table, "identifier").unwrap_or_else(|| name.clone()),
                schema: text(item, "schema").unwrap_or_else(|| source.clone()),
                database: text(item, "database"),
                description: description(table),
                source_description: description(item),
                loader: text(table, "loader")
                    .or_else(|| text(item, "loader"))
                    .unwrap_or_default(),
                source_meta: object(setting(item, "meta").as_ref()),
                columns: self.columns(table),
                loaded_at_field: text_of("loaded_at_field"),
                loaded_at_query: text_of("loaded_at_query"),
                source: source.clone(),
                freshness: own.or_else(|| setting(item, "freshness").map(|it| freshness(&it))),
                config: source_config,
                tests,
                file: self.inner.to_owned(),
                place,
                name,
            });
        }
        Ok(tables)
    }
}

/// Keys of a test that configure it and are no arguments of its macro.
const TEST_CONFIG_KEYS: &[&str] = &[
    "severity",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "enabled",
    "store_failures",
    "store_failures_as",
    "tags",
    "meta",
    "alias",
    "schema",
    "database",
    "group",
];

fn object(value: Option<&Json>) -> Map<String, Json> {
    value.and_then(Json::as_object).cloned().unwrap_or_default()
}

fn description(item: &Json) -> String {
    item.get("description")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// What a `freshness:` allows; nothing when it is null or allows anything.
pub(crate) fn freshness(value: &Json) -> Option<Freshness> {
    let age = |key: &str| {
        let age = value.get(key)?;
        let count = age.get("count")?.as_u64()?;
        let period = age.get("period")?.as_str()?.to_owned();
        Some(Age { count, period })
    };
    let found = Freshness {
        warn_after: age("warn_after"),
        error_after: age("error_after"),
        filter: value
            .get("filter")
            .and_then(Json::as_str)
            .map(str::to_owned),
    };
    (found.warn_after.is_some() || found.error_after.is_some()).then_some(found)
}
