//! Tells a webhook about incidents: one message when one opens, one when it closes.
//!
//! A state is told once it has lasted for the hold, so what mends itself at once is not told at all,
//! and what flaps is told once. A message is a row, written with the mark that its state was told,
//! and sent until the receiver has taken it: at least once, always under the same id.

use std::time::Duration;

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::redact::Secrets;
use ballpoint_runtime::store::{Alerts, DueAlert, Incident, Incidents, Store, StoreError};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

/// From the connection to the last byte of the answer's head.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// Between two looks at the outbox.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The first pause after a failed delivery; each later one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// About two days of trying.
const ATTEMPTS_MAX: u32 = 600;

/// Longer reasons are cut: a message is read on a phone.
const ERROR_CHARS_MAX: usize = 600;

/// The header under which a message's id goes, so that a receiver may drop a repetition.
const ID_HEADER: &str = "idempotency-key";

/// Where incidents are told, and how.
#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Takes Slack's incoming webhook JSON. A secret: whoever knows it can write there.
    pub webhook_url: String,
    /// How long a state lasts before it is told.
    pub hold: Duration,
    /// Named in each message.
    pub project: String,
    /// Hidden wherever a text would show them.
    pub secrets: Secrets,
}

/// Writes a message for each incident whose state has lasted and was not told.
///
/// # Errors
/// As every query; nothing is marked as told then.
pub(crate) async fn announce(store: &Store, config: &AlertConfig) -> Result<(), StoreError> {
    let failed = |source| StoreError::Query {
        doing: "announcing incidents",
        source,
    };
    let mut transaction = store.pool().begin().await.map_err(failed)?;
    let due = Incidents::unannounced_in(&mut transaction, config.hold).await?;
    for incident in &due {
        let body = message(incident, config).to_string();
        Alerts::announce_in(&mut transaction, incident, &body).await?;
    }
    transaction.commit().await.map_err(failed)
}

/// Slack's incoming webhook: `text` for notifications, `blocks` for the channel.
fn message(incident: &Incident, config: &AlertConfig) -> serde_json::Value {
    let what = match (incident.kind.as_str(), incident.subject.as_str()) {
        ("source", source) => format!("source {source}"),
        ("actor", actor) => format!("actor {actor}"),
        ("freshness", source) => format!("the freshness of source {source}"),
        ("build", _) => "the build".to_owned(),
        ("write_back", sync) => format!("write-back {sync}"),
        ("metrics", _) => "the data model".to_owned(),
        (kind, subject) => format!("{kind} {subject}"),
    };
    let open = incident.state == "open";
    let (mark, verb) = match (open, incident.severity.as_str()) {
        (true, "warning") => (":warning:", "needs a look"),
        (true, _) => (":red_circle:", "does not work"),
        (false, _) => (":large_green_circle:", "works again"),
    };
    let head = escaped(&format!("{}: {what} {verb}", config.project));
    let error: String = config
        .secrets
        .hide(&incident.error)
        .chars()
        .take(ERROR_CHARS_MAX)
        .collect();
    let error = escaped(&error);
    let detail = match open {
        true => error.clone(),
        false => format!("it was: {error}"),
    };
    let times = match incident.count {
        1 => String::new(),
        count => format!(", {count} times"),
    };
    let since = incident.opened_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    json!({
        "text": format!("{mark} {head}: {detail}"),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("{mark} *{head}*\n{detail}") } },
            { "type": "context", "elements": [
                { "type": "mrkdwn", "text": format!("incident {} since {since}{times}", incident.id) },
            ] },
        ],
    })
}

