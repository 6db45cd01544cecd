//! The page's own files, inside the binary; open, for they hold no data. They are built from
//! `web/app` into `web/dist` and committed, so that building the program needs no Node.

use std::sync::LazyLock;

use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, File, include_dir};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::routes::cube_socket;
use crate::table::{OPEN, Route, get};

static DIST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../dist");

/// Present when a client wants to speak Cube's WebSocket protocol, which is served at the root.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// The addresses that the app draws itself, beside the root.
const PAGES: [&str; 6] = [
    "/ask",
    "/ask/{id}",
    "/pipeline",
    "/system",
    "/write-backs",
    "/write-backs/{plan}",
];

/// Encodings in which a file may lie beside itself, best first: their names and file endings.
const ENCODINGS: [(&str, &str); 2] = [("br", "br"), ("gzip", "gz")];

/// A file of the page, as it is and compressed.
struct Asset {
    content_type: &'static str,
    tag: String,
    plain: &'static [u8],
    /// Encoding and content.
    compressed: Vec<(&'static str, &'static [u8])>,
}

/// Every file with its address.
static ASSETS: LazyLock<Vec<(String, Asset)>> = LazyLock::new(|| {
    let mut found = Vec::new();
    let mut folders = vec![&DIST];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files().filter(|it| content_type(it).is_some()) {
            found.push((format!("/{}", file.path().display()), asset(file)));
        }
    }
    found
});

/// The pages and `/assets/*`.
pub(crate) fn routes() -> Vec<Route> {
    let mut table = Vec::new();
    for (path, asset) in ASSETS.iter() {
        let answer = async move |asked: HeaderMap| serve(asset, &asked);
        if path == "/index.html" {
            table.extend(PAGES.map(|page| get(page, OPEN, answer)));
            table.push(get(
                "/",
                OPEN,
                async move |State(app): State<App>, upgrade: Upgrade, asked: HeaderMap| {
                    match upgrade {
                        Ok(upgrade) if app.system.has_metrics => cube_socket::accept(app, upgrade),
                        _ => serve(asset, &asked),
                    }
                },
            ));
        } else {
            table.push(get(path, OPEN, answer));
        }
    }
    table
}

fn content_type(file: &File<'_>) -> Option<&'static str> {
    Some(match file.path().extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json",
        _ => return None,
    })
}

fn asset(file: &'static File<'static>) -> Asset {
    let beside = |ending: &str| DIST.get_file(format!("{}.{ending}", file.path().display()));
    Asset {
        content_type: content_type(file).unwrap_or("application/octet-stream"),
        tag: tag(file.contents()),
        plain: file.contents(),
        compressed: ENCODINGS
            .iter()
            .filter_map(|(name, ending)| Some((*name, beside(ending)?.contents())))
            .collect(),
    }
}

/// Names have no hash in them, so a browser asks each time whether what it keeps is still right.
fn serve(asset: &Asset, asked: &HeaderMap) -> Response {
    let says = |name| {
        let value = asked.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
        (header::ETAG, &asset.tag),
    ];
    let has_it = |kept: &str| kept.trim().trim_start_matches("W/") == asset.tag;
    if says(header::IF_NONE_MATCH).split(',').any(has_it) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let accepted = says(header::ACCEPT_ENCODING);
    let takes = |encoding: &str| accepted.split(',').any(|it| it.trim() == encoding);
    match asset.compressed.iter().find(|(it, _)| takes(it)) {
        Some((encoding, body)) => {
            let encoding = [(header::CONTENT_ENCODING, *encoding)];
            (headers, encoding, *body).into_response()
        }
        None => (headers, asset.plain).into_response(),
    }
}

fn tag(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let hex: String = digest
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> &'static str {
        DIST.get_file("index.html")
            .unwrap()
            .contents_utf8()
            .unwrap()
    }

    fn asked(name: header::HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn every_page_and_every_file_that_the_page_names_is_served() {
        let served: Vec<&str> = routes().iter().map(|route| route.path).collect();
        for page in PAGES {
            assert!(served.contains(&page), "{page}");
        }
        let named = index().split('"').filter(|it| it.starts_with("/assets/"));
        let named: Vec<&str> = named.collect();
        assert!(!named.is_empty());
        for name in named {
            assert!(served.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_file_that_the_browser_still_has_is_not_sent_again() {
        let asset = asset(DIST.get_file("index.html").unwrap());
        assert_eq!(serve(&asset, &HeaderMap::new()).status(), StatusCode::OK);
        let kept = asked(header::IF_NONE_MATCH, &asset.tag);
        assert_eq!(serve(&asset, &kept).status(), StatusCode::NOT_MODIFIED);
        let old = asked(header::IF_NONE_MATCH, "\"other\"");
        assert_eq!(serve(&asset, &old).status(), StatusCode::OK);
    }

    #[test]
    fn a_compressed_file_is_sent_to_who_takes_it() {
        let asset = Asset {
            content_type: "text/css",
            tag: "\"t\"".to_owned(),
            plain: b"plain",
            compressed: vec![("br", b"br"), ("gzip", b"gz")],
        };
        let encoding = |accepted| {
            let reply = serve(&asset, &asked(header::ACCEPT_ENCODING, accepted));
            let encoding = reply.headers().get(header::CONTENT_ENCODING).cloned();
            encoding.map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(encoding("gzip, deflate, br").as_deref(), Some("br"));
        assert_eq!(encoding("gzip").as_deref(), Some("gzip"));
        assert_eq!(encoding("identity"), None);
    }

    #[test]
    fn the_page_needs_no_inline_script_or_style() {
        let index = index();
        assert!(!index.contains("<style") && !index.contains(" style="));
        let scripts = index.matches("<script").count();
        assert_eq!(scripts, index.matches(" src=\"/assets/").count());
    }
}
