//! Finds the project, reads its `ballpoint.toml`, and settles where its data lives.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use toml::{Table, Value};

use super::doors::SECRET_CHARS_MIN;
use super::environment::{Environment, SECRETS_FILE};
use super::schema::{AuthMode, Config, LlmConfig, SourceConfig};
use crate::output::UserError;
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

pub(super) fn parse(
    text: &str,
    path: &str,
    environment: &Environment,
) -> Result<Config, ProjectError> {
    let invalid = |error: toml::de::Error| ProjectError::Invalid {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error
            .message()
            .lines()
            .next()
            .unwrap_or("cannot be read")
            .to_owned(),
    };
    // The first reading is for its errors, which know their line; the second sees the values.
    toml::from_str::<Config>(text).map_err(invalid)?;
    let mut table: Table = toml::from_str(text).map_err(invalid)?;
    for (name, value) in &mut table {
        substitute(value, name, environment).map_err(|message| ProjectError::Setting {
            path: path.to_owned(),
            message,
        })?;
    }
    for (keys, value) in environment.overrides() {
        set(&mut table, &keys, value);
    }
    let secrets = super::connectors::secrets(text, &table);
    let mut config = Config::deserialize(Value::Table(table)).map_err(|error| {
        let message = error
            .message()
            .lines()
            .next()
            .unwrap_or("cannot be read")
            .to_owned();
        ProjectError::Setting {
            path: path.to_owned(),
            message,
        }
    })?;
    for (name, values) in secrets {
        if let Some(source) = config.sources.get_mut(&name) {
            source.secrets = values;
        }
    }
    check(&config).map_err(|message| ProjectError::Setting {
        path: path.to_owned(),
        message,
    })?;
    Ok(config)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset)
        .map_or(1, |before| before.matches('\n').count() + 1)
}

