//! Unit tests: a model over rows that stand for its inputs.

use serde_json::{Map, Value as Json};

use super::{Loader, config};
use crate::error::ProjectError;
use crate::jinja::context::Recorded;
use crate::project::node::{Fixture, Materialization, ResourceType, UnitTest};
use crate::project::properties::{DeclaredFixture, DeclaredUnitTest};

/// What an input of a unit test, or a dependency of an exposure, names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Package and name.
    Ref(Option<String>, String),
    /// Source and table.
    Source(String, String),
    Metric(String),
    This,
}

/// `ref('x')`, `ref('p', 'x')`, either with `v=2`, `source('a', 'b')` or `this`.
pub(super) fn input(text: &str) -> Option<Input> {
    let text = text.trim();
    let text = text
        .strip_prefix("{{")
        .and_then(|inner| inner.strip_suffix("}}"))
        .unwrap_or(text)
        .trim();
    if text == "this" {
        return Some(Input::This);
    }
    let (call, rest) = text.split_once('(')?;
    let inner = rest.trim_end().strip_suffix(')')?;
    let names = inner
        .split(',')
        .map(|part| part.trim().trim_matches(['\'', '"']).to_owned())
        .filter(|part| !part.is_empty());
    let mut given: Vec<String> = names.collect();
    let version = given.last().and_then(|last| {
        let (key, version) = last.split_once('=')?;
        let version = version.trim().trim_matches(['\'', '"']).to_owned();
        ["v", "version"].contains(&key.trim()).then_some(version)
    });
    if version.is_some() {
        given.pop();
    }
    let named = |name: &String| match &version {
        Some(version) => format!("{name}.v{version}"),
        None => name.clone(),
    };
    match (call.trim(), given.as_slice()) {
        ("ref", [name]) => Some(Input::Ref(None, named(name))),
        ("ref", [package, name]) => Some(Input::Ref(Some(package.clone()), named(name))),
        ("metric", [name]) => Some(Input::Metric(name.clone())),
        ("source", [source, table]) => Some(Input::Source(source.clone(), table.clone())),
        _ => None,
    }
}

impl Loader {
    pub(super) fn unit_test(&mut self, declared: &DeclaredUnitTest) -> Result<(), ProjectError> {
        let mut fqn = self.fqn(
            "",
            declared.file.split_once('/').map_or("", |(_, rest)| rest),
        );
        fqn.pop();
        fqn.extend([declared.model.clone(), declared.name.clone()]);
        let mut settings = self.folder_config("unit_tests", &fqn);
        config::merge_all(
            &mut settings,
            &self.rendered_config(&declared.config, &declared.place)?,
        );
        let unique_id = format!(
            "unit_test.{}.{}.{}",
            self.package.name, declared.model, declared.name
        );
        // A unit test of a disabled model has nothing to run.
        let model_off = self.disabled.contains(&declared.model);
        if model_off || self.is_disabled(&settings, &declared.name, &unique_id) {
            return Ok(());
        }
        let given = declared
            .given
            .iter()
            .map(|given| self.fixture(declared, given))
            .collect::<Result<Vec<_>, _>>()?;
        let unit = UnitTest {
            model: declared.model.clone(),
            model_id: String::new(),
            given,
            expect: self.fixture(declared, &declared.expect)?,
            macros: object(&declared.overrides, "macros"),
            vars: object(&declared.overrides, "vars"),
            env_vars: object(&declared.overrides, "env_vars"),
        };
        let mut node = self.node(
            unique_id,
            ResourceType::UnitTest,
            Materialization::UnitTest,
            declared.name.clone(),
            fqn,
        );
        node.path = declared
            .file
            .split_once('/')
            .map_or(declared.file.as_str(), |(_, rest)| rest)
            .to_owned();
        node.config = settings;
        node.description = self.described(&declared.description, &declared.place)?;
        node.unit_test = Some(unit);
        self.finish(
            node,
            &declared.file,
            declared.place.clone(),
            None,
            Recorded::default(),
        )
    }

    /// The rows of an input: those written there, or of a fixture file.
    fn fixture(
        &self,
        declared: &DeclaredUnitTest,
        given: &DeclaredFixture,
    ) -> Result<Fixture, ProjectError> {
        let wrong = |message: String| ProjectError::Yaml {
            place: declared.place.clone(),
            message: format!("unit test '{}': {message}", declared.name),
        };
        let format = given.format.as_str();
        let text = match (&given.fixture, &given.rows) {
            (Some(name), _) => {
                let ending = if format == "sql" { "sql" } else { "csv" };
                let files = self.package.paths.tests.iter().flat_map(|folder| {
                    self.package
                        .reader
                        .list(&format!("{folder}/fixtures"), &[ending])
                });
                let mut files = files.filter(|file| {
                    let stem = file
                        .rsplit('/')
                        .next()
                        .and_then(|file| file.split('.').next());
                    stem == Some(name.trim_end_matches(".csv").trim_end_matches(".sql"))
                });
                let file = files.next().ok_or_else(|| {
                    wrong(format!(
                        "there is no fixture file '{name}.{ending}' below tests/fixtures"
                    ))
                })?;
                Some(self.package.reader.text(&file)?)
            }
            (None, Some(Json::String(text))) => Some(text.clone()),
            _ => None,
        };
        let mut fixture = Fixture {
            input: given.input.clone(),
            format: format.to_owned(),
            ..Fixture::default()
        };
        match (format, text, &given.rows) {
            ("sql", Some(sql), _) => fixture.sql = Some(sql),
            ("csv", Some(text), _) => {
                fixture.rows = csv_rows(&text).map_err(|error| wrong(error.to_string()))?;
            }
            ("dict", None, Some(Json::Array(rows))) => {
                for row in rows {
                    let row = row.as_object().ok_or_else(|| {
                        wrong("a row is no mapping of columns to values".to_owned())
                    })?;
                    fixture.rows.push(row.clone());
                }
            }
            (_, None, None | Some(Json::Null)) => {}
            (format, _, _) => {
                return Err(wrong(format!(
                    "its rows are not of format '{format}' (dict: a list of mappings; csv, sql: text)"
                )));
            }
        }
        Ok(fixture)
    }
}

fn object(overrides: &Json, key: &str) -> Map<String, Json> {
    overrides
        .get(key)
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Rows of a CSV text; an empty cell is null.
fn csv_rows(text: &str) -> Result<Vec<Map<String, Json>>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.trim_start().as_bytes());
    let names = reader.headers()?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cells = names.iter().zip(record.iter()).map(|(name, cell)| {
            let value = match cell {
                "" => Json::Null,
                text => text.into(),
            };
            (name.to_owned(), value)
        });
        rows.push(cells.collect());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_a_ref_a_source_or_this() {
        let named = |package: Option<&str>, name: &str| {
            Some(Input::Ref(package.map(str::to_owned), name.to_owned()))
        };
        assert_eq!(input("ref('a')"), named(None, "a"));
        assert_eq!(input("ref( \"p\", 'a' )"), named(Some("p"), "a"));
        assert_eq!(
            input("{{ source('a','b') }}"),
            Some(Input::Source("a".to_owned(), "b".to_owned()))
        );
        assert_eq!(input("this"), Some(Input::This));
        assert_eq!(input("a"), None);
    }
}
