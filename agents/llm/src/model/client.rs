//! One request to the model and its whole reply.

use std::sync::Arc;
use std::time::Instant;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::SecretString;
use serde_json::{Value, json};
use tracing::{Instrument, Span, field};

use super::reply::Reply;
use super::transport::Transport;
use crate::settings::ModelSettings;
use crate::trouble::Trouble;

/// Talks to one model. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ModelClient {
    settings: Arc<ModelSettings>,
    requests: reqwest::Client,
    transport: Transport,
}

impl ModelClient {
    pub(crate) fn new(settings: Arc<ModelSettings>) -> Self {
        Self {
            transport: Transport::new(settings.limits),
            requests: reqwest::Client::new(),
            settings,
        }
    }

    /// Sends messages and tools, and waits for all of the reply.
    ///
    /// # Errors
    /// [`Trouble`], retries included.
    pub(crate) async fn complete(
        &self,
        messages: &[Value],
        tools: &Value,
    ) -> Result<Reply, Trouble> {
        let span = self.span();
        let replied = self.stream(messages, tools).instrument(span.clone()).await;
        match &replied {
            Ok(reply) => record(&span, reply),
            Err(trouble) => {
                span.record("error.type", trouble.code());
            }
        }
        replied
    }

    async fn stream(&self, messages: &[Value], tools: &Value) -> Result<Reply, Trouble> {
        let transport = self.transport.another();
        let endpoint = Endpoint(Arc::clone(&self.settings));
        let client =
            Client::build(self.requests.clone(), endpoint).with_http_service(transport.clone());
        let request = json!({
            "model": self.settings.model,
            "messages": messages,
            "tools": tools,
            "tool_choice": "auto",
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let read = |error: OpenAIError| {
            transport.trouble().unwrap_or(match error {
                OpenAIError::JSONDeserialize(..) => Trouble::Unreadable,
                _ => Trouble::Broken,
            })
        };
        let since = Instant::now();
        let chat = client.chat();
        let mut pieces = chat
            .create_stream_byot::<Value, Value>(request)
            .await
            .map_err(read)?;
        let mut reply = Reply::default();
        let mut first = true;
        while let Some(piece) = pieces.next().await {
            reply.add(&piece.map_err(read)?);
            if std::mem::take(&mut first) {
                let seconds = since.elapsed().as_secs_f64();
                Span::current().record("gen_ai.response.time_to_first_chunk", seconds);
            }
        }
        if reply.failed {
            return Err(Trouble::Reported);
        }
        Ok(reply)
    }

    /// By OpenTelemetry's conventions for generative AI; content is never recorded.
    fn span(&self) -> Span {
        let url = reqwest::Url::parse(&self.settings.base_url).ok();
        tracing::info_span!(
            "chat",
            otel.name = %format!("chat {}", self.settings.model),
            otel.kind = "client",
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = "openai",
            gen_ai.request.model = %self.settings.model,
            gen_ai.request.stream = true,
            gen_ai.response.id = field::Empty,
            gen_ai.response.model = field::Empty,
            gen_ai.response.finish_reasons = field::Empty,
            gen_ai.response.time_to_first_chunk = field::Empty,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
            server.address = url.as_ref().and_then(|it| it.host_str()),
            server.port = url.as_ref().and_then(reqwest::Url::port_or_known_default),
            error.type = field::Empty,
        )
    }
}

fn record(span: &Span, reply: &Reply) {
    span.record("gen_ai.response.id", reply.id.as_deref());
    span.record("gen_ai.response.model", reply.model.as_deref());
    span.record(
        "gen_ai.response.finish_reasons",
        reply.finish_reason.as_deref(),
    );
    span.record("gen_ai.usage.input_tokens", reply.input_tokens);
    span.record("gen_ai.usage.output_tokens", reply.output_tokens);
}

/// Where requests go. async-openai's own configuration would look into the environment.
struct Endpoint(Arc<ModelSettings>);

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.0.api_key.is_empty()
            && let Ok(mut value) =
                HeaderValue::from_str(&format!("Bearer {}", self.0.api_key.expose()))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.0.base_url
    }

    fn api_key(&self) -> &SecretString {
        // Read by the realtime API only, which is not compiled in.
        static NONE: std::sync::OnceLock<SecretString> = std::sync::OnceLock::new();
        NONE.get_or_init(SecretString::default)
    }
}
