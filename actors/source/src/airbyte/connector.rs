//! How a connector is started: a command line, a Python package in a virtual environment of its own, or
//! a container image.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ballpoint_runtime::failure::one_line;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::log::Log;
use super::process::Launch;

/// Hundreds of megabytes come over the network.
const INSTALL_MAX: Duration = Duration::from_secs(1800);
/// Written when an environment is complete.
const INSTALLED: &str = ".installed";
/// Where a container finds the files it is given.
const MOUNT: &str = "/ballpoint";

/// Which connector, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    /// A program and its first arguments.
    Command(Vec<String>),
    /// A package of the Python Package Index; without a version the newest at first use.
    Package {
        name: String,
        version: Option<String>,
    },
    /// Run by Docker or Podman.
    Image(String),
}

impl Connector {
    /// What tells two versions of it apart, as far as that can be known.
    pub(crate) fn identity(&self, folder: &Path) -> String {
        match self {
            Self::Command(command) => {
                let program = command.first().map_or("", String::as_str);
                let metadata = std::fs::metadata(folder.join(program)).ok();
                let stamp = metadata.and_then(|it| Some((it.len(), it.modified().ok()?)));
                format!("command {command:?} {stamp:?}")
            }
            Self::Package { name, version } => format!("package {name} {version:?}"),
            Self::Image(image) => format!("image {image}"),
        }
    }

    /// The start of one command (`spec`, `check`, …). `files` are options that name a file below
    /// `given`. A package is installed first, if it is not.
    ///
    /// # Errors
    /// What is missing on the machine, and what to do about it.
    pub(crate) async fn launch(
        &self,
        places: &Places,
        log: &Log,
        command: &str,
        files: &[(&str, &str)],
    ) -> Result<Launch, String> {
        let mut launch = match self {
            Self::Command(command) => command_line(command, &places.folder)?,
            Self::Package { name, version } => {
                let program = install(&places.environments, name, version.as_deref(), log).await?;
                command_line(&[program], &places.folder)?
            }
            Self::Image(image) => container(image, places).await?,
        };
        launch.arguments.push(command.to_owned());
        for (option, file) in files {
            let path = match self {
                Self::Image(_) => format!("{MOUNT}/{file}"),
                Self::Command(_) | Self::Package { .. } => {
                    places.given.join(file).display().to_string()
                }
            };
            launch.arguments.extend([format!("--{option}"), path]);
        }
        Ok(launch)
    }
}

/// The folders that a connector is concerned with.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The project's: relative paths of a command line are relative to it.
    pub(crate) folder: PathBuf,
    /// Files that the connector is given.
    pub(crate) given: PathBuf,
    /// Virtual environments, shared by the sources of a project.
    pub(crate) environments: PathBuf,
}

fn command_line(command: &[String], folder: &Path) -> Result<Launch, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("`command` is empty; name the connector's program".to_owned());
    };
    // A name without a slash is looked for in PATH.
    let program = match program.contains('/') {
        true => folder.join(program).display().to_string(),
        false => program.clone(),
    };
    Ok(Launch {
        program,
        arguments: arguments.to_vec(),
        folder: folder.to_owned(),
        stop: None,
    })
}

/// One installation at a time: two sources may name one package.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// The connector's program in its virtual environment, which is made if it is not there.
async fn install(
    environments: &Path,
    name: &str,
    version: Option<&str>,
    log: &Log,
) -> Result<String, String> {
    let _one = INSTALLING.lock().await;
    let environment = environments.join(format!("{name}-{}", version.unwrap_or("newest")));
    if !environment.join(INSTALLED).is_file() {
        let wanted = match version {
            Some(version) => format!("{name}=={version}"),
            None => name.to_owned(),
        };
        tracing::info!(
            package = wanted,
            "installing a connector; this takes minutes, once"
        );
        // What an installation that was stopped left there is of no use.
        let _ = std::fs::remove_dir_all(&environment);
        std::fs::create_dir_all(environments)
            .map_err(|error| format!("{}: {error}", environments.display()))?;
        let path = environment.display().to_string();
        run("python3", &["-m", "venv", &path], log)
            .await
            .map_err(|error| {
                format!(
                    "{wanted} needs Python 3 with venv, which failed ({error}); install python3 and \
                     python3-venv, or name the connector by `command`"
                )
            })?;
        let pip = environment.join("bin/pip").display().to_string();
        let options = [
            "install",
            "--disable-pip-version-check",
            "--no-input",
            &wanted,
        ];
        run(&pip, &options, log)
            .await
            .map_err(|error| format!("{wanted} cannot be installed: {error}"))?;
        std::fs::write(environment.join(INSTALLED), &wanted)
            .map_err(|error| format!("{path}: {error}"))?;
        tracing::info!(package = wanted, "the connector is installed");
    }
    program_of(&environment.join("bin"), name)
}

