//! Models, seeds, singular tests and analyses: a file each becomes a node.

use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::unit_tests::{Input, input};
use super::{Loader, Patches, config, versions};
use crate::error::{Place, ProjectError};
use crate::jinja::builtins::mutable;
use crate::jinja::context::{Recorded, package_scope};
use crate::jinja::relation::{Quoting, Relation};
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::properties::Patch;

/// A model, a singular test or an analysis, as its file and its configuration have it.
struct Query<'p> {
    resource_type: ResourceType,
    unique_id: String,
    name: String,
    fqn: Vec<String>,
    /// Within the package.
    file: String,
    /// In messages, and the name of its template.
    shown: String,
    raw_code: String,
    settings: Map<String, Json>,
    patch: Option<&'p Patch>,
    recorded: Recorded,
}

impl Loader {
    pub(super) fn model(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        if file.ends_with(".py") {
            return Err(ProjectError::Unsupported {
                place: Place::line(self.package.shown(file), 1),
                what: "a Python model".into(),
            });
        }
        let fqn = self.fqn(folder, file);
        let settings = self.folder_config("models", &fqn);
        let Some(query) = self.query(ResourceType::Model, file, fqn, settings, patches)? else {
            return Ok(());
        };
        let (shown, raw_code) = (&query.shown, &query.raw_code);
        let materialization =
            self.materialization(&query.settings, shown, raw_code, &query.name)?;
        if config::text(&query.settings, "incremental_strategy") == Some("microbatch") {
            return Err(ProjectError::Unsupported {
                place: Place::find(shown, raw_code, "microbatch"),
                what: format!(
                    "the incremental strategy 'microbatch' of model '{}'",
                    query.name
                ),
            });
        }
        self.finish_query(query, materialization, relative(folder, file))
    }

    /// A file with a query, parsed; nothing if it is disabled.
    fn query<'p>(
        &mut self,
        resource_type: ResourceType,
        file: &str,
        mut fqn: Vec<String>,
        mut settings: Map<String, Json>,
        patches: &'p Patches,
    ) -> Result<Option<Query<'p>>, ProjectError> {
        let shown = self.package.shown(file);
        let raw_code = self.package.reader.text(file)?;
        let mut name = fqn.last().cloned().unwrap_or_default();
        let patch = patches.get(&(resource_type.name(), name.clone()));
        let version = patch.and_then(|patch| patch.version.as_ref());
        if let (Some(patch), Some(version)) = (patch, version) {
            name.clone_from(&patch.name);
            fqn.pop();
            fqn.extend([name.clone(), version.label()]);
        }
        self.merge_patch(&mut settings, patch)?;
        self.engine.add_template(&shown, &raw_code)?;
        let place = Place::line(&shown, 1);
        let recorded = self.parse(&shown, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let full_name = versions::full_name(&name, version);
        let unique_id = format!("{}.{}.{full_name}", resource_type.name(), self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(None);
        }
        Ok(Some(Query {
            resource_type,
            unique_id,
            name,
            fqn,
            file: file.to_owned(),
            shown,
            raw_code,
            settings,
            patch,
            recorded,
        }))
    }

    fn finish_query(
        &mut self,
        query: Query<'_>,
        materialization: Materialization,
        path: String,
    ) -> Result<(), ProjectError> {
        let (id, kind) = (query.unique_id, query.resource_type);
        let mut node = self.node(id, kind, materialization, query.name, query.fqn);
        node.path = path;
        node.raw_code = query.raw_code;
        node.config = query.settings;
        node.version = query.patch.and_then(|patch| patch.version.clone());
        let place = Place::line(&query.shown, 1);
        self.finish(node, &query.file, place, query.patch, query.recorded)
    }

    fn materialization(
        &self,
        settings: &Map<String, Json>,
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
        settings: &mut Map<String, Json>,
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
        settings: &Map<String, Json>,
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
        let fqn = self.fqn(folder, file);
        let settings = self.test_config(&fqn);
        match self.query(ResourceType::Test, file, fqn, settings, patches)? {
            Some(query) => self.finish_query(query, Materialization::Test, relative(folder, file)),
            None => Ok(()),
        }
    }

    pub(super) fn analysis(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let mut fqn = self.fqn(folder, file);
        fqn.insert(1, "analysis".to_owned());
        let settings = self.folder_config("analyses", &fqn);
        let path = format!("analysis/{}", relative(folder, file));
        match self.query(ResourceType::Analysis, file, fqn, settings, patches)? {
            Some(query) => self.finish_query(query, Materialization::Nothing, path),
            None => Ok(()),
        }
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
            quoting: self.quoting,
            time_spine: None,
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
            version: None,
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
            node.columns = self.columns(&patch.columns, &patch.place)?;
            node.time_spine.clone_from(&patch.time_spine);
            node.constraints = self.rendered_list(&patch.constraints, &patch.place)?;
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
                Input::Metric(_) | Input::This => {}
            }
        }
        node.quoting = self.quoting_of(&node);
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
            .filter(|text| text.contains("{{") || text.contains("{%"))
            .map(str::to_owned)
            .collect();
        for text in &texts {
            let scope = self.scope(&node.name, &node.config, Vec::new());
            let rendered = self.engine.render_text(text, &node.place, scope.value());
            let recorded = scope.recorded();
            for (package, name) in &recorded.macros {
                let id = format!("macro.{package}.{name}");
                if !node.depends_on_macros.contains(&id) {
                    node.depends_on_macros.push(id);
                }
            }
            // What reads nothing is rendered when it runs, and says then what is wrong with it.
            if !text.contains("ref(") && !text.contains("source(") {
                continue;
            }
            rendered?;
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
                identifier: match custom(node, "alias") {
                    Some(alias) => alias.trim().to_owned(),
                    None => {
                        versions::plain_name(&node.name, node.version.as_ref()).replace('.', "_")
                    }
                },
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
        Ok(relation.folded(self.quoting_of(node)))
    }

    /// Which parts of a node's name are quoted: as it says itself, or else its project.
    pub(super) fn quoting_of(&self, node: &Node) -> Quoting {
        self.quoting.changed(node.config.get("quoting"))
    }

    fn named_by_macros(&self, node: &Node) -> Result<Relation, ProjectError> {
        let facts = mutable(&json!({
            "name": node.name, "resource_type": node.resource_type.name(), "fqn": node.fqn,
            "package_name": node.package, "path": node.path, "config": node.config,
            "unique_id": node.unique_id, "original_file_path": node.original_file_path,
            "version": node.version.as_ref().map(|it| &it.version), "tags": node.tags,
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
