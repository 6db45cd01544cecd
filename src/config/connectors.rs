//! Settings of sources that are no databases: connectors of the Airbyte protocol, and files.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::schema::{SourceConfig, SourceKind};

/// Which keys are of which kind, beside those of every source.
const OF_KINDS: [(SourceKind, &str, &[&str]); 3] = [
    (SourceKind::Postgres, "postgres", &["url", "seed"]),
    (
        SourceKind::Airbyte,
        "airbyte",
        &[
            "command",
            "package",
            "version",
            "image",
            "config",
            "config_file",
            "streams",
            "stall_timeout",
            "interval",
        ],
    ),
    (
        SourceKind::File,
        "file",
        &[
            "path",
            "stream",
            "format",
            "delimiter",
            "quote",
            "header",
            "null_values",
            "interval",
        ],
    ),
];

/// What no type can say of a source.
///
/// # Errors
/// Names the setting, and says what to do.
pub(super) fn check(name: &str, source: &SourceConfig) -> Result<(), String> {
    let (_, kind, own) = OF_KINDS
        .iter()
        .find(|(kind, ..)| *kind == source.kind)
        .ok_or_else(|| format!("sources.{name}: unknown kind"))?;
    if let Some(foreign) = said(source).into_iter().find(|key| !own.contains(key)) {
        let (_, other, _) = OF_KINDS
            .iter()
            .find(|(.., keys)| keys.contains(&foreign))
            .ok_or_else(|| format!("sources.{name}.{foreign}: unknown"))?;
        return Err(format!(
            "sources.{name}.{foreign}: a setting of kind = \"{other}\"; this source is of kind \
             \"{kind}\""
        ));
    }
    match source.kind {
        SourceKind::Postgres => Ok(()),
        SourceKind::Airbyte => check_connector(name, source),
        SourceKind::File => check_files(name, source),
    }
}

/// The keys that are of one kind or another, and are there.
fn said(source: &SourceConfig) -> Vec<&'static str> {
    let there = [
        ("url", source.url.is_some()),
        ("seed", source.seed.is_some()),
        ("command", source.command.is_some()),
        ("package", source.package.is_some()),
        ("version", source.version.is_some()),
        ("image", source.image.is_some()),
        ("config", source.config.is_some()),
        ("config_file", source.config_file.is_some()),
        ("streams", source.streams.is_some()),
        ("interval", source.interval.is_some()),
        ("stall_timeout", source.stall_timeout.is_some()),
        ("path", source.path.is_some()),
        ("stream", source.stream.is_some()),
        ("format", source.format.is_some()),
        ("delimiter", source.delimiter.is_some()),
        ("quote", source.quote.is_some()),
        ("header", source.header.is_some()),
        ("null_values", source.null_values.is_some()),
    ];
    let said = there.into_iter().filter(|(_, is_there)| *is_there);
    said.map(|(key, _)| key).collect()
}

fn check_connector(name: &str, source: &SourceConfig) -> Result<(), String> {
    let named = [
        source.command.is_some(),
        source.package.is_some(),
        source.image.is_some(),
    ];
    if named.into_iter().filter(|it| *it).count() != 1 {
        return Err(format!(
            "sources.{name}: name the connector by one of `command`, `package` and `image`, such as \
             package = \"airbyte-source-faker\""
        ));
    }
    if source.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(format!(
            "sources.{name}.command is empty; name the connector's program"
        ));
    }
    if source.version.is_some() && source.package.is_none() {
        return Err(format!("sources.{name}.version: only a `package` has one"));
    }
    // Both go into a command line and a folder's name.
    let plain = |text: &String| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
        !text.starts_with('-') && !text.is_empty() && text.chars().all(allowed)
    };
    for (key, value) in [("package", &source.package), ("version", &source.version)] {
        if let Some(value) = value.as_ref().filter(|it| !plain(it)) {
            return Err(format!(
                "sources.{name}.{key} = {value:?} is none; it looks like \"airbyte-source-faker\", a \
                 version like \"7.2.1\""
            ));
        }
    }
    if source.config.is_some() && source.config_file.is_some() {
        return Err(format!(
            "sources.{name}: `config` and `config_file` say the same thing; keep one of them"
        ));
    }
    Ok(())
}

