//! Declared source tables.

use serde_json::{Map, Value as Json};

use super::{Loader, config};
use crate::error::ProjectError;
use crate::jinja::context::package_scope;
use crate::jinja::relation::Relation;
use crate::project::node::Source;
use crate::project::properties::SourceTable;

impl Loader {
    pub(super) fn source(&mut self, table: &SourceTable) -> Result<(), ProjectError> {
        let unique_id = format!(
            "source.{}.{}.{}",
            self.package.name, table.source, table.name
        );
        if let Some(known) = self.sources.get(&unique_id) {
            return Err(ProjectError::Duplicate {
                what: "source",
                name: format!("{}.{}", table.source, table.name),
                first: known.place.clone(),
                second: table.place.clone(),
            });
        }
        let scope = package_scope(&self.globals, &self.package.name);
        let text = |value: &str| self.engine.render_text(value, &table.place, scope.clone());
        let mut fqn = self.fqn("", table.file.split_once('/').map_or("", |(_, rest)| rest));
        fqn.pop();
        fqn.extend([table.source.clone(), table.name.clone()]);
        let mut settings = self.folder_config("sources", &fqn);
        config::merge_all(
            &mut settings,
            &self.rendered_config(&table.config, &table.place)?,
        );
        settings.entry("enabled").or_insert(Json::Bool(true));
        if matches!(table.freshness, Some(None)) {
            // Not left out, but taken away.
            settings.insert("freshness".into(), Json::Null);
        }
        let given_quoting = table.quoting.clone();
        let quoting = Json::Object(given_quoting.clone());
        let quoting = self.quoting.changed(Some(&quoting));
        let source = Source {
            quoting,
            given_quoting,
            relation: Relation {
                database: match &table.database {
                    Some(database) => text(database)?,
                    None => self.target.database.clone(),
                },
                schema: text(&table.schema)?,
                identifier: text(&table.identifier)?,
            }
            .folded(quoting),
            description: self.described(&table.description, &table.place)?,
            source_description: self.described(&table.source_description, &table.place)?,
            columns: self.columns(&table.columns, &table.place)?,
            loaded_at_field: match &table.loaded_at_field {
                Some(field) => Some(text(field)?),
                None => config::text(&settings, "loaded_at_field").map(str::to_owned),
            },
            loaded_at_query: match &table.loaded_at_query {
                Some(query) => Some(text(query)?),
                None => config::text(&settings, "loaded_at_query").map(str::to_owned),
            },
            freshness: match &table.freshness {
                Some(freshness) => freshness.clone(),
                None => settings
                    .get("freshness")
                    .and_then(crate::project::properties::freshness),
            },
            loader: table.loader.clone(),
            tags: config::names(&settings, "tags"),
            meta: object(settings.get("meta")),
            source_meta: table.source_meta.clone(),
            unique_id: unique_id.clone(),
            source_name: table.source.clone(),
            name: table.name.clone(),
            package: self.package.name.clone(),
            original_file_path: table.file.clone(),
            fqn,
            config: settings,
            place: table.place.clone(),
        };
        if config::flag(&source.config, "enabled") == Some(false) {
            self.disabled_ids.push(unique_id);
            return Ok(());
        }
        self.sources.insert(unique_id, source);
        Ok(())
    }
}

fn object(value: Option<&Json>) -> Map<String, Json> {
    match value {
        Some(Json::Object(map)) => map.clone(),
        _ => Map::new(),
    }
}
