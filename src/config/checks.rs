//! What must hold of a configuration as a whole: addresses, names, databases, the language model.

use std::net::SocketAddr;

use sqlx::postgres::PgConnectOptions;

use super::doors::SECRET_CHARS_MIN;
use super::schema::{AuthMode, Config, LlmConfig, SourceConfig};
use crate::output::UserError;

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

/// Refuses what cannot work, before anything is created.
///
/// # Errors
/// Names the key and says what to write.
pub(super) fn check(config: &Config) -> Result<(), String> {
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
    use crate::config::environment::Environment;
    use crate::config::reading::{error_of, parse};

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
    fn a_seed_for_a_database_that_is_not_ours_is_refused() {
        let error = error_of(
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://h/d\"\nseed = \"s\"\n",
            &Environment::default(),
        );
        assert!(error.contains("embedded databases only"), "{error}");
    }
}
