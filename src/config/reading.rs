//! The text of a `ballpoint.toml` as a checked [`Config`]: `${NAME}` filled in, overrides written over it.

use serde::Deserialize;
use toml::{Table, Value};

use super::checks;
use super::environment::Environment;
use super::project::ProjectError;
use super::schema::Config;

/// The configuration that `text` says, `path` being how its file is called in errors.
///
/// # Errors
/// When it says something unknown or something that cannot work; names the line where it can.
pub(super) fn parse(
    text: &str,
    path: &str,
    environment: &Environment,
) -> Result<Config, ProjectError> {
    let invalid = |error: toml::de::Error| ProjectError::Invalid {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: first_line(&error),
    };
    let setting = |message| ProjectError::Setting {
        path: path.to_owned(),
        message,
    };
    // The first reading is for its errors, which know their line; the second sees the values.
    toml::from_str::<Config>(text).map_err(invalid)?;
    let mut table: Table = toml::from_str(text).map_err(invalid)?;
    for (name, value) in &mut table {
        substitute(value, name, environment).map_err(setting)?;
    }
    for (keys, value) in environment.overrides() {
        set(&mut table, &keys, value);
    }
    let secrets = super::connectors::secrets(text, &table);
    let mut config =
        Config::deserialize(Value::Table(table)).map_err(|error| setting(first_line(&error)))?;
    for (name, values) in secrets {
        if let Some(source) = config.sources.get_mut(&name) {
            source.secrets = values;
        }
    }
    checks::check(&config).map_err(setting)?;
    Ok(config)
}

/// What is wrong, without the excerpt that TOML's errors draw below it.
fn first_line(error: &toml::de::Error) -> String {
    let said = error.message().lines().next();
    said.unwrap_or("cannot be read").to_owned()
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

/// Why `text` is refused.
#[cfg(test)]
pub(super) fn error_of(text: &str, environment: &Environment) -> String {
    parse(text, "ballpoint.toml", environment)
        .expect_err("must be refused")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_override_beats_the_file() {
        let environment = Environment::from([("BALLPOINT__SERVER__LISTEN", "127.0.0.1:4999")]);
        let config =
            parse("[server]\nlisten = \"127.0.0.1:1\"\n", "f", &environment).expect("valid");
        assert_eq!(config.server.listen.port(), 4999);
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

    /// The keys that a section may have, out of the error about one that it may not.
    fn keys_of(section: &str) -> Vec<String> {
        let error = error_of(
            &format!("[{section}]\nno_key = 1\n"),
            &Environment::default(),
        );
        let (_, known) = error.split_once("expected ").expect(section);
        let words = known.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    }

    #[test]
    fn every_key_is_in_the_documentation() {
        let page = include_str!("../../docs/configuration.md");
        for section in [
            "project",
            "server",
            "warehouse",
            "transform",
            "metrics",
            "reverse_etl",
            "llm",
            "auth",
            "auth.tokens.x",
            "schedules.x",
            "retries",
            "alerts",
            "sources.x",
            "sources.x.freshness",
            "sources.x.table.y",
        ] {
            let keys = keys_of(section);
            assert!(!keys.is_empty(), "{section}");
            for key in keys {
                let as_value = [format!("\n{key} = "), format!("`{key}`")];
                let as_section = [format!(".{key}]"), format!(".{key}.")];
                let mut forms = as_value.iter().chain(&as_section);
                assert!(
                    forms.any(|it| page.contains(it)),
                    "{section}.{key} is not in docs/configuration.md"
                );
            }
        }
    }
}
