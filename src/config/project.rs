//! Finds the project, reads its `ballpoint.toml`, and settles where its data lives.

use std::fs;
use std::path::{Path, PathBuf};

use super::environment::{Environment, SECRETS_FILE};
use super::reading::parse;
use super::schema::Config;
use crate::shipped;

const FILE_NAME: &str = "ballpoint.toml";

/// A project as every command sees it: its folder, its data dir, its checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) name: String,
    /// What relative paths of the configuration are relative to.
    pub(crate) folder: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) config: Config,
    /// The shipped project, because no `ballpoint.toml` was in reach.
    pub(crate) is_shipped: bool,
}

/// Exit code 2: the user has something to mend before anything is created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("{path}: no {FILE_NAME} in this folder; --project takes the folder that holds it")]
    NoFile { path: String },
    #[error("{path}: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path}:{line}: {message}")]
    Invalid {
        path: String,
        line: usize,
        message: String,
    },
    #[error("{path}: {message}")]
    Setting { path: String, message: String },
}

/// Takes `--project`, else the nearest folder upward with a `ballpoint.toml`, else the shipped
/// project laid out inside the data dir.
///
/// # Errors
/// When the file is missing where it was named, cannot be read, or says something unknown.
pub(crate) fn locate(
    project_dir: Option<&Path>,
    data_dir: Option<&Path>,
    environment: &Environment,
) -> Result<Project, ProjectError> {
    let here = std::env::current_dir().map_err(|error| ProjectError::Unreadable {
        path: ".".to_owned(),
        error,
    })?;
    let folder = match project_dir {
        Some(folder) => Some(here.join(folder)),
        None => here
            .ancestors()
            .find(|f| f.join(FILE_NAME).is_file())
            .map(Path::to_path_buf),
    };
    let Some(folder) = folder else {
        return shipped_project(&here, data_dir, environment);
    };
    let path = folder.join(FILE_NAME);
    if !path.is_file() {
        return Err(ProjectError::NoFile {
            path: folder.display().to_string(),
        });
    }
    let text = fs::read_to_string(&path).map_err(|error| ProjectError::Unreadable {
        path: path.display().to_string(),
        error,
    })?;
    let shown = path
        .strip_prefix(&here)
        .unwrap_or(&path)
        .display()
        .to_string();
    let environment = environment
        .with_secrets(&folder)
        .map_err(|(line, message)| ProjectError::Invalid {
            path: folder.join(SECRETS_FILE).display().to_string(),
            line,
            message,
        })?;
    let config = parse(&text, &shown, &environment)?;
    let name = config
        .project
        .name
        .clone()
        .unwrap_or_else(|| folder_name(&folder));
    let data_dir = data_dir.map_or_else(|| default_data_dir(&folder, &name), |dir| here.join(dir));
    Ok(Project {
        name,
        folder,
        data_dir,
        config,
        is_shipped: false,
    })
}

fn shipped_project(
    here: &Path,
    data_dir: Option<&Path>,
    environment: &Environment,
) -> Result<Project, ProjectError> {
    let config = parse(shipped::CONFIG, "(shipped) ballpoint.toml", environment)?;
    let name = config
        .project
        .name
        .clone()
        .unwrap_or_else(|| "ballpoint".to_owned());
    let data_dir = data_dir.map_or_else(|| default_data_dir(here, &name), |dir| here.join(dir));
    let folder = data_dir.join("project");
    Ok(Project {
        name,
        folder,
        data_dir,
        config,
        is_shipped: true,
    })
}

/// As root the data must be reachable by the unprivileged user that runs PostgreSQL, which a
/// home folder is not.
fn default_data_dir(folder: &Path, name: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        Path::new("/var/lib/ballpoint").join(name)
    } else {
        folder.join(".ballpoint")
    }
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().map_or_else(
        || "ballpoint".to_owned(),
        |n| n.to_string_lossy().into_owned(),
    )
}
