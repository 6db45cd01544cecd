//! Models, seeds, singular tests and analyses: a file each becomes a node.

use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::unit_tests::{Input, input};
use super::{Loader, Patches, config};
use crate::error::{Place, ProjectError};
use crate::jinja::builtins::mutable;
use crate::jinja::context::{Recorded, package_scope};
use crate::jinja::relation::Relation;
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::properties::Patch;

impl Loader {
    pub(super) fn model(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let shown = self.package.shown(file);
        let place = Place::line(&shown, 1);
        if file.ends_with(".py") {
            return Err(ProjectError::Unsupported {
                place,
                what: "a Python model".into(),
            });
        }
        let raw_code = self.package.reader.text(file)?;
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let patch = patches.get(&("model", name.clone()));
        let mut settings = self.folder_config("models", &fqn);
        self.merge_patch(&mut settings, patch)?;
        self.engine.add_template(&shown, &raw_code)?;
        let recorded = self.parse(&shown, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let unique_id = format!("model.{}.{name}", self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(());
        }
        let materialization = self.materialization(&settings, &shown, &raw_code, &name)?;
        if config::text(&settings, "incremental_strategy") == Some("microbatch") {
            return Err(ProjectError::Unsupported {
                place: Place::find(&shown, &raw_code, "microbatch"),
                what: format!("the incremental strategy 'microbatch' of model '{name}'"),
            });
        }
        let mut node = self.node(unique_id, ResourceType::Model, materialization, name, fqn);
        node.path = relative(folder, file);
        node.raw_code = raw_code;
        node.config = settings;
        self.finish(node, file, place, patch, recorded)
    }

    fn materialization(
        &self,
        settings: &Map<String, serde_json::Value>,
        shown: &str,
        raw_code: &str,
        name: &str,
    ) -> Result<Materialization, ProjectError> {
        let wanted = config::text(settings, "materialized").unwrap_or("view");
        let place = || Place::find(shown, raw_code, "materialized");
        if let Some(written) = self.engine.materializations.get(wanted) {
            return Err(ProjectError::Unsupported {
                place: place(),
                what: format!(
                    "the custom materialization '{wanted}' ({written}) of model '{name}'"
                ),
            });
        }
        Materialization::parse(wanted).ok_or_else(|| ProjectError::Unsupported {
            place: place(),
            what: format!("the materialization '{wanted}' of model '{name}'"),
        })
    }

    pub(super) fn merge_patch(
        &self,
        settings: &mut Map<String, serde_json::Value>,
        patch: Option<&Patch>,
    ) -> Result<(), ProjectError> {
        if let Some(patch) = patch {
            config::merge_all(
                settings,
                &self.rendered_config(&patch.config, &patch.place)?,
            );
        }
        Ok(())
    }

    pub(super) fn is_disabled(
        &mut self,
        settings: &Map<String, serde_json::Value>,
        name: &str,
        unique_id: &str,
    ) -> bool {
        let disabled = config::flag(settings, "enabled") == Some(false);
        if disabled {
            self.disabled.insert(name.to_owned());
            self.disabled_ids.push(unique_id.to_owned());
        }
        disabled
    }

    pub(super) fn seed(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let patch = patches.get(&("seed", name.clone()));
        let mut settings = self.folder_config("seeds", &fqn);
        self.merge_patch(&mut settings, patch)?;
        let unique_id = format!("seed.{}.{name}", self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(());
        }
        let mut node = self.node(
            unique_id,
            ResourceType::Seed,
            Materialization::Seed,
            name,
            fqn,
        );
        node.path = relative(folder, file);
        node.config = settings;
        let place = Place::line(self.package.shown(file), 1);
        self.finish(node, file, place, patch, Recorded::default())
    }

    pub(super) fn singular_test(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let shown = self.package.shown(file);
        let raw_code = self.package.reader.text(file)?;
        let fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        let place = Place::line(&shown, 1);
        let patch = patches.get(&("test", name.clone()));
        let mut settings = self.test_config(&fqn);
        self.merge_patch(&mut settings, patch)?;
        self.engine.add_template(&shown, &raw_code)?;
        let recorded = self.parse(&shown, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let unique_id = format!("test.{}.{name}", self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(());
        }
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
        self.finish(node, file, place, patch, recorded)
    }

    pub(super) fn analysis(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let shown = self.package.shown(file);
        let raw_code = self.package.reader.text(file)?;
        let mut fqn = self.fqn(folder, file);
        let name = fqn.last().cloned().unwrap_or_default();
        fqn.insert(1, "analysis".to_owned());
        let patch = patches.get(&("analysis", name.clone()));
        let mut settings = self.folder_config("analyses", &fqn);
        self.merge_patch(&mut settings, patch)?;
        let place = Place::line(&shown, 1);
        self.engine.add_template(&shown, &raw_code)?;
        let recorded = self.parse(&shown, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let unique_id = format!("analysis.{}.{name}", self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(());
        }
        let mut node = self.node(
            unique_id,
            ResourceType::Analysis,
            Materialization::Nothing,
            name,
            fqn,
        );
        node.path = format!("analysis/{}", relative(folder, file));
        node.raw_code = raw_code;
        node.config = settings;
        self.finish(node, file, place, patch, recorded)
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
            package: self.package.name.clone(),
            package_folder: self.package.folder.clone(),
            path: String::new(),
            original_file_path: String::new(),
            raw_code: String::new(),
            config: Map::new(),
            relation: Relation::default(),
            description: String::new(),
            columns: Vec::new(),
            tags: Vec::new(),
            refs: Vec::new(),
            sources: Vec::new(),
            depends_on: Vec::new(),
            depends_on_macros: Vec::new(),
            test: None,
            column_name: None,
            constraints: Vec::new(),
            unit_test: None,
            patch_path: None,
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
            node.template = self.package.shown(file);
        }
        if let Some(patch) = patch {
            node.description = self.described(&patch.description, &patch.place)?;
            node.columns = patch.columns.clone();
            for column in &mut node.columns {
                column.description = self.described(&column.description, &patch.place)?;
            }
            node.constraints = patch.constraints.clone();
            node.patch_path = Some(format!("{}://{}", self.package.name, patch.file));
        }
        node.depends_on_macros = recorded
            .macros
            .iter()
            .map(|(package, name)| format!("macro.{package}.{name}"))
            .collect();
        node.refs = recorded.refs;
        node.sources = recorded.sources;
        self.read_by_hooks(&mut node)?;
        let columns = node.columns.iter().flat_map(|column| &column.constraints);
        let foreign: Vec<Input> = columns
            .chain(&node.constraints)
            .filter_map(|constraint| input(constraint.get("to")?.as_str()?))
            .collect();
        for named in foreign {
            match named {
                Input::Ref(package, name) => node.refs.push((package, name)),
                Input::Source(source, table) => node.sources.push((source, table)),
                Input::This => {}
            }
        }
        node.relation = self.relation(&node)?;
        self.insert(node)
    }

    /// What the hooks of a node read, so that it is built before.
    fn read_by_hooks(&self, node: &mut Node) -> Result<(), ProjectError> {
        let hooks = ["pre-hook", "post-hook"].into_iter().flat_map(|key| {
            let list = node.config.get(key).and_then(Json::as_array);
            list.into_iter().flatten()
        });
        let texts = hooks.filter_map(|hook| hook.as_str().or_else(|| hook.get("sql")?.as_str()));
        let texts: Vec<String> = texts
            .filter(|text| text.contains("ref(") || text.contains("source("))
            .map(str::to_owned)
            .collect();
        for text in &texts {
            let scope = self.scope(&node.name, &node.config, Vec::new());
            self.engine.render_text(text, &node.place, scope.value())?;
            let recorded = scope.recorded();
            if node.resource_type == ResourceType::Seed {
                return Err(ProjectError::Yaml {
                    place: node.place.clone(),
                    message: format!(
                        "Seeds cannot depend on other nodes: a hook of '{}' calls ref() or source()",
                        node.name
                    ),
                });
            }
            node.refs.extend(recorded.refs);
            node.sources.extend(recorded.sources);
        }
        Ok(())
    }

    /// A model, a seed and a snapshot may not share a name: ref() could not tell them apart.
    fn insert(&mut self, node: Node) -> Result<(), ProjectError> {
        let kinds: &[&str] = match node.resource_type {
            ResourceType::Model | ResourceType::Seed | ResourceType::Snapshot => {
                &["model", "seed", "snapshot"]
            }
            _ => &[],
        };
        let twin = kinds
            .iter()
            .map(|kind| format!("{kind}.{}.{}", node.package, node.name))
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

    pub(super) fn relation(&mut self, node: &Node) -> Result<Relation, ProjectError> {
        let mut relation = match self.is_plain() {
            // The built-in macros, without a render: most projects have no others.
            true => Relation {
                database: custom(node, "database")
                    .map_or(self.target.database.as_str(), str::trim)
                    .to_owned(),
                schema: match custom(node, "schema") {
                    Some(schema) => format!("{}_{}", self.target.schema, schema.trim()),
                    None => self.target.schema.clone(),
                },
                identifier: custom(node, "alias")
                    .unwrap_or(&node.name)
                    .trim()
                    .to_owned(),
            },
            false => self.named_by_macros(node)?,
        };
        if node.resource_type == ResourceType::Snapshot {
            if let Some(schema) = config::text(&node.config, "target_schema") {
                relation.schema = schema.to_owned();
            }
            if let Some(database) = config::text(&node.config, "target_database") {
                relation.database = database.to_owned();
            }
        }
        Ok(relation)
    }

    fn named_by_macros(&self, node: &Node) -> Result<Relation, ProjectError> {
        let facts = mutable(&json!({
            "name": node.name, "resource_type": node.resource_type.name(), "fqn": node.fqn,
            "package_name": node.package, "path": node.path, "config": node.config,
            "unique_id": node.unique_id, "original_file_path": node.original_file_path,
            "version": null, "tags": node.tags,
        }));
        let scope = package_scope(&self.globals, &self.package.name);
        let call = |name: &str, parameter: &str, key: &str| {
            let given = custom(node, key).map_or_else(|| Value::from(()), Value::from);
            let args = vec![(parameter, given), ("node", facts.clone())];
            let text = self.engine.call_macro(name, args, scope.clone())?;
            Ok::<_, ProjectError>(text.trim().to_owned())
        };
        Ok(Relation {
            database: call("generate_database_name", "custom_database_name", "database")?,
            schema: call("generate_schema_name", "custom_schema_name", "schema")?,
            identifier: call("generate_alias_name", "custom_alias_name", "alias")?,
        })
    }
}

/// A part of a relation's name as the configuration asks for it.
fn custom<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    match config::text(&node.config, key) {
        // Where a test would store its failures.
        None if key == "schema" && node.is_test() => Some("dbt_test__audit"),
        given => given,
    }
}

pub(super) fn relative(folder: &str, file: &str) -> String {
    file.strip_prefix(folder)
        .unwrap_or(file)
        .trim_start_matches('/')
        .to_owned()
}
