//! Reads a project from its folder: configuration, macros, properties, models, tests, seeds; then
//! resolves what each node reads.

mod generic_tests;
mod nodes;
mod resolve;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use ballpoint_runtime::files::FileStamps;
use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::files::Reader;
use super::node::{Node, Source};
use super::profile::{Target, profiles_file, read_target};
use super::properties::{self, Patch, Properties};
use super::{LoadOptions, Project, TargetChoice, config, naming, yaml};
use crate::error::{Place, ProjectError};
use crate::jinja::context::{Globals, NodeScope, Recorded, Rendering, Resolve, project_scope};
use crate::jinja::engine::Engine;
use crate::jinja::relation::{Relation, RelationValue};

pub(crate) use generic_tests::generic_kwargs;

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

/// The files that a project is made of, as they are now, whether they can be read or not.
pub(super) fn stamps(root: &Path) -> FileStamps {
    let text = std::fs::read_to_string(root.join(PROJECT_FILE)).unwrap_or_default();
    let raw = yaml::parse(&text, PROJECT_FILE.as_ref()).unwrap_or_default();
    let named = [PROJECT_FILE, "packages.yml", ".dbtignore"].map(str::to_owned);
    let names = named.into_iter().chain(Paths::of(&raw).all());
    FileStamps::take(names.map(|name| root.join(name)))
}

pub(super) fn load(options: &LoadOptions) -> Result<Project, ProjectError> {
    let root = &options.project_dir;
    // The stamps are taken first: an edit during the read makes the project stale, not wrong.
    let stamps = stamps(root);
    let reader = Reader::new(root)?;
    let text = reader.text(PROJECT_FILE)?;
    let raw = yaml::parse(&text, PROJECT_FILE.as_ref())?;
    let paths = Paths::of(&raw);
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
        stamps,
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
}
