//! The metrics and the chat agent as an MCP server: `/mcp` (streamable HTTP) and `ballpoint mcp`
//! (stdio). Both protocol lines are spoken, with and without `initialize`.
//!
//! Nothing here writes, and every answer is small: a model pays for each word of it. Each call is
//! on its own (no session of the transport is kept); a conversation has an id, as everywhere.

mod catalogue;
mod tools;

use ballpoint_chat::ChatHandle;
use ballpoint_metrics::{MetricRegistryHandle, SecurityContext};
use ballpoint_runtime::store::Store;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler, ServiceExt};

use crate::doors::Identity;

/// What a model is told before it calls anything.
const INSTRUCTIONS: &str = "Governed metrics over a warehouse. Prefer `ask` for a question in words: \
    it answers with rows and a proof id, asks back with options, or refuses with a reason. For a query \
    of your own call `list_metrics`, then `query_metrics` with full member names (`Cube.member`); take \
    values for filters from `get_dimension_values`. Never state a number that no result holds.";

/// The one resource: all cubes and members, as text.
const CATALOGUE: &str = "ballpoint://catalogue";

/// The server; cheap to clone.
#[derive(Clone)]
pub struct Mcp {
    pub chat: ChatHandle,
    pub metrics: MetricRegistryHandle,
    pub store: Store,
}

impl Mcp {
    /// Serves one client on standard input and output until it leaves.
    ///
    /// # Errors
    /// When the client does not speak the protocol, or the pipe breaks.
    pub async fn serve_stdio(self) -> Result<(), String> {
        let transport = rmcp::transport::stdio();
        let serving = self.serve(transport).await;
        let serving = serving.map_err(|error| error.to_string())?;
        serving.waiting().await.map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("ballpoint", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = call.arguments.unwrap_or_default().into();
        let caller = caller(&context);
        match tools::call(self, &call.name, arguments, &caller).await {
            Ok(result) => Ok(CallToolResult::structured(result).into()),
            Err(tools::Failed::NoSuchTool) => {
                let said = format!("there is no tool {}", call.name);
                Err(ErrorData::invalid_params(said, None))
            }
            // The model reads it and tries again.
            Err(tools::Failed::Call(said)) => {
                Ok(CallToolResult::error(vec![ContentBlock::text(said)]).into())
            }
        }
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let catalogue = Resource::new(CATALOGUE, "catalogue");
        Ok(ListResourcesResult::with_all_items(vec![catalogue]))
    }

    async fn read_resource(
        &self,
        asked: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if asked.uri != CATALOGUE {
            let said = format!("there is no {}; there is {CATALOGUE}", asked.uri);
            return Err(ErrorData::resource_not_found(said, None));
        }
        let members = catalogue::visible(self, &caller(&context)).await;
        let members = members.map_err(|error| ErrorData::internal_error(error, None))?;
        let text = catalogue::as_text(&members);
        let contents = ResourceContents::text(text, CATALOGUE);
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}

/// Whose data policies apply: the token's on HTTP; whoever started the program on stdio.
fn caller(context: &RequestContext<RoleServer>) -> SecurityContext {
    let parts = context.extensions.get::<axum::http::request::Parts>();
    let identity = parts.and_then(|parts| parts.extensions.get::<Identity>());
    identity.map(Identity::security_context).unwrap_or_default()
}
