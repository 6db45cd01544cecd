//! The root project and the packages it uses: their folders, variables, docs blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::PROJECT_FILE;
use crate::error::{Place, ProjectError};
use crate::jinja::engine::Engine;
use crate::project::files::Reader;
use crate::project::yaml;

/// The folders of a project.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) models: Vec<String>,
    pub(super) seeds: Vec<String>,
    pub(super) snapshots: Vec<String>,
    pub(super) analyses: Vec<String>,
    pub(super) tests: Vec<String>,
    pub(super) macros: Vec<String>,
    pub(super) docs: Vec<String>,
    pub(super) packages: String,
}

impl Paths {
    pub(super) fn of(file: &Json) -> Self {
        let list = |keys: &[&str], default: &[&str]| {
            let given = keys.iter().find_map(|key| file.get(*key)?.as_array());
            match given {
                Some(items) => items
                    .iter()
                    .filter_map(Json::as_str)
                    .map(|path| path.trim_end_matches('/').to_owned())
                    .collect(),
                None => default.iter().map(|path| (*path).to_owned()).collect(),
            }
        };
        Self {
            models: list(&["model-paths", "source-paths"], &["models"]),
            seeds: list(&["seed-paths", "data-paths"], &["seeds"]),
            snapshots: list(&["snapshot-paths"], &["snapshots"]),
            analyses: list(&["analysis-paths"], &["analyses"]),
            tests: list(&["test-paths"], &["tests"]),
            macros: list(&["macro-paths"], &["macros"]),
            docs: list(&["docs-paths"], &[]),
            packages: file
                .get("packages-install-path")
                .and_then(Json::as_str)
                .unwrap_or("dbt_packages")
                .to_owned(),
        }
    }

    fn sources(&self) -> impl Iterator<Item = &String> {
        [
            &self.models,
            &self.seeds,
            &self.snapshots,
            &self.analyses,
            &self.macros,
            &self.tests,
        ]
        .into_iter()
        .flatten()
    }

    /// Folders whose YAML files are properties.
    pub(super) fn with_properties(&self) -> Vec<String> {
        self.sources().cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<String> {
        let packages = std::iter::once(&self.packages);
        self.sources()
            .chain(&self.docs)
            .chain(packages)
            .cloned()
            .collect()
    }
}

/// A project or package as its files are.
pub(super) struct Package {
    pub(super) name: String,
    /// The folder within the root project; empty for the project itself.
    pub(super) folder: String,
    pub(super) reader: Reader,
    /// The project file as it is written, and rendered once the target is known.
    pub(super) raw: Json,
    pub(super) file: Json,
    pub(super) paths: Paths,
}

impl Package {
    pub(super) fn read(root: &Path, folder: &str) -> Result<Self, ProjectError> {
        let home = root.join(folder);
        let reader = Reader::new(&home)?;
        let shown = within(folder, PROJECT_FILE);
        let text = match reader.text(PROJECT_FILE) {
            Err(ProjectError::Read { reason, .. }) => {
                let place = Place::file(&shown);
                return Err(ProjectError::Read { place, reason });
            }
            text => text?,
        };
        let raw = yaml::parse(&text, shown.as_ref())?;
        let name = raw.get("name").and_then(Json::as_str).map(str::to_owned);
        let name = name.ok_or_else(|| ProjectError::Yaml {
            place: Place::file(&shown),
            message: "has no 'name'".into(),
        })?;
        Ok(Self {
            name,
            folder: folder.to_owned(),
            reader,
            paths: Paths::of(&raw),
            file: Json::Null,
            raw,
        })
    }

