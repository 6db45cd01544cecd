//! Reads a project from its folder: configuration, packages, macros, properties, nodes; then
//! resolves what each node reads.

mod generic_tests;
mod nodes;
mod others;
mod packages;
mod rendered;
mod resolve;
mod semantics;
mod snapshots;
mod sources;
mod unit_tests;
mod versions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ballpoint_runtime::files::FileStamps;
use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::comment::QueryComment;
use super::node::{Described, Exposure, Node, Source};
use super::profile::{Target, profiles_file, read_target};
use super::properties::{self, Patch, Properties};
use super::semantic::Semantic;
use super::{LoadOptions, Project, TargetChoice, config, naming, yaml};
use crate::error::{Place, ProjectError};
use crate::jinja::context::{
    Globals, NodeScope, Recorded, Rendering, Resolve, package_scope, project_scope,
};
use crate::jinja::engine::{BUILT_IN, Engine};
use crate::jinja::relation::{Quoting, Relation, RelationValue};
use packages::{Package, Paths};

pub(crate) use generic_tests::generic_kwargs;
pub(crate) use packages::{clean_targets, install as install_packages};
pub(super) use resolve::{find_ref, find_source};

const PROJECT_FILE: &str = "dbt_project.yml";

/// What properties files say of nodes, by kind and file.
type Patches = BTreeMap<(&'static str, String), Patch>;

/// While parsing, every name is taken for granted; what is missing is found once all are read.
pub(crate) struct ParseResolver;

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

struct Loader {
    /// The package that is being read; the root project is the last one.
    package: Package,
    /// The root project's name and rendered file.
    root: String,
    root_file: Json,
    engine: Engine,
    globals: Arc<Globals>,
    target: Target,
    quoting: Quoting,
    nodes: BTreeMap<String, Node>,
    sources: BTreeMap<String, Source>,
    exposures: BTreeMap<String, Exposure>,
    semantics: BTreeMap<String, Semantic>,
    groups: Vec<Described>,
    macro_properties: Vec<Described>,
    hooks: [Vec<Node>; 2],
    /// Names of what is disabled, for hints, and unique ids.
    disabled: HashSet<String>,
    disabled_ids: Vec<String>,
    /// What a package says of a node that it has not: of one that stands in for it elsewhere.
    unclaimed: Patches,
    warnings: Vec<String>,
    /// Packages whose names of relations are all dbt's own: no macro makes them.
    plain_names: HashMap<String, bool>,
}

/// The files that a project is made of, as they are now, whether they can be read or not.
pub(super) fn stamps(root: &Path) -> FileStamps {
    let text = std::fs::read_to_string(root.join(PROJECT_FILE)).unwrap_or_default();
    let raw = yaml::parse(&text, PROJECT_FILE.as_ref()).unwrap_or_default();
    let named = [
        PROJECT_FILE,
        "packages.yml",
        "dependencies.yml",
        "selectors.yml",
        ".dbtignore",
    ]
    .map(str::to_owned);
    let names = named.into_iter().chain(Paths::of(&raw).all());
    FileStamps::take(names.map(|name| root.join(name)))
}

pub(super) fn load(options: &LoadOptions) -> Result<Project, ProjectError> {
    let root = &options.project_dir;
    // The stamps are taken first: an edit during the read makes the project stale, not wrong.
    let stamps = stamps(root);
    let main = Package::read(root, "")?;
    packages::check_project_version(&main.raw)?;
    packages::check_version(&main.raw)?;
    let name = main.name.clone();
    let others = packages::installed(root, &main)?;
    let mut engine = Engine::new()?;
    for package in others.iter().chain([&main]) {
        load_macros(package, &mut engine)?;
    }
    packages::search_orders(&main.raw, &engine);
    let mut globals = globals_of(options, &main, &others);
    globals.macros = engine.table.clone();
    let early = Arc::new(globals.clone());
    let target = target_of(options, &main.raw, &engine, &early)?;
    globals.target = target.facts();
    globals.docs = Arc::new(packages::docs(&main, &others)?);
    let globals = Arc::new(globals);
    let place = Place::file(PROJECT_FILE);
    let scope = project_scope(&globals);
    let root_file = yaml::rendered(&without_hooks(&main.raw), &engine, &place, &scope)?;
    let root_quoting = root_file.get("quoting").cloned();
    let selectors = selectors_of(&main)?;
    let query_comment = QueryComment::of(&main.raw);
    let mut loader = Loader {
        package: main,
        root: name.clone(),
        root_file,
        engine,
        globals,
        quoting: Quoting::default().changed(root_quoting.as_ref()),
        target,
        nodes: BTreeMap::new(),
        sources: BTreeMap::new(),
        exposures: BTreeMap::new(),
        semantics: BTreeMap::new(),
        groups: Vec::new(),
        macro_properties: Vec::new(),
        hooks: [Vec::new(), Vec::new()],
        disabled: HashSet::new(),
        unclaimed: Patches::new(),
        disabled_ids: Vec::new(),
        warnings: Vec::new(),
        plain_names: HashMap::new(),
    };
    loader.read_all(others)?;
    let graph = loader.resolve()?;
    let macros: Vec<&str> = loader
        .engine
        .macros
        .iter()
        .map(|known| known.source.as_str())
        .collect();
    let [on_run_start, on_run_end] = loader.hooks;
    Ok(Project {
        macros_digest: naming::md5_hex(&macros.join("\u{0}")),
        name,
        root: root.clone(),
        target: loader.target,
        quoting: loader.quoting,
        nodes: loader.nodes,
        sources: loader.sources,
        exposures: loader.exposures,
        semantics: loader.semantics,
        groups: loader.groups,
        macro_properties: loader.macro_properties,
        docs: loader.globals.docs.clone(),
        on_run_start,
        on_run_end,
        selectors,
        disabled: loader.disabled_ids,
        file: loader.root_file,
        query_comment,
        warnings: loader.warnings,
        engine: loader.engine,
        globals: loader.globals,
        graph,
        graph_value: OnceLock::new(),
        macros_query: OnceLock::new(),
        stamps,
    })
}

fn selectors_of(main: &Package) -> Result<Option<Json>, ProjectError> {
    if !main.reader.exists("selectors.yml") {
        return Ok(None);
    }
    let text = main.reader.text("selectors.yml")?;
    yaml::parse(&text, "selectors.yml".as_ref()).map(Some)
}

fn load_macros(package: &Package, engine: &mut Engine) -> Result<(), ProjectError> {
    let generic = package
        .paths
        .tests
        .iter()
        .map(|folder| format!("{folder}/generic"));
    for folder in package.paths.macros.iter().cloned().chain(generic) {
        for file in package.reader.list(&folder, &["sql"]) {
            let text = package.reader.text(&file)?;
            engine.add_macro_file(&package.name, &package.shown(&file), &text)?;
        }
    }
    Ok(())
}

fn globals_of(options: &LoadOptions, main: &Package, others: &[Package]) -> Globals {
    let vars = packages::vars_of(&main.raw, &main.name);
    let with_given = |mut vars: Map<String, Json>| {
        vars.extend(options.vars.clone());
        vars
    };
    let package_vars = others.iter().map(|package| {
        // The root project's variables beat the package's own.
        let mut own = packages::vars_of(&package.raw, &package.name);
        own.extend(packages::vars_of(&main.raw, &package.name));
        (package.name.clone(), with_given(own))
    });
    Globals {
        package_vars: package_vars.collect(),
        vars: with_given(vars),
        env: Arc::new(options.env.clone()),
        project_name: main.name.clone(),
        full_refresh: options.full_refresh,
        command: options.command.clone(),
        flags: options.flags.clone(),
        invocation_id: options.invocation_id.clone(),
        run_started_at: options.run_started_at.clone(),
        log: options.log.clone(),
        ..Globals::default()
    }
}

fn target_of(
    options: &LoadOptions,
    file: &Json,
    engine: &Engine,
    globals: &Arc<Globals>,
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
        for key in ["on-run-start", "on-run-end", "query-comment", "vars"] {
            map.remove(key);
        }
    }
    file
}

