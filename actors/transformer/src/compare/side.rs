//! One side of a comparison: a copy of the project, a profile, a program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value as Json;

use super::CompareError;
use crate::cli::{self, CliEnv};
use crate::project::profile::Target;

/// Folders of a project that commands write into.
const WRITTEN: &[&str] = &["target", "logs", ".git", "node_modules", ".venv"];

/// What names a project's packages.
const PACKAGE_FILES: [&str; 2] = ["packages.yml", "dependencies.yml"];

/// What runs dbt's commands.
#[derive(Clone, Debug)]
pub enum Program {
    /// Real dbt.
    Dbt(PathBuf),
    /// Our program.
    Ballpoint(PathBuf),
    /// This crate, without a process of its own.
    InProcess(Box<CliEnv>),
}

/// A copy of a project and a database to build it in.
#[derive(Debug)]
pub struct Side {
    program: Program,
    folder: PathBuf,
    flags: Vec<String>,
}

/// What a command did.
pub(super) struct Ran {
    pub(super) success: bool,
    pub(super) seconds: f64,
    pub(super) output: String,
    pub(super) results: Option<Json>,
    pub(super) manifest: Option<Json>,
}

fn files_error(what: &Path, error: &std::io::Error) -> CompareError {
    CompareError::Files {
        what: what.display().to_string(),
        reason: error.to_string(),
    }
}

