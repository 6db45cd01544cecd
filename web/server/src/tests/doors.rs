//! Who comes in where: walked from the route table itself.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::support::{FRONT_END, HOST, MARKER, OPERATOR, OWNER, Stack, VIEWER, read, text};
use crate::doors::{Pace, Role};
use crate::routes;
use crate::table::{Needs, Route};

/// A place of that path.
fn filled(route: &Route) -> String {
    let parts = route.path.split('/');
    let fill = |part: &str| {
        if part.starts_with('{') {
            "x".to_owned()
        } else {
            part.to_owned()
        }
    };
    parts.map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_closed_to_who_has_no_token_or_a_role_too_low() {
    let stack = Stack::start().await;
    let mut closed = 0;
    for route in routes::all(true) {
        let (method, path) = (route.method.as_str(), filled(&route));
        let bare = stack.send(Stack::request(method, &path, None)).await;
        let Needs::Role(role) = route.needs else {
            assert_ne!(bare.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert_ne!(bare.status(), StatusCode::FORBIDDEN, "{path}");
            continue;
        };
        closed += 1;
        let expected = match path.starts_with("/cubejs-api") {
            true => StatusCode::FORBIDDEN,
            false => StatusCode::UNAUTHORIZED,
        };
        for refused in [
            bare,
            stack
                .send(Stack::request(method, &path, Some("wrong")))
                .await,
        ] {
            assert_eq!(refused.status(), expected, "{method} {path}");
            let (_, body) = read(refused).await;
            assert!(body["error"].is_string(), "{method} {path}: {body}");
        }
        let lower: &[&str] = match role {
            Role::Viewer => &[],
            Role::Operator => &[VIEWER],
            Role::Admin => &[VIEWER, OPERATOR],
        };
        for token in lower {
            let refused = stack.send(Stack::request(method, &path, Some(token))).await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    assert!(closed > 30, "{closed} routes were walked");
}

#[tokio::test]
async fn what_changes_something_needs_more_than_a_viewer() {
    let harmless = [
        "/api/ask",
        "/api/chat/stream",
        "/api/proofs/{id}/replay",
        "/api/rollups/explain",
        "/chat",
        "/mcp",
        "/v1/chat/completions",
    ];
    for route in routes::all(true) {
        let changes = route.method != "GET"
            && !route.path.starts_with("/cubejs-api")
            && !harmless.contains(&route.path);
        let needs_more = route.needs >= Needs::Role(Role::Operator);
        assert_eq!(changes, needs_more, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_as_json_and_only_to_who_may_come_in() {
    let stack = Stack::start().await;
    for (method, path, status) in [
        ("GET", "/api/nothing", StatusCode::NOT_FOUND),
        ("POST", "/nothing", StatusCode::NOT_FOUND),
        ("POST", "/api/bootstrap", StatusCode::METHOD_NOT_ALLOWED),
        ("DELETE", "/api/ask", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let bare = stack.send(Stack::request(method, path, None)).await;
        assert_eq!(bare.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
        let known = stack.send(Stack::request(method, path, Some(VIEWER))).await;
        let (found, body) = read(known).await;
        assert_eq!(found, status, "{method} {path}");
        assert!(body["error"].is_string(), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_json_with_its_code() {
    let stack = Stack::start().await;
    for path in [
        "/api/runs?limit=many",
        "/api/runs?kind=%00",
        "/api/runs/%FF",
        "/api/incidents?limit=-1",
        "/api/conversations?search=a&search=b",
        "/api/conversations/%00",
        "/api/proofs/%00",
        "/api/write-backs/plans/x/rows?limit=many",
        "/api/write-backs?limit=many",
        "/api/write-backs/audit?limit=many",
    ] {
        let (status, body) = stack.get(path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
        assert_eq!(body["code"], "bad_request", "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
    for body in ["{", "[1]", r#"{"sources": 5}"#, r#"{"source": ["a"]}"#] {
        let mut request = Stack::with_body("/api/sync", OPERATOR, &serde_json::Value::Null);
        *request.body_mut() = Body::from(body);
        let (status, said) = read(stack.send(request).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {said}");
        assert_eq!(said["code"], "bad_request", "{body}: {said}");
    }
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_turned_away_before_anything_else() {
    let stack = Stack::start().await;
    for path in ["/livez", "/", "/api/bootstrap"] {
        let mut foreign = Stack::request("GET", path, Some(OWNER));
        let host = header::HeaderValue::from_static("evil.example:4000");
        foreign.headers_mut().insert(header::HOST, host);
        let refused = stack.send(foreign).await;
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        let mut foreign = Stack::request("GET", path, Some(OWNER));
        let origin = header::HeaderValue::from_static("http://evil.example");
        foreign.headers_mut().insert(header::ORIGIN, origin);
        let refused = stack.send(foreign).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
        let allowed = text(refused.headers(), "access-control-allow-origin");
        assert_eq!(allowed, "", "{path}");
    }
}

#[tokio::test]
async fn an_allowed_origin_may_ask_first_and_read_the_answer() {
    let stack = Stack::start().await;
    let preflight = |origin: &str| {
        Request::builder()
            .method("OPTIONS")
            .uri("/chat")
            .header(header::HOST, HOST)
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,content-type",
            )
            .body(Body::empty())
            .unwrap()
    };
    let reply = stack.send(preflight(FRONT_END)).await;
    assert!(reply.status().is_success(), "{}", reply.status());
    let says = |name| text(reply.headers(), name).to_lowercase();
    assert_eq!(says("access-control-allow-origin"), FRONT_END);
    assert!(says("access-control-allow-methods").contains("post"));
    assert!(says("access-control-allow-headers").contains("authorization"));
    let refused = stack.send(preflight("http://evil.example")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let mut asked = Stack::request("GET", "/health", None);
    let origin = header::HeaderValue::from_static(FRONT_END);
    asked.headers_mut().insert(header::ORIGIN, origin);
    let reply = stack.send(asked).await;
    let allowed = text(reply.headers(), "access-control-allow-origin");
    assert_eq!(allowed, FRONT_END);
}

#[tokio::test]
async fn every_answer_forbids_what_a_page_could_be_made_to_do() {
    let stack = Stack::start().await;
    for path in ["/", "/api/bootstrap", "/api/nothing"] {
        let reply = stack.send(Stack::request("GET", path, Some(OWNER))).await;
        let policy = text(reply.headers(), "content-security-policy");
        for part in [
            "default-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(text(reply.headers(), "x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let stack = Stack::with_pace(Pace::new(1)).await;
    let mut refused = None;
    for _ in 0..50 {
        let reply = stack
            .send(Stack::request("GET", "/api/runs", Some(VIEWER)))
            .await;
        if reply.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("more than a second's worth at once is refused");
    assert_eq!(text(refused.headers(), "retry-after"), "1");
    let other = stack
        .send(Stack::request("GET", "/api/runs", Some(OWNER)))
        .await;
    assert_eq!(other.status(), StatusCode::OK, "others are not held up");
}

#[tokio::test]
async fn connection_urls_are_shown_to_the_admin_alone() {
    let stack = Stack::start().await;
    for (token, shown) in [(OWNER, true), (OPERATOR, false), (VIEWER, false)] {
        let reply = stack
            .send(Stack::request("GET", "/api/status", Some(token)))
            .await;
        let (status, body) = read(reply).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body.to_string().contains(MARKER), shown, "{token}");
        assert!(body["actors"].is_array());
    }
}

#[tokio::test]
async fn a_body_larger_than_any_question_is_refused() {
    let stack = Stack::start().await;
    let body = serde_json::json!({ "question": "x".repeat(2 * 1024 * 1024) });
    let reply = stack
        .send(Stack::with_body("/api/ask", VIEWER, &body))
        .await;
    assert!(reply.status().is_client_error(), "{}", reply.status());
}
