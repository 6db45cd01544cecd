//! `/mcp`: the MCP server over streamable HTTP. The doors have checked host, origin and token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::app::App;
use crate::mcp::Mcp;
use crate::table::{Route, VIEWER, delete, get, post};

const PATH: &str = "/mcp";

pub(super) fn routes() -> Vec<Route> {
    vec![
        post(PATH, VIEWER, serve),
        // What a client of sessions tries; answered 405 by the protocol's own rules.
        get(PATH, VIEWER, serve),
        delete(PATH, VIEWER, serve),
    ]
}

async fn serve(State(app): State<App>, request: Request) -> Response {
    let server = Mcp {
        chat: app.chat,
        metrics: app.metrics,
        store: app.store,
    };
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_legacy_session_mode(false)
        .with_json_response(true);
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    service.handle(request).await.map(Body::new)
}
