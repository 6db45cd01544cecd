//! Exposures, and the hooks of a run.

use serde_json::Value as Json;

use super::unit_tests::{Input, input};
use super::{Loader, PROJECT_FILE, config};
use crate::error::{Place, ProjectError};
use crate::jinja::relation::Relation;
use crate::project::node::{Exposure, Materialization, ResourceType};
use crate::project::properties::DeclaredExposure;

impl Loader {
    pub(super) fn exposure(&mut self, declared: &DeclaredExposure) -> Result<(), ProjectError> {
        let unique_id = format!("exposure.{}.{}", self.package.name, declared.name);
        let mut fqn = self.fqn(
            "",
            declared.file.split_once('/').map_or("", |(_, rest)| rest),
        );
        fqn.pop();
        fqn.push(declared.name.clone());
        let mut settings = self.folder_config("exposures", &fqn);
        config::merge_all(
            &mut settings,
            &self.rendered_config(&declared.config, &declared.place)?,
        );
        settings.entry("enabled").or_insert(Json::Bool(true));
        if config::flag(&settings, "enabled") == Some(false) {
            self.disabled_ids.push(unique_id);
            return Ok(());
        }
        let (mut refs, mut sources, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
        for text in &declared.depends_on {
            match input(text) {
                Some(Input::Ref(package, name)) => refs.push((package, name)),
                Some(Input::Source(source, table)) => sources.push((source, table)),
                Some(Input::Metric(name)) => metrics.push(name),
                _ => {
                    return Err(ProjectError::Yaml {
                        place: declared.place.clone(),
                        message: format!(
                            "exposure '{}' depends on '{text}', which is neither ref(…), source(…) nor metric(…)",
                            declared.name
                        ),
                    });
                }
            }
        }
        let mut properties = declared.properties.clone();
        let description = properties.get("description").and_then(Json::as_str);
        let description = self.described(description.unwrap_or_default(), &declared.place)?;
        properties.insert("description".into(), description.into());
        let tags = config::names(&settings, "tags");
        properties.insert("config".into(), Json::Object(settings));
        if let Some(known) = self.exposures.get(&unique_id) {
            return Err(ProjectError::Duplicate {
                what: "exposure",
                name: declared.name.clone(),
                first: known.place.clone(),
                second: declared.place.clone(),
            });
        }
        self.exposures.insert(
            unique_id.clone(),
            Exposure {
                unique_id,
                name: declared.name.clone(),
                package: self.package.name.clone(),
                original_file_path: declared.file.clone(),
                fqn,
                depends_on: Vec::new(),
                refs,
                sources,
                metrics,
                tags,
                properties,
                place: declared.place.clone(),
            },
        );
        Ok(())
    }

    /// `on-run-start` and `on-run-end` of the package; rendered when they run.
    pub(super) fn run_hooks(&mut self) -> Result<(), ProjectError> {
        let place = Place::file(self.package.shown(PROJECT_FILE));
        for (which, key) in ["on-run-start", "on-run-end"].into_iter().enumerate() {
            let texts: Vec<String> = match self.package.raw.get(key) {
                Some(Json::String(text)) => vec![text.clone()],
                Some(Json::Array(items)) => items
                    .iter()
                    .filter_map(Json::as_str)
                    .map(str::to_owned)
                    .collect(),
                _ => Vec::new(),
            };
            for (index, text) in texts.into_iter().enumerate() {
                let package = self.package.name.clone();
                let name = format!("{package}-{key}-{index}");
                let fqn = vec![package.clone(), "hooks".to_owned(), name.clone()];
                let template = format!("<{name}>");
                self.engine.add_template(&template, &text)?;
                let settings = serde_json::Map::new();
                let recorded = self.parse(&template, &place, &name, &settings, Vec::new())?;
                let mut node = self.node(
                    format!("operation.{package}.{name}"),
                    ResourceType::Operation,
                    Materialization::Nothing,
                    name,
                    fqn,
                );
                node.path = format!("hooks/{}.sql", node.name);
                node.original_file_path = format!("./{PROJECT_FILE}");
                node.place = place.clone();
                node.template = template;
                node.raw_code = text;
                node.tags = vec![key.to_owned()];
                node.relation = Relation {
                    database: self.target.database.clone(),
                    schema: self.target.schema.clone(),
                    identifier: node.name.clone(),
                };
                node.refs = recorded.refs;
                node.sources = recorded.sources;
                self.hooks[which].push(node);
            }
        }
        Ok(())
    }
}