/// Replaces `${NAME}` in every string below `value`.
fn substitute(value: &mut Value, at: &str, environment: &Environment) -> Result<(), String> {
    match value {
        Value::String(text) => *text = expand(text, at, environment)?,
        Value::Array(items) => {
            for item in items {
                substitute(item, at, environment)?;
            }
        }
        Value::Table(table) => {
            for (name, item) in table {
                substitute(item, &format!("{at}.{name}"), environment)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand(text: &str, at: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after
            .find('}')
            .ok_or_else(|| format!("{at}: `${{` without a closing `}}`"))?;
        let name = &after[..end];
        out.push_str(environment.get(name).ok_or_else(|| {
            format!("{at}: environment variable {name} is not set; set it or write the value")
        })?);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes an override as the type it looks like: TOML where it parses, text otherwise. An empty one
/// takes the key away, which no other value could say.
fn set(table: &mut Table, keys: &[String], value: &str) {
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let mut table = table;
    for key in parents {
        let entry = table
            .entry(key.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    if value.is_empty() {
        table.remove(last);
        return;
    }
    let parsed = toml::from_str::<Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    table.insert(
        last.clone(),
        parsed.unwrap_or_else(|| Value::String(value.to_owned())),
    );
}

impl Config {
    /// Refuses an address that other machines reach when nothing protects what crosses the network.
    ///
    /// # Errors
    /// Says what to change.
    pub(crate) fn check_address(&self, listen: SocketAddr) -> Result<(), UserError> {
        if listen.ip().is_loopback() {
            return Ok(());
        }
        if !self.server.tls_terminated {
            return Err(UserError(format!(
                "{listen} is reachable from other machines and has no TLS: listen on 127.0.0.1, or \
                 set server.tls_terminated = true behind a proxy that ends TLS"
            )));
        }
        let secret = self.auth.jwt_secret.as_ref();
        if secret.is_some_and(|it| it.0.chars().count() < SECRET_CHARS_MIN) {
            return Err(UserError(format!(
                "auth.jwt_secret: on {listen} it has {SECRET_CHARS_MIN} characters or more; \
                 `openssl rand -hex 32` makes one"
            )));
        }
        if self.auth.mode == AuthMode::None {
            return Err(UserError(format!(
                "auth.mode = \"none\" on {listen}: without a token only loopback is served"
            )));
        }
        Ok(())
    }
}

fn check(config: &Config) -> Result<(), String> {
    for listen in [Some(config.server.listen), config.server.sql_listen]
        .into_iter()
        .flatten()
    {
        config
            .check_address(listen)
            .map_err(|error| error.to_string())?;
    }
    if let Some(name) = &config.project.name
        && !is_plain(name)
    {
        return Err(format!("project.name = {name:?}: {PLAIN_NAME}"));
    }
    for (name, source) in &config.sources {
        check_source(name, source)?;
    }
    super::doors::check(config)?;
    super::operations::check(config)?;
    config.llm.as_ref().map_or(Ok(()), check_llm)?;
    let urls = config
        .sources
        .iter()
        .map(|(name, source)| (format!("sources.{name}"), &source.url));
    for (section, url) in urls.chain([("warehouse".to_owned(), &config.warehouse.url)]) {
        if let Some(url) = url
            && let Err(error) = url.parse::<PgConnectOptions>()
        {
            return Err(format!(
                "{section}.url cannot be read ({error}); it looks like postgres://user:password@host:5432/database"
            ));
        }
    }
    Ok(())
}

/// A question waits no longer than this for its answer, the model's part included.
const LLM_SECS_MAX: u64 = 50;

fn check_llm(llm: &LlmConfig) -> Result<(), String> {
    let url = reqwest::Url::parse(&llm.base_url).ok();
    let usable = |it: &reqwest::Url| matches!(it.scheme(), "http" | "https") && it.has_host();
    if !url.as_ref().is_some_and(usable) {
        return Err(
            "llm.base_url is no HTTP URL; it looks like https://api.example.com/v1".to_owned(),
        );
    }
    if url.is_some_and(|it| it.password().is_some() || !it.username().is_empty()) {
        return Err("llm.base_url holds a password; write the key as llm.api_key".to_owned());
    }
    if llm.model.trim().is_empty() {
        return Err("llm.model is empty; name the model as its server does".to_owned());
    }
    if llm
        .api_key
        .as_ref()
        .is_some_and(|it| it.0.trim().is_empty())
    {
        return Err(
            "llm.api_key is empty: set the variable that it names, or remove the key if the \
             server asks for none"
                .to_owned(),
        );
    }
    if !(1..=LLM_SECS_MAX).contains(&llm.timeout_secs) {
        return Err(format!("llm.timeout_secs is between 1 and {LLM_SECS_MAX}"));
    }
    Ok(())
}

pub(super) const PLAIN_NAME: &str = "a name is lower-case letters, digits, `_` and `-`";

pub(super) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(allowed)
}

/// Databases that PostgreSQL or Ballpoint itself keep on the embedded cluster.
const RESERVED_NAMES: [&str; 4] = ["warehouse", "postgres", "template0", "template1"];

fn check_source(name: &str, source: &SourceConfig) -> Result<(), String> {
    if !is_plain(name) {
        return Err(format!("sources.{name}: {PLAIN_NAME}"));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(format!(
            "sources.{name}: this name is kept for a database of the cluster itself"
        ));
    }
    if source.seed.is_some() && source.url.is_some() {
        return Err(format!(
            "sources.{name}: `seed` fills embedded databases only; remove it or the url"
        ));
    }
    super::connectors::check(name, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str, environment: &Environment) -> String {
        parse(text, "ballpoint.toml", environment)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = error_of(
            "[server]\nlisten = \"127.0.0.1:1\"\nlissten = 3\n",
            &Environment::default(),
        );
        assert!(
            error.starts_with("ballpoint.toml:3: unknown field `lissten`"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let error = error_of("[project]\n\nname = 3\n", &Environment::default());
        assert!(error.starts_with("ballpoint.toml:3: "), "{error}");
    }

    #[test]
    fn environment_values_are_filled_in_and_a_missing_one_is_named() {
        let text = "[warehouse]\nurl = \"postgres://u:${PW}@h/db\"\n";
        let config = parse(text, "f", &Environment::from([("PW", "s3")])).expect("valid");
        assert_eq!(
            config.warehouse.url.as_deref(),
            Some("postgres://u:s3@h/db")
        );
        let error = error_of(text, &Environment::default());
        assert!(
            error.contains("warehouse.url: environment variable PW is not set"),
            "{error}"
        );
    }

    #[test]
    fn a_model_s_key_that_expands_to_nothing_is_refused_and_never_printed() {
        let text = "[llm]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\napi_key = \"${KEY}\"\n";
        let error = error_of(text, &Environment::from([("KEY", "")]));
        assert!(error.contains("llm.api_key is empty"), "{error}");
        let config = parse(text, "f", &Environment::from([("KEY", "sk-1")])).expect("valid");
        assert!(!format!("{config:?}").contains("sk-1"));
        let error = error_of(
            "[llm]\nbase_url = \"h/v1\"\nmodel = \"m\"\n",
            &Environment::default(),
        );
        assert!(error.contains("llm.base_url"), "{error}");
    }

    #[test]
    fn an_override_beats_the_file() {
        let environment = Environment::from([("BALLPOINT__SERVER__LISTEN", "127.0.0.1:4999")]);
        let config =
            parse("[server]\nlisten = \"127.0.0.1:1\"\n", "f", &environment).expect("valid");
        assert_eq!(config.server.listen.port(), 4999);
    }

    #[test]
    fn an_open_address_without_tls_is_refused() {
        let error = error_of(
            "[server]\nlisten = \"0.0.0.0:4000\"\n",
            &Environment::default(),
        );
        assert!(error.contains("no TLS"), "{error}");
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_for_loopback_only() {
        let auth = "[auth]\njwt_secret = \"secret\"\n";
        parse(auth, "f", &Environment::default()).expect("valid on loopback");
        let open = "[server]\nlisten = \"0.0.0.0:4000\"\ntls_terminated = true\n";
        let error = error_of(&format!("{open}{auth}"), &Environment::default());
        assert!(error.contains("auth.jwt_secret"), "{error}");
    }

    #[test]
    fn names_and_urls_that_cannot_work_are_refused() {
        let nobody = Environment::default();
        let error = error_of("[project]\nname = \"../../etc\"\n", &nobody);
        assert!(error.contains("lower-case letters"), "{error}");
        let error = error_of("[sources.template1]\nkind = \"postgres\"\n", &nobody);
        assert!(error.contains("sources.template1"), "{error}");
        let error = error_of(
            "[sources.a]\nkind = \"postgres\"\nurl = \"notaurl\"\n",
            &nobody,
        );
        assert!(error.contains("sources.a.url"), "{error}");
    }

    #[test]
    fn an_empty_override_takes_the_key_away() {
        let text = "[sources.a]\nkind = \"postgres\"\nseed = \"seeds/a\"\n";
        let environment = Environment::from([
            ("BALLPOINT__SOURCES__A__URL", "postgres://h/d"),
            ("BALLPOINT__SOURCES__A__SEED", ""),
        ]);
        let config = parse(text, "f", &environment).expect("valid");
        assert_eq!(config.sources["a"].seed, None);
        assert_eq!(config.sources["a"].url.as_deref(), Some("postgres://h/d"));
    }

    #[test]
    fn an_address_may_be_a_name_and_a_wrong_one_is_named_with_its_line() {
        let nobody = Environment::default();
        let config = parse("[server]\nlisten = \"localhost:4321\"\n", "f", &nobody);
        assert_eq!(config.expect("valid").server.listen.port(), 4321);
        let error = error_of("[server]\nlisten = \"localhost\"\n", &nobody);
        assert!(error.contains(":2:") && error.contains("port"), "{error}");
    }

    #[test]
    fn a_seed_for_a_database_that_is_not_ours_is_refused() {
        let error = error_of(
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://h/d\"\nseed = \"s\"\n",
            &Environment::default(),
        );
        assert!(error.contains("embedded databases only"), "{error}");
    }
}
