//! The page's own files, inside the binary.

use axum::Router;
use axum::http::header;
use axum::routing::{MethodRouter, get};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// `/` and `/assets/*`; open, for they hold no data.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", file(HTML, include_str!("../../app/index.html")))
        .route(
            "/assets/app.css",
            file(CSS, include_str!("../../app/app.css")),
        )
        .route("/assets/app.js", file(JS, include_str!("../../app/app.js")))
        .route(
            "/assets/chart.js",
            file(JS, include_str!("../../app/chart.js")),
        )
}

/// Under a strict content security policy: a row value that looks like HTML stays text.
fn file<S: Clone + Send + Sync + 'static>(
    content_type: &'static str,
    body: &'static str,
) -> MethodRouter<S> {
    const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    get(move || std::future::ready((headers, body)))
}
