//! The way to the server: connection, time-outs, retries and the longest reply that is read.
//!
//! async-openai makes the requests and reads the event stream; this service carries them. It does
//! so on hyper with rustls on ring: reqwest's own TLS would bring its provider into every client of
//! the workspace. A reply that is no event stream is made one of a single event, because some
//! servers do not stream whatever is asked.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::settings::Limits;
use crate::trouble::Trouble;

/// The first wait before a retry for which the server names no time; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);

/// An error's body is read up to here, for its code.
const ERROR_BYTES_MAX: usize = 16 * 1024;

type Http = Client<HttpsConnector<HttpConnector>, reqwest::Body>;

/// Carries the requests of one reply. Clones share the trouble that they met.
#[derive(Clone)]
pub(crate) struct Transport {
    http: Http,
    limits: Limits,
    met: Arc<Mutex<Option<Trouble>>>,
}

impl Transport {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(limits.connect));
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            limits,
            met: Arc::default(),
        }
    }

    /// The same connections for another reply.
    pub(crate) fn another(&self) -> Self {
        Self {
            met: Arc::default(),
            ..self.clone()
        }
    }

    /// What went wrong, which the client's own error does not tell apart.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.met
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn meet(&self, trouble: Trouble) -> OpenAIError {
        let error = OpenAIError::InvalidArgument(trouble.to_string());
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        error
    }

    async fn carry(self, factory: HttpRequestFactory) -> Result<reqwest::Response, OpenAIError> {
        let mut attempt = 1;
        loop {
            let trouble = match self.once(&factory).await? {
                Ok(response) => return Ok(response),
                Err(trouble) => trouble,
            };
            if attempt >= self.limits.attempts_max || !trouble.is_passing() {
                return Err(self.meet(trouble));
            }
            let wait = match &trouble {
                Trouble::Busy {
                    retry_after: Some(wait),
                } => *wait,
                _ => BACKOFF_FIRST * 2_u32.pow(attempt - 1),
            };
            // A server that wants to be left alone for longer than the turn has is left alone.
            if wait >= self.limits.turn {
                return Err(self.meet(trouble));
            }
            tracing::debug!(
                attempt,
                wait_ms = wait.as_millis() as u64,
                "the model {trouble}"
            );
            sleep(wait).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        factory: &HttpRequestFactory,
    ) -> Result<Result<reqwest::Response, Trouble>, OpenAIError> {
        let request = factory.build().await?;
        let request = http::Request::<reqwest::Body>::try_from(request)?;
        let sent = timeout(self.limits.first_byte, self.http.request(request)).await;
        let response = match sent {
            Err(_) => return Ok(Err(Trouble::Slow)),
            Ok(Err(error)) if error.is_connect() => return Ok(Err(Trouble::Unreachable)),
            Ok(Err(_)) => return Ok(Err(Trouble::Broken)),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() {
            return Ok(Err(self.refusal(response).await));
        }
        let streams = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|it| it.to_str().ok())
            .is_some_and(|it| it.starts_with("text/event-stream"));
        if streams {
            Ok(Ok(self.guarded(response)))
        } else {
            Ok(self.whole(response).await)
        }
    }

    /// What a status means; some servers tell a spent budget from a busy moment in the body only.
    async fn refusal(&self, response: Response<Incoming>) -> Trouble {
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER);
        let retry_after = seconds
            .and_then(|it| it.to_str().ok()?.trim().parse().ok())
            .and_then(|secs: f64| Duration::try_from_secs_f64(secs).ok());
        let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect();
        let body = match timeout(self.limits.idle, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = &body["error"];
        let spent = [&error["code"], &error["type"]]
            .into_iter()
            .any(|it| it == "insufficient_quota");
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Trouble::Unauthorised(status.as_u16())
            }
            StatusCode::NOT_FOUND => Trouble::NotFound,
            StatusCode::TOO_MANY_REQUESTS if spent => Trouble::NoQuota,
            StatusCode::TOO_MANY_REQUESTS => Trouble::Busy { retry_after },
            other => Trouble::Failed(other.as_u16()),
        }
    }

    fn guarded(&self, response: Response<Incoming>) -> reqwest::Response {
        let body = |inner| Guarded {
            inner,
            left: self.limits.reply_bytes_max,
            idle: self.limits.idle,
            sleep: Box::pin(sleep(self.limits.idle)),
            met: Arc::clone(&self.met),
        };
        response
            .map(|inner| reqwest::Body::wrap(body(inner)))
            .into()
    }

    /// A reply in one piece, as a stream of one event.
    async fn whole(&self, response: Response<Incoming>) -> Result<reqwest::Response, Trouble> {
        let body = Limited::new(response.into_body(), self.limits.reply_bytes_max).collect();
        let body = match timeout(self.limits.idle, body).await {
            Err(_) => return Err(Trouble::Slow),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Trouble::TooLong);
            }
            Ok(Err(_)) => return Err(Trouble::Broken),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let value: Value = serde_json::from_slice(&body).map_err(|_| Trouble::Unreadable)?;
        let event = Bytes::from(format!("data: {value}\n\n"));
        let response = Response::new(reqwest::Body::wrap(Full::new(event)));
        Ok(response.into())
    }
}

impl tower::Service<HttpRequestFactory> for Transport {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<reqwest::Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequestFactory) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

/// A body that may neither pause nor last too long.
struct Guarded {
    inner: Incoming,
    left: usize,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
    met: Arc<Mutex<Option<Trouble>>>,
}

impl Guarded {
    fn end(&self, trouble: Trouble) -> Trouble {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone());
        trouble
    }
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = Trouble;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Trouble>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => return Poll::Ready(Some(Err(self.end(Trouble::TooLong)))),
                }
                let until = Instant::now() + self.idle;
                self.sleep.as_mut().reset(until);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.end(Trouble::Broken)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.sleep.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(self.end(Trouble::Slow)))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}
