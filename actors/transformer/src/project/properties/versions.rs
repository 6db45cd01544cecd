//! Versions of a model: each is a node of its own, described by what the model says and by what the
//! version says instead.

use serde_json::Value as Json;

use super::Patch;
use super::read::{FileReader, object};
use crate::error::ProjectError;
use crate::project::config;
use crate::project::node::{Version, compare_versions};

/// What a version says instead of its model.
const REPLACED: [&str; 4] = ["description", "docs", "access", "constraints"];

/// A day or a time as dbt's artifacts have it: with a time of day and an offset.
fn moment(text: &str) -> String {
    let Ok(pieces) = jiff::fmt::temporal::Pieces::parse(text) else {
        return text.to_owned();
    };
    let midnight = jiff::civil::Time::midnight();
    let time = pieces.date().to_datetime(pieces.time().unwrap_or(midnight));
    let offset = pieces.to_numeric_offset().unwrap_or(jiff::tz::Offset::UTC);
    let zoned = time.to_zoned(jiff::tz::TimeZone::fixed(offset));
    zoned.map_or_else(
        |_| text.to_owned(),
        |zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    )
}

impl FileReader<'_> {
    /// What an entry says: of one node, or of each version of a model.
    pub(super) fn patches(
        &self,
        item: &Json,
        kind: &'static str,
    ) -> Result<Vec<Patch>, ProjectError> {
        let whole = self.patch(item, kind)?;
        let versions = self.items(item.get("versions"));
        if versions.is_empty() {
            return Ok(vec![whole]);
        }
        let numbers = || versions.iter().filter_map(|version| version.get("v"));
        let named = item
            .get("latest_version")
            .filter(|latest| !latest.is_null());
        let latest = named.or_else(|| numbers().max_by(|a, b| compare_versions(a, b)));
        let mut patches = Vec::with_capacity(versions.len());
        for entry in versions {
            let (Some(number), Some(latest)) = (entry.get("v"), latest) else {
                return Err(ProjectError::Yaml {
                    message: format!("a version of model '{}' has no 'v'", whole.name),
                    place: whole.place,
                });
            };
            let text = |key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
            let version = Version {
                version: number.clone(),
                latest: latest.clone(),
                deprecation_date: text("deprecation_date").map(|day| moment(&day)),
            };
            let mut patch = self.patch(&self.merged(item, entry), kind)?;
            patch.stem =
                text("defined_in").unwrap_or_else(|| format!("{}_{}", whole.name, version.label()));
            patch.version = Some(version);
            patches.push(patch);
        }
        Ok(patches)
    }

    /// The model's entry as one of its versions has it.
    fn merged(&self, item: &Json, version: &Json) -> Json {
        let mut merged = object(Some(item));
        merged.remove("versions");
        let own_tests = ["data_tests", "tests"]
            .into_iter()
            .filter_map(|key| Some((key, version.get(key)?)))
            .collect::<Vec<_>>();
        if !own_tests.is_empty() {
            merged.remove("data_tests");
            merged.remove("tests");
        }
        let replaced = REPLACED.into_iter();
        let replaced = replaced.filter_map(|key| Some((key, version.get(key)?)));
        for (key, value) in own_tests.into_iter().chain(replaced) {
            merged.insert(key.to_owned(), value.clone());
        }
        let mut settings = object(merged.get("config"));
        config::merge_all(&mut settings, &object(version.get("config")));
        merged.insert("config".to_owned(), Json::Object(settings));
        merged.insert("columns".to_owned(), self.columns_of(item, version).into());
        Json::Object(merged)
    }

    /// The model's columns that the version keeps (`include`, `exclude`), then its own.
    fn columns_of(&self, item: &Json, version: &Json) -> Vec<Json> {
        let given = self.items(version.get("columns"));
        let rule = given.iter().find(|column| column.get("include").is_some());
        let names = |key: &str, name: &str| {
            let listed = rule.and_then(|rule| rule.get(key));
            match listed {
                Some(Json::String(all)) => Some(all == "*" || all == "all"),
                Some(Json::Array(names)) => Some(names.iter().any(|listed| listed == name)),
                _ => None,
            }
        };
        let is_kept = |column: &&Json| {
            let name = column
                .get("name")
                .and_then(Json::as_str)
                .unwrap_or_default();
            names("include", name).unwrap_or(true) && !names("exclude", name).unwrap_or(false)
        };
        let of_model = self.items(item.get("columns")).iter().filter(is_kept);
        let own = given
            .iter()
            .filter(|column| column.get("include").is_none());
        of_model.chain(own).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_day_is_its_midnight_and_what_is_no_time_stays_as_it_is() {
        assert_eq!(moment("2030-01-01"), "2030-01-01T00:00:00+00:00");
        assert_eq!(
            moment("2030-01-01 10:30:00+02:00"),
            "2030-01-01T10:30:00+02:00"
        );
        assert_eq!(moment("soon"), "soon");
    }
}