    /// A file of the package as messages and templates name it: from the root project's folder.
    pub(super) fn shown(&self, file: &str) -> String {
        within(&self.folder, file)
    }
}

fn within(folder: &str, file: &str) -> String {
    match folder.is_empty() {
        true => file.to_owned(),
        false => format!("{folder}/{file}"),
    }
}

/// The packages that are installed, and those that `packages.yml` names by a local folder.
pub(super) fn installed(root: &Path, main: &Package) -> Result<Vec<Package>, ProjectError> {
    let mut found: BTreeMap<String, Package> = BTreeMap::new();
    let mut folders = Vec::new();
    if let Ok(entries) = std::fs::read_dir(root.join(&main.paths.packages)) {
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            folders.push(format!("{}/{name}", main.paths.packages));
        }
    }
    folders.sort();
    let declared = declared(&main.reader)?;
    folders.extend(declared.iter().filter_map(|package| package.local.clone()));
    while let Some(folder) = folders.pop() {
        if !root.join(&folder).join(PROJECT_FILE).is_file() {
            continue;
        }
        let package = Package::read(root, &folder)?;
        if package.name == main.name || found.contains_key(&package.name) {
            continue;
        }
        // A package's own local packages: from the root project, as dbt has it, or else beside it.
        for inner in super::packages::declared(&package.reader)? {
            let is_there = |local: &String| root.join(local).join(PROJECT_FILE).is_file();
            folders.extend(inner.local.map(|local| match is_there(&local) {
                true => local,
                false => format!("{folder}/{local}"),
            }));
        }
        found.insert(package.name.clone(), package);
    }
    if found.len() < declared.len() && declared.iter().any(|package| package.local.is_none()) {
        return Err(ProjectError::Configuration(format!(
            "dbt found {} package(s) specified in packages.yml, but only {} package(s) installed in \
             {}. Run \"dbt deps\" to install package dependencies.",
            declared.len(),
            found.len(),
            main.paths.packages
        )));
    }
    Ok(found.into_values().collect())
}

/// A package that a project asks for.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    /// Its folder, when it is a local one.
    pub(crate) local: Option<String>,
    /// What is written, for messages.
    pub(crate) shown: String,
}

/// What `packages.yml` and `dependencies.yml` ask for.
pub(crate) fn declared(reader: &Reader) -> Result<Vec<Declared>, ProjectError> {
    let mut all = Vec::new();
    for file in ["packages.yml", "dependencies.yml"] {
        if !reader.exists(file) {
            continue;
        }
        let parsed = yaml::parse(&reader.text(file)?, file.as_ref())?;
        let packages = parsed.get("packages").and_then(Json::as_array);
        for package in packages.into_iter().flatten() {
            let text = |key: &str| package.get(key).and_then(Json::as_str).map(str::to_owned);
            let shown = ["local", "package", "git", "tarball"].iter();
            all.push(Declared {
                local: text("local"),
                shown: shown.filter_map(|key| text(key)).next().unwrap_or_default(),
            });
        }
    }
    Ok(all)
}

/// The variables that a project file gives to a package: those for all, then its own.
pub(super) fn vars_of(file: &Json, package: &str) -> Map<String, Json> {
    let mut vars = Map::new();
    if let Some(declared) = file.get("vars").and_then(Json::as_object) {
        let general = declared.iter().filter(|(key, _)| *key != package);
        vars.extend(general.map(|(key, value)| (key.clone(), value.clone())));
        if let Some(own) = declared.get(package).and_then(Json::as_object) {
            vars.extend(own.clone());
        }
    }
    vars
}

/// `dispatch:` of the project file.
pub(super) fn search_orders(file: &Json, engine: &Engine) {
    let orders = file.get("dispatch").and_then(Json::as_array);
    for order in orders.into_iter().flatten() {
        let namespace = order.get("macro_namespace").and_then(Json::as_str);
        let packages = order.get("search_order").and_then(Json::as_array);
        if let (Some(namespace), Some(packages)) = (namespace, packages) {
            let names = packages.iter().filter_map(Json::as_str).map(str::to_owned);
            engine.table.set_search_order(namespace, names.collect());
        }
    }
}

/// The `{% docs %}` blocks of every package, by package and name.
pub(super) fn docs(
    main: &Package,
    others: &[Package],
) -> Result<BTreeMap<(String, String), String>, ProjectError> {
    let mut docs = BTreeMap::new();
    for package in others.iter().chain([main]) {
        let folders = match package.paths.docs.is_empty() {
            true => package.paths.with_properties(),
            false => package.paths.docs.clone(),
        };
        for folder in folders {
            for file in package.reader.list(&folder, &["md"]) {
                let text = package.reader.text(&file)?;
                for (name, content) in docs_blocks(&text) {
                    docs.insert((package.name.clone(), name), content);
                }
            }
        }
    }
    Ok(docs)
}

