//! Trace context as it is carried in events and work rows: W3C `traceparent` text.
//!
//! A span's context leaves the process memory here and comes back on the other side of a database
//! row, so that one trace runs from a source's commit to the metric that shows it.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// W3C Trace Context, `00-<trace id>-<span id>-<flags>`; empty when no span was active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceContext(pub String);

impl TraceContext {
    /// The context of the span that is active here.
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// The context of `span`, under which others can hang theirs. It fixes the span's own parent:
    /// call [`set_parent`] first.
    pub fn of(span: &Span) -> Self {
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
        Self(carrier.remove(TRACEPARENT).unwrap_or_default())
    }

    /// The trace's id, 32 hexadecimal digits; `None` when no span was active.
    pub fn trace_id(&self) -> Option<&str> {
        self.0.split('-').nth(1).filter(|id| id.len() == 32)
    }
}

/// Hangs `span` under `parent`, which came from another task, actor or process. To be called before
/// the span is entered; an empty or unreadable context leaves the span a root.
pub fn set_parent(span: &Span, parent: &TraceContext) {
    if parent.0.is_empty() {
        return;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), parent.0.clone())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // Without the telemetry layer, or for a span that the log filter dropped, there is no span to
    // hang anywhere.
    let _ = span.set_parent(context);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
    use tracing_subscriber::prelude::*;

    use super::*;

    /// Runs `body` under a subscriber of its own and returns the spans it finished.
    fn spans_of(body: impl FnOnce()) -> Vec<SpanData> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body);
        exporter.get_finished_spans().unwrap()
    }

    fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
        spans.iter().find(|span| span.name == name).unwrap()
    }

    #[test]
    fn a_parent_chain_survives_its_way_through_text() {
        let spans = spans_of(|| {
            let noticed = tracing::info_span!("noticed");
            let stored = serde_json::to_string(&TraceContext::of(&noticed)).unwrap();
            drop(noticed);
            let loaded = tracing::info_span!("loaded");
            set_parent(&loaded, &serde_json::from_str(&stored).unwrap());
            let stored = loaded.in_scope(TraceContext::current);
            drop(loaded);
            let built = tracing::info_span!("built");
            set_parent(&built, &stored);
        });
        let (noticed, loaded, built) = (
            named(&spans, "noticed"),
            named(&spans, "loaded"),
            named(&spans, "built"),
        );
        assert_eq!(loaded.parent_span_id, noticed.span_context.span_id());
        assert_eq!(built.parent_span_id, loaded.span_context.span_id());
        assert_eq!(
            built.span_context.trace_id(),
            noticed.span_context.trace_id()
        );
    }

    #[test]
    fn the_trace_id_is_the_one_that_is_exported() {
        let mut id = None;
        let spans = spans_of(|| {
            let span = tracing::info_span!("asked");
            id = TraceContext::of(&span).trace_id().map(str::to_owned);
        });
        assert_eq!(
            id.unwrap(),
            named(&spans, "asked").span_context.trace_id().to_string()
        );
    }

    #[test]
    fn without_a_span_the_context_is_empty_and_parents_nothing() {
        let none = TraceContext::current();
        assert_eq!((none.0.as_str(), none.trace_id()), ("", None));
        let spans = spans_of(|| {
            for text in ["", "nonsense", "00-00-00-00"] {
                set_parent(&tracing::info_span!("root"), &TraceContext(text.into()));
            }
        });
        assert!(spans.iter().all(|span| !span.parent_span_is_remote));
        assert_eq!(spans.len(), 3);
    }
}