/// By convention `airbyte-source-x` brings a program `source-x`.
fn program_of(folder: &Path, package: &str) -> Result<String, String> {
    let expected = package.strip_prefix("airbyte-").unwrap_or(package);
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name == expected || name.starts_with("source-"))
        .collect();
    found.sort_by_key(|name| name != expected);
    match found.first() {
        Some(program) => Ok(folder.join(program).display().to_string()),
        None => Err(format!(
            "package {package} brings no program {expected}: it is no connector, or wants `command`"
        )),
    }
}

/// Runs a program to its end; its last lines are the error.
async fn run(program: &str, arguments: &[&str], log: &Log) -> Result<(), String> {
    let running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(INSTALL_MAX, running)
        .await
        .map_err(|_| format!("it took more than {} minutes", INSTALL_MAX.as_secs() / 60))?
        .map_err(|error| format!("{program}: {error}"))?;
    for stream in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(stream).lines() {
            log.write(line);
        }
    }
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<String> = said
        .lines()
        .filter(|line| line.starts_with("ERROR"))
        .map(str::to_owned)
        .collect();
    Err(match errors.is_empty() {
        false => one_line(errors),
        true => said.lines().last().unwrap_or("it said nothing").to_owned(),
    })
}

async fn container(image: &str, places: &Places) -> Result<Launch, String> {
    let mut engine = None;
    for program in ["docker", "podman"] {
        let asked = Command::new(program)
            .arg("version")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        if let Ok(Ok(output)) = tokio::time::timeout(Duration::from_secs(20), asked).await
            && output.status.success()
        {
            engine = Some(program);
            break;
        }
    }
    let Some(engine) = engine else {
        return Err(format!(
            "image {image} needs Docker or Podman, and neither answers here; start one, or name the \
             connector by `package` or `command`"
        ));
    };
    let name = format!("ballpoint-{:016x}", rand::random::<u64>());
    let mount = format!("{}:{MOUNT}:ro", places.given.display());
    let arguments = [
        "run", "--rm", "--init", "-i", "--name", &name, "-v", &mount, image,
    ];
    let stop = [engine, "kill", &name];
    Ok(Launch {
        program: engine.to_owned(),
        arguments: arguments.map(str::to_owned).to_vec(),
        folder: places.folder.clone(),
        stop: Some(stop.map(str::to_owned).to_vec()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_package_s_program_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["python", "source-declarative-manifest", "source-faker"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = program_of(folder.path(), "airbyte-source-faker").unwrap();
        assert!(found.ends_with("/source-faker"), "{found}");
        let none = program_of(&folder.path().join("none"), "requests").unwrap_err();
        assert!(none.contains("no program requests"), "{none}");
    }

    #[tokio::test]
    async fn a_command_line_keeps_its_arguments_and_is_relative_to_the_project() {
        let places = Places {
            folder: "/project".into(),
            given: "/data/given".into(),
            environments: "/data/venvs".into(),
        };
        let log = Log::new("/nowhere/log".into(), Default::default());
        let connector = Connector::Command(vec!["bin/source".to_owned(), "-v".to_owned()]);
        let files = [("config", "config.json")];
        let launch = connector
            .launch(&places, &log, "check", &files)
            .await
            .unwrap();
        assert_eq!(launch.program, "/project/bin/source");
        assert_eq!(
            launch.arguments,
            ["-v", "check", "--config", "/data/given/config.json"]
        );
    }
}