impl Loader {
    /// Reads the packages, then the root project.
    fn read_all(&mut self, others: Vec<Package>) -> Result<(), ProjectError> {
        for mut package in others {
            let place = Place::file(package.shown(PROJECT_FILE));
            let scope = package_scope(&self.globals, &package.name);
            package.file =
                yaml::rendered(&without_hooks(&package.raw), &self.engine, &place, &scope)?;
            let main = std::mem::replace(&mut self.package, package);
            let read = self.read();
            self.package = main;
            read?;
        }
        self.package.file = self.root_file.clone();
        self.read()
    }

    fn read(&mut self) -> Result<(), ProjectError> {
        let paths = self.package.paths.clone();
        let properties = self.read_properties(&paths)?;
        let mut patches = unique(self.with_files(properties.patches, &paths))?;
        for (key, patch) in std::mem::take(&mut self.unclaimed) {
            patches.entry(key).or_insert(patch);
        }
        self.groups.extend(properties.groups);
        self.macro_properties.extend(properties.macros);
        for folder in &paths.models {
            for file in self.package.reader.list(folder, &["sql", "py"]) {
                self.model(folder, &file, &patches)?;
            }
        }
        for folder in &paths.seeds {
            for file in self.package.reader.list(folder, &["csv"]) {
                self.seed(folder, &file, &patches)?;
            }
        }
        for folder in &paths.snapshots {
            for file in self.package.reader.list(folder, &["sql"]) {
                self.snapshot_file(folder, &file, &patches)?;
            }
        }
        for declared in &properties.snapshots {
            self.declared_snapshot(declared, &patches)?;
        }
        for folder in &paths.analyses {
            for file in self.package.reader.list(folder, &["sql"]) {
                self.analysis(folder, &file, &patches)?;
            }
        }
        for folder in &paths.tests {
            let generic = format!("{folder}/generic/");
            let fixtures = format!("{folder}/fixtures/");
            for file in self.package.reader.list(folder, &["sql"]) {
                if !file.starts_with(&generic) && !file.starts_with(&fixtures) {
                    self.singular_test(folder, &file, &patches)?;
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
            let attached = format!(
                "source.{}.{}.{}",
                self.package.name, table.source, table.name
            );
            if !self.sources.contains_key(&attached) {
                continue;
            }
            for test in &table.tests {
                self.generic_test(test, &model, &target, &attached, true)?;
            }
        }
        for exposure in &properties.exposures {
            self.exposure(exposure)?;
        }
        for semantic in &properties.semantics {
            self.semantic(semantic)?;
        }
        for unit in &properties.unit_tests {
            self.unit_test(unit)?;
        }
        patches.retain(|_, patch| self.disabled.contains(&patch.name));
        self.unclaimed = patches;
        self.run_hooks()
    }

    fn read_properties(&mut self, paths: &Paths) -> Result<Properties, ProjectError> {
        let mut all = Properties::default();
        let mut seen = HashSet::new();
        for folder in paths.with_properties() {
            for file in self.package.reader.list(&folder, &["yml", "yaml"]) {
                if !seen.insert(file.clone()) {
                    continue;
                }
                let text = self.package.reader.text(&file)?;
                let shown = self.package.shown(&file);
                let one = properties::read(&self.package.name, &file, &shown, &text)?;
                all.extend(one);
            }
        }
        self.warnings.append(&mut all.warnings);
        Ok(all)
    }

    fn fqn(&self, folder: &str, file: &str) -> Vec<String> {
        let path = file
            .strip_prefix(folder)
            .unwrap_or(file)
            .trim_start_matches('/');
        let path = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
        std::iter::once(self.package.name.as_str())
            .chain(path.split('/'))
            .map(str::to_owned)
            .collect()
    }

    /// What `dbt_project.yml` says of a node: the package's own, then the root project's.
    fn folder_config(&self, section: &str, fqn: &[String]) -> Map<String, Json> {
        let mut settings = config::folder_config(self.package.file.get(section), fqn);
        if self.package.name != self.root {
            config::merge_all(
                &mut settings,
                &config::folder_config(self.root_file.get(section), fqn),
            );
        }
        settings
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
            model: json!({"name": name, "package_name": self.package.name, "config": settings}),
            this: Some(RelationValue::new(relation, None)),
            package: self.package.name.clone(),
            graph: None,
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

    fn is_plain(&mut self) -> bool {
        let name = self.package.name.clone();
        if let Some(plain) = self.plain_names.get(&name) {
            return *plain;
        }
        let table = &self.engine.table;
        let plain = ["schema", "alias", "database"].iter().all(|part| {
            ["", "default__", "postgres__"].iter().all(|prefix| {
                let wanted = format!("{prefix}generate_{part}_name");
                [&name, &self.root]
                    .iter()
                    .all(|package| *package == BUILT_IN || table.find(package, &wanted).is_none())
            })
        });
        self.plain_names.insert(name, plain);
        plain
    }
}

fn unique(all: Vec<Patch>) -> Result<Patches, ProjectError> {
    let mut patches = Patches::new();
    for patch in all {
        let key = (patch.kind, patch.stem.clone());
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
    Ok(patches)
}