fn check_files(name: &str, source: &SourceConfig) -> Result<(), String> {
    if source
        .path
        .as_ref()
        .is_none_or(|path| path.trim().is_empty())
    {
        return Err(format!(
            "sources.{name}: a file source needs `path`, a file or a pattern such as \"data/*.csv\""
        ));
    }
    for (key, value) in [("delimiter", source.delimiter), ("quote", source.quote)] {
        if let Some(value) = value.filter(|it| !it.is_ascii()) {
            return Err(format!(
                "sources.{name}.{key} = {value:?}: only an ASCII character can be one"
            ));
        }
    }
    Ok(())
}

/// The texts of each connector's configuration that came out of the environment. `text` is the file as
/// it was written, `filled` the same with its values.
pub(super) fn secrets(text: &str, filled: &Table) -> BTreeMap<String, Vec<String>> {
    let Ok(written) = toml::from_str::<Table>(text) else {
        return BTreeMap::new();
    };
    let config = |of: &Table, name: &str| of.get("sources")?.get(name)?.get("config").cloned();
    let names = filled.get("sources").and_then(Value::as_table);
    names
        .into_iter()
        .flat_map(Table::keys)
        .map(|name| {
            let mut found = Vec::new();
            if let (Some(was), Some(is)) = (config(&written, name), config(filled, name)) {
                collect(&was, &is, &mut found);
            }
            (name.clone(), found)
        })
        .collect()
}

fn collect(was: &Value, is: &Value, found: &mut Vec<String>) {
    match (was, is) {
        (Value::String(was), Value::String(is)) if was.contains("${") => found.push(is.clone()),
        (Value::Table(was), Value::Table(is)) => {
            for (key, was) in was {
                if let Some(is) = is.get(key) {
                    collect(was, is, found);
                }
            }
        }
        (Value::Array(was), Value::Array(is)) => {
            for (was, is) in was.iter().zip(is) {
                collect(was, is, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::super::reading::{self, parse};

    fn error_of(text: &str) -> String {
        reading::error_of(text, &Environment::default())
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_do() {
        for (text, words) in [
            (
                "kind = \"airbyte\"\n",
                "one of `command`, `package` and `image`",
            ),
            (
                "kind = \"airbyte\"\npackage = \"a\"\nimage = \"b\"\n",
                "one of `command`",
            ),
            ("kind = \"airbyte\"\ncommand = []\n", "command is empty"),
            (
                "kind = \"airbyte\"\nimage = \"b\"\nversion = \"1\"\n",
                "only a `package`",
            ),
            (
                "kind = \"airbyte\"\npackage = \"--pre\"\n",
                "sources.a.package",
            ),
            (
                "kind = \"airbyte\"\npackage = \"x\"\nurl = \"postgres://h/d\"\n",
                "sources.a.url: a setting of kind = \"postgres\"",
            ),
            (
                "kind = \"postgres\"\npath = \"x.csv\"\n",
                "sources.a.path: a setting of kind = \"file\"",
            ),
            ("kind = \"file\"\n", "needs `path`"),
            (
                "kind = \"file\"\npath = \"x\"\ndelimiter = \"ü\"\n",
                "sources.a.delimiter",
            ),
            (
                "kind = \"file\"\npath = \"x\"\nformat = \"xlsx\"\n",
                "ballpoint.toml:4: unknown variant `xlsx`",
            ),
            (
                "kind = \"airbyte\"\npackage = \"x\"\ninterval = \"soon\"\n",
                "ballpoint.toml:4: `soon` is no length of time",
            ),
        ] {
            let error = error_of(&format!("[sources.a]\n{text}"));
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_comes_out_of_the_environment_is_a_secret() {
        let text = "[sources.a]\nkind = \"airbyte\"\npackage = \"x\"\n[sources.a.config]\nuser = \"me\"\n\
                    credentials = { keys = [\"${KEY}\", \"plain\"] }\n";
        let config = parse(text, "f", &Environment::from([("KEY", "hunter2")])).expect("valid");
        let source = &config.sources["a"];
        assert_eq!(source.secrets, ["hunter2"]);
        assert!(!format!("{:?}", source.config).contains("hunter2"));
    }
}
