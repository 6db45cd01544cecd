//! The page's own files, inside the binary.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// `/` and `/assets/*`; open, for they hold no data. Under a strict content security policy: a row
/// value that looks like HTML stays text.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    const JS: &str = "text/javascript; charset=utf-8";
    Router::new()
        .route(
            "/",
            get(|| {
                file(
                    "text/html; charset=utf-8",
                    include_str!("../../app/index.html"),
                )
            }),
        )
        .route(
            "/assets/app.css",
            get(|| file("text/css; charset=utf-8", include_str!("../../app/app.css"))),
        )
        .route(
            "/assets/app.js",
            get(|| file(JS, include_str!("../../app/app.js"))),
        )
        .route(
            "/assets/chart.js",
            get(|| file(JS, include_str!("../../app/chart.js"))),
        )
}

async fn file(content_type: &'static str, body: &'static str) -> Response {
    const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (
            POLICY,
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}
