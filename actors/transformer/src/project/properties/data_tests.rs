//! The tests that an entry, or a column of it, declares.

use serde_json::{Map, Value as Json};

use super::TestDeclaration;
use super::read::{FileReader, object};
use crate::error::{Place, ProjectError};

/// Where an entry lists its tests.
const KEYS: [&str; 2] = ["data_tests", "tests"];

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

impl FileReader<'_> {
    pub(super) fn column_tests(&self, column: &Json) -> Result<Vec<TestDeclaration>, ProjectError> {
        let name = self.name(column, "column")?;
        // Most columns have none: nobody asks for their line.
        if KEYS.iter().all(|key| column.get(key).is_none()) {
            return Ok(Vec::new());
        }
        let quoted = column.get("quote").and_then(Json::as_bool) == Some(true);
        let written = match quoted {
            true => format!("\"{name}\""),
            false => name.clone(),
        };
        self.tests(column, Some(&written), &self.named(&name))
    }

    pub(super) fn tests(
        &self,
        item: &Json,
        column: Option<&str>,
        place: &Place,
    ) -> Result<Vec<TestDeclaration>, ProjectError> {
        let mut declared = Vec::new();
        for key in KEYS {
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
}
