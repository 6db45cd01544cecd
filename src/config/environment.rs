//! The process environment, read here and nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Values beside `ballpoint.toml` that are not for version control.
pub(crate) const SECRETS_FILE: &str = ".env";

/// A snapshot of the environment, so that what follows is a pure function of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process; values that are not UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// With what the secrets file of a project's folder says; what the process was given comes first.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or a line of it is no `NAME=value`: (line, what).
    pub(crate) fn with_secrets(&self, folder: &Path) -> Result<Self, (usize, String)> {
        let text = match fs::read_to_string(folder.join(SECRETS_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(self.clone()),
            Err(error) => return Err((1, error.to_string())),
        };
        let mut all = self.clone();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                return Err((at + 1, "a line is NAME=value".to_owned()));
            };
            let value = value.trim();
            let bare = ['"', '\'']
                .iter()
                .find_map(|mark| value.strip_prefix(*mark)?.strip_suffix(*mark));
            let value = bare.unwrap_or(value).to_owned();
            all.0.entry(name.trim().to_owned()).or_insert(value);
        }
        Ok(all)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    /// `BALLPOINT__SERVER__LISTEN=…` as (`["server", "listen"]`, value), in name order.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = (Vec<String>, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix("BALLPOINT__")?;
            Some((
                path.split("__").map(str::to_lowercase).collect(),
                value.as_str(),
            ))
        })
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }
}

/// Where traces go, by OpenTelemetry's own variable; absent means nowhere.
pub(crate) fn otlp_endpoint(environment: &Environment) -> Option<String> {
    environment
        .get("OTEL_EXPORTER_OTLP_ENDPOINT")
        .filter(|endpoint| !endpoint.is_empty())
        .map(str::to_owned)
}

/// `BALLPOINT_ABORT_AT=<failpoint>` ends the process there as kill -9 would: the tests' way to die
/// at a durable step.
#[cfg(feature = "failpoints")]
pub(crate) fn arm_abort(environment: &Environment) {
    if let Some(step) = environment.get("BALLPOINT_ABORT_AT") {
        let armed = fail::cfg_callback(step, || std::process::abort());
        assert!(armed.is_ok(), "failpoint {step} cannot be armed: {armed:?}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secrets(text: &str) -> Result<Environment, (usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SECRETS_FILE), text).unwrap();
        Environment::from([("HELD", "by the shell")]).with_secrets(folder.path())
    }

    #[test]
    fn the_secrets_file_fills_in_what_the_shell_does_not_hold() {
        let read =
            secrets("# why\n\nSHOP_URL=postgres://u:a=b%23c@h/d\nHELD=other\nexport Q = 'x y'\n");
        let read = read.unwrap();
        assert_eq!(read.get("SHOP_URL"), Some("postgres://u:a=b%23c@h/d"));
        assert_eq!(read.get("HELD"), Some("by the shell"));
        assert_eq!(read.get("Q"), Some("x y"));
    }

    #[test]
    fn a_line_of_the_secrets_file_that_says_nothing_is_named() {
        assert_eq!(secrets("A=1\nB\n").unwrap_err().0, 2);
        let none = tempfile::tempdir().unwrap();
        assert!(Environment::default().with_secrets(none.path()).is_ok());
    }
}