/// A docs block's text is not Jinja: it may hold anything but its end.
fn docs_blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{%") {
        let tag = rest[open + 2..].trim_start_matches('-').trim_start();
        let Some(close) = rest[open..].find("%}").map(|at| open + at + 2) else {
            break;
        };
        let name = tag
            .strip_prefix("docs")
            .filter(|name| name.starts_with(' '));
        let Some(name) = name else {
            rest = &rest[close..];
            continue;
        };
        let name = name.split("%}").next().unwrap_or_default();
        let name = name.trim().trim_end_matches('-').trim().to_owned();
        let body = &rest[close..];
        let Some((end, after)) = end_of_docs(body) else {
            break;
        };
        blocks.push((name, body[..end].trim().to_owned()));
        rest = &body[after..];
    }
    blocks
}

fn end_of_docs(body: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(open) = body[from..].find("{%").map(|at| from + at) {
        let close = body[open..].find("%}").map(|at| open + at + 2)?;
        let tag = body[open + 2..close - 2].trim_matches(['-', ' ', '\n', '\t', '\r']);
        if tag == "enddocs" {
            return Some((open, close));
        }
        from = open + 2;
    }
    None
}

/// `version` of the project: a number, or a text such as `1.0` or `1.0.0-rc.1`.
///
/// # Errors
/// When it is another text: dbt refuses the project.
pub(super) fn check_project_version(file: &Json) -> Result<(), ProjectError> {
    match file.get("version") {
        None | Some(Json::Null | Json::Number(_)) => Ok(()),
        Some(Json::String(text)) if is_version(text) => Ok(()),
        Some(other) => Err(ProjectError::Configuration(format!(
            "{PROJECT_FILE}: the project's version {other} is neither a number nor a text such as \
             '1.0' or '1.0.0'"
        ))),
    }
}

fn is_version(text: &str) -> bool {
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let parts: Vec<&str> = numbers.split('.').collect();
    let is_number = |part: &&str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits && (part.len() == 1 || !part.starts_with('0'))
    };
    parts.iter().all(is_number) && (parts.len() == 3 || parts.len() == 2 && rest.is_empty())
}

