//! Who may come in: the checks that stand before routing and before any body is read.
//!
//! In this order: a foreign `Host` is 421 (DNS rebinding), a foreign `Origin` is 403, a missing or
//! wrong token is 401 (403 under `/cubejs-api`, as Cube answers). Health checks and the page's own
//! files are open; they hold no data.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What the checks compare with.
pub struct Doors {
    /// `None`: `auth.mode = "none"`, which the configuration allows on loopback only.
    token_digest: Option<[u8; 32]>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Doors {
    /// `origins` are the configured ones; our own address and loopback's names are always allowed.
    pub fn new(listen: SocketAddr, token: Option<&str>, origins: &[String]) -> Self {
        let mut hosts = vec![listen.to_string()];
        if listen.ip().is_loopback() {
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
            token_digest: token.map(digest),
            hosts,
            origins,
        }
    }

    fn host_is_ours(&self, headers: &HeaderMap) -> bool {
        // HTTP/1.1 requires a Host; without one there is nothing that a browser could have rebound.
        text(headers, header::HOST).is_none_or(|host| self.hosts.contains(&host.to_lowercase()))
    }

    fn origin_is_allowed(&self, headers: &HeaderMap) -> bool {
        text(headers, header::ORIGIN).is_none_or(|o| self.origins.contains(&o.to_lowercase()))
    }

    fn token_is_right(&self, headers: &HeaderMap, raw_is_enough: bool) -> Result<(), Refusal> {
        let Some(expected) = &self.token_digest else {
            return Ok(());
        };
        let given = text(headers, header::AUTHORIZATION)
            .filter(|value| !value.is_empty())
            .ok_or(Refusal::Missing)?;
        let token = given
            .strip_prefix("Bearer ")
            .or_else(|| given.strip_prefix("bearer "))
            .or(raw_is_enough.then_some(given));
        // Digests are compared, so the time taken says nothing about the token.
        match token {
            Some(token) if digest(token) == *expected => Ok(()),
            _ => Err(Refusal::Wrong),
        }
    }
}

enum Refusal {
    Missing,
    Wrong,
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The middleware; see the module.
pub(crate) async fn guard(
    State(doors): State<Arc<Doors>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if !doors.host_is_ours(headers) {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not served here",
        );
    }
    if !doors.origin_is_allowed(headers) {
        return refuse(
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see server.allowed_origins",
        );
    }
    let path = request.uri().path();
    if is_open(path) {
        return next.run(request).await;
    }
    let is_cube = path.starts_with("/cubejs-api");
    match doors.token_is_right(headers, is_cube) {
        Ok(()) => next.run(request).await,
        Err(Refusal::Missing) if is_cube => {
            refuse(StatusCode::FORBIDDEN, "Authorization header isn't set")
        }
        Err(Refusal::Wrong) if is_cube => refuse(StatusCode::FORBIDDEN, "Invalid token"),
        Err(Refusal::Missing) => refuse(
            StatusCode::UNAUTHORIZED,
            "a token is needed: Authorization: Bearer <token>",
        ),
        Err(Refusal::Wrong) => refuse(StatusCode::UNAUTHORIZED, "the token is not valid"),
    }
}

fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/livez" | "/readyz" | "/health") || path.starts_with("/assets/")
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.clone(), v.parse().unwrap()))
            .collect()
    }

    fn doors() -> Doors {
        Doors::new("127.0.0.1:4000".parse().unwrap(), Some("secret"), &[])
    }

    #[test]
    fn a_rebound_host_name_is_not_ours() {
        assert!(doors().host_is_ours(&headers(&[(header::HOST, "localhost:4000")])));
        assert!(!doors().host_is_ours(&headers(&[(header::HOST, "evil.example:4000")])));
    }

    #[test]
    fn only_our_own_origin_is_allowed_by_default() {
        assert!(doors().origin_is_allowed(&headers(&[(header::ORIGIN, "http://127.0.0.1:4000")])));
        assert!(!doors().origin_is_allowed(&headers(&[(header::ORIGIN, "http://evil.example")])));
    }

    #[test]
    fn a_token_is_taken_raw_only_where_cube_takes_it() {
        let raw = headers(&[(header::AUTHORIZATION, "secret")]);
        assert!(doors().token_is_right(&raw, true).is_ok());
        assert!(doors().token_is_right(&raw, false).is_err());
        let bearer = headers(&[(header::AUTHORIZATION, "Bearer secret")]);
        assert!(doors().token_is_right(&bearer, false).is_ok());
        let wrong = headers(&[(header::AUTHORIZATION, "Bearer other")]);
        assert!(doors().token_is_right(&wrong, true).is_err());
    }
}
