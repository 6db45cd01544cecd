//! `mcp`: the MCP server on standard input and output, for clients that start it themselves. While
//! `up` runs its lines are passed on to it; otherwise this process answers.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use ballpoint_chat::ChatHandle;
use ballpoint_metrics::MetricRegistryHandle;
use ballpoint_runtime::supervision::Scope;
use ballpoint_web::Mcp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::Context;
use crate::databases::SEED_BY_DEFAULT;
use crate::output::UserError;
use crate::remote::Remote;
use crate::session::{Own, Session};
use crate::stack;

const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Serves one client until it closes the pipe.
pub(super) async fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    if project.config.metrics.is_none() {
        bail!(UserError(
            "the project has no [metrics] section: nothing can be asked".to_owned()
        ));
    }
    match Session::open(project, context.clock(), SEED_BY_DEFAULT).await? {
        Session::Running(remote) => pass_on(&remote).await?,
        Session::Own(own) => {
            let served = serve(&own).await;
            own.close().await?;
            served?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(own: &Own) -> anyhow::Result<()> {
    let scope = Scope::unique();
    let root = stack::answering(own, own.queries().await?, &scope);
    let tree = stack::start(own, scope.clone(), root).await?;
    let server = Mcp {
        chat: ChatHandle::new(&scope),
        metrics: MetricRegistryHandle::new(&scope),
        store: own.store.clone(),
    };
    let served = server.serve_stdio().await;
    tree.stop(SHUTDOWN_MAX).await;
    served.map_err(anyhow::Error::msg)
}

/// One message a line, as the protocol has it on standard input and output.
async fn pass_on(remote: &Remote) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    while let Some(line) = lines.next_line().await? {
        if line.trim().is_empty() {
            continue;
        }
        let reply = match serde_json::from_str::<Value>(&line) {
            Ok(message) => remote.mcp(&message, &headers(&message)).await?,
            Err(error) => json!({ "jsonrpc": "2.0", "id": null,
                "error": { "code": -32700, "message": error.to_string() } })
            .to_string(),
        };
        if !reply.is_empty() {
            out.write_all(format!("{reply}\n").as_bytes()).await?;
            out.flush().await?;
        }
    }
    Ok(())
}

/// What HTTP says in headers, and standard input in the message alone: the protocol's version (in
/// each message since 2026-07-28), the method, and what the method is about.
fn headers(message: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let params = &message["params"];
    let mut headers = vec![("accept", "application/json, text/event-stream".to_owned())];
    let Some(version) = text(&params["_meta"]["io.modelcontextprotocol/protocolVersion"]) else {
        return headers;
    };
    headers.push(("mcp-protocol-version", version));
    headers.extend(text(&message["method"]).map(|method| ("mcp-method", method)));
    let about = text(&params["name"]).or_else(|| text(&params["uri"]));
    headers.extend(about.map(|about| ("mcp-name", about)));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_version_is_passed_on_with_the_headers_of_that_version() {
        let old = json!({ "method": "tools/list", "params": {} });
        assert_eq!(headers(&old).len(), 1);
        let new = json!({ "method": "tools/call", "params": { "name": "ask",
            "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } } });
        let named: Vec<&str> = headers(&new).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            named,
            ["accept", "mcp-protocol-version", "mcp-method", "mcp-name"]
        );
    }
}
