//! When the pipeline runs by itself, how often it tries, how stale a source may be, who is told.

use std::time::Duration;

use ballpoint_orchestrator as orchestrator;
use ballpoint_runtime::retry::RetryPolicy;
use jiff::{Span, SpanRelativeTo};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::schema::ApiKey;

/// A time at which every source is synced, everything is built, and the metrics are refreshed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleConfig {
    /// Minute, hour, day of month, month, day of week, on the wall clock of the zone.
    #[serde(deserialize_with = "cron")]
    pub(crate) cron: String,
    /// IANA's name.
    #[serde(default = "utc", deserialize_with = "zone")]
    pub(crate) timezone: String,
    /// Replace every table instead of adding what is new.
    #[serde(default)]
    pub(crate) full_refresh: bool,
}

/// How stale the warehouse's copy of a source may be; dbt's words.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshnessConfig {
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) warn_after: Option<Duration>,
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) error_after: Option<Duration>,
}

/// Who is told when something does not work, and when it works again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertsConfig {
    /// Takes the JSON of Slack's incoming webhooks.
    pub(crate) webhook_url: ApiKey,
    /// What lasts no longer is not told.
    #[serde(default = "hold", deserialize_with = "duration")]
    pub(crate) hold: Duration,
}

/// How often a failed command is tried, and how long the pauses are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetriesConfig {
    /// All in all; 1 never tries again.
    pub(crate) attempts: u32,
    /// The first pause; each later one is twice as long.
    #[serde(deserialize_with = "duration")]
    pub(crate) backoff: Duration,
}

impl Default for RetriesConfig {
    fn default() -> Self {
        let RetryPolicy {
            attempts, backoff, ..
        } = RetryPolicy::default();
        Self { attempts, backoff }
    }
}

impl RetriesConfig {
    pub(crate) fn policy(self) -> RetryPolicy {
        RetryPolicy {
            attempts: self.attempts,
            backoff: self.backoff,
            ..RetryPolicy::default()
        }
    }
}

/// What no type can say of these sections.
///
/// # Errors
/// Names the setting.
pub(super) fn check(config: &super::schema::Config) -> Result<(), String> {
    for (name, schedule) in &config.schedules {
        if !super::checks::is_plain(name) {
            return Err(format!("schedules.{name}: {}", super::checks::PLAIN_NAME));
        }
        orchestrator::Timing::parse(&schedule.cron, &schedule.timezone)
            .map_err(|error| format!("schedules.{name}: {error}"))?;
    }
    for (name, source) in &config.sources {
        if let Some(freshness) = &source.freshness {
            check_freshness(name, *freshness)?;
        }
    }
    if config.retries.attempts == 0 {
        return Err("retries.attempts is 0; 1 tries once and never again".to_owned());
    }
    let Some(alerts) = &config.alerts else {
        return Ok(());
    };
    let usable = |url: reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    match reqwest::Url::parse(&alerts.webhook_url.0) {
        Ok(url) if usable(url.clone()) => Ok(()),
        // The text may be a secret.
        _ => Err(
            "alerts.webhook_url is no HTTP URL; it looks like https://hooks.slack.com/services/…"
                .to_owned(),
        ),
    }
}

fn check_freshness(source: &str, freshness: FreshnessConfig) -> Result<(), String> {
    match (freshness.warn_after, freshness.error_after) {
        (None, None) => Err(format!(
            "sources.{source}.freshness sets no limit; give it warn_after, error_after or both"
        )),
        (Some(warn), Some(error)) if warn >= error => Err(format!(
            "sources.{source}.freshness: warn_after is not shorter than error_after, so it would \
             never warn"
        )),
        _ => Ok(()),
    }
}

fn cron<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    orchestrator::cron(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn zone<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    orchestrator::zone(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let days = SpanRelativeTo::days_are_24_hours();
    text.parse::<Span>()
        .and_then(|span| span.to_duration(days))
        .ok()
        .and_then(|it| Duration::try_from(it).ok())
        .ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no length of time; it looks like `30s`, `15m`, `6h` or `2d`"
            ))
        })
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

fn utc() -> String {
    "UTC".to_owned()
}

fn hold() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::super::reading::{self, parse};
    use super::*;

    fn error_of(text: &str) -> String {
        reading::error_of(text, &Environment::default())
    }

    #[test]
    fn what_operates_the_pipeline_is_read() {
        let text = "[schedules.nightly]\ncron = \"0 6 * * mon-fri\"\ntimezone = \"Europe/Berlin\"\n\
             [retries]\nattempts = 3\nbackoff = \"2s\"\n\
             [alerts]\nwebhook_url = \"https://hooks.example/x\"\n\
             [sources.a]\nkind = \"postgres\"\nfreshness = { warn_after = \"30m\", error_after = \"2d\" }\n";
        let config = parse(text, "f", &Environment::default()).expect("valid");
        assert_eq!(config.schedules["nightly"].timezone, "Europe/Berlin");
        assert_eq!(config.retries.policy().backoff, Duration::from_secs(2));
        assert_eq!(config.alerts.expect("said").hold, Duration::from_secs(10));
        let freshness = config.sources["a"].freshness.expect("said");
        assert_eq!(freshness.error_after, Some(Duration::from_secs(2 * 86_400)));
    }

    #[test]
    fn a_schedule_that_cannot_be_kept_is_named_with_its_line() {
        let error = error_of("[schedules.nightly]\n\ncron = \"0 25 * * *\"\n");
        assert!(
            error.starts_with("ballpoint.toml:3: `0 25 * * *` is no cron"),
            "{error}"
        );
        let error = error_of("[schedules.a]\ncron = \"0 6 * * *\"\ntimezone = \"Berlin\"\n");
        assert!(
            error.starts_with("ballpoint.toml:3: there is no time zone `Berlin`"),
            "{error}"
        );
        let error = error_of("[schedules.a]\ncron = \"0 0 30 2 *\"\n");
        assert!(
            error.contains("schedules.a: `0 0 30 2 *` never comes"),
            "{error}"
        );
    }

    #[test]
    fn a_length_of_time_or_a_limit_that_means_nothing_is_refused() {
        let error = error_of("[retries]\nbackoff = \"soon\"\n");
        assert!(
            error.starts_with("ballpoint.toml:2: `soon` is no length of time"),
            "{error}"
        );
        assert!(error_of("[retries]\nattempts = 0\n").contains("retries.attempts"));
        let limits = |text: &str| {
            error_of(&format!(
                "[sources.a]\nkind = \"postgres\"\nfreshness = {{ {text} }}\n"
            ))
        };
        assert!(limits("").contains("sets no limit"));
        assert!(limits("warn_after = \"2h\", error_after = \"1h\"").contains("never warn"));
    }

    #[test]
    fn a_webhook_that_is_no_url_is_refused_without_showing_it() {
        let error = error_of("[alerts]\nwebhook_url = \"hunter22\"\n");
        assert!(
            error.contains("alerts.webhook_url") && !error.contains("hunter22"),
            "{error}"
        );
    }
}
