//! Declared sources: a table says what differs from its source.

use serde_json::{Map, Value as Json};

use super::SourceTable;
use super::read::{FileReader, description, object};
use crate::error::ProjectError;
use crate::project::config;
use crate::project::node::{Age, Freshness};

impl FileReader<'_> {
    pub(super) fn source(&self, item: &Json) -> Result<Vec<SourceTable>, ProjectError> {
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
            let mut quoting = object(setting(item, "quoting").as_ref());
            quoting.extend(object(setting(table, "quoting").as_ref()));
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
                quoting,
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
