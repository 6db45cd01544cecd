//! An OpenTelemetry collector for tests: takes OTLP over HTTP, decodes the protobuf, keeps the spans.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty at a trace's root.
    pub(crate) parent_id: String,
    pub(crate) name: String,
    /// Those that are texts.
    pub(crate) attributes: HashMap<String, String>,
}

pub(crate) struct Collector {
    pub(crate) endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(Arc::clone(&spans));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, spans }
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// The names from `span` up to its root, as far as they have arrived.
    pub(crate) fn ancestry(&self, span: &Span) -> Vec<String> {
        let spans = self.spans();
        let by_id: HashMap<_, _> = spans
            .iter()
            .filter(|s| s.trace_id == span.trace_id)
            .map(|s| (s.span_id.as_str(), s))
            .collect();
        let mut names = vec![span.name.clone()];
        let mut at = span;
        while let Some(parent) = by_id.get(at.parent_id.as_str()) {
            names.push(parent.name.clone());
            at = parent;
        }
        names
    }
}

async fn receive(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> &'static str {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let received = request
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| Span {
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            name: span.name,
            attributes: span
                .attributes
                .into_iter()
                .filter_map(|it| match it.value?.value? {
                    Value::StringValue(text) => Some((it.key, text)),
                    _ => None,
                })
                .collect(),
        });
    spans.lock().unwrap().extend(received);
    ""
}
