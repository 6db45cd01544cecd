//! Who may come in: the checks that stand before a body is read.
//!
//! In this order: a foreign `Host` is 421 (DNS rebinding), a foreign `Origin` is 403, a missing or
//! wrong token is 401 (403 under `/cubejs-api`, as Cube answers), a role too low is 403, a caller
//! that asks too often is 429. Which role a route needs stands in its row of the route table
//! ([`crate::table`]); what is open there holds no data.

mod keys;
mod pace;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ballpoint_metrics::SecurityContext;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::validate_request::ValidateRequestHeaderLayer;

pub use self::keys::{Identity, JwtKey, Keys, Role};
use self::keys::{Presented, Refusal};
pub use self::pace::Pace;
use crate::table::Needs;

/// How long a browser may remember that an origin is allowed.
const PREFLIGHT_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Names the proof of a load's rows: `/api/proofs/{id}`.
pub(crate) const PROOF: HeaderName = HeaderName::from_static("x-ballpoint-proof");

/// What the checks compare with.
pub struct Doors {
    keys: Keys,
    pace: Pace,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Who asked, or why nobody is known; left with the request by [`guard`].
#[derive(Clone)]
struct Caller(Result<Identity, Refusal>);

impl Doors {
    /// `origins` are the configured ones; our own address and loopback's names are always allowed.
    pub fn new(listen: SocketAddr, keys: Keys, pace: Pace, origins: &[String]) -> Self {
        let mut hosts = vec![listen.to_string()];
        // A server on every address is reached by loopback's names too, from a container's host, say.
        if listen.ip().is_loopback() || listen.ip().is_unspecified() {
            let names = ["localhost", "127.0.0.1", "[::1]"];
            hosts.extend(names.iter().map(|name| format!("{name}:{}", listen.port())));
        }
        let authority = |o: &String| o.split_once("://").map(|(_, rest)| rest.to_lowercase());
        hosts.extend(origins.iter().filter_map(authority));
        let mut origins: Vec<_> = origins.iter().map(|o| o.to_lowercase()).collect();
        origins.extend(
            hosts
                .iter()
                .flat_map(|h| [format!("http://{h}"), format!("https://{h}")]),
        );
        Self {
            keys,
            pace,
            hosts,
            origins,
        }
    }

    /// Who logs in with this password, a token or signed claims; without one, whoever needs none.
    pub(crate) fn identify_password(&self, password: Option<&str>) -> Option<Identity> {
        let presented = Presented {
            authorization: password,
            by_cube_client: true,
        };
        let identity = self.keys.identify(&presented).ok()?;
        self.pace.admit(identity.name(), Instant::now()).ok()?;
        Some(identity)
    }

    /// Whether who came in may go on: claims end.
    pub(crate) fn is_current(&self, identity: &Identity) -> bool {
        self.keys.is_current(identity)
    }

    fn host_is_ours(&self, headers: &HeaderMap) -> bool {
        // HTTP/1.1 requires a Host; without one there is nothing that a browser could have rebound.
        text(headers, header::HOST).is_none_or(|host| {
            self.hosts
                .iter()
                .any(|ours| ours.eq_ignore_ascii_case(host))
        })
    }

    fn origin_is_allowed(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.origins.contains(&origin.to_lowercase()))
    }

    /// Who brings this token over a connection of Cube's clients, or Cube's words for nobody.
    pub(crate) fn identify_cube_client(&self, token: &str) -> Result<Identity, &'static str> {
        let presented = Presented {
            authorization: Some(token),
            by_cube_client: true,
        };
        self.keys
            .identify(&presented)
            .map_err(Refusal::as_cube_says_it)
    }

    /// Whether a caller may ask now, rather than too often.
    pub(crate) fn admit(&self, identity: &Identity) -> bool {
        self.pace.admit(identity.name(), Instant::now()).is_ok()
    }

    /// Tells browsers that the allowed origins may read our answers, and answers their preflights.
    pub(crate) fn cors(self: &Arc<Self>) -> CorsLayer {
        let doors = Arc::clone(self);
        let allowed = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
            doors.origin_is_allowed(Some(origin.to_str().unwrap_or_default()))
        };
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allowed))
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER, header::ETAG, PROOF])
            .max_age(PREFLIGHT_MAX_AGE)
    }

    /// The outermost check: was this request meant for us, and does its page belong here?
    pub(crate) fn address(&self, request: &Request) -> Result<(), Refused> {
        let headers = request.headers();
        if !self.host_is_ours(headers) {
            let why = "this host name is not served here";
            return Err(refuse(StatusCode::MISDIRECTED_REQUEST, why).into());
        }
        if !self.origin_is_allowed(text(headers, header::ORIGIN)) {
            let why = "this origin is not allowed; see server.allowed_origins";
            return Err(refuse(StatusCode::FORBIDDEN, why).into());
        }
        Ok(())
    }

    /// Finds out who asks, and leaves it with the request for [`require`].
    pub(crate) fn guard(&self, request: &mut Request) -> Result<(), Refused> {
        let presented = Presented {
            authorization: text(request.headers(), header::AUTHORIZATION),
            by_cube_client: is_cube(request.uri().path()),
        };
        let caller = self.keys.identify(&presented);
        if let Ok(identity) = &caller
            && let Err(wait) = self.pace.admit(identity.name(), Instant::now())
        {
            let seconds = wait.as_secs_f64().ceil().max(1.0).to_string();
            let mut refused = refuse(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests with this token; see auth.requests_per_second",
            );
            if let Ok(value) = HeaderValue::from_str(&seconds) {
                refused.headers_mut().insert(header::RETRY_AFTER, value);
            }
            return Err(refused.into());
        }
        request.extensions_mut().insert(Caller(caller));
        Ok(())
    }
}

