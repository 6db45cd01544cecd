//! What the configuration says of the doors, checked: tokens, the signing secret, other origins.

use std::collections::BTreeMap;

use super::checks::{PLAIN_NAME, is_plain};
use super::schema::{AuthConfig, AuthMode, Config};

/// Refuses what would leave a door open, or shut for no reason.
///
/// # Errors
/// Names the key and says what to write.
pub(super) fn check(config: &Config) -> Result<(), String> {
    check_auth(&config.auth)?;
    let origins = &config.server.allowed_origins;
    origins.iter().try_for_each(|origin| check_origin(origin))
}

/// Browsers send an origin without a path, and there is no "every origin" among those who may act
/// with somebody's token.
fn check_origin(origin: &str) -> Result<(), String> {
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    match authority {
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '*', '@']) => Ok(()),
        _ => Err(format!(
            "server.allowed_origins: {origin:?} is no origin; it looks like https://app.example.com \
             or http://localhost:3000, without a path"
        )),
    }
}

/// Shorter secrets can be guessed.
pub(super) const SECRET_CHARS_MIN: usize = 16;

/// Whom the audit and the pace name otherwise: the data dir's token, whoever comes where none is asked
/// for, a write-back's own policy, and a run.
const RESERVED_NAMES: [&str; 4] = ["owner", "local", "policy", "run"];

fn check_auth(auth: &AuthConfig) -> Result<(), String> {
    let strong = |at: &str, secret: &str| {
        if secret.chars().count() >= SECRET_CHARS_MIN && secret.trim() == secret {
            return Ok(());
        }
        Err(format!(
            "{at}: a secret has {SECRET_CHARS_MIN} characters or more and no space around it; \
             `openssl rand -hex 32` makes one"
        ))
    };
    // A short one is Cube's own example, and enough where only this machine can ask.
    if auth
        .jwt_secret
        .as_ref()
        .is_some_and(|it| it.0.trim() != it.0 || it.0.is_empty())
    {
        return Err("auth.jwt_secret: a secret is not empty and has no space around it".to_owned());
    }
    if auth.mode == AuthMode::None && !auth.tokens.is_empty() {
        return Err(
            "auth.tokens: with auth.mode = \"none\" nobody is asked for a token; remove one of them"
                .to_owned(),
        );
    }
    let mut seen = BTreeMap::new();
    for (name, token) in &auth.tokens {
        if !is_plain(name) {
            return Err(format!("auth.tokens.{name}: {PLAIN_NAME}"));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(format!(
                "auth.tokens.{name}: the audit means somebody else by this name; take another than {}",
                RESERVED_NAMES.join(", ")
            ));
        }
        strong(&format!("auth.tokens.{name}.token"), &token.token.0)?;
        if let Some(other) = seen.insert(&token.token.0, name) {
            return Err(format!(
                "auth.tokens.{name}: the token is that of {other}; give each its own"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::environment::Environment;
    use crate::config::reading::{error_of, parse};

    #[test]
    fn a_token_that_can_be_guessed_or_means_nothing_is_refused() {
        let nobody = Environment::default();
        let token = |name: &str, token: &str| {
            format!("[auth.tokens.{name}]\nrole = \"viewer\"\ntoken = \"{token}\"\n")
        };
        let error = error_of(&token("wall", "short"), &nobody);
        assert!(error.contains("auth.tokens.wall.token"), "{error}");
        let long = "0123456789abcdef";
        let twice = format!("{}{}", token("a", long), token("b", long));
        assert!(error_of(&twice, &nobody).contains("is that of a"));
        let unasked = format!("[auth]\nmode = \"none\"\n{}", token("a", long));
        assert!(error_of(&unasked, &nobody).contains("auth.mode"));
        let config = parse(&token("wall", long), "f", &nobody).expect("valid");
        assert!(
            !format!("{config:?}").contains(long),
            "a secret is never printed"
        );
        let error = error_of("[auth.tokens.a]\nrole = \"king\"\ntoken = \"x\"\n", &nobody);
        assert!(error.contains("viewer") && error.contains(":2:"), "{error}");
    }

    #[test]
    fn a_token_takes_no_name_that_the_audit_gives_to_somebody_else() {
        for name in super::RESERVED_NAMES {
            let token =
                format!("[auth.tokens.{name}]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"\n");
            let error = error_of(&token, &Environment::default());
            assert!(error.contains(&format!("auth.tokens.{name}")), "{error}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let nobody = Environment::default();
        let allowed = |origin: &str| format!("[server]\nallowed_origins = [\"{origin}\"]\n");
        for wrong in [
            "*",
            "localhost:3000",
            "https://a.example/",
            "https://*.example",
        ] {
            let error = error_of(&allowed(wrong), &nobody);
            assert!(error.contains("allowed_origins"), "{wrong}: {error}");
        }
        parse(&allowed("http://localhost:3000"), "f", &nobody).expect("valid");
    }
}