/// The three characters that Slack reads as markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Delivers what is in the outbox, for as long as it is polled.
pub(crate) async fn deliver(store: Store, config: AlertConfig) {
    let courier = Courier::new(config);
    loop {
        if let Err(error) = courier.deliver_due(&store).await {
            tracing::debug!(error = %in_one_line(&error), "the outbox cannot be read for now");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

struct Courier {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    config: AlertConfig,
}

impl Courier {
    fn new(config: AlertConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(DELIVERY_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            config,
        }
    }

    async fn deliver_due(&self, store: &Store) -> Result<(), StoreError> {
        while let Some(alert) = store.alerts().next().await? {
            match self.send(&alert).await {
                Ok(()) => store.alerts().sent(&alert).await?,
                Err(error) => {
                    let error = self.config.secrets.hide(&error);
                    if alert.attempt == 1 {
                        tracing::warn!(%error, "an alert was not delivered; it is tried again");
                    }
                    let retry_in = pause(alert.attempt, rand::random());
                    store.alerts().not_sent(&alert, &error, retry_in).await?;
                }
            }
        }
        Ok(())
    }

    /// A redirect is no delivery: it would take the message where nobody configured it to go.
    async fn send(&self, alert: &DueAlert) -> Result<(), String> {
        let uri: Uri = self
            .config
            .webhook_url
            .parse()
            .map_err(|_| "the URL cannot be read")?;
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, alert.id.to_string())
            .body(Full::from(alert.body.clone()))
            .map_err(|error| error.to_string())?;
        let reply = tokio::time::timeout(DELIVERY_MAX, self.http.request(request))
            .await
            .map_err(|_| format!("no answer within {} s", DELIVERY_MAX.as_secs()))?
            .map_err(|error| in_one_line(&error))?;
        match reply.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err("the receiver asks for patience (429)".to_owned()),
            status => Err(format!("the receiver answered {}", status.as_u16())),
        }
    }
}

/// How long after a failed attempt the next one comes; `jitter` is uniform in 0..1.
fn pause(attempt: u32, jitter: f64) -> Option<Duration> {
    let doubled = PAUSE_MIN.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    (attempt < ATTEMPTS_MAX).then(|| doubled.min(PAUSE_MAX).mul_f64(1.0 - jitter / 2.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::*;

    fn config() -> AlertConfig {
        AlertConfig {
            webhook_url: "http://127.0.0.1:1/hook".into(),
            hold: Duration::ZERO,
            project: "pens".into(),
            secrets: Secrets::new(["hunter22"]),
        }
    }

    fn incident(state: &str) -> Incident {
        Incident {
            id: Default::default(),
            kind: "source".into(),
            subject: "orders".into(),
            severity: "error".into(),
            state: state.into(),
            error: "password hunter22 <refused> at postgres://u:pw@db/x".into(),
            count: 2,
            opened_at: Timestamp::UNIX_EPOCH,
            closed_at: None,
            notified: "nothing".into(),
            delivery: None,
        }
    }

    #[test]
    fn a_message_says_what_and_why_and_no_secret_and_no_markup_of_others() {
        let message = message(&incident("open"), &config());
        assert_eq!(
            message["text"],
            ":red_circle: pens: source orders does not work: password *** &lt;refused&gt; at \
             postgres://u:***@db/x"
        );
        let context = message["blocks"][1]["elements"][0]["text"]
            .as_str()
            .unwrap();
        assert!(
            context.ends_with("since 1970-01-01 00:00:00 UTC, 2 times"),
            "{context}"
        );
    }

    #[test]
    fn a_recovery_says_what_it_was() {
        let message = message(&incident("closed"), &config());
        let text = message["text"].as_str().unwrap();
        assert!(text.starts_with(":large_green_circle: pens: source orders works again: it was:"));
    }

    #[test]
    fn deliveries_wait_longer_each_time_and_end_some_day() {
        assert_eq!(pause(1, 0.0), Some(Duration::from_secs(1)));
        assert_eq!(pause(3, 1.0), Some(Duration::from_secs(2)));
        assert_eq!(pause(50, 0.0), Some(PAUSE_MAX));
        assert_eq!(pause(ATTEMPTS_MAX, 0.0), None);
    }
}