/// Whether the token's claims let it use this part of the metrics API, over whichever protocol. Claims
/// without `scopes` have all.
pub(crate) fn allowed(context: &SecurityContext, scope: &str) -> Result<(), (u16, String)> {
    let has = match context.claims.get("scopes") {
        None | Some(Value::Null) => true,
        Some(Value::Array(scopes)) => scopes.iter().any(|it| it == scope),
        Some(Value::String(scopes)) => scopes.split([' ', ',']).any(|it| it == scope),
        Some(_) => false,
    };
    match has {
        true => Ok(()),
        false => Err((403, format!("API scope is missing: {scope}"))),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // A header that is no text is nobody's: it compares with nothing.
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

/// Whoever may not come in is answered at once. Boxed: most may.
pub(crate) type Refused = Box<Response>;

/// A check as a layer, in front of what it guards.
pub(crate) fn checked<F>(
    mut check: F,
) -> ValidateRequestHeaderLayer<
    impl FnMut(&mut Request) -> Result<(), Response> + Clone + Send + Sync + 'static,
>
where
    F: FnMut(&mut Request) -> Result<(), Refused> + Clone + Send + Sync + 'static,
{
    #[expect(clippy::result_large_err, reason = "the layer takes no box")]
    let check = move |request: &mut Request| check(request).map_err(|refused| *refused);
    ValidateRequestHeaderLayer::custom(check)
}

/// Lets a request through to a route that needs this much.
pub(crate) fn require(needs: Needs, request: &mut Request) -> Result<(), Refused> {
    let Needs::Role(least) = needs else {
        return Ok(());
    };
    let caller = request.extensions_mut().remove::<Caller>();
    // Without the guard before it, a route is closed.
    match caller.map_or(Err(Refusal::Missing), |Caller(caller)| caller) {
        Ok(identity) if identity.role() >= least => {
            request.extensions_mut().insert(identity);
            Ok(())
        }
        Ok(identity) => {
            let (least, has) = (least.name(), identity.role().name());
            let why = format!("this needs the role {least}; the token's is {has}");
            Err(refuse(StatusCode::FORBIDDEN, &why).into())
        }
        Err(refusal) if is_cube(request.uri().path()) => {
            Err(refuse(StatusCode::FORBIDDEN, refusal.as_cube_says_it()).into())
        }
        Err(refusal) => {
            let mut refused = refuse(StatusCode::UNAUTHORIZED, &refusal.to_string());
            refused.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"ballpoint\""),
            );
            Err(refused.into())
        }
    }
}

/// What every answer carries: a row value that looks like HTML stays text, nobody frames us, and
/// nothing is loaded from elsewhere.
pub(crate) fn harden(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'self'; style-src 'self'; img-src 'self' data:; \
         object-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = response.headers_mut();
    let set = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Answers are somebody's; only the page's own files say that they may be kept.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_cube(path: &str) -> bool {
    path.starts_with("/cubejs-api")
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Doors {
        let listen = "127.0.0.1:4000".parse().unwrap();
        let allowed = ["https://App.example".to_owned()];
        Doors::new(listen, Keys::none(), Pace::new(1000), &allowed)
    }

    fn host(name: &str) -> HeaderMap {
        [(header::HOST, name.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_rebound_host_name_is_not_ours() {
        assert!(doors().host_is_ours(&host("localhost:4000")));
        assert!(!doors().host_is_ours(&host("evil.example:4000")));
        assert!(!doors().host_is_ours(&host("localhost:4001")));
    }

    #[test]
    fn scopes_bound_what_a_token_opens_and_an_oidc_scope_is_none() {
        let open = |claims: Value| {
            let context = SecurityContext::from_claims(claims, "groups");
            ["data", "meta"].map(|scope| allowed(&context, scope).is_ok())
        };
        assert_eq!(open(json!({ "scopes": ["meta"] })), [false, true]);
        assert_eq!(open(json!({ "scopes": [] })), [false, false]);
        assert_eq!(open(json!({ "scope": "openid profile" })), [true, true]);
        assert_eq!(open(Value::Null), [true, true]);
    }

    #[test]
    fn only_our_own_origin_and_the_configured_ones_are_allowed() {
        let allowed = |origin| doors().origin_is_allowed(Some(origin));
        assert!(allowed("http://127.0.0.1:4000"));
        assert!(allowed("https://app.example"));
        assert!(!allowed("http://evil.example"));
        assert!(!allowed("null"));
        assert!(doors().origin_is_allowed(None));
    }
}
