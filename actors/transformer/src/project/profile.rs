//! Where a project is built: a target given by the caller, or one of `profiles.yml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::error::{Place, ProjectError};
use crate::jinja::context::{Globals, project_scope};
use crate::jinja::engine::Engine;

/// Keys of a profile beside the address: files of TLS, the role that owns what is built instead of the
/// user, and where names without a schema are looked for.
const CONNECTION_KEYS: [&str; 5] = ["sslrootcert", "sslcert", "sslkey", "role", "search_path"];

/// A PostgreSQL database and the schema that models go to when they name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub profile: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub schema: String,
    pub threads: usize,
    pub sslmode: Option<String>,
    /// What else a profile says of its connections, by its keys.
    pub settings: BTreeMap<&'static str, String>,
}

impl Target {
    /// A target for a connection that the caller holds: only names matter.
    pub fn named(database: impl Into<String>, schema: impl Into<String>) -> Self {
        Self {
            name: "ballpoint".to_owned(),
            profile: "ballpoint".to_owned(),
            port: 5432,
            database: database.into(),
            schema: schema.into(),
            threads: 4,
            ..Self::default()
        }
    }

    /// A target for a connection URL.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL.
    pub fn from_url(url: &str, schema: &str) -> Result<Self, ProjectError> {
        let options: sqlx::postgres::PgConnectOptions = url.parse().map_err(|_| {
            ProjectError::Configuration("the warehouse URL is not a PostgreSQL URL".to_owned())
        })?;
        let password = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'))
            .and_then(|(user, _)| user.split_once(':'))
            .map(|(_, password)| percent_decode(password))
            .unwrap_or_default();
        Ok(Self {
            host: options.get_host().to_owned(),
            port: options.get_port(),
            user: options.get_username().to_owned(),
            password,
            ..Self::named(options.get_database().unwrap_or_default(), schema)
        })
    }

    /// How to connect.
    pub fn connect_options(&self) -> sqlx::postgres::PgConnectOptions {
        let mut options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .application_name("dbt");
        options = if self.host.starts_with('/') {
            options.socket(&self.host)
        } else {
            options.host(&self.host)
        };
        if !self.password.is_empty() {
            options = options.password(&self.password);
        }
        for (key, value) in &self.settings {
            options = match *key {
                "sslrootcert" => options.ssl_root_cert(value),
                "sslcert" => options.ssl_client_cert(value),
                "sslkey" => options.ssl_client_key(value),
                // Settings of the session, which begins with them.
                _ => options.options([(key, value)]),
            };
        }
        match self.sslmode.as_deref().map(str::parse) {
            Some(Ok(mode)) => options.ssl_mode(mode),
            _ => options,
        }
    }

    /// What templates see as `target`.
    pub(crate) fn facts(&self) -> Map<String, Json> {
        let facts = serde_json::json!({
            "name": self.name, "profile_name": self.profile, "target_name": self.name,
            "type": "postgres", "host": self.host, "port": self.port, "user": self.user,
            "database": self.database, "dbname": self.database, "schema": self.schema,
            "threads": self.threads,
        });
        match facts {
            Json::Object(map) => map,
            _ => Map::new(),
        }
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match tail {
            [high, low, ..] if *first == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The folder that holds `profiles.yml`: the one given, the project's, or `~/.dbt`.
pub(crate) fn profiles_file(
    given: Option<&Path>,
    project: &Path,
    globals: &Globals,
) -> Option<PathBuf> {
    if let Some(folder) = given {
        return Some(folder.join("profiles.yml"));
    }
    let from_env = globals.env.get("DBT_PROFILES_DIR").map(PathBuf::from);
    let home = globals
        .env
        .get("HOME")
        .map(|home| Path::new(home).join(".dbt"));
    [from_env, Some(project.to_owned()), home]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("profiles.yml"))
        .find(|file| file.is_file())
}

/// Reads a target of a profile.
///
/// # Errors
/// When there is no such profile or target, or it is not one of PostgreSQL.
pub(crate) fn read_target(
    file: &Path,
    profile: &str,
    wanted: Option<&str>,
    engine: &Engine,
    globals: &Arc<Globals>,
) -> Result<Target, ProjectError> {
    let place = Place::file(file);
    let wrong = |message: String| ProjectError::Yaml {
        place: place.clone(),
        message,
    };
    let text = std::fs::read_to_string(file).map_err(|error| ProjectError::Read {
        place: place.clone(),
        reason: format!(
            "{error}: dbt looked for a profiles.yml file in {}",
            file.parent().unwrap_or(file).display()
        ),
    })?;
    let yaml = super::yaml::parse(&text, file)?;
    let found = yaml
        .get(profile)
        .ok_or_else(|| wrong(format!("Could not find profile named '{profile}'")))?;
    let found = super::yaml::rendered(found, engine, &place, &project_scope(globals))?;
    let name = match (wanted, found.get("target").and_then(Json::as_str)) {
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => "default".to_owned(),
    };
    let output = found
        .get("outputs")
        .and_then(|outputs| outputs.get(&name))
        .ok_or_else(|| {
            let outputs = found.get("outputs").and_then(Json::as_object);
            let known: Vec<&str> = outputs.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            wrong(format!(
                "The profile '{profile}' does not have a target named '{name}'. The valid target names \
                 for this profile are: {}",
                known.join(", ")
            ))
        })?;
    let text = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| output.get(*key))
            .map(|value| match value {
                Json::String(text) => text.clone(),
                other => other.to_string(),
            })
    };
    match text(&["type"]).as_deref() {
        Some("postgres") => {}
        other => {
            let adapter = other.unwrap_or("none");
            return Err(wrong(format!(
                "target '{name}' is of type {adapter}, not postgres"
            )));
        }
    }
    let required = |keys: &[&str]| {
        text(keys).ok_or_else(|| wrong(format!("target '{name}' lacks '{}'", keys[0])))
    };
    let number = |keys: &[&str]| text(keys).and_then(|number| number.parse::<u16>().ok());
    Ok(Target {
        profile: profile.to_owned(),
        host: required(&["host"])?,
        port: number(&["port"]).unwrap_or(5432),
        user: required(&["user"])?,
        password: text(&["password", "pass"]).unwrap_or_default(),
        database: required(&["dbname", "database"])?,
        schema: required(&["schema"])?,
        threads: number(&["threads"]).unwrap_or(1).max(1) as usize,
        sslmode: text(&["sslmode"]),
        settings: CONNECTION_KEYS
            .iter()
            .filter_map(|key| Some((*key, text(&[*key])?)))
            .collect(),
        name,
    })
}