fn copy(from: &Path, to: &Path, is_root: bool) -> Result<(), CompareError> {
    let failed = |error: std::io::Error| files_error(from, &error);
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (source, name) = (entry.path(), entry.file_name());
        let skipped = is_root && WRITTEN.iter().any(|folder| name == **folder);
        if skipped || name == "profiles.yml" {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_symlink() {
            // A link stays one: an installed package may be the folder that this project lies in.
            if let Ok(linked) = source.canonicalize() {
                std::os::unix::fs::symlink(linked, to.join(name)).map_err(failed)?;
            }
        } else if source.is_dir() {
            copy(&source, &to.join(name), false)?;
        } else if is_root && PACKAGE_FILES.iter().any(|file| name == **file) {
            let text = std::fs::read_to_string(&source).map_err(failed)?;
            std::fs::write(to.join(name), anchored(&text, from)).map_err(failed)?;
        } else {
            std::fs::copy(&source, to.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The list of packages with those that lie outside of the project named by their whole path.
fn anchored(text: &str, project: &Path) -> String {
    let lines = text.lines().map(|line| {
        let (before, path) = line.split_once("local:")?;
        let path = path.trim().trim_matches(['"', '\'']);
        let place = project.join(path).canonicalize().ok()?;
        let is_outside = path.starts_with("..") && before.trim_matches([' ', '-']).is_empty();
        is_outside.then(|| format!("{before}local: {}", Json::from(place.to_string_lossy())))
    });
    let lines = lines.zip(text.lines());
    let lines = lines.map(|(changed, line)| changed.unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

/// A text of the project file.
fn setting(project: &Path, key: &str) -> Result<Option<String>, CompareError> {
    let file = project.join("dbt_project.yml");
    let text = std::fs::read_to_string(&file).map_err(|error| files_error(&file, &error))?;
    let yaml = crate::project::yaml::parse(&text, &file).unwrap_or_default();
    Ok(yaml.get(key).and_then(Json::as_str).map(str::to_owned))
}

/// The name of the profile that the project asks for.
fn profile_name(project: &Path) -> Result<String, CompareError> {
    let named = setting(project, "profile")?;
    Ok(match named {
        Some(named) => named,
        None => setting(project, "name")?.unwrap_or_default(),
    })
}

fn profile(name: &str, target: &Target) -> String {
    // JSON is YAML, and quotes whatever needs it.
    let output = serde_json::json!({
        "type": "postgres", "host": target.host, "port": target.port, "user": target.user,
        "password": target.password, "dbname": target.database, "schema": target.schema,
        "threads": target.threads.max(1),
    });
    let profile = serde_json::json!({ name: {
        "target": "compare", "outputs": { "compare": output },
    }});
    profile.to_string()
}

impl Side {
    pub(super) fn new(
        program: Program,
        project: &Path,
        target: &Target,
        flags: &[String],
    ) -> Result<Self, CompareError> {
        let folder =
            std::env::temp_dir().join(format!("ballpoint-compare-{}", uuid::Uuid::new_v4()));
        copy(project, &folder, true)?;
        let name = profile_name(&folder)?;
        let file = folder.join("profiles.yml");
        std::fs::write(&file, profile(&name, target))
            .map_err(|error| files_error(&file, &error))?;
        Ok(Self {
            program,
            folder,
            flags: flags.to_vec(),
        })
    }

    /// The copy of the project.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the project's packages are installed.
    fn packages(&self) -> Result<PathBuf, CompareError> {
        let folder = setting(&self.folder, "packages-install-path")?;
        Ok(self
            .folder
            .join(folder.as_deref().unwrap_or("dbt_packages")))
    }

    /// Installs the packages that the project names, unless they came with it.
    pub(super) async fn install(&self) -> Result<(), CompareError> {
        let names_some = PACKAGE_FILES.iter().any(|file| {
            let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            text.contains("packages:")
        });
        if !names_some || self.packages()?.is_dir() {
            return Ok(());
        }
        let ran = self.run("deps").await?;
        match ran.success {
            true => Ok(()),
            false => Err(CompareError::NoArtifact {
                program: self.name(),
                command: "deps".to_owned(),
                file: "packages".to_owned(),
                output: ran.output,
            }),
        }
    }

    /// Takes the packages that the other side installed.
    pub(super) fn install_from(&self, other: &Self) -> Result<(), CompareError> {
        let (theirs, ours) = (other.packages()?, self.packages()?);
        match theirs.is_dir() && !ours.is_dir() {
            true => copy(&theirs, &ours, false),
            false => Ok(()),
        }
    }

    fn name(&self) -> String {
        match &self.program {
            Program::Dbt(path) => path.display().to_string(),
            Program::Ballpoint(path) => format!("{} dbt", path.display()),
            Program::InProcess(_) => "ballpoint dbt".to_owned(),
        }
    }

    /// Runs a command with the flags of the comparison.
    pub(super) async fn run(&self, command: &str) -> Result<Ran, CompareError> {
        let mut args: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if args.first().is_none_or(|word| word != "deps") {
            args.extend(self.flags.iter().cloned());
        }
        args.extend(["--project-dir", ".", "--profiles-dir", "."].map(str::to_owned));
        for artifact in ["run_results.json", "manifest.json"] {
            // One that is not there need not go.
            let _ = std::fs::remove_file(self.folder.join("target").join(artifact));
        }
        let begin = Instant::now();
        let (success, output) = match &self.program {
            Program::Dbt(path) => self.process(path, &[], &args).await?,
            Program::Ballpoint(path) => self.process(path, &["dbt"], &args).await?,
            Program::InProcess(env) => self.in_process(env, &args).await,
        };
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Ran {
            success,
            seconds,
            results: self.artifact("run_results.json", command, &output)?,
            manifest: self.artifact("manifest.json", command, &output)?,
            output: last_lines(&output),
        })
    }

    async fn process(
        &self,
        path: &Path,
        first: &[&str],
        args: &[String],
    ) -> Result<(bool, String), CompareError> {
        let output = tokio::process::Command::new(path)
            .args(first)
            .args(args)
            .current_dir(&self.folder)
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
            .env("DBT_USE_COLORS", "false")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| CompareError::Program {
                program: path.display().to_string(),
                reason: error.to_string(),
            })?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    async fn in_process(&self, env: &CliEnv, args: &[String]) -> (bool, String) {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let env = CliEnv {
            working_dir: self.folder.clone(),
            default_target: None,
            default_project_dir: None,
            out: Arc::new(move |line| {
                let mut lines = sink.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line.to_owned());
            }),
            ..CliEnv::clone(env)
        };
        let code = Box::pin(cli::run(args, &env)).await;
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        (code == cli::EXIT_DONE, lines.join("\n"))
    }

    /// An artifact of the command; `None` when this command writes none.
    fn artifact(
        &self,
        file: &str,
        command: &str,
        output: &str,
    ) -> Result<Option<Json>, CompareError> {
        let unusable = || CompareError::NoArtifact {
            program: self.name(),
            command: command.to_owned(),
            file: file.to_owned(),
            output: last_lines(output),
        };
        let writes = ["build", "run", "test", "seed", "snapshot"];
        let word = command.split_whitespace().next().unwrap_or_default();
        match std::fs::read_to_string(self.folder.join("target").join(file)) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| unusable()),
            Err(_) if writes.contains(&word) => Err(unusable()),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // A copy that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a log ends with.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
