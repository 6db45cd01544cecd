//! Finding `initdb` and `postgres` on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::ClusterError;

/// Older majors lack what the engine relies on, and are past their end of life.
pub(super) const MAJOR_MIN: u32 = 14;

/// Parents whose `<version>/bin` holds a server, as distributions install it.
const VERSIONED_PARENTS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
];

/// A usable pair of programs of one version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    /// As `postgres --version` says it, e.g. `15.20`.
    pub(super) version: String,
    pub(super) major: u32,
}

/// A PostgreSQL installation on this machine.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The server program.
    pub path: PathBuf,
    /// As it says it, e.g. `15.20`.
    pub version: String,
}

/// The installation that a new cluster would run on.
///
/// # Errors
/// When none is found, with what to do about it.
pub fn installation() -> Result<Installation, ClusterError> {
    let found = find(None, None, Path::new(""))?;
    Ok(Installation {
        path: found.postgres,
        version: found.version,
    })
}

/// Finds PostgreSQL: `configured` alone if given, else what `pg_config` names, else the newest
/// installed version, else the PATH. With `wanted_major` the first of that major, an installed version
/// before what `pg_config` names: asking it takes a shell.
pub(super) fn find(
    configured: Option<&Path>,
    wanted_major: Option<u32>,
    data_dir: &Path,
) -> Result<Binaries, ClusterError> {
    let mut found = Vec::new();
    if let Some(dir) = configured {
        let binaries = probe(Some(dir)).map_err(|reason| ClusterError::BinariesUnusable {
            bin_dir: dir.to_owned(),
            reason,
        })?;
        found.push(binaries);
    } else {
        for candidate in candidates(wanted_major) {
            let Ok(binaries) = probe(candidate.as_deref()) else {
                continue;
            };
            let suits = wanted_major.is_none_or(|major| major == binaries.major);
            found.push(binaries);
            if suits {
                break;
            }
        }
    }
    let Some(major) = wanted_major else {
        return found.pop().ok_or(ClusterError::NoPostgres);
    };
    if let Some(index) = found.iter().position(|binaries| binaries.major == major) {
        return Ok(found.swap_remove(index));
    }
    Err(ClusterError::OtherMajor {
        data_dir: data_dir.to_owned(),
        cluster_major: major,
        found: found
            .first()
            .map_or_else(|| "none".to_owned(), |binaries| binaries.version.clone()),
    })
}

/// Directories to try, best first; `None` stands for the PATH.
fn candidates(wanted_major: Option<u32>) -> impl Iterator<Item = Option<PathBuf>> {
    let (wanted, others): (Vec<_>, Vec<_>) = versioned()
        .into_iter()
        .partition(|(major, _)| wanted_major == Some(*major));
    let named = std::iter::once_with(|| run(Command::new("pg_config").arg("--bindir")))
        .flatten()
        .map(PathBuf::from);
    let dirs = |versioned: Vec<(u32, PathBuf)>| versioned.into_iter().map(|(_, dir)| dir);
    let all = dirs(wanted).chain(named).chain(dirs(others));
    all.map(Some).chain([None])
}

/// What distributions have installed, the newest first.
fn versioned() -> Vec<(u32, PathBuf)> {
    let mut versioned: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in VERSIONED_PARENTS {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        versioned.extend(entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let major = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            Some((major, entry.path().join("bin")))
        }));
    }
    versioned.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    versioned
}

/// Checks that both programs are there and new enough.
fn probe(dir: Option<&Path>) -> Result<Binaries, String> {
    let program = |name: &str| dir.map_or_else(|| PathBuf::from(name), |dir| dir.join(name));
    let (initdb, postgres) = (program("initdb"), program("postgres"));
    let asked = |program: &Path| spawn(Command::new(program).arg("--version"));
    // At the same time: each takes some ten milliseconds. Both are waited for, whatever they say.
    let (spawned_initdb, spawned_postgres) = (asked(&initdb), asked(&postgres));
    let (said_initdb, said_postgres) = (
        spawned_initdb.and_then(output),
        spawned_postgres.and_then(output),
    );
    said_initdb.map_err(|reason| format!("initdb: {reason}"))?;
    let line = said_postgres.map_err(|reason| format!("postgres: {reason}"))?;
    let version = version_in(&line).ok_or_else(|| format!("{line:?} names no version"))?;
    let major = leading_number(&version).ok_or_else(|| format!("{line:?} names no version"))?;
    if major < MAJOR_MIN {
        return Err(format!("version {version} is older than {MAJOR_MIN}"));
    }
    Ok(Binaries {
        initdb,
        postgres,
        version,
        major,
    })
}

fn run(command: &mut Command) -> Result<String, String> {
    spawn(command).and_then(output)
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())
}

fn output(child: Child) -> Result<String, String> {
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)` → `15.20`.
fn version_in(line: &str) -> Option<String> {
    line.split_whitespace()
        .find(|word| leading_number(word).is_some())
        .map(str::to_owned)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_spelling() {
        let debian = "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)";
        assert_eq!(version_in(debian).as_deref(), Some("15.20"));
        assert_eq!(
            leading_number(&version_in("postgres (PostgreSQL) 18beta1").unwrap()),
            Some(18)
        );
        assert_eq!(version_in("postgres"), None);
    }

    #[test]
    fn an_empty_configured_folder_is_an_error_and_not_a_fallback() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(Some(dir.path()), None, dir.path()).unwrap_err();
        assert!(
            matches!(error, ClusterError::BinariesUnusable { .. }),
            "{error}"
        );
    }
}
