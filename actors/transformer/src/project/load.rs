//! Reads a project from its folder: configuration, macros, properties, models, tests, seeds; then
//! resolves what each node reads.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::files::{Reader, Snapshot};
use super::node::{Materialization, Node, ResourceType, Source, TestMetadata};
use super::profile::{Target, profiles_file, read_target};
use super::properties::{self, Patch, Properties, SourceTable, TestDeclaration};
use super::{LoadOptions, Project, TargetChoice, config, naming, yaml};
use crate::error::{Place, ProjectError, nearest_hint};
use crate::graph::Graph;
use crate::jinja::builtins::mutable;
use crate::jinja::context::{Globals, NodeScope, Recorded, Rendering, Resolve, project_scope};
use crate::jinja::engine::Engine;
use crate::jinja::relation::{Relation, RelationValue};

const PROJECT_FILE: &str = "dbt_project.yml";

/// While parsing, every name is taken for granted; what is missing is found once all are read.
struct ParseResolver;

impl Resolve for ParseResolver {
    fn reference(&self, _: Option<&str>, name: &str) -> Result<RelationValue, String> {
        Ok(RelationValue::new(
            Relation {
                identifier: name.to_owned(),
                ..Relation::default()
            },
            None,
        ))
    }

    fn source(&self, source: &str, table: &str) -> Result<RelationValue, String> {
        let (schema, identifier) = (source.to_owned(), table.to_owned());
        let relation = Relation {
            database: String::new(),
            schema,
            identifier,
        };
        Ok(RelationValue::new(relation, None))
    }
}

/// The folders of a project.
struct Paths {
    models: Vec<String>,
    seeds: Vec<String>,
    tests: Vec<String>,
    macros: Vec<String>,
}

impl Paths {
    fn of(file: &Json) -> Self {
        let list = |key: &str, default: &str| match file.get(key).and_then(Json::as_array) {
            Some(items) => items
                .iter()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect(),
            None => vec![default.to_owned()],
        };
        Self {
            models: list("model-paths", "models"),
            seeds: list("seed-paths", "seeds"),
            tests: list("test-paths", "tests"),
            macros: list("macro-paths", "macros"),
        }
    }

    fn all(&self) -> Vec<String> {
        let all = [&self.models, &self.seeds, &self.tests, &self.macros];
        all.into_iter()
            .flatten()
            .cloned()
            .chain(["dbt_packages".to_owned()])
            .collect()
    }
}

struct Loader {
    reader: Reader,
    name: String,
    file: Json,
    engine: Engine,
    globals: Arc<Globals>,
    target: Target,
    nodes: BTreeMap<String, Node>,
    sources: BTreeMap<String, Source>,
    disabled: HashSet<String>,
    warnings: Vec<String>,
}

pub(super) fn load(options: &LoadOptions) -> Result<Project, ProjectError> {
    let root = &options.project_dir;
    // The snapshot is taken first: an edit during the read makes the project stale, not wrong.
    let reader = Reader::new(root)?;
    let text = reader.text(PROJECT_FILE)?;
    let raw = yaml::parse(&text, PROJECT_FILE.as_ref())?;
    let paths = Paths::of(&raw);
    let snapshot = Snapshot::take(root, &paths.all());
    let name = raw
        .get("name")
        .and_then(Json::as_str)
        .map(str::to_owned)
        .ok_or_else(|| ProjectError::Yaml {
            place: Place::file(PROJECT_FILE),
            message: "has no 'name'".into(),
        })?;
    let mut engine = Engine::new()?;
    load_macros(&reader, &name, &paths, &mut engine)?;
    let mut globals = globals_of(options, &raw, &name);
    let target = target_of(options, &raw, &engine, &globals)?;
    globals.target = target.facts();
    let place = Place::file(PROJECT_FILE);
    let file = yaml::rendered(
        &without_hooks(&raw),
        &engine,
        &place,
        &project_scope(&globals),
    )?;
    let mut loader = Loader {
        reader,
        name,
        file,
        engine,
        globals: Arc::new(globals),
        target,
        nodes: BTreeMap::new(),
        sources: BTreeMap::new(),
        disabled: HashSet::new(),
        warnings: Vec::new(),
    };
    for hook in ["on-run-start", "on-run-end"] {
        if raw
            .get(hook)
            .is_some_and(|hooks| !hooks.is_null() && hooks != &json!([]))
        {
            let place = Place::find(PROJECT_FILE, &text, hook);
            return Err(ProjectError::Unsupported {
                place,
                what: format!("the hook {hook}"),
            });
        }
    }
    loader.read(&paths)?;
    let graph = loader.resolve()?;
    let macros: Vec<&str> = loader
        .engine
        .macros
        .iter()
        .map(|known| known.source.as_str())
        .collect();
    Ok(Project {
        macros_digest: naming::md5_hex(&macros.join("\u{0}")),
        name: loader.name,
        root: root.clone(),
        target: loader.target,
        nodes: loader.nodes,
        sources: loader.sources,
        warnings: loader.warnings,
        engine: loader.engine,
        globals: loader.globals,
        graph,
        folders: paths.all(),
        snapshot,
    })
}

