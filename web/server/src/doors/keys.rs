//! Tokens and what they open: the data dir's token, the configured ones, and signed claims.
//!
//! Tokens are kept as digests and digests are compared, so that neither a core dump shows a token
//! nor the time taken says how much of a guess was right.

use ballpoint_metrics::SecurityContext;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How far two machines' clocks may differ, in seconds.
const CLOCK_SKEW_SECS: f64 = 30.0;

/// What a caller may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads and asks.
    Viewer,
    /// Also runs, restarts, plans and approves.
    Operator,
    /// Also sees secrets.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    role: Role,
    /// The claims of a signed token; `None` for one of ours.
    context: Option<SecurityContext>,
    /// When the claims end, in seconds since 1970.
    ends: Option<f64>,
}

impl Identity {
    /// The token's name; approvals and the audit carry it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Whom Cube's access policies are applied to: whoever holds one of our own tokens asks as the
    /// owner of the data, without groups.
    pub fn security_context(&self) -> SecurityContext {
        self.context.clone().unwrap_or_default()
    }
}

/// Signs claims for the metrics API (HS256), as Cube's `CUBEJS_API_SECRET` does.
pub struct JwtKey {
    key: hmac::Key,
    groups_claim: String,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl JwtKey {
    /// Real time is what `exp` and `nbf` are compared with.
    pub fn new(
        secret: &str,
        groups_claim: &str,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            groups_claim: groups_claim.to_owned(),
            now: Box::new(now),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    fn seconds(&self) -> f64 {
        (self.now)().as_second() as f64
    }

    fn lasts(&self, end: f64) -> bool {
        end > self.seconds() - CLOCK_SKEW_SECS
    }

    /// The claims of a token that this key has signed and that is valid now. The algorithm is ours
    /// to say, not the token's: any other, `none` among them, is refused.
    fn claims(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, body) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (head, claims) = (json(head)?, json(body)?);
        let known = head.get("alg")?.as_str()? == "HS256" && head.get("crit").is_none();
        let now = self.seconds();
        // A moment of another type is no moment: it must not count as absent.
        let moment = |name: &str| claims.get(name).map(Value::as_f64);
        let begun = moment("nbf").is_none_or(|at| at.is_some_and(|at| at <= now + CLOCK_SKEW_SECS));
        let lasts = moment("exp").is_none_or(|at| at.is_some_and(|at| self.lasts(at)));
        (known && begun && lasts && claims.is_object()).then_some(claims)
    }
}

/// What a request shows.
pub(super) struct Presented<'a> {
    pub(super) authorization: Option<&'a str>,
    /// Cube's clients send their token raw too, and signed claims.
    pub(super) by_cube_client: bool,
}

/// Why nobody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("a token is needed: Authorization: Bearer <token>")]
    Missing,
    #[error("the token is not valid")]
    Wrong,
}

impl Refusal {
    pub(super) fn as_cube_says_it(self) -> &'static str {
        match self {
            Self::Missing => "Authorization header isn't set",
            Self::Wrong => "Invalid token",
        }
    }
}

/// Every key that opens a door.
pub struct Keys {
    /// `None`: `auth.mode = "none"`, which the configuration allows on loopback only.
    tokens: Option<Vec<(Identity, [u8; 32])>>,
    jwt: Option<JwtKey>,
}

impl Keys {
    /// No key is needed: whoever reaches us is the owner.
    pub fn none() -> Self {
        Self {
            tokens: None,
            jwt: None,
        }
    }

    /// The data dir's token, whose holder may do everything.
    pub fn owner(token: &str) -> Self {
        let keys = Self {
            tokens: Some(Vec::new()),
            jwt: None,
        };
        keys.with_token("owner", Role::Admin, token)
    }

    /// Another token.
    #[must_use]
    pub fn with_token(mut self, name: &str, role: Role, token: &str) -> Self {
        let identity = Identity {
            name: name.to_owned(),
            role,
            context: None,
            ends: None,
        };
        if let Some(tokens) = &mut self.tokens {
            tokens.push((identity, digest(token)));
        }
        self
    }

    /// Signed claims are taken by the metrics API.
    #[must_use]
    pub fn with_jwt(mut self, key: JwtKey) -> Self {
        self.jwt = Some(key);
        self
    }

    /// Whether who came in with claims could come in with them still.
    pub(super) fn is_current(&self, identity: &Identity) -> bool {
        let lasts = |end| self.jwt.as_ref().is_some_and(|jwt| jwt.lasts(end));
        identity.ends.is_none_or(lasts)
    }