/// `require-dbt-version`: the dbt whose behaviour is followed must be one of those.
pub(super) fn check_version(file: &Json) -> Result<(), ProjectError> {
    let wanted: Vec<String> = match file.get("require-dbt-version") {
        Some(Json::String(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Some(Json::Array(items)) => items
            .iter()
            .filter_map(Json::as_str)
            .flat_map(|text| text.split(','))
            .map(|part| part.trim().to_owned())
            .collect(),
        _ => Vec::new(),
    };
    let ours = version(crate::artifacts::DBT_VERSION);
    for range in &wanted {
        let (operator, text) =
            range.split_at(range.find(|c: char| c.is_ascii_digit()).unwrap_or(0));
        let other = version(text);
        let holds = match operator.trim() {
            ">=" => ours >= other,
            ">" => ours > other,
            "<=" => ours <= other,
            "<" => ours < other,
            "!=" => ours != other,
            "" | "=" | "==" => ours == other,
            _ => true,
        };
        if !holds {
            return Err(ProjectError::Configuration(format!(
                "{PROJECT_FILE}: this project requires dbt {}, and this is the behaviour of dbt {}; \
                 change require-dbt-version",
                wanted.join(", "),
                crate::artifacts::DBT_VERSION
            )));
        }
    }
    Ok(())
}

fn version(text: &str) -> Vec<u64> {
    let mut parts: Vec<u64> = text
        .split(['.', '-', 'a', 'b', 'r'])
        .take(3)
        .map(|part| part.parse().unwrap_or(0))
        .collect();
    parts.resize(3, 0);
    parts
}

/// Makes the folder of installed packages hold links to the local ones: all that `dbt deps` can do
/// without a network.
///
/// # Errors
/// When a package is neither local nor there already, or a link cannot be made.
pub(crate) fn install(root: &Path) -> Result<Vec<String>, ProjectError> {
    let main = Package::read(root, "")?;
    let folder = root.join(&main.paths.packages);
    let unwritable = |path: &Path, error: std::io::Error| ProjectError::Read {
        place: Place::file(path),
        reason: error.to_string(),
    };
    let mut lines = Vec::new();
    for package in declared(&main.reader)? {
        let Some(local) = package.local else {
            let name = package.shown.rsplit('/').next().unwrap_or_default();
            let name = name.trim_end_matches(".git");
            if vendored(&folder, name) {
                lines.push(format!(
                    "Using {} as it is in {}",
                    package.shown, main.paths.packages
                ));
                continue;
            }
            return Err(ProjectError::Unsupported {
                place: Place::file("packages.yml"),
                what: format!(
                    "downloading package '{}': put it into {}/{name}, which",
                    package.shown, main.paths.packages
                ),
            });
        };
        let source = root.join(&local);
        let inner = Package::read(root, &local)?;
        std::fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, error))?;
        let link: PathBuf = folder.join(&inner.name);
        if std::fs::symlink_metadata(&link).is_err() {
            let target = source
                .canonicalize()
                .map_err(|error| unwritable(&source, error))?;
            std::os::unix::fs::symlink(target, &link).map_err(|error| unwritable(&link, error))?;
        }
        lines.push(format!("Installing {local}"));
        lines.push(format!("Installed from <local @ {local}>"));
    }
    Ok(lines)
}

/// What `clean` deletes, and the folders of sources that it never may.
///
/// # Errors
/// When the project file cannot be read.
pub(crate) fn clean_targets(root: &Path) -> Result<(Vec<String>, Vec<String>), ProjectError> {
    let main = Package::read(root, "")?;
    let given = main.raw.get("clean-targets").and_then(Json::as_array);
    let targets = match given {
        Some(items) => items
            .iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect(),
        None => {
            let target = main.raw.get("target-path").and_then(Json::as_str);
            vec![target.unwrap_or("target").to_owned()]
        }
    };
    Ok((targets, main.paths.with_properties()))
}

fn vendored(folder: &Path, name: &str) -> bool {
    let plain = |name: &str| name.replace('-', "_");
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| plain(&entry.file_name().to_string_lossy()) == plain(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docs_block_may_hold_what_is_no_jinja() {
        let text = "# x {{ not jinja \n{% docs one %}\nA {{ b %} c\n{% enddocs %}{% docs two -%}2{%- enddocs %}";
        let blocks = docs_blocks(text);
        assert_eq!(blocks[0], ("one".to_owned(), "A {{ b %} c".to_owned()));
        assert_eq!(blocks[1], ("two".to_owned(), "2".to_owned()));
    }

    #[test]
    fn a_package_s_own_variables_beat_those_for_all() {
        let file = serde_json::json!({"vars": {"a": 1, "b": 1, "p": {"b": 2}}});
        assert_eq!(vars_of(&file, "p")["b"], 2);
        assert_eq!(vars_of(&file, "p")["a"], 1);
    }

    #[test]
    fn the_version_of_a_project_is_a_number_or_reads_like_one() {
        for text in ["1.0", "1.2.3", "1.0.0-rc.1", "0.1.0+build"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["1", "x", "01.0", "1.2.3.4", "1.0-rc", ""] {
            assert!(!is_version(text), "{text}");
        }
        let number = serde_json::json!({"version": 1});
        assert!(check_project_version(&number).is_ok());
    }

    #[test]
    fn a_version_that_is_not_this_one_is_refused() {
        let file = |range: &str| serde_json::json!({"require-dbt-version": range});
        assert!(check_version(&file(">=1.3.0,<2.0.0")).is_ok());
        assert!(check_version(&file(">=2.0.0")).is_err());
    }
}
