//! `schema.yml` files: descriptions, configuration and tests of models and seeds, and sources.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::node::{Age, ColumnDoc, Freshness};
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
    pub(crate) place: Place,
}

/// What a file says of a model or a seed.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) description: String,
    pub(crate) config: Map<String, Json>,
    pub(crate) columns: BTreeMap<String, ColumnDoc>,
    pub(crate) tests: Vec<TestDeclaration>,
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
    pub(crate) columns: BTreeMap<String, ColumnDoc>,
    pub(crate) tags: Vec<String>,
    pub(crate) loaded_at_field: Option<String>,
    pub(crate) freshness: Option<Freshness>,
    pub(crate) tests: Vec<TestDeclaration>,
    pub(crate) place: Place,
}

/// All that one file declares.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) patches: Vec<Patch>,
    pub(crate) sources: Vec<SourceTable>,
    pub(crate) warnings: Vec<String>,
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
];

/// Reads one file.
///
/// # Errors
/// With the line of what does not parse or has no name.
pub(crate) fn read(file: &str, text: &str) -> Result<Properties, ProjectError> {
    let reader = FileReader { file, text };
    let parsed = yaml::parse(text, Path::new(file))?;
    let mut properties = Properties::default();
    let Some(sections) = parsed.as_object() else {
        return Ok(properties);
    };
    for key in sections
        .keys()
        .filter(|key| !KNOWN_SECTIONS.contains(&key.as_str()))
    {
        let place = Place::find(file, text, &format!("{key}:"));
        properties
            .warnings
            .push(format!("{place}: '{key}' is not read"));
    }
    for (section, kind) in [("models", "model"), ("seeds", "seed")] {
        for item in reader.items(sections.get(section)) {
            properties.patches.push(reader.patch(item, kind)?);
        }
    }
    for source in reader.items(sections.get("sources")) {
        properties.sources.extend(reader.source(source)?);
    }
    Ok(properties)
}

struct FileReader<'a> {
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
        for key in ["tags", "meta", "docs"] {
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
            tests,
            place,
        })
    }

    fn columns(&self, item: &Json) -> BTreeMap<String, ColumnDoc> {
        let columns = self.items(item.get("columns"));
        let described = columns.iter().filter_map(|column| {
            let name = column.get("name")?.as_str()?.to_owned();
            let data_type = column
                .get("data_type")
                .and_then(Json::as_str)
                .map(str::to_owned);
            Some((
                name,
                ColumnDoc {
                    description: description(column),
                    data_type,
                },
            ))
        });
        described.collect()
    }

    fn column_tests(&self, column: &Json) -> Result<Vec<TestDeclaration>, ProjectError> {
        let name = self.name(column, "column")?;
        self.tests(column, Some(&name), &self.named(&name))
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
        let mut tables = Vec::new();
        for table in self.items(item.get("tables")) {
            let name = self.name(table, "source table")?;
            let place = self.named(&name);
            let mut tests = self.tests(table, None, &place)?;
            for column in self.items(table.get("columns")) {
                tests.extend(self.column_tests(column)?);
            }
            let inherited = setting(item, "freshness");
            let freshness = match setting(table, "freshness") {
                Some(own) => freshness(&own),
                None => inherited.as_ref().and_then(freshness),
            };
            let loaded_at = setting(table, "loaded_at_field")
                .or_else(|| setting(item, "loaded_at_field"))
                .and_then(|field| field.as_str().map(str::to_owned));
            let mut tag_config = Map::new();
            for owner in [item, table] {
                if let Some(tags) = setting(owner, "tags") {
                    config::merge_config(&mut tag_config, "tags", tags);
                }
            }
            tables.push(SourceTable {
                identifier: text(table, "identifier").unwrap_or_else(|| name.clone()),
                schema: text(item, "schema").unwrap_or_else(|| source.clone()),
                database: text(item, "database"),
                description: description(table),
                columns: self.columns(table),
                tags: config::names(&tag_config, "tags"),
                loaded_at_field: loaded_at,
                source: source.clone(),
                freshness,
                tests,
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

fn freshness(value: &Json) -> Option<Freshness> {
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