fn load_macros(
    reader: &Reader,
    project: &str,
    paths: &Paths,
    engine: &mut Engine,
) -> Result<(), ProjectError> {
    let packages: HashSet<String> = reader
        .list("dbt_packages", &["yml"])
        .into_iter()
        .filter_map(|file| file.strip_suffix("/dbt_project.yml").map(str::to_owned))
        .filter(|folder| folder.matches('/').count() == 1)
        .collect();
    for folder in packages {
        let yml = reader.text(&format!("{folder}/{PROJECT_FILE}"))?;
        let yml = yaml::parse(&yml, format!("{folder}/{PROJECT_FILE}").as_ref())?;
        let package = yml
            .get("name")
            .and_then(Json::as_str)
            .unwrap_or(&folder)
            .to_owned();
        for file in reader.list(&format!("{folder}/macros"), &["sql"]) {
            engine.add_macro_file(&package, &file, &reader.text(&file)?)?;
        }
    }
    let generic = paths.tests.iter().map(|folder| format!("{folder}/generic"));
    for folder in paths.macros.iter().cloned().chain(generic) {
        for file in reader.list(&folder, &["sql"]) {
            engine.add_macro_file(project, &file, &reader.text(&file)?)?;
        }
    }
    Ok(())
}

fn globals_of(options: &LoadOptions, file: &Json, name: &str) -> Globals {
    let mut vars = Map::new();
    if let Some(declared) = file.get("vars").and_then(Json::as_object) {
        vars.extend(
            declared
                .iter()
                .filter(|(key, _)| *key != name)
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        if let Some(own) = declared.get(name).and_then(Json::as_object) {
            vars.extend(own.clone());
        }
    }
    vars.extend(options.vars.clone());
    Globals {
        vars,
        env: options.env.clone(),
        target: Map::new(),
        project_name: name.to_owned(),
        full_refresh: options.full_refresh,
        command: options.command.clone(),
        invocation_id: options.invocation_id.clone(),
        run_started_at: options.run_started_at.clone(),
    }
}

fn target_of(
    options: &LoadOptions,
    file: &Json,
    engine: &Engine,
    globals: &Globals,
) -> Result<Target, ProjectError> {
    let (dir, profile, target) = match &options.target {
        TargetChoice::Explicit(target) => return Ok(target.clone()),
        TargetChoice::Profiles {
            dir,
            profile,
            target,
        } => (dir, profile, target),
    };
    let place = Place::file(PROJECT_FILE);
    let declared = file.get("profile").cloned().unwrap_or_default();
    let declared = yaml::rendered(&declared, engine, &place, &project_scope(globals))?;
    let profile = profile.as_deref().or(declared.as_str()).ok_or_else(|| {
        ProjectError::Configuration(format!("{PROJECT_FILE} names no profile; give --profile"))
    })?;
    let profiles =
        profiles_file(dir.as_deref(), &options.project_dir, globals).ok_or_else(|| {
            ProjectError::Configuration(
                "there is no profiles.yml: give --profiles-dir, or put one beside dbt_project.yml"
                    .into(),
            )
        })?;
    read_target(&profiles, profile, target.as_deref(), engine, globals)
}

/// The project file without what is rendered later, in the context of a node.
fn without_hooks(file: &Json) -> Json {
    let mut file = file.clone();
    if let Some(map) = file.as_object_mut() {
        for key in ["on-run-start", "on-run-end", "query-comment"] {
            map.remove(key);
        }
    }
    file
}

impl Loader {
    fn read(&mut self, paths: &Paths) -> Result<(), ProjectError> {
        let properties = self.read_properties(paths)?;
        let mut patches: BTreeMap<(&'static str, String), Patch> = BTreeMap::new();
        for patch in properties.patches {
            let key = (patch.kind, patch.name.clone());
            if let Some(known) = patches.get(&key) {
                return Err(ProjectError::Duplicate {
                    what: "the description of",
                    name: patch.name,
                    first: known.place.clone(),
                    second: patch.place,
                });
            }
            patches.insert(key, patch);
        }
        for folder in &paths.models {
            for file in self.reader.list(folder, &["sql", "py"]) {
                self.model(folder, &file, &patches)?;
            }
        }
        for folder in &paths.seeds {
            for file in self.reader.list(folder, &["csv"]) {
                self.seed(folder, &file, &patches)?;
            }
        }
        for folder in &paths.tests {
            let generic = format!("{folder}/generic/");
            for file in self.reader.list(folder, &["sql"]) {
                if !file.starts_with(&generic) {
                    self.singular_test(folder, &file)?;
                }
            }
        }
        for table in &properties.sources {
            self.source(table)?;
        }
        for patch in patches.values() {
            self.tests_of_patch(patch)?;
        }
        for table in &properties.sources {
            let model = format!("source('{}', '{}')", table.source, table.name);
            let target = format!("{}_{}", table.source, table.name);
            let attached = format!("source.{}.{}.{}", self.name, table.source, table.name);
            for test in &table.tests {
                self.generic_test(test, &model, &target, &attached, true)?;
            }
        }
        Ok(())
    }

    fn read_properties(&mut self, paths: &Paths) -> Result<Properties, ProjectError> {
        let mut all = Properties::default();
        for folder in paths.models.iter().chain(&paths.seeds) {
            for file in self.reader.list(folder, &["yml", "yaml"]) {
                let one = properties::read(&file, &self.reader.text(&file)?)?;
                all.patches.extend(one.patches);
                all.sources.extend(one.sources);
                self.warnings.extend(one.warnings);
            }
        }
        Ok(all)
    }

    fn fqn(&self, folder: &str, file: &str) -> Vec<String> {
        let path = file
            .strip_prefix(folder)
            .unwrap_or(file)
            .trim_start_matches('/');
        let path = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
        std::iter::once(self.name.as_str())
            .chain(path.split('/'))
            .map(str::to_owned)
            .collect()
    }

    fn rendered_config(
        &self,
        config: &Map<String, Json>,
        place: &Place,
    ) -> Result<Map<String, Json>, ProjectError> {
        let rendered = yaml::rendered(
            &Json::Object(config.clone()),
            &self.engine,
            place,
            &project_scope(&self.globals),
        )?;
        Ok(rendered.as_object().cloned().unwrap_or_default())
    }

    fn model(
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

    fn seed(
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

    fn singular_test(&mut self, folder: &str, file: &str) -> Result<(), ProjectError> {
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

    fn test_config(&self, fqn: &[String]) -> Map<String, Json> {
        let mut settings = config::folder_config(self.file.get("tests"), fqn);
        config::merge_all(
            &mut settings,
            &config::folder_config(self.file.get("data_tests"), fqn),
        );
        settings
    }

    fn tests_of_patch(&mut self, patch: &Patch) -> Result<(), ProjectError> {
        let attached = format!("{}.{}.{}", patch.kind, self.name, patch.name);
        if !self.nodes.contains_key(&attached) {
            if !self.disabled.contains(&patch.name) {
                let message = format!(
                    "{}: there is no {} named '{}'{}",
                    patch.place,
                    patch.kind,
                    patch.name,
                    nearest_hint(
                        &patch.name,
                        self.nodes.values().map(|node| node.name.as_str())
                    ),
                );
                self.warnings.push(message);
            }
            return Ok(());
        }
        for test in &patch.tests {
            let model = format!("ref('{}')", patch.name);
            self.generic_test(test, &model, &patch.name, &attached, false)?;
        }
        Ok(())
    }

    fn generic_test(
        &mut self,
        declared: &TestDeclaration,
        model: &str,
        target: &str,
        attached: &str,
        of_source: bool,
    ) -> Result<(), ProjectError> {
        let macro_name = format!("test_{}", declared.test);
        if !self.engine.has_macro(&macro_name) {
            let known = self
                .engine
                .macros
                .iter()
                .filter_map(|known| known.name.strip_prefix("test_"));
            return Err(ProjectError::Yaml {
                message: format!(
                    "there is no test '{}'{}",
                    declared.test,
                    nearest_hint(&declared.test, known)
                ),
                place: declared.place.clone(),
            });
        }
        let mut kwargs = declared.arguments.clone();
        kwargs.insert(
            "model".into(),
            format!("{{{{ get_where_subquery({model}) }}}}").into(),
        );
        let test_type = match (&declared.namespace, of_source) {
            (namespace, true) => {
                prefixed(namespace.as_deref(), &format!("source_{}", declared.test))
            }
            (namespace, false) => prefixed(namespace.as_deref(), &declared.test),
        };
        let (short, name) = match &declared.custom_name {
            Some(name) => (name.clone(), name.clone()),
            None => naming::generic_test_names(&test_type, target, &kwargs),
        };
        let hash = naming::test_hash(
            &name,
            &declared.test,
            declared.namespace.as_deref(),
            &kwargs,
        );
        let unique_id = format!("test.{}.{name}.{hash}", self.name);
        let file = declared.place.file.to_string_lossy().into_owned();
        let mut fqn = self.fqn("", file.split_once('/').map_or("", |(_, rest)| rest));
        fqn.pop();
        fqn.push(name.clone());
        let mut settings = self.test_config(&fqn);
        config::merge_all(
            &mut settings,
            &self.rendered_config(&declared.config, &declared.place)?,
        );
        if config::flag(&settings, "enabled") == Some(false) {
            return Ok(());
        }
        let call = prefixed_call(declared.namespace.as_deref(), &macro_name);
        let raw_code = format!("{{{{ {call}(**_dbt_generic_test_kwargs) }}}}");
        // A name in angle brackets is no file: errors show the place of the declaration.
        let template = format!("<{unique_id}>");
        self.engine.add_template(&template, &raw_code)?;
        let metadata = TestMetadata {
            name: declared.test.clone(),
            namespace: declared.namespace.clone(),
            kwargs,
        };
        let recorded =
            self.parse_generic(&template, &declared.place, &name, &settings, &metadata)?;
        config::merge_all(&mut settings, &recorded.config);
        if short != name {
            settings
                .entry("alias".to_owned())
                .or_insert_with(|| short.clone().into());
        }
        let mut node = self.node(
            unique_id,
            ResourceType::Test,
            Materialization::Test,
            name,
            fqn,
        );
        node.path = format!("{short}.sql");
        node.raw_code = raw_code;
        node.config = settings;
        node.test = Some(metadata);
        node.column_name = declared.column.clone();
        node.attached_node = Some(attached.to_owned());
        node.description = declared.description.clone();
        node.template = template;
        self.finish(node, &file, declared.place.clone(), None, recorded)
    }

    fn parse_generic(
        &self,
        template: &str,
        place: &Place,
        name: &str,
        settings: &Map<String, Json>,
        metadata: &TestMetadata,
    ) -> Result<Recorded, ProjectError> {
        let scope = self.scope(name, settings, Vec::new());
        let kwargs = generic_kwargs(&self.engine, metadata, place, &scope.value())?;
        let with_kwargs = self.scope(
            name,
            settings,
            vec![("_dbt_generic_test_kwargs".to_owned(), kwargs)],
        );
        self.engine.render(template, place, with_kwargs.value())?;
        let (mut all, more) = (scope.recorded(), with_kwargs.recorded());
        all.refs.extend(more.refs);
        all.sources.extend(more.sources);
        config::merge_all(&mut all.config, &more.config);
        Ok(all)
    }

    fn scope(
        &self,
        name: &str,
        settings: &Map<String, Json>,
        extra: Vec<(String, Value)>,
    ) -> Arc<NodeScope> {
        let relation = Relation {
            database: self.target.database.clone(),
            schema: self.target.schema.clone(),
            identifier: name.to_owned(),
        };
        NodeScope::new(Rendering {
            globals: self.globals.clone(),
            resolve: Arc::new(ParseResolver),
            queries: None,
            execute: false,
            incremental: false,
            config: settings.clone(),
            model: json!({"name": name, "package_name": self.name, "config": settings}),
            this: Some(RelationValue::new(relation, None)),
            extra,
        })
    }

    fn parse(
        &self,
        template: &str,
        place: &Place,
        name: &str,
        settings: &Map<String, Json>,
        extra: Vec<(String, Value)>,
    ) -> Result<Recorded, ProjectError> {
        let scope = self.scope(name, settings, extra);
        self.engine
            .render(template, &Place::file(&place.file), scope.value())?;
        Ok(scope.recorded())
    }

    fn node(
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

    fn finish(
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

    fn relation(&self, node: &Node) -> Result<Relation, ProjectError> {
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

    fn source(&mut self, table: &SourceTable) -> Result<(), ProjectError> {
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

    /// Turns names into ids, and finds what is missing and what runs in a ring.
    fn resolve(&mut self) -> Result<Graph, ProjectError> {
        let mut resolved: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in self.nodes.values() {
            let mut ids: Vec<String> = Vec::new();
            for (package, name) in &node.refs {
                ids.push(self.resolve_ref(node, package.as_deref(), name)?);
            }
            for (source, table) in &node.sources {
                ids.push(self.resolve_source(node, source, table)?);
            }
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(id.clone()));
            resolved.insert(node.unique_id.clone(), ids);
        }
        for source in self.sources.keys() {
            resolved.entry(source.clone()).or_default();
        }
        let graph = Graph::new(&resolved);
        if let Some(ring) = graph.cycle() {
            let place = self
                .nodes
                .get(&ring[0])
                .map(|node| node.place.clone())
                .unwrap_or_default();
            return Err(ProjectError::Cycle {
                place,
                path: ring.join(" -> "),
            });
        }
        for (id, ids) in resolved {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.depends_on = ids;
            }
        }
        Ok(graph)
    }

    fn place_of(&self, node: &Node, needle: &str) -> Place {
        if node.test.is_some() {
            return node.place.clone();
        }
        let quoted = [format!("'{needle}'"), format!("\"{needle}\"")];
        let found = quoted
            .iter()
            .find(|quoted| node.raw_code.contains(quoted.as_str()));
        match found {
            Some(quoted) => Place::find(&node.original_file_path, &node.raw_code, quoted),
            None => node.place.clone(),
        }
    }

    fn resolve_ref(
        &self,
        node: &Node,
        package: Option<&str>,
        name: &str,
    ) -> Result<String, ProjectError> {
        let package = package.unwrap_or(&self.name);
        ["model", "seed"]
            .iter()
            .map(|kind| format!("{kind}.{package}.{name}"))
            .find(|id| self.nodes.contains_key(id))
            .ok_or_else(|| {
                let known = self.nodes.values().filter(|node| !node.is_test());
                let hint = match self.disabled.contains(name) {
                    true => " (it is disabled)".to_owned(),
                    false => nearest_hint(name, known.map(|node| node.name.as_str())),
                };
                ProjectError::MissingRef {
                    place: self.place_of(node, name),
                    from: node.unique_id.clone(),
                    name: name.to_owned(),
                    hint,
                }
            })
    }

    fn resolve_source(
        &self,
        node: &Node,
        source: &str,
        table: &str,
    ) -> Result<String, ProjectError> {
        let id = format!("source.{}.{source}.{table}", self.name);
        if self.sources.contains_key(&id) {
            return Ok(id);
        }
        let known: Vec<String> = self
            .sources
            .values()
            .map(|source| format!("{}.{}", source.source_name, source.name))
            .collect();
        let name = format!("{source}.{table}");
        Err(ProjectError::MissingSource {
            place: self.place_of(node, table),
            from: node.unique_id.clone(),
            hint: nearest_hint(&name, known.iter().map(String::as_str)),
            name,
        })
    }
}

/// The arguments of a generic test as its macro gets them: texts that are Jinja become values.
pub(crate) fn generic_kwargs(
    engine: &Engine,
    metadata: &TestMetadata,
    place: &Place,
    scope: &Value,
) -> Result<Value, ProjectError> {
    let mut pairs = Vec::new();
    for (name, value) in &metadata.kwargs {
        let value = match value {
            Json::String(text) if text.contains("{{") => {
                engine.native(text, place, scope.clone())?
            }
            // dbt lets `to: ref('x')` and `to: source('a', 'b')` stand without braces.
            Json::String(text) if is_bare_call(text) => {
                engine.native(&format!("{{{{ {text} }}}}"), place, scope.clone())?
            }
            other => mutable(other),
        };
        pairs.push((name.clone(), value));
    }
    Ok(Value::from_pairs(pairs))
}

fn is_bare_call(text: &str) -> bool {
    (text.starts_with("ref(") || text.starts_with("source(")) && text.trim_end().ends_with(')')
}

fn relative(folder: &str, file: &str) -> String {
    file.strip_prefix(folder)
        .unwrap_or(file)
        .trim_start_matches('/')
        .to_owned()
}

fn prefixed(namespace: Option<&str>, test: &str) -> String {
    namespace.map_or_else(
        || test.to_owned(),
        |namespace| format!("{namespace}_{test}"),
    )
}

fn prefixed_call(namespace: Option<&str>, macro_name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{macro_name}"),
        None => macro_name.to_owned(),
    }
}
