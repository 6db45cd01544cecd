//! Models, seeds, singular tests and sources: a file or a declaration each becomes a node.

use std::collections::BTreeMap;

use minijinja::value::Value;
use serde_json::{Map, json};

use super::{Loader, config};
use crate::error::{Place, ProjectError};
use crate::jinja::builtins::mutable;
use crate::jinja::context::{Recorded, project_scope};
use crate::jinja::relation::Relation;
use crate::project::node::{Materialization, Node, ResourceType, Source};
use crate::project::properties::{Patch, SourceTable};

impl Loader {
    pub(super) fn model(
        &mut self,
        folder: &str,
        file: &str,
        patches: &BTreeMap<(&'static str, String), Patch>,
    ) -> Result<(), ProjectError> {
        let place = Place::line(file, 1);
        if file.ends_with(".py") {
            return Err(ProjectError::Unsupported {
                place,
                what: "a Python model".into(),
            });
        }
        let raw_code = self.reader.text(file)?;
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let patch = patches.get(&("model", name.clone()));
        let mut settings = config::folder_config(self.file.get("models"), &fqn);
        if let Some(patch) = patch {
            config::merge_all(
                &mut settings,
                &self.rendered_config(&patch.config, &patch.place)?,
            );
        }
        self.engine.add_template(file, &raw_code)?;
        let recorded = self.parse(file, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let unique_id = format!("model.{}.{name}", self.name);
        if config::flag(&settings, "enabled") == Some(false) {
            self.disabled.insert(name);
            return Ok(());
        }
        let wanted = config::text(&settings, "materialized")
            .unwrap_or("view")
            .to_owned();
        let materialization =
            Materialization::parse(&wanted).ok_or_else(|| ProjectError::Unsupported {
                place: Place::find(file, &raw_code, "materialized"),
                what: format!("the materialization '{wanted}' of model '{name}'"),
            })?;
        let mut node = self.node(unique_id, ResourceType::Model, materialization, name, fqn);
        node.path = relative(folder, file);
        node.raw_code = raw_code;
        node.config = settings;
        self.finish(node, file, place, patch, recorded)
    }

    pub(super) fn seed(
        &mut self,
        folder: &str,
        file: &str,
        patches: &BTreeMap<(&'static str, String), Patch>,
    ) -> Result<(), ProjectError> {
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let patch = patches.get(&("seed", name.clone()));
        let mut settings = config::folder_config(self.file.get("seeds"), &fqn);
        if let Some(patch) = patch {
            config::merge_all(
                &mut settings,
                &self.rendered_config(&patch.config, &patch.place)?,
            );
        }
        if config::flag(&settings, "enabled") == Some(false) {
            self.disabled.insert(name);
            return Ok(());
        }
        let unique_id = format!("seed.{}.{name}", self.name);
        let mut node = self.node(
            unique_id,
            ResourceType::Seed,
            Materialization::Seed,
            name,
            fqn,
        );
        node.path = relative(folder, file);
        node.config = settings;
        self.finish(node, file, Place::line(file, 1), patch, Recorded::default())
    }

    pub(super) fn singular_test(&mut self, folder: &str, file: &str) -> Result<(), ProjectError> {
        let raw_code = self.reader.text(file)?;
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let place = Place::line(file, 1);
        let mut settings = self.test_config(&fqn);
        self.engine.add_template(file, &raw_code)?;
        let recorded = self.parse(file, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        if config::flag(&settings, "enabled") == Some(false) {
            return Ok(());
        }
        let unique_id = format!("test.{}.{name}", self.name);
        let mut node = self.node(
            unique_id,
            ResourceType::Test,
            Materialization::Test,
            name,
            fqn,
        );
        node.path = relative(folder, file);
        node.raw_code = raw_code;
        node.config = settings;
        self.finish(node, file, place, None, recorded)
    }

    pub(super) fn node(
        &self,
        unique_id: String,
        resource_type: ResourceType,
        materialization: Materialization,
        name: String,
        fqn: Vec<String>,
    ) -> Node {
        Node {
            unique_id,
            resource_type,
            materialization,
            name,
            fqn,
            package: self.name.clone(),
            path: String::new(),
            original_file_path: String::new(),
            raw_code: String::new(),
            config: Map::new(),
            relation: Relation::default(),
            description: String::new(),
            columns: BTreeMap::new(),
            tags: Vec::new(),
            refs: Vec::new(),
            sources: Vec::new(),
            depends_on: Vec::new(),
            test: None,
            column_name: None,
            attached_node: None,
            place: Place::default(),
            template: String::new(),
        }
    }

    pub(super) fn finish(
        &mut self,
        mut node: Node,
        file: &str,
        place: Place,
        patch: Option<&Patch>,
        recorded: Recorded,
    ) -> Result<(), ProjectError> {
        node.original_file_path = file.to_owned();
        node.config
            .insert("materialized".into(), node.materialization.name().into());
        node.tags = config::names(&node.config, "tags");
        node.place = place;
        if node.template.is_empty() {
            node.template = file.to_owned();
        }
        if let Some(patch) = patch {
            node.description = patch.description.clone();
            node.columns = patch.columns.clone();
        }
        node.refs = recorded.refs;
        node.sources = recorded.sources;
        node.relation = self.relation(&node)?;
        // A model and a seed may not share a name: ref() could not tell them apart.
        let twin = (!node.is_test())
            .then(|| ["model", "seed"].map(|kind| format!("{kind}.{}.{}", self.name, node.name)))
            .into_iter()
            .flatten()
            .chain([node.unique_id.clone()])
            .find_map(|id| self.nodes.get(&id));
        if let Some(known) = twin {
            return Err(ProjectError::Duplicate {
                what: node.resource_type.name(),
                name: node.name,
                first: known.place.clone(),
                second: node.place,
            });
        }
        self.nodes.insert(node.unique_id.clone(), node);
        Ok(())
    }

    pub(super) fn relation(&self, node: &Node) -> Result<Relation, ProjectError> {
        let facts = mutable(&json!({
            "name": node.name, "resource_type": node.resource_type.name(), "fqn": node.fqn,
            "package_name": node.package, "path": node.path, "config": node.config,
            "unique_id": node.unique_id, "original_file_path": node.original_file_path,
            "version": null,
        }));
        let scope = project_scope(&self.globals);
        let custom = |key: &str| match config::text(&node.config, key) {
            Some(text) => Value::from(text),
            // Where a test would store its failures.
            None if key == "schema" && node.is_test() => Value::from("dbt_test__audit"),
            None => Value::from(()),
        };
        let call = |name: &str, parameter: &str, key: &str| {
            let args = vec![(parameter, custom(key)), ("node", facts.clone())];
            let text = self.engine.call_macro(name, args, scope.clone())?;
            Ok::<_, ProjectError>(text.trim().to_owned())
        };
        Ok(Relation {
            database: call("generate_database_name", "custom_database_name", "database")?,
            schema: call("generate_schema_name", "custom_schema_name", "schema")?,
            identifier: call("generate_alias_name", "custom_alias_name", "alias")?,
        })
    }

    pub(super) fn source(&mut self, table: &SourceTable) -> Result<(), ProjectError> {
        let unique_id = format!("source.{}.{}.{}", self.name, table.source, table.name);
        if let Some(known) = self.sources.get(&unique_id) {
            return Err(ProjectError::Duplicate {
                what: "source",
                name: format!("{}.{}", table.source, table.name),
                first: known.place.clone(),
                second: table.place.clone(),
            });
        }
        let scope = project_scope(&self.globals);
        let text = |value: &str| self.engine.render_text(value, &table.place, scope.clone());
        let file = table.place.file.to_string_lossy().into_owned();
        let mut fqn = self.fqn("", file.split_once('/').map_or("", |(_, rest)| rest));
        fqn.pop();
        fqn.extend([table.source.clone(), table.name.clone()]);
        let source = Source {
            unique_id: unique_id.clone(),
            source_name: table.source.clone(),
            name: table.name.clone(),
            package: self.name.clone(),
            original_file_path: file,
            fqn,
            relation: Relation {
                database: match &table.database {
                    Some(database) => text(database)?,
                    None => self.target.database.clone(),
                },
                schema: text(&table.schema)?,
                identifier: text(&table.identifier)?,
            },
            description: table.description.clone(),
            columns: table.columns.clone(),
            tags: table.tags.clone(),
            loaded_at_field: table.loaded_at_field.clone(),
            freshness: table.freshness.clone(),
            place: table.place.clone(),
        };
        self.sources.insert(unique_id, source);
        Ok(())
    }
}

fn relative(folder: &str, file: &str) -> String {
    file.strip_prefix(folder)
        .unwrap_or(file)
        .trim_start_matches('/')
        .to_owned()
}
