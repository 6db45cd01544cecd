//! The running `ballpoint up` on a data dir, reached over HTTP with `state.json` and `token`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use ballpoint_postgres::cluster::data_dir;
use ballpoint_postgres::lock::DataDirLock;
use serde_json::{Value, json};

use crate::output::UserError;

/// The section of `state.json` that `up` writes: `{"listen": "127.0.0.1:4000"}`.
pub(crate) const SERVER_SECTION: &str = "server";
/// The token's file in the data dir, readable by its owner only.
pub(crate) const TOKEN_FILE: &str = "token";

/// Names the proof of a load's rows.
const PROOF_HEADER: &str = "x-ballpoint-proof";

/// A whole pass or an evaluation may take long; a hung server is noticed all the same.
const REPLY_MAX: Duration = Duration::from_secs(600);

/// A client of the running system.
pub(crate) struct Remote {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Remote {
    /// The system that holds `data_dir`'s lock.
    ///
    /// # Errors
    /// When the holder serves nothing: it is another short command at work.
    pub(crate) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let holder =
            DataDirLock::holder(data_dir).map_or(String::new(), |pid| format!(" (pid {pid})"));
        let server = data_dir::read_section(data_dir, SERVER_SECTION)?;
        let Some(listen) = server.as_ref().and_then(|s| s["listen"].as_str()) else {
            bail!(
                "another ballpoint command{holder} is at work on {}; try again when it has ended",
                data_dir.display()
            );
        };
        let token = std::fs::read_to_string(data_dir.join(TOKEN_FILE)).unwrap_or_default();
        let http = reqwest::Client::builder().timeout(REPLY_MAX).build()?;
        Ok(Self {
            base: format!("http://{listen}"),
            token: token.trim().to_owned(),
            http,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// The reply's body whatever its status, and the id of the proof of its rows.
    pub(crate) async fn load(
        &self,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, Value, Option<String>)> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        let reply = request
            .bearer_auth(&self.token)
            .send()
            .await
            .context(self.unreachable())?;
        let status = reply.status().as_u16();
        let proof = reply.headers().get(PROOF_HEADER);
        let proof = proof.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok((status, reply.json().await.unwrap_or(json!({})), proof))
    }

    /// The reply to a message of the MCP protocol, as text; empty where the message has none.
    pub(crate) async fn mcp(
        &self,
        message: &Value,
        headers: &[(&'static str, String)],
    ) -> anyhow::Result<String> {
        let mut request = self.http.post(format!("{}/mcp", self.base)).json(message);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let reply = request.bearer_auth(&self.token).send().await;
        Ok(reply.context(self.unreachable())?.text().await?)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let reply = request
            .bearer_auth(&self.token)
            .send()
            .await
            .context(self.unreachable())?;
        let status = reply.status();
        let body: Value = reply.json().await.unwrap_or(json!({}));
        if status.is_success() {
            return Ok(body);
        }
        let message = body["error"]["message"]
            .as_str()
            .or_else(|| body["error"].as_str());
        let message = message.unwrap_or("no reason was given").to_owned();
        if is_the_users(status.as_u16(), body["code"].as_str()) {
            bail!(UserError(message));
        }
        bail!("{message}");
    }

    fn unreachable(&self) -> String {
        format!("the running ballpoint does not answer at {}", self.base)
    }
}

/// Whether the server says that what was asked is for the user to mend, as it would be without a
/// server: malformed, unknown, or not allowed as things stand.
fn is_the_users(status: u16, code: Option<&str>) -> bool {
    match code {
        Some(code) => matches!(code, "bad_request" | "not_found" | "conflict"),
        None => status == 400,
    }
}

#[cfg(test)]
mod tests {
    use super::is_the_users;

    #[test]
    fn what_a_user_can_mend_is_told_by_its_code_and_by_400_where_there_is_none() {
        for code in ["bad_request", "not_found", "conflict"] {
            assert!(is_the_users(409, Some(code)), "{code}");
        }
        for code in ["failed", "unavailable", "busy"] {
            assert!(!is_the_users(400, Some(code)), "{code}");
        }
        assert!(is_the_users(400, None));
        assert!(!is_the_users(404, None), "an address of no server of ours");
    }
}
