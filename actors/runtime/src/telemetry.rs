//! Logs to standard error, and spans to an OpenTelemetry collector where one is configured.
//!
//! Spans carry valid trace ids without a collector too: an answer names its trace. They leave as
//! OTLP over HTTP in batches, from a thread of their own; a collector that is down costs nothing
//! but its spans. Only Ballpoint's own spans are exported.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// How long the end of the program waits for the last batch.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// ractor wraps each actor's whole life in one span, the exporter logs its own beginnings, and async-openai
/// the replies of a model that it cannot read.
const QUIET: &str = "ractor=warn,opentelemetry=warn,opentelemetry_sdk=warn,hyper=warn,reqwest=warn,async_openai=off";

/// What is logged, and where spans go.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// `service.name` of the spans.
    pub service_name: String,
    /// The collector's base URL, such as `http://127.0.0.1:4318`; spans go to `<it>/v1/traces`.
    pub otlp_endpoint: Option<String>,
    /// Directives of tracing's `EnvFilter`, such as `info` or `warn,ballpoint_loader=debug`.
    pub log_filter: String,
    /// One JSON object a line instead of text for people.
    pub json_logs: bool,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter `{filter}` is not valid: {reason}")]
    Filter { filter: String, reason: String },
    #[error("spans cannot be sent to {endpoint}: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("telemetry was set up twice")]
    Twice,
}

/// Sends the last spans when it is dropped: keep it for as long as the program runs.
#[derive(Debug)]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs and spans for the whole process.
///
/// # Errors
/// A filter or endpoint that cannot be read, and a second call.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let provider = provider(config)?;
    let tracer = provider.tracer("ballpoint");
    let guard = TelemetryGuard {
        provider: Some(provider),
    };
    let subscriber = subscriber(config, tracer, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

impl TelemetryGuard {
    /// Sends what was recorded and ends the export.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(provider) = self.provider.take() else {
            return;
        };
        // The exporter's HTTP client blocks and must not be used, or dropped, on an async thread.
        let ended = std::thread::spawn(move || {
            if let Err(error) = provider.shutdown_with_timeout(FLUSH_MAX) {
                tracing::debug!(%error, "the last spans could not be sent");
            }
        });
        // Its panic has been reported by the panic hook.
        let _ = ended.join();
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes spans; without an endpoint it only gives them their ids.
fn provider(config: &TelemetryConfig) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(builder.build());
    };
    Ok(builder.with_batch_exporter(exporter(endpoint)?).build())
}

fn exporter(endpoint: &str) -> Result<SpanExporter, TelemetryError> {
    let refused = |reason: String| TelemetryError::Endpoint {
        endpoint: endpoint.to_owned(),
        reason,
    };
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    // As above: a blocking client is made on a thread without a runtime.
    std::thread::spawn(move || {
        SpanExporter::builder()
            .with_http()
            .with_endpoint(url)
            .build()
    })
    .join()
    .map_err(|_| refused("the HTTP client could not be made".to_owned()))?
    .map_err(|error| refused(error.to_string()))
}

fn subscriber<W>(
    config: &TelemetryConfig,
    tracer: SdkTracer,
    writer: W,
) -> Result<impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log_filter)).map_err(|error| {
        TelemetryError::Filter {
            filter: config.log_filter.clone(),
            reason: error.to_string(),
        }
    })?;
    let logs = tracing_subscriber::fmt::layer().with_writer(writer);
    let logs = if config.json_logs {
        logs.json().with_filter(filter).boxed()
    } else {
        logs.with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed()
    };
    // Apart from the logs' filter: a quiet log must not cost an answer its trace.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target("ballpoint", LevelFilter::INFO));
    Ok(tracing_subscriber::registry().with(logs).with(spans))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::trace::TraceContext;

    fn config() -> TelemetryConfig {
        TelemetryConfig {
            service_name: "ballpoint-test".into(),
            otlp_endpoint: None,
            log_filter: "warn".into(),
            json_logs: false,
        }
    }

    /// What was written to the log.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn under<T>(config: &TelemetryConfig, body: impl FnOnce() -> T) -> (T, String) {
        let guard = TelemetryGuard {
            provider: Some(provider(config).unwrap()),
        };
        let tracer = guard.provider.as_ref().unwrap().tracer("test");
        let log = Log::default();
        let writer = log.clone();
        let subscriber = subscriber(config, tracer, move || writer.clone()).unwrap();
        let result = tracing::subscriber::with_default(subscriber, body);
        guard.shutdown();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        (result, text)
    }

    #[test]
    fn spans_have_ids_without_a_collector_and_whatever_the_log_filter() {
        let (context, log) = under(&config(), || {
            let span = tracing::info_span!("asked");
            span.in_scope(|| {
                tracing::info!("not logged");
                tracing::warn!("logged");
                TraceContext::current()
            })
        });
        assert!(
            context.trace_id().is_some_and(|id| id != "0".repeat(32)),
            "{context:?}"
        );
        assert!(
            log.contains("logged") && !log.contains("not logged"),
            "{log}"
        );
    }

    #[test]
    fn json_logs_are_one_object_a_line() {
        let config = TelemetryConfig {
            json_logs: true,
            ..config()
        };
        let ((), log) = under(&config, || tracing::warn!(rows = 3, "loaded"));
        let line: serde_json::Value = serde_json::from_str(log.trim_end()).unwrap();
        assert_eq!(
            (&line["level"], &line["fields"]["rows"]),
            (&"WARN".into(), &3.into())
        );
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_that_names_it() {
        let config = TelemetryConfig {
            log_filter: "ballpoint=loud".into(),
            ..config()
        };
        let tracer = provider(&config).unwrap().tracer("test");
        let error = subscriber(&config, tracer, std::io::sink).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("the log filter `ballpoint=loud` is not valid")
        );
    }

    #[tokio::test]
    async fn spans_reach_the_collector_before_the_guard_is_gone_also_inside_a_runtime() {
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/", collector.local_addr().unwrap());
        let received = std::thread::spawn(move || {
            let (mut stream, _) = collector.accept().unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // The span's name is in the body, the last thing that is sent.
            while !String::from_utf8_lossy(&request).contains("exported span") {
                let read = stream.read(&mut chunk).unwrap();
                assert_ne!(read, 0, "the request ended early");
                request.extend_from_slice(&chunk[..read]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let config = TelemetryConfig {
            otlp_endpoint: Some(endpoint),
            ..config()
        };
        under(&config, || drop(tracing::info_span!("exported span")));
        let request = received.join().unwrap();
        assert!(request.starts_with("POST /v1/traces HTTP/1.1"), "{request}");
        assert!(request.contains("ballpoint-test"));
    }

    #[test]
    fn a_collector_that_is_down_does_not_hold_up_the_end() {
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let endpoint = Some(format!("http://{closed}"));
        let begun = std::time::Instant::now();
        under(
            &TelemetryConfig {
                otlp_endpoint: endpoint,
                ..config()
            },
            || {
                drop(tracing::info_span!("lost"));
            },
        );
        assert!(begun.elapsed() < FLUSH_MAX * 2);
    }
}