    pub(super) fn identify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        let authorization = presented.authorization.filter(|value| !value.is_empty());
        let token = authorization.and_then(|given| {
            given
                .strip_prefix("Bearer ")
                .or_else(|| given.strip_prefix("bearer "))
                .or(presented.by_cube_client.then_some(given))
        });
        // Claims narrow what is seen, with or without other keys.
        if let (Some(jwt), Some(token), true) = (&self.jwt, token, presented.by_cube_client)
            && let Some(claims) = jwt.claims(token)
        {
            return Ok(Identity {
                name: format!("jwt:{}", claims["sub"].as_str().unwrap_or_default()),
                role: Role::Viewer,
                ends: claims["exp"].as_f64(),
                context: Some(SecurityContext::from_claims(claims, &jwt.groups_claim)),
            });
        }
        let Some(tokens) = &self.tokens else {
            return Ok(Identity {
                name: "local".to_owned(),
                role: Role::Admin,
                context: None,
                ends: None,
            });
        };
        if authorization.is_none() {
            return Err(Refusal::Missing);
        }
        let given = digest(token.ok_or(Refusal::Wrong)?);
        let found = tokens.iter().find(|(_, expected)| *expected == given);
        found
            .map(|(identity, _)| identity.clone())
            .ok_or(Refusal::Wrong)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-31T10:00:00Z";

    fn keys() -> Keys {
        Keys::owner("secret")
            .with_token("wall", Role::Viewer, "screen")
            .with_jwt(JwtKey::new("sign", "teams", || NOW.parse().unwrap()))
    }

    fn identify(authorization: &str, by_cube_client: bool) -> Result<Identity, Refusal> {
        keys().identify(&Presented {
            authorization: Some(authorization),
            by_cube_client,
        })
    }

    fn signed(head: &str, claims: &str, secret: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(head), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_has_its_role() {
        assert_eq!(
            identify("Bearer secret", false).unwrap().role(),
            Role::Admin
        );
        let wall = identify("Bearer screen", false).unwrap();
        assert_eq!((wall.name(), wall.role()), ("wall", Role::Viewer));
        assert_eq!(identify("Bearer other", false).unwrap_err(), Refusal::Wrong);
        assert_eq!(identify("", false).unwrap_err(), Refusal::Missing);
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }

    #[test]
    fn a_token_is_taken_raw_only_where_cube_takes_it() {
        assert!(identify("secret", true).is_ok());
        assert!(identify("secret", false).is_err());
    }

    #[test]
    fn claims_become_the_security_context_of_the_metrics_api_and_open_nothing_else() {
        let head = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = r#"{"sub":"ann","teams":["plant-2"],"exp":1774951260}"#;
        let token = signed(head, claims, "sign");
        let ann = identify(&token, true).unwrap();
        assert_eq!(ann.role(), Role::Viewer);
        assert_eq!(ann.security_context().groups, ["plant-2"]);
        assert!(identify(&format!("Bearer {token}"), true).is_ok());
        assert!(identify(&format!("Bearer {token}"), false).is_err());
    }

    #[test]
    fn claims_end_for_who_is_inside_too() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicI64, Ordering};
        let at = Arc::new(AtomicI64::new(1_774_951_200));
        let clock = Arc::clone(&at);
        let now = move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap();
        let keys = Keys::owner("secret").with_jwt(JwtKey::new("sign", "teams", now));
        let inside = |token: &str| {
            let presented = Presented {
                authorization: Some(token),
                by_cube_client: true,
            };
            keys.identify(&presented).unwrap()
        };
        let head = r#"{"alg":"HS256"}"#;
        let hour = inside(&signed(head, r#"{"exp":1774954800}"#, "sign"));
        let (endless, owner) = (inside(&signed(head, "{}", "sign")), inside("secret"));
        assert!(keys.is_current(&hour));
        at.store(1_774_958_400, Ordering::Relaxed);
        assert!(!keys.is_current(&hour));
        assert!(keys.is_current(&endless) && keys.is_current(&owner));
    }

    #[test]
    fn claims_that_are_unsigned_old_early_or_signed_otherwise_are_refused() {
        let head = r#"{"alg":"HS256"}"#;
        for (head, claims, secret) in [
            (head, r#"{"exp":1774950000}"#, "sign"),
            (head, r#"{"exp":"1999999999"}"#, "sign"),
            (head, r#"{"nbf":1999999999}"#, "sign"),
            (head, r#"{"nbf":"soon"}"#, "sign"),
            (head, "{}", "guess"),
            (head, "[]", "sign"),
            (r#"{"alg":"none"}"#, "{}", "sign"),
            (r#"{"alg":"HS512"}"#, "{}", "sign"),
            (r#"{"alg":"HS256","crit":["b64"]}"#, "{}", "sign"),
        ] {
            let refused = identify(&signed(head, claims, secret), true);
            assert!(refused.is_err(), "{head} {claims}");
        }
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode("{}")
        );
        assert!(identify(&unsigned, true).is_err());
    }

    #[test]
    fn without_keys_whoever_comes_is_the_owner() {
        let nobody = Presented {
            authorization: None,
            by_cube_client: false,
        };
        let owner = Keys::none().identify(&nobody).unwrap();
        assert_eq!(owner.role(), Role::Admin);
    }
}
